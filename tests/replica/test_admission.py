"""Who may run now: the order, the limits, and callers who give up at any moment."""

from __future__ import annotations

import asyncio
import time

import pytest

from nbcompose._replica.admission import Admission, Holder
from nbcompose._tracing.spans import CallContext
from nbcompose.errors import DeadlineExceeded, NotBegun, Overloaded


class Call:
    """One that wants in."""

    def __init__(self, deadline: float | None = None) -> None:
        self.api = "write"
        self.context = CallContext(deadline)
        self.holder = Holder("write", time.time())


CALL = Call()


def entering(admission: Admission) -> asyncio.Task[None]:
    return asyncio.create_task(admission.enter(Call()))


def is_free(admission: Admission) -> bool:
    """Whether a call that comes now gets its place at once."""
    one = admission.enter(CALL)
    try:
        one.send(None)
    except StopIteration:
        admission.leave(CALL)
        return True
    one.close()
    return False


async def test_first_come_first_served_within_the_limit() -> None:
    admission = Admission("Writer", 2, None)
    tasks = [entering(admission) for _ in range(4)]
    await asyncio.wait(tasks[:2])
    assert [t.done() for t in tasks] == [True, True, False, False]

    admission.leave(CALL)
    await tasks[2]
    assert not tasks[3].done()
    admission.leave(CALL)
    await tasks[3]
    admission.leave(CALL)
    admission.leave(CALL)
    assert is_free(admission)


async def test_who_waits_in_a_replica_that_goes_is_told_of_which_api() -> None:
    admission = Admission("Writer", 1, None)
    await admission.enter(CALL)
    waiting = entering(admission)
    await asyncio.sleep(0)
    admission.queue.dismiss()
    with pytest.raises(NotBegun, match=rf"^Writer\.{CALL.api}: its replica has to go"):
        await waiting


async def test_who_finds_the_queue_full_is_turned_away() -> None:
    admission = Admission("Writer", 1, 1)
    await admission.enter(CALL)
    waiting = entering(admission)
    await asyncio.sleep(0)

    with pytest.raises(Overloaded, match=r"1 calls run \(max_concurrency=1\) and 1 wait \(max_queue=1\)"):
        await admission.enter(CALL)

    admission.leave(CALL)
    await waiting


async def test_a_place_that_was_handed_to_one_who_gives_up_goes_to_the_next() -> None:
    admission = Admission("Writer", 1, None)
    await admission.enter(CALL)
    first, second = entering(admission), entering(admission)
    await asyncio.sleep(0)

    admission.leave(CALL)  # the place is the first one's, who has not noticed yet
    first.cancel()

    await second
    assert first.cancelled()


async def test_one_who_gives_up_is_passed_over() -> None:
    admission = Admission("Writer", 1, None)
    await admission.enter(CALL)
    first, second = entering(admission), entering(admission)
    await asyncio.sleep(0)

    first.cancel()
    admission.leave(CALL)  # before the first has noticed

    await second
    with pytest.raises(asyncio.CancelledError):
        await first
    admission.leave(CALL)
    assert is_free(admission)


async def test_one_whose_time_is_up_is_told_what_it_waited_for() -> None:
    admission = Admission("Writer", 1, None)
    await admission.enter(CALL)
    late = asyncio.create_task(admission.enter(Call(time.monotonic() + 0.05)))
    after = entering(admission)

    with pytest.raises(
        DeadlineExceeded, match=r"Writer\.write: waited \d+ ms of \d+ ms in the queue for 1 place \(max_"
    ):
        await late
    assert len(admission.queue.waiting) == 1
    admission.leave(CALL)
    await after
