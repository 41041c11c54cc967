"""What is kept of an argument or answer that is recorded (`Capture`).

That costs microseconds and runs no code of users: numbers and texts themselves, copies of small containers and of the
fields of records, the shape and the first elements of an array, references to other objects.

Nothing that is kept refers to shared memory: where something in this process reads a segment, objects of unknown
content are not kept. Neither are values whose names say that they are secret.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import math
import pathlib
import re
import sys
import uuid
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from nbcompose._rpc import reads_segments
from nbcompose._units import human_size
from nbcompose._user_exceptions import in_short, name_of

VALUE = 2**20  # bytes of an object that is kept by reference; of a larger one only the kind is
UNKNOWN = 64 * 2**10  # bytes that an object is taken for which does not say how large it is
TEXT = 4_000  # characters of a text that is kept, of an argument or of an item
ITEMS = 32  # of a container
KEY = 200  # characters of a key of a dict
VALUES = 200  # containers and objects in an argument or an answer
DEPTH = 6  # of containers in one another
ARRAY = 4096  # bytes of an array that is copied
HEAD = 6  # elements of a larger one
SHOWN = 2_000  # characters of an argument or answer, when it is made a text


# -- secrets

_ALWAYS = frozenset({
    "password", "passwd", "pwd", "passphrase", "secret", "secrets", "authorization", "credential", "credentials",
    "cookie", "cookies", "bearer", "apikey",
})  # fmt: skip
_KEYS = frozenset({"api", "access", "private", "secret", "signing", "encryption", "session", "auth", "ssh"})
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


@lru_cache(4096)
def is_secret_name(name: str) -> bool:
    """Whether a name says that its value is secret: `password`, `api_key`, `hf_token`, `X-Authorization`; not
    `max_tokens` or `token_ids`.
    """
    words = [word.lower() for word in _WORDS.findall(name)]
    return (
        not _ALWAYS.isdisjoint(words)
        or words[-1:] == ["token"]
        or any(second in ("key", "keys") and first in _KEYS for first, second in pairwise(words))
    )


class Shown:
    """Stands for a value of which only this text is kept."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


MASK = Shown("•••")
MORE = Shown("…")


class Fields:
    """The fields of a dataclass, a model, a named tuple or a plain object, as they were."""

    __slots__ = ("kind", "values")

    def __init__(self, kind: str, values: Mapping[str, Any]) -> None:
        self.kind = kind
        self.values = values

    def __repr__(self) -> str:
        return f"{self.kind}({', '.join(f'{name}={in_short(value, SHOWN)}' for name, value in self.values.items())})"


class ArrayHead:
    """What is kept of a large array or tensor."""

    __slots__ = ("dtype", "head", "kind", "shape")

    def __init__(self, kind: str, shape: tuple[int, ...], dtype: str, head: list[Any]) -> None:
        self.kind = kind
        self.shape = shape
        self.dtype = dtype
        self.head = head

    def __repr__(self) -> str:
        shape = " × ".join(map(str, self.shape))
        head = f": {', '.join(map(_element, self.head))}, …" if self.head else ""
        return f"<{self.kind} {shape} {self.dtype}{head}>"


