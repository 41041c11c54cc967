"""Joining the inputs of several calls to one batch, and splitting its result: lists, arrays, tensors, DataFrames.

`_replica/batching.py` decides which calls are joined. The libraries are looked up in `sys.modules`: their values cannot
occur unless they have been imported.

Joining must not be visible in the row labels (index) of pandas objects. Rows that are merely *numbered* (from 0, by
pandas itself) are renumbered consecutively when joined, and from 0 for each caller when split. Rows with other labels
keep them, and are joined only if no label would occur twice.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterator, Sequence
from itertools import accumulate, chain, pairwise
from typing import Any

from nbcompose._units import with_article

FORMS = "a list, tuple, numpy array, torch tensor, DataFrame or Series"


def length(batch: Any, dim: int) -> int:
    """Return the number of items in `batch` along `dim`. Raises TypeError if it cannot be split into items."""
    if isinstance(batch, list | tuple) or _is(batch, "pandas", "DataFrame", "Series"):
        if dim != 0:
            raise TypeError(f"{with_article(type(batch).__name__)} has only dimension 0, not {dim}")
        return len(batch)
    if _is(batch, "numpy", "ndarray") or _is(batch, "torch", "Tensor"):
        shape = tuple(batch.shape)
        if not -len(shape) <= dim < len(shape):
            raise TypeError(f"{with_article(type(batch).__name__)} of shape {shape} has no dimension {dim}")
        return int(shape[dim])
    raise TypeError(f"expected {FORMS}, got {type(batch).__name__}")


def kind(batch: Any, dim: int) -> Hashable:
    """Return a key that is equal for batches that can be joined unchanged: same type, dtype and item shape."""
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
    """Whether a row label of `batch` also occurs in `others` (of the same kind), so that it would be duplicated."""
    if not _is(batch, "pandas", "DataFrame", "Series") or _is_numbered(batch.index):
        return False
    return any(bool(other.index.isin(batch.index).any()) for other in others)


def join(batches: Sequence[Any], dim: int) -> Any:
    """Return one batch of all items, in order. A single batch is returned as it is."""
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
    """Return consecutive parts of `batch`, of these lengths. A single part is the batch itself; parts of arrays and
    tensors are views.
    """
    if len(lengths) == 1:
        return [batch]
    return [_part(batch, start, stop, dim) for start, stop in _spans(lengths)]


def labelled(result: Any, items: Any) -> Any:
    """Return `result` with the index of `items` if both are pandas objects and the api has set no labels itself.

    Rows that the api has merely numbered get the index of `items` too: their numbers refer to the batch and mean
    nothing to a caller. Labels that the api has set itself are kept.
    """
    if not (_is(result, "pandas", "DataFrame", "Series") and _is(items, "pandas", "DataFrame", "Series")):
        return result
    index, wanted = result.index, items.index
    if index is wanted or not (_is_numbered(index) or (index.names == wanted.names and index.equals(wanted))):
        return result
    result = result.copy(deep=False)  # the api may have kept a reference to it
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
    """Return a key that is equal for indices that can be concatenated unchanged."""
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
