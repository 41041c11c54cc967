"""What code does with a call's value, and what a card says of it where the api is declared otherwise."""

from __future__ import annotations

import ast
import asyncio
import textwrap
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from nbcompose._code.dependency_calls import Uses, calls_of
from nbcompose._code.diff import incompatible_calls
from nbcompose._service.decorators import api, on_startup
from nbcompose._service.dependency import depends
from nbcompose._service.introspect import declare

SYNC, ASYNC = "def", "async def"


@pytest.mark.parametrize(
    ("header", "body", "use"),
    [
        (ASYNC, "return await f()", "awaited"),
        (ASYNC, "x = f()\nreturn await x", "awaited"),
        (ASYNC, "x = y = f()\nreturn await x", "handed on"),
        (ASYNC, "x = f()\nx = await x\nreturn x + 1", "awaited"),
        (ASYNC, "return await (f() if a else g())", "awaited"),
        (ASYNC, "return await (x := f())", "awaited"),
        (ASYNC, "async for x in f(): pass", "async for"),
        (ASYNC, "return [x async for x in f()]", "async for"),
        (ASYNC, "items = f()\nasync for x in items: pass", "async for"),
        (ASYNC, "return [x for x in f()]", "for"),
        (SYNC, "for x in f(): pass", "for"),
        (SYNC, "yield from f()", "for"),
        (SYNC, "g(*f())", "for"),
        (SYNC, "return [*f()]", "for"),
        (SYNC, "a, b = f()", "for"),
        (SYNC, "return list(f())", "for"),
        (SYNC, "return ''.join(f())", "for"),
        (SYNC, "items = f()\nfor x in items: pass", "for"),
        (SYNC, "f()", "value"),
        (ASYNC, "f()", "value"),
        (SYNC, "_ = f()", "value"),
        (SYNC, "x = f()\nreturn x.shape", "value"),
        (ASYNC, "x: int = f()\nreturn x + 1", "value"),
        (SYNC, "x = f()\ny = x\nreturn y + 1", "value"),
        (SYNC, "return f()[0]", "value"),
        (SYNC, "return -f()", "value"),
        (SYNC, "return f() == 1", "value"),
        (SYNC, "return f'{f()}'", "value"),
        (SYNC, "total += f()", "value"),
        (SYNC, "if f(): pass", "value"),
        (SYNC, "if (x := f()): pass", "value"),
        (SYNC, "return 1 if f() else 2", "value"),
        (SYNC, "assert not f()", "value"),
        (SYNC, "print(f())", "value"),
        (SYNC, "return str(f())", "value"),
        (SYNC, "return json.dumps(f())", "value"),
        (SYNC, "return self.model(x=f())", "value"),
        (SYNC, "return type(f())", "handed on"),
        (SYNC, "return asyncio.run(f())", "handed on"),
        (SYNC, "x = f()\nreturn asyncio.run(x)", "handed on"),
        (SYNC, "return loop.run_until_complete(f())", "handed on"),
        (SYNC, "return asyncio.run(asyncio.wait_for(f(), 1))", "handed on"),
        (SYNC, "todo.append(f())", "handed on"),
        (SYNC, "self.last = f()", "stored"),
        (SYNC, "x = f()\nself.last: int = x", "stored"),
        (SYNC, "self.all = [f() for _ in a]", "stored"),
        (SYNC, "self.task = loop.create_task(f())", "handed on"),
        (ASYNC, "self.last = f()", "handed on"),
        (SYNC, "xs = [f() for _ in a]\nasyncio.run(g(xs))", "handed on"),
        (SYNC, "x = f()\nreturn lambda: x + 1", "handed on"),
        (SYNC, "global x\nx = f()\nprint(x)", "handed on"),
        (SYNC, "return lambda: f()", "handed on"),
        (SYNC, "x = f()\nif a: print(x)\nasyncio.run(x)", "handed on"),
        (ASYNC, "return await asyncio.gather(f(), f())", "handed on"),
        (ASYNC, "t = asyncio.create_task(f())\nreturn await t", "handed on"),
        (ASYNC, "return await self.anything(f())", "handed on"),
        (ASYNC, "return await asyncio.gather(*[f() for _ in a])", "handed on"),
        (SYNC, "return f()", "returned"),
        (ASYNC, "return f()", "returned"),
        (SYNC, "x = f()\nreturn x", "returned"),
        (SYNC, "yield f()", "returned"),
        (SYNC, "return {'a': [f(), 1]}", "returned"),
        (SYNC, "return [f() for _ in a]", "returned"),
        (SYNC, "x = {'a': f()}\nreturn x", "returned"),
        (SYNC, "def inner():\n    return f()\nreturn inner", "handed on"),
    ],
)
def test_uses(header: str, body: str, use: str) -> None:
    uses = Uses(ast.parse(f"{header} method(self):\n{textwrap.indent(body, '    ')}"))
    call = next(c for c in uses.calls if isinstance(c.func, ast.Name) and c.func.id == "f")
    assert uses.of(call) == use


