"""Encode Python objects as frame bodies and decode them: pickle protocol 5, large buffers through shared memory.

`Encoder` and `Decoder` are the two ends of one direction of a connection. See `_rpc/pickling.py` for how objects are
reduced, `_rpc/shared_memory.py` for segments.

A plain body is only a pickle: protocol 5 begins with 0x80. Any other body begins with `MAGIC`:

    head         magic, number of entries, length of the definitions
    entries      one per part: kind, location, length
    definitions  a pickled dict of class definitions (`_rpc/notebook_classes.py`), kept even if the body is discarded
    parts        those inside the body, in the order of their entries; buffers are aligned to multiples of 16

The stream parts, joined, are the pickle; the buffers are its out-of-band buffers.

Only processes of one user exchange bodies (`_protocol/address.py` checks the peer), so unpickling is as safe as running
their code.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from nbcompose._rpc.notebook_classes import ClassTable, decoding
from nbcompose._rpc.pickling import BodyPickler, Draft, Part, locate
from nbcompose._rpc.shared_memory import Mappings, Segment, SegmentPool
from nbcompose._rpc.stream_arguments import Inlet, Outlet, arriving
from nbcompose._rpc.unsendable import Unsendable, is_live, is_misplaced, misplaced_value
from nbcompose._units import with_article
from nbcompose._user_exceptions import said, text_of, users_frames
from nbcompose.errors import CallError, InvalidArgument, InvalidResult, NbcomposeError, NotAwaited, PayloadTooLarge

Chunks = list[bytes | memoryview]  # of a body, in order

PLAIN = 0x80
MAGIC = b"nbc1"
HEAD = struct.Struct("<4sIQ")
ENTRY = struct.Struct("<BBxxIIxxxxQQQ")  # buffer?, in a segment?, pid, fd, segment id, size, length
ALIGNMENT = 16
MAX_BODY = 2**31  # bytes; larger values travel in shared memory


class CodecError(ValueError):
    """A body cannot be decoded: it is malformed, or this process cannot rebuild the value in it."""


class Parsed(NamedTuple):
    definitions: dict[str, bytes]
    stream: list[memoryview | Segment]
    buffers: list[memoryview | Segment]

    @property
    def segments(self) -> list[Segment]:
        return [part for part in (*self.stream, *self.buffers) if isinstance(part, Segment)]


def pack(stream: Sequence[Part], buffers: Sequence[Part], definitions: dict[str, bytes]) -> Chunks:
    """Return the chunks of a body."""
    defined = pickle.dumps(definitions, 5) if definitions else b""
    entries = [*((0, part) for part in stream), *((1, part) for part in buffers)]
    chunks: Chunks = []
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


def within_limit(chunks: Chunks) -> Chunks:
    """Return the chunks of a body. Raises `PayloadTooLarge`."""
    length = sum(map(len, chunks))
    if length > MAX_BODY:
        raise PayloadTooLarge(
            f"a value of {length} bytes cannot be sent at once to another process, at most {MAX_BODY}: send it in "
            "parts, or as arrays, which travel in shared memory"
        )
    return chunks


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
        raise CodecError(f"class definitions are {with_article(type(definitions).__name__)}")
    return definitions


MAX_OBJECTS = 10_000  # in a value for `dumps_within`; numbers, strings and containers do not count


def dumps_within(obj: Any, limit: int) -> bytes:
    """As `dumps`. Raises ValueError as soon as there are more than `limit` bytes, or `MAX_OBJECTS` objects."""
    draft = _Limited(limit)
    _LimitedPickler(draft, draft, draft.take_buffer).dump(obj)
    if not draft.buffers and not draft.definitions:
        return b"".join(draft.stream)  # type: ignore[arg-type]  # without a pool it is all bytes
    return b"".join(pack(draft.stream, draft.buffers, draft.definitions))


class _Limited(Draft):
    """A draft limited to `room` bytes, without shared memory."""

    __slots__ = ("_room",)

    def __init__(self, room: int) -> None:
        super().__init__(None, THRESHOLD, set())
        self._room = room

    def write(self, data: bytes | bytearray | memoryview | pickle.PickleBuffer) -> None:
        self._spend(memoryview(data).nbytes)
        super().write(data)

    def take_buffer(self, buffer: pickle.PickleBuffer) -> bool:
        size = buffer.raw().nbytes
        if size >= THRESHOLD:  # it goes out of band and does not pass through `write`
            self._spend(size)
        return super().take_buffer(buffer)

    def _spend(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            raise ValueError("it is too large")


class _LimitedPickler(BodyPickler):
    left = MAX_OBJECTS

    def reducer_override(self, obj: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise ValueError("it is too large")
        return super().reducer_override(obj)


THRESHOLD = 256 * 1024  # bytes: buffers of this size or more are kept out of the pickle
MAX_REASON = 2_000  # characters of another error's text that are quoted in a message

_NAMELESS = ("builtins", "__main__")  # modules that messages leave out

Role = Literal["arguments", "result", "item"]


class Encoder:
    """Encodes the bodies that one connection sends.

    `encode` must be called by one thread at a time, and bodies must be sent in the order in which they were encoded: a
    class is defined in the first body that needs it. `pool` None: nothing goes through shared memory.
    """

    def __init__(self, pool: SegmentPool | None, threshold: int = THRESHOLD) -> None:
        self._pool = pool
        self._threshold = threshold
        self._defined: set[str] = set()  # keys of the classes that the peer knows
        self._lent: set[int] = set()
        self._shown: set[int] = set()  # segments that the peer may have mapped
        self.shared = 0  # bytes that went through shared memory
        self.outlets: list[Outlet] = []  # in the body that was encoded last, by channel

    def taken_outlets(self) -> list[Outlet]:
        """Return the streams in the body that was encoded last, once."""
        outlets, self.outlets = self.outlets, []
        return outlets

    def encode(self, obj: Any, role: Role = "arguments") -> Chunks:
        """Return the chunks of a body; a single one unless the object is large. They share no memory with it.

        Raises `InvalidArgument` (for a result or an item `InvalidResult`) when the object cannot be pickled,
        `NotAwaited` when it contains an unawaited call, `PayloadTooLarge` when it is beyond `MAX_BODY`, and `CallError`
        when there is not enough memory.
        """
        if is_plain(obj, 3):
            return [pickle.dumps(obj, 5)]
        draft = Draft(self._pool, self._threshold, self._defined)
        try:
            BodyPickler(draft, draft, draft.take_buffer).dump(obj)
        except BaseException as error:
            self._give_back(draft)
            if not isinstance(error, Exception):
                raise
            refusal = self._unsendable(obj, role, error)
            raise refusal from refusal.__cause__  # without the error of pickle
        if draft.outlets:
            self.outlets = draft.outlets
        if not draft.buffers and not draft.segments and not draft.definitions:
            return within_limit(draft.stream)  # type: ignore[arg-type]  # without segments it is all bytes
        chunks = pack(draft.stream, draft.buffers, draft.definitions)
        try:
            within_limit(chunks)
        except PayloadTooLarge:
            self._give_back(draft)
            raise
        self._defined.update(draft.definitions)
        for segment in draft.segments:
            self.shared += segment.used
            self._lent.add(segment.segment_id)
            self._shown.add(segment.segment_id)
        return chunks

    def _give_back(self, draft: Draft) -> None:
        for segment in draft.segments:
            self._pool.give_back(segment.segment_id)  # type: ignore[union-attr]  # it lent the segment

    def released(self, segment_id: int) -> None:
        """Take back a segment that the peer no longer uses. One that this encoder did not lend is ignored."""
        if segment_id in self._lent and self._pool is not None:
            self._lent.discard(segment_id)
            self._pool.give_back(segment_id)

    def forgotten(self) -> list[int]:
        """Return the segments closed since the last call that the peer may have mapped, to be reported to the peer."""
        gone = [i for i in self._shown if self._pool is not None and not self._pool.has(i)]
        self._shown.difference_update(gone)
        return gone

    def close(self) -> None:
        """Close lent segments after the connection is lost. They are not reused: the peer may still be reading them."""
        pool, self._pool = self._pool, None
        while self._lent and pool is not None:
            pool.discard(self._lent.pop())

    def _unsendable(self, obj: Any, role: Role, error: Exception) -> NbcomposeError:
        if isinstance(error, MemoryError):  # searching for the offending part would need as much memory again
            shortage = CallError(
                f"this process has not the memory to send the {role} to another ({said(error, MAX_REASON)}): send less "
                "at once, or in parts"
            )
            shortage.__cause__ = _of_users(error)
            return shortage
        way = locate(obj, self._pickles)
        path, part = role + "".join(step for step, _ in way), way[-1][1] if way else obj
        if isinstance(error, NotAwaited) and not (role == "arguments" and is_live(part)):
            return error
        refused = InvalidArgument if role == "arguments" else InvalidResult
        if is_misplaced(part):
            refusal = refused(misplaced_value(path, part, role))
            if role == "arguments":
                refusal.__dict__["unsendable"] = Unsendable(
                    way[0][1] if way else obj, "".join(step for step, _ in way[1:]), part
                )
            return refusal
        kind = type(part)
        name = kind.__qualname__ if kind.__module__ in _NAMELESS else f"{kind.__module__}.{kind.__qualname__}"
        is_refusal = isinstance(error, TypeError | pickle.PicklingError)
        reason = (text_of(error, MAX_REASON) if is_refusal else "") or said(error, MAX_REASON)
        message = (
            f"{path} holds {with_article(name)}, which cannot be sent to another process ({reason}): pass plain data "
            "instead"
        )
        refusal = refused(message)
        refusal.__cause__ = _of_users(error)
        return refusal

    def _pickles(self, obj: Any) -> bool:
        draft = Draft(None, self._threshold, self._defined)
        try:
            BodyPickler(draft, draft, draft.take_buffer).dump(obj)
        except Exception:
            return False
        return True


_ATOMS = frozenset({int, float, bool, type(None)})
_CONTAINERS = frozenset({tuple, dict, list})
_SHORT = 4096  # characters or bytes
_FEW = 16  # elements


def is_plain(obj: Any, depth: int) -> bool:
    """Whether plain pickle suffices for a small object: most arguments and results, in half the Pickler's time."""
    kind = type(obj)
    if kind is str or kind is bytes:
        return len(obj) < _SHORT
    if kind in _ATOMS:
        return True
    if depth == 0 or kind not in _CONTAINERS or len(obj) > _FEW:
        return False
    for element in obj:
        if not is_plain(element, depth - 1):
            return False
    return kind is not dict or not obj or all(is_plain(value, depth - 1) for value in obj.values())


