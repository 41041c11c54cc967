"""Worker threads on a real loop: jobs, sync generators, and what is left of those whose caller has gone."""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nbcompose._replica.generators import WINDOW, ThreadItems
from nbcompose._replica.workers import WorkerThreads
from nbcompose._spec import ApiSpec
from nbcompose._tracing.spans import CallContext, cancelled
from nbcompose.errors import CallInterrupted
from tests.patience import PATIENCE

WORDS = ApiSpec("words", "words", "/words", ())


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
    items = ThreadItems(threads, WORDS, count, (100, []), {}, CallContext())
    assert [i async for i in items] == list(range(100))


async def test_a_generator_is_not_far_ahead_of_its_consumer(threads: WorkerThreads) -> None:
    made: list[int] = []
    items = ThreadItems(threads, WORDS, count, (1000, made), {}, CallContext())
    assert await anext(items) == 0
    for _ in range(3):
        await asyncio.to_thread(lambda: None)

    assert len(made) <= WINDOW + 3
    await items.aclose()


async def test_an_error_comes_after_the_items_before_it(threads: WorkerThreads) -> None:
    def breaks() -> Iterator[int]:
        yield 1
        raise ValueError("dry")

    items = ThreadItems(threads, WORDS, breaks, (), {}, CallContext())
    assert await anext(items) == 1
    with pytest.raises(ValueError, match="dry"):
        await anext(items)


async def test_what_is_no_generator_at_all_is_an_error(threads: WorkerThreads) -> None:
    def refuses() -> Iterator[int]:
        raise ValueError("before the first item")

    items = ThreadItems(threads, WORDS, refuses, (), {}, CallContext())
    with pytest.raises(ValueError, match="before the first item"):
        await asyncio.wait_for(anext(items), PATIENCE)


async def test_any_iterator_will_do(threads: WorkerThreads) -> None:
    wrapped: Callable[[], Iterator[int]] = lambda: map(abs, [-1, -2])  # noqa: E731
    assert [i async for i in ThreadItems(threads, WORDS, wrapped, (), {}, CallContext())] == [1, 2]


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

    stream = ThreadItems(threads, WORDS, items, (), {}, CallContext())
    await anext(stream)
    off = asyncio.Event()
    await stream.aclose()
    stream.job.when_off(off.set)
    go.set()
    await asyncio.wait_for(off.wait(), PATIENCE)
    assert outcome == [True]


# -- pauses


async def read(items: ThreadItems, count: int) -> None:
    for _ in range(count):
        await asyncio.wait_for(anext(items), PATIENCE)


async def test_a_generator_that_pauses_gives_its_slot_up(threads: WorkerThreads) -> None:
    streams = [ThreadItems(threads, WORDS, count, (1000, []), {}, CallContext()) for _ in range(20)]
    for items in streams:
        await read(items, 1)
    assert await asyncio.wait_for(threads.run(len, "abc").future, PATIENCE) == 3
    for items in streams:
        await read(items, 999)
        with pytest.raises(StopAsyncIteration):
            await anext(items)
    assert (threads.busy, threads.paused) == (0, 0)


async def test_never_more_at_once_than_there_are_slots() -> None:
    workers = WorkerThreads(3, asyncio.get_running_loop())
    workers.start()
    inside: list[int] = []
    seen: list[int] = []

    def items() -> Iterator[int]:
        for i in range(200):
            inside.append(1)
            seen.append(len(inside))
            inside.pop()
            yield i

    async def consume() -> None:
        async for _ in ThreadItems(workers, WORDS, items, (), {}, CallContext()):
            await asyncio.sleep(0)

    await asyncio.wait_for(asyncio.gather(*(consume() for _ in range(30))), PATIENCE)
    assert max(seen) <= 3
    workers.stop()


