"""A value as bytes, of so many at most: what an exception holds may be a whole batch, and is not worth its time."""

from __future__ import annotations

import pickle
from typing import Any

from nbcompose.wire.body import pack
from nbcompose.wire.codec import THRESHOLD
from nbcompose.wire.pickler import Draft, Pickler

MAX_OBJECTS = 10_000  # other than numbers, texts and containers, in what `dumps_within` takes


def dumps_within(obj: Any, limit: int) -> bytes:
    """As `codec.dumps`. Raises ValueError as soon as there are more than `limit` bytes, or MAX_OBJECTS objects."""
    draft = _Limited(limit)
    _LimitedPickler(draft, draft, draft.take_buffer).dump(obj)
    if not draft.buffers and not draft.definitions:
        return b"".join(draft.stream)  # type: ignore[arg-type]  # without a pool it is all bytes
    return b"".join(pack(draft.stream, draft.buffers, draft.definitions))


class _Limited(Draft):
    """A draft of so many bytes at most, in one piece."""

    __slots__ = ("_room",)

    def __init__(self, room: int) -> None:
        super().__init__(None, THRESHOLD, set())
        self._room = room

    def write(self, data: bytes | bytearray | memoryview | pickle.PickleBuffer) -> None:
        self._spend(memoryview(data).nbytes)
        super().write(data)

    def take_buffer(self, buffer: pickle.PickleBuffer) -> bool:
        size = buffer.raw().nbytes
        if size >= THRESHOLD:  # it will not be written
            self._spend(size)
        return super().take_buffer(buffer)

    def _spend(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            raise ValueError("it is too large")


class _LimitedPickler(Pickler):
    left = MAX_OBJECTS

    def reducer_override(self, obj: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise ValueError("it is too large")
        return super().reducer_override(obj)
