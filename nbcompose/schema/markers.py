"""What stands in a default's place and only describes the parameter: pydantic's `Field(...)`, and what is not it."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

from nbcompose.schema.types import Adapter, adapter_of

# What objects have that describe a parameter or a field, in whatever framework.
_TELLTALES = ("default", "default_factory", "dependency")


def misused(default: Any, annotation: Any) -> str:
    """Why a parameter cannot be declared so; "" where it can."""
    for field in (default, *_metadata(annotation)):
        if isinstance(field, FieldInfo):
            if type(field) is not FieldInfo:
                return _not_ours(field)
            if field.alias is not None or field.validation_alias is not None:
                return "it has an alias, but a parameter has one name, in Python and over HTTP: rename it"
    return _not_ours(default) if _describes(default, annotation) else ""


def _metadata(annotation: Any) -> tuple[Any, ...]:
    """What `Annotated` says of the parameter and of the members of a union, as in `Annotated[int, Field()] | None`."""
    found = getattr(annotation, "__metadata__", ())
    parts = get_args(annotation)[:1] if found else (get_args(annotation) if _is_union(annotation) else ())
    return (*found, *(m for part in parts for m in _metadata(part)))


def _is_union(annotation: Any) -> bool:
    return getattr(get_origin(annotation), "__qualname__", "") in ("Union", "UnionType")


def _describes(default: Any, annotation: Any) -> bool:
    """Whether a default is no value of its parameter, and looks like something that describes one."""
    if isinstance(default, dataclasses.Field):
        return True
    if isinstance(default, type | FieldInfo) or not any(_has(default, name) for name in _TELLTALES):
        return False
    try:
        adapter_of(Adapter(over_http=False).adapt(annotation)).validate_python(default)
    except Exception:  # it is of another type, or whatever its attributes raise
        return True
    return False


def _has(value: Any, name: str) -> bool:
    """Whether a class says so: some objects have an answer to any name."""
    return name in getattr(value, "__dict__", {}) or any(name in vars(base) for base in type(value).__mro__)


def _not_ours(default: Any) -> str:
    cls = type(default)
    return (
        f"its default is a {cls.__name__} of {cls.__module__}, which nbcompose does not know and would hand to the "
        "method: write a value, or pydantic's Field(...)"
    )
