"""Client side of a connection: sends calls, receives results and streams, handles cancellation and deadlines.

See `_rpc/client.py` for the choice of a connection, `_rpc/server_calls.py` for incoming calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from nbcompose._rpc.blocking import Over, kept
from nbcompose._rpc.codec import Chunks
from nbcompose._rpc.flow import ReceivedItems, SendWindow
from nbcompose._rpc.protocol import Body, FramedProtocol, Kind, ProtocolError
from nbcompose._rpc.remote_errors import describe_aside, rebuild
from nbcompose._rpc.server_calls import CALL_HEAD, COUNT, unreadable
from nbcompose._rpc.stream_arguments import Outlet
from nbcompose._tracing import CallContext, clock
from nbcompose._user_exceptions import contained
from nbcompose.errors import CallCancelled, DeadlineExceeded, ReplicaDied


class Deadlines:
    """Deadlines of pending work, by id, with one timer. In seconds on the clock of deadlines (`_tracing/clock.py`)."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._open: dict[int, tuple[float, Callable[[], object]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._at = 0.0  # when the timer fires: never later than the earliest deadline
        self._behind = 0.0  # of the clock, when the timer was set

    def add(self, key: int, deadline: float, expire: Callable[[], object]) -> None:
        """Call `expire` at `deadline`, unless `key` was removed before."""
        self._open[key] = deadline, expire
        if self._timer is None or deadline < self._at:
            self._look_at(deadline)

    def remove(self, key: int) -> None:
        # The timer is kept: usually the next call has a later deadline, and then needs no new timer.
        self._open.pop(key, None)

    def close(self) -> None:
        self._open.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_at(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._at = deadline
        self._behind = clock.behind
        self._timer = self._loop.call_at(self._loop.time() + deadline - clock.monotonic(), self._look)

    def _look(self) -> None:
        self._timer = None
        if clock.stands():
            self._timer = self._loop.call_later(clock.LOOK_AGAIN, self._look)
            return
        now = clock.monotonic()
        if clock.behind == self._behind:
            now = max(now, self._at)  # the loop's clock may be slightly ahead
        late = [(key, expire) for key, (deadline, expire) in self._open.items() if deadline <= now]
        for key, expire in late:
            if self._open.pop(key, None) is not None:
                expire()
        if self._open:
            self._look_at(min(deadline for deadline, _ in self._open.values()))


LOW = 2**64 - 1


class ConnectionClosed(ConnectionError):
    """The connection was closed before this call was sent, so the call can safely be sent to another replica."""


class Declined(ConnectionClosed):
    """The peer is leaving and has not started this call: it can be sent again once the route has changed."""


class Interrupted:
    """Stands for the item that a task waited for which was cancelled with that error; the item is still to come."""

    def __init__(self, error: asyncio.CancelledError) -> None:
        self.error = error


class Settled(Protocol):
    """Takes the outcome of a call, once: a future, or a waiting thread. Its methods are called on the loop."""

    def done(self) -> bool: ...

    def set_result(self, result: Any, /) -> None: ...

    def set_exception(self, exception: Any, /) -> None: ...


def _fail(result: Settled, error: BaseException) -> None:
    if not result.done():
        result.set_exception(error)


class _Sender:
    """Sends the items of one stream among the arguments of a call, once the other end asks for them."""

    def __init__(self, line: FramedProtocol, call_id: int, channel: int, outlet: Outlet, hop: str) -> None:
        self.outlet = outlet
        self._line = line
        self._call_id = call_id
        self._channel = channel
        self._hop = hop
        self._window = SendWindow()
        self._task: asyncio.Task[None] | None = None
        self._is_over = False

    def credit(self, count: int) -> None:
        """The other end asks for the first items (0), or has taken some."""
        if self._task is None and not self._is_over:
            self.outlet.begun = True
            self._task = kept(self._line.loop.create_task(self._run(), context=self.outlet.context))
        self._window.acknowledged(count)

    def stop(self, *, again: bool = False) -> None:
        """The call has ended, or its other end wants no more items. `again`: the call may be made once more, and needs
        what nobody has begun to read.
        """
        if self._is_over:
            return
        self._is_over = True
        self._window.close()
        if self._task is not None:
            self._task.cancel()
        elif not self.outlet.begun and not again:
            self._task = kept(self._line.loop.create_task(self.outlet.close(), context=self.outlet.context))

    async def _run(self) -> None:
        line, window, source = self._line, self._window, self.outlet.source
        try:
            while not self._is_over:
                if not window.has_room:
                    await window.room(line.loop)
                    continue
                item = await source.next()
                before = line.encoder.shared
                chunks = line.encoder.encode(item, "item")
                window.sent(sum(map(len, chunks)) + line.encoder.shared - before)
                del item
                if not self._is_over:
                    line.send(Kind.ITEM, self._call_id, chunks, self._channel)
                await line.drained()
        except Over:
            self._end(Kind.END, [b""])
        except asyncio.CancelledError:
            if not self._is_over:
                await self._fail(CallCancelled("the task that makes the items of the stream was cancelled"))
        except BaseException as error:  # the stream's code may raise anything
            await self._fail(contained(error))
        finally:
            await self.outlet.close()

    async def _fail(self, error: BaseException) -> None:
        origin = self.outlet.failed(error)
        detail = replace(await describe_aside(error, hop=self._hop), origin=origin)
        self._end(Kind.ERROR, self._line.encoder.encode(detail, "item"))

    def _end(self, kind: Kind, chunks: Chunks) -> None:
        if not self._is_over:
            self._is_over = True
            self._line.send(kind, self._call_id, chunks, self._channel)


def _own(origin: int, senders: Mapping[int, _Sender] | None) -> BaseException | None:
    """Return the exception of one of these streams of this process that has come back under its number."""
    outlets = (sender.outlet for sender in (senders or {}).values())
    return next((outlet.error for outlet in outlets if outlet.origin == origin), None)


class Outgoing:
    """The calls from this end that are under way."""

    def __init__(self, line: FramedProtocol) -> None:
        self.in_flight = 0
        self.begun = 0  # calls started so far
        self._line = line
        self._is_leaving = False  # the connection closes once there is no call
        self._last_id = 0
        self._deadlines = Deadlines(line.loop)
        self._open: dict[int, Settled] = {}  # calls and streams that the peer has not completed
        self._senders: dict[int, dict[int, _Sender]] = {}  # by call and channel: streams among the arguments

    @property
    def streaming(self) -> int:
        """Streams that have not ended."""
        return sum(isinstance(call, ReceivedItems) for call in self._open.values())

    async def call(
        self, api: str, arguments: Any, context: CallContext, deadline: float | None = None, waited: float = 0.0
    ) -> Any:
        """Call `api` at the other end and wait for its result.

        `deadline` is in seconds on the clock of deadlines; `waited`: seconds since its caller wanted the call. Raises
        `ConnectionClosed` when the call was never sent,
        `Declined` when the peer is leaving and had not started it, `ReplicaDied` when the connection was lost while it
        was under way, `DeadlineExceeded`, or the remote error. Cancelling the waiting task cancels the call.
        """
        future: asyncio.Future[Any] = self._line.loop.create_future()
        call_id = self.begin(api, arguments, context, deadline, future, waited)
        try:
            return await future
        except asyncio.CancelledError:
            self.abandon(call_id)
            raise

    def begin(
        self,
        api: str,
        arguments: Any,
        context: CallContext,
        deadline: float | None,
        result: Settled,
        waited: float = 0.0,
    ) -> int:
        """As `call`, without a waiting task: the outcome is set in `result`. Returns the call's id, for `abandon`.

        Errors before the call is sent are raised; later ones are set in `result`.
        """
        line = self._line
        if line.closed:
            raise ConnectionClosed(f"the connection to {line.name} is closed")
        left = -1.0
        if deadline is not None:
            left = deadline - clock.monotonic()
            if left <= 0:
                raise self._late(api, 0.0)
        name, state = api.encode(), context.trace_state.encode()
        trace, flags = context.trace_id, context.trace_flags
        head = CALL_HEAD.pack(left, waited, trace >> 64, trace & LOW, context.span_id, flags, len(name), len(state))
        self.begun += 1
        self._last_id = call_id = (self._last_id + 1) & 0xFFFFFFFF
        encoder = line.encoder
        line.send(Kind.CALL, call_id, [head + name + state, *encoder.encode(arguments)])
        self._open[call_id] = result
        self.in_flight += 1
        if encoder.outlets:
            self._senders[call_id] = {
                channel: _Sender(line, call_id, channel, outlet, f"an argument of {api}")
                for channel, outlet in enumerate(encoder.taken_outlets(), 1)
            }
        if deadline is not None:
            self._deadlines.add(call_id, deadline, lambda: self._expire(call_id, api, left))
        return call_id

    def abandon(self, call_id: int) -> None:
        """Cancel a call started with `begin` if it is still under way; nothing more is set in its result."""
        result = self._open.pop(call_id, None)
        if result is not None:
            self._line.send(Kind.CANCEL, call_id, [b""])
            if self._senders:
                self._stop_senders(call_id)
            if type(result) is not ReceivedItems:
                self._ended(call_id)

    async def stream(
        self,
        api: str,
        arguments: Any,
        context: CallContext,
        deadline: float | None = None,
        waited: float = 0.0,
        *,
        resumable: bool = False,
    ) -> AsyncGenerator[Any, None]:
        """Call `api` and yield its items as they arrive; closing the generator cancels the call.

        Raises as `call` does; an error in mid-stream is raised after the items that came before it. `resumable`: where
        the task is cancelled that waits for an item, the generator does not end, as it would, but yields `Interrupted`.
        """
        loop, call_id = self._line.loop, 0
        stream = ReceivedItems(lambda count: self._line.send(Kind.CREDIT, call_id, [COUNT.pack(count)]))
        call_id = self.begin(api, arguments, context, deadline, stream, waited)
        try:
            while True:
                try:
                    item = await stream.next(loop)
                except asyncio.CancelledError as error:
                    if not resumable:
                        raise
                    item = Interrupted(error)
                yield item
                del item  # it may be large, and the next one may take long to arrive
        except Over:
            return
        finally:
            self.abandon(call_id)
            self._ended(call_id)

    def _take(self, call_id: int, *, again: bool = False) -> Settled | None:
        """Return the call of that id, which is over: None if it is unknown, or has been abandoned."""
        result = self._open.pop(call_id, None)
        if self._senders:
            self._stop_senders(call_id, again=again)
        if (
            result is not None and type(result) is not ReceivedItems
        ):  # one is counted until its consumer has seen the end
            self._ended(call_id)
        return result

    def _stop_senders(self, call_id: int, *, again: bool = False) -> None:
        for sender in self._senders.pop(call_id, {}).values():
            sender.stop(again=again)

    def _ended(self, call_id: int) -> None:
        self.in_flight -= 1
        self._deadlines.remove(call_id)
        if self.in_flight == 0 and self._is_leaving:
            self._line.close()

    def close_when_idle(self) -> None:
        """Close the connection once these calls are done."""
        self._is_leaving = True
        if self.in_flight == 0:
            self._line.close()

    def _expire(self, call_id: int, api: str, left: float) -> None:
        result = self._open.get(call_id)
        if result is not None:  # None: a stream has ended, and its consumer has not seen all of it
            self.abandon(call_id)
            _fail(result, self._late(api, left))

    def _late(self, api: str, left: float) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"{api}: no answer from {self._line.name} within the {left:.3g} s that it had (--timeout, or the deadline "
            "of its caller)"
        )

    # -- what the peer says of the streams among the arguments

    def take_credit(self, call_id: int, channel: int, body: Body) -> None:
        sender = self._senders.get(call_id, {}).get(channel)
        if sender is not None:
            sender.credit(COUNT.unpack_from(body)[0])

    def take_cancel(self, call_id: int, channel: int, _: Body) -> None:
        sender = self._senders.get(call_id, {}).get(channel)
        if sender is not None:
            sender.stop()

    # -- the peer's answers

    def take_result(self, call_id: int, body: Body) -> None:
        result = self._take(call_id)
        if result is None or result.done():  # done: its future was cancelled, but `abandon` has not been called yet
            self._line.decoder.discard(body)
            return
        try:
            result.set_result(self._line.decoder.decode(body))
        except BaseException as error:  # user code in the received value's classes may raise anything
            result.set_exception(unreadable(self._line.name, error))

    def take_item(self, call_id: int, body: Body) -> None:
        stream, decoder = self._open.get(call_id), self._line.decoder
        if not isinstance(stream, ReceivedItems) or stream.over:
            decoder.discard(body)
            return
        before = decoder.shared
        try:
            item = decoder.decode(body)
        except BaseException as error:
            stream.set_exception(unreadable(self._line.name, error))
            return
        stream.add(item, len(body) + decoder.shared - before)

    def take_end(self, call_id: int, _: Body) -> None:
        stream = self._take(call_id)
        if isinstance(stream, ReceivedItems):
            if not stream.over:
                stream.set_result()
        elif stream is not None:
            error = ProtocolError(f"{self._line.name} sent the end of a stream for a call that has one result")
            _fail(stream, error)
            raise error

    def take_error(self, call_id: int, body: Body) -> None:
        senders = self._senders.get(call_id)
        result = self._take(call_id)
        if result is None:
            self._line.decoder.discard(body)
            return
        error: BaseException
        try:
            detail = self._line.decoder.decode(body)
            own = _own(detail.origin, senders) if detail.origin else None
            error = rebuild(detail) if own is None else own
        except BaseException as failure:
            error = unreadable(self._line.name, failure)
        _fail(result, error)

    def take_decline(self, call_id: int, _: Body) -> None:
        result = self._take(call_id, again=True)
        if result is not None:
            _fail(result, Declined(f"{self._line.name} goes, and had not begun with the call"))

    def lost(self, reason: str) -> None:
        """Fail all calls: the connection is lost."""
        because = f" ({reason})" if reason else ""
        for call_id, result in self._open.items():
            is_stream = isinstance(result, ReceivedItems)
            when = "in the middle of a stream" if is_stream else "while it worked on this call"
            error = self._lost_error(f"{when}{because}")
            if isinstance(error, ReplicaDied):
                error.spent = any(s.outlet.begun for s in self._senders.get(call_id, {}).values())
            _fail(result, error)
            self.in_flight -= not is_stream  # a stream is counted until its consumer has seen the end
        self._open.clear()
        for call_id in list(self._senders):
            self._stop_senders(call_id, again=True)
        self._deadlines.close()

    def _lost_error(self, when: str) -> ConnectionError:
        if not self._line.greeted:  # the kernel still queues connections to a process being killed; none is accepted
            return ConnectionClosed(f"{self._line.name} went away before it accepted the connection")
        died = ReplicaDied(f"{self._line.name} went away {when}")
        died.address = self._line.address
        return died
