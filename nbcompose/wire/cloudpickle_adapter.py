"""cloudpickle, and all that is used of it besides `dumps` and `loads`: the one module that knows its private parts.

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
"""

from __future__ import annotations

import pickle
from types import CodeType, FunctionType
from typing import Any, Literal, NamedTuple

from cloudpickle import cloudpickle

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
