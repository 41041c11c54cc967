"""One connection between two processes: many calls at once, in both directions, unary and streaming.

Both ends run this class; whoever has a `handler` answers calls. All of it runs on one event loop. What is in a body is
codec.py's business; which replica is called, client.py's.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol

from nbcompose.errors import CallCancelled, CallError, DeadlineExceeded, ReplicaDied
from nbcompose.tracing import CallContext
from nbcompose.wire import address
from nbcompose.wire.codec import CodecError, Decoder, Encoder
from nbcompose.wire.frames import HEADER, PROTOCOL, FrameReader, Kind, ProtocolError
from nbcompose.wire.remote_errors import describe, rebuild
from nbcompose.wire.shm import SegmentPool

# Seconds left (negative: no limit), trace id (high, low), parent span id, length of the api's name.
CALL_HEAD = struct.Struct("<dQQQH")
COUNT = struct.Struct("<I")
LOW = 2**64 - 1

WINDOW = 32  # items of a stream that may be under way and not yet consumed

_pool: SegmentPool | None = None


def segment_pool() -> SegmentPool:
    """This process's pool of shared memory, made at its first use."""
    global _pool
    if _pool is None:
        _pool = SegmentPool()
    return _pool


class ConnectionClosed(ConnectionError):
    """The connection was closed before this call was sent: nothing has happened, it may be sent elsewhere."""


class IncomingCall:
    """A call to answer: exactly one of `reply`, `fail` or `end` ends it; `send` yields an item."""

    __slots__ = ("_connection", "_credit", "_waiter", "api", "arguments", "call_id", "context", "done")

    def __init__(self, connection: Connection, call_id: int, api: str, arguments: Any, context: CallContext) -> None:
        self._connection = connection
        self.call_id = call_id
        self.api = api
        self.arguments = arguments
        self.context = context
        self.done = False
        self._credit = WINDOW
        self._waiter: asyncio.Future[None] | None = None

    def reply(self, value: Any) -> None:
        """Send the result. Raises what the codec raises when it cannot be sent."""
        if not self.done:
            self._connection._send(Kind.RESULT, self.call_id, self._connection.encoder.encode(value))
            self._finish()

    def fail(self, error: BaseException, hop: str = "") -> None:
        """Send the error. `hop` is how this call appears in the chain of a remote traceback."""
        if not self.done:
            detail = describe(error, hop=hop or self.api)
            self._connection._send(Kind.ERROR, self.call_id, self._connection.encoder.encode(detail))
            self._finish()

    def end(self) -> None:
        if not self.done:
            self._connection._send(Kind.END, self.call_id, [])
            self._finish()

    async def send(self, item: Any) -> None:
        """Send an item of a stream, once the consumer has room. Raises `CallCancelled` when it has gone."""
        while self._credit == 0 and not self.context.cancelled:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self.done or self.context.cancelled:
            raise CallCancelled(f"{self.api}: the consumer of the stream has gone")
        self._credit -= 1
        self._connection._send(Kind.ITEM, self.call_id, self._connection.encoder.encode(item))
        await self._connection.drained()

    def _add_credit(self, count: int) -> None:
        self._credit += count
        self._wake()

    def _cancel(self) -> None:
        self.context.cancel()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _finish(self) -> None:
        self.done = True
        self._connection._serving.pop(self.call_id, None)


class Handler(Protocol):
    """What answers on a connection. Both are called on the loop and must return at once."""

    def on_call(self, call: IncomingCall) -> None: ...

    def on_note(self, topic: str, value: Any) -> None: ...


class _Stream:
    """Items on their way to a consumer."""

    __slots__ = ("consumed", "error", "items", "over", "waiter")

    def __init__(self) -> None:
        self.items: deque[Any] = deque()
        self.error: BaseException | None = None
        self.over = False
        self.consumed = 0
        self.waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def fail(self, error: BaseException) -> None:
        self.error, self.over = error, True
        self.wake()


