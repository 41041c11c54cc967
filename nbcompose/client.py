"""Calls to services, wherever their replicas are: routes, the choice of a replica, connections.

One client serves a process and lives on its event loop. What user code holds in its hands is proxy.py's.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from nbcompose.errors import DeadlineExceeded, ServiceUnavailable
from nbcompose.spec import ApiSpec
from nbcompose.tracing import CallContext
from nbcompose.wire.board import LoadBoard
from nbcompose.wire.call import Connection, ConnectionClosed, open_connection

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ReplicaRoute:
    """Where one replica answers, and its slot on the load board."""

    index: int
    address: str
    slot: int


@dataclass(frozen=True, slots=True)
class Route:
    """What a caller knows of a service. `reason` says in words why it cannot answer now, "" when it can.

    `gone`: it is not coming back by itself (stopped or failed), so calls fail at once instead of waiting.
    """

    service: str
    apis: tuple[ApiSpec, ...]
    timeout: float
    replicas: tuple[ReplicaRoute, ...] = ()
    ready: bool = False
    reason: str = ""
    gone: bool = False

    def api(self, name: str) -> ApiSpec | None:
        return next((a for a in self.apis if a.name == name), None)


class Client:
    """Every service that this process calls. Used on one event loop only."""

    def __init__(self, board: LoadBoard | None = None) -> None:
        self._board = board
        self._routes: dict[str, Route] = {}
        self._changed: dict[str, asyncio.Event] = {}
        self._connections: dict[str, Connection] = {}
        self._connecting: dict[str, asyncio.Task[Connection]] = {}

    # -- routes

    def update(self, route: Route) -> None:
        """Take in a service's present route; calls that wait for it go on."""
        old = self._routes.get(route.service)
        self._routes[route.service] = route
        event = self._changed.pop(route.service, None)
        if event is not None:
            event.set()
        if old is not None:
            for address in {r.address for r in old.replicas} - {r.address for r in route.replicas}:
                self._leave(address)

    def remove(self, service: str) -> None:
        route = self._routes.pop(service, None)
        for replica in route.replicas if route else ():
            self._leave(replica.address)

    def route(self, service: str) -> Route | None:
        return self._routes.get(service)

    async def changed(self, service: str) -> None:
        """Wait for the next change of a service's route."""
        await self._changed.setdefault(service, asyncio.Event()).wait()

    # -- calls

    async def call(self, service: str, api: str, arguments: Any, context: CallContext) -> Any:
        """Call `api` of some replica of `service` with `arguments` = (args, kwargs).

        A call is sent again only when it never left this process. Raises `ServiceUnavailable`, `DeadlineExceeded`,
        `ReplicaDied`, or what the api raised.
        """
        deadline = self._deadline(service, context)
        while True:
            connection = self._idle_choice(service) or await self._connect(service, context, deadline)
            try:
                return await connection.call(api, arguments, context, deadline)
            except ConnectionClosed:
                await asyncio.sleep(0)

    async def stream(self, service: str, api: str, arguments: Any, context: CallContext) -> AsyncGenerator[Any, None]:
        """As `call`, for an api that yields."""
        deadline = self._deadline(service, context)
        while True:
            connection = self._idle_choice(service) or await self._connect(service, context, deadline)
            items = connection.stream(api, arguments, context, deadline)
            try:
                try:
                    first = await anext(items)
                except ConnectionClosed:
                    continue
                except StopAsyncIteration:
                    return
                yield first
                async for item in items:
                    yield item
                return
            finally:
                await items.aclose()

    async def replica(self, replica: ReplicaRoute, name: str) -> Connection:
        """A connection to this very replica. Raises `ConnectionError` when it has gone."""
        connection = self._connections.get(replica.address)
        if connection is not None and not connection.closed:
            return connection
        task = self._connecting.get(replica.address)
        if task is None:
            task = asyncio.ensure_future(open_connection(replica.address, name, None, self._lost))
            self._connecting[replica.address] = task
            task.add_done_callback(lambda _: self._connecting.pop(replica.address, None))
        connection = self._connections[replica.address] = await asyncio.shield(task)
        return connection

    def close(self) -> None:
        for connection in list(self._connections.values()):
            connection.close()
        self._connections.clear()

    # -- the choice

    def load(self, replica: ReplicaRoute) -> int:
        """Calls that `replica` has in hand: those that it has seen, or at least those that we have sent."""
        connection = self._connections.get(replica.address)
        own = connection.in_flight if connection is not None else 0
        return max(own, self._board[replica.slot]) if self._board is not None else own

    def _idle_choice(self, service: str) -> Connection | None:
        """A connection to the less busy of two random replicas, when there is one already: the usual case."""
        route = self._routes.get(service)
        if route is None or not route.replicas:
            return None
        connection = self._connections.get(self._choose(route.replicas).address)
        return connection if connection is not None and not connection.closed else None

    def _choose(self, replicas: tuple[ReplicaRoute, ...]) -> ReplicaRoute:
        if len(replicas) == 1:
            return replicas[0]
        a, b = random.sample(replicas, 2)
        return a if self.load(a) <= self.load(b) else b

    async def _connect(self, service: str, context: CallContext, deadline: float | None) -> Connection:
        dead: set[str] = set()
        while True:
            route = self._routes.get(service)
            if route is not None and route.gone:
                raise ServiceUnavailable(f"{service} does not run: {route.reason}")
            alive = tuple(r for r in route.replicas if r.address not in dead) if route else ()
            if not alive:
                await self._wait(service, deadline)
                dead.clear()
                continue
            replica = self._choose(alive)
            try:
                return await self.replica(replica, f"{service}, replica {replica.index}")
            except ConnectionError:
                dead.add(replica.address)  # the supervisor will say so too, soon

    async def _wait(self, service: str, deadline: float | None) -> None:
        left = None if deadline is None else deadline - time.monotonic()
        try:
            await asyncio.wait_for(self.changed(service), left)
        except TimeoutError:
            route = self._routes.get(service)
            reason = route.reason if route and route.reason else "no service of that name has been started"
            raise ServiceUnavailable(f"{service} was not ready in time: {reason}") from None

    def _deadline(self, service: str, context: CallContext) -> float | None:
        route = self._routes.get(service)
        deadline = context.limited(route.timeout if route is not None else None)
        if deadline is not None and deadline <= time.monotonic():
            raise DeadlineExceeded(f"{service}: the caller's time was up before the call was sent")
        return deadline

    def _leave(self, address: str) -> None:
        """Drop a replica that is no longer on the route, once what it has in hand is done."""
        connection = self._connections.pop(address, None)
        if connection is not None:
            connection.close_when_idle()

    def _lost(self, connection: Connection) -> None:
        for address, known in list(self._connections.items()):
            if known is connection:
                del self._connections[address]


async def with_cancel(context: CallContext, call: Coroutine[Any, Any, T]) -> T:
    """Await `call`, and cancel it when the api that makes it is cancelled.

    For sync apis: their thread cannot be stopped, but what it waits for can. Async ones are cancelled as tasks.
    """
    task = asyncio.current_task()
    assert task is not None
    context.on_cancel(task.cancel)
    try:
        return await call
    finally:
        context.forget(task.cancel)
