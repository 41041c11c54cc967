"""What annotations mean: strings become types, in place, so that a class still has its types after it has travelled.

`from __future__ import annotations` leaves strings, and a function that is sent to another process by value takes
along only those globals that its code uses, not those that its annotations name. So names are looked up once, where
the class was written, and what they mean is written back. Which type is validated how is `types.py`'s matter.
"""

from __future__ import annotations

import copyreg
import dataclasses
import inspect
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, ForwardRef, Optional

from typing_extensions import get_type_hints

from nbcompose.schema.written import annotations_of, written_signature

# The mark of a field without a default is known by identity, which it loses when a dataclass is pickled by value: from
# then on every field would have a default. A reducer that returns a name is looked up by that name.
copyreg.pickle(type(dataclasses.MISSING), lambda _: "MISSING")


def of_function(function: Callable[..., Any], owner: type) -> tuple[dict[str, Any], dict[str, Exception]]:
    """The annotations of a method, resolved, and the errors of those that cannot be, both by parameter.

    The return annotation is "return". `x: int = None` means `int | None`, as its author meant it.
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
        if parameter.default is None and name in found:
            found[name] = Optional[found[name]]  # noqa: UP045  # `|` is not defined for every annotation
    return found, errors


def of_class(cls: type) -> dict[str, Any]:
    """The annotations of a dataclass, TypedDict or named tuple, bases included. Raises what an annotation raises."""
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


def substitute(hints: Mapping[str, Any], cls: Any, args: tuple[Any, ...]) -> dict[str, Any]:
    """The hints of a generic class with the arguments of `Cls[args]` put in."""
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
    """Write annotations back. What has the same dict (`__new__` of a named tuple) has them, too."""
    own = vars(thing).get("__annotations__") if isinstance(thing, type) else None
    if own is not None:
        own.update(annotations)
    elif annotations:
        thing.__annotations__ = annotations_of(thing) | dict(annotations)


def _resolve(cls: type, own: Mapping[str, Any]) -> dict[str, Any]:
    hints: dict[str, Any] = get_type_hints(cls, localns={cls.__name__: cls}, include_extras=True)
    return {name: hints[name] for name in own} if own else hints


def _is_unresolved(annotation: Any) -> bool:
    """Whether a name is still to be looked up somewhere inside."""
    if isinstance(annotation, (str, ForwardRef)):
        return True
    return any(_is_unresolved(part) for part in getattr(annotation, "__args__", ()))
