"""Frames, and the asyncio protocol of one end of a connection: sends and receives them, HELLO, and shared-memory
bookkeeping.

A frame is a header and a body. Header, little endian: body length (u32), call id (u32), kind (u8), channel (u8).
Channel 0 carries a call and its result; a higher one a stream among the arguments (`_rpc/stream_arguments.py`).
A connection begins with one HELLO frame from each end, whose body is `PROTOCOL`. Other bodies: `_rpc/codec.py`.

Independent of calls: `_rpc/connection.py` maps each kind of frame to its receiver.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Callable, Iterator, Mapping
from enum import IntEnum

import numpy as np

from nbcompose._rpc.codec import MAX_BODY, Chunks, Decoder, Encoder
from nbcompose._rpc.shared_memory import SegmentPool
from nbcompose._user_exceptions import text_of

PROTOCOL = b"nbcompose/2"
HEADER = struct.Struct("<IIBB")
MAX_GREETING = 64  # bytes: the limit of a body until the peer's HELLO has been accepted
JOINED = 65536  # bytes: an incomplete body up to this size is kept with its header and joined with the next data


class Kind(IntEnum):
    HELLO = 0
    CALL = 1  # context, api and arguments
    RESULT = 2  # the call's result; ends the call
    ERROR = 3  # the call's error; ends the call
    ITEM = 4  # one item of a stream
    END = 5  # the end of a stream
    CREDIT = 6  # the consumer has room for this many more items
    CANCEL = 7  # the caller gave up
    NOTE = 8  # a one-way message: topic and value
    RELEASE = 9  # segments of shared memory that the receiver no longer uses
    FORGET = 10  # segments that the sender has closed
    DECLINE = 11  # the call has not started and will not be run here; ends the call


Body = bytes | memoryview  # a view is writable, and only the receiver refers to it


class ProtocolError(ConnectionError):
    """The peer violates this protocol; the connection cannot be used any more."""


class FrameReader:
    """Splits received data into frames. A large body that arrives in pieces is copied once, into its own buffer.

    `limit`: maximum size of a body, in bytes; it may be changed between frames, also while `feed` yields.
    """

    def __init__(self, limit: int = MAX_BODY) -> None:
        self.limit = limit
        self._head = b""  # an incomplete header, or a small incomplete frame
        self._body: memoryview | None = None  # the large body that is being filled
        self._filled = 0
        self._frame: tuple[int, int, int] = (0, 0, 0)

    def feed(self, data: bytes) -> Iterator[tuple[int, int, int, Body]]:
        """Yield (kind, call id, channel, body) for each frame that `data` completes. Raises `ProtocolError`.

        The iterator must be exhausted: only then is the rest of `data` after the last frame kept.
        """
        offset = 0
        if self._body is not None:
            offset = self._fill(data, 0)
            if self._filled < len(self._body):
                return
            body, self._body = self._body, None
            yield (*self._frame, body)
        elif self._head:
            data = self._head + data
            self._head = b""
        end = len(data)
        while end - offset >= HEADER.size:
            length, call_id, kind, channel = HEADER.unpack_from(data, offset)
            if length > self.limit:
                raise ProtocolError(f"a frame of {length} bytes: the peer does not speak {PROTOCOL.decode()}")
            start = offset + HEADER.size
            if start + length > end:
                if length <= JOINED:
                    break
                self._frame = (kind, call_id, channel)
                # Not a bytearray: zeroing it takes as long as receiving the data.
                self._body, self._filled = np.empty(length, np.uint8).data, 0
                self._fill(data, start)
                return
            offset = start + length
            yield kind, call_id, channel, data[start:offset]
        self._head = data[offset:]

    def _fill(self, data: bytes, offset: int) -> int:
        assert self._body is not None
        count = min(len(data) - offset, len(self._body) - self._filled)
        self._body[self._filled : self._filled + count] = memoryview(data)[offset : offset + count]
        self._filled += count
        return offset + count


COPIED = 65536  # bytes: the chunks of a smaller frame are joined, which is cheaper than sending them one by one

Receiver = Callable[[int, Body], None]  # takes a call's id and a body
ChannelReceiver = Callable[[int, int, Body], None]  # takes a call's id, a channel above 0, and a body

_pool: SegmentPool | None = None


def segment_pool() -> SegmentPool:
    """Return this process's pool of shared memory, created on first use."""
    global _pool
    if _pool is None:
        _pool = SegmentPool()
    return _pool


