"""The inputs of several calls as one, and one result as several: lists, arrays, tensors, DataFrames.

When calls are joined is decided in `batcher.py`. The libraries are looked up in `sys.modules`: a value of theirs
cannot be here unless they have been imported.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterator, Sequence
from itertools import accumulate, chain, pairwise
from typing import Any

FORMS = "a list, tuple, numpy array, torch tensor, DataFrame or Series"


def length(batch: Any, dim: int) -> int:
    """How many items `batch` holds along `dim`. Raises TypeError for what cannot be split into items."""
    if isinstance(batch, list | tuple) or _is(batch, "pandas", "DataFrame", "Series"):
        if dim != 0:
            raise TypeError(f"a {type(batch).__name__} has only dimension 0, not {dim}")
        return len(batch)
    if _is(batch, "numpy", "ndarray") or _is(batch, "torch", "Tensor"):
        shape = tuple(batch.shape)
        if not -len(shape) <= dim < len(shape):
            raise TypeError(f"a {type(batch).__name__} of shape {shape} has no dimension {dim}")
        return int(shape[dim])
    raise TypeError(f"expected {FORMS}, got {type(batch).__name__}")


def kind(batch: Any, dim: int) -> Hashable:
    """Equal for batches that can be joined without changing any of them: one type, dtype, and shape of an item."""
    form: Hashable = None
    if _is(batch, "numpy", "ndarray"):
        form = (batch.dtype.str, _item_shape(batch, dim))
    elif _is(batch, "torch", "Tensor"):
        form = (batch.dtype, str(batch.device), _item_shape(batch, dim))
    elif _is(batch, "pandas", "DataFrame"):
        form = (tuple(batch.columns), tuple(batch.dtypes))
    elif _is(batch, "pandas", "Series"):
        form = (batch.name, batch.dtype)
    return type(batch), form


def join(batches: Sequence[Any], dim: int) -> Any:
    """One batch of all items, in order. One batch alone is passed on as it is; joined pandas rows are renumbered."""
    first = batches[0]
    if len(batches) == 1:
        return first
    if isinstance(first, tuple):
        return tuple(chain.from_iterable(batches))
    if isinstance(first, list):
        return list(chain.from_iterable(batches))
    if _is(first, "numpy", "ndarray"):
        return sys.modules["numpy"].concatenate(batches, axis=dim)
    if _is(first, "torch", "Tensor"):
        return sys.modules["torch"].cat(tuple(batches), dim=dim)
    return sys.modules["pandas"].concat(list(batches), ignore_index=True)


def split(batch: Any, lengths: Sequence[int], dim: int) -> list[Any]:
    """Consecutive parts of `batch`, of these lengths. Arrays and tensors are views; pandas rows count from 0."""
    return [_part(batch, start, stop, dim) for start, stop in _spans(lengths)]


def _part(batch: Any, start: int, stop: int, dim: int) -> Any:
    if _is(batch, "pandas", "DataFrame", "Series"):
        return batch.iloc[start:stop].reset_index(drop=True)
    if isinstance(batch, list | tuple):
        return batch[start:stop]
    index = [slice(None)] * batch.ndim
    index[dim] = slice(start, stop)
    return batch[tuple(index)]


def _spans(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    return pairwise(accumulate(lengths, initial=0))


def _item_shape(array: Any, dim: int) -> tuple[int, ...]:
    shape = list(array.shape)
    del shape[dim]
    return tuple(shape)


def _is(value: Any, module: str, *names: str) -> bool:
    library = sys.modules.get(module)
    return library is not None and any(isinstance(value, getattr(library, name)) for name in names)
