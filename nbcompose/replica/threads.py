"""The worker threads of a replica: where apis that are not `async` run, and sync generators yield.

A thread cannot be stopped from outside: a call that is cancelled leaves its thread busy until it ends by itself, and
`busy` counts it. `__init__` runs here too, so that it may call dependencies.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

from nbcompose.tracing import CallContext, current_call

WINDOW = 32  # items that a sync generator may be ahead of its consumer

_END = object()


class WorkerThreads:
    """`count` threads that run sync code for one event loop."""

    def __init__(self, count: int, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"nbcompose-api-{i}", daemon=True) for i in range(count)
        ]
        self.busy = 0

    def start(self) -> None:
        for thread in self._threads:
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

    async def iterate(
        self,
        function: Callable[..., Iterator[Any]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: CallContext,
    ) -> AsyncGenerator[Any, None]:
        """The items of a sync generator, which owns a worker thread until it ends.

        Closing this asks the generator to stop: it does so at its next item, in its own thread, since closing it from
        another raises "generator already executing".
        """
        items: asyncio.Queue[Any] = asyncio.Queue()
        room = threading.Semaphore(WINDOW)
        gone = threading.Event()
        context.on_cancel(gone.set)

        def pump() -> None:
            current_call.set(context)
            generator = function(*args, **kwargs)
            try:
                for item in generator:
                    if gone.is_set():
                        return
                    room.acquire()
                    if gone.is_set():
                        return
                    self._loop.call_soon_threadsafe(items.put_nowait, item)
            finally:
                close = getattr(generator, "close", None)
                if close is not None:
                    close()
                self._loop.call_soon_threadsafe(items.put_nowait, _END)

        done = self.run(pump).future
        try:
            while (item := await items.get()) is not _END:
                room.release()
                yield item
            await done  # raises what the generator raised
        finally:
            gone.set()
            context.cancelled = context.cancelled or not done.done()  # `cancelled()` in the generator's own code
            context.forget(gone.set)
            room.release()
            if not done.done():
                done.cancel()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if job.future.cancelled():
                continue
            self.busy += 1
            job.started = time.perf_counter()
            result, failure = None, None
            try:
                result = job.context.run(job.function, *job.args, **job.kwargs)
            except BaseException as error:  # SystemExit too: user code must not end the thread
                failure = error
            self.busy -= 1
            self._loop.call_soon_threadsafe(job.settle, result, failure)
            del job, result, failure  # arrays of the last call must not live until the next


class Job:
    """Sync work for a thread. `started` is `time.perf_counter()` when a thread took it, 0.0 before."""

    __slots__ = ("args", "context", "function", "future", "kwargs", "started")

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

    def settle(self, result: Any, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        elif isinstance(error, StopIteration):  # a future refuses it
            self.future.set_exception(RuntimeError(f"the api raised {error!r}"))
        elif isinstance(error, Exception):
            self.future.set_exception(error)
        else:
            wrapped = RuntimeError(f"the api raised {type(error).__name__}: {error}")
            wrapped.__cause__ = error
            self.future.set_exception(wrapped)
