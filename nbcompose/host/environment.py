"""Environment variables of a process that is to be forked: which of them its imports read, and which its children get.

The zygote `watch`es from its first instruction on; `read` says who looked at what. A replica that it forks `take`s the
environment that it would have been started with.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from types import CodeType
from typing import Any

# Those that look at all variables, and the ones that they look for among them.
_LOOK_FOR = {"tqdm.utils": "TQDM_*", "wsgiref.handlers": ""}
# Modules that stand between a reader and the variables.
_BETWEEN = ("os", "collections.abc", "_collections_abc", __name__)

_began: dict[str, str] | None = None  # what this process was started with, where it is watched


class _Watched(dict[bytes, bytes]):
    """What `os.environ` and `os.environb` keep their variables in."""

    def __init__(self, variables: Mapping[bytes, bytes]) -> None:
        super().__init__(variables)
        self.began = dict(variables)
        self.readers: dict[str, str] = {}
        self._walks: set[tuple[CodeType, int]] = set()  # where all are gone through: each is read there as well

    def __getitem__(self, key: bytes) -> bytes:
        self._note(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self._note(key)
        return super().__contains__(key)

    def get(self, key: bytes, default: Any = None) -> Any:
        self._note(key)
        return super().get(key, default)

    def __iter__(self) -> Iterator[bytes]:
        module, place = _reader()
        self._walks.add(place)
        pattern = _LOOK_FOR.get(module, "*")
        if pattern:
            self.readers.setdefault(pattern, module)
        return super().__iter__()

    def _note(self, key: object) -> None:
        # One that was set since is not what whoever started this process has given.
        if isinstance(key, bytes) and dict.get(self, key) == self.began.get(key):
            module, place = _reader()
            if place not in self._walks:
                self.readers.setdefault(os.fsdecode(key), module)


def _reader() -> tuple[str, tuple[CodeType, int]]:
    """The module whose code is asking, and the place in it."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__") in _BETWEEN:
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", "?")), (frame.f_code, frame.f_lasti)


def watch() -> None:
    """Note from now on who reads which variable."""
    global _began
    _began = dict(os.environ)
    _put(_Watched(_variables()))


def read() -> dict[str, str]:
    """Stop watching: the names that were read (or patterns, as "TQDM_*"), each with the module that did so first."""
    watched = _variables()
    assert isinstance(watched, _Watched)
    readers = dict(watched.readers)  # now: making a copy of the variables reads them
    _put(dict(watched))
    return readers


def changed() -> dict[str, str]:
    """The variables that this process has set since it is watched: some libraries do so when they are imported."""
    assert _began is not None
    return {name: value for name, value in os.environ.items() if _began.get(name) != value}


def take(wanted: Mapping[str, str]) -> None:
    """In a forked process: have the variables that it would have been started with.

    What a library has set when it was imported stays: it would have done so here too. Nothing to do in a process that
    was started by itself.
    """
    if _began is None:
        return
    for name in _began.keys() | wanted.keys():
        value, before = wanted.get(name), _began.get(name)
        if value == before or os.environ.get(name) != before:
            continue
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


def _variables() -> dict[bytes, bytes]:
    variables: dict[bytes, bytes] = vars(os.environ)["_data"]
    return variables


def _put(variables: dict[bytes, bytes]) -> None:
    for view in (os.environ, os.environb):
        vars(view)["_data"] = variables
