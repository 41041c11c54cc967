"""Services that take streams as arguments."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from nbcompose import api, depends, service


@service
class Writer:
    def __init__(self) -> None:
        self.ended = 0
        self.made = 0

    @api
    async def write(self, count: int) -> AsyncIterator[str]:
        try:
            for i in range(count):
                self.made += 1
                yield f"word {i}"
        finally:
            self.ended += 1

    @api
    def write_sync(self, count: int) -> Iterator[str]:
        for i in range(count):
            yield f"word {i}"

    @api
    async def breaks(self, count: int) -> AsyncIterator[str]:
        for i in range(count):
            yield f"word {i}"
        raise LookupError("no more words")

    @api
    async def counts(self) -> tuple[int, int]:
        return self.made, self.ended


@service
class Refiner:
    @api
    async def refine(self, text: AsyncIterator[str], style: str = "upper") -> AsyncIterator[str]:
        async for piece in text:
            yield piece.upper()

    @api
    def refine_sync(self, text: Iterator[str]) -> Iterator[str]:
        for piece in text:
            yield piece.upper()

    @api
    async def count(self, text: AsyncIterator[str]) -> int:
        return len([piece async for piece in text])

    @api
    def count_sync(self, text: Iterator[str]) -> int:
        return sum(1 for _ in text)

    @api
    async def first(self, text: AsyncIterator[str]) -> str:
        return await anext(text)

    @api
    async def both(self, a: AsyncIterator[int], b: AsyncIterator[int]) -> tuple[int, int]:
        async def all_of(items: AsyncIterator[int]) -> int:
            return sum([i async for i in items])

        return await asyncio.gather(all_of(a), all_of(b))


@service
class Passing:
    refiner = depends(Refiner)

    @api
    async def pass_on(self, text: AsyncIterator[str]) -> AsyncIterator[str]:
        async for piece in self.refiner.refine(text):
            yield piece


@service
class Pipeline:
    writer = depends(Writer)
    refiner = depends(Refiner)
    passing = depends(Passing)

    @api
    async def run(self, count: int) -> AsyncIterator[str]:
        async for piece in self.refiner.refine(self.writer.write(count)):
            yield piece

    @api
    async def run_far(self, count: int) -> AsyncIterator[str]:
        async for piece in self.passing.pass_on(self.writer.write_sync(count)):
            yield piece

    @api
    def run_sync(self, count: int) -> int:
        return int(self.refiner.count_sync(self.writer.to_sync.write(count)))

    @api
    async def local(self, count: int) -> int:
        async def items() -> AsyncIterator[str]:
            for i in range(count):
                yield str(i)

        return int(await self.refiner.count(items()))

    @api
    async def broken(self) -> list[str]:
        return [piece async for piece in self.refiner.refine(self.writer.breaks(3))]
