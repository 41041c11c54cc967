"""Resolve annotations: strings become types, in place, and a `Field(...)` as a default value becomes its default.

`from __future__ import annotations` leaves strings, and a function that is pickled by value takes along only those
globals that its code uses, not those that its annotations name. So names are resolved once, in the process where the
class was written, and written back into the function or class. See `_schema/adapters.py` for how each type is
validated.
"""

from __future__ import annotations

import collections.abc
import copyreg
import dataclasses
import functools
import inspect
import operator
import sys
from collections.abc import Callable, Mapping
from types import FunctionType, GenericAlias, SimpleNamespace, UnionType
from typing import Annotated, Any, ForwardRef, Generic, Optional, Protocol, cast, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typing_extensions import Format, get_annotations, get_type_hints

_LENIENT: dict[str, Any] = {"annotation_format": Format.FORWARDREF} if sys.version_info >= (3, 14) else {}


def annotations_of(thing: Any) -> dict[str, Any]:
    """Return the annotations of a function, or those of a class without its bases, by name."""
    found = get_annotations(thing, format=Format.FORWARDREF)
    return {name: a.__forward_arg__ if isinstance(a, ForwardRef) else a for name, a in found.items()}


def written_signature(function: Callable[..., Any], *, follow_wrapped: bool = True) -> inspect.Signature:
    """As `inspect.signature`, but names in annotations need not exist (`inspect.signature` fails there from Python 3.14
    on).
    """
    return inspect.signature(function, follow_wrapped=follow_wrapped, **_LENIENT)


# A dataclass field without a default is recognized by the identity of MISSING, which is lost when a dataclass is
# pickled by value: every field would then have a default. If a reducer returns a string, pickle looks the object up by
# that name.
copyreg.pickle(type(dataclasses.MISSING), lambda _: "MISSING")


def of_function(function: Callable[..., Any], owner: type) -> tuple[dict[str, Any], dict[str, Exception]]:
    """Return the resolved annotations of a method, and the errors of those that cannot be resolved, both by parameter.

    The return annotation is under "return". `x: int = None` means `int | None`, and `x: int = Field(3, ge=1)` means `x:
    Annotated[int, Field(ge=1)] = 3`. A type variable of a generic base class is replaced with the argument that `owner`
    extends the base with.
    """
    inner = inspect.unwrap(function)
    scope = {**{name: value for name, value in vars(owner).items() if isinstance(value, type)}, owner.__name__: owner}
    namespace = getattr(inner, "__globals__", {})
    found: dict[str, Any] = {}
    errors: dict[str, Exception] = {}
    written = annotations_of(inner)
    for name, annotation in list(written.items()):
        holder = SimpleNamespace(__annotations__={name: annotation})
        try:
            found[name] = get_type_hints(holder, namespace, scope, include_extras=True)[name]
        except Exception as error:  # an annotation is an expression: it may raise anything
            errors[name] = error
    _write(inner, {name: found[name] for name in found if _is_unresolved(written[name])})
    for name, parameter in written_signature(inner).parameters.items():
        if name in errors:
            continue
        field = parameter.default if isinstance(parameter.default, FieldInfo) else None
        default = parameter.default if field is None else field.default
        if default is None and name in found and not _is_settled(found[name]):
            found[name] = Optional[found[name]]  # noqa: UP045  # `|` is not defined for every annotation
        if field is not None:
            found[name] = Annotated[found.get(name, Any), field]
            _settle(inner, name, default, found[name])
    if by_variable := variables_of(inner, owner):
        found = {name: _replace(annotation, by_variable) for name, annotation in found.items()}
    return found, errors


def variables_of(function: Callable[..., Any], owner: type) -> dict[Any, Any]:
    """Return the arguments of a method's generic base class, by type variable, in a class that extends it: `class
    Words(Base[str])`.
    """
    bound: dict[type, dict[Any, Any]] = {}
    for cls in owner.__mro__:
        for written in vars(cls).get("__orig_bases__", ()):
            generic: Any = get_origin(written)
            if isinstance(generic, type) and generic not in (Generic, Protocol):
                arguments = (_replace(a, bound.get(cls, {})) for a in get_args(written))
                bound.setdefault(generic, dict(zip(getattr(generic, "__parameters__", ()), arguments, strict=False)))
    if not bound:
        return {}
    inner = inspect.unwrap(function)
    home = next((c for c in owner.__mro__ if any(_unwrapped(m) is inner for m in vars(c).values())), owner)
    return bound.get(home, {})


def _unwrapped(member: Any) -> Any:
    return inspect.unwrap(member) if isinstance(member, FunctionType) else member


def field_of(annotation: Any) -> FieldInfo | None:
    """Return the last `Field(...)` that describes the parameter as a whole."""
    if get_origin(annotation) is not Annotated:
        return None
    return next((m for m in reversed(annotation.__metadata__) if isinstance(m, FieldInfo)), None)


