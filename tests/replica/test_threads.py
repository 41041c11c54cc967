"""Worker threads on a real loop: jobs, sync generators, and what is left of those whose caller has gone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nbcompose.replica.threads import WINDOW, ThreadItems, WorkerThreads
from nbcompose.tracing import CallContext, cancelled
from tests.patience import PATIENCE


@pytest.fixture
async def threads() -> Any:
    workers = WorkerThreads(1, asyncio.get_running_loop())
    workers.start()
    yield workers
    workers.stop()


async def signal_from_thread(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, PATIENCE)


async def test_results_and_errors(threads: WorkerThreads) -> None:
    assert await threads.run(divmod, 7, 3).future == (2, 1)
    with pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 7, 0).future


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopIteration(1)])
async def test_what_must_not_end_a_thread_is_an_error(threads: WorkerThreads, error: BaseException) -> None:
    def fails() -> None:
        raise error

    with pytest.raises(RuntimeError, match=type(error).__name__):
        await threads.run(fails).future
    assert await threads.run(len, "abc").future == 3


async def test_each_thread_is_prepared() -> None:
    prepared: list[str] = []
    workers = WorkerThreads(2, asyncio.get_running_loop(), lambda: prepared.append(threading.current_thread().name))
    workers.start()
    barrier = threading.Barrier(2)
    await asyncio.gather(*(workers.run(barrier.wait).future for _ in range(2)))

    assert sorted(prepared) == ["nbcompose-api-0", "nbcompose-api-1"]
    workers.stop()


async def test_a_thread_is_busy_until_the_work_ends_not_the_waiting(threads: WorkerThreads) -> None:
    began, release = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        release.wait()

    off = asyncio.Event()
    job = threads.run(work)
    await signal_from_thread(began)
    job.future.cancel()
    job.when_off(off.set)
    assert threads.busy == 1
    assert not off.is_set()

    release.set()
    await asyncio.wait_for(off.wait(), PATIENCE)
    assert threads.busy == 0


async def test_work_that_nobody_wants_any_more_is_not_begun(threads: WorkerThreads) -> None:
    release, ran, off = threading.Event(), threading.Event(), asyncio.Event()
    first = threads.run(release.wait)
    second = threads.run(ran.set)
    second.future.cancel()
    second.when_off(off.set)

    assert off.is_set()
    release.set()
    await first.future
    await threads.run(len, "").future
    assert not ran.is_set()


async def test_when_off_after_the_end_is_at_once(threads: WorkerThreads) -> None:
    off = asyncio.Event()
    job = threads.run(len, "")
    await job.future
    job.when_off(off.set)
    assert off.is_set()


# -- sync generators


def count(up_to: int, made: list[int]) -> Iterator[int]:
    for i in range(up_to):
        made.append(i)
        yield i


async def test_the_items_of_a_generator(threads: WorkerThreads) -> None:
    items = ThreadItems(threads, count, (100, []), {}, CallContext())
    assert [i async for i in items] == list(range(100))


async def test_a_generator_is_not_far_ahead_of_its_consumer(threads: WorkerThreads) -> None:
    made: list[int] = []
    items = ThreadItems(threads, count, (1000, made), {}, CallContext())
    assert await anext(items) == 0
    for _ in range(3):
        await asyncio.to_thread(lambda: None)

    assert len(made) <= WINDOW + 3
    await items.aclose()


async def test_an_error_comes_after_the_items_before_it(threads: WorkerThreads) -> None:
    def breaks() -> Iterator[int]:
        yield 1
        raise ValueError("dry")

    items = ThreadItems(threads, breaks, (), {}, CallContext())
    assert await anext(items) == 1
    with pytest.raises(ValueError, match="dry"):
        await anext(items)


async def test_what_is_no_generator_at_all_is_an_error(threads: WorkerThreads) -> None:
    def refuses() -> Iterator[int]:
        raise ValueError("before the first item")

    items = ThreadItems(threads, refuses, (), {}, CallContext())
    with pytest.raises(ValueError, match="before the first item"):
        await asyncio.wait_for(anext(items), PATIENCE)


async def test_any_iterator_will_do(threads: WorkerThreads) -> None:
    wrapped: Callable[[], Iterator[int]] = lambda: map(abs, [-1, -2])  # noqa: E731
    assert [i async for i in ThreadItems(threads, wrapped, (), {}, CallContext())] == [1, 2]


@pytest.mark.parametrize("blocked", [False, True])
async def test_a_closed_generator_stops_at_its_next_item(threads: WorkerThreads, blocked: bool) -> None:
    go, outcome = threading.Event(), list[bool]()

    def items() -> Iterator[int]:
        try:
            yield from range(WINDOW + 10 if blocked else 1)
            go.wait()
            yield -1
            outcome.append(False)
        finally:
            outcome.append(cancelled())

    stream = ThreadItems(threads, items, (), {}, CallContext())
    await anext(stream)
    off = asyncio.Event()
    await stream.aclose()
    stream.job.when_off(off.set)
    go.set()
    await asyncio.wait_for(off.wait(), PATIENCE)
    assert outcome == [True]
