"""What a type checker makes of users' code. Checked by `make check`, never run: each `assert_type` is a test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, assert_type

from nbcompose import api, depends, on_startup, service


@service
class Embedder:
    @api(batchable=True, max_batch_size=8)
    def embed(self, texts: list[str]) -> list[float]:
        return [float(len(text)) for text in texts]

    @api
    async def check(self, text: str, *, strict: bool = False) -> bool:
        return strict or bool(text)

    @api
    def words(self, n: int) -> Iterator[str]:
        yield from "abc"[:n]

    @api
    async def tokens(self, n: int) -> AsyncIterator[str]:
        yield "a" * n

    @on_startup
    def warm(self) -> None: ...


@service(device="cpu")
class Front:
    embedder: Embedder = depends(Embedder)  # annotated: its apis have types; `.to_async` has none
    untyped = depends(Embedder)
    by_name = depends("Embedder")
    elsewhere = depends(url="http://127.0.0.1:3000", token="t")

    @api
    async def ask(self, question: str) -> list[float]:
        assert_type(self.embedder, Embedder)
        assert_type(await self.embedder.check(question, strict=True), bool)
        later = self.embedder.check(question)
        assert_type([later], list[Coroutine[Any, Any, bool]])
        assert await later
        assert_type(self.untyped.to_async.embed([question]), Any)
        assert_type(self.embedder.embed([question]), list[float])
        async for token in self.embedder.tokens(3):
            assert_type(token, str)
        for word in self.embedder.words.options(timeout=2.0)(3):
            assert_type(word, str)
        assert_type(self.by_name, Any)
        assert_type(self.elsewhere.f(1), Any)
        await self.embedder.check(1)  # type: ignore[arg-type]  # it takes a text
        self.embedder.embed(texts=["a"], more=1)  # type: ignore[call-arg]  # it has no such parameter
        return self.embedder.embed([question])


# In a cell, or where it runs: calls wait, whatever kind of function the api is.
assert_type(Embedder.check("a"), bool)
assert_type(Embedder.embed(["a"]), list[float])
assert_type(Embedder.words(2), Iterator[str])
assert_type(Embedder.tokens(2), Iterator[str])
assert_type(Front.ask("a"), list[float])
assert_type(Front.ask.options(timeout=5)("a"), list[float])
Embedder.check()  # type: ignore[call-arg]  # something is missing

# An instance in this process has the methods as they were written.
made = Embedder().check("a")
assert_type([made], list[Coroutine[Any, Any, bool]])
