"""Routes, the choice of a replica, connections that come and go: a client and real servers on one loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nbcompose._protocol import address
from nbcompose._rpc import client as client_module
from nbcompose._rpc.blocking import Over
from nbcompose._rpc.client import Client, ReplicaRoute, ServiceRoute
from nbcompose._rpc.connection import serve
from nbcompose._rpc.load_table import LoadTable
from nbcompose._rpc.server_calls import IncomingCall
from nbcompose._rpc.stream_arguments import Outlet
from nbcompose._rpc.stream_sources import AsyncSource
from nbcompose._spec import ApiSpec
from nbcompose._tracing.spans import CallContext
from nbcompose.errors import DeadlineExceeded, ReplicaDied, ServiceUnavailable
from tests.patience import PATIENCE, ever_longer, until

APIS = tuple(ApiSpec(name, name, f"/{name}", ()) for name in ("who", "hold", "count"))
APIS += (ApiSpec("read", "read", "/read", (), idempotent=True),)


class Replica:
    """Answers on a socket of its own: `who` it is, `hold` until it is let go, `count` items, `read` some then."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.address = address.fresh("nbcompose.test")
        self.calls: list[IncomingCall] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.go = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await serve(address.listen(self.address), "a caller", self)

    @property
    def route(self) -> ReplicaRoute:
        return ReplicaRoute(self.index, self.address, self.index)

    def on_call(self, call: IncomingCall) -> None:
        self.calls.append(call)
        task = asyncio.ensure_future(self._answer(call))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        call.context.on_cancel(task.cancel)

    def on_note(self, topic: str, value: Any) -> None: ...

    async def _answer(self, call: IncomingCall) -> None:
        if call.api in ("hold", "read"):
            await self.go.wait()
        if call.api == "count":
            for i in range(call.arguments[0][0]):
                await call.send(i)
            call.end()
        elif call.api == "read":
            found = []
            with contextlib.suppress(Over):
                while True:
                    found.append(await call.arguments[0][0].next())
            call.reply(found)
        else:
            call.reply(self.index)

    def die(self) -> None:
        """As a process does: nobody listens any more, and every connection is cut."""
        assert self._server is not None
        self._server.close()
        for call in self.calls:
            call._line.close()


@contextlib.asynccontextmanager
async def running(*replicas: Replica) -> AsyncIterator[Client]:
    for replica in replicas:
        await replica.start()
    client = Client()
    yield client
    client.close()
    for replica in replicas:
        replica.die()
        for task in list(replica.tasks):
            task.cancel()
    await turns()


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def route(*replicas: Replica, timeout: float = 60.0, **more: Any) -> ServiceRoute:
    return ServiceRoute("Answer", APIS, timeout, tuple(r.route for r in replicas), ready=True, **more)


def call(client: Client, api: str = "who", context: CallContext | None = None) -> asyncio.Future[Any]:
    return asyncio.ensure_future(client.call("Answer", api, ((), {}), context or CallContext()))


# -- routes


async def test_a_call_goes_to_the_replica_of_the_route() -> None:
    replica = Replica(3)
    async with running(replica) as client:
        client.update(route(replica))
        assert await call(client) == 3
        assert client.routes.get("Answer") == route(replica)
        assert client.routes.get("Other") is None


async def test_a_call_waits_for_a_service_that_does_not_exist_yet() -> None:
    replica = Replica(1)
    async with running(replica) as client:
        calls = [call(client) for _ in range(3)]
        await turns()
        assert not any(c.done() for c in calls)
        client.update(route())  # it is starting
        await turns()
        assert not any(c.done() for c in calls)
        client.update(route(replica))
        assert await asyncio.gather(*calls) == [1, 1, 1]


async def test_what_a_call_has_waited_is_sent_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    replica = Replica(1)
    async with running(replica) as client:
        client.update(route(replica))
        assert await call(client) == 1
        assert replica.calls[-1].context.waited == 0.0  # the time to connect is not what is meant
        monkeypatch.setattr(client_module, "WAIT_NOTED", 0.0)
        assert await call(client) == 1
        assert replica.calls[-1].context.waited == 0.0
        client.update(route())
        first = call(client)
        items = asyncio.ensure_future(anext(client.stream("Answer", "count", ((1,), {}), CallContext())))
        began = time.monotonic()
        await turns()
        client.update(route(replica))
        assert [await first, await items] == [1, 0]
        for made in replica.calls[-2:]:
            assert 0.0 < made.context.waited <= time.monotonic() - began + 1


