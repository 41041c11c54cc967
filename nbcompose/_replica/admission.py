"""Concurrency limits of a replica, and the queues of calls that wait for a place.

Used on the replica's loop. What a place is, and who gets it next, is the business of whoever has the queue:
admission.py, workers.py, a batcher.

One asyncio loop; knows nothing of apis. A stream has its place from before its first item until it has ended, also
while it waits for its consumer: the limit is for what calls hold (memory, above all), and a paused one holds it still.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from nbcompose._tracing import CallContext
from nbcompose.errors import DeadlineExceeded, NotBegun, Overloaded

# A call that waits still when so little of its time is left (a part of it, seconds at most) is told what it waits
# for: in time to be heard, also through services in between, before the timers of callers go off, which know nothing.
EARLY_PART, EARLY_MOST = 0.05, 0.2
SWEEP = 0.02  # seconds between looks at who waits
NAMED = 3  # so many of those that have the places are named


class Holder(NamedTuple):
    """A call that has a place: since when, in Unix time, and whether its caller has gone. `paused`: it yields, and
    waits for its consumer.
    """

    api: str
    since: float
    abandoned: bool = False
    paused: bool = False

    @property
    def words(self) -> str:
        """E.g. "loop (for 40 s, its caller has gone)"."""
        more = ", its caller has gone" if self.abandoned else ", waits for its consumer" if self.paused else ""
        return f"{self.api} (for {seconds(time.time() - self.since)}{more})"


class QueuedCall(Protocol):
    """A call in a queue. `since` is on `time.monotonic()`'s clock."""

    since: float
    context: CallContext

    @property
    def waits(self) -> bool:
        """Whether it has no place yet, and wants one."""
        ...

    def give_up(self, error: Exception) -> None:
        """Wait no more, and raise this, unless it has got its place meanwhile."""
        ...


class Queue:
    """Those who wait for a place of one kind, in the order in which they came.

    `name` is that of whatever has the queue: a service, or an api of it. `place` says what they wait for, `ways_out`
    which options change that, `holders` who has the places.
    """

    def __init__(self, name: str, place: str, ways_out: str, holders: Callable[[], Iterable[Holder]]) -> None:
        self._name = name
        self._place = place
        self._ways_out = ways_out
        self._holders = holders
        self._waiters: dict[QueuedCall, tuple[str, int]] = {}  # what they call, and how many were there when they came
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, waiter: QueuedCall, api: str = "") -> None:
        """Put it at the end; `api` is what it calls. `leave` follows in any case."""
        self._waiters[waiter] = (api, len(self._waiters))
        if self._timer is None:
            self._timer = self._loop.call_later(SWEEP, self._sweep)

    def leave(self, waiter: QueuedCall) -> None:
        self._waiters.pop(waiter, None)

    def _sweep(self) -> None:
        """One timer for all: most wait for less than a millisecond, and one for each costs as much as a call."""
        now = time.monotonic()
        for waiter, (api, _) in list(self._waiters.items()):
            deadline = waiter.context.deadline
            if deadline is not None and waiter.waits:
                allowed = deadline - waiter.since
                if deadline - now <= max(_early(allowed), SWEEP):
                    hop = f"{self._name}.{api}" if api else self._name
                    waiter.give_up(DeadlineExceeded(f"{hop}: {self.waited(waiter)}: {self._ways_out}"))
        self._timer = self._loop.call_later(SWEEP, self._sweep) if self._waiters else None

    def dismiss(self) -> None:
        """All of them wait in vain: the replica goes."""
        for waiter, api in list(self._waiters.items()):
            if waiter.waits:
                hop = f"{self._name}.{api}" if api else self._name
                waiter.give_up(NotBegun(f"{hop}: its replica has to go, and had not begun with this call: try again"))

    @property
    def waiting(self) -> list[QueuedCall]:
        """Those who wait now, the first first."""
        return [w for w in self._waiters if w.waits]

    def waited(self, waiter: QueuedCall) -> str:
        """How long, for what and behind what, in words."""
        waited, limit = time.monotonic() - waiter.since, ""
        if waiter.context.deadline is not None:
            allowed = waiter.context.deadline - waiter.since
            limit = f" of {seconds(allowed)}"
            waited = allowed if allowed - waited <= max(_early(allowed), SWEEP) else waited  # no more comes of the rest
        _, before = self._waiters.get(waiter, ("", 0))  # also those that have had their turn: it has waited for them
        behind = self.behind(before)
        return f"waited {seconds(waited)}{limit} in the queue for {self._place}{behind}"

    def behind(self, before: int = 0) -> str:
        """What has the places, and how many came before; "" where that is nothing."""
        named = [h.words for h in self._holders()]
        hidden = len(named) - NAMED
        parts = [*named[:NAMED], *([f"{hidden} more that run"] if hidden > 0 else [])]
        if before:
            parts.append(f"{before} that came before it")
        return f", behind {listed(parts)}" if parts else ""


