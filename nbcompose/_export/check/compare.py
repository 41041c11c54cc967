"""Comparison of two answers: the same, the same except for rounding, or different, and where.

Answers are first converted to plain data (`plain`), which does not depend on the process and on its names of classes,
and can be sent without these classes.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

TOLERANCE = 1e-5  # relative
DEEPEST = 60  # levels; deeper values are compared by their text
LONGEST = 120  # characters of a value that are shown

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


@dataclass(frozen=True, slots=True)
class Record:
    """A value of some class, as plain data. `kind`: the name of the class."""

    kind: str
    fields: Any


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference of two plain values. `path`: its place in Python syntax; `here` and `there`: texts of the parts."""

    path: str
    here: str
    there: str
    close: bool = False  # by rounding only

    def __str__(self) -> str:
        return f"{self.path or 'it'} is {self.here} in the notebook and {self.there} in the script"


def plain(value: Any, depth: int = 0) -> Any:
    """Return `value` as builtins, numpy arrays and `Record`s."""
    if value is None or type(value) in (bool, int, float, complex, str, bytes):
        return value
    if depth > DEEPEST:
        return Record(type(value).__name__, _text(value))
    if isinstance(value, enum.Enum):
        return Record(type(value).__name__, value.name)
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return np.ma.filled(value) if isinstance(value, np.ma.MaskedArray) else np.asarray(value)
    if isinstance(value, np.ndarray | np.generic):
        return Record(f"numpy.{value.dtype}", plain(value.tolist(), depth + 1))
    try:
        return _container(value, depth + 1)
    except Exception:  # the methods of a user's class may raise anything
        return Record(type(value).__name__, _text(value))


def _container(value: Any, depth: int) -> Any:
    if isinstance(value, Mapping):
        return {_key(k): plain(v, depth) for k, v in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return Record(type(value).__name__, {n: plain(v, depth) for n, v in zip(value._fields, value, strict=True)})
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if type(value) is tuple:
        return tuple(plain(v, depth) for v in value)
    if isinstance(value, AbstractSet):
        return Record("set", sorted((plain(v, depth) for v in value), key=_text))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(v, depth) for v in value]
    return _object(value, depth)


def _object(value: Any, depth: int) -> Record:
    kind = type(value)
    name, module = kind.__name__, kind.__module__.partition(".")[0]
    if module == "torch" and name in ("Tensor", "Parameter"):
        return Record(str(value.dtype), _numbers(value))
    if module == "PIL":
        return Record(name, {"mode": value.mode, "size": value.size, "pixels": np.asarray(value)})
    if module == "pandas" and name == "DataFrame":
        columns = {str(c): plain(list(value[c]), depth) for c in value}
        return Record(name, {"index": plain(list(value.index), depth), **columns})
    if module == "pandas" and name == "Series":
        return Record(name, {"index": plain(list(value.index), depth), "values": plain(list(value), depth)})
    if isinstance(value, Path):
        return Record("Path", value.read_bytes() if value.is_file() else value.name)
    fields = _fields(value)
    return Record(name, _text(value) if fields is None else {n: plain(v, depth) for n, v in fields.items()})


def _numbers(tensor: Any) -> Any:
    """Return a tensor as an array; types that numpy lacks, such as bfloat16, are converted without loss."""
    tensor = tensor.detach().cpu()
    if str(tensor.layout) != "torch.strided":
        tensor = tensor.to_dense()
    if str(tensor.dtype).startswith(("torch.bfloat16", "torch.float8")):
        tensor = tensor.float()
    return tensor.numpy(force=True)


def _fields(value: Any) -> dict[str, Any] | None:
    if dataclasses.is_dataclass(value):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    names = getattr(type(value), "model_fields", None)
    if isinstance(names, Mapping):
        return {name: getattr(value, name) for name in names} | (getattr(value, "model_extra", None) or {})
    found = getattr(value, "__dict__", None)
    return dict(found) if found and not isinstance(value, str) else None


def _key(key: Any) -> Any:
    """Return a key that needs no class of the user."""
    if isinstance(key, tuple):
        return tuple(map(_key, key))
    return key if key is None or type(key) in (bool, int, float, str, bytes) else _text(key)


