"""The services of `streams.py`. Items that are timed are the time at which they were made, of the machine's clock."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator

import psutil

from nbcompose import api, depends, service

# Seconds between timed items: each finds everybody waiting. (Half a millisecond is none for uvloop.)
PAUSE = 0.002


def now() -> float:
    """Seconds on the clock that all processes share."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


@service
class Writer:
    def __init__(self) -> None:
        self.ended = 0

    @api
    async def times(self, count: int) -> AsyncIterator[float]:
        """The time of each item, with a pause after it."""
        for _ in range(count):
            yield now()
            await asyncio.sleep(PAUSE)

    @api
    async def words(self, count: int) -> AsyncIterator[str]:
        try:
            for i in range(count):
                yield f"word {i}"
        finally:
            self.ended += 1

    @api
    async def left(self) -> dict[str, int]:
        return left_in_this_process()

    @api
    async def echo(self, text: str) -> str:
        return text


@service
class Reader:
    @api
    async def waits(self, times: AsyncIterator[float]) -> list[float]:
        """Seconds from the making of each item to its arrival here."""
        return [now() - made async for made in times]

    @api
    async def passes(self, times: AsyncIterator[float]) -> AsyncIterator[float]:
        async for made in times:
            yield made

    @api
    async def echoes(self, text: AsyncIterator[str]) -> AsyncIterator[str]:
        async for piece in text:
            yield piece

    @api
    async def some(self, text: AsyncIterator[str], count: int) -> int:
        for i in range(count):
            try:
                await anext(text)
            except StopAsyncIteration:
                return i
        return count

    @api
    async def left(self) -> dict[str, int]:
        return left_in_this_process()

    @api
    async def memory(self) -> int:
        return int(psutil.Process().memory_info().rss)


@service
class Pipeline:
    writer, reader = depends(Writer), depends(Reader)

    @api
    async def direct(self, count: int) -> list[float]:
        return list(await self.reader.waits(self.writer.times(count)))

    @api
    async def relayed(self, count: int) -> list[float]:
        """Through this process: a stream that has begun is no reference any more."""

        async def items() -> AsyncIterator[float]:
            async for made in self.writer.times(count):
                yield made

        return list(await self.reader.waits(items()))

    @api
    async def first(self, count: int) -> list[float]:
        """Seconds from the making of a first item by `Writer` to the arrival here of what `Reader` makes of it."""
        found = []
        for _ in range(count):
            async for made in self.reader.passes(self.writer.times(1)):
                found.append(now() - made)
        return found

    @api
    async def hop(self, count: int) -> list[float]:
        found = []
        for _ in range(count):
            begin = now()
            await self.writer.echo("hello")
            found.append(now() - begin)
            await asyncio.sleep(PAUSE)
        return found


def left_in_this_process() -> dict[str, int]:
    """What an abandoned stream may leave."""
    gc.collect()
    process = psutil.Process()
    return {"threads": threading.active_count(), "files": process.num_fds(), "tasks": len(asyncio.all_tasks())}
