"""The code that a replica runs: a class, what its apis take and give, and the instance that they are methods of.

A swap makes another one of these around the same state: the new class's methods, the old instance's `__dict__`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

from nbcompose.batching.batcher import Batcher
from nbcompose.declaration import Service
from nbcompose.errors import CannotSwap
from nbcompose.replica.launch import ByValue
from nbcompose.schema import ApiSchema
from nbcompose.spec import ApiSpec, ServiceSpec
from nbcompose.wire.cloudpickle_adapter import Unpickler, forget_class, known_classes


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
    """One version. `bind` gives it its instance. `sources`: its lines by file, to be known when it is taken."""

    def __init__(self, spec: ServiceSpec, sources: Mapping[str, str] | None = None) -> None:
        self.spec = spec
        self.sources = sources or {}
        self.schemas: Mapping[str, ApiSchema] = {a.name: ApiSchema.of(spec.cls, a) for a in spec.apis}
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
    become here. `stores`: globals that the service's code sets itself.
    """

    spec: ServiceSpec
    origin: ByValue
    changed: frozenset[str]
    stores: frozenset[str]


def renew(old: Code, swap: Swap) -> Code:
    """New code around the state of the old. Runs user code (imports). Changes nothing of the old code's.

    Raises `CannotSwap` where the state holds on to the old code, and whatever making the class raises.
    """
    _check_state(old.instance)
    for base in old.spec.cls.__mro__:  # the class is made anew, also where its cell was not run again
        forget_class(base)
    cls: type[Any] = _Unpickler(swap).load()
    _keep_attributes(old.spec.cls, cls)
    _keep_globals(old.spec.cls, cls, swap)
    new = Code(replace(swap.spec, cls=cls), swap.origin.sources)
    new.instance = object.__new__(cls)
    new.instance.__dict__ = old.instance.__dict__
    return new


class _Unpickler(Unpickler):
    """Leaves alone the notebook's classes that are here already and have not changed: others have instances of them,
    and they may have state of their own. (cloudpickle would set all that they had in the notebook.)
    """

    def __init__(self, swap: Swap) -> None:
        super().__init__(io.BytesIO(swap.origin.payload))
        self._here = known_classes()
        self._changed = swap.changed

    def set_class_state(self, cls: type[Any], state: Any) -> type[Any]:
        if cls in self._here and cls.__name__ not in self._changed:
            return cls
        return super().set_class_state(cls, state)


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
            if name in here and name not in swap.changed and not name.startswith("__") and not _is_code(value):
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