async def test_all_of_a_generator_runs_in_one_thread(threads: WorkerThreads) -> None:
    local = threading.local()

    def items() -> Iterator[bool]:
        local.mine = object()
        kept = local.mine
        try:
            for _ in range(200):
                yield local.mine is kept
        finally:
            ended.append(local.mine is kept)

    ended: list[bool] = []
    streams = [ThreadItems(threads, WORDS, items, (), {}, CallContext()) for _ in range(5)]
    for items_ in streams:
        await read(items_, 100)
    off = asyncio.Event()
    for items_ in streams[1:]:
        await items_.aclose()
    streams[-1].job.when_off(off.set)
    await asyncio.wait_for(off.wait(), PATIENCE)
    assert all([same async for same in streams[0]])
    assert ended == [True] * 5


async def test_a_thread_that_cannot_be_started_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = WorkerThreads(1, asyncio.get_running_loop())
    workers.start()

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    items = ThreadItems(workers, WORDS, count, (100, []), {}, CallContext())
    monkeypatch.setattr(threading.Thread, "start", refuse)
    await read(items, 1)
    after = workers.run(len, "abc")
    await read(items, 99)
    with pytest.raises(StopAsyncIteration):
        await anext(items)
    assert await asyncio.wait_for(after.future, PATIENCE) == 3
    workers.stop()


# -- interrupts


async def test_a_call_that_runs_on_is_interrupted() -> None:
    workers = WorkerThreads(1, asyncio.get_running_loop(), interrupt_after=0.01)
    workers.start()
    began, off = threading.Event(), asyncio.Event()
    ended: list[type[BaseException]] = []

    def loop() -> None:
        began.set()
        try:
            while True:
                pass
        except BaseException as error:
            ended.append(type(error))
            raise

    job = workers.call(WORDS, CallContext(), loop)
    await signal_from_thread(began)
    job.future.cancel()
    job.when_off(off.set)
    assert workers.holders()[0].abandoned
    await asyncio.wait_for(off.wait(), PATIENCE)
    assert ended == [CallInterrupted]
    assert await asyncio.wait_for(workers.run(len, "abc").future, PATIENCE) == 3
    workers.stop()


@pytest.mark.slow
@pytest.mark.system
async def test_calls_that_end_just_as_they_are_interrupted(threads: WorkerThreads) -> None:
    """Ten thousand: the next call never sees it, and no thread is lost."""
    [worker] = threads._workers
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    sent = seen = 0
    go = [False]
    began = threading.Semaphore(0)

    def waits(more: int) -> int:
        began.release()
        while not go[0]:
            pass
        for _ in range(more):
            pass
        return more

    try:
        for i in range(10_000):
            go[0] = False
            job = threads.call(WORDS, CallContext(), waits, i % 50)
            began.acquire()
            go[0] = True
            sent += worker.interrupt(job)
            try:
                assert await job.future == i % 50
            except RuntimeError:
                seen += 1
            assert await threads.run(len, "abc").future == 3  # which nobody interrupts
    finally:
        sys.setswitchinterval(interval)
    assert sent >= seen > 0
    assert threads.busy == 0
    assert threads._workers == [worker]


async def test_an_import_is_not_interrupted(threads: WorkerThreads, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "slow_module.py").write_text("import gate\ngate.began.set()\nwhile not gate.go: pass\n")
    gate: Any = types.ModuleType("gate")
    gate.began, gate.go = threading.Event(), False
    monkeypatch.setitem(sys.modules, "gate", gate)
    monkeypatch.syspath_prepend(str(tmp_path))
    job = threads.call(WORDS, CallContext(), importlib.import_module, "slow_module")
    await signal_from_thread(gate.began)
    assert not threads._workers[0].interrupt(job)
    gate.go = True
    assert (await job.future).__name__ == "slow_module"


async def test_names_of_arguments_are_the_user_s(threads: WorkerThreads) -> None:
    def f(**given: int) -> list[str]:
        return list(given)

    names = ["api", "context", "function", "args", "kwargs"]
    assert await threads.call(WORDS, CallContext(), f, **dict.fromkeys(names, 1)).future == names
