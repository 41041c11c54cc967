"""Where in a value the part sits that cannot be pickled: for a message, after the fact, so it may take its time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from nbcompose.raised import in_short

MAX_ATTEMPTS = 2000  # parts tried before the search is given up and the part found so far is named


def locate(value: Any, root: str, pickles: Callable[[Any], bool]) -> tuple[str, Any]:
    """The path to the innermost part of `value` that does not pickle, and that part.

    A pair of a tuple and a dict is shown as the arguments of a call: `root[0]`, `root['name']`.
    """
    attempts = itertools.count()
    parts = _argument_parts(value) if _is_arguments(value) else _parts(value)
    path, seen = root, {id(value)}
    while True:
        fresh = ((step, part) for step, part in parts if id(part) not in seen)
        bad = next(((s, p) for s, p in fresh if next(attempts) > MAX_ATTEMPTS or not pickles(p)), None)
        if bad is None or next(attempts) > MAX_ATTEMPTS:
            return path, value
        path, value = path + bad[0], bad[1]
        seen.add(id(value))
        parts = _parts(value)


def _is_arguments(value: Any) -> bool:
    return type(value) is tuple and len(value) == 2 and type(value[0]) is tuple and type(value[1]) is dict


def _argument_parts(value: Any) -> Iterator[tuple[str, Any]]:
    yield from _parts(value[0])
    yield from _parts(value[1])


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in list(value.items()):
            yield f"[{in_short(key, 200)}]", item
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield f"[{i}]", item
    elif isinstance(value, (set, frozenset)):
        for item in value:
            yield "{…}", item
    elif not isinstance(value, type) and not callable(value):
        for name, item in list(getattr(value, "__dict__", {}).items()):
            yield f".{name}", item
