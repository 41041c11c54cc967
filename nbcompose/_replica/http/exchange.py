"""One HTTP request and its reply: limits while reading, sending one reply, detection of a client that disconnects.

Runs on the replica's loop, driven by tornado's HTTP/1 connection, which handles framing, keep-alive and pipelining (one
exchange at a time). See `server.py` for routing.
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

OVERTIME = 0.25  # seconds after the deadline at which a call that does not end is answered with an error


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on slow or endless clients. Times in seconds, sizes in bytes.

    `idle`: maximum wait for a request and its headers. `body_seconds`: maximum time for the body. `drain`: a client
    that is refused in the middle of its body may send that much more, so that it can read the reply.
    `connections`: maximum number of clients connected to a replica at once; beyond it, connections without a request
    are closed, also one whose body has made no progress for `pause`.
    `heartbeat`: interval of keep-alive messages in a stream without items. `stall`: time after which a stream's reader
    that takes no data is disconnected. `linger`: time in which a kept connection may send one more request to a server
    that is stopping.
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


JOINED = 4 * 1024 * 1024  # bytes: copying that many takes a millisecond

Handler = Callable[["Exchange"], Awaitable[None]]


class Site(Protocol):
    """Server interface that an exchange uses."""

    access: Access
    limits: Limits
    max_body: int
    stopping: bool
    deadlines: Deadlines
    reading: asyncio.Lock

    def admit(self, exchange: Exchange) -> Handler:
        """Return the handler of a request whose headers have been read, but not its body. Raises CallError."""

    def answered(self, route: str, status: int) -> None:
        """Record that a reply is sent."""


class Exchange(HTTPMessageDelegate):
    """One request and its reply.

    The whole body has been read when the handler runs, which may get it once. `reply_headers` are sent with any reply.
    A handler that makes a call sets `context`: it is cancelled when the client disconnects, and its trace is named in
    the reply. `writing`: a write waits for the reader, not for the call.
    `route`: the path of the matched route, else "". `authority`: the host in the request target, if that is an absolute
    url. `follows`: it is not the first exchange on its connection.
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
        self._heard = 0.0  # when data of the body last arrived, on `time.monotonic()`'s clock
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether the connection may be closed to make room: there is no request, or it was refused before it was read,
        or its body makes no progress.
        """
        if not self.busy or self._received:
            return not self.busy
        return self.replied or time.monotonic() - self._heard > self.site.limits.pause

    # -- called by tornado, in this order ----------------------------------------------------------------------------

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
            # More than 18 digits are too large in any case, and `int` rejects numbers of thousands of digits.
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

    # -- called by the server ----------------------------------------------------------------------------------------

    def connection_lost(self) -> None:
        """Handle the end of the connection, closed by either side: no reply can be sent any more."""
        if self.closed:
            return
        self.closed = self._finished = True
        self._stop_timer()
        self._not_due()
        self._chunks.clear()
        if self.context is not None:
            self.context.cancel()

    def abandon(self) -> None:
        """End the exchange because the server stops: reply with an error if still possible, and cancel the call."""
        if self._received:
            self.fail(ServiceUnavailable("the service is stopping"))
        self.connection_lost()

    def refusal(self, error: CallError) -> bytes:
        """Return the bytes of a complete reply to invalid data; the connection is then closed. Empty if there was a
        reply already.
        """
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

    # -- called by handlers -------------------------------------------------------------------------------------------

    async def body(self) -> bytes:
        """Return the body; it can be read only once."""
        chunks, self._chunks = self._chunks, []
        if len(chunks) == 1:
            return chunks[0]
        return b"".join(chunks) if self._size <= JOINED else await asyncio.to_thread(_joined, chunks)

    def send(self, reply: Reply) -> None:
        """Send the complete reply."""
        if self.closed or self.replied:
            return
        headers = self._headers(reply.media_type, reply.headers)
        if reply.status != 204:
            headers["Content-Length"] = str(len(reply.body))
        body = b"" if self.method == "HEAD" else reply.body
        self._connection.write_headers(_start_line(reply.status), headers, body)
        self.replied = True  # only now: if the headers cannot be written, an error reply is still possible
        self.site.answered(self.route, reply.status)
        # Finishing before the whole body is read closes the connection; while the client still sends that causes a
        # reset, which may discard the reply. A client that waits for "100 Continue" has not started to send.
        if self._received or "Expect" in self.headers:
            self._finish()

    def due(self, deadline: float) -> None:
        """Ensure an answer shortly after `deadline` (seconds, `time.monotonic()`), even if the call does not end."""
        self.site.deadlines.add(id(self), deadline + OVERTIME, self._overdue)

    def fail(self, error: BaseException) -> None:
        """Send an error reply, unless the client is gone or has its reply."""
        if not self.closed and not self.replied:
            self.send(error_reply(error, trusted=self.site.access.trusted))

    def begin(self, media_type: str, chunk: bytes = b"") -> Future[None]:
        """Send the head and the first bytes of a streaming reply; see `write`."""
        send_at_once(self._connection)
        written = self._connection.write_headers(_start_line(200), self._headers(media_type, {}), chunk)
        self.replied = True
        self.site.answered(self.route, 200)
        return written

    def write(self, chunk: bytes) -> Future[None]:
        """Send more bytes of a streaming reply.

        The future is done when the system has accepted the bytes, so awaiting it applies backpressure. Raises tornado's
        StreamClosedError when the client is gone.
        """
        return self._connection.write(chunk)

    def end(self) -> None:
        """Complete a streaming reply."""
        if not self.closed:
            self._finish()

    def hang_up(self) -> None:
        """Close the connection in the middle of a reply."""
        hang_up(self._connection)
        self.connection_lost()

    # -- internals ----------------------------------------------------------------------------------------------------

    async def _answer(self) -> None:
        """Run the handler; in any case send an answer or close the connection, without stopping the loop."""
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
        """Answer with an error for a call that goes on although it was cancelled. Wait on if a write is under way."""
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
    """Return the authority and the rest of a request target in absolute form, as sent to proxies."""
    scheme, mark, rest = target.partition("://")
    if not mark or scheme.lower() not in ("http", "https"):
        return None, target
    authority = re.split(r"[/?]", rest, maxsplit=1)[0]
    path = rest[len(authority) :]
    return authority, path if path.startswith("/") else f"/{path}"


def _joined(chunks: list[bytes]) -> bytes:
    """Join chunks, in a thread: the copy does not block the loop, nor does freeing the chunks' memory."""
    body = b"".join(chunks)
    chunks.clear()
    return body


@lru_cache(maxsize=64)
def _start_line(status: int) -> ResponseStartLine:
    return ResponseStartLine("HTTP/1.1", status, PHRASES[status])


@lru_cache(maxsize=2)
def _date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)
