"""From a thread into an event loop: how sync code waits for async code, interruptibly.

Everything is written async once; sync calls are this façade over the process's one loop.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
import time
from collections.abc import AsyncGenerator, Coroutine, Iterator
from typing import Any, TypeVar

import uvloop

from nbcompose.errors import CallCancelled

T = TypeVar("T")

SLICE = 0.05  # seconds; a signal that another thread takes is seen by the main thread after at most this


class Portal:
    """Runs coroutines on a loop that belongs to another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        self.loop = loop
        self._thread = thread

    @property
    def inside(self) -> bool:
        """Whether the calling thread is the loop's own, where waiting would stop everything."""
        return threading.get_ident() == self._thread

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Wait for `coroutine` from another thread. An interrupt (■, Ctrl-C) cancels it at once.

        Raises `TimeoutError` after `timeout` seconds, and then cancels it too.
        """
        __tracebackhide__ = True
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            if threading.current_thread() is threading.main_thread() or timeout is not None:
                _wait(future, timeout)
            return future.result()
        except concurrent.futures.CancelledError:
            raise CallCancelled("the caller gave up, or the connection was closed") from None
        except BaseException:
            future.cancel()
            raise

    def iterate(self, items: AsyncGenerator[T, None]) -> Iterator[T]:
        """The items of an async generator; leaving the iteration early closes it, which cancels what feeds it."""
        try:
            while True:
                try:
                    item = self.run(_step(items))
                except _Over:
                    return
                yield item
        finally:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and everything with it
                asyncio.run_coroutine_threadsafe(items.aclose(), self.loop)

    async def join(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """`coroutine`, awaited from whatever event loop; a caller that is cancelled cancels it."""
        if self.inside:
            return await coroutine
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise CallCancelled("the caller gave up, or the connection was closed") from None

    async def join_items(self, items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """The items of an async generator that belongs to this loop, for whatever event loop."""
        try:
            while True:
                try:
                    item = await self.join(_step(items))
                except _Over:
                    return
                yield item
        finally:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and everything with it
                asyncio.run_coroutine_threadsafe(items.aclose(), self.loop)


def _wait(future: concurrent.futures.Future[Any], timeout: float | None) -> None:
    """Wait in slices: only the main thread gets KeyboardInterrupt, and only while it runs Python code."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while not concurrent.futures.wait([future], timeout=SLICE).done:
        if deadline is not None and time.monotonic() >= deadline:
            raise TimeoutError(f"not done after {timeout:g} s")


class _Over(Exception):
    """StopAsyncIteration may not leave a coroutine."""


async def _step(items: AsyncGenerator[T, None]) -> T:
    try:
        return await anext(items)
    except StopAsyncIteration:
        raise _Over from None


class LoopThread(Portal):
    """An event loop in a daemon thread of its own. `start` and `stop` are called from outside it."""

    def __init__(self, name: str) -> None:
        super().__init__(uvloop.new_event_loop(), 0)
        self._worker = threading.Thread(target=self._main, name=name, daemon=True)

    def start(self) -> None:
        self._worker.start()

    def stop(self) -> None:
        """End the loop and wait for its thread."""
        if self._worker.is_alive() and not self.inside:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._worker.join(5)

    def _main(self) -> None:
        self._thread = threading.get_ident()
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            left = asyncio.all_tasks(self.loop)
            for task in left:
                task.cancel()
            self.loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()


_background: LoopThread | None = None
_lock = threading.Lock()


def background() -> LoopThread:
    """The process's one background loop, started at its first use."""
    global _background
    with _lock:
        if _background is None:
            _background = LoopThread("nbcompose")
            _background.start()
        return _background
