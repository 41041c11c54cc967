"""Pickling of classes that exist only in a notebook, so that both ends of a connection identify them as the same class.

Such a class has cloudpickle's tracker id, which it keeps in every process that it is sent to. A connection sends the
definition once and then only the id. The receiver searches its own classes first, so that an instance that returns to
its process has the class it was made from. If the cell of that class has been run again in the meantime, values are
fitted to the newest definition.

This module is the only user of cloudpickle's private interfaces. They hold for 3.1.0 to 3.1.3;
tests/canaries/test_cloudpickle.py fails first if a release changes one of them:

- `Pickler` is C pickle's, calls `reducer_override` first, and can be extended there (public name, undocumented hook).
- `_should_pickle_by_reference`: whether another process could import a class or function.
- A class that is pickled by value has a tracker id, which it keeps in every process (`_get_or_create_tracker_id`,
  `_DYNAMIC_CLASS_TRACKER_BY_ID`, `_DYNAMIC_CLASS_TRACKER_BY_CLASS`): where that id is known, no second class is made.
- Such a class is reduced (`_dynamic_class_reduce`) to `_make_skeleton_class` or `_make_skeleton_enum`, whose last two
  arguments are the id and None, and to a state of (members, slots), which `_class_setstate` sets.
- A function is reduced (`Pickler._dynamic_function_reduce`) to `_make_function` with its code and its globals as the
  first two arguments, and to a state of (attributes, slots); of the slots, `__globals__` holds the globals that its
  code names, and `_cloudpickle_submodules` can be ignored.
- Functions that share their globals share them again after unpickling: a Pickler maps the `id` of a globals dict to the
  future one in `globals_ref`, and uses an entry that is already there.
- A module is pickled as a call of `subimport`.

Code objects are *not* left to cloudpickle: 3.1.3 replaces their file by `<dynamic-code>`, and tracebacks lose their
source lines. Here code keeps its file and line numbers. A class also keeps its `__qualname__`, by which pickle finds a
nested class.
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

# All arguments of `CodeType.replace`, which are all the fields of a code object.
_CODE_FIELDS = (
    "co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_nlocals", "co_stacksize", "co_flags",
    "co_firstlineno", "co_code", "co_consts", "co_names", "co_varnames", "co_freevars", "co_cellvars", "co_filename",
    "co_name", "co_qualname", "co_linetable", "co_exceptiontable",
)  # fmt: skip
_BLANK = compile("", "", "exec")


def reduce_code(code: CodeType) -> Reduced:
    """Reduce a code object with its file, names and line numbers unchanged."""
    return make_code, tuple(getattr(code, name) for name in _CODE_FIELDS)


def make_code(*fields: Any) -> CodeType:
    """The inverse of `reduce_code`."""
    return _BLANK.replace(**dict(zip(_CODE_FIELDS, fields, strict=True)))


# -- pickling


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """cloudpickle's pickler, but it keeps code objects unchanged and the `__qualname__` of nested classes."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is CodeType:
            return reduce_code(value)
        reduced = super().reducer_override(value)
        if isinstance(value, type) and value.__qualname__ != value.__name__ and _kind(reduced) == "class":
            members, _ = reduced[2]
            members["__qualname__"] = value.__qualname__
        return reduced

    def share_globals(self, space: dict[str, Any], stand_in: Any) -> None:
        """Give functions whose globals are `space` the unpickled `stand_in` as their globals."""
        self.globals_ref[id(space)] = stand_in

    def reduce_function(self, function: FunctionType) -> Reduced:
        """Reduce a function by value, wherever it is defined."""
        reduced: Reduced = self._dynamic_function_reduce(function)
        return reduced


class Unpickler(pickle.Unpickler):
    """Reads the output of a `Pickler`; override `set_class_state` to control how classes are filled."""

    def find_class(self, module: str, name: str) -> Any:
        mine = (module, name) == (cloudpickle.__name__, "_class_setstate")
        return self.set_class_state if mine else super().find_class(module, name)

    def set_class_state(self, cls: type[Any], state: Any) -> type[Any]:
        """Fill a class, new or known, with its pickled state of (members, slots), and return it."""
        made: type[Any] = cloudpickle._class_setstate(cls, state)
        return made


def set_class_state(cls: type[Any], members: dict[str, Any]) -> None:
    """Replace members of an existing class."""
    cloudpickle._class_setstate(cls, (members, {}))


Kind = Literal["module", "class", "function", "other"]
# By name: if a release renames one, the canary tests must say so instead of a failing import.
_KINDS: dict[str, Kind] = {
    "subimport": "module",
    "_make_skeleton_class": "class",
    "_make_skeleton_enum": "class",
    "_make_function": "function",
}


def kind_of_global(module: str, name: str) -> Kind | None:
    """Return what a global in a pickle makes if it is one of cloudpickle's: a module, a class, a function, or something
    else; None if it is not cloudpickle's.
    """
    if module.partition(".")[0] != "cloudpickle":
        return None
    return _KINDS.get(name, "other")


def untracked(arguments: Reduced) -> Reduced:
    """Return the arguments that make a class without its tracker id: they make a new class even where it is known."""
    *described, _, extra = arguments
    return (*described, None, extra)


# -- the parts of a class or function that is pickled by value


class ClassParts(NamedTuple):
    """A class as reduced by cloudpickle. `make(*described)` makes an empty class that is not tracked."""

    make: Any
    described: Reduced
    key: str
    members: dict[str, Any]
    slots: Any
    rest: Reduced


class FunctionParts(NamedTuple):
    """A function as reduced by cloudpickle. `slots`: `__globals__` (those that its code names), defaults, etc."""

    make: Any
    described: Reduced
    attributes: dict[str, Any]
    slots: dict[str, Any]
    rest: Reduced


