"""Frames: how bytes on a connection are cut into messages. Knows nothing of what is in them.

A frame is a header and a body. Header, little endian: body length (u32), call id (u32), kind (u8), channel (u8).
Channel 0 carries a call and its result; higher channels are for streams as arguments, one for each parameter.
A connection begins with one HELLO frame from each end, whose body is `PROTOCOL`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum

import numpy as np

PROTOCOL = b"nbcompose/2"
HEADER = struct.Struct("<IIBB")
MAX_BODY = 2**31  # bytes; larger values travel in shared memory
MAX_GREETING = 64  # bytes: the limit until the peer has said what it speaks
JOINED = 65536  # bytes: a smaller body that is incomplete is kept with its header and joined with what comes


class Kind(IntEnum):
    HELLO = 0
    CALL = 1  # context, api and arguments
    RESULT = 2  # the call's result, and its end
    ERROR = 3  # the call's error, and its end
    ITEM = 4  # one item of a stream
    END = 5  # the end of a stream
    CREDIT = 6  # the consumer has room for more items: a count
    CANCEL = 7  # the caller gave up
    NOTE = 8  # a one-way message: topic and value
    RELEASE = 9  # segments of shared memory that the receiver has let go
    FORGET = 10  # segments that the sender has closed
    DECLINE = 11  # the call has not begun, and will not here; its end


Body = bytes | memoryview  # a view is writable, and nobody else's


class ProtocolError(ConnectionError):
    """The peer does not speak this protocol; the connection is of no further use."""


class FrameReader:
    """Cuts what arrives into frames. A body that comes in many pieces is copied once, into its own buffer.

    `limit`, in bytes, bounds a body; it may be changed between frames, also while `feed` yields.
    """

    def __init__(self, limit: int = MAX_BODY) -> None:
        self.limit = limit
        self._head = b""  # an incomplete header, or a small incomplete frame
        self._body: memoryview | None = None  # the large body that is being filled
        self._filled = 0
        self._frame: tuple[int, int, int] = (0, 0, 0)

    def feed(self, data: bytes) -> Iterator[tuple[int, int, int, Body]]:
        """Yield (kind, call id, channel, body) for each frame that `data` completes. Raises `ProtocolError`.

        To be exhausted: what is left of `data` after the last frame is kept only then.
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
                # Not a bytearray, which is filled with zeros: that takes as long as to receive it.
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
