"""Cells of a notebook whose code fails in every shape that code has, and the frames that its tracebacks must show."""

from __future__ import annotations

import linecache
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nbcompose import Service

HELPERS = """
import functools
from contextlib import contextmanager

def helper(text):
    raise ValueError(text)  # helper

def generated(text):
    yield text
    helper(text)  # generated

async def awaited(text):
    helper(text)  # awaited

async def generated_async(text):
    yield text
    helper(text)  # generated_async

@contextmanager
def managed(text):
    yield
    helper(text)  # managed

def logged(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)  # wrapper
    return wrapper

def bare(function):
    return lambda *args: function(*args)  # bare

def closed_over(text):
    def outer():
        def inner():
            return helper(text)  # inner
        return inner()  # outer
    return outer

closure = closed_over("on purpose")
"""

TOOL = """
class Tool:
    class Part:
        def use(self):
            helper("on purpose")  # Part.use

    def __init__(self, text):
        self.text = text

    def __call__(self):
        Tool.Part().use()  # __call__

    @property
    def read(self):
        return helper(self.text)  # read

    @read.setter
    def read(self, value):
        helper(value)  # read.setter

    @functools.cached_property
    def kept(self):
        return helper(self.text)  # kept

    @classmethod
    def of_class(cls):
        return helper("on purpose")  # of_class

    @staticmethod
    def static():
        return helper("on purpose")  # static
"""

LATER = """
def from_another_cell(self):
    helper("on purpose")  # from_another_cell

class Base:
    def inherited(self):
        helper("on purpose")  # inherited
"""

SERVICE = """
from collections.abc import AsyncIterator, Iterator

@service
class Fails(Base):
    joined = from_another_cell

    @api
    def sync(self, case: str) -> None:
        getattr(self, case)()  # sync

    @api
    async def on_loop(self, case: str) -> None:
        await getattr(self, case)()  # on_loop

    @api
    def stream(self) -> Iterator[str]:
        yield from generated("on purpose")  # stream

    @api
    async def stream_on_loop(self) -> AsyncIterator[str]:
        async for text in generated_async("on purpose"):  # stream_on_loop
            yield text

    @api(batchable=True)
    def batched(self, texts: list[str]) -> list[str]:
        return [helper(text) for text in texts]  # batched

    @api
    @logged
    def decorated(self) -> None:
        helper("on purpose")  # decorated

    def of_method(self):
        helper("on purpose")  # of_method

    def of_lambda(self):
        (lambda: helper("on purpose"))()  # of_lambda

    def of_comprehension(self):
        [helper(text) for text in ["on purpose"]]  # of_comprehension

    def of_generator_expression(self):
        any(helper(text) for text in ["on purpose"])  # of_generator_expression

    def of_nested(self):
        def nested():
            helper("on purpose")  # nested
        nested()  # of_nested

    def of_closure(self):
        closure()  # of_closure

    @bare
    def of_bare(self):
        helper("on purpose")  # of_bare

    def of_generator(self):
        list(generated("on purpose"))  # of_generator

    async def of_await(self):
        await awaited("on purpose")  # of_await

    def of_context(self):
        with managed("on purpose"):  # of_context
            pass

    def of_property(self):
        Tool("on purpose").read  # of_property

    def of_setter(self):
        Tool("").read = "on purpose"  # of_setter

    def of_cached(self):
        Tool("on purpose").kept  # of_cached

    def of_classmethod(self):
        Tool.of_class()  # of_classmethod

    def of_static(self):
        Tool.static()  # of_static

    def of_call(self):
        Tool("")()  # of_call

    def of_lines(self):
        (helper)(  # of_lines

            "on purpose",
        )
"""

ADDED = """
def added(self):
    helper("on purpose")  # added

Fails.inner.added = added
"""

CELLS = (HELPERS, TOOL, LATER, SERVICE, ADDED)
# The same with other code in other lines, to be swapped for it: `helper` fails otherwise.
CHANGED = tuple(
    f"# changed\n\n{cell}".replace("raise ValueError(text)", "raise ValueError(text * 2)") for cell in CELLS
)

