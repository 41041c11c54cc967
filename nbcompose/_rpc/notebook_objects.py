"""What pickle knows by its name only, or not at all, though a notebook has made it: new types, aliases of types,
functions that dispatch on a type or remember what they answered, cached properties. How each is taken apart, and made
again in the process that it was sent to.
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

# Functions apart, which are known by their code.
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
    """The functions of a `functools.singledispatch` function or method, by type; None for anything else."""
    if isinstance(thing, functools.singledispatchmethod):
        thing = thing.dispatcher
    if isinstance(thing, FunctionType) and thing.__code__ is _DISPATCH:
        found: Mapping[Any, Any] = thing.registry  # type: ignore[attr-defined]
        return found
    return None


def is_notebooks(thing: Any) -> bool:
    """Whether a class or function exists in this process only."""
    return getattr(thing, "__module__", None) == "__main__" or "<locals>" in getattr(thing, "__qualname__", "")


def newest(thing: Any, current: Container[int] | None = None) -> Any:
    """What `__main__` calls by the name of a class, a new type or an alias now: its cell may have been run again.

    Itself where that is something else, or where it is still in use: under another name (`Old = Order`), or because the
    newest extends it. `current`: the ids of what any name stands for, where many are looked up (`names_now`).
    """
    if not (isinstance(thing, type) or is_newtype(thing) or is_typealiastype(thing)) or thing.__module__ != "__main__":
        return thing
    path = getattr(thing, "__qualname__", thing.__name__)
    found: Any = sys.modules["__main__"]
    for name in path.split("."):
        found = _inner(getattr(found, name, None))
    if found is thing or isinstance(found, type) != isinstance(thing, type) or not is_notebooks(found):
        return thing
    if getattr(found, "__qualname__", path) != path or (isinstance(found, type) and thing in found.__mro__):
        return thing
    return thing if id(thing) in (names_now() if current is None else current) else found


def names_now() -> dict[int, list[str]]:
    """The names of `__main__` by the id of what they stand for; without those that IPython gives to what was run."""
    found: dict[int, list[str]] = {}
    for name, value in list(vars(sys.modules["__main__"]).items()):
        if not _HISTORY.fullmatch(name):
            found.setdefault(id(_inner(value)), []).append(name)
    return found


def _inner(value: Any) -> Any:
    """Once its cell has run, the name of the class stands for the service. (By the value's own type: a proxy may not
    like to be asked what it is.)
    """
    return value.spec.cls if issubclass(type(value), Service) else value


def is_named(thing: Any) -> bool:
    """Whether it is of these kinds."""
    if isinstance(thing, FunctionType):
        return thing.__code__ is _DISPATCH
    return type(thing) in KINDS


def reduced(thing: Any) -> Any:
    """How a thing of these kinds is to be pickled: by its name where another process can import it."""
    if isinstance(thing, functools.cached_property):
        return _cached_property, (thing.func, thing.attrname)
    if isinstance(thing, functools._lru_cache_wrapper):
        return (_remembering, (thing.__wrapped__, thing.cache_parameters())) if is_notebooks(thing) else NotImplemented
    if thing.__module__ not in ("__main__", *cloudpickle.list_registry_pickle_by_value()):
        return NotImplemented
    if is_newtype(thing):
        return _new_type, (thing.__name__, thing.__module__, thing.__supertype__)
    if is_typealiastype(thing):  # in two steps, as its value may name it
        state = (thing.__name__, of_alias(thing), thing.__type_params__)
        return _empty_alias, (thing.__module__,), state, None, None, _fill_alias
    if isinstance(thing, FunctionType):  # in two steps, as it may call itself
        registered = list(cast(Any, thing).registry.items())
        return _empty_dispatch, (thing.__name__,), registered, None, None, _fill_dispatch
    return _variable, (type(thing).__name__, thing.__name__, thing.__module__)


def meant(thing: Any) -> tuple[Any, ...]:
    """What a thing of these kinds says, for a digest: its name, and then all that may name the thing itself."""
    if isinstance(thing, functools.cached_property):
        return thing.attrname, thing.func
    if isinstance(thing, functools._lru_cache_wrapper):
        return thing.__name__, thing.__wrapped__, thing.cache_parameters()
    if is_newtype(thing):
        return thing.__name__, thing.__supertype__
    if is_typealiastype(thing):
        return thing.__name__, of_alias(thing), thing.__type_params__
    return thing.__name__, *(implementations(thing) or {}).items()


# -- in the process that it was sent to


def _cached_property(function: Callable[..., Any], name: str | None) -> functools.cached_property[Any]:
    made = functools.cached_property(function)
    made.attrname = name
    return made


def _remembering(function: Callable[..., Any], parameters: Mapping[str, Any]) -> Any:
    """With a cache of its own."""
    return functools.lru_cache(**parameters)(function)


def _new_type(name: str, module: str, supertype: Any) -> Any:
    make: Any = typing.NewType  # a type checker wants its name in the text
    made = make(name, supertype)
    made.__module__ = module
    return made


def _variable(kind: str, name: str, module: str) -> Any:
    """A ParamSpec or a TypeVarTuple."""
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
    object.__setattr__(alias, "__module__", module)  # it has taken this one for its author's


def _empty_dispatch(name: str) -> Any:
    def unknown(*args: Any) -> Any:
        raise NotImplementedError(name)

    unknown.__name__ = name  # for what it says about a call without arguments
    return functools.singledispatch(unknown)


def _fill_dispatch(dispatch: Any, registered: Sequence[tuple[type, Callable[..., Any]]]) -> None:
    for cls, function in registered:
        dispatch.register(cls, function)
    functools.update_wrapper(dispatch, dict(registered)[object])
