"""Blocking calls from synchronous code to a background event loop: interruptible, cancelled together with their caller.

Everything is implemented once as async code; synchronous calls are a façade over the process's one background loop.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from typing import Any, Generic, Protocol, TypeVar, cast

import uvloop

from nbcompose._host import forget, keep_numbers_from_children
from nbcompose._tracing import CallContext
from nbcompose.errors import BlockingCall, CallCancelled, ServiceUnavailable

T = TypeVar("T")


class Over(Exception):
    """The end of an async generator; a coroutine must not raise StopAsyncIteration."""


async def step(items: AsyncGenerator[T, None]) -> T:
    """Return the next item. Raises `Over` at the end."""
    try:
        return await anext(items)
    except StopAsyncIteration:
        raise Over from None


async def with_cancel(context: CallContext, call: Coroutine[Any, Any, T]) -> T:
    """Await `call`, and cancel it when the api that makes it is cancelled.

    For synchronous apis: their thread cannot be stopped, but the call that it waits for can. Async apis are cancelled
    as tasks. Runs on the loop on which the api's context is cancelled.
    """
    task = asyncio.current_task()
    assert task is not None
    context.on_cancel(task.cancel)
    try:
        return await call
    finally:
        context.forget(task.cancel)


async def cancellable_items(context: CallContext, items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """As `with_cancel`, for an async generator."""
    async with contextlib.aclosing(items):
        while True:
            try:
                item = await with_cancel(context, step(items))
            except Over:
                return
            yield item
            del item  # it may be large, and the next one may take long to arrive


async def in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """As `asyncio.to_thread`, but keeps the error object: `to_thread` copies it from future to future, and a copied
    TimeoutError loses its frames.
    """

    def work() -> Any:
        try:
            return None, function(*args, **kwargs)
        except BaseException as error:
            return error, None

    error, result = await asyncio.to_thread(work)
    if error is not None:
        raise error
    return result


GAVE_UP = "the caller gave up, or the connection was closed"


class BlockedThread(Generic[T]):
    """One result from the loop that a thread waits for. A single lock: a third of the cost of a concurrent future.

    `give_up` cancels the work that it waits for. All methods except `result` are called on the loop.
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
        """Settle with the outcome of `task`; `cancel` then cancels the task."""
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
        """Wait in the thread, and return or raise the outcome."""
        __tracebackhide__ = True
        self._over.acquire()
        if self._error is not None:
            raise self._error
        return cast(T, self._value)


class Meanwhile(Protocol):
    """What a thread does while it waits, see `_rpc/stream_sources.py`."""

    def wait(self, seconds: float | None) -> None: ...

    def wake(self) -> None: ...


class _Serving(threading.local):
    """`inbox`: what this thread does while it waits for the loop; None: nothing."""

    inbox: Meanwhile | None = None


serving = _Serving()

_portals: weakref.WeakSet[Portal] = weakref.WeakSet()

SLICE = 0.05  # seconds; a signal received by another thread is handled by the main thread after at most this
STOPPED = "nbcompose has been stopped in this process"


