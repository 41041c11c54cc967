"""Who may run now: `max_concurrency` calls at once, `max_queue` more wait their turn, the rest are turned away.

One asyncio loop; knows nothing of apis.
"""

from __future__ import annotations

import asyncio
from collections import deque

from nbcompose.errors import Overloaded


class Admission:
    """First come, first served. `limit` None: no limit; `queue_limit` None: as many as like may wait."""

    def __init__(self, service: str, limit: int | None, queue_limit: int | None) -> None:
        self._service = service
        self._limit = limit
        self._queue_limit = queue_limit
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def free(self) -> bool:
        return self._limit is None or self._running < self._limit

    async def enter(self) -> None:
        """Wait for a place; pair it with `leave`. Raises `Overloaded` when too many wait already."""
        if self.free:
            self._running += 1
            return
        if self._queue_limit is not None and len(self._waiting) >= self._queue_limit:
            raise Overloaded(
                f"{self._service} is busy: {self._running} calls run (max_concurrency={self._limit}) and "
                f"{len(self._waiting)} wait (max_queue={self._queue_limit}); try again later, or scale it"
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn  # `leave` hands its place over, so it is counted already
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()
            elif turn in self._waiting:  # `leave` may have passed it over already
                self._waiting.remove(turn)
            raise

    def leave(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._running -= 1