def _element(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


# -- what is kept of a value

_SCALARS = frozenset({int, float, bool, complex, type(None)})
_TEXTS = frozenset({str, bytes})
PLAIN = _SCALARS | _TEXTS  # kept as they are, a long text but for its end
_LISTS = frozenset({list, tuple, set, frozenset, deque})
_IMMUTABLE = (
    datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo, decimal.Decimal, fractions.Fraction, uuid.UUID,
    pathlib.PurePath, enum.Enum, range, type, np.generic, np.dtype,
)  # fmt: skip


class Capture:
    """Takes the values of one call. `size`: bytes that they take, by estimate; `held`: some are kept by reference, so
    that they are shown as they are when somebody asks; `secrets`: texts that were left out.
    """

    __slots__ = ("_left", "held", "secrets", "size")

    def __init__(self) -> None:
        self.size = 0
        self.held = False
        self.secrets: tuple[str, ...] = ()
        self._left = VALUES

    def of(self, value: Any) -> Any:
        """Return what is kept of an argument, an answer or an item."""
        kind = type(value)
        if kind in _SCALARS and kind is not int:
            return value
        self._left = VALUES
        return self._of(value, kind, DEPTH)

    def named(self, name: str, value: Any) -> Any:
        """As `of`; nothing is kept where the name says that the value is secret."""
        if is_secret_name(name) and self._is_secret(value):
            return MASK
        return self.of(value)

    def _is_secret(self, value: Any) -> bool:
        """Whether the value of a secret's name can be one: numbers count tokens."""
        if value is None or isinstance(value, bool | int | float) or value in ("", b""):
            return False
        if isinstance(value, str):
            self.secrets = (*self.secrets, value)
        return True

    def _of(self, value: Any, kind: type, depth: int) -> Any:
        if kind in _SCALARS:
            return value if kind is not int else self._sized(value, sys.getsizeof(value))
        if kind in _TEXTS:
            length = len(value)
            self.size += min(length, TEXT) + 50
            return value if length <= TEXT else Shown(f"{value[:TEXT]!r}… ({length:,} {_UNITS[kind]})")
        self._left -= 1
        if depth <= 0 or self._left <= 0:
            return MORE
        if kind in _LISTS:
            return self._list(value, depth)
        if issubclass(kind, dict):
            return self._dict(value, depth)
        if issubclass(kind, _IMMUTABLE):
            return self._sized(value, 100)
        if issubclass(kind, np.ndarray):
            return self._array(value)
        found = _fields(value, kind)
        if found is not None:
            return self._record(found, kind, depth)
        return self._other(value, kind)

    def _sized(self, value: Any, size: int) -> Any:
        if size > TEXT:
            return Shown(f"<{name_of(type(value))} of {human_size(size)}>")
        self.size += size
        return value

    def _list(self, value: Any, depth: int) -> Any:
        self.size += 64
        kept: list[Any] = []
        for item in value:
            if len(kept) >= ITEMS or self._left <= 0:
                kept.append(Shown(f"… {len(value) - len(kept):,} more"))
                break
            kind = type(item)
            kept.append(item if kind in _SCALARS else self._of(item, kind, depth - 1))
            self.size += 32
        return tuple(kept) if type(value) is tuple else Items(kept) if isinstance(value, set | frozenset) else kept

    def _dict(self, value: dict[Any, Any], depth: int) -> dict[Any, Any]:
        self.size += 64
        kept: dict[Any, Any] = {}
        for key, item in dict.items(value):
            if len(kept) >= ITEMS or self._left <= 0:
                kept[MORE] = Shown(f"{len(value) - len(kept):,} more")
                break
            kind = type(item)
            secret = type(key) is str and is_secret_name(key[:KEY]) and self._is_secret(item)
            kept[_key(key)] = MASK if secret else self._of(item, kind, depth - 1)
            self.size += 64
        return kept

    def _record(self, found: Iterable[tuple[str, Any]], kind: type, depth: int) -> Fields:
        self.size += 100
        kept: dict[str, Any] = {}
        for name, item in found:
            if len(kept) >= ITEMS:
                kept["…"] = MORE
                break
            secret = is_secret_name(name) and self._is_secret(item)
            kept[name] = MASK if secret else self._of(item, type(item), depth - 1)
            self.size += 64
        return Fields(name_of(kind), kept)

    def _array(self, value: np.ndarray[Any, Any]) -> Any:
        if value.dtype.hasobject:
            return ArrayHead("array", value.shape, str(value.dtype), [])
        if value.nbytes <= ARRAY:
            self.size += value.nbytes + 100
            return value.copy()
        self.size += 400
        return ArrayHead("array", value.shape, str(value.dtype), value.flat[:HEAD].tolist())

    def _other(self, value: Any, kind: type) -> Any:
        """Keep an object of unknown content by reference, if it is small and nothing of it can be in shared memory."""
        top = _top(kind)
        if top == "torch" and hasattr(value, "device"):
            self.size += 400
            return _tensor(value, kind)
        if top == "pydantic" and "Secret" in kind.__name__:
            return MASK
        size = _estimate(value, kind)
        if size > VALUE or reads_segments() or isinstance(value, bytearray | memoryview):
            return Shown(_kind_text(value, kind, size))
        self.size += size
        self.held = True
        return value


def _key(key: Any) -> Any:
    kind = type(key)
    if kind in _SCALARS or (kind in _TEXTS and len(key) <= KEY):
        return key
    return Shown(in_short(key, KEY)) if kind in _TEXTS else Shown(f"<{name_of(kind)}>")


class Items(list[Any]):
    """The items of a set, some of which may stand for others that cannot be in a set."""

    def __repr__(self) -> str:
        return "{" + ", ".join(in_short(item, SHOWN) for item in self) + "}"


_UNITS: dict[type, str] = {str: "characters", bytes: "bytes"}


_NAMES: WeakKeyDictionary[type, tuple[str, ...] | None] = WeakKeyDictionary()
_EVERYTHING = ("*",)  # of an object that its class says nothing about


def _fields(value: Any, kind: type) -> Iterable[tuple[str, Any]] | None:
    """Return the fields of a record that its `repr` shows, without running its code; None for other objects."""
    if kind not in _NAMES:
        _NAMES[kind] = _field_names(kind)
    names = _NAMES[kind]
    if names is None:
        return None
    if issubclass(kind, tuple):
        return zip(names, tuple.__iter__(value), strict=False)
    space = _space(value)
    if names is _EVERYTHING:
        return [(name, item) for name, item in list(dict.items(space)) if isinstance(name, str)]
    return [(name, space[name] if name in space else _slot(value, name)) for name in names]


def _field_names(kind: Any) -> tuple[str, ...] | None:
    if issubclass(kind, tuple):
        return getattr(kind, "_fields", None)
    if is_dataclass(kind):
        return tuple(f.name for f in fields(kind) if f.repr)
    models: Any = getattr(kind, "model_fields", None)  # of pydantic
    if isinstance(models, dict):
        return tuple(name for name, found in models.items() if getattr(found, "repr", True))
    attributes: Any = getattr(kind, "__attrs_attrs__", None)
    if attributes is not None:
        return tuple(a.name for a in attributes if a.repr is not False)
    return _EVERYTHING if kind.__repr__ is object.__repr__ and kind.__dictoffset__ else None


def _space(value: Any) -> dict[str, Any]:
    try:
        space: dict[str, Any] = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return space


def _slot(value: Any, name: str) -> Any:
    try:
        return object.__getattribute__(value, name)
    except AttributeError:
        return MORE


def _tensor(value: Any, kind: type) -> ArrayHead:
    head: list[Any] = []
    if value.device.type == "cpu" and value.layout.__repr__() == "torch.strided" and value.is_contiguous():
        head = value.detach().reshape(-1)[:HEAD].tolist()
    where = "" if value.device.type == "cpu" else f", {value.device}"
    return ArrayHead(name_of(kind), tuple(value.shape), str(value.dtype).removeprefix("torch.") + where, head)


def _top(kind: type) -> str:
    """Return the name of the package that a class is from."""
    name = kind.__module__
    return name.partition(".")[0] if isinstance(name, str) else ""


def _estimate(value: Any, kind: type) -> int:
    """Return about how many bytes an object takes; more than `VALUE` where it is on another device."""
    shape = getattr(value, "shape", None) if _top(kind) in _TABLES else None
    if isinstance(shape, tuple):
        return 16 * math.prod(n for n in shape if isinstance(n, int)) + 1000
    if _top(kind) == "PIL":
        return 4 * int(math.prod(value.size))
    size = UNKNOWN
    for part in list(dict.values(_space(value)))[:ITEMS]:
        if isinstance(part, str | bytes | list | tuple | dict | set):
            size += 64 * len(part)
        elif isinstance(part, np.ndarray):
            size += part.nbytes
        elif _top(type(part)) == "torch":
            size += VALUE
    return size


_TABLES = frozenset({"pandas", "polars", "pyarrow", "scipy", "xarray"})


def _kind_text(value: Any, kind: type, size: int) -> str:
    if isinstance(value, bytearray | memoryview):
        return f"<{name_of(kind)} of {human_size(memoryview(value).nbytes)}>"
    shape = getattr(value, "shape", None) if _top(kind) in _TABLES else None
    shape = value.size if _top(kind) == "PIL" else shape
    words = [name_of(kind), *([" × ".join(map(str, shape))] if isinstance(shape, tuple) else [])]
    return f"<{' '.join(words)}>"
