"""Locate the source of a function or class: file and line, in a module or a notebook cell."""

from __future__ import annotations

import inspect
import linecache
import re
from types import FunctionType
from typing import Any

from nbcompose._spec import Location


def locate(thing: Any) -> Location:
    """Return file and line of a function, or of the `class` line of a class; an empty location if unknown."""
    if isinstance(thing, type):
        return _locate_class(thing)
    function = _function(thing)
    return Location(function.__code__.co_filename, function.__code__.co_firstlineno) if function else Location()


def _function(member: Any) -> FunctionType | None:
    """Return the function inside a class member. Other objects are not inspected: they may have every attribute."""
    member = member.__func__ if isinstance(member, staticmethod | classmethod) else member
    member = member.fget if isinstance(member, property) else member
    inner = inspect.unwrap(member) if isinstance(member, FunctionType) else None
    return inner if isinstance(inner, FunctionType) else None


def _locate_class(cls: type) -> Location:
    for function in filter(None, map(_function, vars(cls).values())):
        code = function.__code__
        # Skip functions that a decorator generated (a dataclass's __init__): they have no source.
        if code.co_filename != "<string>" and function.__qualname__.startswith(f"{cls.__qualname__}."):
            return Location(code.co_filename, _class_line(cls, code.co_filename, code.co_firstlineno))
    try:
        file = inspect.getsourcefile(cls) or ""
    except (OSError, TypeError):  # not from a file, and no method tells which cell it is from
        return Location()
    return Location(file, _class_line(cls, file, len(linecache.getlines(file))) if file else 0)


def _class_line(cls: type, file: str, before: int) -> int:
    lines = linecache.getlines(file)
    # From Python 3.13 on a class has the line of its first decorator; before that, search upwards from a method.
    known = vars(cls).get("__firstlineno__")
    numbers = range(known, len(lines) + 1) if isinstance(known, int) else range(min(before, len(lines)), 0, -1)
    line = re.compile(rf"\s*class\s+{re.escape(cls.__name__)}\b")
    return next((n for n in numbers if line.match(lines[n - 1])), known or before)
