"""Wire format: the frames that a connection consists of, and the layout of a pickled value in a frame's body.

A frame is a header and a body. Header, little endian: body length (u32), call id (u32), kind (u8), channel (u8).
Channel 0 carries a call and its result; higher channels are reserved for streams as arguments, one per parameter.
A connection begins with one HELLO frame from each end, whose body is `PROTOCOL`.

A plain body is only a pickle: protocol 5 begins with 0x80. Any other body begins with `MAGIC`:

    head         magic, number of entries, length of the definitions
    entries      one per part: kind, location, length
    definitions  a pickled dict of class definitions (`_rpc/notebook_classes.py`), kept even if the body is discarded
    parts        those inside the body, in the order of their entries; buffers are aligned to multiples of 16

The stream parts, joined, are the pickle; the buffers are its out-of-band buffers. See `_rpc/codec.py`.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from nbcompose._rpc.shared_memory import Segment

PROTOCOL = b"nbcompose/2"
HEADER = struct.Struct("<IIBB")
MAX_BODY = 2**31  # bytes; larger values travel in shared memory
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


PLAIN = 0x80
MAGIC = b"nbc1"
HEAD = struct.Struct("<4sIQ")
ENTRY = struct.Struct("<BBxxIIxxxxQQQ")  # buffer?, in a segment?, pid, fd, segment id, size, length
ALIGNMENT = 16

Part = bytes | Segment


class CodecError(ValueError):
    """A body cannot be decoded: it is malformed, or this process cannot rebuild the value in it."""


class Parsed(NamedTuple):
    definitions: dict[str, bytes]
    stream: list[memoryview | Segment]
    buffers: list[memoryview | Segment]

    @property
    def segments(self) -> list[Segment]:
        return [part for part in (*self.stream, *self.buffers) if isinstance(part, Segment)]


def pack(stream: Sequence[Part], buffers: Sequence[Part], definitions: dict[str, bytes]) -> list[bytes | memoryview]:
    """Return the chunks of a body, in order."""
    defined = pickle.dumps(definitions, 5) if definitions else b""
    entries = [*((0, part) for part in stream), *((1, part) for part in buffers)]
    chunks: list[bytes | memoryview] = []
    offset = HEAD.size + ENTRY.size * len(entries) + len(defined)
    head = [HEAD.pack(MAGIC, len(entries), len(defined))]
    for is_buffer, part in entries:
        if isinstance(part, Segment):
            head.append(ENTRY.pack(is_buffer, 1, part.pid, part.fd, part.segment_id, part.size, part.used))
            continue
        head.append(ENTRY.pack(is_buffer, 0, 0, 0, 0, 0, len(part)))
        padding = -offset % ALIGNMENT if is_buffer else 0
        if padding:
            chunks.append(bytes(padding))
        chunks.append(part)
        offset += padding + len(part)
    return [b"".join([*head, defined]), *chunks]


def parse(body: memoryview) -> Parsed:
    """Split a body that is not plain into its parts, without copying. Raises `CodecError`."""
    if len(body) < HEAD.size or body[: len(MAGIC)] != MAGIC:
        raise CodecError(f"a body of {len(body)} bytes that begins with {bytes(body[:8])!r}")
    _, count, defined = HEAD.unpack_from(body)
    offset = HEAD.size + ENTRY.size * count
    if offset + defined > len(body):
        raise CodecError(f"{count} entries and {defined} bytes of definitions in a body of {len(body)} bytes")
    entries = [ENTRY.unpack_from(body, HEAD.size + ENTRY.size * i) for i in range(count)]
    parsed = Parsed(_definitions(body[offset : offset + defined]), [], [])
    offset += defined
    for is_buffer, shared, pid, fd, segment_id, size, length in entries:
        parts = parsed.buffers if is_buffer else parsed.stream
        if shared:
            parts.append(Segment(pid, fd, segment_id, size, length))
            continue
        if is_buffer:
            offset += -offset % ALIGNMENT
        if offset + length > len(body):
            raise CodecError(f"a part of {length} bytes at {offset} of a body of {len(body)} bytes")
        parts.append(body[offset : offset + length])
        offset += length
    if offset != len(body):
        raise CodecError(f"{len(body) - offset} bytes too many in a body of {len(body)} bytes")
    return parsed


def _definitions(pickled: memoryview) -> dict[str, bytes]:
    if not pickled:
        return {}
    try:
        definitions = pickle.loads(pickled)
    except Exception as error:
        raise CodecError(f"class definitions cannot be read: {error}") from error
    if not isinstance(definitions, dict):
        raise CodecError(f"class definitions are a {type(definitions).__name__}")
    return definitions