class Connection(asyncio.Protocol):
    """Both ends of a connection. `name` says who is at the other end, for messages."""

    def __init__(
        self, name: str, handler: Handler | None = None, on_closed: Callable[[Connection], None] | None = None
    ) -> None:
        self.name = name
        self.handler = handler
        self.closed = False
        self.in_flight = 0
        self._closing = False
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader()
        self._greeted = False
        self._next_id = 0
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._streams: dict[int, _Stream] = {}
        self._serving: dict[int, IncomingCall] = {}
        self._resume: asyncio.Future[None] | None = None
        self.encoder = Encoder(segment_pool())
        self.decoder = Decoder(self._release_soon)

    # -- the caller's side

    async def call(self, api: str, arguments: Any, context: CallContext, deadline: float | None = None) -> Any:
        """Call `api` at the other end and wait for its result.

        `deadline` is on `time.monotonic()`'s clock. Raises `ConnectionClosed` when the call was never sent,
        `ReplicaDied` when the connection was lost while it was under way, `DeadlineExceeded`, or the remote error.
        Cancelling the task that waits cancels the call.
        """
        call_id = self._start(api, arguments, context, deadline)
        future: asyncio.Future[Any] = self._loop.create_future()
        self._pending[call_id] = future
        self.in_flight += 1
        timer = None if deadline is None else self._loop.call_at(
            self._loop.time() + deadline - time.monotonic(), self._expire, future, api
        )  # fmt: skip
        try:
            return await future
        except (asyncio.CancelledError, DeadlineExceeded):
            self._give_up(call_id)
            raise
        finally:
            self._pending.pop(call_id, None)
            self._ended(timer)

    async def stream(
        self, api: str, arguments: Any, context: CallContext, deadline: float | None = None
    ) -> AsyncGenerator[Any, None]:
        """Call `api` and yield its items as they come; closing the generator cancels the call.

        Raises as `call` does; an error in mid-stream is raised after the items that came before it.
        """
        call_id = self._start(api, arguments, context, deadline)
        stream = self._streams[call_id] = _Stream()
        self.in_flight += 1
        timer = None if deadline is None else self._loop.call_at(
            self._loop.time() + deadline - time.monotonic(), stream.fail, DeadlineExceeded(_late(api, self.name))
        )  # fmt: skip
        ended = False
        try:
            while True:
                while stream.items:
                    item = stream.items.popleft()
                    self._credit(call_id, stream)
                    yield item
                if stream.over:
                    ended = not isinstance(stream.error, DeadlineExceeded)
                    if stream.error is not None:
                        raise stream.error
                    return
                stream.waiter = self._loop.create_future()
                await stream.waiter
        finally:
            self._streams.pop(call_id, None)
            if not ended:
                self._give_up(call_id)
            self._ended(timer)

    def note(self, topic: str, value: Any) -> None:
        """Send a one-way message; nothing happens when the connection has been closed."""
        if not self.closed:
            self._send(Kind.NOTE, 0, self.encoder.encode((topic, value)))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def close_when_idle(self) -> None:
        """Close once the calls made from this end are done."""
        self._closing = True
        if self.in_flight == 0:
            self.close()

    async def drained(self) -> None:
        """Wait until the peer reads again, when it is behind."""
        while self._resume is not None and not self.closed:
            await asyncio.shield(self._resume)

    def _start(self, api: str, arguments: Any, context: CallContext, deadline: float | None) -> int:
        if self.closed:
            raise ConnectionClosed(f"the connection to {self.name} is closed")
        left = -1.0
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise DeadlineExceeded(_late(api, self.name))
        name = api.encode()
        trace = context.trace_id
        head = CALL_HEAD.pack(left, trace >> 64, trace & LOW, context.span_id, len(name)) + name
        body = self.encoder.encode(arguments)
        self._next_id = call_id = (self._next_id + 1) & 0xFFFFFFFF
        self._send(Kind.CALL, call_id, [head, *body])
        return call_id

    def _ended(self, timer: asyncio.TimerHandle | None) -> None:
        self.in_flight -= 1
        if timer is not None:
            timer.cancel()
        if self._closing and self.in_flight == 0:
            self.close()

    def _expire(self, future: asyncio.Future[Any], api: str) -> None:
        if not future.done():
            future.set_exception(DeadlineExceeded(_late(api, self.name)))

    def _give_up(self, call_id: int) -> None:
        if not self.closed:
            self._send(Kind.CANCEL, call_id, [])

    def _credit(self, call_id: int, stream: _Stream) -> None:
        stream.consumed += 1
        if stream.consumed >= WINDOW // 2 and not stream.over and not self.closed:
            self._send(Kind.CREDIT, call_id, [COUNT.pack(stream.consumed)])
            stream.consumed = 0

    # -- frames out

    def _send(self, kind: Kind, call_id: int, chunks: list[bytes | memoryview]) -> None:
        transport = self._transport
        if self.closed or transport is None:
            return
        forgotten = self.encoder.forgotten()
        if forgotten:
            body = struct.pack(f"<{len(forgotten)}Q", *forgotten)
            transport.write(HEADER.pack(len(body), 0, Kind.FORGET, 0) + body)
        if len(chunks) == 1:
            body = chunks[0]  # type: ignore[assignment]
            if len(body) < 65536:
                transport.write(HEADER.pack(len(body), call_id, kind, 0) + body)
                return
        length = sum(len(c) for c in chunks)
        if length < 65536:
            transport.write(b"".join([HEADER.pack(length, call_id, kind, 0), *chunks]))
        else:
            transport.writelines([HEADER.pack(length, call_id, kind, 0), *chunks])

    def _release_soon(self, segment_id: int) -> None:
        # Called wherever the last reference died: any thread, even in the middle of a garbage collection.
        if not self.closed and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._release, segment_id)

    def _release(self, segment_id: int) -> None:
        self._send(Kind.RELEASE, 0, [struct.pack("<Q", segment_id)])

    # -- frames in

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._send(Kind.HELLO, 0, [PROTOCOL])

    def data_received(self, data: bytes) -> None:
        try:
            for kind, call_id, _channel, body in self._reader.feed(data):
                self._receive(kind, call_id, body)
        except (ProtocolError, struct.error, IndexError) as error:
            self._fail_all(error)
            if self._transport is not None:
                self._transport.abort()

    def _receive(self, kind: int, call_id: int, body: bytes | bytearray) -> None:
        if kind == Kind.RESULT:
            future = self._pending.get(call_id)
            if future is None or future.done():
                self.decoder.discard(body)
            else:
                self._settle(future, body)
        elif kind == Kind.CALL and self._greeted:
            self._accept(call_id, body)
        elif kind == Kind.ITEM:
            stream = self._streams.get(call_id)
            if stream is None:
                self.decoder.discard(body)
            else:
                self._take_item(stream, body)
        elif kind == Kind.HELLO:
            if bytes(body) != PROTOCOL:
                raise ProtocolError(f"{self.name} speaks {bytes(body[:32])!r}, not {PROTOCOL!r}")
            self._greeted = True
        elif not self._greeted:
            raise ProtocolError(f"{self.name} did not say hello")
        else:
            self._receive_rare(kind, call_id, body)

    def _receive_rare(self, kind: int, call_id: int, body: bytes | bytearray) -> None:
        if kind == Kind.ERROR:
            self._take_error(call_id, body)
        elif kind == Kind.END:
            stream = self._streams.get(call_id)
            if stream is not None:
                stream.over = True
                stream.wake()
        elif kind == Kind.CREDIT:
            serving = self._serving.get(call_id)
            if serving is not None:
                serving._add_credit(COUNT.unpack_from(body)[0])
        elif kind == Kind.CANCEL:
            serving = self._serving.pop(call_id, None)
            if serving is not None:
                serving._cancel()
        elif kind == Kind.NOTE:
            topic, value = self.decoder.decode(body)
            if self.handler is not None:
                self.handler.on_note(topic, value)
        elif kind == Kind.RELEASE:
            for (segment_id,) in struct.iter_unpack("<Q", body):
                self.encoder.released(segment_id)
        elif kind == Kind.FORGET:
            for (segment_id,) in struct.iter_unpack("<Q", body):
                self.decoder.forget(segment_id)
        else:
            raise ProtocolError(f"{self.name} sent a frame of unknown kind {kind}")

    def _settle(self, future: asyncio.Future[Any], body: bytes | bytearray) -> None:
        try:
            future.set_result(self.decoder.decode(body))
        except Exception as error:
            future.set_exception(_unreadable(self.name, error))

    def _take_item(self, stream: _Stream, body: bytes | bytearray) -> None:
        try:
            stream.items.append(self.decoder.decode(body))
            stream.wake()
        except Exception as error:
            stream.fail(_unreadable(self.name, error))

    def _take_error(self, call_id: int, body: bytes | bytearray) -> None:
        try:
            error = rebuild(self.decoder.decode(body))
        except Exception as failure:
            error = _unreadable(self.name, failure)
        future = self._pending.get(call_id)
        if future is not None and not future.done():
            future.set_exception(error)
        elif call_id in self._streams:
            self._streams[call_id].fail(error)

    def _accept(self, call_id: int, body: bytes | bytearray) -> None:
        left, high, low, span_id, length = CALL_HEAD.unpack_from(body)
        start = CALL_HEAD.size + length
        api = bytes(body[CALL_HEAD.size : start]).decode()
        context = CallContext(None if left < 0 else time.monotonic() + left, high << 64 | low, span_id)
        call = self._serving[call_id] = IncomingCall(self, call_id, api, None, context)
        if self.handler is None:
            call.fail(CallError(f"{api}: this end of the connection answers no calls"))
            return
        try:
            call.arguments = self.decoder.decode(memoryview(body)[start:])
        except Exception as error:
            call.fail(_unreadable(self.name, error))
            return
        self.handler.on_call(call)

    # -- the end

    def pause_writing(self) -> None:
        self._resume = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._resume is not None and not self._resume.done():
            self._resume.set_result(None)
        self._resume = None

    def connection_lost(self, error: Exception | None) -> None:
        self._fail_all(error)

    def _fail_all(self, error: Exception | None) -> None:
        if self.closed:
            return
        self.closed = True
        reason = f" ({error})" if error is not None else ""
        self.resume_writing()
        for future in self._pending.values():
            if not future.done():
                future.set_exception(ReplicaDied(f"{self.name} went away while it worked on this call{reason}"))
        for stream in self._streams.values():
            stream.fail(ReplicaDied(f"{self.name} went away in the middle of a stream{reason}"))
        for call in list(self._serving.values()):
            call._cancel()
        self._serving.clear()
        self.encoder.close()
        self.decoder.close()
        if self._on_closed is not None:
            self._on_closed(self)


