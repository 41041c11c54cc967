"""Where the items of a stream come from that is an argument: iterators of this process, each run where it belongs.

An async iterator runs on the loop on which it was passed, as one task. A sync one is stepped by the thread that makes
the call, while that waits for the answer (`Inbox`): what it set for its thread holds (a database connection,
`torch.inference_mode()`), and ■ reaches it. Passed by async code, it has a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, Self

from nbcompose._rpc.blocking import Over, Portal, kept, serving
from nbcompose._rpc.stream_arguments import Outlet, Source
from nbcompose._schema import Unawaited, is_stream
from nbcompose._spec import ApiSpec
from nbcompose._user_exceptions import contained
from nbcompose.errors import CallCancelled


class AsyncSource:
    """An async iterator that runs on the loop of the sender."""

    def __init__(self, items: AsyncIterator[Any]) -> None:
        self._items = items

    async def next(self) -> Any:
        try:
            return await anext(self._items)
        except StopAsyncIteration:
            raise Over from None

    async def close(self) -> None:
        close = getattr(self._items, "aclose", None)
        if close is not None:
            with contextlib.suppress(RuntimeError):  # it is running: its step has been cancelled, which closes it
                await close()


class ElsewhereSource:
    """An async iterator that runs on another loop, as one task there."""

    def __init__(self, items: AsyncIterator[Any], home: asyncio.AbstractEventLoop) -> None:
        self._source = AsyncSource(items)
        self._home = home
        self._context = contextvars.copy_context()
        self._wanted: asyncio.Queue[asyncio.Future[Any] | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def next(self) -> Any:
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Any] = loop.create_future()
        self._home.call_soon_threadsafe(self._want, result)
        return await result

    async def close(self) -> None:
        with contextlib.suppress(RuntimeError):  # its loop has ended
            self._home.call_soon_threadsafe(self._end)

    # -- on the iterator's own loop

    def _want(self, result: asyncio.Future[Any]) -> None:
        if self._task is None:
            self._task = kept(self._home.create_task(self._run(), context=self._context))
        self._wanted.put_nowait(result)

    def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()
        elif not self._closed:
            self._task = kept(self._home.create_task(self._source.close(), context=self._context))
        self._closed = True

    async def _run(self) -> None:
        try:
            while (result := await self._wanted.get()) is not None:
                try:
                    item, error = await self._source.next(), None
                except BaseException as failure:
                    item, error = None, failure
                result.get_loop().call_soon_threadsafe(settle, result, item, error)
                if error is not None:
                    return
        finally:
            await self._source.close()


def settle(result: asyncio.Future[Any], item: Any, error: BaseException | None) -> None:
    """Give a future its outcome, on its own loop, unless nobody waits for it any more."""
    if result.done():
        return
    if error is None:
        result.set_result(item)
    else:
        result.set_exception(contained(error))


class Steps:
    """A sync iterator, and one step of it at a time for somebody on a loop."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items
        self._context = contextvars.copy_context()
        self._is_closed = False

    def step(self, result: asyncio.Future[Any]) -> None:
        """Take the next item in this thread, for `result`. Raises what must not be held back: ■."""
        if result.done():
            return
        item: Any = None
        error: BaseException | None = None
        try:
            if self._is_closed:
                raise CallCancelled("the stream was closed before its next item was made")
            item = self._context.run(next, self._items, _END)
            error = Over() if item is _END else None
        except BaseException as failure:
            error = failure
        with contextlib.suppress(RuntimeError):  # the loop has ended
            result.get_loop().call_soon_threadsafe(settle, result, item, error)
        if isinstance(error, KeyboardInterrupt):
            raise error

    def close(self) -> None:
        """End the iterator in this thread: the code of a generator stops where it is."""
        if self._is_closed:
            return
        self._is_closed = True
        close = getattr(self._items, "close", None)
        if close is not None:
            self._context.run(close)


_END = object()