class Decoder:
    """Decodes the bodies that one connection receives, in the order in which they were sent.

    `on_release(segment_id)` is called from any thread when nothing here refers to a segment any more; it must reach
    the peer's `Encoder.released`.
    """

    def __init__(self, on_release: Callable[[int], None]) -> None:
        self._on_release = on_release
        self._mappings = Mappings(on_release)
        self._classes = ClassTable()
        self.shared = 0  # bytes that came through shared memory
        self.inlets: list[Inlet] = []  # of the streams in the bodies that have been decoded

    def taken_inlets(self) -> list[Inlet]:
        """Return the streams that have been decoded, once."""
        inlets, self.inlets = self.inlets, []
        return inlets

    def decode(self, body: bytes | bytearray | memoryview) -> Any:
        """Return the object. Arrays in it may refer to the memory of a writable body: do not reuse that.

        Raises `CodecError` when the body is malformed or the object cannot be rebuilt in this process, and
        `InvalidArgument` when an instance does not fit its class, whose cell has been run again here.
        """
        previous = getattr(decoding, "table", None)
        decoding.table = self._classes
        arriving.inlets = self.inlets
        try:
            if len(body) and body[0] == PLAIN:
                return pickle.loads(body)
            return self._decode_parts(parse(memoryview(body)))
        except (CodecError, NbcomposeError):
            raise
        except BaseException as error:  # user code in the value's classes may raise anything
            raise CodecError(f"the value cannot be rebuilt here: {said(error, MAX_REASON)}") from error
        finally:
            decoding.table = previous

    def discard(self, body: bytes | bytearray | memoryview) -> None:
        """Drop a body that is no longer wanted, without unpickling it. A malformed one is ignored."""
        if not len(body) or body[0] == PLAIN:
            return
        try:
            parsed = parse(memoryview(body))
        except CodecError:
            return
        self._classes.add(parsed.definitions)
        for segment in parsed.segments:
            self._on_release(segment.segment_id)

    def forget(self, segment_id: int) -> None:
        """Unmap a segment that the peer has closed."""
        self._mappings.forget(segment_id)

    def close(self) -> None:
        """Unmap all segments after the connection is lost. Decoded objects stay valid."""
        self._mappings.close()

    def _decode_parts(self, parsed: Parsed) -> Any:
        self._classes.add(parsed.definitions)
        views: dict[int, memoryview] = {}
        try:
            for segment in parsed.segments:
                views[segment.segment_id] = self._mappings.view(segment)
                self.shared += segment.used
        except ValueError as error:
            for segment in parsed.segments:
                if segment.segment_id not in views:
                    self._on_release(segment.segment_id)
            raise CodecError(str(error)) from error
        stream = [views[p.segment_id] if isinstance(p, Segment) else p for p in parsed.stream]
        buffers = [views[p.segment_id] if isinstance(p, Segment) else _own(p) for p in parsed.buffers]
        if len(stream) == 1:
            return pickle.loads(stream[0], buffers=buffers)
        return pickle.Unpickler(_Joined(stream), buffers=buffers).load()


