"""Streams as arguments of calls that cells make."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.notebook.conftest import Notebook

pytestmark = pytest.mark.system

Kernel = Any  # of conftest.py

READER = """
%%service
class Reader:
    @api
    async def count(self, text: AsyncIterator[str]) -> int:
        return len([piece async for piece in text])
"""


@pytest.mark.parametrize(
    "generator", ["def words():\n    yield 'a'\n    yield 1 / 0", "async def words():\n    yield 'a'\n    yield 1 / 0"]
)
def test_an_error_of_the_cells_own_generator_shows_its_line(clean: Notebook, generator: str) -> None:
    clean.ok("from collections.abc import AsyncIterator")
    clean.ok(READER)
    ran = clean.run(f"{generator}\nReader.count(words())")
    assert isinstance(ran.exception, ZeroDivisionError)
    assert "yield 1 / 0" in ran.error
    assert "Reader.count(words())" in ran.error
    assert "nbcompose" not in ran.error


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("Reader.count(Reader.count)", "did you mean Reader.count(…)?"),
        ("Reader.many([1] for _ in range(3))", "`items` takes no stream"),
        ("await Reader.to_async.many(Reader.count)", "did you mean Reader.count(…)?"),
        ("Reader.to_async.nothing(1)", "Reader has no api 'nothing'"),
    ],
)
def test_what_cannot_be_passed_is_told_with_the_line_of_the_cell_alone(clean: Notebook, call: str, said: str) -> None:
    clean.ok("from collections.abc import AsyncIterator")
    clean.ok(f"{READER}    @api\n    def many(self, items: list) -> int:\n        return len(items)\n")
    ran = clean.run(call)
    assert said in ran.error
    assert call in ran.error
    assert "nbcompose" not in ran.error
    assert "During handling" not in ran.error


def test_a_call_of_a_cell_is_named_by_its_cell(kernel: Kernel) -> None:
    kernel.ok("""
        %%service
        class Echo:
            @api
            def say(self, x: int) -> int:
                return x
    """)
    ran = kernel.run("repr(Echo.to_async.say(1))")
    assert re.fullmatch(r"'<call of Echo\.say at Cell In\[\d+\], line 1, not awaited>'", ran.result)


def test_a_stream_of_one_service_that_a_cell_passes_to_another_shows_output_and_one_trace(kernel: Kernel) -> None:
    kernel.ok("import nbcompose\nfrom collections.abc import AsyncIterator")
    kernel.ok("""
        %%service
        class Brewer:
            @api
            async def brew(self, kind: str, n: int) -> AsyncIterator[str]:
                for i in range(n):
                    print(f"pours {i}")
                    yield f"{kind} {i}"

        class Taster:
            @api
            async def taste(self, cups: AsyncIterator[str]) -> int:
                return len([cup async for cup in cups])
    """)
    ran = kernel.ok("Taster.taste(Brewer.brew('oolong', 3))")
    assert ran.result == "3"
    assert "pours 2" in ran.plain + ran.stdout
    drawn = kernel.ok("print(nbcompose.trace())").stdout
    assert drawn.index("Taster.taste") < drawn.index("Brewer.brew")