class Inbox:
    """What a thread that waits for the answer of a call does meanwhile: it steps the streams that it has passed."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._streams: list[Steps] = []

    def source(self, items: Iterator[Any]) -> Source:
        steps = Steps(items)
        self._streams.append(steps)
        return _InboxSource(steps, self._jobs)

    def wake(self) -> None:
        """Say that what the thread waits for may have come. From any thread."""
        self._jobs.put(None)

    def wait(self, seconds: float | None) -> None:
        """Do what there is to do, for at most so long; return early when woken."""
        with contextlib.suppress(queue.Empty):
            job = self._jobs.get(timeout=seconds)
            if job is not None:
                with self._outside():
                    job()

    def close(self) -> None:
        """End all the streams, in this thread."""
        for stream in self._streams:
            with self._outside():
                stream.close()

    @contextlib.contextmanager
    def _outside(self) -> Iterator[None]:
        """What the streams' own code waits for is not done here."""
        before, serving.inbox = getattr(serving, "inbox", None), None
        try:
            yield
        finally:
            serving.inbox = before

    def __enter__(self) -> Self:
        """From here on this thread's blocking calls do its jobs."""
        self._before = getattr(serving, "inbox", None)
        serving.inbox = self
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        serving.inbox = self._before


class _InboxSource:
    def __init__(self, steps: Steps, jobs: queue.SimpleQueue[Callable[[], object] | None]) -> None:
        self._steps = steps
        self._jobs = jobs

    async def next(self) -> Any:
        result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._jobs.put(lambda: self._steps.step(result))
        return await result

    async def close(self) -> None:
        """The thread closes it, when its call has ended."""
        self._jobs.put(self._steps.close)


class ThreadSource:
    """A sync iterator that has a thread of its own, from its first item to its end."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._steps = Steps(items)
        self._jobs: queue.SimpleQueue[asyncio.Future[Any] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def next(self) -> Any:
        if self._thread is None:
            self._thread = threading.Thread(target=self._main, name="nbcompose-stream", daemon=True)
            self._thread.start()
        result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._jobs.put(result)
        return await result

    async def close(self) -> None:
        if self._thread is not None:
            self._jobs.put(None)
        else:
            await asyncio.to_thread(self._steps.close)

    def _main(self) -> None:
        try:
            while (result := self._jobs.get()) is not None:
                with contextlib.suppress(KeyboardInterrupt):
                    self._steps.step(result)
        finally:
            with contextlib.suppress(Exception):  # the generator's own code: the call has ended
                self._steps.close()


def outgoing(api: ApiSpec, arguments: dict[str, Any], portal: Portal) -> dict[str, Any]:
    """Return the arguments of a call, by name, with its streams as they travel to another process."""
    if not api.stream_params:
        return arguments
    streams = {name: arguments[name] for name in api.stream_params if is_stream(arguments.get(name))}
    return {**arguments, **{name: Outlet(source_of(value, portal, None)) for name, value in streams.items()}}


def is_only_async(stream: Any) -> bool:
    """Whether a stream that looks as if `for` could read it cannot be: see `nbcompose.streams`."""
    return isinstance(stream, Unawaited) or bool(getattr(stream, "is_only_async", False))


def source_of(value: Any, portal: Portal, inbox: Inbox | None) -> Source:
    """Return the source of a live value, or of one that can be iterated over, for a sender on the portal's loop.

    `inbox`: of the thread that makes the call, if it blocks. Raises `TypeError` for a value of another kind.
    """
    kind = type(value)
    if hasattr(kind, "__aiter__") and (inbox is None or not hasattr(kind, "__iter__") or is_only_async(value)):
        items = aiter(value)
        try:
            home = asyncio.get_running_loop()
        except RuntimeError:
            home = portal.loop
        # A thread that waits for the answer keeps its own loop from running.
        return AsyncSource(items) if home is portal.loop or inbox is not None else ElsewhereSource(items, home)
    return inbox.source(iter(value)) if inbox is not None else ThreadSource(iter(value))
