"""Pickling of one object: arrays, tensors and images with out-of-band buffers, notebook classes by definition.

What pickle handles well (pandas, arrow: through their arrays) is left to it. Receivers may write to the received data.
Optional libraries are recognized by name, and imported only when such a value arrives. `locate` finds the part of a
value that cannot be pickled. See `_rpc/notebook_classes.py` for classes, `_rpc/codec.py` for how a draft becomes a
body.
"""

from __future__ import annotations

import itertools
import pickle
import sys
from collections.abc import Callable, Iterator
from pickle import PickleBuffer
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from nbcompose._rpc import notebook_classes, notebook_objects
from nbcompose._rpc.notebook_classes import class_key, instance_reducer, is_dynamic, resolve_class
from nbcompose._rpc.shared_memory import Segment, SegmentPool
from nbcompose._rpc.stream_arguments import MOST_CHANNELS, Inlet, InletSource, Outlet, open_inlet
from nbcompose._rpc.unsendable import is_misplaced
from nbcompose._user_exceptions import in_short
from nbcompose.errors import InvalidArgument

Reducer = Callable[[Any], Any]
Array = npt.NDArray[Any]
Part = bytes | Segment

_known: WeakKeyDictionary[type, Reducer | None] = WeakKeyDictionary()


def reducer_for(kind: type) -> Reducer | None:
    """Return the function that reduces values of exactly this type; None: leave them to cloudpickle."""
    try:
        return _known[kind]
    except KeyError:
        _known[kind] = reducer = _choose(kind)
        return reducer
    except TypeError:  # a metaclass without a hash
        return None


def _choose(kind: type) -> Reducer | None:
    if kind in notebook_objects.KINDS:
        return notebook_objects.reduced
    module = str(kind.__module__)
    if kind is np.ndarray or kind is np.memmap:
        return reduce_array
    if (module, kind.__qualname__) == ("torch", "Tensor"):
        return reduce_tensor
    if module.startswith("PIL.") and any(
        (base.__module__, base.__qualname__) == ("PIL.Image", "Image") for base in kind.__mro__
    ):
        return reduce_image
    if (module, kind.__qualname__) == ("matplotlib.figure", "Figure"):
        return reduce_figure
    return instance_reducer(kind) if is_dynamic(kind) else None


def reduce_array(array: Array) -> Any:
    """Reduce a numpy array; a memory-mapped one arrives as an ordinary array."""
    dtype = array.dtype
    if dtype.hasobject:
        return array.view(np.ndarray).__reduce_ex__(5)
    order = "C"
    shape = array.shape
    if not array.flags.c_contiguous:
        if array.flags.f_contiguous:
            array, order = array.T, "F"
        else:
            array = np.ascontiguousarray(array)
    return rebuild_array, (PickleBuffer(_memory(array)), _dtype_text(dtype) or dtype, shape, order)


def rebuild_array(buffer: Any, dtype: Any, shape: tuple[int, ...], order: Any) -> Array:
    if not len(buffer):
        return np.empty(shape, dtype)
    array: Array = _writable(buffer).view(dtype).reshape(shape, order=order)
    return array


def reduce_tensor(tensor: Any) -> Any:
    """Reduce a dense torch tensor of any dtype; it arrives detached and on the CPU."""
    torch = sys.modules["torch"]
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested or tensor.device.type == "meta":
        return NotImplemented  # torch reduces a sparse tensor to dense ones, which are reduced here
    tensor = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    data = _memory(tensor.reshape(-1).view(torch.uint8).numpy()) if tensor.numel() else b""
    return rebuild_tensor, (PickleBuffer(data), str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))


def rebuild_tensor(buffer: Any, dtype: str, shape: tuple[int, ...]) -> Any:
    import torch

    if 0 in shape:
        return torch.empty(shape, dtype=getattr(torch, dtype))
    return torch.from_numpy(_writable(buffer)).view(getattr(torch, dtype)).reshape(shape)


def reduce_image(image: Any) -> tuple[Any, ...]:
    """Reduce a PIL image to its raw pixels. One that was opened from a file arrives as an ordinary image."""
    image.load()
    palette = None
    if image.mode in ("P", "PA"):
        palette = (image.palette.mode, bytes(image.getpalette(rawmode=None)))
    data = PickleBuffer(image.tobytes())
    return rebuild_image, (data, image.mode, image.size, palette, dict(image.info), image.format)


def rebuild_image(
    buffer: Any,
    mode: str,
    size: tuple[int, int],
    palette: tuple[str, bytes] | None,
    info: dict[Any, Any],
    format_name: str | None,
) -> Any:
    from PIL import Image

    image = Image.new(mode, size) if 0 in size else Image.frombytes(mode, size, buffer)
    if palette is not None:
        image.putpalette(palette[1], palette[0])
    image.info = info
    image.format = format_name
    return image


def reduce_figure(figure: Any) -> tuple[Any, ...]:
    """Reduce a matplotlib figure; it arrives unknown to pyplot, which would show it once more under a notebook's cell.

    pyplot would also open a window, in whichever thread it arrives.
    """
    function, arguments, state, *_ = figure.__reduce_ex__(5)
    return function, arguments, {name: value for name, value in state.items() if name != "_restore_to_pylab"}


def _dtype_text(dtype: np.dtype[Any]) -> str | None:
    """Return the dtype as a short text, a tenth of its pickle; None if lossy (with fields, metadata, or bfloat16)."""
    text = dtype.str
    return text if dtype.metadata is None and np.dtype(text) == dtype else None


