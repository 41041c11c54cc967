"""The worker threads of a replica: where apis that are not `async` run, and sync generators yield.

A thread cannot be stopped from outside: a call that is cancelled leaves its thread busy until it ends by itself, and
`busy` counts it. `__init__` runs here too, so that it may call dependencies.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from nbcompose.raised import contained
from nbcompose.tracing import CallContext, current_call

WINDOW = 32  # items that a sync generator may be ahead of its consumer

_END = object()


class WorkerThreads:
    """`count` threads that run sync code for one event loop. Each calls `prepare` first."""

    def __init__(
        self, count: int, loop: asyncio.AbstractEventLoop, prepare: Callable[[], object] = lambda: None
    ) -> None:
        self._loop = loop
        self._prepare = prepare
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._busy = [False] * count
        self._threads = [
            threading.Thread(target=self._work, args=(i,), name=f"nbcompose-api-{i}", daemon=True) for i in range(count)
        ]

    @property
    def busy(self) -> int:
        """Threads at work, also those whose caller has gone."""
        return sum(self._busy)

    def start(self, most: int | None = None) -> None:
        """Start those that do not run yet, at most so many of them."""
        waiting = [thread for thread in self._threads if thread.ident is None]
        for thread in waiting[:most]:
            thread.start()

    def stop(self) -> None:
        """Let the threads end once they are idle; does not wait."""
        for _ in self._threads:
            self._jobs.put(None)

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Job:
        """Run `function` in a worker thread, in the caller's context (contextvars); await the job's `future`."""
        job = Job(self._loop.create_future(), contextvars.copy_context(), function, args, kwargs)
        self._jobs.put(job)
        return job

    def _work(self, number: int) -> None:
        self._prepare()
        while (job := self._jobs.get()) is not None:
            if not job.claim():
                continue
            self._busy[number] = True
            job.started = time.perf_counter()
            result, failure = None, None
            try:
                result = job.context.run(job.function, *job.args, **job.kwargs)
            except BaseException as error:  # SystemExit too: user code must not end the thread
                failure = error
            self._busy[number] = False
            with contextlib.suppress(RuntimeError):  # the loop has been closed: the process ends
                self._loop.call_soon_threadsafe(job.settle, result, failure)
            del job, result, failure  # arrays of the last call must not live until the next


class Job:
    """Sync work for a thread. `started` is `time.perf_counter()` when a thread took it, 0.0 before."""

    __slots__ = ("_on_end", "_ticket", "args", "context", "function", "future", "kwargs", "started")

    def __init__(
        self,
        future: asyncio.Future[Any],
        context: contextvars.Context,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.future = future
        self.context = context
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.started = 0.0
        self._ticket = [None]  # whoever takes it has the job: a thread, or the caller that gives up
        self._on_end: Callable[[], object] | None = None

    def claim(self) -> bool:
        """Whether the caller of this, and nobody before, has got the job. Any thread."""
        try:
            self._ticket.pop()
        except IndexError:
            return False
        return True

    def when_off(self, callback: Callable[[], object]) -> None:
        """Call `callback` on the loop once no thread is, or will be, at this job: now, where that is so already."""
        if self.future.done() and not self.future.cancelled():
            callback()
        elif self.claim():
            self.future.cancel()
            callback()
        else:
            self._on_end = callback

    def settle(self, result: Any, error: BaseException | None) -> None:
        """On the loop: a thread has done it."""
        if not self.future.done():
            self._tell(result, error)
        if self._on_end is not None:
            self._on_end()

    def _tell(self, result: Any, error: BaseException | None) -> None:
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(contained(error))


class ThreadItems:
    """The items of a sync generator, which owns a worker thread until it ends: an async iterator to be closed.

    Closing this asks the generator to stop: it does so at its next item, in its own thread, since closing it from
    another raises "generator already executing". `job` is done when it has.
    """

    def __init__(
        self,
        threads: WorkerThreads,
        function: Callable[..., Iterator[Any]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: CallContext,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[Any] = asyncio.Queue()
        self._room = threading.Semaphore(WINDOW)
        self._gone = threading.Event()
        self._context = context
        context.on_cancel(self._gone.set)
        self.job = threads.run(self._pump, function, args, kwargs)

    def __aiter__(self) -> ThreadItems:
        return self

    async def __anext__(self) -> Any:
        item = await self._items.get()
        if item is _END:
            await self.job.future  # raises what the generator raised
            raise StopAsyncIteration
        self._room.release()
        return item

    async def aclose(self) -> None:
        self._gone.set()
        self._context.forget(self._gone.set)
        if not self.job.future.done():
            self._context.cancelled = True  # for `cancelled()` in the generator's own code
            self._room.release()

    def _pump(self, function: Callable[..., Iterator[Any]], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """In the thread."""
        current_call.set(self._context)
        try:
            generator = function(*args, **kwargs)
            try:
                self._forward(generator)
            finally:
                close = getattr(generator, "close", None)  # a decorator may have made another iterator of it
                if close is not None:
                    close()
        finally:
            self._loop.call_soon_threadsafe(self._items.put_nowait, _END)

    def _forward(self, generator: Iterator[Any]) -> None:
        for item in generator:
            if not self._gone.is_set():
                self._room.acquire()
            if self._gone.is_set():
                return
            self._loop.call_soon_threadsafe(self._items.put_nowait, item)
