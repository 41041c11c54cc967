"""Synchronous generators in worker threads, as async iterators on the replica's loop.

A generator that is `WINDOW` items ahead of its consumer pauses: it releases its slot, stays in its thread, and resumes
there when half of the items have been consumed and a slot is free. Closing a paused generator needs a slot too, because
its code runs then. (It cannot be closed from another thread: "generator already executing".)
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

from nbcompose._replica.workers import Job, Worker, WorkerThreads
from nbcompose._spec import ApiSpec
from nbcompose._tracing import CallContext, current_call
from nbcompose.errors import Overloaded

WINDOW = 32  # items that a sync generator may be ahead of its consumer
MOST_PAUSED = 256  # paused streams at most: each that is not read costs a thread

_END = object()


class ThreadItems:
    """Async iterator over the items of a synchronous generator; must be closed.

    `job` is done when the generator has ended. Closing asks the generator to stop: at its next item, or where it is
    paused.
    """

    def __init__(
        self,
        threads: WorkerThreads,
        api: ApiSpec,
        function: Callable[..., Iterator[Any]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: CallContext,
    ) -> None:
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[Any] = asyncio.Queue()
        self._sent = 0  # items; set by the thread
        self._consumed = 0  # items; set on the loop
        self._gone = False
        self._lock = threading.Lock()  # guards `_paused`
        self._paused: Worker | None = None
        self._name = api.name
        self._context = context
        context.on_cancel(self._leave)
        self.job: Job = threads.call(api, context, self._pump, function, args, kwargs)
        # Called even if no thread ever takes the job. Items yielded before are already in the queue.
        self.job.future.add_done_callback(lambda _: self._items.put_nowait(_END))

    def __aiter__(self) -> ThreadItems:
        return self

    async def __anext__(self) -> Any:
        item = await self._items.get()
        if item is _END:
            await self.job.future  # raises what the generator raised
            raise StopAsyncIteration
        self._consumed += 1
        if self._paused is not None and self._sent - self._consumed <= WINDOW // 2:
            self._wake()
        return item

    async def aclose(self) -> None:
        self._context.forget(self._leave)
        if not self.job.future.done():
            self._context.cancelled = True  # for `cancelled()` in the generator's own code
        self._leave()

    def _leave(self) -> None:
        self._gone = True
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            worker, self._paused = self._paused, None
        if worker is not None:
            self._threads.resume(worker)

    # -- in the thread

    def _pump(self, function: Callable[..., Iterator[Any]], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        current_call.set(self._context)
        self._check_room()
        generator = function(*args, **kwargs)
        try:
            self._forward(generator)
        finally:
            close = getattr(generator, "close", None)  # a decorator may have replaced it by another iterator
            if close is not None:
                close()

    def _check_room(self) -> None:
        paused = self._threads.paused
        if paused >= MOST_PAUSED:
            raise Overloaded(
                f"{self._name}: {paused} streams of this replica wait for their consumers, each in a thread of its "
                "own, and no more are begun: read them to the end, or close them"
            )

    def _forward(self, generator: Iterator[Any]) -> None:
        for item in generator:
            if self._sent - self._consumed >= WINDOW and not self._gone:
                self._pause()
            if self._gone:
                return
            self._sent += 1
            self._loop.call_soon_threadsafe(self._items.put_nowait, item)

    def _pause(self) -> None:
        """Wait until there is room and a slot, or the consumer is gone."""
        worker = self._threads.pause()
        with self._lock:
            waits = not self._gone and self._sent - self._consumed >= WINDOW
            self._paused = worker if waits else None
        if not waits:
            self._threads.resume(worker)
        worker.sleep()
        worker.go_on()
