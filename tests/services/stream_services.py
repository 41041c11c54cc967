"""Services that yield, join calls, and wait."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import nbcompose
from nbcompose import api, depends, service


@service(threads=2)
class Words:
    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.reason = ""

    @api
    def count(self, n: int) -> Iterator[int]:
        yield from range(n)

    @api
    async def acount(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i

    @api
    def breaks(self, after: int) -> Iterator[int]:
        yield from range(after)
        raise ValueError("the well is dry")

    @api
    def slow(self) -> Iterator[int]:
        """Yields until nobody listens, a few milliseconds for each item."""
        try:
            for i in range(1_000_000):
                time.sleep(0.002)
                yield i
        finally:
            self.reason = f"cancelled={nbcompose.cancelled()}"
            self.stopped.set()

    @api
    def outcome(self) -> str:
        """How `slow` ended; waits for that."""
        self.stopped.wait()
        self.stopped.clear()
        return self.reason


@service(threads=2)
class Sleeper:
    """Waits for its caller to give up, as sync and as async code."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.begun = False
        self.noted = threading.Event()

    @api
    def sync(self) -> None:
        self.begun = True
        while not nbcompose.cancelled():
            time.sleep(0.002)
        self.note("sync")

    @api
    async def coroutine(self) -> None:
        self.begun = True
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.note("async")
            raise

    @api
    def reached(self) -> bool:
        return self.begun

    def note(self, text: str) -> None:
        self.seen.append(text)
        self.noted.set()

    @api
    def cancelled(self) -> list[str]:
        """What was cancelled; waits for the first."""
        self.noted.wait()
        self.noted.clear()
        return self.seen


@service(threads=2)
class Between:
    sleeper = depends(Sleeper)
    words = depends(Words)

    @api
    def sync(self) -> None:
        self.sleeper.sync()

    @api
    async def coroutine(self) -> None:
        await self.sleeper.to_async.coroutine()

    @api
    def slow(self) -> Iterator[int]:
        yield from self.words.slow()


@service(threads=4, traffic={"max_concurrency": 64})
class Batches:
    def __init__(self) -> None:
        self.sizes: list[int] = []

    @api(batchable=True, max_batch_size=8, max_latency_ms=200)
    def double(self, values: list[int]) -> list[int]:
        self.sizes.append(len(values))
        time.sleep(0.005)
        return [ValueError(f"{v} is unlucky") if v == 13 else 2 * v for v in values]  # type: ignore[misc]

    @api
    def batch_sizes(self) -> list[int]:
        return self.sizes


@service(threads=4, traffic={"max_concurrency": 1, "max_queue": 1})
class Narrow:
    def __init__(self) -> None:
        self.released = threading.Event()

    @api
    def hold(self) -> str:
        self.released.wait()
        return "done"


@service(threads=4, traffic={"timeout": 600, "max_concurrency": 1})
class Impatient:
    """Its thread goes on after its caller has left."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0

    @api
    def stubborn(self, until: str) -> int:
        """Takes as long as there is no such file; makes one beside it, whose name ends in `.inside`."""
        self.inside += 1
        self.most = max(self.most, self.inside)
        Path(f"{until}.inside").touch()
        while not os.path.exists(until):
            time.sleep(0.01)
        self.inside -= 1
        return self.most
