"""Classes that exist only in a notebook: how both ends of a connection know them as the same class. cloudpickle's
private parts.

Seen to hold from 3.1.0 to 3.1.3; tests/canaries/test_cloudpickle.py fails first where a release changes one of these.

- `Pickler` is C pickle's, asks `reducer_override` first, and can be extended there (public name, undocumented hook).
- `_should_pickle_by_reference`: what another process could import.
- A class that goes by value has a tracker id, which it keeps in every process (`_get_or_create_tracker_id`,
  `_DYNAMIC_CLASS_TRACKER_BY_ID`, `_DYNAMIC_CLASS_TRACKER_BY_CLASS`): where that id is known, no second class is made.
- Such a class is reduced (`_dynamic_class_reduce`) to `_make_skeleton_class` or `_make_skeleton_enum`, whose last two
  arguments are the id and None, and to a state of (members, slots), which `_class_setstate` sets.
- A function is reduced (`Pickler._dynamic_function_reduce`) to `_make_function` with its code and its globals as the
  first two arguments, and to a state of (attributes, slots); of the slots `__globals__` holds what its code names, and
  `_cloudpickle_submodules` is of no meaning.
- Functions that share their globals will share them again: a Pickler keeps in `globals_ref`, by the `id` of these, what
  they will be, and takes what it finds there.
- A module is named by `subimport`.

What is *not* left to cloudpickle is code: 3.1.3 writes `<dynamic-code>` in place of the file, and tracebacks lose
their lines. Here code is what it was, to the last line number, whatever cloudpickle makes of it. And a class keeps its
`__qualname__`, by which pickle looks for one that stands in another.

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
from types import CodeType, FunctionType
from typing import Any, Literal, NamedTuple

from cloudpickle import cloudpickle
from pydantic import BaseModel, PydanticUserError, RootModel, TypeAdapter, ValidationError

from nbcompose._rpc.notebook_objects import newest
from nbcompose._schema import in_short
from nbcompose.errors import InvalidArgument

Reduced = tuple[Any, ...]

# -- code

# All that `CodeType.replace` takes, which is all that a code object is made of.
_CODE_FIELDS = (
    "co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_nlocals", "co_stacksize", "co_flags",
    "co_firstlineno", "co_code", "co_consts", "co_names", "co_varnames", "co_freevars", "co_cellvars", "co_filename",
    "co_name", "co_qualname", "co_linetable", "co_exceptiontable",
)  # fmt: skip
_BLANK = compile("", "", "exec")


def reduce_code(code: CodeType) -> Reduced:
    """Code as it is, with its file, its names and its lines."""
    return make_code, tuple(getattr(code, name) for name in _CODE_FIELDS)


def make_code(*fields: Any) -> CodeType:
    """The inverse of `reduce_code`."""
    return _BLANK.replace(**dict(zip(_CODE_FIELDS, fields, strict=True)))


# -- pickling


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """cloudpickle's, with code as it is, and with the place of a class that stands in another."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is CodeType:
            return reduce_code(value)
        reduced = super().reducer_override(value)
        if isinstance(value, type) and value.__qualname__ != value.__name__ and _kind(reduced) == "class":
            members, _ = reduced[2]
            members["__qualname__"] = value.__qualname__
        return reduced

    def share_globals(self, space: dict[str, Any], stand_in: Any) -> None:
        """Functions whose globals are `space` will have what `stand_in` becomes."""
        self.globals_ref[id(space)] = stand_in

    def reduce_function(self, function: FunctionType) -> Reduced:
        """A function by value, wherever it is defined."""
        reduced: Reduced = self._dynamic_function_reduce(function)
        return reduced