@pytest.mark.parametrize("turn", range(4))
async def test_a_route_that_comes_while_a_call_begins_to_wait_is_not_missed(turn: int) -> None:
    replica = Replica(1)
    loop = asyncio.get_running_loop()

    def update_after(turns: int, *routes: ServiceRoute) -> None:
        if turns:
            loop.call_soon(update_after, turns - 1, *routes)
        else:
            client.update(*routes)

    async with running(replica) as client:
        client.update(route())
        update_after(turn, route(replica))
        assert await client.call("Answer", "who", ((), {}), CallContext(time.monotonic() + PATIENCE / 2)) == 1
        client.remove("Answer")
        update_after(turn, route(replica))
        assert await client.known_apis("Answer", CallContext(time.monotonic() + PATIENCE / 2)) == APIS


async def test_a_service_that_does_not_come_in_time() -> None:
    async with running() as client:
        with pytest.raises(ServiceUnavailable, match="Answer was not ready in time: no service of that name"):
            await call(client, context=CallContext(time.monotonic() + 0.05))
        client.update(route(timeout=0.05, reason="it is starting"))
        with pytest.raises(ServiceUnavailable, match="Answer was not ready in time: it is starting"):
            await call(client)


async def test_a_service_that_is_gone_fails_calls_at_once_those_that_wait_too() -> None:
    async with running() as client:
        waiting = call(client)
        await turns()
        client.update(route(reason="it was stopped", gone=True))
        with pytest.raises(ServiceUnavailable, match="Answer does not run: it was stopped"):
            await waiting
        with pytest.raises(ServiceUnavailable, match="it was stopped"):
            await call(client)


async def test_a_new_route_takes_over_and_the_old_replica_finishes() -> None:
    old, new = Replica(1), Replica(2)
    async with running(old, new) as client:
        client.update(route(old))
        held = call(client, "hold")
        await until(lambda: len(old.calls) == 1)
        client.update(route(new))
        assert await call(client) == 2
        connection = old.calls[0]._line
        assert not connection.closed
        old.go.set()
        assert await held == 1
        await until(lambda: connection.closed)


async def test_an_idle_connection_to_a_replica_that_left_is_closed() -> None:
    old, new = Replica(1), Replica(2)
    async with running(old, new) as client:
        client.update(route(old))
        await call(client)
        client.update(route(new))
        await until(lambda: old.calls[0]._line.closed)
        client.update(route(old))  # it may come back
        assert await call(client) == 1


async def test_a_replica_that_leaves_while_it_is_connected_to_is_not_kept() -> None:
    old, new = Replica(1), Replica(2)
    async with running(old, new) as client:
        client.update(route(old))
        calling = call(client)
        await asyncio.sleep(0)  # it is connecting
        client.update(route(new))
        assert await calling == 2
        assert not old.calls
        assert list(client._connections) == [new.address]


async def test_a_removed_service() -> None:
    replica = Replica(1)
    async with running(replica) as client:
        client.update(route(replica))
        await call(client)
        client.remove("Answer")
        client.remove("Answer")
        assert client.routes.get("Answer") is None
        await until(lambda: replica.calls[0]._line.closed)


async def test_apis_become_known() -> None:
    async with running() as client:
        asking = asyncio.ensure_future(client.known_apis("Answer", CallContext()))
        await turns()
        assert not asking.done()
        client.update(route())
        assert await asking == APIS
        with pytest.raises(ServiceUnavailable, match="not ready in time"):
            await client.known_apis("Other", CallContext(time.monotonic() + 0.05))


# -- deadlines


async def test_the_service_s_timeout_limits_a_call() -> None:
    replica = Replica(1)
    async with running(replica) as client:
        for seconds in ever_longer():
            client.update(route(replica, timeout=seconds))
            with pytest.raises(DeadlineExceeded):
                await call(client, "hold")
            if replica.calls:
                break
        await until(lambda: replica.calls[0].context.cancelled)


async def test_the_service_s_timeout_holds_for_a_call_that_waited_for_it() -> None:
    replica = Replica(1)
    async with running(replica) as client:
        calling = call(client, "hold")
        await turns()
        client.update(route(replica, timeout=0.05))
        with pytest.raises(DeadlineExceeded):
            await asyncio.wait_for(calling, PATIENCE)


async def test_the_caller_s_deadline_is_within_the_service_s() -> None:
    replica = Replica(1)
    async with running(replica) as client:
        client.update(route(replica, timeout=1000))
        for seconds in ever_longer():
            with pytest.raises(DeadlineExceeded):
                await call(client, "hold", CallContext(time.monotonic() + seconds))
            if replica.calls:
                break
        before = len(replica.calls)
        with pytest.raises(DeadlineExceeded, match="the caller's time was up before the call was sent"):
            await call(client, context=CallContext(time.monotonic() - 1))
        assert len(replica.calls) == before


