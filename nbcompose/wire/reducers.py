"""How arrays, tensors and images are taken apart for the wire: their memory as one out-of-band buffer, no re-encoding.

What pickle does already (pandas, arrow: through their arrays) is left to it. Receivers may write to what they get.
Optional libraries are recognized by name and imported only where such a value arrives.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pickle import PickleBuffer
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from nbcompose.wire import named
from nbcompose.wire.classes import instance_reducer, is_dynamic, resolve_class

Reducer = Callable[[Any], Any]
Array = npt.NDArray[Any]

_known: WeakKeyDictionary[type, Reducer | None] = WeakKeyDictionary()


def reducer_for(kind: type) -> Reducer | None:
    """How to reduce values of exactly this type; None: as cloudpickle does."""
    try:
        return _known[kind]
    except KeyError:
        _known[kind] = reducer = _choose(kind)
        return reducer
    except TypeError:  # a metaclass without a hash
        return None


def _choose(kind: type) -> Reducer | None:
    if kind in named.KINDS:
        return named.reduced
    module = str(kind.__module__)
    if kind is np.ndarray or kind is np.memmap:
        return reduce_array
    if (module, kind.__qualname__) == ("torch", "Tensor"):
        return reduce_tensor
    if module.startswith("PIL.") and any(
        (base.__module__, base.__qualname__) == ("PIL.Image", "Image") for base in kind.__mro__
    ):
        return reduce_image
    return instance_reducer(kind) if is_dynamic(kind) else None


def reduce_array(array: Array) -> Any:
    """A numpy array; a memory-mapped one becomes an ordinary one."""
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
    """A dense torch tensor of any dtype: detached, and on the CPU when it arrives."""
    torch = sys.modules["torch"]
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested or tensor.device.type == "meta":
        return NotImplemented  # torch takes a sparse tensor apart into dense ones, and these come back here
    tensor = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    data = _memory(tensor.reshape(-1).view(torch.uint8).numpy()) if tensor.numel() else b""
    return rebuild_tensor, (PickleBuffer(data), str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))


def rebuild_tensor(buffer: Any, dtype: str, shape: tuple[int, ...]) -> Any:
    import torch

    if 0 in shape:
        return torch.empty(shape, dtype=getattr(torch, dtype))
    return torch.from_numpy(_writable(buffer)).view(getattr(torch, dtype)).reshape(shape)


def reduce_image(image: Any) -> tuple[Any, ...]:
    """A PIL image: its pixels as they are. One that was opened from a file becomes an ordinary one."""
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


def _dtype_text(dtype: np.dtype[Any]) -> str | None:
    """The dtype as a short text, a tenth of its pickle, where that says it in full (not fields, metadata, bfloat16)."""
    text = dtype.str
    return text if dtype.metadata is None and np.dtype(text) == dtype else None


def _memory(array: Array) -> memoryview | bytes:
    """The memory of a contiguous array. (As bytes, because dates have no buffer of their own.)"""
    return array.reshape(-1).view(np.uint8).data if array.nbytes else b""


def _writable(buffer: Any) -> npt.NDArray[np.uint8]:
    """The bytes of a received buffer, writable, even where what was sent was not.

    pickle marks the buffer of a read-only array as read-only; the memory behind it was received for this very value.
    """
    if isinstance(buffer, memoryview) and buffer.readonly and isinstance(buffer.obj, np.ndarray):
        buffer = buffer.obj
    array = np.frombuffer(buffer, np.uint8)
    return array if array.flags.writeable else array.copy()


OWN_FUNCTIONS = frozenset({rebuild_array, rebuild_tensor, rebuild_image, resolve_class})
