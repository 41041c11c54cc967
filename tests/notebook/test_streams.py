"""Streams as arguments of calls that cells make."""

from __future__ import annotations

import pytest

from tests.notebook.conftest import Notebook

pytestmark = pytest.mark.system

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
