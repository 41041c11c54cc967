"""What makes an instance, and which instances cannot be given new code: those with state outside of `__dict__`."""

from __future__ import annotations

from collections.abc import Sequence
from types import FunctionType, ModuleType
from typing import Any

from nbcompose.declaration import Service

ROOTS = (
    "__init__", "__new__", "__post_init__", "__getattr__", "__getattribute__", "__setattr__", "__delattr__",
    "__init_subclass__", "__del__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__",
)  # fmt: skip
GATES = frozenset({"__class__", "__getattribute__", "__getattr__", "__dir__"})  # to any attribute
# Their members say nothing of an instance.
NEUTRAL = frozenset({"builtins", "abc", "typing", "typing_extensions"})
STATELESS = frozenset({"dataclasses", "reprlib"})  # what their functions keep is of one call
# Values that code cannot have changed in place.
FIXED = (int, float, complex, str, bytes, bool, type(None), type, FunctionType, ModuleType, Service)


class _Plain:
    """How large an instance is whose state is all in its `__dict__`."""


def rigid(cls: type[Any], bases: Sequence[type[Any]]) -> str:
    """Why instances of a class, one that has these bases of the notebook, cannot be given new code; "" if they can."""
    if any("__slots__" in vars(base) for base in bases):
        return f"{cls.__name__} has __slots__, and keeps its state there"
    if (cls.__basicsize__, cls.__itemsize__) != (_Plain.__basicsize__, _Plain.__itemsize__):
        return f"{cls.__name__} extends a type that keeps its state outside of __dict__"
    if type(cls).__module__ not in ("builtins", "abc"):
        return f"{cls.__name__} has the metaclass {type(cls).__name__}"
    return ""
