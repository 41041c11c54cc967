"""`Answer()`: in-process instances validate, call their dependencies and fail as served ones do."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import sys
import time
import traceback
import types
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest

from nbcompose import Service, api, cancelled, depends, on_startup, service
from nbcompose._replica.in_process import collect
from nbcompose._tracing.spans import CallContext, current_call
from nbcompose.errors import (
    BlockingCall,
    CycleError,
    DeclarationError,
    InvalidArgument,
    InvalidResult,
    UnknownApi,
    UnknownArgumentWarning,
)
from tests.handles import handle
from tests.patience import PATIENCE


@service
class Embedder:
    """Embeds."""

    def __init__(self) -> None:
        self.dimension = 3
        self.internal = self.embed("not a list")  # type: ignore[arg-type]  # its own methods are left alone

    @api(batchable=True)
    def embed(self, texts: list[str]) -> np.ndarray:
        return np.ones((len(texts), self.dimension))

    @api
    def wrong(self) -> int:
        return "x"  # type: ignore[return-value]

    @api
    async def slow(self, n: int) -> int:
        await asyncio.sleep(0)
        return n + 1


closed: list[str] = []


@service
class Writer:
    @api
    def write(self, prompt: str, count: int = 3) -> Iterator[str]:
        try:
            for i in range(count):
                yield f"{prompt}{i}"
        finally:
            closed.append("sync")

    @api
    async def write_async(self, prompt: str, count: int = 3) -> AsyncIterator[str]:
        try:
            for i in range(count):
                await asyncio.sleep(0)
                yield f"{prompt}{i}"
        finally:
            closed.append("async")

    @api
    def wrong(self) -> Iterator[int]:
        yield 1
        yield "two"  # type: ignore[misc]

    @api
    def fails(self) -> Iterator[int]:
        yield 1
        raise KeyError("in mid-stream")


@service
class Answer:
    embedder = depends(Embedder)
    writer = depends(Writer)

    @api
    def ask(self, question: str) -> dict[str, Any]:
        return {"shape": self.embedder.embed([question]).shape, "text": list(self.writer.write(question))}

    @api
    async def ask_async(self, question: str) -> dict[str, Any]:
        shape = (await self.embedder.to_async.embed([question])).shape
        both = await asyncio.gather(self.embedder.to_async.slow(1), self.embedder.to_async.slow(2))
        text = [t async for t in self.writer.to_async.write(question)]
        text += [t async for t in self.writer.to_async.write_async(question)]
        return {"shape": shape, "both": both, "text": text}

    @api
    def from_sync_code(self) -> Any:
        return self.embedder.to_sync.slow(1), list(self.writer.to_sync.write_async("x"))

    @api
    async def blocks(self) -> Any:
        return self.embedder.embed(["x"])

    @api
    async def blocks_inside(self) -> Any:
        return self.ask("x")

    @api
    async def yields_and_blocks(self) -> AsyncIterator[Any]:
        yield 1
        yield self.embedder.embed(["x"])

    @api
    async def in_a_thread(self) -> Any:
        return (await asyncio.to_thread(self.embedder.embed, ["x"])).shape

    @api
    def extra(self) -> Any:
        return self.embedder.embed(["x"], max_length=5).shape

    @api
    def mistaken(self) -> Any:
        return self.embedder.embed(5)

    @api
    def misspelled(self) -> Any:
        return self.embedder.embde(["x"])


@pytest.fixture
def answer() -> Any:
    closed.clear()
    return Answer()


# -- the same validation


def test_an_instance_is_one_of_the_class() -> None:
    embedder = Embedder()
    assert isinstance(embedder, handle(Embedder).inner)
    assert (type(embedder).__name__, type(embedder).__module__) == ("Embedder", __name__)
    assert embedder.dimension == 3
    assert embedder.embed(["a", "b"]).shape == (2, 3)
    assert embedder.embed(texts=["a"]).shape == (1, 3)
    assert embedder.embed.__doc__ == handle(Embedder).inner.embed.__doc__


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((5,), {}, "texts"),
        ((), {}, "texts"),
        ((["a"], 2), {}, "embed"),
        ((["a"],), {"txts": 1}, "txts"),
        (([1.5, None],), {}, "texts"),
    ],
)
def test_arguments_are_validated(args: tuple[Any, ...], kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Embedder().embed(*args, **kwargs)


def test_results_are_checked() -> None:
    with pytest.raises(InvalidResult, match="int"):
        Embedder().wrong()
    items = Writer().wrong()
    assert next(items) == 1
    with pytest.raises(InvalidResult, match="int"):
        next(items)


async def test_async_apis_are_validated_too() -> None:
    assert await Embedder().slow("4") == 5  # type: ignore[arg-type]  # as lax as pydantic
    with pytest.raises(InvalidArgument):
        await Embedder().slow("x")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument):
        [t async for t in Writer().write_async(5)]  # type: ignore[arg-type]


def test_what_an_instance_calls_of_its_own_is_left_alone() -> None:
    """In a replica that is the bare method: a test must not pass, or fail, where the service would not."""
    assert Embedder().internal.shape == (10, 3)

    @service
    class Inner:
        @api
        def outer(self) -> Any:
            return self.inner_api("x"), list(self.yields("y"))  # type: ignore[arg-type]

        @api
        async def outer_async(self) -> Any:
            return self.inner_api("x")

        @api
        def inner_api(self, n: int) -> Any:
            return n

        @api
        def yields(self, n: int) -> Iterator[int]:
            yield n

    instance = Inner()
    assert instance.outer() == ("x", ["y"])
    assert asyncio.run(instance.outer_async()) == "x"
    with pytest.raises(InvalidArgument):
        instance.inner_api("x")


# -- batchable apis


@service
class Batches:
    @api(batchable=True)
    def lists(self, items: list[int]) -> list[Any]:
        return [ValueError(f"bad {i}") if i < 0 else i for i in items]

    @api(batchable=True)
    async def lists_async(self, items: list[int]) -> list[Any]:
        return self.lists(items)

    @api(batchable=True)
    def short(self, items: list[int]) -> list[int]:
        return items[1:]

    @api(batchable=True)
    def single(self, items: list[int]) -> int:
        return 5

    @api(batchable=True)
    def anything(self, items: Any) -> list[int]:
        return [1]


def test_batches_are_checked_as_joined_ones_are() -> None:
    batches = Batches()
    assert batches.lists([1, 2]) == [1, 2]
    with pytest.raises(ValueError, match="bad -1"):
        batches.lists([1, -1])
    with pytest.raises(ValueError, match="bad -1"):
        asyncio.run(batches.lists_async([1, -1]))
    with pytest.raises(InvalidResult, match="got 1 results for 2 inputs"):
        batches.short([1, 2])
    with pytest.raises(InvalidResult, match="one result for each input"):
        batches.single([1])
    with pytest.raises(InvalidArgument, match="takes batches"):
        batches.anything(5)


# -- dependencies


def test_sync_calls_to_dependencies(answer: Any) -> None:
    assert answer.ask("q") == {"shape": (1, 3), "text": ["q0", "q1", "q2"]}
    assert answer.from_sync_code() == (2, ["x0", "x1", "x2"])
    assert closed == ["sync", "async"]


async def test_awaited_calls_to_dependencies(answer: Any) -> None:
    assert await answer.ask_async("q") == {
        "shape": (1, 3),
        "both": [2, 3],
        "text": ["q0", "q1", "q2", "q0", "q1", "q2"],
    }


async def test_a_sync_call_on_the_event_loop_is_refused_as_in_a_replica(answer: Any) -> None:
    with pytest.raises(BlockingCall, match=r"to_async\.embed"):
        await answer.blocks()
    with pytest.raises(BlockingCall):
        await answer.blocks_inside()  # though `ask` itself is a sync api
    items = answer.yields_and_blocks()
    assert await anext(items) == 1
    with pytest.raises(BlockingCall):
        await anext(items)
    assert await answer.in_a_thread() == (1, 3)


async def test_tests_that_are_async_may_call_sync_apis(answer: Any) -> None:
    assert answer.ask("q")["shape"] == (1, 3)


def test_a_dependency_s_own_errors(answer: Any) -> None:
    with pytest.raises(InvalidArgument, match="texts"):
        answer.mistaken()
    with pytest.raises(UnknownApi, match="Embedder has no api 'embde'; it has: embed, wrong, slow"):
        answer.misspelled()
    with pytest.warns(UnknownArgumentWarning, match=r"Embedder\.embed .* max_length"):
        assert answer.extra() == (1, 3)


def test_an_error_keeps_the_frames_of_a_test(answer: Any) -> None:

    with pytest.raises(InvalidArgument) as caught:
        answer.mistaken()
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert "mistaken" in names


@service
class Raises:
    @api
    def raises(self, error: Exception) -> None:
        raise error

    @api
    def yields(self, error: Exception) -> Iterator[int]:
        yield 1
        raise error


@service
class Above:
    below = depends(Raises)

    @api
    def nothing(self) -> None: ...


# What the standard library makes another of, or refuses, where a thread's error becomes a future's.
OF_THREADS = [
    TimeoutError("mine"),
    concurrent.futures.InvalidStateError("mine"),
    StopIteration("mine"),
    KeyError("mine"),
]


@pytest.mark.parametrize("error", OF_THREADS, ids=lambda error: type(error).__name__)
async def test_an_error_of_a_sync_api_that_is_awaited_has_the_frames_of_the_thread(error: Exception) -> None:
    raises: Any = Above().below
    with pytest.raises((type(error), RuntimeError)) as caught:  # Python lets no StopIteration out of a coroutine
        await asyncio.wait_for(raises.to_async.raises(error), PATIENCE)
    assert error in (caught.value, caught.value.__cause__)
    assert "raises" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    items = raises.to_async.yields(error)
    assert await anext(items) == 1
    with pytest.raises((type(error), RuntimeError)) as caught:
        await asyncio.wait_for(anext(items), PATIENCE)
    assert error in (caught.value, caught.value.__cause__)
    assert "yields" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]


# -- streams


def test_closing_a_stream_early_closes_its_generator(answer: Any) -> None:
    items = answer.writer.write("x", count=100)
    assert next(items) == "x0"
    items.close()
    assert closed == ["sync"]


async def test_closing_an_awaited_stream_early(answer: Any) -> None:
    for name in ("write", "write_async"):
        async with contextlib.aclosing(getattr(answer.writer.to_async, name)("x", count=100)) as items:
            assert await anext(items) == "x0"
    assert closed == ["sync", "async"]


def test_an_error_in_mid_stream(answer: Any) -> None:
    items = answer.writer.fails()
    assert next(items) == 1
    with pytest.raises(KeyError, match="in mid-stream"):
        next(items)


async def test_a_stream_can_be_consumed_while_others_run(answer: Any) -> None:
    """What runs between two items is not part of the call that yields them."""
    items = answer.yields_and_blocks()
    assert await anext(items) == 1
    assert current_call.get() is None
    assert answer.embedder.embed(["x"]).shape == (1, 3)
    await items.aclose()


# -- contexts


def test_deadline_and_trace_are_those_of_the_caller() -> None:
    seen: list[CallContext | None] = []

    @service
    class Looks:
        @api
        def look(self) -> bool:
            seen.append(current_call.get())
            return cancelled()

    looks = Looks()
    assert looks.look() is False
    outer = CallContext(time.monotonic() - 1, trace_id=5, trace_flags=0, trace_state="a=b")
    token = current_call.set(outer)
    try:
        assert looks.look() is True
    finally:
        current_call.reset(token)
    first, second = seen
    assert first is not None
    assert second is not None
    assert (first.deadline, second.deadline) == (None, outer.deadline)
    assert (second.trace_id, second.trace_flags, second.trace_state) == (5, 0, "a=b")
    assert first.trace_id != 5


# -- how it is put together


def test_hooks_run_before_the_first_call() -> None:
    @service
    class Hooked:
        def __init__(self) -> None:
            self.seen = ["init"]

        @on_startup
        def warm(self) -> None:
            self.seen.append("sync")

        @on_startup
        async def warmer(self) -> None:
            await asyncio.sleep(0)
            self.seen.append("async")

        @api
        def look(self) -> list[str]:
            return self.seen

    assert Hooked().look() == ["init", "sync", "async"]


def test_a_dependency_may_be_called_in_init() -> None:
    @service
    class Eager:
        embedder = depends(Embedder)

        def __init__(self) -> None:
            self.shape = self.embedder.embed(["x"]).shape

        @api
        def look(self) -> Any:
            return self.shape

    assert Eager().look() == (1, 3)


def test_init_that_raises() -> None:
    @service
    class Broken:
        def __init__(self) -> None:
            raise FileNotFoundError("weights")

        @api
        def f(self) -> None: ...

    with pytest.raises(FileNotFoundError, match="weights"):
        Broken()


def test_every_service_is_built_once_for_an_instance() -> None:
    made: list[str] = []

    @service
    class Base:
        def __init__(self) -> None:
            made.append("Base")

        @api
        def f(self) -> int:
            return 1

    @service
    class Left:
        base = depends(Base)

        @api
        def f(self) -> int:
            return int(self.base.f())

    @service
    class Top:
        base = depends(Base)
        left = depends(Left)

        @api
        def f(self) -> int:
            return int(self.base.f() + self.left.f())

    assert Top().f() == 2
    assert made == ["Base"]
    Top()
    assert made == ["Base", "Base"]  # and anew for the next one


class Plain:
    @api
    def f(self) -> str:
        return "plain"


@service
class ByName:
    named = depends("Embedder")
    plain = depends(Plain)

    @api
    def f(self) -> Any:
        return self.named.embed(["x"]).shape, self.plain.f()


def test_dependencies_by_name_are_found_beside_the_class() -> None:
    assert ByName().f() == ((1, 3), "plain")


def test_dependencies_by_name_are_found_beside_the_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = types.ModuleType("elsewhere")
    monkeypatch.setitem(sys.modules, "elsewhere", elsewhere)

    class Below:
        named = depends("Embedder")

        @api
        def f(self) -> Any:
            return self.named.embed(["x"]).shape

    Below.__module__ = "elsewhere"

    @service
    class Entry:
        below = depends(Below)

        @api
        def f(self) -> Any:
            return self.below.f()

    assert set(collect(handle(Entry))) == {"Entry", "Below", "Embedder"}
    assert Entry().f() == (1, 3)


def test_a_name_that_nobody_has() -> None:
    @service
    class Lost:
        missing = depends("Nowhere")

        @api
        def f(self) -> None: ...

    with pytest.raises(DeclarationError, match="Lost depends on 'Nowhere', by name, and no service of that name"):
        Lost()


def test_a_name_that_two_have() -> None:
    def made(value: int) -> Service:
        @service(name="Same")
        class Twin:
            @api
            def f(self) -> int:
                return value

        return handle(Twin)

    @service
    class Confused:
        one = depends(made(1))
        two = depends(made(2))

        @api
        def f(self) -> None: ...

    with pytest.raises(DeclarationError, match=r"two services are called 'Same', at .*test_in_process.py:.*and at .*"):
        collect(handle(Confused))


def test_a_circle_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    @service
    class Hen:
        egg = depends("Egg")

        @api
        def f(self) -> None: ...

    @service
    class Egg:
        hen = depends(Hen)

        @api
        def f(self) -> None: ...

    monkeypatch.setattr(sys.modules[__name__], "Egg", Egg, raising=False)
    with pytest.raises(CycleError, match="──▶"):
        Hen()


def test_a_fake_may_take_the_place_of_a_dependency(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        def embed(self, texts: list[str]) -> np.ndarray:
            return np.zeros((9, 9))

    answer.embedder = Fake()
    assert answer.ask("q")["shape"] == (9, 9)


def test_classes_with_slots_and_with_a_generator_that_is_handed_out() -> None:
    @service
    class Slotted:
        __slots__ = ("value",)

        def __init__(self) -> None:
            self.value = 5

        def _numbers(self) -> AsyncGenerator[int, None]:
            async def numbers() -> AsyncGenerator[int, None]:
                yield self.value

            return numbers()

        @api
        def f(self) -> int:
            return self.value

        @api
        def handed(self) -> Iterator[int]:
            return iter([1, 2])

        @api
        def handed_async(self) -> AsyncIterator[int]:
            return self._numbers()

    async def read(items: Any) -> list[int]:
        return [i async for i in items]

    slotted = Slotted()
    assert slotted.f() == 5
    assert list(slotted.handed()) == [1, 2]
    assert asyncio.run(read(slotted.handed_async())) == [5]
