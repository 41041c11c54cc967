"""Async apis of dependencies in a real kernel: called as declared, named on cards, and declared otherwise later."""

from __future__ import annotations

import re
from typing import Any

import pytest

pytestmark = pytest.mark.system

Kernel = Any  # of conftest.py

LEAF = """
%%service
class Leaf:
    @api
    async def check(self, s: str) -> str:
        return s.upper()
    @api
    async def words(self, n: int):
        for i in range(n):
            yield str(i)
"""

FRONT = """
%%service
class Front:
    leaf = depends("Leaf")
    @api
    async def one(self, s: str = "abc") -> str:
        return await self.leaf.check(s)
    @api
    async def tell(self, n: int = 3) -> str:
        return " ".join([word async for word in self.leaf.words(n)])
    @api
    def waits(self, s: str = "abc") -> str:
        return self.leaf.to_sync.check(s) + " ".join(self.leaf.to_sync.words(2))
"""

RELIES_ON_WAITING = """
%%service
class Old:
    leaf = depends("Leaf")
    @api
    def two(self, s: str = "abc") -> str:
        x = self.leaf.check(s)
        return x + "!"
"""

RESTARTS = "[(s.version, s.restarts) for s in get_ipython().meta['nbcompose'].registry.statuses() if s.name == {!r}]"


def card(ran: Any) -> str:
    return str(ran.displays[-1]["text/plain"])


def test_a_dependency_is_called_as_it_is_declared_and_the_notebook_waits(kernel: Kernel) -> None:
    assert "note" not in card(kernel.ok(LEAF))
    assert "note" not in card(kernel.ok(FRONT))
    assert kernel.ok("Front.one(), Front.tell(), Front.waits()").result == "('ABC', '0 1 2', 'ABC0 1')"
    assert kernel.ok("Leaf.check('x'), list(Leaf.words(2))").result == "('X', ['0', '1'])"
    asked = "await Leaf.to_async.check('x'), [w async for w in Leaf.to_async.words(2)]"
    assert kernel.ok(asked).result == "('X', ['0', '1'])"
    shown = kernel.ok("Leaf.to_async.check('x')").result
    assert re.fullmatch(r"<call of Leaf\.check at Cell In\[\d+\], line 1, not awaited>", shown)


@pytest.mark.parametrize("leaf_first", [True, False])
def test_a_card_names_what_relied_on_waiting_and_the_call_says_it_too(kernel: Kernel, leaf_first: bool) -> None:
    first, second = (LEAF, RELIES_ON_WAITING) if leaf_first else (RELIES_ON_WAITING, LEAF)
    kernel.ok(first)
    shown = card(kernel.ok(second))
    note = r"note: Old\.two calls self\.leaf\.check \(Cell In\[\d+\], line 6\): Leaf\.check is not awaited, "
    assert re.search(note + r"so there is no answer: write `self\.leaf\.to_sync\.check\(\.\.\.\)`", shown), shown
    error = kernel.run("Old.two()").error
    assert re.search(
        r"NotAwaited: Leaf\.check was called at Cell In\[\d+\], line 6 and not awaited, so there is no answer yet: "
        r"write `await self\.leaf\.check\(\.\.\.\)`, or `self\.leaf\.to_sync\.check\(\.\.\.\)` in code that",
        error,
    ), error
    assert kernel.ok(RELIES_ON_WAITING.replace("leaf.check", "leaf.to_sync.check")).displays
    assert kernel.ok("Old.two()").result == "'ABC!'"


@pytest.mark.parametrize("replaced", [False, True], ids=["swapped", "replaced"])
def test_dependents_follow_what_is_declared_anew(kernel: Kernel, replaced: bool) -> None:
    plain = LEAF.replace("async def check", "def check")
    kernel.ok(plain)
    kernel.ok(RELIES_ON_WAITING)
    assert kernel.ok("Old.two()").result == "'ABC!'"
    before = kernel.ok(RESTARTS.format("Old")).result

    other = LEAF.replace("class Leaf:", "class Leaf:\n    limit = 5") if replaced else LEAF
    shown = card(kernel.ok(other))
    assert ("replaced: " in shown) == replaced
    assert re.search(r"note: Old\.two calls self\.leaf\.check .*`self\.leaf\.to_sync\.check\(\.\.\.\)`", shown), shown
    assert "NotAwaited: Leaf.check was called at Cell In[" in kernel.run("Old.two()").error

    assert "note" not in card(kernel.ok("%services rollback Leaf"))
    assert kernel.ok("Old.two()").result == "'ABC!'"
    kernel.ok(other)
    assert "note" not in card(kernel.ok(plain))
    assert kernel.ok("Old.two()").result == "'ABC!'"
    assert kernel.ok(RESTARTS.format("Old")).result == before  # it was not restarted for this


def test_dependents_follow_what_a_base_declares_anew(kernel: Kernel) -> None:
    base = "class Base:\n    @api\n    def check(self, s: str) -> str:\n        return s.upper()"
    kernel.ok(base)
    leaf = "%%service\nclass Leaf(Base):\n    pass"
    kernel.ok(leaf)
    kernel.ok(RELIES_ON_WAITING)
    assert kernel.ok("Old.two()").result == "'ABC!'"
    kernel.ok(base.replace("def check", "async def check"))
    shown = card(kernel.ok(leaf))
    assert re.search(r"note: Old\.two calls self\.leaf\.check .*`self\.leaf\.to_sync\.check\(\.\.\.\)`", shown), shown
    assert "NotAwaited: Leaf.check was called at Cell In[" in kernel.run("Old.two()").error