class FramedProtocol(asyncio.Protocol):
    """Frames over one socket, used on one event loop. `name` identifies the peer in messages, `address` a replica.

    `closed`: nothing can be sent any more. A frame that arrives before HELLO, after an error, or is of an unknown kind
    ends the connection.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.address = ""
        self.closed = False
        self.loop = asyncio.get_running_loop()
        self._pool = segment_pool()
        self._closures = self._pool.closures  # those that the peer has been told of
        self.encoder = Encoder(self._pool)
        self.decoder = Decoder(self._release_soon)
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader(MAX_GREETING)
        self._receivers: Mapping[int, Receiver] = {Kind.HELLO: self._take_hello}
        self._channel_receivers: Mapping[int, ChannelReceiver] = {}
        self._resume: asyncio.Future[None] | None = None
        self.greeted = False  # whether the peer has accepted the connection: before that it has read nothing from us
        self._is_lost = False
        self._sent = 0
        self._received = 0

    @property
    def sent(self) -> int:
        """Bytes sent, including those in shared memory."""
        return self._sent + self.encoder.shared

    @property
    def received(self) -> int:
        return self._received + self.decoder.shared

    # -- for subclasses

    def receivers(self) -> Mapping[int, Receiver]:
        """Return the receiver of each kind of frame, valid after the peer's HELLO."""
        return {Kind.RELEASE: self._take_release, Kind.FORGET: self._take_forget}

    def channel_receivers(self) -> Mapping[int, ChannelReceiver]:
        """Return the receiver of each kind of frame on a channel above 0."""
        return {}

    def lost(self, reason: str) -> None:
        """Handle the loss of the connection; called once. `reason` is a text, or "" if unknown."""

    # -- sending

    def send(self, kind: Kind, call_id: int, chunks: Chunks, channel: int = 0) -> None:
        """Send a frame; no effect when the connection is closed."""
        transport = self._transport
        if self.closed or transport is None:
            return
        if self._pool.closures != self._closures:
            self._send_forgotten(transport)
        length = len(chunks[0]) if len(chunks) == 1 else sum(len(c) for c in chunks)
        self._sent += length + HEADER.size
        if length < COPIED:
            transport.write(b"".join((HEADER.pack(length, call_id, kind, channel), *chunks)))
        else:
            transport.writelines([HEADER.pack(length, call_id, kind, channel), *chunks])

    def _send_forgotten(self, transport: asyncio.Transport) -> None:
        self._closures = self._pool.closures
        forgotten = self.encoder.forgotten()
        if forgotten:
            body = struct.pack(f"<{len(forgotten)}Q", *forgotten)
            transport.write(HEADER.pack(len(body), 0, Kind.FORGET, 0) + body)

    async def drained(self) -> None:
        """Wait while the transport's write buffer is full because the peer reads too slowly."""
        while self._resume is not None and not self.closed:
            await asyncio.shield(self._resume)

    def close(self) -> None:
        """Close after the data already sent has been flushed; nothing more can be sent."""
        self.closed = True
        if self._transport is not None:
            self._transport.close()

    def refuse(self, transport: asyncio.BaseTransport) -> None:
        """Abort a new connection before anything has been sent; `lost` is not called."""
        self._is_lost = self.closed = True
        transport.abort()  # type: ignore[attr-defined]

    # -- receiving: asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.send(Kind.HELLO, 0, [PROTOCOL])

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        try:
            for kind, call_id, channel, body in self._reader.feed(data):
                if channel:
                    on_channel = self._channel_receivers.get(kind)
                    if on_channel is not None:
                        on_channel(call_id, channel, body)
                        continue
                elif (receive := self._receivers.get(kind)) is not None:
                    receive(call_id, body)
                    continue
                raise ProtocolError(f"{self.name} sent a frame of kind {kind} on channel {channel}, unexpectedly")
        except BaseException as error:  # after any error the rest of the data cannot be interpreted
            self._lose(error)
            if self._transport is not None:
                self._transport.abort()

    def pause_writing(self) -> None:
        self._resume = self.loop.create_future()

    def resume_writing(self) -> None:
        if self._resume is not None and not self._resume.done():
            self._resume.set_result(None)
        self._resume = None

    def connection_lost(self, error: Exception | None) -> None:
        self._lose(error)

    def _lose(self, error: BaseException | None) -> None:
        if self._is_lost:
            return
        self.greeted = self.greeted or isinstance(error, ProtocolError)
        reason = (
            "it was closed at this end" if self.closed and error is None else ("" if error is None else text_of(error))
        )
        self._is_lost = self.closed = True
        self.resume_writing()
        self.encoder.close()
        self.decoder.close()
        self.lost(reason)

    def _take_hello(self, _: int, body: Body) -> None:
        if bytes(body) != PROTOCOL:
            raise ProtocolError(f"{self.name} speaks {bytes(body)!r}, not {PROTOCOL!r}")
        self.greeted = True
        self._receivers = self.receivers()
        self._channel_receivers = self.channel_receivers()
        self._reader.limit = MAX_BODY

    # -- shared memory

    def _release_soon(self, segment_id: int) -> None:
        # Called where the last reference was dropped: in any thread, possibly during a garbage collection.
        if not self.closed:
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                self.loop.call_soon_threadsafe(self._release, segment_id)

    def _release(self, segment_id: int) -> None:
        self.send(Kind.RELEASE, 0, [struct.pack("<Q", segment_id)])

    def _take_release(self, _: int, body: Body) -> None:
        for (segment_id,) in struct.iter_unpack("<Q", body):
            self.encoder.released(segment_id)

    def _take_forget(self, _: int, body: Body) -> None:
        for (segment_id,) in struct.iter_unpack("<Q", body):
            self.decoder.forget(segment_id)