def is_required(parameter: inspect.Parameter, annotation: Any) -> bool:
    """Whether a call must pass the argument: neither the signature nor a `Field(...)` has a default."""
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        return False
    if isinstance(parameter.default, FieldInfo):
        return parameter.default.is_required()
    field = field_of(annotation)
    return parameter.default is parameter.empty and (field is None or field.is_required())


def _is_settled(annotation: Any) -> bool:
    """Whether the default `None` comes from a `Field(None)`, which `_settle` has already replaced."""
    field = field_of(annotation)
    return field is not None and field.default is None


def _settle(function: Any, name: str, default: Any, annotation: Any) -> None:
    """Replace a default `Field(...)` in a function with its value, so that the class may call the method directly as
    well.

    A required field, or one with a default factory, has no such value and stays as it was written.
    """
    if default is PydanticUndefined or not isinstance(function, FunctionType):
        return
    _write(function, {name: annotation})
    by_keyword = function.__kwdefaults__ or {}
    if name in by_keyword:
        function.__kwdefaults__ = {**by_keyword, name: default}
        return
    code, defaults = function.__code__, list(function.__defaults__ or ())
    defaults[code.co_varnames.index(name) - code.co_argcount] = default
    function.__defaults__ = tuple(defaults)


def renew(function: Callable[..., Any], newest: Callable[[Any], Any]) -> None:
    """Replace the classes that a method's annotations name with their newest versions."""
    inner = inspect.unwrap(function)
    written = annotations_of(inner)
    renewed = {name: _renewed(annotation, newest) for name, annotation in written.items()}
    _write(inner, {name: annotation for name, annotation in renewed.items() if annotation is not written[name]})


def _renewed(annotation: Any, newest: Callable[[Any], Any]) -> Any:
    parts = getattr(annotation, "__args__", ())
    if isinstance(annotation, type) or not parts:
        return newest(annotation)
    new = tuple(_renewed(part, newest) for part in parts)
    if all(now is before for now, before in zip(new, parts, strict=True)):
        return annotation
    if isinstance(annotation, UnionType):
        return functools.reduce(operator.or_, new)
    if get_origin(annotation) is collections.abc.Callable:
        return Callable[new[0] if new[0] is ... else list(new[:-1]), new[-1]]
    if isinstance(annotation, GenericAlias):
        return GenericAlias(cast(type, annotation.__origin__), new)
    return annotation.copy_with(new)  # generic aliases of `typing`


def of_class(cls: type) -> dict[str, Any]:
    """Return the annotations of a dataclass, TypedDict or named tuple, bases included. Raises what an annotation
    raises.
    """
    for base in reversed(cls.__mro__[:-1]):
        own = annotations_of(base)
        if any(_is_unresolved(annotation) for annotation in own.values()):
            _write(base, _resolve(base, own))
    hints = _resolve(cls, {})
    if dataclasses.is_dataclass(cls):
        for field in dataclasses.fields(cls):
            if _is_unresolved(field.type):
                field.type = hints[field.name]
    return hints


def of_alias(alias: Any) -> Any:
    """Return the value of a type alias; strings are resolved in its module. Raises what resolving raises."""
    value = alias.__value__
    if not _is_unresolved(value):
        return value
    scope = {p.__name__: p for p in alias.__type_params__} | {alias.__name__: alias}
    namespace = vars(sys.modules[alias.__module__])
    holder = SimpleNamespace(__annotations__={"value": value})
    return get_type_hints(holder, namespace, scope, include_extras=True)["value"]


def substitute(hints: Mapping[str, Any], cls: Any, args: tuple[Any, ...]) -> dict[str, Any]:
    """Return the hints of a generic class with the arguments of `Cls[args]` substituted."""
    parameters = getattr(cls, "__parameters__", ())
    if not args or len(parameters) != len(args):
        return dict(hints)
    by_variable = dict(zip(parameters, args, strict=True))
    return {name: _replace(hint, by_variable) for name, hint in hints.items()}


def _replace(hint: Any, by_variable: Mapping[Any, Any]) -> Any:
    variables = getattr(hint, "__parameters__", ())
    if hint in by_variable:
        return by_variable[hint]
    if variables and not isinstance(hint, type):
        return hint[tuple(by_variable.get(v, v) for v in variables)]
    return hint


def _write(thing: Any, annotations: Mapping[str, Any]) -> None:
    """Write annotations back. They also reach an object with the same dict (`__new__` of a named tuple)."""
    own = vars(thing).get("__annotations__") if isinstance(thing, type) else None
    if own is not None:
        own.update(annotations)
    elif annotations:
        thing.__annotations__ = annotations_of(thing) | dict(annotations)


def _resolve(cls: type, own: Mapping[str, Any]) -> dict[str, Any]:
    hints: dict[str, Any] = get_type_hints(cls, localns={cls.__name__: cls}, include_extras=True)
    return {name: hints[name] for name in own} if own else hints


def _is_unresolved(annotation: Any) -> bool:
    """Whether the annotation still contains a name to be resolved."""
    if isinstance(annotation, (str, ForwardRef)):
        return True
    return any(_is_unresolved(part) for part in getattr(annotation, "__args__", ()))