def differences(here: Any, there: Any, path: str = "") -> Iterator[Difference]:
    """Yield the differences of two plain values, in the order of the first one."""
    if isinstance(here, np.ndarray) and isinstance(there, np.ndarray):
        yield from _of_arrays(here, there, path)
    elif type(here) is not type(there):
        yield Difference(path, f"{_shown(here)} ({_kind(here)})", f"{_shown(there)} ({_kind(there)})")
    elif isinstance(here, Record):
        if here.kind != there.kind:
            yield Difference(path, here.kind, there.kind)
        else:
            yield from differences(here.fields, there.fields, path)
    elif isinstance(here, dict):
        yield from _of_dicts(here, there, path)
    elif isinstance(here, list | tuple):
        yield from _of_lists(here, there, path)
    elif isinstance(here, float | complex):
        if not (here == there or (here != here and there != there)):
            yield Difference(path, repr(here), repr(there), _is_close(here, there))
    elif isinstance(here, str) and here != there:
        yield Difference(path, *_texts(here, there))
    elif here != there:
        yield Difference(path, _shown(here), _shown(there))


def _of_dicts(here: dict[Any, Any], there: dict[Any, Any], path: str) -> Iterator[Difference]:
    for key in here:
        if key in there:
            yield from differences(here[key], there[key], f"{path}[{key!r}]")
        else:
            yield Difference(f"{path}[{key!r}]", _shown(here[key]), "missing")
    for key in there:
        if key not in here:
            yield Difference(f"{path}[{key!r}]", "missing", _shown(there[key]))


def _of_lists(here: Sequence[Any], there: Sequence[Any], path: str) -> Iterator[Difference]:
    if len(here) != len(there):
        yield Difference(f"len({path or 'it'})", str(len(here)), str(len(there)))
    for i, (one, other) in enumerate(zip(here, there, strict=False)):
        yield from differences(one, other, f"{path}[{i}]")


def _of_arrays(here: Any, there: Any, path: str) -> Iterator[Difference]:
    if here.dtype != there.dtype or here.shape != there.shape:
        yield Difference(path, _shown(here), _shown(there))
        return
    inexact = here.dtype.kind in "fc"
    if np.array_equal(here, there, equal_nan=inexact):
        return
    same = (here == there) | ((here != here) & (there != there))
    if np.all(same):  # NaT, or NaN in a field
        return
    places = np.argwhere(~same)
    first = tuple(int(i) for i in places[0])
    close = False
    if inexact:
        finite = np.abs(here[np.isfinite(here)])
        scale = float(finite.max()) if finite.size else 0.0
        close = bool(np.allclose(here, there, rtol=TOLERANCE, atol=TOLERANCE * scale, equal_nan=True))
    at = f"{path}[{', '.join(map(str, first))}]" if first else path
    more = f" ({len(places)} of {here.size} elements differ)" if len(places) > 1 else ""
    yield Difference(at, str(here[first]), f"{there[first]}{more}", close)


def _is_close(here: complex, there: complex) -> bool:
    if isinstance(here, float) and isinstance(there, float):
        return math.isclose(here, there, rel_tol=TOLERANCE)
    return abs(here - there) <= TOLERANCE * max(abs(here), abs(there))


def shape(value: Any) -> str:
    """Return the types of a plain value, and the shapes of its arrays: what repeated answers have in common."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, Record):
        return f"{value.kind}({shape(value.fields)})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k!r}: {shape(v)}" for k, v in sorted(value.items(), key=lambda i: repr(i[0]))) + "}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}[{' | '.join(sorted({shape(v) for v in value}))}]"
    return type(value).__name__


def _texts(here: str, there: str) -> tuple[str, str]:
    """Return two texts, from shortly before the first difference."""
    parting = next((i for i, (a, b) in enumerate(zip(here, there, strict=False)) if a != b), min(len(here), len(there)))
    start = max(0, parting - 20) if max(len(here), len(there)) > LONGEST else 0
    return tuple(("…" if start else "") + _short(repr(t[start:])) for t in (here, there))  # type: ignore[return-value]


def _kind(value: Any) -> str:
    return value.kind if isinstance(value, Record) else type(value).__name__


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array {value.dtype}{list(value.shape)}"
    if isinstance(value, Record):
        return f"{value.kind}({_short(_text(value.fields))})"
    return _short(_text(value))


def _text(value: Any) -> str:
    try:
        return _ADDRESS.sub("", repr(value))
    except Exception as error:  # the value's own method may raise anything
        return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
