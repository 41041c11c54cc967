"""Services that keep metrics of their own, and give files."""

from collections.abc import Iterator
from pathlib import Path

from prometheus_client import Counter

from nbcompose import api, depends, service
from nbcompose._tracing.spans import current_call


@service(threads=4)
class Counting:
    def __init__(self) -> None:
        self.hits = Counter("hits", "Hits.", ["api"])

    @api
    def hit(self, f: Path) -> int:
        self.hits.labels("hit").inc()
        return len(f.read_bytes())

    @api
    async def ahit(self, tags: list[str]) -> list[str]:
        self.hits.labels("ahit").inc()
        return tags

    @api
    def file(self, name: str) -> Path:
        return Path(name)

    @api
    def words(self, text: str) -> Iterator[str]:
        yield from text

    @api
    def trace(self) -> tuple[int, str]:
        context = current_call.get()
        assert context is not None
        return context.trace_flags, context.trace_state

    @api(batchable=True)
    def traces(self, numbers: list[int]) -> list[tuple[int, str]]:
        return [self.trace()] * len(numbers)


@service(threads=4)
class Above:
    counting = depends(Counting)

    @api
    def trace(self) -> tuple[int, str]:
        return self.counting.trace()

    @api
    async def atrace(self) -> tuple[int, str]:
        return await self.counting.to_async.trace()

    @api
    def traces(self) -> list[tuple[int, str]]:
        return self.counting.traces([1])

    @api
    def hit(self, f: Path) -> int:
        return self.counting.hit(f)

    @api
    def wrong(self) -> None:
        self.counting.to_sync.ahit(5)
