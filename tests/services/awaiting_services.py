"""A leaf with every kind of api, and a service above it that calls them in every way and says what it got."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any

from nbcompose import api, depends, service
from nbcompose.errors import BlockingCall


class Base:
    @api
    async def inherited(self, text: str) -> str:
        return text + "!"

    @api
    def overridden(self, text: str) -> str:
        raise NotImplementedError


@service(threads=4)
class Leaf(Base):
    def __init__(self) -> None:
        self.closed = 0

    @api
    def plain(self, text: str) -> str:
        return text + "!"

    @api
    async def awaited(self, text: str) -> str:
        return text + "!"

    @api(batchable=True)
    async def batched(self, texts: list[str]) -> list[str]:
        return [text + "!" for text in texts]

    @api
    def generator(self, text: str) -> Iterator[str]:
        yield from text

    @api
    async def async_generator(self, text: str) -> AsyncIterator[str]:
        try:
            for letter in text:
                yield letter
        finally:
            self.closed += 1

    @api
    def times_closed(self) -> int:
        return self.closed

    @api
    async def overridden(self, text: str) -> str:  # type: ignore[override]
        return text + "!"


class Calls:
    """The apis of what stands above the leaf. Each returns what a call gave, and what came of that."""

    leaf: Any

    def _call(self, kind: str, way: str) -> Any:
        holder = self.leaf if way == "plain" else getattr(self.leaf, way)
        return getattr(holder, kind)(["ab"] if kind == "batched" else "ab")

    @api
    def from_sync(self, kind: str, way: str) -> tuple[str, Any]:
        got = self._call(kind, way)
        if isinstance(got, Awaitable):
            return "awaitable", asyncio.run(_wait_for(got))
        if isinstance(got, AsyncIterator):
            return "async iterator", asyncio.run(_all(got))
        if isinstance(got, Iterator):
            return "iterator", list(got)
        return "answer", got

    @api
    async def from_async(self, kind: str, way: str) -> tuple[str, Any]:
        try:
            got = self._call(kind, way)
        except BlockingCall as error:
            return "refused", str(error)
        if isinstance(got, Awaitable):
            return "awaitable", await got
        if isinstance(got, AsyncIterator):
            return "async iterator", await _all(got)
        try:
            return "iterator", list(got)
        except BlockingCall as error:
            handed = await asyncio.to_thread(list, self._call(kind, way))
            return "iterator", ["".join(handed), str(error)]

    @api
    def hands_on(self) -> Iterator[str]:
        return self.leaf.generator("abc")

    @api
    def hands_on_async(self) -> AsyncIterator[str]:
        return self.leaf.async_generator("abc")

    @api
    async def leaves_early(self) -> str:
        async for letter in self.leaf.async_generator("ab" * 1000):
            return letter
        return ""

    @api
    def times_closed(self) -> int:
        return self.leaf.times_closed()


async def _wait_for(got: Awaitable[Any]) -> Any:
    return await got


async def _all(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


@service(threads=4)
class Front(Calls):
    leaf = depends(Leaf)


def far(url: str, token: str | None) -> Any:
    """The same, above a leaf elsewhere."""

    @service(threads=4)
    class Far(Calls):
        leaf = depends(url=url, token=token)

    return Far


@service(threads=4)
class Mistaken:
    """What is not awaited."""

    leaf = depends(Leaf)

    @api
    def uses(self) -> str:
        return self.leaf.awaited("a").upper()

    @api
    def returns(self) -> str:
        return self.leaf.awaited("a")

    @api
    def returns_within(self) -> Any:
        return {"answer": [self.leaf.awaited("a")]}

    @api
    async def returns_on_the_loop(self) -> str:
        return self.leaf.awaited("a")

    @api
    def yields(self) -> Iterator[str]:
        yield self.leaf.awaited("a")

    @api
    def passes(self) -> str:
        return self.leaf.plain(self.leaf.awaited("a"))

    @api(batchable=True)
    def returns_of_a_batch(self, texts: list[str]) -> list[str]:
        return self.leaf.batched(texts)

    @api
    def joins(self) -> str:
        return "".join(self.leaf.async_generator("abc"))

    @api
    async def loops(self) -> str:
        return "".join([letter for letter in self.leaf.async_generator("abc")])  # noqa: C416

    @api
    def drops(self) -> str:
        self.leaf.awaited("a")
        return "as if nothing had happened"


def line_of(method: str) -> int:
    """The line of the call in a method of `Mistaken`."""
    mistaken: Any = Mistaken
    code = getattr(mistaken.inner, method).__code__
    return code.co_firstlineno + 2