class Leaf:
    @api
    async def ask(self, x: int) -> int:
        return x

    @api
    async def words(self) -> AsyncIterator[str]:
        yield "a"

    @api
    def plain(self, x: int) -> int:
        return x

    @api
    def letters(self) -> Iterator[str]:
        yield "a"


class Front:
    leaf = depends("Leaf")

    def __init__(self) -> None:
        self.kept = self.leaf.ask(1)

    @api
    async def right(self) -> Any:
        both = await asyncio.gather(self.leaf.ask(1), self.leaf.to_async.plain(2))
        later = self.leaf.ask(3)
        words = [w async for w in self.leaf.words()] + [c async for c in self.leaf.to_async.letters()]
        handed = await asyncio.to_thread(list, self.leaf.letters())
        elsewhere = await asyncio.to_thread(lambda: self.leaf.plain(1))
        return both, await later, words, handed, elsewhere, await self.helper()

    @api
    def right_too(self) -> Any:
        texts = [*self.leaf.letters(), *self.leaf.to_sync.words()]
        return self.leaf.plain(1), self.leaf.to_sync.ask(2), asyncio.run(self.leaf.ask(3)), texts

    def helper(self) -> Any:
        return self.leaf.ask(1)  # awaited by whoever calls it

    async def elsewhere(self) -> Any:
        return self.leaf.plain(1)  # on a loop of a thread's own, for all that is known

    @api
    def waited(self) -> int:
        x: int = self.leaf.ask(1)
        return x + 1

    @api
    def returned(self) -> Any:
        return {"answer": self.leaf.ask(1)}

    @api
    def awaits_nothing(self) -> Any:
        return str(self.leaf.to_async.plain(1))

    @api
    async def forgotten(self) -> int:
        return self.leaf.ask(1)

    @api
    def joined(self) -> str:
        return "".join(self.leaf.words())

    @api
    async def looped(self) -> Any:
        return [w for w in self.leaf.words()]  # noqa: C416

    @api
    async def blocks(self) -> int:
        return self.leaf.plain(1)

    @api
    async def blocks_to_sync(self) -> int:
        return self.leaf.to_sync.ask(1)

    async def awaits_plain(self) -> int:
        return await self.leaf.plain(1)

    @api
    async def loops_plain(self) -> Any:
        return [c for c in self.leaf.letters()]  # noqa: C416

    async def async_for_plain(self) -> Any:
        return [c async for c in self.leaf.letters()]

    @on_startup
    async def hook(self) -> None:
        self.leaf.plain(1)


NOT_AWAITED = "Leaf.ask is not awaited, so there is no answer: write "
PLAIN_WAITS = "Leaf.plain waits, and would stop the event loop: write "
ITEMS = "Leaf.words gives its items to `async for`: write "


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ("right", ""),
        ("right_too", ""),
        ("helper", ""),
        ("__init__", NOT_AWAITED + "`self.leaf.to_sync.ask(...)`"),
        ("elsewhere", ""),
        ("waited", NOT_AWAITED + "`self.leaf.to_sync.ask(...)`"),
        ("returned", NOT_AWAITED + "`self.leaf.to_sync.ask(...)`"),
        ("awaits_nothing", NOT_AWAITED.replace("ask", "plain") + "`self.leaf.to_sync.plain(...)`"),
        ("forgotten", NOT_AWAITED + "`await self.leaf.ask(...)`"),
        ("joined", ITEMS + "`for item in self.leaf.to_sync.words(...)`"),
        ("looped", ITEMS + "`async for item in self.leaf.words(...)`"),
        ("blocks", PLAIN_WAITS + "`await self.leaf.to_async.plain(...)`"),
        ("blocks_to_sync", PLAIN_WAITS.replace("plain", "ask") + "`await self.leaf.to_async.ask(...)`"),
        (
            "awaits_plain",
            PLAIN_WAITS + "`await self.leaf.to_async.plain(...)`",
        ),
        (
            "loops_plain",
            PLAIN_WAITS.replace("plain", "letters") + "`async for item in self.leaf.to_async.letters(...)`",
        ),
        (
            "async_for_plain",
            PLAIN_WAITS.replace("plain", "letters") + "`async for item in self.leaf.to_async.letters(...)`",
        ),
        ("hook", PLAIN_WAITS + "`await self.leaf.to_async.plain(...)`"),
    ],
)
def test_what_is_told(method: str, told: str) -> None:
    calls = [c for c in calls_of(declare(Front, {}), [Front]) if c.caller == f"Front.{method}"]
    assert calls
    assert {incompatible_calls(call, declare(Leaf, {})) for call in calls} == {told}
