"""Calls that wait for a place in a replica: how many, since when, behind what, and what they are told when time is up.

Used on the replica's loop. What a place is, and who gets it next, is the business of whoever has the queue:
admission.py, threads.py, a batcher.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from nbcompose.errors import DeadlineExceeded, NotBegun
from nbcompose.tracing import CallContext

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


class Waiter(Protocol):
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
        self._waiters: dict[Waiter, tuple[str, int]] = {}  # what they call, and how many were there when they came
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, waiter: Waiter, api: str = "") -> None:
        """Put it at the end; `api` is what it calls. `leave` follows in any case."""
        self._waiters[waiter] = (api, len(self._waiters))
        if self._timer is None:
            self._timer = self._loop.call_later(SWEEP, self._sweep)

    def leave(self, waiter: Waiter) -> None:
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
    def waiting(self) -> list[Waiter]:
        """Those who wait now, the first first."""
        return [w for w in self._waiters if w.waits]

    def waited(self, waiter: Waiter) -> str:
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
