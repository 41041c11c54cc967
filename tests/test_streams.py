"""`nbcompose.streams`: several streams of one, and a call for each item."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from nbcompose import api, service, streams
from nbcompose.errors import CallCancelled, Misuse, StreamLag, StreamTaken
from tests.patience import PATIENCE, until


@service
class Writer:
    @api
    def write(self) -> Iterator[str]:
        yield "word"


class Numbers:
    """How far a stream has been read, and whether it was closed."""

    def __init__(self, count: int = 5) -> None:
        self.count = count
        self.made = 0
        self.closed = False

    async def awaited(self) -> AsyncIterator[int]:
        try:
            for i in range(self.count):
                self.made += 1
                yield i
        finally:
            self.closed = True

    def waited(self) -> Iterator[int]:
        try:
            for i in range(self.count):
                self.made += 1
                yield i
        finally:
            self.closed = True


async def all_of(items: Any) -> list[Any]:
    return [item async for item in items]


async def test_each_branch_has_all_items() -> None:
    numbers = Numbers()
    one, two, three = streams.tee(numbers.awaited(), 3)
    assert await asyncio.gather(*map(all_of, (one, two, three))) == [[0, 1, 2, 3, 4]] * 3
    assert numbers.made == 5


def test_so_it_has_in_sync_code() -> None:
    one, two = streams.tee(Numbers().waited())
    assert next(one) == 0
    assert list(two) == [0, 1, 2, 3, 4]
    assert list(one) == [1, 2, 3, 4]


def test_threads_may_read_the_branches() -> None:
    found: dict[int, list[int]] = {}
    branches = streams.tee(Numbers(200).waited(), 4)

    def read(i: int) -> None:
        found[i] = list(branches[i])

    threads = [threading.Thread(target=read, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {i: list(range(200)) for i in range(4)}


async def test_an_error_is_each_branchs() -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise LookupError("no more")

    one, two = streams.tee(broken())
    for branch in (one, two):
        assert await anext(branch) == 1
        with pytest.raises(LookupError, match="no more"):
            await anext(branch)


async def test_what_is_kept_is_bounded() -> None:
    async def large() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield bytes(1000)

    one, two = streams.tee(large(), most=3000)
    assert len(await all_of(one)) == 10
    with pytest.raises(StreamLag, match="read all branches at once"):
        await anext(two)


async def test_the_stream_ends_with_the_last_branch() -> None:
    numbers = Numbers()
    one, two = streams.tee(numbers.awaited())
    await anext(one)
    await one.aclose()
    assert not numbers.closed
    assert await anext(two) == 0
    await two.aclose()
    assert numbers.closed
    with pytest.raises(StreamTaken, match="a stream is read once"):
        two.__aiter__()


async def test_who_is_cancelled_ends_no_other_branch() -> None:
    """Nor the own one: its next reader gets the item. The stream ends when the last branch is dropped, too."""
    gate, closed = asyncio.Event(), asyncio.Event()

    async def letters() -> AsyncIterator[str]:
        try:
            yield "a"
            await gate.wait()
            yield "b"
            await asyncio.Event().wait()
        finally:
            closed.set()

    one, two = streams.tee(letters())
    assert [await anext(one), await anext(two)] == ["a", "a"]
    readers = [asyncio.ensure_future(anext(branch)) for branch in (one, two)]
    await asyncio.sleep(0)
    readers[0].cancel()
    await asyncio.wait(readers[:1])
    gate.set()
    assert [await readers[1], await anext(one)] == ["b", "b"]
    waiting = asyncio.ensure_future(anext(one))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert not closed.is_set()
    readers.clear()
    del one, two, waiting
    await asyncio.wait_for(closed.wait(), PATIENCE)


async def test_a_stream_whose_own_code_is_cancelled_has_not_ended() -> None:
    async def letters() -> AsyncIterator[str]:
        yield "a"
        raise asyncio.CancelledError

    for branch in streams.tee(letters()):
        assert await anext(branch) == "a"
        with pytest.raises(CallCancelled, match="was cancelled"):
            await anext(branch)


def test_it_ends_with_the_last_branch_in_sync_code() -> None:
    numbers = Numbers()
    one, two = streams.tee(numbers.waited())
    next(one)
    one.close()
    two.close()
    assert numbers.closed


@pytest.mark.parametrize("n", [0, -1])
def test_how_many(n: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        streams.tee([], n)
    with pytest.raises(ValueError, match="at least one call"):
        streams.map(str, [], at_once=n)


class Calls:
    """Calls that end when they are told to."""

    def __init__(self) -> None:
        self.under_way: dict[int, asyncio.Future[str]] = {}
        self.most = 0
        self.cancelled = 0

    async def __call__(self, item: int) -> str:
        self.under_way[item] = asyncio.get_running_loop().create_future()
        self.most = max(self.most, len(self.under_way))
        try:
            return await self.under_way[item]
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            del self.under_way[item]

    async def begun(self, *items: int) -> None:
        await until(lambda: self.under_way.keys() == set(items))

    def end(self, item: int) -> None:
        self.under_way[item].set_result(f"answer {item}")


async def test_answers_come_in_the_order_of_the_items() -> None:
    numbers, calls = Numbers(), Calls()
    answers = streams.map(calls, numbers.awaited(), at_once=3)
    first = asyncio.ensure_future(anext(answers))
    await calls.begun(0, 1, 2)
    assert numbers.made == 3  # no more than that are taken
    calls.end(2)
    calls.end(1)
    await calls.begun(0)
    assert not first.done()
    calls.end(0)
    assert await first == "answer 0"
    assert [await anext(answers), await anext(answers)] == ["answer 1", "answer 2"]
    await calls.begun(3, 4)
    calls.end(3)
    calls.end(4)
    assert await all_of(answers) == ["answer 3", "answer 4"]
    assert calls.most == 3


async def test_leaving_cancels_the_calls_and_closes_the_stream() -> None:
    numbers, calls = Numbers(), Calls()
    answers = streams.map(calls, numbers.awaited(), at_once=2)
    first = asyncio.ensure_future(anext(answers))
    await calls.begun(0, 1)
    calls.end(0)
    assert await first == "answer 0"
    await answers.aclose()
    assert (calls.under_way, numbers.closed) == ({}, True)
    assert calls.cancelled >= 1


async def test_a_call_that_fails_ends_it() -> None:
    async def half(item: int) -> float:
        return 1 / item

    numbers = Numbers()
    with pytest.raises(ZeroDivisionError):
        await all_of(streams.map(half, numbers.awaited()))
    assert numbers.closed


async def test_an_error_of_the_stream_comes_after_the_answers_before_it() -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise LookupError("no more")

    answers = streams.map(str, broken())
    assert await anext(answers) == "1"
    with pytest.raises(LookupError, match="no more"):
        await anext(answers)


async def test_sync_functions_and_sync_streams() -> None:
    assert await all_of(streams.map(str, [1, 2, 3])) == ["1", "2", "3"]
    assert await all_of(streams.map(str, Numbers(2).waited())) == ["0", "1"]


async def test_for_is_sync_where_a_loop_runs_too() -> None:
    """As in a cell of a notebook."""
    assert list(streams.map(str, [1, 2, 3])) == ["1", "2", "3"]


def test_in_sync_code_threads_make_the_calls() -> None:
    numbers = Numbers(20)
    together = threading.Barrier(4)

    def call(item: int) -> int:
        if item < 4:
            together.wait(PATIENCE)  # four at once
        return 2 * item

    assert list(streams.map(call, numbers.waited())) == [2 * i for i in range(20)]
    assert numbers.closed
    answers = streams.map(call, Numbers(20).waited(), at_once=1)
    answers.close()


def test_what_is_no_stream_is_refused_at_once() -> None:
    for given in (5, None, Writer, Writer.write):
        with pytest.raises(Misuse, match=r"^tee takes a stream"):
            streams.tee(given)  # type: ignore[arg-type]
        with pytest.raises(Misuse, match=r"^map takes a stream"):
            streams.map(str, given)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"the api Writer\.write itself, .*did you mean Writer\.write\(…\)\?"):
        streams.tee(Writer.write)  # type: ignore[arg-type]
    with pytest.raises(Misuse, match=r"an? int cannot be called"):
        streams.map(3, [1])  # type: ignore[arg-type]
    for wrong in (0, -1, 1.5, "2"):
        with pytest.raises(ValueError, match="at least one"):
            streams.tee([1], wrong)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="at least one"):
            streams.map(str, [1], at_once=wrong)  # type: ignore[arg-type]
