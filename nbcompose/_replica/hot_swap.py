"""The code that a replica runs: a class, what its apis take and give, and the instance that they are methods of.

A swap makes another one of these around the same state: the new class's methods, the old instance's `__dict__`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

from nbcompose._replica.batching import Batcher
from nbcompose._replica.bootstrap import ByValue, MainModule, MainUnpickler
from nbcompose._replica.sources import know_lines
from nbcompose._rpc import forget_class, known_classes, set_class_state
from nbcompose._schema import ApiSchema
from nbcompose._service import Service
from nbcompose._spec import ApiSpec, ServiceSpec
from nbcompose.errors import CannotSwap


class Api:
    """An api of the instance, with what its calls need."""

    __slots__ = ("batcher", "hop", "method", "schema", "spec")

    def __init__(self, spec: ApiSpec, schema: ApiSchema, service: str) -> None:
        self.spec = spec
        self.schema = schema
        self.hop = f"{service}.{spec.name}"
        self.method: Any = None
        self.batcher: Batcher | None = None


class Code:
    """One version. `bind` gives it its instance. `renewal`: what else changes in this process when it is taken, where
    it comes after another.
    """

    def __init__(self, spec: ServiceSpec, renewal: Renewed | None = None) -> None:
        self.spec = spec
        self.renewal = renewal
        self.schemas: Mapping[str, ApiSchema] = {
            a.name: ApiSchema.of(spec.cls, a, spec.http.max_values) for a in spec.apis
        }
        self.apis = {a.name: Api(a, self.schemas[a.name], spec.name) for a in spec.apis}
        self.instance: Any = None

    def bind(self, instance: Any, batcher: Callable[[Api], Batcher]) -> None:
        self.instance = instance
        for api in self.apis.values():
            api.method = getattr(instance, api.spec.method)
            if api.spec.batch is not None:
                api.batcher = batcher(api)


@dataclass(frozen=True, slots=True)
class Swap:
    """What a replica is sent when its service gets new code, as plain data. `spec.cls` comes through `origin`.

    `changed`: the values of the notebook that the new code is to see as they are there now; others stay as they have
    become here. `affected`: its functions and classes whose code may reach what has changed. `stores`: globals that the
    service's code sets itself.
    """

    spec: ServiceSpec
    origin: ByValue
    changed: frozenset[str]
    affected: frozenset[str]
    stores: frozenset[str]


@dataclass(frozen=True, slots=True)
class Renewed:
    """What changes in this process, besides the instance, when new code is taken. `sources`: its lines, by file.

    `main`: what the names of its notebook stand for, if it has one. `classes`: classes that both versions share, since
    there are instances of them, and the members that they are to have.
    """

    sources: Mapping[str, str]
    main: MainModule | None
    classes: tuple[tuple[type[Any], dict[str, Any]], ...]

    def take(self) -> None:
        know_lines(self.sources)
        if self.main is not None:
            sys.modules["__main__"] = self.main
        for cls, members in self.classes:
            set_class_state(cls, members)


def renew(old: Code, swap: Swap) -> Code:
    """New code around the state of the old. Runs user code (imports). Changes nothing of the old code's.

    Raises `CannotSwap` where the state holds on to the old code, and whatever making the class raises.
    """
    _check_state(old.instance)
    for base in old.spec.cls.__mro__:  # the class is made anew, also where its cell was not run again
        forget_class(base)
    main = MainModule((swap.origin.payload, swap.origin.sources))
    reader = _Unpickler(swap, main)
    cls = reader.load_all()
    _keep_attributes(old.spec.cls, cls)
    _keep_globals(old.spec.cls, cls, swap)
    of_notebook = main if cls.__module__ == main.__name__ else None
    new = Code(replace(swap.spec, cls=cls), Renewed(swap.origin.sources, of_notebook, tuple(reader.shared)))
    new.instance = object.__new__(cls)
    new.instance.__dict__ = old.instance.__dict__
    return new


class _Unpickler(MainUnpickler):
    """Leaves alone the notebook's classes that are here already: others have instances of them, they may have state of
    their own, and the old code uses them until the new is taken. (cloudpickle would set all that they had in the
    notebook.) `shared`: these, and the members that they are to get then.
    """

    def __init__(self, swap: Swap, main: MainModule) -> None:
        super().__init__(swap.origin.payload, main)
        self.shared: list[tuple[type[Any], dict[str, Any]]] = []
        self._here = known_classes()
        self._swap = swap

    def set_class_state(self, cls: type[Any], state: Any) -> type[Any]:
        if cls not in self._here:
            return super().set_class_state(cls, state)
        members = {n: m for n, m in state[0].items() if self._is_new(cls.__name__, n, m)}
        self.shared.append((cls, members))
        return cls

    def _is_new(self, cls: str, name: str, member: Any) -> bool:
        """Whether a member of a class that is here has to come from the notebook. Its code has to see the new globals,
        and what Python, pydantic or a cache has made of code that may give other answers now is made anew.
        """
        if cls in self._swap.changed or any(True for _ in _functions(member)):
            return True
        made = isinstance(member, functools._lru_cache_wrapper) or name.startswith("__pydantic_")
        return made and cls in self._swap.affected


def _check_state(instance: Any) -> None:
    """A bound method that was stored while the service ran would go on with the old code."""
    for name, value in vars(instance).items():
        for part in _parts(value):
            while isinstance(part, partial):
                part = part.func
            if isinstance(part, MethodType) and part.__self__ is instance:
                raise CannotSwap(f"self.{name} holds {part.__name__}, a method of the old code")


def _parts(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, list | tuple | set | frozenset):
        yield from value
    elif isinstance(value, dict):
        yield from value.values()


def _keep_attributes(old: type[Any], new: type[Any]) -> None:
    """Class attributes have not changed in the notebook, or this would be no swap: here they may have.

    With them come the dependencies, which are connected here.
    """
    known = {base.__qualname__: base for base in old.__mro__}
    for cls in new.__mro__:
        before = known.get(cls.__qualname__)
        if before is None or before is cls or cls.__module__ != new.__module__:
            continue
        for name, value in vars(before).items():
            if name in vars(cls) and not name.startswith("__") and not _is_code(value):
                setattr(cls, name, value)


def _keep_globals(old: type[Any], new: type[Any], swap: Swap) -> None:
    """What has not changed in the notebook is as it has become here: a model that was loaded into a global, say."""
    here: dict[str, Any] = {}
    for space in _spaces(old):
        here.update(space)
    for space in _spaces(new):
        for name, value in list(space.items()):
            is_new = name in swap.changed or name in swap.affected
            if name in here and not is_new and not name.startswith("__") and not _is_code(value):
                space[name] = here[name]
        for name in swap.stores - swap.changed:
            if name in here:
                space[name] = here[name]


def _spaces(cls: type[Any]) -> list[dict[str, Any]]:
    """The globals of the functions in a class, and in those that it extends and travels with."""
    found: dict[int, dict[str, Any]] = {}
    for base in cls.__mro__:
        if base.__module__ == cls.__module__:
            for member in vars(base).values():
                for function in _functions(member):
                    found[id(function.__globals__)] = function.__globals__
    return list(found.values())


def _is_code(value: Any) -> bool:
    """Whether it belongs to the version, not to the state."""
    return isinstance(value, type | ModuleType | Service) or any(True for _ in _functions(value))


def _functions(member: Any) -> Iterator[FunctionType]:
    """The functions in a member of a class."""
    parts = [member, *(getattr(member, name, None) for name in ("__func__", "fget", "fset", "fdel", "func"))]
    for part in parts:
        if isinstance(part, FunctionType):
            yield part