# -- replicas that die


async def test_a_dead_replica_is_passed_over() -> None:
    dead, alive = Replica(1), Replica(2)
    async with running(dead, alive) as client:
        dead.die()
        client.update(route(dead, alive))
        assert [await call(client) for _ in range(20)] == [2] * 20


async def test_when_all_are_dead_a_call_waits_for_new_ones() -> None:
    dead, new = Replica(1), Replica(2)
    async with running(dead, new) as client:
        dead.die()
        client.update(route(dead))
        calling = call(client)
        await turns(50)
        assert not calling.done()
        client.update(route(new))
        assert await calling == 2


async def test_a_call_under_way_is_not_sent_again() -> None:
    first, second = Replica(1), Replica(2)
    async with running(first, second) as client:
        client.update(route(first))
        held = call(client, "hold")
        await until(lambda: len(first.calls) == 1)
        client.update(route(first, second))
        first.die()
        with pytest.raises(ReplicaDied, match="Answer, replica 1 "):
            await held
        assert not second.calls
        assert await call(client) == 2


async def test_a_client_that_is_closed_fails_what_it_waits_for() -> None:
    replica = Replica(1)
    async with running(replica) as client:
        client.update(route(replica))
        held = call(client, "hold")
        await until(lambda: len(replica.calls) == 1)
        client.close()
        with pytest.raises(ReplicaDied, match="closed at this end"):
            await held


async def test_a_caller_that_gives_up_while_connecting_leaves_nothing_behind() -> None:
    replica = Replica(1)
    async with running(replica) as client:
        client.update(route(replica))
        calling = call(client)
        await asyncio.sleep(0)
        calling.cancel()
        await asyncio.wait([calling])
        await until(lambda: not client._connecting)
        assert await call(client) == 1
        assert len(client._connections) == 1
        assert len(replica.calls) == 1


async def test_many_first_calls_share_one_connection() -> None:
    replica = Replica(1)
    async with running(replica) as client:
        client.update(route(replica))
        assert await asyncio.gather(*(call(client) for _ in range(64))) == [1] * 64
        assert len({id(c._line) for c in replica.calls}) == 1


async def test_files_are_given_back() -> None:
    def open_files() -> int:
        gc.collect()
        return len(os.listdir("/dev/fd"))

    before = None
    for _ in range(4):
        replica = Replica(1)
        async with running(replica) as client:
            client.update(route(replica))
            await call(client)
        await turns(20)
        before = open_files() if before is None else before
    assert open_files() == before


# -- the choice


async def test_the_less_busy_of_two_is_chosen_by_the_load_that_all_callers_make() -> None:
    busy, idle = Replica(0), Replica(1)
    board = LoadTable.create()
    async with running(busy, idle):
        client = Client(board)
        client.update(route(busy, idle))
        board.loads[0] = 5
        assert {await call(client) for _ in range(20)} == {1}
        board.loads[0], board.loads[1] = 0, 5
        assert {await call(client) for _ in range(20)} == {0}
        client.close()
    board.close()


async def test_what_this_caller_has_sent_counts_before_the_board_shows_it() -> None:
    replicas = [Replica(0), Replica(1)]
    async with running(*replicas) as client:
        client.update(route(*replicas))
        held = [call(client, "hold") for _ in range(2)]
        await until(lambda: sum(len(r.calls) for r in replicas) == 2)
        held += [call(client, "hold") for _ in range(30)]
        await until(lambda: sum(len(r.calls) for r in replicas) == 32)
        assert [len(r.calls) for r in replicas] == [16, 16]
        for replica in replicas:
            replica.go.set()
        await asyncio.gather(*held)


async def test_calls_that_wait_for_connections_are_spread_too() -> None:
    replicas = [Replica(0), Replica(1)]
    async with running(*replicas) as client:
        client.update(route(*replicas))
        await asyncio.gather(*(call(client) for _ in range(40)))
        assert [len(r.calls) for r in replicas] == [20, 20]


async def test_a_client_that_is_closed_while_it_connects() -> None:
    replica = Replica(1)
    async with running(replica) as client:
        client.update(route(replica))
        calling = call(client)
        await asyncio.sleep(0)
        assert client._connecting
        client.close()
        await asyncio.wait([calling])
        await turns()
        assert not client._connections
        assert not replica.calls


async def test_of_many_replicas_the_busiest_is_never_chosen() -> None:
    replicas = [Replica(i) for i in range(4)]
    board = LoadTable.create()
    async with running(*replicas):
        client = Client(board)
        client.update(route(*replicas))
        board.loads[2] = 100
        seen = Counter([await call(client) for _ in range(100)])
        client.close()
        assert set(seen) == {0, 1, 3}
    board.close()


