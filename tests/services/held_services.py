"""Services whose worker threads are taken: by streams, by others' calls, for ever."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from nbcompose import api, depends, service
from nbcompose.errors import NotBegun


@service(traffic={"timeout": 60})
class Writer:
    """One worker thread."""

    def __init__(self) -> None:
        self.ended: list[tuple[int, int]] = []
        self.local = threading.local()
        self.local.made_in_init = True
        self.inside = self.most = 0

    @api
    def words(self, n: int) -> Iterator[str]:
        began = threading.get_ident()
        try:
            for i in range(n):
                yield f"word{i}"
        finally:
            self.ended.append((began, threading.get_ident()))

    @api
    def shout(self, word: str) -> str:
        self.inside += 1
        self.most = max(self.most, self.inside)
        time.sleep(0)
        self.inside -= 1
        return word.upper()

    @api
    def most_at_once(self) -> int:
        return self.most

    @api
    def endings(self) -> list[tuple[int, int]]:
        """The threads in which each stream of `words` has begun and ended."""
        return self.ended

    @api
    def of_init(self) -> bool:
        """Whether this is the thread of `__init__`."""
        return getattr(self.local, "made_in_init", False)

    @api(batchable=True)
    def lengths(self, words: list[str]) -> list[int]:
        return [len(word) for word in words]

    @api
    def hold(self, until: str) -> None:
        """Takes as long as there is no such file; makes one beside it, whose name ends in `.inside`."""
        Path(f"{until}.inside").touch()
        while not os.path.exists(until):
            time.sleep(0.01)


@service
class Reader:
    """Loops over a stream of the service that it calls meanwhile."""

    writer = depends(Writer)

    @api
    def loud(self, n: int) -> list[str]:
        return [self.writer.shout(word) for word in self.writer.words(n)]

    @api
    async def aloud(self, n: int) -> list[str]:
        return [await self.writer.to_async.shout(word) async for word in self.writer.to_async.words(n)]

    @api
    def yields(self, n: int) -> Iterator[str]:
        for word in self.writer.words(n):
            yield self.writer.shout(word)


@service(traffic={"timeout": 600})
class Slow:
    """One worker thread, whose calls take as long as they are told."""

    @api
    def hold(self, until: str) -> None:
        """Takes as long as there is no such file; makes one beside it, whose name ends in `.inside`."""
        Path(f"{until}.inside").touch()
        while not os.path.exists(until):
            time.sleep(0.01)

    @api
    def quick(self) -> int:
        return 1

    @api
    def items(self) -> Iterator[int]:
        yield 1

    @api(batchable=True, max_batch_size=1)
    def batched(self, values: list[str]) -> list[int]:
        self.hold(values[0])
        return [1]


@service(threads=4, traffic={"timeout": 600})
class Front:
    slow = depends(Slow)

    @api
    def quick(self) -> int:
        return self.slow.quick()

    @api
    async def quick_async(self) -> int:
        return await self.slow.to_async.quick()

    @api
    def items(self) -> Iterator[int]:
        yield from self.slow.items()


@service(threads=4, traffic={"timeout": 600})
class Top:
    front = depends(Front)

    @api
    def quick(self) -> int:
        return self.front.quick()


@service(traffic={"timeout": 600, "interrupt_after": 0, "replace_after": 0})
class Runaway:
    """Calls that do not end by themselves. One worker thread."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @api
    def loop(self) -> None:
        try:
            while True:
                pass
        except BaseException as error:
            self.seen.append(type(error).__name__)
            raise

    @api(interruptible=False)
    def spared(self, until: str) -> None:
        while not os.path.exists(until):
            pass

    @api
    def stuck(self, inside: str) -> None:
        """In C code."""
        Path(inside).touch()
        time.sleep(3600)

    @api
    def yields(self) -> Iterator[int]:
        yield 1
        while True:
            pass

    @api(batchable=True)
    def batched(self, values: list[int]) -> list[int]:
        while True:
            pass

    @api
    def ok(self) -> int:
        return os.getpid()

    @api
    def ok_items(self) -> Iterator[int]:
        yield os.getpid()

    @api(batchable=True)
    def ok_batched(self, values: list[int]) -> list[int]:
        return [os.getpid() for _ in values]

    @api
    async def pid(self) -> int:
        return os.getpid()

    @api
    async def passes_on(self) -> None:
        """What it calls has not begun."""
        self.seen.append("passes_on")
        raise NotBegun("below")

    @api
    def passes_on_sync(self) -> None:
        self.seen.append("passes_on_sync")
        raise NotBegun("below")

    @api
    def passes_on_items(self) -> Iterator[int]:
        self.seen.append("passes_on_items")
        raise NotBegun("below")
        yield 1

    @api(batchable=True)
    def passes_on_batched(self, values: list[int]) -> list[int]:
        self.seen.append("passes_on_batched")
        raise NotBegun("below")

    @api
    async def ends(self) -> list[str]:
        """What has ended the loops."""
        return self.seen


@service(threads=4, traffic={"timeout": 600})
class Over:
    runaway = depends(Runaway)

    @api
    def ok(self) -> int:
        return self.runaway.ok()

    @api
    async def ok_async(self) -> int:
        return await self.runaway.to_async.ok()
