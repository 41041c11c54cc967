"""Front → Mid → Leaf: small services that depend on one another."""

import asyncio
import time

from nbcompose import api, depends, service


@service(replicas=1, threads=4)
class Leaf:
    @api
    def add(self, a: int, b: int = 1) -> int:
        return a + b

    @api
    def left(self) -> float:
        """Seconds that the caller leaves this call."""
        from nbcompose._tracing.spans import current_call

        context = current_call.get()
        assert context is not None
        return context.remaining() or -1.0


@service
class Mid:
    leaf = depends(Leaf)

    @api
    def twice(self, a: int) -> int:
        return self.leaf.add(self.leaf.add(a, 0), a)

    @api
    async def left(self) -> float:
        return await self.leaf.to_async.left()


@service
class Front:
    mid = depends(Mid)
    leaf = depends(Leaf)

    @api
    async def ask(self, a: int) -> dict:
        twice, plus = await asyncio.gather(self.mid.to_async.twice(a), self.leaf.to_async.add(a))
        return {"twice": twice, "plus": plus}

    @api
    async def left(self) -> float:
        return await self.mid.to_async.left()


@service
class Asks:
    """`__init__` calls a dependency."""

    leaf = depends(Leaf)

    def __init__(self) -> None:
        self.three = self.leaf.add(1, 2)
        self.made = time.time()

    @api
    def value(self) -> int:
        return self.three
