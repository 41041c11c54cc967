"""What an api gets for a parameter that takes a stream (`ItemStream`): its items, validated one by one, read once.

It is read by `async for` in async code and by `for` in sync code. Handed on before it is read, it goes to the next
service as it came.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Generator
from typing import TYPE_CHECKING, Any, NoReturn

from nbcompose._rpc.blocking import Over, Portal, step, with_cancel
from nbcompose._rpc.client_calls import Interrupted
from nbcompose._rpc.stream_arguments import Source, StreamReference, taken
from nbcompose._tracing import CallContext
from nbcompose.errors import BlockingCall, NbcomposeError

if TYPE_CHECKING:
    from nbcompose._rpc.client import Client
    from nbcompose._rpc.transport import Transport


LEAVING = 1.0  # seconds for a task that reads a stream which has ended with its call


class ReferenceSource:
    """The items of a call that the caller has left to its consumer, whose own call is `call`: made when the first item
    is wanted, as a call of that. Cancelling who waits for an item (`asyncio.wait_for`) loses none.
    """

    def __init__(self, client: Client, reference: StreamReference, call: CallContext) -> None:
        self.reference = reference
        self.client = client
        self._call = call
        self._items: AsyncGenerator[Any, None] | None = None
        self._is_sent = False

    async def next(self) -> Any:
        if self._items is None:
            made, call = self.reference, self._call
            if made.route is not None:
                self.client.learn(made.route)
            deadline = call.limited(made.left)
            context = CallContext(deadline, call.trace_id, call.span_id, call.trace_flags, call.trace_state)
            arguments = made.args, made.kwargs
            self._items = self.client.stream(made.service, made.api, arguments, context, resumable=True)
        try:
            item = await step(self._items)
        except asyncio.CancelledError:
            if not self._is_sent:
                self._items = None
            raise
        self._is_sent = True
        if type(item) is Interrupted:
            raise item.error
        return item

    async def close(self) -> None:
        if self._items is not None:
            await self._items.aclose()


class ItemStream(AsyncGenerator[Any, None], Generator[Any, None, None]):
    """A stream that a parameter takes, to be read once: by `async for` on the event loop, by `for` in a thread.

    `name`: of the parameter. `check` validates an item of that index. `begun`: it has been read, or closed.
    """

    def __init__(self, name: str, check: Callable[[int, Any], Any] | None) -> None:
        self._name = name
        self._check = check
        self._count = 0
        self.begun = False
        self._is_over = False
        self._is_taken = False

    async def _await(self) -> Any:
        """Return the next item, unchecked. Raises `Over` at the end."""
        raise NotImplementedError

    def _wait(self) -> Any:
        """As `_await`, for sync code."""
        raise NotImplementedError

    async def _leave(self) -> None:
        """End what makes the items."""
        raise NotImplementedError

    def _leave_sync(self) -> None:
        raise NotImplementedError

    # -- by the one that reads it

    def __aiter__(self) -> ItemStream:
        self.check_use()
        return self

    def __iter__(self) -> ItemStream:
        self.check_use()
        return self

    async def __anext__(self) -> Any:
        self._begin()
        if self._is_over:
            raise StopAsyncIteration
        try:
            return self._checked(await self._await())
        except Over:
            self._is_over = True
            raise StopAsyncIteration from None
        except BaseException as error:
            self._fail(error)
            raise

    def __next__(self) -> Any:
        __tracebackhide__ = True
        self._begin()
        if self._is_over:
            raise StopIteration
        try:
            return self._checked(self._wait())
        except Over:
            self._is_over = True
            raise StopIteration from None
        except BaseException as error:
            self._fail(error)
            raise

    def blocking(self) -> BlockingCall:
        """Return the error for `for` in async code."""
        return BlockingCall(
            f"`for item in {self._name}` waits on the event loop, which has to bring the items: write "
            f"`async for item in {self._name}`"
        )

    def check_use(self) -> None:
        """Raise `StreamTaken` if it has been read to its end, or passed on."""
        if self._is_taken or self._is_over:
            raise taken(f"the stream `{self._name}`")

    def _begin(self) -> None:
        if self._is_taken:
            raise taken(f"the stream `{self._name}`")
        self.begun = True

    def _checked(self, item: Any) -> Any:
        self._count += 1
        return item if self._check is None else self._check(self._count - 1, item)

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, Exception) and not isinstance(error, BlockingCall):
            self._is_over = True
        if isinstance(error, NbcomposeError):
            error.from_below()

    async def aclose(self) -> None:
        """End the stream: what makes its items stops."""
        self.begun = self._is_over = True
        await self._leave()

    def close(self) -> None:
        """As `aclose`, in sync code."""
        self.begun = self._is_over = True
        self._leave_sync()

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

    def __repr__(self) -> str:
        state = "passed on" if self._is_taken else "ended" if self._is_over else f"{self._count} items read"
        return f"<stream `{self._name}`, {state}>"


class ArrivingStream(ItemStream):
    """A stream whose items come from other processes, on the portal's loop. Several tasks may read it, and share its
    items. The call whose argument it is has `context`.
    """

    def __init__(
        self,
        name: str,
        check: Callable[[int, Any], Any] | None,
        source: Source,
        portal: Portal,
        context: CallContext,
    ) -> None:
        super().__init__(name, check)
        self._source = source
        self._portal = portal
        self._context = context
        self._lock = asyncio.Lock()
        self._reading: asyncio.Task[Any] | None = None  # waits for an item
        self.waited = 0.0  # seconds for items, so far

    async def _await(self) -> Any:
        return await (self._next() if self._portal.inside else self._portal.join(self._next()))

    def _wait(self) -> Any:
        if self._portal.inside:
            raise self.blocking()
        return self._portal.run(with_cancel(self._context, self._next()))

    async def _next(self) -> Any:
        async with self._lock:
            if self._is_over:
                raise Over
            self._reading = asyncio.current_task()
            begin = time.perf_counter()
            try:
                return await self._source.next()
            finally:
                self.waited += time.perf_counter() - begin
                self._reading = None

    async def _leave(self) -> None:
        await (self._close() if self._portal.inside else self._portal.join(self._close()))

    def _leave_sync(self) -> None:
        self._portal.spawn(self._close)

    async def _close(self) -> None:
        """End the source; a task that still waits for an item, after the end of the call, is cancelled."""
        reading = self._reading
        if reading is not None and reading is not asyncio.current_task():
            reading.cancel()
            await asyncio.wait([reading], timeout=LEAVING)
        with contextlib.suppress(RuntimeError):  # that task has not ended in time
            await self._source.close()

    def refer(self, to: Transport) -> StreamReference | None:
        """Give the stream away to a call over that transport: return what makes it, or None where it is relayed."""
        self.check_use()
        source = self._source
        if self.begun or not isinstance(source, ReferenceSource) or not to.reaches(source.client):
            return None
        self._is_taken = True
        return source.reference
