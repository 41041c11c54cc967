"""One object taken apart for a body: its pickle, the large memory beside that, and the classes it needs defined.

What is special about arrays is in reducers.py, about classes in classes.py; codec.py makes a body of the draft.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from types import FunctionType
from typing import Any

from nbcompose.wire import cloudpickle_adapter, named
from nbcompose.wire.body import Part
from nbcompose.wire.classes import is_dynamic, resolve_class
from nbcompose.wire.cloudpickle_adapter import class_key
from nbcompose.wire.reducers import OWN_FUNCTIONS, reducer_for
from nbcompose.wire.shm import Segment, SegmentPool


class Draft:
    """A body in the making; also the file that the pickler writes to."""

    __slots__ = ("_known", "_pool", "_threshold", "buffers", "definitions", "segments", "stream")

    def __init__(self, pool: SegmentPool | None, threshold: int, known: set[str]) -> None:
        self._pool = pool
        self._threshold = threshold
        self._known = known
        self.stream: list[Part] = []
        self.buffers: list[Part] = []
        self.segments: list[Segment] = []
        self.definitions: dict[str, bytes] = {}

    def write(self, data: bytes | bytearray | memoryview | pickle.PickleBuffer) -> None:
        # The pickler hands large bytes, bytearrays and strings over as they are, outside its frames.
        if type(data) is not bytes:
            data = memoryview(data)
        self.stream.append(self._store(data) if len(data) >= self._threshold else bytes(data))

    def take_buffer(self, buffer: pickle.PickleBuffer) -> bool:
        """Whether the pickler shall keep this buffer in the pickle."""
        data = buffer.raw()
        if data.nbytes < self._threshold:
            return True
        self.buffers.append(self._store(data))
        return False

    def define(self, cls: type) -> str:
        """The key of a dynamic class, which the peer knows or will know by this body."""
        key = class_key(cls)
        if key not in self._known and key not in self.definitions:
            self.definitions[key] = b""  # on its way: classes may refer to one another
            sink: list[bytes] = []
            Pickler(_Sink(sink.append), self, None, cls).dump(cls)
            self.definitions[key] = b"".join(sink)
        return key

    def _store(self, data: bytes | bytearray | memoryview) -> Part:
        segment = self._pool.lend(memoryview(data)) if self._pool is not None else None
        if segment is None:
            return bytes(data)
        self.segments.append(segment)
        return segment


class _Sink:
    __slots__ = ("_append",)

    def __init__(self, append: Callable[[bytes], None]) -> None:
        self._append = append

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._append(bytes(data))


class Pickler(cloudpickle_adapter.Pickler):
    """cloudpickle's, but for arrays and the like, and for dynamic classes, which go by key.

    It holds the draft and the draft does not hold it: without a cycle a call leaves nothing to the garbage collector.
    """

    def __init__(
        self,
        file: Draft | _Sink,
        draft: Draft,
        buffer_callback: Callable[[pickle.PickleBuffer], bool] | None,
        defining: type | None = None,
    ) -> None:
        super().__init__(file, 5, buffer_callback)
        self._draft = draft
        self._defining = defining

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if issubclass(kind, type):
            if is_dynamic(obj) and obj is not self._defining:
                return resolve_class, (self._draft.define(obj),)
            return super().reducer_override(obj)
        if kind is FunctionType:
            if obj in OWN_FUNCTIONS:
                return NotImplemented  # importable for sure: spares cloudpickle a search
            return named.reduced(obj) if named.is_named(obj) else super().reducer_override(obj)
        reduce = reducer_for(kind)
        return super().reducer_override(obj) if reduce is None else reduce(obj)
