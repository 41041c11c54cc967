"""Who may run now: `max_concurrency` calls at once, `max_queue` more wait their turn, the rest are turned away.

One asyncio loop; knows nothing of apis. A stream has its place from before its first item until it has ended, also
while it waits for its consumer: the limit is for what calls hold (memory, above all), and a paused one holds it still.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Protocol

from nbcompose.errors import Overloaded
from nbcompose.replica.queueing import Holder, Queue
from nbcompose.tracing import CallContext

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

    @property
    def free(self) -> bool:
        return self._limit is None or self._running < self._limit

    async def enter(self, call: Admitted) -> None:
        """Wait for a place; pair it with `leave`. Raises `Overloaded` when too many wait already, and
        `DeadlineExceeded` when there was none in time.
        """
        if not self.free:
            await self._wait(call)
        else:
            self._running += 1
        if self._limit is not None:
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
        self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if turn.waits:
                turn.place.set_result(None)
                return
        self._running -= 1

    def _holders(self) -> list[Holder]:
        return sorted((call.holder for call in self._inside), key=lambda h: h.since)
