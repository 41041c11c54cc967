"""Classes that exist only in a notebook or a function: how both ends of a connection know them as the same class.

Such a class has cloudpickle's tracker id, which it keeps in every process that it is sent to. Over a connection the
definition goes once and the id after that; the receiver looks among its own classes first, so that an instance comes
home as an instance of the very class it was made of. When that class has been re-run in its cell meanwhile, values are
fitted to the newest one. Pickling itself is codec.py's.
"""

from __future__ import annotations

import copyreg
import dataclasses
import enum
import pickle
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, PydanticUserError, RootModel, TypeAdapter, ValidationError

from nbcompose.errors import InvalidArgument
from nbcompose.schema.problems import in_short
from nbcompose.wire.cloudpickle_adapter import find_class, is_importable
from nbcompose.wire.named import newest

Reduced = tuple[Any, ...]

_active = threading.local()  # .table: the ClassTable of the body that this thread is reading


# -- the sender's side


def is_dynamic(cls: type) -> bool:
    """Whether another process could not import `cls`."""
    return cls.__module__ != "builtins" and not is_importable(cls)


def instance_reducer(cls: type) -> Callable[[Any], Any] | None:
    """How to reduce instances of a dynamic class so that they can be fitted to a newer definition, where they can."""
    if issubclass(cls, enum.Enum):
        return _reduce_member
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return _reduce_named_tuple
    if dataclasses.is_dataclass(cls) or issubclass(cls, BaseModel):
        return _reduce_record
    return None


def _reduce_member(member: enum.Enum) -> Reduced:
    return _revive_member, (type(member), member.name, member._value_)


def _reduce_named_tuple(value: Any) -> Reduced:
    return _revive_named_tuple, (type(value), tuple(value))


def _reduce_record(value: Any) -> Any:
    reduced = value.__reduce_ex__(5)
    plain = isinstance(reduced, tuple) and reduced[0] is copyreg.__newobj__ and len(reduced[1]) == 1  # type: ignore[attr-defined]
    if not plain or any(part is not None for part in reduced[3:]):
        return reduced  # a class with its own idea of pickling
    # State is set after the instance is known to the pickle, so that instances may refer to one another.
    cls = type(value)
    return _blank, (cls,), (cls, reduced[2]), None, None, _restore


# -- the receiver's side


class ClassTable:
    """The classes that one peer has defined, by key. Definitions are kept as bytes until an instance arrives."""

    def __init__(self) -> None:
        self._definitions: dict[str, bytes] = {}
        self._classes: dict[str, type] = {}

    def add(self, definitions: dict[str, bytes]) -> None:
        self._definitions.update(definitions)

    def resolve(self, key: str) -> type:
        """The class: this process's own if it has it, else made from the definition. Raises `LookupError`."""
        cls = self._classes.get(key) or find_class(key)
        if cls is None:
            definition = self._definitions.get(key)
            if definition is None:
                raise LookupError(f"a class with the id {key}, which has not been defined on this connection")
            cls = pickle.loads(definition)
        self._classes[key] = cls  # a strong reference: the definition comes only once
        self._definitions.pop(key, None)
        return cls

    def activate(self) -> ClassTable | None:
        """Make this the table of the bodies that this thread reads; returns the one before, for `restore`."""
        previous: ClassTable | None = getattr(_active, "table", None)
        _active.table = self
        return previous

    @staticmethod
    def restore(previous: ClassTable | None) -> None:
        _active.table = previous


def resolve_class(key: str) -> type:
    """What a class is pickled as: read with a `ClassTable` activated."""
    table: ClassTable | None = getattr(_active, "table", None)
    if table is None:
        raise LookupError("a class of a notebook can be read only where it was sent to")
    return table.resolve(key)


def is_record(cls: type) -> bool:
    """Whether instances are what their fields say, so that they can be fitted to another definition."""
    return instance_reducer(cls) is not None


def fitted(value: Any, target: type) -> Any:
    """A record as one of another definition of its class. Raises `InvalidArgument` where it does not fit."""
    if isinstance(value, enum.Enum):
        return _revive_member(type(value), value.name, value.value, target)
    fields = value._asdict() if isinstance(value, tuple) else _fields(value)  # type: ignore[attr-defined]
    return _fit(target, fields)


def _revive_member(cls: type[enum.Enum], name: str | None, value: Any, target: Any = None) -> Any:
    target = newest(cls) if target is None else target
    if target is cls or not issubclass(target, enum.Enum):
        return cls(value)
    if name is not None and name in target.__members__:
        return target.__members__[name]
    return _fit(target, value)


def _revive_named_tuple(cls: Any, values: tuple[Any, ...]) -> Any:
    target = newest(cls)
    if target is cls:
        return tuple.__new__(cls, values)
    return _fit(target, dict(zip(cls._fields, values, strict=False)))


def _blank(cls: type) -> Any:
    return _new(newest(cls))


def _restore(value: Any, state: tuple[type, Any]) -> None:
    cls, old_state = state
    if type(value) is cls:
        _set_state(value, old_state)
        return
    old = _new(cls)
    _set_state(old, old_state)
    _set_state(value, _fit(type(value), _fields(old)).__getstate__())


def _new(cls: Any) -> Any:
    return cls.__new__(cls)


def _set_state(value: Any, state: Any) -> None:
    """What unpickling does with the state of an object."""
    if hasattr(value, "__setstate__"):
        value.__setstate__(state)
        return
    attributes, slots = state if isinstance(state, tuple) else (state, None)
    if attributes:
        value.__dict__.update(attributes)
    for name, content in (slots or {}).items():
        object.__setattr__(value, name, content)


def _fields(value: Any) -> Any:
    if isinstance(value, RootModel):
        return value.root
    if isinstance(value, BaseModel):
        return {name: getattr(value, name) for name in type(value).model_fields} | (value.model_extra or {})
    return {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}


def _fit(target: type, fields: Any) -> Any:
    try:
        if unknown := _unknown(target, fields):
            raise ValueError(f"{', '.join(unknown)} is not known")
        try:
            return _adapter(target).validate_python(fields, by_name=True, by_alias=False)
        except PydanticUserError:
            # A field whose type pydantic does not know, or cannot find: the class itself is the judge.
            return target(**fields)
    except Exception as error:
        raise InvalidArgument(
            f"{target.__qualname__} is another one where this value was made: its cell was run again in between, and "
            f"the value does not fit: {_reason(error)}. `%services refresh` brings services up to date; a value that "
            "is the older one has to be made again"
        ) from error


def _unknown(target: Any, fields: Any) -> list[str]:
    """Fields that a record does not have: what is in them would be lost."""
    if issubclass(target, BaseModel):
        known = fields if target.model_config.get("extra") == "allow" else target.model_fields
    elif dataclasses.is_dataclass(target):
        known = [f.name for f in dataclasses.fields(target)]
    else:
        known = getattr(target, "_fields", fields)
    return sorted(set(fields) - set(known)) if isinstance(fields, dict) else []


def why(error: InvalidArgument) -> str:
    """Why `fitted` could not do it."""
    return _reason(error.__cause__ or error)


def _reason(error: BaseException) -> str:
    return in_short(error) if isinstance(error, ValidationError) else str(error)


@lru_cache(maxsize=64)
def _adapter(target: type) -> TypeAdapter[Any]:
    return TypeAdapter(target)
