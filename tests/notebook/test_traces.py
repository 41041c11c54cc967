"""Where the time of a call went, asked for in a notebook right after the call."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.system

Notebook = Any  # of conftest.py, which is no module that could be imported

CHAIN = """
%%service
class Writer:
    @api
    def write(self, n: int) -> Iterator[int]:
        yield from range(n)

@service
class Answer:
    writer = depends(Writer)

    @api
    def ask(self, n: int) -> list[int]:
        return list(self.writer.write(n))
"""


def test_a_call_is_there_as_soon_as_it_has_returned(clean: Notebook) -> None:
    clean.ok("import nbcompose\nfrom collections.abc import Iterator")
    clean.ok(CHAIN)
    rows = clean.ok("Answer.ask(3)\nlast = nbcompose.trace()\nlast.rows").result
    assert [(r["service"], r["api"], r["depth"]) for r in rows] == [("Answer", "ask", 0), ("Writer", "write", 1)]
    ask, write = rows
    assert ask["first_item"] is None
    assert 0 < write["queued"] <= write["first_item"] <= write["last_item"] <= write["seconds"] <= ask["seconds"]

    table = clean.ok("Answer.ask(1)\nnbcompose.traces()").result
    assert list(table.service) == ["Answer", "Writer"] * 2
    assert clean.ok("nbcompose.traces(last.id)").result.equals(table[:2])


def test_without_the_extension_it_says_what_to_do(clean: Notebook) -> None:
    clean.ok("import nbcompose")
    clean.ok("%unload_ext nbcompose")
    try:
        assert "%load_ext nbcompose" in clean.run("nbcompose.traces()").error
    finally:
        clean.ok("%load_ext nbcompose\nfrom nbcompose import api, depends, service")
    clean.ok("%reload_ext nbcompose")
    assert len(clean.ok("nbcompose.traces()").result) == 0