# From 3.12 on a list is made in the frame that it stands in.
_LISTCOMP = ("<listcomp>",) if sys.version_info < (3, 12) else ()

# By api and argument: the frames, with the mark of a frame's line where that is not its name.
CASES: dict[tuple[str, Any], tuple[str | tuple[str, str], ...]] = {
    ("sync", "of_method"): ("sync", "of_method", "helper"),
    ("sync", "of_lambda"): ("sync", "of_lambda", ("<lambda>", "of_lambda"), "helper"),
    ("sync", "of_comprehension"): (
        "sync",
        "of_comprehension",
        *((name, "of_comprehension") for name in _LISTCOMP),
        "helper",
    ),
    ("sync", "of_generator_expression"): (
        "sync",
        "of_generator_expression",
        ("<genexpr>", "of_generator_expression"),
        "helper",
    ),
    ("sync", "of_nested"): ("sync", "of_nested", "nested", "helper"),
    ("sync", "of_closure"): ("sync", "of_closure", "outer", "inner", "helper"),
    ("sync", "of_bare"): ("sync", ("<lambda>", "bare"), "of_bare", "helper"),
    ("sync", "of_generator"): ("sync", "of_generator", "generated", "helper"),
    ("sync", "of_context"): ("sync", "of_context", "managed", "helper"),
    ("sync", "of_property"): ("sync", "of_property", "read", "helper"),
    ("sync", "of_setter"): ("sync", "of_setter", ("read", "read.setter"), "helper"),
    ("sync", "of_cached"): ("sync", "of_cached", "kept", "helper"),
    ("sync", "of_classmethod"): ("sync", "of_classmethod", "of_class", "helper"),
    ("sync", "of_static"): ("sync", "of_static", "static", "helper"),
    ("sync", "of_call"): ("sync", "of_call", "__call__", ("use", "Part.use"), "helper"),
    ("sync", "of_lines"): ("sync", "of_lines", "helper"),
    ("sync", "joined"): ("sync", "from_another_cell", "helper"),
    ("sync", "inherited"): ("sync", "inherited", "helper"),
    ("sync", "added"): ("sync", "added", "helper"),
    ("on_loop", "of_await"): ("on_loop", "of_await", "awaited", "helper"),
    ("stream", None): ("stream", "generated", "helper"),
    ("stream_on_loop", None): ("stream_on_loop", "generated_async", "helper"),
    ("decorated", None): ("wrapper", "decorated", "helper"),
    ("batched", ("on purpose",)): ("batched", *((name, "batched") for name in _LISTCOMP), "helper"),
}


def frames(case: tuple[str, Any], cells: tuple[str, ...] = CELLS) -> str:
    """What the traceback of a case says, as Python writes it."""
    named = [part if isinstance(part, tuple) else (part, part) for part in CASES[case]]
    return "\n".join(_frame(name, mark, cells) for name, mark in named)


def _frame(name: str, mark: str, cells: tuple[str, ...]) -> str:
    for cell in cells:
        for number, line in enumerate(cell.splitlines(), 1):
            if line.endswith(f"  # {mark}"):
                return f'  File "{_file(cell)}", line {number}, in {name}\n    {line.strip()}'
    raise LookupError(mark)


def _file(cell: str) -> str:
    """A name such as a kernel gives: by the cell's text, and nothing that is there."""
    return f"/tmp/ipykernel_7/{zlib.crc32(cell.encode())}.py"


@contextmanager
def notebook(cells: tuple[str, ...] = CELLS) -> Iterator[Service]:
    """Run the cells as a kernel does: names in `__main__`, no files, the sources in linecache. The service `Fails`."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec("from nbcompose import api, service", space)
    try:
        for cell in cells:
            file = _file(cell)
            linecache.cache[file] = (len(cell), None, cell.splitlines(keepends=True), file)
            exec(compile(cell, file, "exec", dont_inherit=True), space)
        yield space["Fails"]
    finally:
        for cell in cells:
            linecache.cache.pop(_file(cell), None)
