"""Concurrency limit of a replica, and queues of calls that wait for a place.

Used on the replica's loop. `Queue` tracks waiting calls, their deadlines and messages; its user decides who is next:
`Admission` for `max_concurrency`, `_replica/workers.py` for threads, a batcher for batches.

A stream has its place from before its first item until it has ended, even while it waits for its consumer: the limit
bounds the resources that calls hold (mainly memory), which a paused stream still holds.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from nbcompose._tracing import CallContext, clock
from nbcompose._units import human_duration
from nbcompose.errors import DeadlineExceeded, NotBegun, Overloaded

# A call fails early if it still waits when only this part of its time is left (and at most this many seconds): its
# error says what it waited for, and must arrive, even through other services, before its callers' own timers expire.
EARLY_PART, EARLY_MOST = 0.05, 0.2
SWEEP = 0.02  # seconds between checks of the waiting calls
NAMED = 3  # holders of places that a message names at most


class Holder(NamedTuple):
    """A call that has a place. `since`: Unix time. `abandoned`: its caller is gone. `paused`: a stream that waits for
    its consumer.
    """

    api: str
    since: float
    abandoned: bool = False
    paused: bool = False

    @property
    def words(self) -> str:
        """Text for messages, e.g. "loop (for 40 s, its caller has gone)"."""
        more = ", its caller has gone" if self.abandoned else ", waits for its consumer" if self.paused else ""
        return f"{self.api} (for {human_duration(time.time() - self.since, 2)}{more})"


class QueuedCall(Protocol):
    """A call in a queue. `since`: seconds on `time.monotonic()`'s clock."""

    since: float
    context: CallContext

    @property
    def waits(self) -> bool:
        """Whether it has no place yet and still wants one."""
        ...

    def give_up(self, error: Exception) -> None:
        """Stop waiting and raise `error`, unless the call has got its place meanwhile."""
        ...


class Queue:
    """Calls that wait for a place of one kind, in order of arrival.

    `name`: the service, or an api of it, to which the queue belongs. `place`: what they wait for; `ways_out`: the
    options that change that (both for messages). `holders` returns the calls that have the places.
    """

    def __init__(self, name: str, place: str, ways_out: str, holders: Callable[[], Iterable[Holder]]) -> None:
        self._name = name
        self._place = place
        self._ways_out = ways_out
        self._holders = holders
        # the api called, how many were ahead on arrival, and the seconds that the call had then
        self._waiters: dict[QueuedCall, tuple[str, int, float | None]] = {}
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, waiter: QueuedCall, api: str = "") -> None:
        """Add a call at the end; `api` is the one called. `leave` must follow in any case."""
        self._waiters[waiter] = (api, len(self._waiters), waiter.context.remaining())
        if self._timer is None:
            self._timer = self._loop.call_later(SWEEP, self._sweep)

    def leave(self, waiter: QueuedCall) -> None:
        self._waiters.pop(waiter, None)

    def _sweep(self) -> None:
        """Fail calls whose time is nearly up.

        One timer for all calls: most wait for less than a millisecond, and a timer for each costs as much as a call.
        """
        for waiter, (api, _, allowed) in [] if clock.stands() else list(self._waiters.items()):
            left = waiter.context.remaining()
            if left is not None and allowed is not None and waiter.waits and left <= max(_early(allowed), SWEEP):
                hop = f"{self._name}.{api}" if api else self._name
                waiter.give_up(DeadlineExceeded(f"{hop}: {self.waited(waiter)}: {self._ways_out}"))
        self._timer = self._loop.call_later(SWEEP, self._sweep) if self._waiters else None

    def dismiss(self) -> None:
        """Fail all waiting calls with `NotBegun`: the replica is leaving."""
        for waiter, (api, _, _) in list(self._waiters.items()):
            if waiter.waits:
                hop = f"{self._name}.{api}" if api else self._name
                error = NotBegun(f"{hop}: its replica has to go, and had not begun with this call: try again")
                error.here = True
                waiter.give_up(error)

    @property
    def waiting(self) -> list[QueuedCall]:
        """The calls that are waiting now, the oldest first."""
        return [w for w in self._waiters if w.waits]

    def waited(self, waiter: QueuedCall) -> str:
        """Return how long a call has waited, for what and behind which calls, as a text."""
        # `before` includes calls that have run since: it waited for them too
        _, before, allowed = self._waiters.get(waiter, ("", 0, None))
        waited, left, limit = time.monotonic() - waiter.since, waiter.context.remaining(), ""
        if allowed is not None and left is not None:
            limit = f" of {human_duration(allowed, 2)}"
            waited = allowed if left <= max(_early(allowed), SWEEP) else allowed - left  # the rest goes unused
        behind = self.behind(before)
        return f"waited {human_duration(waited, 2)}{limit} in the queue for {self._place}{behind}"

    def behind(self, before: int = 0) -> str:
        """Return a text on the calls that have the places and the number ahead in the queue; "" if there are none."""
        named = [h.words for h in self._holders()]
        hidden = len(named) - NAMED
        parts = [*named[:NAMED], *([f"{hidden} more that run"] if hidden > 0 else [])]
        if before:
            parts.append(f"{before} that came before it")
        return f", behind {listed(parts)}" if parts else ""


def _early(allowed: float) -> float:
    return min(allowed * EARLY_PART, EARLY_MOST)


# Offset from `time.monotonic()` to Unix time: computed once, so that converted times do not vary.
_EPOCH = time.time() - time.monotonic()


def unix_time(moment: float) -> float:
    """Convert a time on `time.monotonic()`'s clock to Unix time."""
    return moment + _EPOCH


def listed(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


class Work(NamedTuple):
    """What the calls of a replica wait for. Times are Unix times; None if not applicable.

    `waiting`: number of calls that wait for a place, the first of them since `waiting_since`. `held`: calls that hold
    worker threads: abandoned ones, and if any call waits all others too. `held_since`: since when abandoned calls have
    held all threads. `paused`: number of streams that wait for their consumers.
    """

    waiting: int = 0
    waiting_since: float | None = None
    held: tuple[Holder, ...] = ()
    held_since: float | None = None
    paused: int = 0


NO_WORK: Work = Work()


WAYS_OUT = "--max-concurrency, --replicas, --timeout"


class Admitted(Protocol):
    """A call that requests admission."""

    api: str
    context: CallContext

    @property
    def holder(self) -> Holder:
        """Describes the call to those that wait for its place."""
        ...


class Turn:
    """A call that waits for admission (a `QueuedCall`)."""

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
    """Concurrency limit, first come, first served. `queue_limit` None: an unbounded queue."""

    def __init__(self, service: str, limit: int, queue_limit: int | None) -> None:
        self._service = service
        self._limit = limit
        self._queue_limit = queue_limit
        self._running = 0
        self._inside: set[Admitted] = set()
        self._waiting: deque[Turn] = deque()
        place = f"{limit} {'place' if limit == 1 else 'places'} (max_concurrency={limit})"
        self.queue = Queue(service, place, WAYS_OUT, self._holders)

    async def enter(self, call: Admitted) -> None:
        """Wait for a place, to be released with `leave`.

        Raises `Overloaded` when too many calls wait already, `DeadlineExceeded` when no place was free in time.
        """
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
            await turn.place  # `leave` passes its place on, so this call is already counted in `_running`
        except BaseException:
            if turn.place.done() and not turn.place.cancelled() and turn.place.exception() is None:
                self._pass_on()
            elif turn in self._waiting:  # `_pass_on` may have removed it already
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
