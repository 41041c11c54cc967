"""Hot swap: the code version that a replica runs, and how new code is built around the existing state.

A version has a class, the schemas of its apis, and the instance. A swap makes a new version with the new class's
methods and the old instance's `__dict__`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from nbcompose._replica.batching import Batcher
from nbcompose._replica.bootstrap import ByValue, MainModule, MainUnpickler
from nbcompose._replica.chat_api import COMPLETIONS
from nbcompose._replica.loggers import UNCHANGED, Loggers
from nbcompose._replica.sources import know_lines
from nbcompose._rpc import forget_class, known_classes, set_class_state
from nbcompose._schema import ApiSchema
from nbcompose._service import Service
from nbcompose._spec import ApiSpec, ServiceSpec
from nbcompose.errors import CannotSwap

if TYPE_CHECKING:
    from nbcompose._replica.chat import Completions


class Api:
    """One api of the instance: spec, schema, bound method, batcher."""

    __slots__ = ("batcher", "hop", "method", "schema", "spec")

    def __init__(self, spec: ApiSpec, schema: ApiSchema, service: str) -> None:
        self.spec = spec
        self.schema = schema
        self.hop = f"{service}.{spec.name}"
        self.method: Any = None
        self.batcher: Batcher | None = None


class Code:
    """One version of the service's code. `bind` sets its instance.

    `renewal`: what else changes in this process when a hot swap to this version is committed; None for the first one.
    """

    def __init__(self, spec: ServiceSpec, renewal: Renewed | None = None) -> None:
        self.spec = spec
        self.renewal = renewal
        self.schemas: Mapping[str, ApiSchema] = {
            a.name: ApiSchema.of(spec.cls, a, spec.http.max_values) for a in spec.apis
        }
        self.apis = {a.name: Api(a, self.schemas[a.name], spec.name) for a in spec.apis}
        if spec.openai:
            from nbcompose._replica.chat import Completions  # few services need it

            schema = ApiSchema.of(Completions, COMPLETIONS)
            self.apis[COMPLETIONS.name] = Api(COMPLETIONS, schema, spec.name)
        self.completions: Completions | None = None
        self.instance: Any = None

    def bind(self, instance: Any, batcher: Callable[[Api], Batcher]) -> None:
        """Raises `LaunchError` where the instance is to have language models, and has none."""
        self.instance = instance
        if self.spec.openai:
            from nbcompose._replica.chat import Completions

            self.completions = Completions(self.spec.name, instance)
        for api in self.apis.values():
            owner = self.completions if api.spec is COMPLETIONS else instance
            api.method = getattr(owner, api.spec.method)
            if api.spec.batch is not None:
                api.batcher = batcher(api)


@dataclass(frozen=True, slots=True)
class Swap:
    """New code for a replica, as plain data. `spec.cls` comes through `origin`.

    `changed`: names of the notebook values that the new code takes from the notebook; others keep their present value
    in the replica. `affected`: functions and classes whose code may reach a changed value. `stores`: globals that the
    service's code sets itself. `loggers`: as they are set in the process that deploys it.
    """

    spec: ServiceSpec
    origin: ByValue
    changed: frozenset[str]
    affected: frozenset[str]
    stores: frozenset[str]
    loggers: Loggers = UNCHANGED


@dataclass(frozen=True, slots=True)
class Renewed:
    """Changes in this process, besides the instance, when a hot swap is committed.

    `sources`: source lines, by file. `main`: the new `__main__`, if the code is from a notebook. `classes`: classes
    that both versions share, since instances of them exist, with their new members. `loggers`: see `Swap`.
    """

    sources: Mapping[str, str]
    main: MainModule | None
    classes: tuple[tuple[type[Any], dict[str, Any]], ...]
    loggers: Loggers

    def take(self) -> None:
        know_lines(self.sources)
        if self.main is not None:
            sys.modules["__main__"] = self.main
        for cls, members in self.classes:
            set_class_state(cls, members)
        self.loggers.take()


def renew(old: Code, swap: Swap) -> Code:
    """Return the new code with the state of the old. Runs user code (imports). The old code is not changed.

    Raises `CannotSwap` if the state refers to the old code, and whatever creating the class raises.
    """
    _check_state(old.instance)
    for base in old.spec.cls.__mro__:  # a new class is made, even if its cell was not run again
        forget_class(base)
    main = MainModule((swap.origin.payload, swap.origin.sources))
    reader = _Unpickler(swap, main)
    cls = reader.load_all()
    _keep_attributes(old.spec.cls, cls)
    _keep_globals(old.spec.cls, cls, swap)
    of_notebook = main if cls.__module__ == main.__name__ else None
    renewed = Renewed(swap.origin.sources, of_notebook, tuple(reader.shared), swap.loggers)
    new = Code(replace(swap.spec, cls=cls), renewed)
    new.instance = object.__new__(cls)
    new.instance.__dict__ = old.instance.__dict__
    return new


class _Unpickler(MainUnpickler):
    """Does not change notebook classes that exist here already, although cloudpickle would set all their members.

    There may be instances of them, they may have their own state, and the old code uses them until the swap is
    committed. `shared`: these classes, and the members that they get at commit.
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
        """Whether a member of an existing class must be replaced by the notebook's.

        True for functions, which must use the new globals, and for caches and pydantic's generated members of affected
        classes, whose results may differ now.
        """
        if cls in self._swap.changed or any(True for _ in _functions(member)):
            return True
        made = isinstance(member, functools._lru_cache_wrapper) or name.startswith("__pydantic_")
        return made and cls in self._swap.affected


def _check_state(instance: Any) -> None:
    """Raise `CannotSwap` if the instance stores one of its bound methods, which would keep running the old code."""
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
    """Copy class attributes of the old class to the new one: unchanged in the notebook, but possibly changed here.

    This includes the dependencies, which are connected here.
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
    """Keep the present values of globals that have not changed in the notebook, e.g. a model loaded into a global."""
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
    """Return the globals of the functions in a class, and in its bases from the same module."""
    found: dict[int, dict[str, Any]] = {}
    for base in cls.__mro__:
        if base.__module__ == cls.__module__:
            for member in vars(base).values():
                for function in _functions(member):
                    found[id(function.__globals__)] = function.__globals__
    return list(found.values())


def _is_code(value: Any) -> bool:
    """Whether a value belongs to the code version, not to the state."""
    return isinstance(value, type | ModuleType | Service) or any(True for _ in _functions(value))


def _functions(member: Any) -> Iterator[FunctionType]:
    """Yield the functions in a member of a class (method, property, …)."""
    parts = [member, *(getattr(member, name, None) for name in ("__func__", "fget", "fset", "fdel", "func"))]
    for part in parts:
        if isinstance(part, FunctionType):
            yield part
