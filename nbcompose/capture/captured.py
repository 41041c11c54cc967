"""What a class takes along when it is sent by value: its own values, and the variables that its code uses."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

from nbcompose.capture.ipythons import is_builtin
from nbcompose.capture.reach import globals_of
from nbcompose.declaration.dependency import Dependency
from nbcompose.declaration.handle import Service
from nbcompose.schema.written import written_signature
from nbcompose.wire.named import implementations, is_notebooks


def captured_values(cls: type[Any]) -> Iterator[tuple[str, Any]]:
    """Names and values: globals, closures, defaults of parameters, attributes of the class.

    Followed through the notebook's own functions and classes; what is imported from modules is left out.
    """
    seen: set[int] = set()
    todo: list[tuple[str, Any]] = [("", cls)]
    while todo:
        name, value = todo.pop(0)
        if id(value) in seen or isinstance(value, ModuleType | Service | Dependency):
            continue
        seen.add(id(value))
        if isinstance(value, type) and (value is cls or is_notebooks(value)):
            todo.extend(_used_by_class(value))
        elif isinstance(value, FunctionType) and (is_notebooks(value) or value.__module__ == cls.__module__):
            todo.extend(_used_by_function(value))
        elif not isinstance(value, type | FunctionType):
            yield name, value


def functions_of(cls: type[Any]) -> Iterator[FunctionType]:
    """The functions in the body of a class, those inside of decorators included."""
    for member in vars(cls).values():
        yield from functions_in(member)


def functions_in(member: Any) -> Iterator[FunctionType]:
    """The functions in one member of a class: a method, a property, what a decorator has wrapped."""
    for function in _inside(member):
        yield function
        if isinstance(wrapped := inspect.unwrap(function), FunctionType) and wrapped is not function:
            yield wrapped


def _inside(member: Any) -> Iterator[FunctionType]:
    parts: tuple[Any, ...] = (member,)
    if (by_type := implementations(member)) is not None:
        parts = tuple(by_type.values())
    elif isinstance(member, staticmethod | classmethod):
        parts = (member.__func__,)
    elif isinstance(member, property):
        parts = (member.fget, member.fset, member.fdel)
    elif isinstance(member, functools.cached_property | functools.partialmethod):
        parts = (member.func,)
    elif isinstance(member, functools._lru_cache_wrapper):
        parts = (member.__wrapped__,)
    if isinstance(parts[0], functools._lru_cache_wrapper):
        parts = (parts[0].__wrapped__,)
    yield from (part for part in parts if isinstance(part, FunctionType))


def _used_by_class(cls: type[Any]) -> Iterator[tuple[str, Any]]:
    for base in cls.__bases__:
        if is_notebooks(base):
            yield base.__name__, base
    for name, member in vars(cls).items():
        functions = list(_inside(member))
        yield from ((f.__name__, f) for f in functions)
        if not functions and not (name.startswith("__") and name.endswith("__")):
            yield f"{cls.__name__}.{name}", member


def _used_by_function(function: FunctionType) -> Iterator[tuple[str, Any]]:
    if (by_type := implementations(function)) is not None:
        yield from ((f.__name__, f) for f in by_type.values() if isinstance(f, FunctionType))
        return
    for name in dict.fromkeys(globals_of(function.__code__)):
        if name in function.__globals__ and not is_builtin(name, function.__globals__[name]):
            yield name, function.__globals__[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not filled yet
            continue
    parameters = written_signature(function, follow_wrapped=False).parameters.values()
    yield from ((f"{function.__name__}({p.name}=...)", p.default) for p in parameters if p.default is not p.empty)
