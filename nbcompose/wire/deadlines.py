"""Ends what is late, with one timer for a whole connection: one for each call costs as much as sending it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class Deadlines:
    """Work that must not last beyond its deadline, by id. Deadlines are on `time.monotonic()`'s clock, in seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._open: dict[int, tuple[float, Callable[[], object]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._at = 0.0  # when the timer looks: never later than the first of the deadlines

    def add(self, key: int, deadline: float, expire: Callable[[], object]) -> None:
        """Call `expire` at `deadline`, unless `key` was removed before."""
        self._open[key] = deadline, expire
        if self._timer is None or deadline < self._at:
            self._look_at(deadline)

    def remove(self, key: int) -> None:
        # The timer stays: in most graphs the next call has a later deadline, and needs none of its own.
        self._open.pop(key, None)

    def close(self) -> None:
        self._open.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_at(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._at = deadline
        self._timer = self._loop.call_at(self._loop.time() + deadline - time.monotonic(), self._look)

    def _look(self) -> None:
        self._timer = None
        now = max(time.monotonic(), self._at)  # the loop's clock may be a little ahead
        late = [(key, expire) for key, (deadline, expire) in self._open.items() if deadline <= now]
        for key, expire in late:
            if self._open.pop(key, None) is not None:
                expire()
        if self._open:
            self._look_at(min(deadline for deadline, _ in self._open.values()))
