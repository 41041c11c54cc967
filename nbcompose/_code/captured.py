"""What a class takes along when it is sent by value: values, globals, and the newest version of each notebook class.

A class statement that runs again makes a new class, while annotations, subclasses and values made before still refer to
the old one. As pickle finds the class of a module by its name, this finds the newest class of that name in the
notebook. Where something was made *from* a class whose definition has changed, no replacement exists: it is `Outdated`,
and its cell has to run again.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any

from nbcompose._code.bytecode import globals_of
from nbcompose._code.digests import Digester, digest_of_code
from nbcompose._rpc import implementations, is_notebooks, names_now, newest
from nbcompose._schema import annotations_of, is_model, written_signature
from nbcompose._service import Dependency, Service

_BUILTINS = ("open", "exit", "quit")  # for which IPython has something else, under the same name


def is_ipythons(value: Any) -> bool:
    """Whether it is `get_ipython`, or stands there for a builtin."""
    space: Any = getattr(value, "__globals__", None)
    owner = space.get("__name__") if isinstance(space, dict) else type(value).__module__
    return isinstance(owner, str) and owner.split(".")[0] == "IPython"


def is_builtin(name: str, value: Any) -> bool:
    """Whether a replica has the builtin of that name instead."""
    return name in _BUILTINS and is_ipythons(value)


def places() -> dict[int, tuple[str, str]]:
    """By `id`: module and name of what takes their place in a replica."""
    space = vars(sys.modules["__main__"])
    return {id(space[n]): ("builtins", n) for n in _BUILTINS if n in space and is_ipythons(space[n])}


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


class Outdated(Exception):
    """A class or value was made from a class whose cell has run again since. The message goes on after its name."""

    def __init__(self, thing: Any, message: str) -> None:
        super().__init__(message)
        self.thing = thing


class Versions:
    """Which classes of the notebook are outdated, at one moment. `root`: a class that is what it is, by any name.

    `space`: the notebook's names where they are not those of `__main__`.
    """

    def __init__(self, root: type[Any] | None = None, space: Mapping[str, Any] | None = None) -> None:
        self._space = space
        self._current = {*names_now(space), id(root)}
        # By id, since a class may have no hash; with the class, which so lives on.
        self._newest: dict[int, tuple[type[Any], Any]] = {}
        self._changed: dict[int, tuple[Any, bool]] = {}

    def newest(self, thing: Any) -> Any:
        """The class, new type or alias that the notebook calls by this name now; see `newest` in
        `_rpc/notebook_objects.py`.
        """
        if not isinstance(thing, type):
            return newest(thing, self._current, self._space)
        known = self._newest.get(id(thing))
        if known is None:
            known = self._newest[id(thing)] = thing, newest(thing, self._current, self._space)
        return known[1]

    def differs(self, thing: Any) -> bool:
        """Whether it is outdated, and says something else than the newest."""
        now = self.newest(thing)
        if now is thing:
            return False
        if id(thing) not in self._changed:
            before, after = (Digester(is_notebooks).told(version, flat=True) for version in (thing, now))
            self._changed[id(thing)] = thing, before is None or before != after
        return self._changed[id(thing)][1]

    def has_overtaken(self, function: FunctionType) -> bool:
        """Whether the notebook calls another function by this name, which does something else."""
        name = function.__qualname__
        if function.__module__ != "__main__" or id(function) in self._current:
            return False
        now = getattr(sys.modules["__main__"], name, None)
        now = inspect.unwrap(now) if isinstance(now, FunctionType) else None
        if not isinstance(now, FunctionType) or (now.__module__, now.__qualname__) != ("__main__", name):
            return False
        return digest_of_code(now.__code__) != digest_of_code(function.__code__)

    def check(self, cls: type[Any]) -> None:
        """Raises `Outdated` where a class of the notebook was made from one that says something else now."""
        if not is_notebooks(cls):
            return
        for base in cls.__bases__:
            if self.differs(base):
                raise Outdated(cls, f"extends {said(base)}: run the cell of {cls.__name__} again")
        if is_model(cls):  # its validator has what the fields of its fields were
            for name, annotation in annotations_of(cls).items():
                if of := next(filter(self.differs, classes_in(annotation)), None):
                    raise Outdated(cls, f"has a field {name} of {said(of)}: run the cell of {cls.__name__} again")


def said(thing: Any) -> str:
    """An outdated thing, in words."""
    return f"{thing.__name__} as it was before the cell of {thing.__name__} was run again"


def classes_in(annotation: Any) -> Iterable[type[Any]]:
    """The classes that an annotation names, other than as text."""
    if isinstance(annotation, type):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from classes_in(part)
