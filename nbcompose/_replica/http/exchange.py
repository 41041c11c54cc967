"""One HTTP request and its reply, whatever carries them: body, deadline, disconnection, a complete or streaming reply.

Two faces carry exchanges: `server.py` (tornado; what a replica serves with) and `asgi.py`. A face fills in the request,
passes the body on as it arrives, and implements the methods marked as its own. Exchanges run on one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from abc import ABC, abstractmethod
from asyncio import Future
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from nbcompose._replica import EARLY
from nbcompose._replica.http.access import Access
from nbcompose._replica.http.responses import Reply, error_page, error_reply, reply_aside
from nbcompose._replica.http.stream_bodies import BodyReader
from nbcompose._rpc import Deadlines
from nbcompose._tracing import CallContext, clock, parse_traceparent
from nbcompose._user_exceptions import contained
from nbcompose.errors import BadRequest, CallCancelled, DeadlineExceeded, PayloadTooLarge, SlowRequest, Unauthorized

T = TypeVar("T")

logger = logging.getLogger("nbcompose.http")

TIMEOUT_HEADER = "X-Request-Timeout"
OVERTIME = 0.25  # seconds after the deadline at which a call that does not end is answered with an error
JOINED = 4 * 1024 * 1024  # bytes: copying that many takes a millisecond


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on slow or endless clients. Times in seconds, sizes in bytes.

    Of every exchange: `body_seconds`: maximum time for the body; of one that streams, without data (`body_pause`).
    `heartbeat`: interval of keep-alive messages in a
    stream without items. `stall`: time after which a stream's reader that takes no data is disconnected.

    Of the tornado server: `idle`: maximum wait for a request and its headers. `drain`: a client that is refused in the
    middle of its body may send that much more, so that it can read the reply. `connections`: maximum number of clients
    connected to a replica at once; beyond it, connections without a request are closed, also one whose body has made no
    progress for `pause`. `linger`: time in which a kept connection may send one more request to a server that is
    stopping.
    """

    idle: float = 75.0
    body_seconds: float = 300.0
    body_pause: float = 60.0
    header_bytes: int = 64 * 1024
    drain: int = 16 * 1024 * 1024
    connections: int = 4096
    pause: float = 5.0
    heartbeat: float = 15.0
    stall: float = 60.0
    linger: float = 0.5


Handler = Callable[["Exchange"], Awaitable[None]]
ErrorFormat = Callable[[BaseException, Reply], Reply]  # gives the reply of an error another shape


class SiteLike(Protocol):
    """What is served, as exchanges use it. See `endpoints.Site`."""

    access: Access
    limits: Limits
    max_body: int
    deadlines: Deadlines
    reading: asyncio.Lock

    def answered(self, route: str, status: int) -> None:
        """Count a reply."""

    def admit(self, exchange: Exchange) -> Handler:
        """Return the handler of a request whose headers have been read, but not its body. Raises CallError."""


