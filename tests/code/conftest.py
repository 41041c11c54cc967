"""Cells that define and redefine a service, in a `__main__` that is no file, and what has to be done about it."""

from __future__ import annotations

import linecache
import sys
import textwrap
import types
from collections.abc import Iterator
from typing import Any

import pytest

from nbcompose._code.diff import Fingerprint, Plan
from nbcompose._code.fingerprint import fingerprint_of
from nbcompose._service.handle import Service
from nbcompose._service.introspect import declare
from nbcompose._spec import ServiceSpec

PREAMBLE = """
import abc, asyncio, dataclasses, enum, functools, math, typing
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial, partialmethod, wraps
from typing import Annotated, Any, Generic, TypedDict, TypeVar
import numpy as np
from nbcompose import api, depends, on_shutdown, on_startup, service
from nbcompose.models import HuggingFaceModel
"""

Version = tuple[ServiceSpec, Fingerprint]


class Notebook:
    """A `__main__` that is no file, and cells that run in it."""

    def __init__(self, space: dict[str, Any]) -> None:
        self.space = space
        self.count = 0
        exec(PREAMBLE, space)

    def run(self, cell: str) -> None:
        self.count += 1
        text, file = textwrap.dedent(cell), f"<cell {self.count}>"
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        exec(compile(text, file, "exec", dont_inherit=True), self.space)

    def version(self, known: Fingerprint | None = None, **options: Any) -> Version:
        found = self.space["Answer"]
        spec = found.spec if isinstance(found, Service) else declare(found, options)
        return spec, fingerprint_of(spec, known)

    def serve(self, cell: str, **options: Any) -> Version:
        """Run the cell of a service; from then on its name stands for the service, as after `%%service`."""
        self.run(cell)
        version = self.version(**options)
        self.space["Answer"] = Service(version[0])
        return version


@pytest.fixture
def notebook() -> Iterator[Notebook]:
    before = sys.modules["__main__"]
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    yield Notebook(vars(module))
    sys.modules["__main__"] = before
    for name in [n for n in linecache.cache if n.startswith("<cell ")]:
        del linecache.cache[name]


def check(plan: Plan, action: str, word: str) -> None:
    assert plan.action == action, plan.reasons
    assert word in " | ".join(plan.reasons)
    assert bool(plan.reasons) == (action != "nothing")


API = """
    @api
    def say(self) -> int:
        return 1
"""


def answer(init: str, *methods: str, bases: str = "") -> str:
    """A service with an `__init__`, an api, and more."""
    body = f"def __init__(self):\n{textwrap.indent(textwrap.dedent(init), '    ')}" if init else ""
    members = textwrap.indent("\n".join([body, *(textwrap.dedent(m) for m in methods)]), "    ")
    return f"class Answer{bases}:\n{members}\n{API}"


F = "def f(self):\n    return 'old'\n"
G = "def g(self):\n    return 'other'\n"
