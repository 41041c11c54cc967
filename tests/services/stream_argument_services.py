"""Services that make streams, take them as arguments, and pass them on."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil

from nbcompose import api, depends, service
from nbcompose._rpc.connection import Connection
from nbcompose.errors import StreamTaken


def own_resources() -> int:
    """What this process has that an abandoned stream may leave: threads, open files, tasks."""
    tasks = asyncio.all_tasks()
    return threading.active_count() + psutil.Process().num_fds() + len(tasks)


def is_first_time(path: str) -> bool:
    """Whether nobody has asked before."""
    with contextlib.suppress(FileExistsError):
        Path(path).touch(exist_ok=False)
        return True
    return False


@service
class Writer:
    def __init__(self) -> None:
        self.ended = 0
        self.made = 0
        self.gate = asyncio.Event()

    @api
    async def write(self, count: int) -> AsyncIterator[str]:
        try:
            for i in range(count):
                self.made += 1
                yield f"word {i}"
        finally:
            self.ended += 1

    @api
    async def slow(self, count: int, seconds: float) -> AsyncIterator[str]:
        for i in range(count):
            await asyncio.sleep(seconds)
            yield f"word {i}"

    @api
    async def write_for_ever(self) -> AsyncIterator[str]:
        try:
            while True:
                self.made += 1
                yield "word"
                await asyncio.sleep(0.001)
        finally:
            self.ended += 1

    @api
    def write_sync(self, count: int) -> Iterator[str]:
        for i in range(count):
            yield f"word {i}"

    @api
    async def gated(self) -> AsyncIterator[str]:
        self.made += 1
        yield "word 0"
        await self.gate.wait()
        self.made += 1
        yield "word 1"

    @api
    async def open_gate(self) -> None:
        self.gate.set()

    @api
    async def long(self, count: int) -> AsyncIterator[str]:
        for _ in range(count):
            yield "x" * 1000

    @api
    async def large(self, count: int, size: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            self.made += 1
            yield bytes(size)

    @api
    async def breaks(self, count: int) -> AsyncIterator[str]:
        for i in range(count):
            yield f"word {i}"
        raise LookupError("no more words")

    @api
    async def counts(self) -> tuple[int, int]:
        return self.made, self.ended

    @api
    async def resources(self) -> int:
        return own_resources()


@service(threads=4)
class Refiner:
    @api
    async def refine(self, text: AsyncIterator[str], style: str = "upper") -> AsyncIterator[str]:
        async for piece in text:
            yield piece.upper() if style == "upper" else piece

    @api
    def refine_sync(self, text: Iterator[str]) -> Iterator[str]:
        for piece in text:
            yield piece.upper()

    @api
    async def refine_on_demand(self, text: AsyncIterator[str]) -> AsyncIterator[str]:
        """One item is taken, and no other."""
        yield (await anext(text)).upper()
        await asyncio.Event().wait()

    @api
    async def count(self, text: AsyncIterator[str]) -> int:
        return len([piece async for piece in text])

    @api
    def count_sync(self, text: Iterator[str]) -> int:
        return sum(1 for _ in text)

    @api
    async def count_list(self, text: list[str], weights: dict[str, list[int]] | None = None) -> int:
        return len(text)

    @api
    async def first(self, text: AsyncIterator[str]) -> str:
        return await anext(text)

    @api
    async def fails(self, text: AsyncIterator[str]) -> float:
        await anext(text)
        return 1 / 0

    @api
    async def leaves_a_task(self, text: AsyncIterator[str]) -> str:
        first = await anext(text)
        self.left = asyncio.ensure_future(anext(text))
        await asyncio.sleep(0)
        return first

    @api
    async def interrupted(self, text: AsyncIterator[str]) -> AsyncIterator[str]:
        """Tasks that wait for the first item and for the second are cancelled."""
        for _ in range(2):
            waiting = asyncio.ensure_future(anext(text))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            yield "interrupted"
            yield await anext(text)

    @api
    async def what_became_of_it(self) -> str:
        await asyncio.wait([self.left])
        return "cancelled" if self.left.cancelled() else repr(self.left.exception())

    @api
    async def waits(self, text: AsyncIterator[str]) -> None:
        await anext(text)
        await asyncio.Event().wait()

    @api(idempotent=True)
    async def kills(self, text: AsyncIterator[str], path: str) -> str:
        """End this process when it is called for the first time, after the first item."""
        if is_first_time(path):
            await anext(text)
            os._exit(1)
        return "".join([piece async for piece in text])

    @api
    async def ignores(self, text: AsyncIterator[str]) -> str:
        return "ignored"

    @api
    async def catches(self, text: AsyncIterator[str]) -> list[str]:
        pieces = []
        try:
            async for piece in text:
                pieces.append(piece)
        except LookupError as error:
            pieces.append(f"{type(error).__name__}: {error}")
        return pieces

    @api
    async def reads_twice(self, text: AsyncIterator[str]) -> str:
        assert len([piece async for piece in text]) == 3
        try:
            async for _ in text:
                pass
        except StreamTaken as error:
            return str(error).partition(",")[0].replace(" and has been passed on", "")
        return "read twice"

    @api
    async def both(self, a: AsyncIterator[int], b: AsyncIterator[int]) -> tuple[int, int]:
        async def all_of(items: AsyncIterator[int]) -> int:
            return sum([i async for i in items])

        return await asyncio.gather(all_of(a), all_of(b))

    @api
    async def maybe(self, text: AsyncIterator[str] | None = None) -> str:
        return "none" if text is None else "".join([piece async for piece in text])

    @api
    async def lengths(self, items: AsyncIterator[bytes]) -> list[int]:
        return [len(item) async for item in items]

    @api
    async def takes_one_and_waits(self, items: AsyncIterator[bytes]) -> AsyncIterator[int]:
        yield len(await anext(items))
        await asyncio.Event().wait()

    @api
    async def resources(self) -> int:
        return own_resources()


@service
class Passing:
    refiner = depends(Refiner)

    @api
    async def pass_on(self, text: AsyncIterator[str]) -> AsyncIterator[str]:
        async for piece in self.refiner.refine(text):
            yield piece

    @api
    async def count(self, text: AsyncIterator[str]) -> int:
        return int(await self.refiner.count(text))

    @api
    async def received(self) -> int:
        return received_by_this_process()


@service(threads=2)
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
        async for piece in self.passing.pass_on(self.writer.write(count)):
            yield piece

    @api
    async def run_from_sync(self, count: int) -> AsyncIterator[str]:
        async for piece in self.passing.pass_on(self.writer.write_sync(count)):
            yield piece

    @api
    def run_by_sync(self, count: int) -> Iterator[str]:
        yield from self.refiner.refine_sync(self.writer.to_sync.write(count))

    @api
    async def run_gated(self) -> AsyncIterator[str]:
        async for piece in self.refiner.refine(self.writer.gated()):
            yield piece

    @api
    async def made(self) -> int:
        return int((await self.writer.counts())[0])

    @api
    async def open_gate(self) -> None:
        await self.writer.open_gate()

    @api
    async def count_far(self, count: int) -> int:
        return int(await self.passing.count(self.writer.long(count)))

    @api
    async def received(self) -> int:
        """Bytes that this process and the one between it and the consumer have received."""
        return received_by_this_process() + int(await self.passing.received())

    @api
    async def broken(self) -> list[str]:
        return [piece async for piece in self.refiner.refine(self.writer.breaks(3))]


@service
class Tally:
    @api
    def numbers(self, count: int) -> Iterator[int]:
        yield from range(count)

    @api
    def total(self, numbers: Iterator[int]) -> int:
        return sum(numbers)


def received_by_this_process() -> int:
    """Bytes that this process has received from others, on all its connections."""
    return sum(found.received for found in gc.get_objects() if type(found).__module__ == Connection.__module__)
