"""The services that most rows call: one module, declared by nbcompose or by BentoML as `BENCH_FRAMEWORK` says.

Each row asks `Front` to do and time its work inside the server, so that no client is measured along.
Ray Serve declares the same graph in `peers/ray_app.py`.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import nbcompose as bentoml
else:
    bentoml = import_module(os.environ.get("BENCH_FRAMEWORK", "nbcompose"))

TEXT = "What is the answer?"
MIB = 1024 * 1024


def process() -> dict[str, str]:
    """This process, and the file that it imported the framework from."""
    return {"pid": str(os.getpid()), "package": str(bentoml.__file__)}


@bentoml.service(traffic={"timeout": 300})
class Leaf:
    @bentoml.api
    async def echo(self, text: str) -> str:
        return text

    @bentoml.api
    def echo_sync(self, text: str) -> str:
        return text

    @bentoml.api(batchable=True, max_batch_size=64)
    async def lengths(self, texts: list[str]) -> list[int]:
        """Of texts that came in separate calls."""
        return [len(text) for text in texts]

    @bentoml.api
    async def count(self, items: int) -> AsyncGenerator[int, None]:
        for number in range(items):
            yield number

    @bentoml.api
    async def process(self) -> dict[str, str]:
        return process()

    @bentoml.api
    async def ends(self, array: np.ndarray) -> float:
        """First plus last element: shows that the whole array came, and reads two of its pages."""
        return float(array[0] + array[-1])


@bentoml.service(traffic={"timeout": 300})
class Front:
    leaf = bentoml.depends(Leaf)

    @bentoml.api
    async def echo(self, text: str) -> str:
        return text

    @bentoml.api
    async def ask(self, text: str) -> str:
        answer: str = await self.leaf.to_async.echo(text)
        return answer

    @bentoml.api
    async def hop(self, calls: int) -> list[float]:
        """Seconds of each of `calls` calls, one after another, to an async api from an async one."""
        durations = []
        for _ in range(calls):
            start = time.perf_counter()
            await self.leaf.to_async.echo(TEXT)
            durations.append(time.perf_counter() - start)
        return durations

    @bentoml.api
    async def hop_mixed(self, calls: int) -> list[float]:
        """The same to a sync api from an async one: a worker thread at the callee's end."""
        durations = []
        for _ in range(calls):
            start = time.perf_counter()
            await self.leaf.to_async.echo_sync(TEXT)
            durations.append(time.perf_counter() - start)
        return durations

    @bentoml.api
    def hop_sync(self, calls: int) -> list[float]:
        """The same to a sync api from a sync one: a worker thread at both ends."""
        durations = []
        for _ in range(calls):
            start = time.perf_counter()
            self.leaf.echo_sync(TEXT)
            durations.append(time.perf_counter() - start)
        return durations

    @bentoml.api
    async def in_flight(self, calls: int, width: int) -> dict[str, float]:
        """`calls` calls, `width` at any time: {"seconds", "failures"}."""
        failures = 0
        left = iter(range(calls))

        async def caller() -> None:
            nonlocal failures
            for _ in left:
                try:
                    await self.leaf.to_async.echo(TEXT)
                except Exception:
                    failures += 1

        start = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(width)))
        return {"seconds": time.perf_counter() - start, "failures": failures}

    @bentoml.api
    async def batched(self, calls: int, width: int) -> float:
        """Seconds of `calls` calls, `width` at any time, which `Leaf` joins into batches."""
        left = iter(range(calls))

        async def caller() -> None:
            for _ in left:
                (length,) = await self.leaf.to_async.lengths([TEXT])
                if length != len(TEXT):
                    raise ValueError(f"a batch was divided wrongly: {length}, not {len(TEXT)}")

        start = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(width)))
        return time.perf_counter() - start

    @bentoml.api
    async def stream(self, items: int) -> float:
        """Seconds of one stream of so many numbers."""
        start = time.perf_counter()
        last = -1
        async for number in self.leaf.to_async.count(items):
            if number != last + 1:
                raise ValueError(f"{number} came after {last}")
            last = number
        if last != items - 1:
            raise ValueError(f"the stream of {items} items ended with number {last}")
        return time.perf_counter() - start

    @bentoml.api
    async def processes(self) -> list[dict[str, str]]:
        return [process(), await self.leaf.to_async.process()]

    @bentoml.api
    async def small_array(self, calls: int) -> list[float]:
        """Seconds of each call with 1 KiB of float64."""
        array = np.ones(128)
        durations = []
        for _ in range(calls):
            start = time.perf_counter()
            await self.leaf.to_async.ends(array)
            durations.append(time.perf_counter() - start)
        return durations

    @bentoml.api
    async def one_way(self, mib: int, calls: int) -> dict[str, list[float]]:
        """Seconds of each call with a float64 array of `mib` MiB, and of an `np.copyto` of it before each.

        The copy goes to memory that has been written before, as the best case of a pool does.
        """
        array = np.ones(mib * MIB // 8)
        target = np.zeros_like(array)
        seconds: dict[str, list[float]] = {"call": [], "copy": []}
        for i in range(calls):
            array[0] = array[-1] = i
            start = time.perf_counter()
            np.copyto(target, array)
            middle = time.perf_counter()
            ends = await self.leaf.to_async.ends(array)
            seconds["call"].append(time.perf_counter() - middle)
            seconds["copy"].append(middle - start)
            if ends != 2 * i:
                raise ValueError(f"the array that arrived is not the one sent: its ends add up to {ends}, not {2 * i}")
        return seconds
