"""What to do with a stream besides passing it on: read it several times (`tee`), call an api for each item (`map`).

Both take a stream of a service, what an api gets for a parameter that takes a stream, or any iterator, sync or async.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
import inspect
import sys
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NoReturn, cast

from nbcompose._schema import Unawaited, Uncalled, check_awaited
from nbcompose._units import with_article
from nbcompose.errors import CallCancelled, Misuse, StreamLag, StreamTaken

__all__ = ["map", "tee"]

MOST_KEPT = 64 * 1024 * 1024  # bytes that a branch may be behind the one that is furthest


def tee(stream: AsyncIterable[Any] | Iterable[Any], n: int = 2, *, most: int = MOST_KEPT) -> tuple[Branch, ...]:
    """Make several streams of one, each with all its items: to pass it to several services.

    The stream is read once, as far as the branch that is furthest ahead; what another has not read yet is kept.
    Read them at once, e.g. with `asyncio.gather`: one after the other, all of the stream is kept.

    Args:
        stream: The stream; it must not be read by itself any more.
        n: How many to make.
        most: Bytes that are kept for a branch.

    Returns:
        The branches. Each is read once, by `async for` or by `for`, as the stream is.

    Raises:
        nbcompose.errors.Misuse: `n` is not at least 1, or `stream` is none.
        nbcompose.errors.StreamLag: In a branch that is read after more than `most` bytes were not kept for it.
    """
    if not isinstance(n, int) or n < 1:
        raise Misuse(f"n={n!r}: at least one stream is to be made")
    _check_stream("tee", stream)
    trunk = _Trunk(stream, most)
    branches = tuple(Branch(trunk) for _ in range(n))
    trunk.branches = {id(branch): weakref.ref(branch) for branch in branches}
    return branches


def _check_stream(function: str, stream: Any) -> None:
    kind = type(stream)
    if issubclass(kind, Uncalled):
        raise Misuse(f"{function} takes a stream, and got {stream._uncalled()}")
    if not hasattr(kind, "__aiter__"):
        check_awaited(stream)
        if not hasattr(kind, "__iter__"):
            raise Misuse(f"{function} takes a stream or any iterator, sync or async, and got {kind.__name__}")


def _is_only_async(stream: Any) -> bool:
    """Whether it cannot be read by `for`."""
    kind = type(stream)
    if issubclass(kind, Branch | Mapped):
        return bool(stream.is_only_async)
    return hasattr(kind, "__aiter__") and (issubclass(kind, Unawaited) or not hasattr(kind, "__iter__"))


class _Trunk:
    """The stream that branches share."""

    def __init__(self, stream: Any, most: int) -> None:
        self.branches: dict[int, weakref.ref[Branch]] = {}  # those that are read, by their ids
        self._stream = stream
        self.is_only_async = _is_only_async(stream)
        self._most = most
        self._items: Any = None  # its iterator
        self._is_over = False
        self._error: BaseException | None = None
        self._reading: asyncio.Task[None] | None = None  # for all branches
        self._waited = threading.Lock()

    async def pull(self, branch: Branch) -> None:
        """Wait for an item for all branches."""
        # By a task of its own: cancelling who reads one branch must not end what the others read.
        if self._reading is None or self._reading.done():
            self._reading = asyncio.ensure_future(self._read())
        await asyncio.shield(self._reading)

    async def _read(self) -> None:
        try:
            self._items = aiter(self._stream) if self._items is None else self._items
            self._give(await anext(self._items))
        except StopAsyncIteration:
            self._is_over = True
        except asyncio.CancelledError:
            self._error = CallCancelled("what makes the items of the stream was cancelled")
        except Exception as error:
            self._error = error

    def pull_sync(self, branch: Branch) -> None:
        with self._waited:
            if self._may_pull(branch):
                try:
                    self._items = iter(self._stream) if self._items is None else self._items
                    self._give(next(self._items))
                except StopIteration:
                    self._is_over = True
                except Exception as error:
                    self._error = error

    def _may_pull(self, branch: Branch) -> bool:
        return not (branch.kept or self._is_over or self._error is not None)

    def _give(self, item: Any) -> None:
        size = _size_of(item)
        for reference in tuple(self.branches.values()):  # another thread may leave meanwhile
            branch = reference()
            if branch is not None:
                branch.keep(item, size, self._most)

    def ended(self) -> bool:
        """Whether there are no more items. Raises what the stream has raised."""
        if self._error is not None:
            raise self._error
        return self._is_over

    def leave(self, branch: Branch) -> Any:
        """A branch is closed; return the iterator to close where it was the last one."""
        self.branches.pop(id(branch), None)
        return None if self.branches or self._is_over else (self._stream if self._items is None else self._items)

    async def stop(self) -> None:
        """End the reading of an item, which nobody waits for any more."""
        if self._reading is not None and not self._reading.done():
            self._reading.cancel()
            await asyncio.wait([self._reading])

    def drop(self, branch: Branch) -> None:
        """A branch is no more. From any thread; the iterator goes as this object does."""
        if self.leave(branch) is not None and self._reading is not None and not self._reading.done():
            with contextlib.suppress(RuntimeError):  # its loop has ended
                self._reading.get_loop().call_soon_threadsafe(self._reading.cancel)


def _size_of(item: Any) -> int:
    """Return about how many bytes an item takes."""
    size = getattr(item, "nbytes", None)
    return size if isinstance(size, int) else sys.getsizeof(item)


class Branch(AsyncGenerator[Any, None], Generator[Any, None, None]):
    """One of the streams that `tee` makes of one."""

    def __init__(self, trunk: _Trunk) -> None:
        self.kept: collections.deque[tuple[Any, int]] = collections.deque()
        self._bytes = 0
        self._trunk = trunk
        self.is_only_async = trunk.is_only_async
        self._lag: StreamLag | None = None
        self._is_closed = False

    def keep(self, item: Any, size: int, most: int) -> None:
        if self._lag is not None:
            return
        if self._bytes + size > most and self.kept:
            self._lag = StreamLag(
                f"this branch of a stream is {self._bytes:,} bytes behind, and no more are kept: read all branches at "
                "once, or give tee(…, most=…) a larger number"
            )
            self.kept.clear()
            return
        self.kept.append((item, size))
        self._bytes += size

    def _take(self) -> Any:
        item, size = self.kept.popleft()
        self._bytes -= size
        return item

    def _check(self) -> None:
        if self._lag is not None:
            raise self._lag

    def __aiter__(self) -> Branch:
        self._check_use()
        return self

    def __iter__(self) -> Branch:
        self._check_use()
        return self

    def _check_use(self) -> None:
        if self._is_closed:
            raise StreamTaken("this branch of a stream has been read to its end, or closed: a stream is read once")

    async def __anext__(self) -> Any:
        while not self._is_closed:
            self._check()
            if self.kept:
                return self._take()
            if self._trunk.ended():
                break
            await self._trunk.pull(self)
        self._is_closed = True
        raise StopAsyncIteration

    def __next__(self) -> Any:
        while not self._is_closed:
            self._check()
            if self.kept:
                return self._take()
            if self._trunk.ended():
                break
            self._trunk.pull_sync(self)
        self._is_closed = True
        raise StopIteration

    async def aclose(self) -> None:
        """Want no more items; the stream ends with its last branch."""
        self._is_closed = True
        self.kept.clear()
        items = self._trunk.leave(self)
        if items is not None:
            await self._trunk.stop()
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()

    def close(self) -> None:
        """As `aclose`, in sync code."""
        self._is_closed = True
        self.kept.clear()
        close = getattr(self._trunk.leave(self), "close", None)
        if close is not None:
            close()

    def __del__(self) -> None:
        self._trunk.drop(self)

    async def asend(self, value: Any) -> Any:
        return await self.__anext__()

    def send(self, value: Any) -> Any:
        return self.__next__()

    async def athrow(self, *error: Any) -> NoReturn:
        await self.aclose()
        raise error[0]

    def throw(self, *error: Any) -> NoReturn:
        self.close()
        raise error[0]


def map(call: Callable[[Any], Any], stream: AsyncIterable[Any] | Iterable[Any], at_once: int = 4) -> Mapped:
    """Call an api for each item of a stream, several at once; the answers come in the order of the items.

    No more than `at_once` items are taken that have not been answered, so memory is bounded however long the stream is.

    Args:
        call: What is called with an item: an api such as `self.embedder.embed`, or any function.
        stream: The items.
        at_once: How many calls may be under way.

    Returns:
        An iterator over the answers, to be read to its end, or closed. `async for` makes the calls as tasks (and awaits
        what `call` returns), `for` in threads.

    Raises:
        nbcompose.errors.Misuse: `at_once` is not at least 1, `stream` is none, or `call` cannot be called.
    """
    if not isinstance(at_once, int) or at_once < 1:
        raise Misuse(f"at_once={at_once!r}: at least one call is to be under way")
    _check_stream("map", stream)
    if not callable(call):
        raise Misuse(
            f"map calls what stands first for each item, and {with_article(type(call).__name__)} cannot be called"
        )
    return Mapped(call, stream, at_once)


class Mapped(AsyncGenerator[Any, None], Generator[Any, None, None]):
    """The answers that `map` gives, read once: by `async for` or by `for`."""

    # No async generator: its calls are tasks, which end with it.

    def __init__(self, call: Callable[[Any], Any], stream: Any, at_once: int) -> None:
        self._call = call
        self._stream = stream
        self.is_only_async = _is_only_async(stream)
        self._items: Any = None
        self._at_once = at_once
        self._calls: collections.deque[asyncio.Task[Any]] = collections.deque()
        self._reading: asyncio.Task[None] | None = None
        self._room = asyncio.Semaphore(at_once)
        self._come = asyncio.Event()
        self._is_over = False
        self._error: BaseException | None = None
        self._threads: Generator[Any, None, None] | None = None  # where it is read by `for`

    def __iter__(self) -> Mapped:
        return self

    def __next__(self) -> Any:
        if self._threads is None:
            self._threads = _by_threads(self._call, cast(Iterable[Any], self._stream), self._at_once)
        return next(self._threads)

    def send(self, value: Any) -> Any:
        return self.__next__()

    def throw(self, *error: Any) -> NoReturn:
        self.close()
        raise error[0]

    def close(self) -> None:
        """As `aclose`, in sync code; calls that threads have begun go on."""
        if self._threads is not None:
            self._threads.close()

    async def _read(self) -> None:
        """Take items, and begin their calls, as far as there is room."""
        try:
            while True:
                await self._room.acquire()
                item = await self._next_item()
                self._calls.append(asyncio.ensure_future(self._answer(item)))
                self._come.set()
        except StopAsyncIteration:
            pass
        except Exception as error:
            self._error = error
        finally:
            self._is_over = True
            self._come.set()

    async def _next_item(self) -> Any:
        if self._items is None:
            self._items = aiter(self._stream) if hasattr(type(self._stream), "__aiter__") else iter(self._stream)
        if hasattr(type(self._items), "__anext__"):
            return await anext(self._items)
        item = await asyncio.to_thread(next, self._items, _END)
        if item is _END:
            raise StopAsyncIteration
        return item

    async def _answer(self, item: Any) -> Any:
        if inspect.iscoroutinefunction(self._call):
            return await self._call(item)
        answer = self._call(item)
        return await answer if isinstance(answer, Awaitable) else answer

    async def __anext__(self) -> Any:
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._read())
        while not self._calls:
            if self._is_over:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._come.clear()
            await self._come.wait()
        first = self._calls.popleft()
        try:
            return await first
        except BaseException:
            await self.aclose()
            raise
        finally:
            self._room.release()

    async def aclose(self) -> None:
        """Cancel the calls that are under way, and close the stream."""
        self._is_over = True
        left = [*self._calls, *([self._reading] if self._reading is not None else [])]
        self._calls.clear()
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for name in ("aclose", "close"):
            close = getattr(self._items, name, None)
            if close is not None:
                with contextlib.suppress(RuntimeError, ValueError):  # it is running: its step was cancelled
                    closing = close()
                    await closing if name == "aclose" else None
                return

    async def asend(self, value: Any) -> Any:
        return await self.__anext__()

    async def athrow(self, *error: Any) -> NoReturn:
        await self.aclose()
        raise error[0]


_END = object()


def _by_threads(call: Callable[[Any], Any], stream: Iterable[Any], at_once: int) -> Generator[Any, None, None]:
    calls: collections.deque[Future[Any]] = collections.deque()
    items = iter(stream)
    threads = ThreadPoolExecutor(at_once, thread_name_prefix="nbcompose-map")
    try:
        for item in items:
            calls.append(threads.submit(contextvars.copy_context().run, call, item))
            if len(calls) == at_once:
                yield calls.popleft().result()
        while calls:
            yield calls.popleft().result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        close = getattr(items, "close", None)
        if close is not None:
            close()
