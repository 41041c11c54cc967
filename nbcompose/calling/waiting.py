"""A thread that waits for one result, without what a future of the standard library costs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Generic, TypeVar, cast

from nbcompose.errors import CallCancelled

T = TypeVar("T")

GAVE_UP = "the caller gave up, or the connection was closed"


class Waiter(Generic[T]):
    """A thread that waits for one result from the loop. One lock: at a third of what a concurrent future costs.

    `give_up` ends the work that it waits for. All but `result` is for the loop.
    """

    __slots__ = ("_error", "_is_done", "_over", "_value", "give_up")

    def __init__(self) -> None:
        self.give_up: Callable[[], object] = lambda: None
        self._value: T | None = None
        self._error: BaseException | None = None
        self._is_done = False
        self._over = threading.Lock()
        self._over.acquire()

    def done(self) -> bool:
        return self._is_done

    def set_result(self, value: T) -> None:
        self._value = value
        self._settle()

    def set_exception(self, error: BaseException) -> None:
        self._error = error
        self._settle()

    def _settle(self) -> None:
        self._is_done = True
        self._over.release()

    def cancel(self) -> None:
        if not self._is_done:
            self.give_up()
            if not self._is_done:
                self.set_exception(CallCancelled(GAVE_UP))

    def follow(self, task: asyncio.Task[T]) -> None:
        """Wait for the end of `task`."""
        self.give_up = task.cancel
        task.add_done_callback(self._take)

    def _take(self, task: asyncio.Task[T]) -> None:
        if self._is_done:
            return
        try:
            self.set_result(task.result())
        except asyncio.CancelledError:
            self.set_exception(CallCancelled(GAVE_UP))
        except BaseException as error:
            self.set_exception(error)

    def result(self) -> T:
        """In the thread: what it has waited for, returned or raised."""
        __tracebackhide__ = True
        self._over.acquire()
        if self._error is not None:
            raise self._error
        return cast(T, self._value)