def reduce_class(cls: type[Any]) -> Reduced:
    """Reduce a class by value, wherever it is defined."""
    reduced: Reduced = cloudpickle._dynamic_class_reduce(cls)
    return reduced


def class_parts(reduced: Any) -> ClassParts | None:
    """Return the parts of a class that was reduced by value; None for any other reduction."""
    if _kind(reduced) != "class":
        return None
    make, arguments, (members, slots), *rest = reduced
    return ClassParts(make, untracked(arguments), arguments[-2], members, slots, tuple(rest))


def function_parts(reduced: Any) -> FunctionParts | None:
    """Return the parts of a function that was reduced by value, without its module's names; None for any other."""
    if _kind(reduced) != "function":
        return None
    make, (code, _, *others), (attributes, slots), *rest = reduced
    slots = {name: value for name, value in slots.items() if name != "_cloudpickle_submodules"}
    return FunctionParts(make, (code, {}, *others), attributes, slots, tuple(rest))


def _kind(reduced: Any) -> Kind | None:
    """Return what a reduction makes, see `kind_of_global`."""
    made = reduced[0] if isinstance(reduced, tuple) else None
    return kind_of_global(getattr(made, "__module__", None) or "", getattr(made, "__name__", ""))


# -- known classes and their keys


def is_importable(cls: type) -> bool:
    """Whether another process could import a class."""
    return bool(cloudpickle._should_pickle_by_reference(cls))


def class_key(cls: type) -> str:
    """Return the tracker id of a class, the same in every process that has the class; created on first use."""
    return str(cloudpickle._get_or_create_tracker_id(cls))


def find_class(key: str) -> type | None:
    """Return this process's class with that key, or None."""
    cls: type | None = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(key)
    return cls


def known_classes() -> set[type]:
    """Return the classes of this process that have a key."""
    return set(cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS)


def forget_class(cls: type) -> None:
    """Drop the key of a class, so that unpickling makes a new class instead of filling the existing one."""
    key = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS.pop(cls, None)
    if key is not None:
        cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.pop(key, None)


decoding = threading.local()  # .table: the ClassTable of the body that this thread is decoding


# -- sender


def is_dynamic(cls: type) -> bool:
    """Whether `cls` cannot be imported by another process."""
    return cls.__module__ != "builtins" and not is_importable(cls)


def instance_reducer(cls: type) -> Callable[[Any], Any] | None:
    """Return the function that reduces instances of a dynamic class so that they can be fitted to a newer definition.

    None if the class is of another kind than an enum, named tuple, dataclass or pydantic model.
    """
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
        return reduced  # the class customizes pickling
    # The state is set after the pickle knows the instance, so that instances may refer to one another.
    cls = type(value)
    return _blank, (cls,), (cls, reduced[2]), None, None, _restore


# -- receiver


class ClassTable:
    """The classes that one peer has defined, by key. Definitions are kept as bytes until an instance arrives."""

    def __init__(self) -> None:
        self._definitions: dict[str, bytes] = {}
        self._classes: dict[str, type] = {}

    def add(self, definitions: dict[str, bytes]) -> None:
        self._definitions.update(definitions)

    def resolve(self, key: str) -> type:
        """Return the class: this process's own if it has it, else made from the definition. Raises `LookupError`."""
        cls = self._classes.get(key) or find_class(key)
        if cls is None:
            definition = self._definitions.get(key)
            if definition is None:
                raise LookupError(f"a class with the id {key}, which has not been defined on this connection")
            cls = pickle.loads(definition)
        self._classes[key] = cls  # a strong reference: the definition comes only once
        self._definitions.pop(key, None)
        return cls


def resolve_class(key: str) -> type:
    """Return the class with that key; dynamic classes are pickled as a call of this. Only while a body is decoded."""
    table: ClassTable | None = getattr(decoding, "table", None)
    if table is None:
        raise LookupError("a class of a notebook can be read only where it was sent to")
    return table.resolve(key)


def is_record(cls: type) -> bool:
    """Whether instances consist of their fields alone, so that they can be fitted to another definition."""
    return instance_reducer(cls) is not None


def fitted(value: Any, target: type) -> Any:
    """Convert a record to another definition of its class. Raises `InvalidArgument` if it does not fit."""
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
    """Set the state of an object as unpickling does."""
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
            # A field whose type pydantic does not support or cannot resolve: the class itself decides.
            return target(**fields)
    except Exception as error:
        raise InvalidArgument(
            f"{target.__qualname__} is another one where this value was made: its cell was run again in between, and "
            f"the value does not fit: {_reason(error)}. `%services refresh` brings services up to date; a value that "
            "is the older one has to be made again"
        ) from error


def _unknown(target: Any, fields: Any) -> list[str]:
    """Return the fields that `target` does not have: their values would be lost."""
    if issubclass(target, BaseModel):
        known = fields if target.model_config.get("extra") == "allow" else target.model_fields
    elif dataclasses.is_dataclass(target):
        known = [f.name for f in dataclasses.fields(target)]
    else:
        known = getattr(target, "_fields", fields)
    return sorted(set(fields) - set(known)) if isinstance(fields, dict) else []


def why(error: InvalidArgument) -> str:
    """Return the reason why `fitted` failed."""
    return _reason(error.__cause__ or error)


def _reason(error: BaseException) -> str:
    return in_short(error) if isinstance(error, ValidationError) else str(error)


@lru_cache(maxsize=64)
def _adapter(target: type) -> TypeAdapter[Any]:
    return TypeAdapter(target)
