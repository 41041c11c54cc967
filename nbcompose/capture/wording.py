"""What members of classes and annotations say, as text that is equal for what means the same."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_origin

from typing_inspection.typing_objects import is_newtype, is_typealiastype

from nbcompose.capture.digests import digest_of
from nbcompose.wire.named import implementations


def labels_of(classes: list[type[Any]]) -> dict[type[Any], str]:
    """A name for each class; a base may be called like what extends it."""
    found: dict[type[Any], str] = {}
    for cls in classes:
        label = cls.__qualname__
        while label in found.values():
            label = f"the former {label}"
        found[cls] = label
    return found


def shell_of(member: Any) -> str:
    """What a member is besides the functions in it."""
    parts: list[Any] = [type(member).__qualname__]
    if isinstance(member, property):
        parts += [member.fget is None, member.fset is None, member.fdel is None, member.__doc__]
    elif isinstance(member, functools.partialmethod):
        parts += [member.args, member.keywords]
    elif isinstance(member, functools._lru_cache_wrapper):
        parts.append(member.cache_parameters())
    elif (by_type := implementations(member)) is not None:
        parts.append([text_of(cls) for cls in by_type])
    return digest_of(parts)


def text_of(thing: Any) -> str:
    """What a person would write: equal for a class that was made anew."""
    return re.sub(r" at 0x[0-9a-f]+", "", inspect.formatannotation(thing))


def metadata_in(annotation: Any) -> Iterator[Any]:
    """What `Annotated` says besides a type."""
    yield from getattr(annotation, "__metadata__", ())
    for part in getattr(annotation, "__args__", ()):
        yield from metadata_in(part)


def types_in(annotation: Any, space: Mapping[str, Any]) -> Iterator[Any]:
    """The classes, new types and aliases that an annotation names."""
    named = get_origin(annotation) if is_typealiastype(get_origin(annotation)) else annotation
    if isinstance(named, type) or is_newtype(named) or is_typealiastype(named):
        yield named
    if isinstance(annotation, str):
        try:
            names = compile(annotation, "<annotation>", "eval").co_names
        except SyntaxError:
            return
        yield from (space[name] for name in names if isinstance(space.get(name), type))
    for part in getattr(annotation, "__args__", ()):
        yield from types_in(part, space)
