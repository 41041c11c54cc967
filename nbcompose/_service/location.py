"""Where a function or a class was written: file and line, in a module or a notebook cell."""

from __future__ import annotations

import inspect
import linecache
import re
from types import FunctionType
from typing import Any

from nbcompose._spec import Location


def locate(thing: Any) -> Location:
    """File and line of a function, or of the `class` line of a class; an empty location where nobody knows."""
    if isinstance(thing, type):
        return _locate_class(thing)
    function = _function(thing)
    return Location(function.__code__.co_filename, function.__code__.co_firstlineno) if function else Location()


def _function(member: Any) -> FunctionType | None:
    """The function inside of what a class body binds; what else there is may answer to any name."""
    member = member.__func__ if isinstance(member, staticmethod | classmethod) else member
    member = member.fget if isinstance(member, property) else member
    inner = inspect.unwrap(member) if isinstance(member, FunctionType) else None
    return inner if isinstance(inner, FunctionType) else None


def _locate_class(cls: type) -> Location:
    for function in filter(None, map(_function, vars(cls).values())):
        code = function.__code__
        # What a decorator made of a class's own (a dataclass's __init__) has no place.
        if code.co_filename != "<string>" and function.__qualname__.startswith(f"{cls.__qualname__}."):
            return Location(code.co_filename, _class_line(cls, code.co_filename, code.co_firstlineno))
    try:
        file = inspect.getsourcefile(cls) or ""
    except (OSError, TypeError):  # not from a file, and no method says which cell it was
        return Location()
    return Location(file, _class_line(cls, file, len(linecache.getlines(file))) if file else 0)


def _class_line(cls: type, file: str, before: int) -> int:
    lines = linecache.getlines(file)
    # From 3.13 on a class knows where its first decorator is; before that, its line is the nearest above a method.
    known = vars(cls).get("__firstlineno__")
    numbers = range(known, len(lines) + 1) if isinstance(known, int) else range(min(before, len(lines)), 0, -1)
    line = re.compile(rf"\s*class\s+{re.escape(cls.__name__)}\b")
    return next((n for n in numbers if line.match(lines[n - 1])), known or before)
