"""The inputs of several calls as one, and one result as several: lists, arrays, tensors, DataFrames.

When calls are joined is decided in `batching.py`. The libraries are looked up in `sys.modules`: a value of theirs
cannot be here unless they have been imported.

Rows of pandas have labels, their index, and joining must not show in them. Rows that are merely *numbered* (from 0, by
pandas itself) are numbered through when they are joined, and each caller's from 0 when they are split. Rows that have
labels keep them, and are joined only where no label would be there twice.
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
        form = (tuple(batch.columns), tuple(batch.dtypes), _labels(batch.index))
    elif _is(batch, "pandas", "Series"):
        form = (batch.name, batch.dtype, _labels(batch.index))
    return type(batch), form


def clashes(batch: Any, others: Sequence[Any]) -> bool:
    """Whether a label of these rows is among those of `others`, of the same kind: joined, they would be there twice."""
    if not _is(batch, "pandas", "DataFrame", "Series") or _is_numbered(batch.index):
        return False
    return any(bool(other.index.isin(batch.index).any()) for other in others)


def join(batches: Sequence[Any], dim: int) -> Any:
    """One batch of all items, in order. One batch alone is passed on as it is."""
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
    numbered = all(_is_numbered(b.index) for b in batches)
    return sys.modules["pandas"].concat(list(batches), ignore_index=numbered)


def split(batch: Any, lengths: Sequence[int], dim: int) -> list[Any]:
    """Consecutive parts of `batch`, of these lengths. One part is the batch itself; arrays and tensors are views."""
    if len(lengths) == 1:
        return [batch]
    return [_part(batch, start, stop, dim) for start, stop in _spans(lengths)]


def labelled(result: Any, items: Any) -> Any:
    """The result for `items` with their index, where both are pandas: as an api that keeps to its rows returns it.

    So are rows that the api has merely numbered: their numbers are those of the batch, and say nothing to a caller.
    Labels that the api has set itself are kept.
    """
    if not (_is(result, "pandas", "DataFrame", "Series") and _is(items, "pandas", "DataFrame", "Series")):
        return result
    index, wanted = result.index, items.index
    if index is wanted or not (_is_numbered(index) or (index.names == wanted.names and index.equals(wanted))):
        return result
    result = result.copy(deep=False)  # the api may have kept it
    result.index = wanted
    return result


def _part(batch: Any, start: int, stop: int, dim: int) -> Any:
    if _is(batch, "pandas", "DataFrame", "Series"):
        rows = batch.iloc[start:stop]
        return rows.reset_index(drop=True) if _is_numbered(batch.index) else rows
    if isinstance(batch, list | tuple):
        return batch[start:stop]
    index = [slice(None)] * batch.ndim
    index[dim] = slice(start, stop)
    return batch[tuple(index)]


def _spans(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    return pairwise(accumulate(lengths, initial=0))


def _is_numbered(index: Any) -> bool:
    """Whether rows are numbered from 0 and have no other labels."""
    return bool(_is(index, "pandas", "RangeIndex") and index.start == 0 and index.step == 1 and index.names == [None])


def _labels(index: Any) -> Hashable:
    """Equal for indices that become one without changing."""
    if _is_numbered(index):
        return None
    types = tuple(index.dtypes) if index.nlevels > 1 else index.dtype
    return tuple(index.names), types


def _item_shape(array: Any, dim: int) -> tuple[int, ...]:
    shape = list(array.shape)
    del shape[dim]
    return tuple(shape)


def _is(value: Any, module: str, *names: str) -> bool:
    library = sys.modules.get(module)
    return library is not None and any(isinstance(value, getattr(library, name)) for name in names)
