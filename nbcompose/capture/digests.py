"""Digests of what cloudpickle can send: equal for what means the same. Comments and places do not count.

Values are taken apart by pickle, so whatever can be sent to a replica can be compared.
"""

from __future__ import annotations

import hashlib
from types import CodeType
from typing import Any
from uuid import uuid4

from cloudpickle import cloudpickle

from nbcompose.declaration import Service

_TRACKER_LENGTH = 32  # of the random id that cloudpickle gives a class


class TooLarge(Exception):
    """There is more of it than was to be looked at."""


def digest_of(value: Any, limit: int | None = None) -> str:
    """The digest of a value, a function or a class. One that cannot be told is like no other.

    Raises `TooLarge` for a value of more than `limit` bytes.
    """
    sink = _Sink(limit)
    try:
        _Meaning(sink, protocol=5, buffer_callback=sink.take_buffer).dump(value)
    except TooLarge:
        raise
    except Exception:
        return uuid4().hex
    return sink.hexdigest()


def identity_of(cls: type[Any]) -> str:
    """Tells a class that was made in this process from one that was made by running its cell again."""
    return str(cloudpickle._get_or_create_tracker_id(cls))


class _Sink:
    """A file that only remembers a digest."""

    def __init__(self, limit: int | None) -> None:
        self._digest = hashlib.sha256()
        self._left = limit

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        if self._left is not None:
            self._left -= size
            if self._left < 0:
                raise TooLarge
        self._digest.update(data)
        return size

    def take_buffer(self, buffer: Any) -> None:
        self.write(buffer.raw())

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


class _Meaning(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles what matters, where cloudpickle pickles all that is needed to make it again."""

    def persistent_id(self, thing: Any) -> Any:
        if isinstance(thing, CodeType):
            return ("code", *_code(thing))
        if isinstance(thing, Service):
            return ("service", thing.name)
        if (
            isinstance(thing, str)
            and len(thing) == _TRACKER_LENGTH
            and thing in cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID
        ):
            return "class"
        return None


def _code(code: CodeType) -> tuple[Any, ...]:
    """Everything of a code object but where it was written."""
    return (
        code.co_name, code.co_code, code.co_consts, code.co_names, code.co_varnames, code.co_freevars,
        code.co_cellvars, code.co_flags, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount,
        getattr(code, "co_exceptiontable", b""),
    )  # fmt: skip
