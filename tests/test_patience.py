"""Tests wait for `PATIENCE`: a limit of a test's own is what fails where a machine has other things to do."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import PATIENCE, ever_longer, until, wait_until

TESTS = Path(__file__).parent
# Where a number says how long to wait: the position of the argument, and its name.
LIMITS = {
    "wait": (0, "timeout"), "join": (0, "timeout"), "result": (0, "timeout"), "timeout": (0, "delay"),
    "wait_for": (1, "timeout"), "communicate": (1, "timeout"), "wait_for_ready": (0, "timeout"),
}  # fmt: skip


def limits_in(text: str) -> Iterator[int]:
    """The lines that wait with a number of their own."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LIMITS:
            position, name = LIMITS[node.func.attr]
            given = [*node.args[position : position + 1], *(k.value for k in node.keywords if k.arg == name)]
            if any(isinstance(g, ast.Constant) and isinstance(g.value, int | float) and g.value for g in given):
                yield node.lineno


def test_numbers_are_found() -> None:
    text = "e.wait(10)\ne.wait(PATIENCE)\nt.join(timeout=5)\nawait asyncio.wait_for(x, 2.0)\ne.wait()\n"
    assert list(limits_in(text)) == [1, 3, 4]


def test_every_wait_has_the_one_limit() -> None:
    files = [p for p in TESTS.rglob("*.py") if not {"services", "golden"} & set(p.relative_to(TESTS).parts)]
    found = [f"{p.relative_to(TESTS)}:{line}" for p in files for line in limits_in(p.read_text(encoding="utf-8"))]
    assert found == [], "wait for PATIENCE, of tests/patience.py"


def test_deadlines_grow_up_to_the_limit() -> None:
    seconds: list[float] = []
    with pytest.raises(AssertionError, match="under way"):
        seconds.extend(ever_longer(1.0))
    assert seconds == [2.0**n for n in range(len(seconds))]
    assert PATIENCE / 2 <= seconds[-1] < PATIENCE


async def test_what_never_happens_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    done = asyncio.Event()
    await until(lambda: True)
    monkeypatch.setattr("tests.patience.PATIENCE", 0.0)
    with pytest.raises(AssertionError, match=r"not within 0 s: .*done\.is_set"):
        await until(lambda: done.is_set())
    with pytest.raises(AssertionError, match="not within 0 s: it is done"):
        wait_until(done.is_set, "it is done")