# -- streams


async def items(client: Client, n: int) -> list[int]:
    return [i async for i in client.stream("Answer", "count", ((n,), {}), CallContext())]


async def test_streams_wait_are_chosen_and_retried_as_calls_are() -> None:
    dead, alive = Replica(1), Replica(2)
    async with running(dead, alive) as client:
        dead.die()
        reading = asyncio.ensure_future(items(client, 3))
        await turns()
        client.update(route(dead, alive))
        assert await reading == [0, 1, 2]
        assert await items(client, 0) == []
        assert len(alive.calls) == 2


async def test_a_stream_that_is_left_early_is_cancelled() -> None:
    replica = Replica(1)
    async with running(replica) as client:
        client.update(route(replica))
        stream = client.stream("Answer", "count", ((10_000,), {}), CallContext())
        assert await anext(stream) == 0
        await stream.aclose()
        await until(lambda: replica.calls[0].context.cancelled)


async def test_a_stream_whose_replica_dies_is_not_begun_again() -> None:
    first, second = Replica(1), Replica(2)
    async with running(first, second) as client:
        client.update(route(first))
        stream = client.stream("Answer", "count", ((10_000,), {}), CallContext())
        assert await anext(stream) == 0
        client.update(route(first, second))
        first.die()
        with pytest.raises(ReplicaDied):
            async for _ in stream:
                pass
        assert not second.calls


async def test_an_address_that_is_no_socket_of_ours() -> None:
    """Somebody else may have taken a number; a name that nobody can guess is only ever ours or nobody's."""
    where = address.fresh("nbcompose.test")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind("\0" + where[1:] if where.startswith("@") else where)
    listening.listen()
    client = Client()
    client.update(ServiceRoute("Answer", APIS, 5.0, (ReplicaRoute(0, where, 0),), ready=True))
    calling = call(client)
    await turns()
    connection, _ = listening.accept()
    connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
    with pytest.raises(ReplicaDied, match="does not speak nbcompose/2"):
        await calling
    connection.close()
    listening.close()
    client.close()


# -- what has gone through


async def test_traffic_counts_calls_streams_and_bytes_also_of_replicas_that_have_gone() -> None:
    first, second = Replica(1), Replica(2)
    async with running(first, second) as client:
        assert client.traffic() == {}
        client.update(route(first))
        await call(client)
        holding = call(client, "hold")
        stream = client.stream("Answer", "count", ((10_000,), {}), CallContext())
        assert await anext(stream) == 0
        now = client.traffic()["Answer"]
        assert (now.calls, now.in_flight, now.streaming) == (3, 2, 1)
        assert now.sent > 100
        assert now.received > 100
        await stream.aclose()
        first.go.set()
        await holding
        client.update(route(second))
        await until(lambda: len(client._services) == 0)
        gone = client.traffic()["Answer"]
        assert (gone.calls, gone.in_flight, gone.streaming) == (3, 0, 0)
        await call(client)
        after = client.traffic()["Answer"]
        assert after.calls == 4
        assert after.sent > gone.sent >= now.sent


async def test_traffic_counts_what_goes_through_shared_memory() -> None:
    replica = Replica(1)
    async with running(replica) as client:
        client.update(route(replica))
        await client.call("Answer", "who", ((np.zeros(2**18),), {}), CallContext())
        assert client.traffic()["Answer"].sent > 2**21


# -- streams among the arguments


def letters_of(closed: list[bool]) -> Outlet:
    async def letters() -> AsyncIterator[str]:
        try:
            for letter in "abc":
                yield letter
        finally:
            closed.append(True)

    return Outlet(AsyncSource(letters()))


@pytest.mark.parametrize("end", ["declines", "dies"])
async def test_a_stream_that_nobody_has_read_goes_with_its_call_to_another_replica(end: str) -> None:
    first, second = Replica(1), Replica(2)
    async with running(first, second) as client:
        client.update(route(first))
        reading = asyncio.ensure_future(client.call("Answer", "read", ((letters_of([]),), {}), CallContext()))
        await until(lambda: len(first.calls) == 1)
        second.go.set()
        client.update(route(second))
        first.calls[0].decline() if end == "declines" else first.die()
        assert await reading == ["a", "b", "c"]


async def test_one_of_a_call_that_is_given_up_is_closed() -> None:
    closed: list[bool] = []
    stream = letters_of(closed)
    assert await stream.source.next() == "a"  # its code has begun
    async with running() as client:
        client.update(replace(route(), gone=True, reason="it was removed"))
        with pytest.raises(ServiceUnavailable):
            await client.call("Answer", "read", ((stream,), {}), CallContext())
        await until(lambda: closed == [True])
