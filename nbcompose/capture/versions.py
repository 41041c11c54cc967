"""One version of all that a service takes along: a class of the notebook is the one that its name stands for now.

A class statement that runs again makes another class, and what was made before goes on with the one before:
annotations, classes that extend it, values. Pickle finds the class of a module by its name; this is the same for a
notebook. Where something was made *from* a class that says something else now, nothing can be put in its place: it is
`Outdated`, and its own cell has to run again.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable
from types import FunctionType
from typing import Any

from nbcompose.capture.digests import Digester, digest_of_code
from nbcompose.schema.structs import is_model
from nbcompose.schema.written import annotations_of
from nbcompose.wire.named import is_notebooks, names_now, newest


class Outdated(Exception):
    """A class or value was made from a class whose cell has run again since. The message goes on after its name."""

    def __init__(self, thing: Any, message: str) -> None:
        super().__init__(message)
        self.thing = thing


class Versions:
    """Which classes of the notebook are outdated, at one moment. `root`: a class that is what it is, by any name."""

    def __init__(self, root: type[Any] | None = None) -> None:
        self._current = {*names_now(), id(root)}
        # By id, since a class may have no hash; with the class, which so lives on.
        self._newest: dict[int, tuple[type[Any], Any]] = {}
        self._changed: dict[int, tuple[Any, bool]] = {}

    def newest(self, thing: Any) -> Any:
        """The class, new type or alias that the notebook calls by this name now; see `named.newest`."""
        if not isinstance(thing, type):
            return newest(thing, self._current)
        known = self._newest.get(id(thing))
        if known is None:
            known = self._newest[id(thing)] = thing, newest(thing, self._current)
        return known[1]

    def differs(self, thing: Any) -> bool:
        """Whether it is outdated, and says something else than the newest."""
        now = self.newest(thing)
        if now is thing:
            return False
        if id(thing) not in self._changed:
            before, after = (Digester(is_notebooks).told(version, flat=True) for version in (thing, now))
            self._changed[id(thing)] = thing, before is None or before != after
        return self._changed[id(thing)][1]

    def has_overtaken(self, function: FunctionType) -> bool:
        """Whether the notebook calls another function by this name, which does something else."""
        name = function.__qualname__
        if function.__module__ != "__main__" or id(function) in self._current:
            return False
        now = getattr(sys.modules["__main__"], name, None)
        now = inspect.unwrap(now) if isinstance(now, FunctionType) else None
        if not isinstance(now, FunctionType) or (now.__module__, now.__qualname__) != ("__main__", name):
            return False
        return digest_of_code(now.__code__) != digest_of_code(function.__code__)

    def check(self, cls: type[Any]) -> None:
        """Raises `Outdated` where a class of the notebook was made from one that says something else now."""
        if not is_notebooks(cls):
            return
        for base in cls.__bases__:
            if self.differs(base):
                raise Outdated(cls, f"extends {said(base)}: run the cell of {cls.__name__} again")
        if is_model(cls):  # its validator has what the fields of its fields were
            for name, annotation in annotations_of(cls).items():
                if of := next(filter(self.differs, classes_in(annotation)), None):
                    raise Outdated(cls, f"has a field {name} of {said(of)}: run the cell of {cls.__name__} again")


def said(thing: Any) -> str:
    """An outdated thing, in words."""
    return f"{thing.__name__} as it was before the cell of {thing.__name__} was run again"


def classes_in(annotation: Any) -> Iterable[type[Any]]:
    """The classes that an annotation names, other than as text."""
    if isinstance(annotation, type):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from classes_in(part)
