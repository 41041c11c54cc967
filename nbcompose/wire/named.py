"""What pickle knows by its name only, though a notebook has made it: new types, aliases of types, functions that
dispatch on a type. How each is taken apart, and made again in the process that it was sent to.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any, cast

import cloudpickle
import typing_extensions
from typing_extensions import TypeAliasType
from typing_inspection.typing_objects import is_newtype, is_typealiastype

from nbcompose.schema.hints import of_alias

# Functions apart, which are known by their code.
KINDS = frozenset(
    getattr(library, name)
    for library in (typing, typing_extensions)
    for name in ("NewType", "TypeAliasType", "ParamSpec", "TypeVarTuple")
    if hasattr(library, name)
)
_DISPATCH = cast(Any, functools.singledispatch(len)).__code__


def implementations(thing: Any) -> Mapping[Any, Any] | None:
    """The functions of a `functools.singledispatch` function or method, by type; None for anything else."""
    if isinstance(thing, functools.singledispatchmethod):
        thing = thing.dispatcher
    if isinstance(thing, FunctionType) and thing.__code__ is _DISPATCH:
        found: Mapping[Any, Any] = thing.registry  # type: ignore[attr-defined]
        return found
    return None


def is_named(thing: Any) -> bool:
    """Whether it is of these kinds."""
    if isinstance(thing, FunctionType):
        return thing.__code__ is _DISPATCH
    return type(thing) in KINDS


def reduced(thing: Any) -> Any:
    """How a thing of these kinds is to be pickled: by its name where another process can import it."""
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
    if is_newtype(thing):
        return thing.__name__, thing.__supertype__
    if is_typealiastype(thing):
        return thing.__name__, of_alias(thing), thing.__type_params__
    return thing.__name__, *(implementations(thing) or {}).items()


# -- in the process that it was sent to


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
