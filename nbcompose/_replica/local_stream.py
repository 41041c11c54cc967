"""A stream among the arguments of a call in this process (`Refiner().refine(words())`), with the rules that it has in a
replica: read once, its items validated, ended with the call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbcompose._rpc import ItemStream, Over, Portal, in_thread, step


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

    async def _await(self) -> Any:
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
        close = getattr(self._iterator, "aclose", None)
        await (close() if close is not None else in_thread(self._leave_sync))

    def _leave_sync(self) -> None:
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()


_END = object()