def dumps(obj: Any) -> bytes:
    """Return the object as bytes for `loads` in any process of this user. Raises `InvalidArgument`."""
    return b"".join(Encoder(None).encode(obj))


def loads(data: bytes) -> Any:
    """Return the object from the output of `dumps`. Raises `CodecError`, `InvalidArgument`."""
    return Decoder(lambda _: None).decode(data)


def _of_users(error: Exception) -> Exception | None:
    """Return `error` with its traceback starting at user code; None if pickle itself raised it (see the message)."""
    theirs = next(users_frames(error.__traceback__), None)
    return error.with_traceback(theirs) if theirs is not None else None


class _Joined:
    """A file over the parts of a pickle. Large values are read directly into their memory."""

    def __init__(self, parts: Iterable[memoryview]) -> None:
        self._parts = [part for part in parts if len(part)]

    def readinto(self, target: memoryview) -> int:
        done = 0
        while done < len(target) and self._parts:
            part = self._parts[0]
            count = min(len(part), len(target) - done)
            target[done : done + count] = part[:count]
            done += count
            if count == len(part):
                del self._parts[0]
            else:
                self._parts[0] = part[count:]
        return done

    def read(self, size: int) -> bytes:
        target = bytearray(min(size, sum(map(len, self._parts))))
        self.readinto(memoryview(target))
        return bytes(target)

    def readline(self) -> bytes:
        line = bytearray()
        while self._parts and not line.endswith(b"\n"):
            line += self.read(1)
        return bytes(line)


def _own(part: memoryview) -> memoryview:
    """Return a buffer that lies in the body as a writable, aligned one: without a copy if the body allows it."""
    array = np.frombuffer(part, np.uint8)
    if part.readonly or array.__array_interface__["data"][0] % ALIGNMENT:
        array = array.copy()
    return array.data
