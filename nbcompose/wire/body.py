"""The layout of a frame's body: where in it, or in which shared memory, the parts of a pickled value are.

A plain body is a pickle and nothing else: protocol 5 begins with 0x80. Any other begins with `MAGIC`:

    head       magic, number of entries, length of the definitions
    entries    one for each part: kind, where it is, length
    definitions  a pickled dict of class definitions (classes.py), which must outlive a body that nobody wants
    parts      those that travel in the body, in the order of their entries; buffers begin at multiples of 16

Stream parts, joined, are the pickle; buffers are its out-of-band buffers. What they hold is codec.py's business.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Sequence
from typing import NamedTuple

from nbcompose.wire.shm import Segment

PLAIN = 0x80
MAGIC = b"nbc1"
HEAD = struct.Struct("<4sIQ")
ENTRY = struct.Struct("<BBxxIIxxxxQQQ")  # buffer?, in a segment?, pid, fd, segment id, size, length
ALIGNMENT = 16

Part = bytes | Segment


class CodecError(ValueError):
    """A body that cannot be read: it is malformed, or this process cannot rebuild the value in it."""


class Parsed(NamedTuple):
    definitions: dict[str, bytes]
    stream: list[memoryview | Segment]
    buffers: list[memoryview | Segment]

    @property
    def segments(self) -> list[Segment]:
        return [part for part in (*self.stream, *self.buffers) if isinstance(part, Segment)]


def pack(stream: Sequence[Part], buffers: Sequence[Part], definitions: dict[str, bytes]) -> list[bytes | memoryview]:
    """The chunks of a body, in order."""
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
    """Take a body that is not plain apart, copying nothing. Raises `CodecError`."""
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
