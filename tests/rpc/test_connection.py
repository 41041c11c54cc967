"""Calls between the two ends of a real socket: unary, streaming, cancelled, late, lost; shared memory; garbage."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import numpy as np
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from nbcompose._rpc import codec, protocol
from nbcompose._rpc.client_calls import ConnectionClosed, Declined
from nbcompose._rpc.connection import Connection, adopt
from nbcompose._rpc.flow import WINDOW
from nbcompose._rpc.protocol import HEADER, PROTOCOL, Kind, segment_pool
from nbcompose._rpc.server_calls import CALL_HEAD, IncomingCall
from nbcompose._tracing.spans import CallContext
from nbcompose.errors import (
    CallCancelled,
    CallError,
    DeadlineExceeded,
    InvalidArgument,
    InvalidResult,
    PayloadTooLarge,
    RemoteTraceback,
    ReplicaDied,
)
from tests.patience import PATIENCE, ever_longer, until

Api = Callable[..., Awaitable[Any]]


class Peer:
    """The answering end: each api is a coroutine `f(call, *args)`, run as a task that is cancelled with its call."""

    def __init__(self, **apis: Api) -> None:
        self.apis = apis
        self.calls: list[IncomingCall] = []
        self.notes: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.tasks: set[asyncio.Task[None]] = set()

    def on_call(self, call: IncomingCall) -> None:
        self.calls.append(call)
        task = asyncio.get_running_loop().create_task(self._answer(call))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        call.context.on_cancel(task.cancel)

    def on_note(self, topic: str, value: Any) -> None:
        self.notes.put_nowait((topic, value))

    async def _answer(self, call: IncomingCall) -> None:
        try:
            args, call.arguments = call.arguments, None
            await self.apis[call.api](call, *args)
        except asyncio.CancelledError:
            call.fail(CallCancelled("cancelled"))
        except Exception as error:
            call.fail(error, f"Peer.{call.api}")


async def echo(call: IncomingCall, value: Any) -> None:
    call.reply(value)


@contextlib.asynccontextmanager
async def connected(peer: Any = None, **apis: Api) -> AsyncIterator[tuple[Connection, Connection, Any]]:
    """(the caller's end, the other end, what answers there), over a socket pair."""
    ours, theirs = socket.socketpair()
    peer = peer or Peer(**apis)
    answering = await adopt(theirs, "the caller", peer)
    calling = await adopt(ours, "the peer")
    try:
        yield calling, answering, peer
    finally:
        for connection in (calling, answering):
            connection.close()
        await until(lambda: calling.closed and answering.closed)
        await turns()


async def turns(count: int = 3) -> None:
    """Let callbacks run that are due."""
    for _ in range(count):
        await asyncio.sleep(0)


async def read(items: AsyncIterator[Any], pause: Callable[[], Awaitable[None]] = turns) -> tuple[list[Any], Exception]:
    """The items that a stream gives before the error that it ends in; `pause` is awaited after each."""
    seen = []
    try:
        async for item in items:
            seen.append(item)
            await pause()
    except Exception as error:
        return seen, error
    raise AssertionError(f"no error after {seen}")


def soon(seconds: float = 0.05) -> float:
    return time.monotonic() + seconds


# -- unary


async def test_a_call_and_its_result() -> None:
    async with connected(echo=echo) as (connection, _, _peer):
        assert await connection.call("echo", ({"a": [1, None]},), CallContext()) == {"a": [1, None]}
        assert connection.in_flight == 0


async def test_the_context_travels() -> None:
    async with connected(echo=echo) as (connection, _, peer):
        context = CallContext(None, 2**127 + 5, 2**63 + 7, 0, "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")
        deadline = soon(PATIENCE)
        await connection.call("echo", (1,), context, deadline)
        seen = peer.calls[0].context
        assert (seen.trace_id, seen.span_id) == (context.trace_id, context.span_id)
        assert (seen.trace_flags, seen.trace_state) == (context.trace_flags, context.trace_state)
        assert seen.deadline == pytest.approx(deadline, abs=PATIENCE / 2)
        await connection.call("echo", (1,), context)
        assert peer.calls[1].context.deadline is None


async def test_64_calls_in_flight_come_back_to_their_callers() -> None:
    gate = asyncio.Event()

    async def last_first(call: IncomingCall, i: int) -> None:
        await gate.wait()
        call.reply(i)

    async with connected(last_first=last_first) as (connection, _, peer):
        calls = [asyncio.ensure_future(connection.call("last_first", (i,), CallContext())) for i in range(64)]
        await until(lambda: len(peer.calls) == 64)
        assert connection.in_flight == 64
        gate.set()
        assert await asyncio.gather(*calls) == list(range(64))
        assert connection.in_flight == 0


async def test_both_ends_may_call() -> None:
    ours, theirs = socket.socketpair()
    left = await adopt(ours, "right", Peer(echo=echo))
    right = await adopt(theirs, "left", Peer(echo=echo))
    assert await asyncio.gather(left.call("echo", (1,), CallContext()), right.call("echo", (2,), CallContext())) == [
        1,
        2,
    ]
    left.close()
    await until(lambda: right.closed)


async def test_an_error_keeps_its_type_and_tells_where() -> None:
    async def broken(call: IncomingCall) -> None:
        raise KeyError("nothing there")

    async with connected(broken=broken) as (connection, _, _peer):
        with pytest.raises(KeyError, match="nothing there") as caught:
            await connection.call("broken", (), CallContext())
        assert isinstance(caught.value.__cause__, RemoteTraceback)
        assert "Peer.broken" in str(caught.value.__cause__)


async def test_arguments_that_cannot_be_sent_fail_alone() -> None:
    async with connected(echo=echo) as (connection, _, _peer):
        with pytest.raises(InvalidArgument, match="cannot be sent"):
            await connection.call("echo", (threading.Lock(),), CallContext())
        assert connection.in_flight == 0
        assert await connection.call("echo", (1,), CallContext()) == 1


async def test_a_result_that_cannot_be_sent_is_an_invalid_result() -> None:
    async def lock(call: IncomingCall) -> None:
        call.reply(threading.Lock())

    async def locks(call: IncomingCall) -> None:
        await call.send(1)
        await call.send(threading.Lock())

    async with connected(lock=lock, locks=locks) as (connection, _, _peer):
        with pytest.raises(InvalidResult, match="cannot be sent"):
            await connection.call("lock", (), CallContext())
        with pytest.raises(InvalidResult, match="cannot be sent"):
            [_ async for _ in connection.stream("locks", (), CallContext())]


class Unreadable:
    """It can be sent, and not be made again."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


async def test_what_cannot_be_read_fails_its_call_alone() -> None:
    async def unreadable(call: IncomingCall) -> None:
        call.reply(Unreadable())

    async with connected(echo=echo, unreadable=unreadable) as (connection, _, _peer):
        with pytest.raises(CallError, match=r"what the peer sent cannot be read here.*invalid literal"):
            await connection.call("unreadable", (), CallContext())
        with pytest.raises(CallError, match=r"what the caller sent cannot be read here.*invalid literal"):
            await connection.call("echo", (Unreadable(),), CallContext())
        assert await connection.call("echo", (1,), CallContext()) == 1


async def test_an_end_without_a_handler_says_so_and_keeps_no_memory() -> None:
    async with connected(echo=echo) as (connection, answering, _peer):
        with pytest.raises(CallError, match="answers no calls"):
            await answering.call("echo", (np.zeros(2**20),), CallContext())
        await until(lambda: not lent(answering))
        assert await connection.call("echo", (1,), CallContext()) == 1


async def test_a_handler_that_raises_fails_that_call_alone() -> None:
    class Careless(Peer):
        def on_call(self, call: IncomingCall) -> None:
            if call.api == "oops":
                raise RuntimeError("careless")
            super().on_call(call)

        def on_note(self, topic: str, value: Any) -> None:
            raise LookupError(topic)

    async with connected(Careless(echo=echo)) as (connection, answering, _peer):
        connection.note("unexpected", 1)
        with pytest.raises(RuntimeError, match="careless"):
            await connection.call("oops", (), CallContext())
        assert await connection.call("echo", (1,), CallContext()) == 1
        assert not answering.closed


async def test_notes_arrive_in_order() -> None:
    async with connected() as (connection, _, peer):
        for i in range(3):
            connection.note("count", i)
        assert [await peer.notes.get() for _ in range(3)] == [("count", 0), ("count", 1), ("count", 2)]
        connection.close()
        connection.note("count", 3)  # nothing happens


async def test_a_body_over_the_limit_fails_before_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(echo=echo) as (connection, _, _peer):
        monkeypatch.setattr(codec, "MAX_BODY", 100_000)
        with pytest.raises(PayloadTooLarge, match="at most 100000"):
            await connection.call("echo", ("x" * 200_000,), CallContext())
        assert await connection.call("echo", ("x" * 90_000,), CallContext()) == "x" * 90_000


# -- giving up


async def forever(call: IncomingCall) -> None:
    await asyncio.Event().wait()


async def test_cancelling_the_caller_cancels_the_call() -> None:
    async with connected(forever=forever, echo=echo) as (connection, _, peer):
        task = asyncio.ensure_future(connection.call("forever", (), CallContext()))
        await until(lambda: len(peer.calls) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert connection.in_flight == 0
        await until(lambda: not peer.tasks)
        assert peer.calls[0].context.cancelled
        assert peer.calls[0].done
        assert await connection.call("echo", (1,), CallContext()) == 1


async def test_a_call_that_is_answered_is_not_cancelled() -> None:
    async with connected(echo=echo) as (connection, _, peer):
        task = asyncio.ensure_future(connection.call("echo", (1,), CallContext()))
        await until(lambda: bool(peer.calls) and peer.calls[0].done)
        task.cancel()
        await asyncio.wait([task])
        await connection.call("echo", (2,), CallContext())  # whatever was sent before has arrived by now
        assert not peer.calls[0].context.cancelled


async def test_an_answer_to_a_call_that_was_given_up_is_ignored() -> None:
    async def stubborn(call: IncomingCall) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        call.reply(np.ones(2**18))
        await call.send(1)

    async with connected(stubborn=stubborn, echo=echo) as (connection, answering, peer):
        task = asyncio.ensure_future(connection.call("stubborn", (), CallContext()))
        await until(lambda: len(peer.calls) == 1)
        task.cancel()
        await until(lambda: not peer.tasks)
        assert await connection.call("echo", (1,), CallContext()) == 1
        assert not lent(answering)


async def test_a_deadline_ends_the_call_at_both_ends() -> None:
    async with connected(forever=forever) as (connection, _, peer):
        for seconds in ever_longer(0.05):
            with pytest.raises(
                DeadlineExceeded, match=r"forever: no answer from the peer within the [\d.]+ s that it had"
            ):
                await connection.call("forever", (), CallContext(), soon(seconds))
            if connection.traffic.calls:  # and not late before it was sent
                break
        await until(lambda: peer.calls and not peer.tasks)
        assert peer.calls[0].context.cancelled
        assert connection.in_flight == 0


async def test_a_deadline_that_has_passed_sends_nothing() -> None:
    async with connected(echo=echo) as (connection, _, peer):
        with pytest.raises(DeadlineExceeded):
            await connection.call("echo", (1,), CallContext(), time.monotonic() - 1)
        await connection.call("echo", (2,), CallContext())
        assert len(peer.calls) == 1


async def test_a_result_just_before_the_deadline_wins() -> None:
    async with connected(echo=echo) as (connection, _, _peer):
        task = asyncio.ensure_future(connection.call("echo", (1,), CallContext(), soon(5)))
        assert await task == 1


# -- streams


async def count(call: IncomingCall, upto: int) -> None:
    for i in range(upto):
        await call.send(i)
    call.end()


async def test_a_stream_item_by_item() -> None:
    async with connected(count=count) as (connection, _, _peer):
        assert [i async for i in connection.stream("count", (200,), CallContext())] == list(range(200))
        assert [i async for i in connection.stream("count", (0,), CallContext())] == []
        assert connection.in_flight == 0


async def test_many_streams_at_once() -> None:
    async with connected(count=count) as (connection, _, _peer):

        async def items(n: int) -> list[int]:
            return [i async for i in connection.stream("count", (n,), CallContext())]

        assert await asyncio.gather(*(items(n) for n in range(64))) == [list(range(n)) for n in range(64)]


async def test_a_slow_consumer_bounds_the_producer() -> None:
    sent = 0

    async def produce(call: IncomingCall) -> None:
        nonlocal sent
        while True:
            await call.send(sent)
            sent += 1

    async with connected(produce=produce, echo=echo) as (connection, _, peer):
        items = connection.stream("produce", (), CallContext())
        assert await anext(items) == 0
        await until(lambda: sent == WINDOW)
        await connection.call("echo", (1,), CallContext())
        await turns(100)
        assert sent == WINDOW  # it waits
        for i in range(1, WINDOW):
            assert await anext(items) == i
        await until(lambda: sent > WINDOW)
        assert sent <= 2 * WINDOW
        await items.aclose()
        await until(lambda: not peer.tasks)


async def test_an_error_in_mid_stream_comes_after_the_items_before_it() -> None:
    async def three(call: IncomingCall) -> None:
        for i in range(3):
            await call.send(i)
        raise ValueError("no fourth")

    async with connected(three=three) as (connection, _, _peer):
        # The error is here long before the items are consumed.
        seen, error = await read(connection.stream("three", (), CallContext()), lambda: turns(20))
        assert seen == [0, 1, 2]
        assert repr(error) == "ValueError('no fourth')"
        assert connection.in_flight == 0


async def test_closing_a_stream_cancels_its_producer() -> None:
    async def drip(call: IncomingCall) -> None:
        await call.send("first")
        await asyncio.Event().wait()

    async with connected(drip=drip) as (connection, _, peer):
        async with contextlib.aclosing(connection.stream("drip", (), CallContext())) as items:
            assert await anext(items) == "first"
        await until(lambda: not peer.tasks)
        assert peer.calls[0].context.cancelled
        assert connection.in_flight == 0


async def test_cancelling_who_waits_for_an_item_cancels_the_producer() -> None:
    async with connected(forever=forever) as (connection, _, peer):

        async def consume() -> None:
            async for _ in connection.stream("forever", (), CallContext()):
                pass

        task = asyncio.ensure_future(consume())
        await until(lambda: len(peer.calls) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: not peer.tasks)
        assert peer.calls[0].context.cancelled


async def test_a_producer_that_waits_for_room_is_told_that_nobody_will_read() -> None:
    ended: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    class Patient:
        """Does not end its task when the call is cancelled: only `send` tells it."""

        def on_call(self, call: IncomingCall) -> None:
            self.task = asyncio.ensure_future(self.produce(call))

        def on_note(self, topic: str, value: Any) -> None: ...

        async def produce(self, call: IncomingCall) -> None:
            try:
                while True:
                    await call.send(0)
            except CallCancelled as error:
                ended.set_result(error)

    async with connected(Patient()) as (connection, _, _peer):
        items = connection.stream("produce", (), CallContext())
        await anext(items)
        await turns(WINDOW)
        await items.aclose()
        assert "the consumer of the stream has gone" in str(await asyncio.wait_for(ended, PATIENCE))


async def test_a_complete_stream_may_be_read_after_its_deadline() -> None:
    async with connected(count=count) as (connection, _, peer):
        for seconds in ever_longer():
            deadline = soon(seconds)
            items = connection.stream("count", (5,), CallContext(), deadline)
            with contextlib.suppress(DeadlineExceeded):
                seen = [await anext(items)]
                await until(lambda: not peer.tasks)
                await turns()
                if time.monotonic() < deadline:
                    break
        passed = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.call_at(loop.time() + deadline - time.monotonic() + 0.05, passed.set)
        await passed.wait()
        seen += [i async for i in items]
        assert seen == [0, 1, 2, 3, 4]


async def test_a_deadline_in_mid_stream() -> None:
    async def drip(call: IncomingCall) -> None:
        await call.send("first")
        await asyncio.Event().wait()

    async with connected(drip=drip) as (connection, _, peer):
        for seconds in ever_longer():
            seen, error = await read(connection.stream("drip", (), CallContext(), soon(seconds)))
            assert isinstance(error, DeadlineExceeded)
            if seen:
                break
        assert seen == ["first"]
        await until(lambda: not peer.tasks)


async def test_an_item_that_cannot_be_read_ends_the_stream_there_and_its_producer() -> None:
    async def mixed(call: IncomingCall) -> None:
        await call.send(1)
        await call.send(Unreadable())
        while True:
            await call.send(2)

    async with connected(mixed=mixed) as (connection, _, peer):
        seen, error = await read(connection.stream("mixed", (), CallContext()), lambda: turns(50))
        assert seen == [1]  # and no item from after the one that is lost
        assert isinstance(error, CallError)
        assert "cannot be read here" in str(error)
        await until(lambda: not peer.tasks)
        assert peer.calls[0].context.cancelled


async def test_items_are_not_kept_by_the_stream() -> None:
    async def arrays(call: IncomingCall) -> None:
        await call.send(np.ones(2**18))
        await asyncio.Event().wait()

    async with connected(arrays=arrays) as (connection, answering, _peer):
        items = connection.stream("arrays", (), CallContext())
        item = await anext(items)
        assert item.sum() == 2**18
        del item
        waiting = asyncio.ensure_future(anext(items))
        await until(lambda: not lent(answering))
        waiting.cancel()
        await asyncio.wait([waiting])
        await items.aclose()


# -- the other end goes away


async def test_a_peer_that_closes_ends_calls_and_streams() -> None:
    async with connected(forever=forever) as (connection, answering, peer):
        call = asyncio.ensure_future(connection.call("forever", (), CallContext()))
        stream = asyncio.ensure_future(anext(connection.stream("forever", (), CallContext())))
        await until(lambda: len(peer.calls) == 2)
        answering.close()
        with pytest.raises(ReplicaDied, match="the peer went away while it worked on this call"):
            await call
        with pytest.raises(ReplicaDied, match="the peer went away in the middle of a stream"):
            await stream
        with pytest.raises(ConnectionClosed):
            await connection.call("forever", (), CallContext())
        with pytest.raises(ConnectionClosed):
            await anext(connection.stream("forever", (), CallContext()))
        assert connection.in_flight == 0


async def test_items_that_arrived_before_the_end_are_read() -> None:
    async def drip(call: IncomingCall) -> None:
        for i in range(3):
            await call.send(i)
        await asyncio.Event().wait()

    async with connected(drip=drip) as (connection, answering, _peer):
        items = connection.stream("drip", (), CallContext())
        assert await anext(items) == 0
        answering.close()
        await until(lambda: connection.closed)
        seen, error = await read(items)
        assert seen == [1, 2]
        assert isinstance(error, ReplicaDied)


async def test_a_caller_that_closes_cancels_what_it_called_for() -> None:
    async with connected(forever=forever) as (connection, _, peer):
        call = asyncio.ensure_future(connection.call("forever", (), CallContext()))
        await until(lambda: len(peer.calls) == 1)
        connection.close()
        with pytest.raises(ReplicaDied, match="closed at this end"):
            await call
        await until(lambda: not peer.tasks)
        assert peer.calls[0].context.cancelled


async def test_a_call_after_close_was_never_sent() -> None:
    async with connected(echo=echo) as (connection, _, peer):
        connection.close()
        with pytest.raises(ConnectionClosed):  # and not ReplicaDied: it may be sent elsewhere
            await connection.call("echo", (1,), CallContext())
        assert not peer.calls


async def test_answers_that_were_sent_before_close_arrive() -> None:
    class LastWords(Peer):
        def on_call(self, call: IncomingCall) -> None:
            call.reply("x" * 3_000_000)
            answering.close()

    async with connected(LastWords()) as (connection, answering, _peer):
        assert len(await connection.call("last", (), CallContext())) == 3_000_000


async def test_close_when_idle_waits_for_calls_and_streams() -> None:
    gate = asyncio.Event()

    async def gated(call: IncomingCall) -> None:
        await gate.wait()
        call.reply("done")

    async with connected(gated=gated, count=count) as (connection, _, peer):
        call = asyncio.ensure_future(connection.call("gated", (), CallContext()))
        items = connection.stream("count", (40,), CallContext())
        assert await anext(items) == 0
        await until(lambda: len(peer.calls) == 2)
        connection.close_when_idle()
        assert not connection.closed
        gate.set()
        assert await call == "done"
        assert not connection.closed
        assert len([i async for i in items]) == 39
        assert connection.closed


async def test_a_call_that_is_declined() -> None:
    async def decline(call: IncomingCall) -> None:
        call.decline()
        call.reply("too late")
        call.decline()

    async with connected(decline=decline, echo=echo) as (connection, answering, _peer):
        with pytest.raises(Declined, match="the peer goes, and had not begun with the call"):
            await connection.call("decline", (), CallContext())
        with pytest.raises(Declined):
            await anext(connection.stream("decline", (), CallContext()))
        given_up = asyncio.ensure_future(connection.call("decline", (), CallContext()))
        await turns(1)
        given_up.cancel()
        assert await connection.call("echo", (1,), CallContext()) == 1
        assert (connection.in_flight, answering.in_flight) == (0, 0)


async def test_close_when_idle_closes_an_idle_connection_at_once() -> None:
    async with connected(echo=echo) as (connection, answering, _peer):
        connection.close_when_idle()
        assert connection.closed
        await until(lambda: answering.closed)


async def test_on_closed_is_called_once_whoever_closes() -> None:
    for closing in ("ours", "theirs", "garbage"):
        ours, theirs = socket.socketpair()
        closed: list[Connection] = []
        connection = await adopt(ours, "the peer", None, closed.append)
        if closing == "ours":
            connection.close()
        elif closing == "garbage":
            theirs.sendall(b"\xff" * 100)
        else:
            theirs.close()
        await until(lambda: bool(closed))  # noqa: B023
        await turns()
        assert closed == [connection]
        theirs.close()


# -- shared memory and large values


def lent(connection: Connection) -> int:
    """Segments that this end has lent and not got back."""
    return len(connection.encoder._lent)


ARRAY_BYTES = 64 * 2**20


async def test_a_64_mib_array_through_shared_memory() -> None:
    array = np.arange(ARRAY_BYTES // 8, dtype=np.float64)
    async with connected(echo=echo) as (connection, answering, _peer):
        result = await connection.call("echo", (array,), CallContext())
        assert result.shape == array.shape
        assert np.array_equal(result[::4097], array[::4097])
        result[0] = -1  # the receiver's own
        assert array[0] == 0
        del result
        await until(lambda: not lent(connection) and not lent(answering))
        assert segment_pool()._idle  # kept for the next one


async def test_a_64_mib_array_through_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.arange(ARRAY_BYTES // 8, dtype=np.float64)
    async with connected(echo=echo) as (connection, answering, _peer):
        for end in (connection, answering):
            monkeypatch.setattr(end.encoder, "_pool", None)
        result = await connection.call("echo", (array,), CallContext())
        assert np.array_equal(result, array)
        result[0] = -1


async def test_cancelled_calls_give_shared_memory_back() -> None:
    async with connected(forever=forever, echo=echo, drop=lambda call, _: forever(call)) as (connection, _, peer):
        tasks = [asyncio.ensure_future(connection.call("drop", (np.ones(2**17),), CallContext())) for _ in range(8)]
        await until(lambda: len(peer.calls) == 8)
        assert lent(connection) == 8
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await until(lambda: not lent(connection))


async def test_a_value_outlives_its_connection() -> None:
    async with connected(echo=echo) as (connection, _, _peer):
        array = await connection.call("echo", (np.arange(2**18),), CallContext())
    assert int(array[-1]) == 2**18 - 1
    del array
    gc.collect()


async def test_values_may_die_in_any_thread() -> None:
    async with connected(echo=echo) as (connection, answering, _peer):
        kept = [await connection.call("echo", (np.ones(2**17),), CallContext()) for _ in range(4)]
        thread = threading.Thread(target=kept.clear)
        thread.start()
        thread.join()
        await until(lambda: not lent(answering))


def test_values_may_die_after_their_loop() -> None:
    async def fetch() -> Any:
        async with connected(echo=echo) as (connection, _, _peer):
            return await connection.call("echo", (np.ones(2**17),), CallContext())

    array = asyncio.run(fetch())
    del array
    gc.collect()


# -- peers that speak something else


async def raw_peer(handler: Any = None) -> tuple[Connection, socket.socket]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    return await adopt(ours, "the peer", handler), theirs


def frame(kind: int, call_id: int, body: bytes, channel: int = 0) -> bytes:
    return HEADER.pack(len(body), call_id, kind, channel) + body


HELLO = frame(Kind.HELLO, 0, PROTOCOL)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (frame(Kind.HELLO, 0, b"nbcompose/9"), "speaks b'nbcompose/9', not b'nbcompose/2'"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "does not speak nbcompose/2"),
        (frame(Kind.RESULT, 1, b""), "kind 2"),  # before the greeting
        (frame(Kind.CALL, 1, bytes(40)), "kind 1"),
        (HELLO + HELLO, "kind 0"),
        (HELLO + frame(99, 0, b""), "kind 99"),
        (HELLO + frame(Kind.RESULT, 1, b"", channel=3), "channel 3"),
        (HELLO + frame(Kind.CALL, 1, b"short"), "unpack"),
        (HELLO + frame(Kind.RELEASE, 0, b"short"), "iterative unpacking"),
        (HELLO + HEADER.pack(2**32 - 1, 0, 0, 0), "does not speak"),
    ],
)
async def test_a_peer_that_breaks_the_rules_is_hung_up_on(data: bytes, message: str) -> None:
    connection, theirs = await raw_peer(Peer(echo=echo))
    call = asyncio.ensure_future(connection.call("echo", (1,), CallContext()))
    await turns()
    theirs.sendall(data)
    with pytest.raises(ReplicaDied, match=message):
        await call
    assert connection.closed
    theirs.close()


def call_frame(call_id: int, api: bytes = b"echo", arguments: bytes = b"\x80\x05K\x01\x85.") -> bytes:
    head = CALL_HEAD.pack(-1.0, 0.0, 0, 1, 0, 1, len(api), 0)
    return frame(Kind.CALL, call_id, head + api + arguments)


async def test_two_calls_of_one_id_break_the_rules() -> None:
    peer = Peer(forever=forever)
    connection, theirs = await raw_peer(peer)
    theirs.sendall(HELLO + call_frame(1, b"forever", b"\x80\x05).") + call_frame(1, b"forever", b"\x80\x05)."))
    await until(lambda: connection.closed)
    await until(lambda: not peer.tasks)
    theirs.close()


async def test_frames_for_calls_that_nobody_makes_are_ignored() -> None:
    connection, theirs = await raw_peer(Peer(echo=echo))
    for kind in (Kind.RESULT, Kind.ERROR, Kind.ITEM, Kind.END, Kind.CREDIT, Kind.CANCEL):
        theirs.sendall((HELLO if kind == Kind.RESULT else b"") + frame(kind, 77, b"\0\0\0\0"))
    theirs.sendall(frame(Kind.RELEASE, 0, struct.pack("<Q", 5)) + frame(Kind.FORGET, 0, struct.pack("<Q", 5)))
    theirs.sendall(frame(Kind.NOTE, 0, b"\x80garbage") + call_frame(1))
    received = bytearray()
    async with asyncio.timeout(PATIENCE):
        while b"\x80" not in received:
            received += await asyncio.get_running_loop().sock_recv(theirs, 4096)
    assert not connection.closed
    connection.close()
    theirs.close()


async def test_the_end_of_a_stream_for_a_call_with_one_result_breaks_the_rules() -> None:
    connection, theirs = await raw_peer(Peer())
    theirs.sendall(HELLO)
    call = asyncio.ensure_future(connection.call("echo", (1,), CallContext()))
    await until(lambda: connection.in_flight == 1)
    theirs.sendall(frame(Kind.END, 1, b""))
    with pytest.raises(protocol.ProtocolError, match="the end of a stream for a call"):
        await asyncio.wait_for(call, PATIENCE)
    await until(lambda: connection.closed)
    assert connection.in_flight == 0
    theirs.close()


@settings(max_examples=150)
@given(
    data=st.lists(
        st.one_of(
            st.binary(max_size=64),
            st.builds(frame, st.integers(0, 12), st.integers(0, 3), st.binary(max_size=64)),
            st.builds(
                call_frame, st.integers(0, 3), st.sampled_from([b"echo", b"count", b"\xff"]), st.binary(max_size=20)
            ),
            st.builds(lambda n: frame(Kind.CREDIT, n, struct.pack("<I", 2**31)), st.integers(0, 3)),
        ),
        max_size=6,
    ),
    greet=st.booleans(),
)
def test_whatever_arrives_the_process_goes_on(data: list[bytes], greet: bool) -> None:
    async def main() -> None:
        peer = Peer(echo=echo, count=count)
        connection, theirs = await raw_peer(peer)
        call = asyncio.ensure_future(connection.call("echo", (1,), CallContext(), soon(5)))
        await turns()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in [HELLO, *data] if greet else data:
                theirs.sendall(piece)
                await turns(2)
        theirs.close()  # the end of it all
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(Exception):
                await call
        await until(lambda: connection.closed and not peer.tasks)
        assert connection.in_flight == 0

    asyncio.run(main())


async def test_a_connection_leaves_no_files_open() -> None:
    def open_files() -> int:
        gc.collect()
        return len(os.listdir("/dev/fd"))

    async with connected(echo=echo) as (connection, _, _peer):
        await connection.call("echo", (1,), CallContext())
    before = open_files()
    for _ in range(10):
        async with connected(echo=echo) as (connection, _, _peer):
            await connection.call("echo", (1,), CallContext())
    assert open_files() == before


def test_a_socket_whose_peer_has_gone_leaves_no_number_behind() -> None:
    async def run(sock: socket.socket) -> None:
        connection = await adopt(sock, "one that has gone")
        await until(lambda: connection.closed)
        assert sock.fileno() == -1

    for _ in range(3):
        ours, theirs = socket.socketpair()
        theirs.close()
        uvloop.run(run(ours))
