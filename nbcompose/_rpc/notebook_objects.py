"""Pickling of notebook objects that pickle handles only by name, or not at all.

They are `NewType`, type aliases, type variables, `singledispatch` and `lru_cache` functions, and cached properties.
Each is reduced here and rebuilt in the receiving process.
"""

from __future__ import annotations

import functools
import re
import sys
import typing
from collections.abc import Callable, Container, Mapping, Sequence
from types import FunctionType
from typing import Any, cast

import cloudpickle
import typing_extensions
from typing_extensions import TypeAliasType
from typing_inspection.typing_objects import is_newtype, is_typealiastype

from nbcompose._schema import of_alias
from nbcompose._service import Service

# Types of such objects; `singledispatch` functions are recognized by their code instead.
KINDS = frozenset(
    {
        functools.cached_property,  # before Python 3.12 it has a lock
        functools._lru_cache_wrapper,
        *(
            getattr(library, name)
            for library in (typing, typing_extensions)
            for name in ("NewType", "TypeAliasType", "ParamSpec", "TypeVarTuple")
            if hasattr(library, name)
        ),
    }
)
_HISTORY = re.compile(r"_+|_i*\d*")
_DISPATCH = cast(Any, functools.singledispatch(len)).__code__


def implementations(thing: Any) -> Mapping[Any, Any] | None:
    """Return the functions of a `functools.singledispatch` function or method by type; None for anything else."""
    if isinstance(thing, functools.singledispatchmethod):
        thing = thing.dispatcher
    if isinstance(thing, FunctionType) and thing.__code__ is _DISPATCH:
        found: Mapping[Any, Any] = thing.registry  # type: ignore[attr-defined]
        return found
    return None


def is_notebooks(thing: Any) -> bool:
    """Whether a class or function exists in this process only."""
    return getattr(thing, "__module__", None) == "__main__" or "<locals>" in getattr(thing, "__qualname__", "")


def newest(thing: Any, current: Container[int] | None = None, space: Mapping[str, Any] | None = None) -> Any:
    """Return the current definition of a class, `NewType` or alias of `__main__`: its cell may have been run again.

    Returns `thing` itself if its name now refers to something of another kind, or if `thing` is still in use: under
    another name (`Old = Order`), or as a base of the newest class. `current`: the ids of all values that have a name in
    `__main__` (`names_now`), to be passed when many things are looked up. `space`: names in place of those of
    `__main__`.
    """
    if not (isinstance(thing, type) or is_newtype(thing) or is_typealiastype(thing)) or thing.__module__ != "__main__":
        return thing
    path = getattr(thing, "__qualname__", thing.__name__)
    first, *inner = path.split(".")
    found: Any = _inner(getattr(sys.modules["__main__"], first, None) if space is None else space.get(first))
    for name in inner:
        found = _inner(getattr(found, name, None))
    if found is thing or isinstance(found, type) != isinstance(thing, type) or not is_notebooks(found):
        return thing
    if getattr(found, "__qualname__", path) != path or (isinstance(found, type) and thing in found.__mro__):
        return thing
    return thing if id(thing) in (names_now(space) if current is None else current) else found


def names_now(space: Mapping[str, Any] | None = None) -> dict[int, list[str]]:
    """Return the names in `__main__`, or in `space`, by the id of their value, without IPython's history names (`_`,
    `_i1`, …).
    """
    found: dict[int, list[str]] = {}
    for name, value in list((vars(sys.modules["__main__"]) if space is None else space).items()):
        if not _HISTORY.fullmatch(name):
            found.setdefault(id(_inner(value)), []).append(name)
    return found


def _inner(value: Any) -> Any:
    """Return the class of a `Service`, which replaces the class under its name; any other value itself.

    Uses `type(value)` instead of isinstance, since a proxy object may fail when its `__class__` is read.
    """
    return value.spec.cls if issubclass(type(value), Service) else value


def is_named(thing: Any) -> bool:
    """Whether this module pickles `thing`."""
    if isinstance(thing, FunctionType):
        return thing.__code__ is _DISPATCH
    return type(thing) in KINDS


def reduced(thing: Any) -> Any:
    """Return the reduction of such an object; `NotImplemented` (pickle by name) if another process can import it."""
    if isinstance(thing, functools.cached_property):
        return _cached_property, (thing.func, thing.attrname)
    if isinstance(thing, functools._lru_cache_wrapper):
        return (_remembering, (thing.__wrapped__, thing.cache_parameters())) if is_notebooks(thing) else NotImplemented
    if thing.__module__ not in ("__main__", *cloudpickle.list_registry_pickle_by_value()):
        return NotImplemented
    if is_newtype(thing):
        return _new_type, (thing.__name__, thing.__module__, thing.__supertype__)
    if is_typealiastype(thing):  # in two steps, since its value may refer to it
        state = (thing.__name__, of_alias(thing), thing.__type_params__)
        return _empty_alias, (thing.__module__,), state, None, None, _fill_alias
    if isinstance(thing, FunctionType):  # in two steps, since it may call itself
        registered = list(cast(Any, thing).registry.items())
        return _empty_dispatch, (thing.__name__,), registered, None, None, _fill_dispatch
    return _variable, (type(thing).__name__, thing.__name__, thing.__module__)


def meant(thing: Any) -> tuple[Any, ...]:
    """Return the content of such an object for a digest: its name, then everything that may refer to the object."""
    if isinstance(thing, functools.cached_property):
        return thing.attrname, thing.func
    if isinstance(thing, functools._lru_cache_wrapper):
        return thing.__name__, thing.__wrapped__, thing.cache_parameters()
    if is_newtype(thing):
        return thing.__name__, thing.__supertype__
    if is_typealiastype(thing):
        return thing.__name__, of_alias(thing), thing.__type_params__
    return thing.__name__, *(implementations(thing) or {}).items()


# -- in the receiving process


def _cached_property(function: Callable[..., Any], name: str | None) -> functools.cached_property[Any]:
    made = functools.cached_property(function)
    made.attrname = name
    return made


def _remembering(function: Callable[..., Any], parameters: Mapping[str, Any]) -> Any:
    """Return a `lru_cache` function with a new cache."""
    return functools.lru_cache(**parameters)(function)


def _new_type(name: str, module: str, supertype: Any) -> Any:
    make: Any = typing.NewType  # `Any`: a type checker requires a literal name
    made = make(name, supertype)
    made.__module__ = module
    return made


def _variable(kind: str, name: str, module: str) -> Any:
    """Return a `ParamSpec` or a `TypeVarTuple`."""
    made = getattr(typing_extensions, kind)(name)
    made.__module__ = module
    return made


def _empty_alias(module: str) -> Any:
    alias = TypeAliasType.__new__(TypeAliasType)
    object.__setattr__(alias, "__module__", module)
    return alias


def _fill_alias(alias: Any, state: tuple[str, Any, tuple[Any, ...]]) -> None:
    name, value, parameters = state
    module = alias.__module__
    TypeAliasType.__init__(alias, name, value, type_params=parameters)
    object.__setattr__(alias, "__module__", module)  # `__init__` has set it to this module


def _empty_dispatch(name: str) -> Any:
    def unknown(*args: Any) -> Any:
        raise NotImplementedError(name)

    unknown.__name__ = name  # singledispatch shows it in the error of a call without arguments
    return functools.singledispatch(unknown)


def _fill_dispatch(dispatch: Any, registered: Sequence[tuple[type, Callable[..., Any]]]) -> None:
    for cls, function in registered:
        dispatch.register(cls, function)
    functools.update_wrapper(dispatch, dict(registered)[object])