class Unpickler(pickle.Unpickler):
    """Reads what a `Pickler` wrote; extend `set_class_state` to have a say in what becomes of classes."""

    def find_class(self, module: str, name: str) -> Any:
        mine = (module, name) == (cloudpickle.__name__, "_class_setstate")
        return self.set_class_state if mine else super().find_class(module, name)

    def set_class_state(self, cls: type[Any], state: Any) -> type[Any]:
        """Fill a class, new or known, with what it had where it was pickled: `state` is (members, slots)."""
        made: type[Any] = cloudpickle._class_setstate(cls, state)
        return made


def set_class_state(cls: type[Any], members: dict[str, Any]) -> None:
    """Give a class that is known already other members."""
    cloudpickle._class_setstate(cls, (members, {}))


Kind = Literal["module", "class", "function", "other"]
# By name: where a release has another, the canaries are to say so, and not an import that fails.
_KINDS: dict[str, Kind] = {
    "subimport": "module",
    "_make_skeleton_class": "class",
    "_make_skeleton_enum": "class",
    "_make_function": "function",
}


def kind_of_global(module: str, name: str) -> Kind | None:
    """What a global of a pickle stands for, if it is cloudpickle's: what makes a module, a class, a function, or
    something else; None where it is not cloudpickle's.
    """
    if module.partition(".")[0] != "cloudpickle":
        return None
    return _KINDS.get(name, "other")


def untracked(arguments: Reduced) -> Reduced:
    """The arguments that make a class, so that they make a new one also where its like is known."""
    *described, _, extra = arguments
    return (*described, None, extra)


# -- what pickling a class or function by value says


class ClassParts(NamedTuple):
    """A class as cloudpickle takes it apart. `make(*described)` makes an empty one, which nothing keeps track of."""

    make: Any
    described: Reduced
    key: str
    members: dict[str, Any]
    slots: Any
    rest: Reduced


class FunctionParts(NamedTuple):
    """A function likewise. `slots`: its globals (`__globals__`, where its code names any), defaults, and the like."""

    make: Any
    described: Reduced
    attributes: dict[str, Any]
    slots: dict[str, Any]
    rest: Reduced


def reduce_class(cls: type[Any]) -> Reduced:
    """A class by value, wherever it is defined."""
    reduced: Reduced = cloudpickle._dynamic_class_reduce(cls)
    return reduced


def class_parts(reduced: Any) -> ClassParts | None:
    """The parts of a class that goes by value; None where it goes in another way."""
    if _kind(reduced) != "class":
        return None
    make, arguments, (members, slots), *rest = reduced
    return ClassParts(make, untracked(arguments), arguments[-2], members, slots, tuple(rest))


def function_parts(reduced: Any) -> FunctionParts | None:
    """The parts of a function that goes by value, its module's names left out; None where it goes in another way."""
    if _kind(reduced) != "function":
        return None
    make, (code, _, *others), (attributes, slots), *rest = reduced
    slots = {name: value for name, value in slots.items() if name != "_cloudpickle_submodules"}
    return FunctionParts(make, (code, {}, *others), attributes, slots, tuple(rest))


def _kind(reduced: Any) -> Kind | None:
    """What a reduction makes, as `kind_of_global` calls it."""
    made = reduced[0] if isinstance(reduced, tuple) else None
    return kind_of_global(getattr(made, "__module__", None) or "", getattr(made, "__name__", ""))


# -- which classes are known, and as what


def is_importable(cls: type) -> bool:
    """Whether another process could import a class."""
    return bool(cloudpickle._should_pickle_by_reference(cls))


def class_key(cls: type) -> str:
    """The id of a class that goes by value, the same in every process that has it; it gets one here if need be."""
    return str(cloudpickle._get_or_create_tracker_id(cls))


def find_class(key: str) -> type | None:
    """The class of this process with that key."""
    cls: type | None = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(key)
    return cls


def known_classes() -> set[type]:
    """The classes of this process that have a key."""
    return set(cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS)


def forget_class(cls: type) -> None:
    """Have the class made anew when it comes again; without this, what comes would be put into the one that is here."""
    key = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS.pop(cls, None)
    if key is not None:
        cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.pop(key, None)


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