class Exchange(ABC):
    """One request and its reply.

    `headers` are by name in HTTP's customary case (`Content-Type`); repeated ones are joined by commas. `prefix`: the
    part of the address before `path`, where the service is mounted in an application. `relative`: what a relative link
    in the reply has to begin with. The whole body has been read when the handler runs, which may get it once.
    `reply_headers` are sent with any reply. `route`: the path of the matched route, else "".
    A handler that makes a call says so with `start_call`: its `context` is cancelled when the client disconnects, and
    its trace is named in the reply. `error_format`: the shape of error replies, where that is not our own. `writing`: a
    write waits for the reader, not for the call.
    """

    def __init__(self, site: SiteLike) -> None:
        self.site = site
        self.method = self.path = self.prefix = self.relative = self.route = self.query = ""
        self.headers: dict[str, str] = {}
        self.reply_headers: dict[str, str] = {}
        self.context: CallContext | None = None
        self.closed = False
        self.replied = False
        self.writing = False
        self.error_format: ErrorFormat | None = None
        self._hop = ""
        self._handler: Handler | None = None
        self._task: asyncio.Task[None] | None = None
        self._chunks: list[bytes] = []
        self._size = 0
        self._heard = time.monotonic()  # when the headers, or data of the body, arrived last
        self._received = False
        self._drains = True  # a refused body is read on, so that the client can read the reply
        self._finished = False
        self._calling = False  # the handler waits for the call, and may be interrupted
        self._late = False  # the deadline has passed
        self._interrupts = 0
        self.reader: BodyReader | None = None  # of a body that is read as it comes
        self._complete = False  # the whole reply has been written

    # -- called by the face, in this order -----------------------------------------------------------------------------

    def admit(self) -> None:
        """Find the handler of the request, once its headers are there; refuse it if it is not allowed."""
        length = self.headers.get("Content-Length", "0")
        try:
            self._handler = self.site.admit(self)
            # More than 18 digits are too large in any case, and `int` rejects numbers of thousands of digits.
            if self.reader is None and length.isdecimal() and (len(length) > 18 or int(length) > self.site.max_body):
                raise self._too_large()
        except Exception as error:
            self.reader = None
            self._refuse(error)
        if self.reader is not None:
            self._watch_body()
            self._task = asyncio.get_running_loop().create_task(self._answer())
        elif length != "0" or "Transfer-Encoding" in self.headers:
            self.site.deadlines.add(id(self), clock.monotonic() + self.site.limits.body_seconds, self._too_slow)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Take some bytes of the body. Returns what to wait for before more are read, or None."""
        self._heard = time.monotonic()
        if self.reader is not None and not self._complete:
            self._watch_body()
            return self.reader.feed(chunk)
        self._size += len(chunk)
        if self.replied:
            if self._size > self.site.limits.drain:
                self._finish()
        elif self._size > self.site.max_body:
            self._size = 0
            self._refuse(self._too_large())
        else:
            self._chunks.append(chunk)
        return None

    def stream_ended(self) -> None:
        """The whole of a body has come that is read as it comes."""
        assert self.reader is not None
        self.site.deadlines.remove(id(self.reader))
        self.reader.end()
        if self._complete:
            self._finish()

    def connection_lost(self) -> None:
        """Handle the end of the connection, closed by either side: no reply can be sent any more."""
        if self.closed:
            return
        self.closed = self._finished = True
        self.site.deadlines.remove(id(self))
        self._chunks.clear()
        if self.reader is not None:
            self.site.deadlines.remove(id(self.reader))
            self.reader.fail(CallCancelled("the client has gone, in the middle of its stream"))
        if self.context is not None:
            self.context.cancel()
            self._interrupt()

    # -- a face's own ------------------------------------------------------------------------------------------------

    @abstractmethod
    def _write_head(self, status: int, headers: dict[str, str], chunk: bytes) -> Future[None]:
        """Send the head and the first bytes of a reply. See `write`."""

    @abstractmethod
    def write(self, chunk: bytes) -> Future[None]:
        """Send more bytes of a streaming reply.

        The future is done when the system, or the ASGI server, has accepted the bytes, so awaiting it applies
        backpressure. OSError, raised or set: the client is gone.
        """

    @abstractmethod
    def _finish(self) -> None:
        """The reply is complete."""

    @abstractmethod
    def hang_up(self) -> None:
        """Close the connection in the middle of a reply."""

    def read_as_it_comes(self) -> None:
        """Have the handler run before the body has come, and read it by `reader`. Called while it is admitted."""
        self.reader = BodyReader()

    # -- called by handlers -------------------------------------------------------------------------------------------

    async def body(self) -> bytes:
        """Return the body; it can be read only once."""
        chunks, self._chunks = self._chunks, []
        if len(chunks) == 1:
            return chunks[0]
        return b"".join(chunks) if self._size <= JOINED else await asyncio.to_thread(_joined, chunks)

    def start_call(self, hop: str, timeout: float) -> CallContext:
        """A call begins, e.g. of `Answer.ask` (`hop`), that may take `timeout` seconds, or less if the client says so.

        Returns its context, which is part of the client's trace. The client gets an answer shortly after the deadline,
        even if the call does not end. Raises BadRequest.
        """
        headers, parent = self.headers, None
        if TIMEOUT_HEADER in headers:
            timeout = min(timeout, _seconds(headers[TIMEOUT_HEADER]))
        if "Traceparent" in headers:
            parent = parse_traceparent(headers["Traceparent"], headers.get("Tracestate", ""))
        deadline = clock.monotonic() + timeout
        context = self.context = CallContext(deadline, *(parent or ()))
        context.allowed = timeout
        self._hop = hop
        self.site.deadlines.add(id(self), deadline, self._expire)
        return context

    async def result(self, work: Awaitable[T]) -> T:
        """Await a part of the call. It is cancelled at the deadline (DeadlineExceeded), or when the client disconnects
        (CallCancelled).
        """
        self._calling = True
        if self._late or self.closed:
            self._interrupt()
        try:
            return await work
        except TimeoutError as error:
            # A service further down has the same deadline and may notice first: its error becomes the cause.
            from_below = isinstance(error, DeadlineExceeded)
            if not self._late and not (from_below and self._remaining() <= EARLY):  # raised by the api
                raise
            raise self._exceeded() from (error if from_below else None)
        except asyncio.CancelledError:
            if not self._interrupts or self._forgive():
                raise
            if self._late:
                raise self._exceeded() from None
            raise CallCancelled(f"{self._hop}: the client has gone") from None
        finally:
            self._calling = False
            if self._interrupts:
                self._forgive()

    def send(self, reply: Reply) -> None:
        """Send the complete reply."""
        if self.closed or self.replied:
            return
        headers = self._headers(reply.media_type, reply.headers)
        if reply.status != 204:
            headers["Content-Length"] = str(len(reply.body))
        self._write_head(reply.status, headers, b"" if self.method == "HEAD" else reply.body)
        self.replied = True  # only now: if the headers cannot be written, an error reply is still possible
        self.site.answered(self.route, reply.status)
        self._complete = True
        if self.reader is not None:
            self.reader.leave()
        # Finishing before the whole body is read closes the connection; while the client still sends that causes a
        # reset, which may discard the reply.
        if self._received or not self._drains:
            self._finish()

    def fail(self, error: BaseException) -> None:
        """Send an error reply, unless the client is gone or has its reply."""
        if not self.closed and not self.replied:
            reply = self._formatted(error, error_reply(error, trusted=self.site.access.trusted))
            if isinstance(error, Unauthorized) and "text/html" in self.headers.get("Accept", ""):  # of a browser
                reply = error_page("A token is wanted", str(error), reply)
            self.send(reply)

    async def error_reply(self, error: BaseException) -> Reply:
        """Return the reply for an error that may be of user code."""
        return self._formatted(error, await reply_aside(error, trusted=self.site.access.trusted))

    def begin(self, media_type: str, chunk: bytes = b"") -> Future[None]:
        """Send the head and the first bytes of a streaming reply; see `write`."""
        written = self._write_head(200, self._headers(media_type, {}), chunk)
        self.replied = True
        self.site.answered(self.route, 200)
        return written

    def end(self) -> None:
        """Complete a streaming reply."""
        if self.closed:
            return
        self._complete = True
        if self.reader is not None:
            self.reader.leave()
            if self._drains and not self._received:  # as `send`
                return
        self._finish()

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
                    self.send(await self.error_reply(contained(error)))
                except BaseException:
                    logger.exception("an error of %s cannot be told", self.path)
        finally:
            if not self._finished and not self._complete:
                self.hang_up()

    def _headers(self, media_type: str, more: dict[str, str]) -> dict[str, str]:
        headers = {"Content-Type": media_type} if media_type else {}
        headers["X-Content-Type-Options"] = "nosniff"
        if self.context is not None:
            headers["traceparent"] = self.context.traceparent
        return {**headers, **self.reply_headers, **more}

    def _refuse(self, error: Exception) -> None:
        self._chunks.clear()
        self.fail(error)

    def _formatted(self, error: BaseException, reply: Reply) -> Reply:
        return reply if self.error_format is None else self.error_format(error, reply)

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"the body is larger than the {self.site.max_body:,} bytes that this service takes")

    def _watch_body(self) -> None:
        """End a body that streams when it pauses for too long."""
        pause = self.site.limits.body_pause
        self.site.deadlines.add(id(self.reader), clock.monotonic() + pause, self._paused)

    def _paused(self) -> None:
        if self.reader is not None and not self._received:
            if self.reader.waits:  # the api does not take what has come
                self._watch_body()
                return
            pause = self.site.limits.body_pause
            self.reader.fail(SlowRequest(f"nothing of the body has come for {pause:g} s"))

    def _too_slow(self) -> None:
        if not self._received:
            self._refuse(SlowRequest(f"the body did not arrive within {self.site.limits.body_seconds:g} s"))
            if not self._finished:
                self._finish()

    def _expire(self) -> None:
        """The deadline has passed: interrupt the call. If that does not end it, answer all the same; but not while a
        write is under way.
        """
        if self._late and not self.writing:
            if self.replied:
                self.hang_up()
            else:
                told = f"{self.route} took longer than it had, and goes on, though it was cancelled"
                self.fail(DeadlineExceeded(told))
            return
        if not self._late:
            self._late = True
            self._interrupt()
        self.site.deadlines.add(id(self), clock.monotonic() + OVERTIME, self._expire)

    def _interrupt(self) -> None:
        if self._calling and self._task is not None:
            self._interrupts += 1
            self._task.cancel()

    def _forgive(self) -> int:
        """Take the interruptions back; return how often the task was cancelled besides."""
        assert self._task is not None
        others = 0
        while self._interrupts:
            self._interrupts -= 1
            others = self._task.uncancel()
        return others

    def _remaining(self) -> float:
        assert self.context is not None
        left = self.context.remaining()
        return 0.0 if left is None else left

    def _exceeded(self) -> DeadlineExceeded:
        assert self.context is not None
        return DeadlineExceeded(f"{self._hop} took longer than the {self.context.allowed:g} s that it had")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise BadRequest(f"{TIMEOUT_HEADER} is a number of seconds, not {text!r}")
    return seconds


def _joined(chunks: list[bytes]) -> bytes:
    """Join chunks, in a thread: the copy does not block the loop, nor does freeing the chunks' memory."""
    body = b"".join(chunks)
    chunks.clear()
    return body
