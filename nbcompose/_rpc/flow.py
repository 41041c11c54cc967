"""Flow control of a stream: how far its sender may be ahead of its consumer (`SendWindow`), and what has been received
and not yet taken (`ReceivedItems`).

The consumer acknowledges items that it has taken (CREDIT, with their number). Both ends use the same limits, so an
acknowledgement says nothing of sizes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from nbcompose._rpc.blocking import Over

WINDOW = 32  # items that the sender may be ahead
WINDOW_BYTES = 4 * 1024 * 1024  # of those items; one item may be larger


class SendWindow:
    """What a sender has sent and the consumer has not acknowledged. Used on one event loop."""

    __slots__ = ("_bytes", "_sizes", "_waiter", "closed")

    def __init__(self) -> None:
        self._sizes: deque[int] = deque()
        self._bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self.closed = False  # the consumer has left

    @property
    def has_room(self) -> bool:
        waiting = len(self._sizes)
        return waiting < WINDOW and (self._bytes < WINDOW_BYTES or not waiting)

    async def room(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait until an item may be sent, or the window is closed."""
        while not self.closed and not self.has_room:
            self._waiter = loop.create_future()
            await self._waiter

    def sent(self, size: int) -> None:
        self._sizes.append(size)
        self._bytes += size

    def acknowledged(self, count: int) -> None:
        for _ in range(min(count, len(self._sizes))):
            self._bytes -= self._sizes.popleft()
        self._wake()

    def close(self) -> None:
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class ReceivedItems:
    """Received items of a stream that the consumer has not taken, and its outcome: the end, or an error.

    `over`: it has ended or failed; no more items are added. `acknowledge` tells the sender how many items were taken.
    It takes the outcome of a call as a future does (`Settled` of `_rpc/client_calls.py`).
    """

    __slots__ = ("_acknowledge", "_bytes", "_items", "_taken", "_waiter", "error", "over")

    def __init__(self, acknowledge: Callable[[int], object]) -> None:
        self._acknowledge = acknowledge
        self._items: deque[tuple[Any, int]] = deque()
        self._taken = 0  # items, and their bytes, that have not been acknowledged
        self._bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self.error: BaseException | None = None
        self.over = False

    def add(self, item: Any, size: int) -> None:
        self._items.append((item, size))
        self._wake()

    def done(self) -> bool:
        return self.over

    def set_result(self, _: None = None) -> None:
        self.over = True
        self._wake()

    def set_exception(self, error: BaseException) -> None:
        self.error = error
        self.set_result()

    def drop(self) -> None:
        """Forget the items: nobody takes them any more."""
        self._items.clear()

    async def next(self, loop: asyncio.AbstractEventLoop) -> Any:
        """Return the next item; wait for it. Raises `Over` at the end, or the error, after the items before it."""
        while not self._items:
            if self.over:
                if self.error is not None:
                    raise self.error
                raise Over
            self._waiter = loop.create_future()
            await self._waiter
        item, size = self._items.popleft()
        self._taken += 1
        self._bytes += size
        if (self._taken >= WINDOW // 2 or self._bytes >= WINDOW_BYTES // 2) and not self.over:
            self._acknowledge(self._taken)
            self._taken = self._bytes = 0
        return item

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
