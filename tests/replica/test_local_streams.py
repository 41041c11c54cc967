"""Streams as arguments in services of this process (`Refiner()`): the rules that they have between replicas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from nbcompose import api, depends, service, streams
from nbcompose.errors import BlockingCall, InvalidArgument, StreamTaken
from tests.patience import PATIENCE


class Made:
    """What the generators of a test have done."""

    begun = 0
    closed = 0


@pytest.fixture(autouse=True)
def made() -> type[Made]:
    Made.begun = Made.closed = 0
    return Made


async def awaited(count: int = 3) -> AsyncIterator[str]:
    Made.begun += 1
    try:
        for i in range(count):
            await asyncio.sleep(0)
            yield f"word {i}"
    finally:
        Made.closed += 1


def waited(count: int = 3) -> Iterator[str]:
    Made.begun += 1
    try:
        for i in range(count):
            yield f"word {i}"
    finally:
        Made.closed += 1


@service
class Writer:
    @api
    async def write(self, count: int) -> AsyncIterator[str]:
        async for word in awaited(count):
            yield word

    @api
    def write_sync(self, count: int) -> Iterator[str]:
        yield from waited(count)


@service
class Refiner:
    @api
    async def refine(self, text: AsyncIterator[str]) -> AsyncIterator[str]:
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
    def first_sync(self, text: Iterator[str]) -> str:
        return next(text)

    @api
    async def interrupted(self, text: AsyncIterator[str]) -> list[str]:
        """A task that waits for the second item is cancelled."""
        first = await anext(text)
        waiting = asyncio.ensure_future(anext(text))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        return [first] + [piece async for piece in text]

    @api
    async def waits(self, text: AsyncIterator[str]) -> None:
        await anext(text)

    @api
    def fails_sync(self, text: Iterator[str]) -> float:
        next(text)
        return 1 / 0

    @api
    async def ignore(self, text: AsyncIterator[str]) -> None: ...

    @api
    async def twice(self, text: AsyncIterator[str]) -> int:
        count = len([piece async for piece in text])
        return count + len([piece async for piece in text])

    @api
    def total(self, numbers: Iterator[int]) -> int:
        return sum(numbers)


@service
class Pipeline:
    writer, refiner = depends(Writer), depends(Refiner)

    @api
    async def run(self, count: int) -> list[str]:
        return [piece async for piece in self.refiner.refine(self.writer.write(count))]

    @api
    async def run_mixed(self, count: int) -> int:
        return int(await self.refiner.count(self.writer.to_sync.write_sync(count)))

    @api
    def run_sync(self, count: int) -> int:
        return int(self.refiner.count_sync(self.writer.to_sync.write(count)))

    @api
    async def run_in_two(self, count: int) -> list[int]:
        one, two = streams.tee(self.writer.write(count))
        return list(await asyncio.gather(self.refiner.count(one), self.refiner.count(two)))


def refiner() -> Any:
    """Not by its type: what an iterator stands for may also be a list, or one text."""
    return Refiner()


async def words(items: Any) -> list[str]:
    return [item async for item in items]


def test_services_of_this_process() -> None:
    pipeline = Pipeline()
    assert asyncio.run(pipeline.run(2)) == ["WORD 0", "WORD 1"]
    assert asyncio.run(pipeline.run_mixed(2)) == pipeline.run_sync(2) == 2
    assert asyncio.run(pipeline.run_in_two(3)) == [3, 3]


@pytest.mark.parametrize("make", [awaited, waited, lambda: [f"word {i}" for i in range(3)]])
async def test_what_is_passed(make: Any) -> None:
    given = refiner()
    assert await words(given.refine(make())) == ["WORD 0", "WORD 1", "WORD 2"]
    assert await given.count(text=make()) == 3
    assert await given.first(make()) == "word 0"
    assert Made.closed == Made.begun


@pytest.mark.parametrize("make", [awaited, waited, lambda: [f"word {i}" for i in range(3)]])
def test_what_is_passed_to_sync_code(make: Any) -> None:
    given = refiner()
    assert list(given.refine_sync(make())) == ["WORD 0", "WORD 1", "WORD 2"]
    assert given.count_sync(text=make()) == 3
    assert given.first_sync(waited()) == "word 0"
    assert Made.closed == Made.begun


async def test_a_text_is_one_item() -> None:
    assert await refiner().count("word") == 1


async def test_what_nobody_reads_is_not_begun() -> None:
    await refiner().ignore(awaited())
    assert Made.begun == 0


async def test_leaving_early_closes_it() -> None:
    items = refiner().refine(awaited())
    assert await anext(items) == "WORD 0"
    await items.aclose()
    assert Made.closed == 1


def test_leaving_early_closes_it_in_sync_code() -> None:
    items = refiner().refine_sync(waited())
    assert next(items) == "WORD 0"
    items.close()
    assert Made.closed == 1


def test_failing_closes_it_in_sync_code() -> None:
    with pytest.raises(ZeroDivisionError):
        refiner().fails_sync(waited())
    assert Made.closed == 1


@pytest.mark.parametrize("make", [awaited, waited])
async def test_a_task_that_is_cancelled_while_it_waits_loses_no_item(make: Any) -> None:
    assert await refiner().interrupted(make()) == ["word 0", "word 1", "word 2"]
    assert Made.closed == 1


async def test_a_call_that_is_cancelled_closes_it_while_it_waits() -> None:
    begun, closed = asyncio.Event(), asyncio.Event()

    async def never() -> AsyncIterator[str]:
        begun.set()
        try:
            await asyncio.Event().wait()
            yield ""
        finally:
            closed.set()

    call = asyncio.ensure_future(refiner().waits(never()))
    await asyncio.wait_for(begun.wait(), PATIENCE)
    call.cancel()
    await asyncio.wait([call])
    assert closed.is_set()
    assert call.cancelled()


async def test_it_is_read_once() -> None:
    with pytest.raises(StreamTaken, match="the stream `text` can be used once"):
        await refiner().twice(awaited())


def test_items_are_checked() -> None:
    with pytest.raises(InvalidArgument, match=r"Refiner\.total: item 1 of `numbers`: Input should be a valid integer"):
        refiner().total(iter([1, "x"]))
    with pytest.raises(InvalidArgument, match="Input should be a stream, or a list of its items"):
        refiner().total("12")
    assert refiner().total(iter(["1", 2])) == 3


def test_the_wrong_way_to_read_says_so() -> None:
    @service
    class Wrong:
        @api
        async def read(self, text: AsyncIterator[str]) -> str:
            words: Any = text
            return next(words)

    with pytest.raises(BlockingCall, match="write `async for item in text`"):
        asyncio.run(Wrong().read(awaited()))