def _early(allowed: float) -> float:
    return min(allowed * EARLY_PART, EARLY_MOST)


# From `time.monotonic()` to Unix time: one number, so that what it is added to stays the same.
_EPOCH = time.time() - time.monotonic()


def unix_time(moment: float) -> float:
    """That of a moment on `time.monotonic()`'s clock."""
    return moment + _EPOCH


def seconds(count: float) -> str:
    """E.g. "0.05 s", "4.2 s", "40 s", "12 min"."""
    if count < 0.95:
        return f"{max(count, 0.0):.1g} s"
    if count < 9.95:
        return f"{count:.1f} s"
    return f"{count:.0f} s" if count < 600 else f"{count / 60:.0f} min"


def listed(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


class Work(NamedTuple):
    """What the calls of a replica wait for. Times are in Unix time; None where there is nothing.

    `waiting`: calls that wait for a place, the first of them since `waiting_since`. `held`: what holds the worker
    threads: calls whose caller has gone, and all others where somebody waits. `held_since`: since when all threads have
    been held by those whose caller has gone. `paused`: streams that wait for their consumers.
    """

    waiting: int = 0
    waiting_since: float | None = None
    held: tuple[Holder, ...] = ()
    held_since: float | None = None
    paused: int = 0


NO_WORK = Work()


WAYS_OUT = "--max-concurrency, --replicas, --timeout"


class Admitted(Protocol):
    """A call that wants in."""

    api: str
    context: CallContext

    @property
    def holder(self) -> Holder:
        """As those who wait for its place see it."""
        ...


class Turn:
    """A call that waits for its turn; see `queueing.Waiter`."""

    __slots__ = ("context", "place", "since")

    def __init__(self, call: Admitted) -> None:
        self.context = call.context
        self.since = time.monotonic()
        self.place: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def waits(self) -> bool:
        return not self.place.done()

    def give_up(self, error: Exception) -> None:
        self.place.set_exception(error)


class Admission:
    """First come, first served. `limit` None: no limit; `queue_limit` None: as many as like may wait."""

    def __init__(self, service: str, limit: int | None, queue_limit: int | None) -> None:
        self._service = service
        self._limit = limit
        self._queue_limit = queue_limit
        self._running = 0
        self._inside: set[Admitted] = set()  # where there is a limit
        self._waiting: deque[Turn] = deque()
        place = f"{limit} {'place' if limit == 1 else 'places'} (max_concurrency={limit})"
        self.queue = Queue(service, place, WAYS_OUT, self._holders)

    async def enter(self, call: Admitted) -> None:
        """Wait for a place; pair it with `leave`. Raises `Overloaded` when too many wait already, and
        `DeadlineExceeded` when there was none in time.
        """
        if self._limit is None:
            self._running += 1
            return
        if self._running < self._limit:
            self._running += 1
        else:
            await self._wait(call)
        self._inside.add(call)

    async def _wait(self, call: Admitted) -> None:
        if self._queue_limit is not None and len(self._waiting) >= self._queue_limit:
            raise Overloaded(
                f"{self._service} is busy: {self._running} calls run (max_concurrency={self._limit}) and "
                f"{len(self._waiting)} wait (max_queue={self._queue_limit}){self.queue.behind()}; try again later, or "
                f"scale it (--max-concurrency, --replicas)"
            )
        turn = Turn(call)
        self.queue.enter(turn, call.api)
        self._waiting.append(turn)
        try:
            await turn.place  # `leave` hands its place over, so it is counted already
        except BaseException:
            if turn.place.done() and not turn.place.cancelled() and turn.place.exception() is None:
                self._pass_on()
            elif turn in self._waiting:  # `_pass_on` may have passed it over already
                self._waiting.remove(turn)
            raise
        finally:
            self.queue.leave(turn)

    def leave(self, call: Admitted) -> None:
        self._inside.discard(call)
        if self._waiting:
            self._pass_on()
        else:
            self._running -= 1

    def _pass_on(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if turn.waits:
                turn.place.set_result(None)
                return
        self._running -= 1

    def _holders(self) -> list[Holder]:
        return sorted((call.holder for call in self._inside), key=lambda h: h.since)
