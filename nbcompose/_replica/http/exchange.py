"""One request and its reply on a connection: limits while reading, one reply, and notice when the client goes away.

Runs on the replica's loop, driven by tornado's HTTP/1 connection, which does framing, keep-alive and pipelining (one
exchange at a time). What a path means is the site's business (`server.py`).
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from asyncio import Future
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from typing import Protocol

from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine

from nbcompose._replica.http.access import Access, header
from nbcompose._replica.http.responses import PHRASES, Reply, error_reply, reply_aside
from nbcompose._replica.http.tornado_adapter import hang_up, send_at_once
from nbcompose._rpc import Deadlines
from nbcompose._tracing import CallContext
from nbcompose._user_exceptions import contained
from nbcompose.errors import CallError, DeadlineExceeded, PayloadTooLarge, ServiceUnavailable, SlowRequest

logger = logging.getLogger("nbcompose.http")

OVERTIME = 0.25  # seconds after its deadline until a call that refuses to end is answered without it


@dataclass(frozen=True, slots=True)
class Limits:
    """What a slow or endless client may cost. Times in seconds, sizes in bytes.

    `idle` bounds the wait for a request and its headers, `body_seconds` the time that the body may take. `drain`: a
    client that is refused in the middle of its body may send that much more, so that it gets to read why.
    `connections`: so many clients may be connected to a replica at once; where that is too few, those that have no
    request in hand make room, also one whose body has not gone on for `pause`.
    `heartbeat`: a stream without items says that it is alive that often. `stall`: how long a reader of a stream may
    take nothing before it is hung up on. `linger`: how long a kept connection may bring one more request to a server
    that stops.
    """

    idle: float = 75.0
    body_seconds: float = 300.0
    header_bytes: int = 64 * 1024
    drain: int = 16 * 1024 * 1024
    connections: int = 4096
    pause: float = 5.0
    heartbeat: float = 15.0
    stall: float = 60.0
    linger: float = 0.5


JOINED = 4 * 1024 * 1024  # bytes: to copy so many takes a millisecond

Handler = Callable[["Exchange"], Awaitable[None]]


class Site(Protocol):
    """What an exchange needs to know of its server."""

    access: Access
    limits: Limits
    max_body: int
    stopping: bool
    deadlines: Deadlines
    reading: asyncio.Lock

    def admit(self, exchange: Exchange) -> Handler:
        """What answers the request, whose headers are there and whose body is not. Raises CallError."""

    def answered(self, route: str, status: int) -> None:
        """A reply goes out."""


class Exchange(HTTPMessageDelegate):
    """One request and its reply.

    The whole body is there when the handler runs, which may ask for it once. `reply_headers` go out with whatever reply
    it will be. A handler that makes a call leaves its `context` here: it is cancelled when the client goes away, and
    its trace is named in the reply. `writing`: the next step is the reader's, not the call's.
    `route` is the path, where there is something. `authority` is the host that the target names, where it is a whole
    url. `follows`: it is not the first one on its connection.
    """

    def __init__(self, site: Site, connection: HTTP1Connection, *, follows: bool = False) -> None:
        self.site = site
        self.follows = follows
        self.authority: str | None = None
        self.method = self.path = self.route = self.query = self.version = ""
        self.headers = _NO_HEADERS
        self.reply_headers: dict[str, str] = {}
        self.context: CallContext | None = None
        self.busy = False
        self.closed = False
        self.replied = False
        self.writing = False
        self._finished = False
        self._connection = connection
        self._handler: Handler | None = None
        self._chunks: list[bytes] = []
        self._size = 0
        self._received = False
        self._heard = 0.0  # when something of the body came last
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether it may be given up for others: there is no request, or one that was refused before it was read, or
        whose body does not come.
        """
        if not self.busy or self._received:
            return not self.busy
        return self.replied or time.monotonic() - self._heard > self.site.limits.pause

    # -- tornado calls these, in this order ------------------------------------------------------------------------

    def headers_received(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> None:
        self.busy = True
        assert isinstance(start_line, RequestStartLine)  # a server reads requests only
        self.method, self.version = start_line.method, start_line.version
        target = start_line.path
        if target[:1] not in ("/", "*"):
            self.authority, target = _absolute(target)
        self.path, _, self.query = target.partition("?")
        self.headers = headers
        length = header(headers, "Content-Length") or "0"
        try:
            self._handler = self.site.admit(self)
            # More than 18 digits are too many bytes, and Python reads no number of thousands of digits.
            if length.isdecimal() and (len(length) > 18 or int(length) > self.site.max_body):
                raise self._too_large()
        except Exception as error:
            self._refuse(error)
        if length != "0" or "Transfer-Encoding" in headers:
            self._heard = time.monotonic()
            self._timer = asyncio.get_running_loop().call_later(self.site.limits.body_seconds, self._too_slow)

    def data_received(self, chunk: bytes) -> None:
        self._size += len(chunk)
        self._heard = time.monotonic()
        if self.replied:
            if self._size > self.site.limits.drain:
                self._finish()
        elif self._size > self.site.max_body:
            self._size = 0
            self._refuse(self._too_large())
        else:
            self._chunks.append(chunk)

    def finish(self) -> None:
        self._stop_timer()
        self._received = True
        if self.replied:
            self._finish()
            return
        self._connection.set_close_callback(self.connection_lost)
        self._task = asyncio.get_running_loop().create_task(self._answer())

    def on_connection_close(self) -> None:
        self.connection_lost()

    # -- the server calls these --------------------------------------------------------------------------------------

    def connection_lost(self) -> None:
        """The client is gone, or has been sent away: nobody will read a reply."""
        if self.closed:
            return
        self.closed = self._finished = True
        self._stop_timer()
        self._not_due()
        self._chunks.clear()
        if self.context is not None:
            self.context.cancel()

    def abandon(self) -> None:
        """The server stops and cannot wait for this exchange: say so where it is not too late, and cancel the call."""
        if self._received:
            self.fail(ServiceUnavailable("the service is stopping"))
        self.connection_lost()

    def refusal(self, error: CallError) -> bytes:
        """A whole reply to bytes that are no request, for the connection to end with; nothing where there was one."""
        if self.closed or self.replied:
            return b""
        self.replied = True
        reply = error_reply(error, trusted=self.site.access.trusted)
        self.site.answered(self.route, reply.status)
        headers = self._headers(reply.media_type, reply.headers)
        headers["Content-Length"] = str(len(reply.body))
        headers["Connection"] = "close"
        lines = [
            f"HTTP/1.1 {reply.status} {PHRASES[reply.status]}",
            *(f"{n}: {v}" for n, v in headers.get_all()),
            "",
            "",
        ]
        return "\r\n".join(lines).encode("latin-1") + reply.body

    # -- handlers call these ------------------------------------------------------------------------------------------

    async def body(self) -> bytes:
        """The body, once."""
        chunks, self._chunks = self._chunks, []
        if len(chunks) == 1:
            return chunks[0]
        return b"".join(chunks) if self._size <= JOINED else await asyncio.to_thread(_joined, chunks)

    def send(self, reply: Reply) -> None:
        """Send the one and whole reply."""
        if self.closed or self.replied:
            return
        headers = self._headers(reply.media_type, reply.headers)
        if reply.status != 204:
            headers["Content-Length"] = str(len(reply.body))
        body = b"" if self.method == "HEAD" else reply.body
        self._connection.write_headers(_start_line(reply.status), headers, body)
        self.replied = True  # from here on: headers that cannot be written leave room for an error
        self.site.answered(self.route, reply.status)
        # Finishing before the whole body is read closes the connection; with bytes still on their way that is a reset,
        # which may take the reply with it. A client that waits for "100 Continue" has not begun to send.
        if self._received or "Expect" in self.headers:
            self._finish()

    def due(self, deadline: float) -> None:
        """There is to be an answer at `deadline` (`time.monotonic()`), whatever the call does then."""
        self.site.deadlines.add(id(self), deadline + OVERTIME, self._overdue)

    def fail(self, error: BaseException) -> None:
        """Send the reply that tells of `error`, unless the client is gone or has its reply."""
        if not self.closed and not self.replied:
            self.send(error_reply(error, trusted=self.site.access.trusted))

    def begin(self, media_type: str, chunk: bytes = b"") -> Future[None]:
        """Send the head of a reply that goes on, with its first bytes; see `write`."""
        send_at_once(self._connection)
        written = self._connection.write_headers(_start_line(200), self._headers(media_type, {}), chunk)
        self.replied = True
        self.site.answered(self.route, 200)
        return written

    def write(self, chunk: bytes) -> Future[None]:
        """Send more of a reply that has begun.

        Done when the system has taken the bytes, so that awaiting it keeps pace with the reader. Raises tornado's
        StreamClosedError when the client is gone.
        """
        return self._connection.write(chunk)

    def end(self) -> None:
        """Close a reply that has begun."""
        if not self.closed:
            self._finish()

    def hang_up(self) -> None:
        """Close the connection in the middle of a reply."""
        hang_up(self._connection)
        self.connection_lost()

    # -- the inside ---------------------------------------------------------------------------------------------------

    async def _answer(self) -> None:
        """Whatever a handler does, there is an answer, or the connection is closed; and the loop goes on."""
        if self.closed:
            return
        try:
            assert self._handler is not None
            await self._handler(self)
            if not self.replied:
                raise RuntimeError(f"nothing has answered {self.path}")
        except BaseException as error:
            if not self.closed and not self.replied:
                try:
                    self.send(await reply_aside(contained(error), trusted=self.site.access.trusted))
                except BaseException:
                    logger.exception("an error of %s cannot be told", self.path)
        finally:
            if not self._finished:
                self.hang_up()

    def _headers(self, media_type: str, more: dict[str, str]) -> HTTPHeaders:
        headers = HTTPHeaders()
        if media_type:
            headers["Content-Type"] = media_type
        headers["Date"] = _date(int(time.time()))
        headers["X-Content-Type-Options"] = "nosniff"
        if self.site.stopping or ("Expect" in self.headers and not self._received):
            headers["Connection"] = "close"
        if self.context is not None:
            headers["traceparent"] = self.context.traceparent
        for name, value in (*self.reply_headers.items(), *more.items()):
            headers[name] = value
        return headers

    def _refuse(self, error: Exception) -> None:
        self._chunks.clear()
        self.fail(error)

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"the body is larger than the {self.site.max_body:,} bytes that this service takes")

    def _too_slow(self) -> None:
        self._refuse(SlowRequest(f"the body did not arrive within {self.site.limits.body_seconds:g} s"))
        self._finish()

    def _overdue(self) -> None:
        """The call goes on though it was cancelled, as a coroutine may. (A stream may be with its reader.)"""
        if self.writing:
            self.due(time.monotonic())
        elif self.replied:
            self.hang_up()
        else:
            self.fail(DeadlineExceeded(f"{self.route} took longer than it had, and goes on, though it was cancelled"))

    def _not_due(self) -> None:
        self.site.deadlines.remove(id(self))

    def _finish(self) -> None:
        self._finished = True
        self._stop_timer()
        self._not_due()
        self._connection.finish()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


_NO_HEADERS = HTTPHeaders()


def _absolute(target: str) -> tuple[str | None, str]:
    """The authority and the rest of a target that is a whole url, as proxies are sent it."""
    scheme, mark, rest = target.partition("://")
    if not mark or scheme.lower() not in ("http", "https"):
        return None, target
    authority = re.split(r"[/?]", rest, maxsplit=1)[0]
    path = rest[len(authority) :]
    return authority, path if path.startswith("/") else f"/{path}"


def _joined(chunks: list[bytes]) -> bytes:
    """Others have their turn while they are copied, and none of this memory is given back on the loop."""
    body = b"".join(chunks)
    chunks.clear()
    return body


@lru_cache(maxsize=64)
def _start_line(status: int) -> ResponseStartLine:
    return ResponseStartLine("HTTP/1.1", status, PHRASES[status])


@lru_cache(maxsize=2)
def _date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)
