"""A stream among the arguments of a call in this process (`Refiner().refine(words())`), with the rules that it has in a
replica: read once, its items validated, ended with the call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from nbcompose._rpc import ItemStream, Over, Portal, in_thread, step
from nbcompose.errors import CallCancelled


class LocalStream(ItemStream):
    """A stream whose items are made in this process, by an iterator, sync or async: of the caller."""

    def __init__(
        self, name: str, check: Callable[[int, Any], Any] | None, items: Any, portal: Portal, *, is_async: bool = True
    ) -> None:
        super().__init__(name, check)
        self._is_for_async = is_async
        self._items = items
        self._portal = portal
        self._is_async = hasattr(type(items), "__aiter__")
        self._iterator: Any = None
        self._lock = asyncio.Lock()  # several tasks may read it, and share its items
        self._reading: asyncio.Task[Any] | None = None  # an item that is being made

    async def _await(self) -> Any:
        async with self._lock:
            # By a task of its own: cancelling who waits must neither end the iterator nor lose its item.
            if self._reading is None:
                self._reading = asyncio.ensure_future(self._outcome())
            await asyncio.wait([self._reading])
            reading, self._reading = self._reading, None
        error, item = reading.result()
        if error is not None:
            raise error
        return item

    async def _outcome(self) -> tuple[BaseException | None, Any]:
        """Return what the next step raises, or the item: a task would end the loop with some errors."""
        try:
            return None, await self._next()
        except asyncio.CancelledError:
            return CallCancelled(f"what makes the items of the stream `{self._name}` was cancelled"), None
        except BaseException as error:
            return error, None

    async def _next(self) -> Any:
        if self._iterator is None:
            self._iterator = aiter(self._items) if self._is_async else iter(self._items)
        if self._is_async:
            return await step(self._iterator)
        item = await in_thread(next, self._iterator, _END)
        if item is _END:
            raise Over
        return item

    def _wait(self) -> Any:
        if self._is_for_async:
            raise self.blocking()
        if self._iterator is None:
            # An async iterator that sync code reads runs on the process's background loop.
            self._iterator = self._portal.iterate(aiter(self._items)) if self._is_async else iter(self._items)
        item = next(self._iterator, _END)
        if item is _END:
            raise Over
        return item

    async def _leave(self) -> None:
        if self._reading is not None and not self._reading.done():
            if not self._is_async:
                return  # its code runs in a thread, and ends with this step
            self._reading.cancel()
            await asyncio.wait([self._reading])
        close = getattr(self._iterator, "aclose", None)
        await (close() if close is not None else in_thread(self._leave_sync))

    def _leave_sync(self) -> None:
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()


_END = object()
