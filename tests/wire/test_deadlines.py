"""One timer ends whatever is late on a connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from nbcompose.wire.deadlines import Deadlines
from tests.patience import PATIENCE


class Watch:
    """Deadlines on the running loop, which tell in `late` whose time was up."""

    def __init__(self) -> None:
        self.deadlines = Deadlines(asyncio.get_running_loop())
        self.late: asyncio.Queue[int] = asyncio.Queue()

    def add(self, key: int, seconds: float) -> float:
        deadline = time.monotonic() + seconds
        self.deadlines.add(key, deadline, lambda: self.late.put_nowait(key))
        return deadline

    async def next(self) -> int:
        async with asyncio.timeout(PATIENCE):
            return await self.late.get()


async def test_each_is_ended_at_its_deadline_and_not_before() -> None:
    watch = Watch()
    second, first = watch.add(2, 0.06), watch.add(1, 0.02)  # the later one first: the timer has to be moved
    assert await watch.next() == 1
    assert time.monotonic() >= first - 0.001
    assert await watch.next() == 2
    assert time.monotonic() >= second - 0.001


async def test_what_was_removed_is_not_ended() -> None:
    watch = Watch()
    watch.add(1, 0.01)
    watch.add(2, 0.02)
    watch.deadlines.remove(1)
    assert await watch.next() == 2
    assert watch.late.empty()
    watch.deadlines.remove(2)  # of one that has gone


async def test_a_timer_that_found_nothing_is_set_anew_by_the_next() -> None:
    watch = Watch()
    for key in range(3):
        watch.add(key, 0.005)
        assert await watch.next() == key


async def test_calls_of_one_timeout_share_a_timer() -> None:
    made = 0

    class Loop:
        time = staticmethod(time.monotonic)

        def call_at(self, when: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
            nonlocal made
            made += 1
            return asyncio.get_running_loop().call_at(when, callback)

    deadlines = Deadlines(Loop())  # type: ignore[arg-type]
    for key in range(100):
        deadlines.add(key, time.monotonic() + 60, lambda: None)
        deadlines.remove(key)
    assert made == 1
    deadlines.close()


async def test_ending_one_may_close_them_all() -> None:
    watch = Watch()
    deadline = time.monotonic()
    watch.deadlines.add(1, deadline, watch.deadlines.close)
    watch.deadlines.add(2, deadline, lambda: watch.late.put_nowait(2))
    watch.add(3, 0.01)
    other = Watch()
    other.add(4, 0.03)
    await other.next()
    assert watch.late.empty()