def _memory(array: Array) -> memoryview | bytes:
    """Return the memory of a contiguous array (viewed as bytes, because date arrays have no buffer interface)."""
    return array.reshape(-1).view(np.uint8).data if array.nbytes else b""


def _writable(buffer: Any) -> npt.NDArray[np.uint8]:
    """Return the bytes of a received buffer, writable even if the original was read-only.

    pickle marks the buffer of a read-only array as read-only; the received memory belongs to this value alone.
    """
    if isinstance(buffer, memoryview) and buffer.readonly and isinstance(buffer.obj, np.ndarray):
        buffer = buffer.obj
    array = np.frombuffer(buffer, np.uint8)
    return array if array.flags.writeable else array.copy()


OWN_FUNCTIONS = frozenset({rebuild_array, rebuild_tensor, rebuild_image, resolve_class, open_inlet})


class Draft:
    """The parts of a body while it is being encoded; also the file that the pickler writes to."""

    __slots__ = ("_known", "_pool", "_threshold", "buffers", "definitions", "outlets", "segments", "stream")

    def __init__(self, pool: SegmentPool | None, threshold: int, known: set[str]) -> None:
        self._pool = pool
        self._threshold = threshold
        self._known = known
        self.stream: list[Part] = []
        self.buffers: list[Part] = []
        self.segments: list[Segment] = []
        self.definitions: dict[str, bytes] = {}
        self.outlets: list[Outlet] = []  # that of channel n is at n - 1

    def attach(self, stream: Outlet | Inlet) -> int:
        """Return the channel on which the items of a stream will be sent; an inlet's are passed on."""
        if len(self.outlets) == MOST_CHANNELS:
            raise InvalidArgument(f"a call takes at most {MOST_CHANNELS} streams")
        self.outlets.append(stream if isinstance(stream, Outlet) else Outlet(InletSource(stream)))
        return len(self.outlets)

    def write(self, data: bytes | bytearray | memoryview | pickle.PickleBuffer) -> None:
        # The pickler passes large bytes, bytearrays and strings on without copying them into its frames.
        if type(data) is not bytes:
            data = memoryview(data)
        self.stream.append(self._store(data) if len(data) >= self._threshold else bytes(data))

    def take_buffer(self, buffer: pickle.PickleBuffer) -> bool:
        """Return whether the pickler must keep this buffer in the pickle (pickle's `buffer_callback`)."""
        data = buffer.raw()
        if data.nbytes < self._threshold:
            return True
        self.buffers.append(self._store(data))
        return False

    def define(self, cls: type) -> str:
        """Return the key of a dynamic class, and add its definition to this body if the peer does not know it."""
        key = class_key(cls)
        if key not in self._known and key not in self.definitions:
            self.definitions[key] = b""  # marks it as being defined: classes may refer to one another
            sink: list[bytes] = []
            BodyPickler(_Sink(sink.append), self, None, cls).dump(cls)
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


class BodyPickler(notebook_classes.Pickler):
    """cloudpickle's pickler, except for arrays, tensors, images, and dynamic classes, which are sent by key.

    It refers to the draft, but the draft not to it: without a reference cycle a call creates no garbage to collect.
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
        if kind is Outlet or kind is Inlet:
            return open_inlet, (self._draft.attach(obj),)
        if kind is FunctionType:
            if obj in OWN_FUNCTIONS:
                return NotImplemented  # known to be importable: saves cloudpickle a search
            return notebook_objects.reduced(obj) if notebook_objects.is_named(obj) else super().reducer_override(obj)
        reduce = reducer_for(kind)
        return super().reducer_override(obj) if reduce is None else reduce(obj)


MAX_ATTEMPTS = 2000  # parts tried before the search ends with the part found so far


def locate(value: Any, pickles: Callable[[Any], bool]) -> list[tuple[str, Any]]:
    """Return the way to the innermost part of `value` that cannot be pickled: steps of a path, each with its part.

    A pair of a tuple and a dict is taken as the arguments of a call: the steps begin with `[0]` or `['name']`.
    """
    attempts = itertools.count()
    parts = _argument_parts(value) if _is_arguments(value) else _parts(value)
    way: list[tuple[str, Any]] = []
    seen = {id(value)}
    while True:
        fresh = ((step, part) for step, part in parts if id(part) not in seen)
        bad = next(((s, p) for s, p in fresh if next(attempts) > MAX_ATTEMPTS or not pickles(p)), None)
        if bad is None or next(attempts) > MAX_ATTEMPTS:
            return way
        way.append(bad)
        value = bad[1]
        seen.add(id(value))
        parts = _parts(value)


def _is_arguments(value: Any) -> bool:
    return type(value) is tuple and len(value) == 2 and type(value[0]) is tuple and type(value[1]) is dict


def _argument_parts(value: Any) -> Iterator[tuple[str, Any]]:
    yield from _parts(value[0])
    yield from _parts(value[1])


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in list(value.items()):
            yield f"[{in_short(key, 200)}]", item
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield f"[{i}]", item
    elif isinstance(value, (set, frozenset)):
        for item in value:
            yield "{…}", item
    elif not isinstance(value, type) and not callable(value) and not is_misplaced(value):
        for name, item in list(getattr(value, "__dict__", {}).items()):
            yield f".{name}", item
