"""A graph whose calls run side by side, stream, fail and are given up."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator

from nbcompose import api, depends, service
from nbcompose._tracing import current_call

SECRET = "hunter2 is the user's own"


@service(threads=2)
class Leaf:
    @api
    def add(self, x: int) -> int:
        return x + 1

    @api
    def fail(self, text: str) -> None:
        raise LookupError(f"{SECRET}: {text}")


@service
class Front:
    leaf = depends(Leaf)

    @api
    async def both(self, x: int) -> int:
        return sum(await asyncio.gather(self.leaf.to_async.add(x), self.leaf.to_async.add(x)))

    @api
    async def fail(self, text: str) -> None:
        await self.leaf.to_async.fail(text)

    @api
    def letters(self, text: str) -> Iterator[str]:
        yield from text

    @api
    async def hang(self) -> AsyncIterator[str]:
        """Begins, and waits to be given up."""
        yield "begun"
        await asyncio.Event().wait()

    @api
    async def traceparent(self) -> str:
        context = current_call.get()
        assert context is not None
        return context.traceparent

    @api
    def telemetry(self) -> list[str]:
        """The modules of OpenTelemetry that this process has imported."""
        return [name for name in sys.modules if name.split(".")[0] == "opentelemetry"]
