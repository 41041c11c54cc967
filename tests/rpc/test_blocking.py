"""Sync code waits for a loop in another thread: results, errors, interrupts, streams, and other loops that wait too."""

from __future__ import annotations

import _thread
import asyncio
import concurrent.futures
import gc
import os
import threading
import warnings
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import pytest

from nbcompose._rpc.blocking import LoopThread, background
from nbcompose.errors import BlockingCall, CallCancelled, ServiceUnavailable
from tests.patience import PATIENCE, ever_longer


@pytest.fixture
def portal() -> Iterator[LoopThread]:
    thread = LoopThread("test")
    thread.start()
    yield thread
    thread.stop()


async def answer(value: Any = 42) -> Any:
    await asyncio.sleep(0)
    return value


class Forever:
    """Something that never ends by itself; says when it has begun and when it was cancelled."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.cancelled = threading.Event()

    async def wait(self, on_begin: Callable[[], object] = lambda: None) -> None:
        self.begun.set()
        on_begin()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


class Numbers:
    """An async generator that says whether it has begun, and when it was closed, or cancelled where it waits."""

    def __init__(self, upto: int, then: Exception | None = None, hang: bool = False) -> None:
        self.begun = False
        self.closed = threading.Event()
        self.hanging = threading.Event()
        self._upto, self._then, self._hang = upto, then, hang

    async def items(self) -> AsyncGenerator[int, None]:
        self.begun = True
        try:
            for i in range(self._upto):
                yield i
            if self._hang:
                self.hanging.set()
                await asyncio.Event().wait()
            if self._then is not None:
                raise self._then
        finally:
            self.closed.set()


def run_in_thread(function: Callable[[], Any]) -> Any:
    results: list[Any] = []

    def work() -> None:
        try:
            results.append(function())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(PATIENCE)
    return results[0]


# -- run


def test_run_gives_the_result_or_the_error(portal: LoopThread) -> None:
    async def broken() -> None:
        raise KeyError("x")

    assert portal.run(answer()) == 42
    assert run_in_thread(lambda: portal.run(answer())) == 42
    with pytest.raises(KeyError):
        portal.run(broken())
    assert isinstance(run_in_thread(lambda: portal.run(broken())), KeyError)


def test_a_timeout_cancels(portal: LoopThread) -> None:
    forever = Forever()
    for seconds in ever_longer():
        with pytest.raises(TimeoutError, match=f"not done after {seconds:g} s"):
            portal.run(forever.wait(), timeout=seconds)
        if forever.begun.is_set():
            break
    assert forever.cancelled.wait(PATIENCE)
    assert portal.run(answer(), timeout=PATIENCE) == 42


# Of these the standard library makes others where it copies one future to another.
COPIED = [TimeoutError, concurrent.futures.InvalidStateError]


@pytest.mark.parametrize("kind", COPIED)
async def test_an_error_of_the_work_s_own_comes_as_it_is(portal: LoopThread, kind: type[Exception]) -> None:
    error = kind("mine")
    error.__cause__ = ZeroDivisionError()

    async def late() -> None:
        raise error

    async def items() -> AsyncGenerator[int, None]:
        raise error
        yield 1

    ways: list[Callable[[], object]] = [
        lambda: portal.run(late()),
        lambda: portal.run(late(), timeout=PATIENCE),
        lambda: list(portal.iterate(items())),
    ]
    for way in ways:
        assert run_in_thread(way) is error
        with pytest.raises(kind) as raised:
            way()
        assert raised.value is error
    with pytest.raises(kind) as raised:
        await portal.join(late())
    assert raised.value is error
    with pytest.raises(kind) as raised:
        await anext(portal.join_items(items()))
    assert raised.value is error
    assert isinstance(error.__cause__, ZeroDivisionError)


@pytest.mark.usefixtures("interrupts")
def test_an_interrupt_ends_the_waiting_and_cancels_the_work(portal: LoopThread) -> None:
    forever = Forever()
    with pytest.raises(KeyboardInterrupt):
        portal.run(forever.wait(on_begin=_thread.interrupt_main))
    assert forever.cancelled.wait(PATIENCE)


def test_work_that_is_cancelled_there_is_a_cancelled_call_here(portal: LoopThread) -> None:
    async def cancel_itself() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    with pytest.raises(CallCancelled):
        portal.run(cancel_itself())
    assert isinstance(run_in_thread(lambda: portal.run(cancel_itself())), CallCancelled)


def test_an_error_for_which_nobody_waits_any_more_is_not_logged(portal: LoopThread) -> None:
    """As of a call that fails because its deadline is over, just when that of whoever waits is, too."""
    told: list[dict[str, Any]] = []
    forever = Forever()

    async def late() -> None:
        try:
            await forever.wait()
        except asyncio.CancelledError:
            raise ValueError("late") from None

    async def join() -> None:
        task = asyncio.create_task(portal.join(late()))
        assert await asyncio.to_thread(forever.begun.wait, PATIENCE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def forgotten() -> None:
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)
        del others
        gc.collect()

    portal.loop.set_exception_handler(lambda _, context: told.append(context))
    asyncio.run(join())
    portal.run(forgotten())
    assert told == []


def test_waiting_on_the_loop_itself_is_refused(portal: LoopThread) -> None:
    async def deadlock() -> Any:
        return portal.run(answer())

    with pytest.raises(BlockingCall):
        portal.run(deadlock())
    assert portal.run(answer()) == 42


def test_a_loop_that_has_ended(portal: LoopThread) -> None:
    forever = Forever()
    waiter = threading.Thread(target=run_in_thread, args=(lambda: portal.run(forever.wait()),))
    waiter.start()
    assert forever.begun.wait(PATIENCE)
    portal.stop()
    assert forever.cancelled.is_set()  # what still ran is cancelled
    waiter.join(PATIENCE)
    assert not waiter.is_alive()
    with pytest.raises(ServiceUnavailable, match="nbcompose has been stopped"):
        portal.run(answer())
    items = portal.iterate(Numbers(3).items())
    with pytest.raises(ServiceUnavailable):
        next(items)


def in_child(function: Callable[[], str]) -> str:
    readable, writable = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking a process with threads: that is the point
        pid = os.fork()
    if pid == 0:
        try:
            os.write(writable, function().encode())
        finally:
            os._exit(0)
    os.close(writable)
    with open(readable, encoding="utf-8") as file:
        said = file.read()
    os.waitpid(pid, 0)
    return said


def test_a_forked_child_is_told_instead_of_hanging(portal: LoopThread) -> None:
    portal.run(answer())

    def call() -> str:
        try:
            return str(portal.run(answer()))
        except ServiceUnavailable as error:
            return str(error)

    assert "forked from the one that talks to services" in in_child(call)


def test_a_forked_child_has_a_background_loop_of_its_own() -> None:
    assert background() is background()
    background().run(answer())
    assert in_child(lambda: str(background().run(answer()))) == "42"


# -- iterate


def test_items_come_one_by_one(portal: LoopThread) -> None:
    numbers = Numbers(5)
    assert list(portal.iterate(numbers.items())) == [0, 1, 2, 3, 4]
    assert numbers.closed.is_set()


def test_an_error_comes_after_the_items_before_it(portal: LoopThread) -> None:
    items = portal.iterate(Numbers(2, then=ValueError("third")).items())
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(ValueError, match="third"):
        next(items)


def test_leaving_early_closes_what_feeds_it(portal: LoopThread) -> None:
    numbers = Numbers(5)
    for i in portal.iterate(numbers.items()):
        if i == 2:
            break
    assert numbers.closed.wait(PATIENCE)


@pytest.mark.usefixtures("interrupts")
def test_an_interrupt_while_an_item_is_awaited_closes_it(portal: LoopThread) -> None:
    numbers = Numbers(1, hang=True)
    items = portal.iterate(numbers.items())
    assert next(items) == 0

    def interrupt() -> None:
        assert numbers.hanging.wait(PATIENCE)
        _thread.interrupt_main()

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        next(items)
    assert numbers.closed.wait(PATIENCE)


def test_an_iterator_that_was_never_used_does_nothing(portal: LoopThread) -> None:
    numbers = Numbers(5)
    feeding: Any = numbers.items()
    items = portal.iterate(feeding)
    items.close()
    assert list(items) == []
    assert portal.run(answer()) == 42  # the loop has done by now what was asked of it before
    assert not numbers.begun
    assert feeding.ag_frame is not None, "it was closed on the loop, though nothing of it has run"


# -- from another loop


async def test_join_from_another_loop(portal: LoopThread) -> None:
    async def where() -> bool:
        return portal.inside

    assert await portal.join(where())
    assert not portal.inside

    async def broken() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await portal.join(broken())


async def test_join_on_the_loop_itself_just_waits(portal: LoopThread) -> None:
    async def nested() -> Any:
        return await portal.join(answer())

    assert await portal.join(nested()) == 42


async def test_cancelling_who_joins_cancels_the_work(portal: LoopThread) -> None:
    forever = Forever()
    task = asyncio.ensure_future(portal.join(forever.wait()))
    await asyncio.to_thread(forever.begun.wait, PATIENCE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(forever.cancelled.wait, PATIENCE)


async def test_work_that_is_cancelled_there_does_not_cancel_who_joins(portal: LoopThread) -> None:
    async def cancel_itself() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    with pytest.raises(CallCancelled):
        await portal.join(cancel_itself())


async def test_join_items_from_another_loop(portal: LoopThread) -> None:
    numbers = Numbers(5)
    assert [i async for i in portal.join_items(numbers.items())] == [0, 1, 2, 3, 4]
    early = Numbers(5)
    items = portal.join_items(early.items())
    assert await anext(items) == 0
    await items.aclose()
    assert await asyncio.to_thread(early.closed.wait, PATIENCE)


async def test_cancelling_who_waits_for_an_item_closes_it(portal: LoopThread) -> None:
    numbers = Numbers(0, hang=True)
    task = asyncio.ensure_future(anext(portal.join_items(numbers.items())))
    await asyncio.to_thread(numbers.hanging.wait, PATIENCE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(numbers.closed.wait, PATIENCE)