def _late(api: str, name: str) -> str:
    return f"{api}: no answer from {name} within the time allowed (traffic timeout, or the caller's deadline)"


def _unreadable(name: str, error: Exception) -> Exception:
    if isinstance(error, CallError):
        return error
    if isinstance(error, CodecError):
        return CallError(f"{name} sent what cannot be read: {error}")
    wrapped = CallError(f"what {name} sent cannot be rebuilt in this process: {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


async def open_connection(
    where: str,
    name: str,
    handler: Handler | None = None,
    on_closed: Callable[[Connection], None] | None = None,
) -> Connection:
    """Connect to a process of this user. Raises `ConnectionError` or `PermissionError`."""
    sock = address.connect(where)
    return await adopt(sock, name, handler, on_closed)


async def adopt(
    sock: socket.socket,
    name: str,
    handler: Handler | None = None,
    on_closed: Callable[[Connection], None] | None = None,
) -> Connection:
    """A connection over a socket that is connected already."""
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_unix_connection(lambda: Connection(name, handler, on_closed), sock=sock)
    return connection


async def serve(sock: socket.socket, name: str, handler: Handler) -> asyncio.Server:
    """Answer calls on a listening socket; peers that are not this user's are turned away."""

    class Guarded(Connection):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            try:
                with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as peer:
                    address.check_peer(peer)
            except PermissionError:
                transport.abort()  # type: ignore[attr-defined]
                self.closed = True
                return
            super().connection_made(transport)

    loop = asyncio.get_running_loop()
    return await loop.create_unix_server(lambda: Guarded(name, handler), sock=sock)