class Portal:
    """Runs coroutines on an event loop of another thread. A forked child of the process cannot use it.

    `thread`: the identifier of the loop's thread; 0 where it does not run. `meanwhile` is called every `SLICE` seconds
    by the main thread while it waits here.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        self.loop = loop
        self.thread = thread
        self.meanwhile: Callable[[], object] = lambda: None
        self._process = os.getpid()
        _portals.add(self)

    @property
    def inside(self) -> bool:
        """Whether the calling thread is the loop's own, where waiting would block the loop."""
        return threading.get_ident() == self.thread

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run `coroutine` on the loop and wait for it in another thread. An interrupt (■, Ctrl-C) cancels it at once.

        Raises `TimeoutError` after `timeout` seconds, which cancels it too; `CallCancelled` when it was cancelled
        elsewhere; `BlockingCall` on the loop's own thread; `ServiceUnavailable` when the loop has ended or belongs to
        the process from which this one was forked.
        """
        __tracebackhide__ = True
        if self.inside:
            coroutine.close()
            raise BlockingCall("this waits on the event loop for what the event loop is to do: use the async form")
        if timeout is None and not self.interruptible and serving.inbox is None:
            waiter: BlockedThread[T] = BlockedThread()
            try:
                return self.wait(waiter, lambda: waiter.follow(self.loop.create_task(coroutine)))
            except ServiceUnavailable:
                coroutine.close()  # it never started
                raise
        future = self._submit(coroutine)
        try:
            self._sit_out(future, timeout)
            return future.result().result()
        except (concurrent.futures.CancelledError, asyncio.CancelledError):
            raise CallCancelled(GAVE_UP) from None
        except KeyboardInterrupt:
            future.cancel()
            raise KeyboardInterrupt from None  # without the frames of this wait
        except BaseException:
            future.cancel()
            raise

    @property
    def interruptible(self) -> bool:
        """Whether the calling thread is the one that ■ and Ctrl-C interrupt, which must wait in slices."""
        return threading.get_ident() == threading.main_thread().ident

    def wait(self, waiter: BlockedThread[T], begin: Callable[[], object]) -> T:
        """Call `begin` on the loop and wait for the outcome of `waiter`, which `begin` arranges.

        For threads that are not `interruptible`. Raises `ServiceUnavailable` as `run` does, and what `begin` raises.
        """
        __tracebackhide__ = True

        def start() -> None:
            try:
                begin()
            except BaseException as error:
                waiter.set_exception(error)

        try:
            self._check_process()
            self.loop.call_soon_threadsafe(start)
        except RuntimeError:
            raise ServiceUnavailable(STOPPED) from None
        return waiter.result()

    def iterate(self, items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
        """Yield the items of an async generator; leaving the iteration early closes it, which cancels its work."""
        try:
            while True:
                try:
                    item = self.run(step(items))
                except Over:
                    return
                yield item
                del item  # it may be large, and the next one may take long to arrive
        finally:
            self._close(items)

    async def join(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run `coroutine` on this portal's loop and await it from any loop; cancelling the caller cancels it."""
        if self.inside:
            return await coroutine
        future = self._submit(coroutine)
        try:
            with self._awake():
                return (await asyncio.wrap_future(future)).result()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise CallCancelled(GAVE_UP) from None

    async def join_items(self, items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """Yield the items of an async generator that runs on this portal's loop, on any event loop."""
        try:
            while True:
                try:
                    item = await self.join(step(items))
                except Over:
                    return
                yield item
                del item
        finally:
            self._close(items)

    def _submit(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[asyncio.Task[T]]:
        """Start `coroutine` as a task; the future's result is the task when it has ended.

        Cancelling the future cancels the task. `asyncio.run_coroutine_threadsafe` is not used: it copies the task's
        error from future to future, and a copied TimeoutError loses its cause, which has the frames of the replica.
        """
        ended: concurrent.futures.Future[asyncio.Task[T]] = concurrent.futures.Future()

        def give(task: asyncio.Task[T]) -> None:
            if not task.cancelled():
                task.exception()  # whoever waits gets it; if nobody does any more, asyncio need not log it
            if ended.set_running_or_notify_cancel():
                ended.set_result(task)

        def begin() -> None:
            task = self.loop.create_task(coroutine)
            task.add_done_callback(give)
            ended.add_done_callback(lambda _: self._cancel(task) if ended.cancelled() else None)

        try:
            self._check_process()
            self.loop.call_soon_threadsafe(begin)
            return ended
        except ServiceUnavailable:
            coroutine.close()
            raise
        except RuntimeError:
            coroutine.close()
            raise ServiceUnavailable(STOPPED) from None

    def _sit_out(self, future: concurrent.futures.Future[Any], timeout: float | None) -> None:
        """Wait in slices: only the main thread gets KeyboardInterrupt, and only while it runs Python code."""
        deadline = None if timeout is None else time.monotonic() + timeout
        inbox = serving.inbox
        if inbox is not None:
            future.add_done_callback(lambda _: inbox.wake())
        while not (concurrent.futures.wait([future], timeout=SLICE).done if inbox is None else future.done()):
            if inbox is not None:
                inbox.wait(SLICE)
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"not done after {timeout:g} s")
            if self.interruptible:
                self.meanwhile()

    @contextlib.contextmanager
    def _awake(self) -> Iterator[None]:
        """Wake the running loop periodically: ipykernel 7 handles ■ in a callback that does not wake the loop by
        itself.
        """
        if not self.interruptible:
            yield
            return
        loop = asyncio.get_running_loop()
        handle: asyncio.TimerHandle

        def tick() -> None:
            nonlocal handle
            handle = loop.call_later(SLICE, tick)
            self.meanwhile()

        handle = loop.call_later(SLICE, tick)
        try:
            yield
        finally:
            handle.cancel()

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise ServiceUnavailable(
                "this process was forked from the one that talks to services, and cannot: call them there, or start "
                "workers with the `spawn` method"
            )

    def _cancel(self, task: asyncio.Task[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the task with it
            self.loop.call_soon_threadsafe(task.cancel)

    def spawn(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a coroutine function on the loop without waiting; from any thread, even during a garbage collection."""
        if os.getpid() == self._process:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self.loop.call_soon_threadsafe(_create_task, self.loop, function)

    def _close(self, items: AsyncGenerator[Any, None]) -> None:
        self.spawn(lambda: _closed(items))


async def _closed(items: AsyncGenerator[Any, None]) -> None:
    with contextlib.suppress(RuntimeError):  # it is running: its step has been cancelled, which closes it
        await items.aclose()


# The loop itself keeps only weak references to its tasks.
_spawned: set[asyncio.Task[Any]] = set()


def _create_task(loop: asyncio.AbstractEventLoop, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    kept(loop.create_task(function()))


def kept(task: asyncio.Task[T]) -> asyncio.Task[T]:
    """Return a task that nothing else may refer to, kept until it has ended."""
    _spawned.add(task)
    task.add_done_callback(_spawned.discard)
    return task


class LoopThread(Portal):
    """An event loop in its own daemon thread. `start` and `stop` are called from other threads."""

    def __init__(self, name: str) -> None:
        super().__init__(uvloop.new_event_loop(), 0)
        self._worker = threading.Thread(target=self._main, name=name, daemon=True)

    def start(self) -> None:
        self._worker.start()

    def stop(self) -> None:
        """Stop the loop and wait up to 5 s for its thread; tasks that are still running are cancelled."""
        if self._worker.is_alive() and not self.inside:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._worker.join(5)

    def _run_on(self) -> None:
        """Run the loop until it is stopped; resume it after a SystemExit in a task, which asyncio re-raises from it."""
        while True:
            try:
                self.loop.run_forever()
            except (SystemExit, KeyboardInterrupt):
                continue
            return

    def _main(self) -> None:
        self.thread = threading.get_ident()
        # A forked child that exits, or collects garbage, must not affect this loop through its copy.
        backend: int = cast(Any, self.loop)._get_backend_id()
        keep_numbers_from_children([backend])
        asyncio.set_event_loop(self.loop)
        try:
            self._run_on()
        finally:
            left = asyncio.all_tasks(self.loop)
            for task in left:
                task.cancel()
            self.loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            forget(backend)
            self.loop.close()


_background: LoopThread | None = None
_lock = threading.Lock()


def background() -> LoopThread:
    """Return the process's one background loop, started on first use."""
    global _background
    with _lock:
        if _background is None:
            _background = LoopThread("nbcompose")
            _background.start()
        return _background


def _start_afresh() -> None:
    """Reset the state in a forked child, which has a copy of the loop's memory but not its thread."""
    global _background, _lock
    _background, _lock = None, threading.Lock()
    for portal in _portals:
        portal.thread = 0  # a child that was forked on the loop's own thread is no longer inside


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)
