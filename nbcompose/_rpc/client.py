"""Client side of calls to services: routes, load balancing over replicas, connections, retries.

Each process has one client, on its event loop. User code calls services through `_rpc/proxy.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from nbcompose._rpc.client_calls import ConnectionClosed, Declined, Settled
from nbcompose._rpc.connection import Connection, ConnectionCounts, open_connection
from nbcompose._rpc.load_table import HELD, LoadTable
from nbcompose._rpc.stream_arguments import StreamReference, leave_unread
from nbcompose._rpc.unsendable import named
from nbcompose._spec import ApiSpec
from nbcompose._tracing import CallContext, clock
from nbcompose.errors import DeadlineExceeded, InvalidArgument, NbcomposeError, ReplicaDied, ServiceUnavailable

# Its own: what the notebook draws from `random` is the same whether it calls services or not.
_random = random.Random()
DECLINED_WAIT = 0.01  # seconds: a replica that declines calls is about to be removed from the route
WAIT_NOTED = 0.01  # seconds that a call waits before it is sent: from here on they are in its trace
RESENDS = 2  # retries of an idempotent call: a call that kills its replica must not kill one after the other


@dataclass(frozen=True, slots=True)
class PostMortem:
    """How a replica has ended, in words, and the last lines of its output."""

    end: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReplicaRoute:
    """Address of one replica, and its slot in the load table."""

    index: int
    address: str
    slot: int


@dataclass(frozen=True, slots=True)
class ServiceRoute:
    """What a caller knows about a service. `reason`: why it cannot answer now, "" when it can.

    `gone`: it is stopped or failed and will not come back by itself, so calls fail at once instead of waiting. `held`:
    it, or a service below it, is at a breakpoint: the deadlines of those who may wait for it stand still.
    """

    service: str
    apis: tuple[ApiSpec, ...]
    timeout: float
    replicas: tuple[ReplicaRoute, ...] = ()
    ready: bool = False
    reason: str = ""
    gone: bool = False
    held: bool = False

    def api(self, name: str) -> ApiSpec | None:
        return next((a for a in self.apis if a.name == name), None)


class Client:
    """Calls the services of a graph on behalf of this process. Used on one event loop only.

    `post_mortem` finds out how the replica at an address has ended; None where that cannot be known.
    """

    def __init__(self, board: LoadTable | None = None) -> None:
        self._board = board
        self.post_mortem: Callable[[str], Awaitable[PostMortem | None]] | None = None
        self.routes: dict[str, ServiceRoute] = {}  # by service; `update` and `remove` change it
        self._changed: dict[str, asyncio.Event] = {}
        self._connections: dict[str, Connection] = {}
        self._connecting: dict[str, asyncio.Task[Connection]] = {}
        self._waiting: Counter[str] = Counter()  # calls that wait for a connection, by address
        self._services: dict[Connection, str] = {}
        self._past: dict[str, ConnectionCounts] = {}  # totals of closed connections, by service

    # -- routes

    def update(self, route: ServiceRoute) -> None:
        """Set a service's current route and wake the calls that wait for it."""
        old = self.routes.get(route.service)
        self.routes[route.service] = route
        event = self._changed.pop(route.service, None)
        if event is not None:
            event.set()
        if route.held or (old is not None and old.held):
            self._note_held()
        if old is not None:
            for address in {r.address for r in old.replicas} - {r.address for r in route.replicas}:
                self._leave(address)

    def _note_held(self) -> None:
        """Stop this process's clock of deadlines while one of the services is held."""
        any_held = any(route.held for route in self.routes.values())
        (clock.hold if any_held else clock.release)(f"client {id(self)}")

    def remove(self, service: str) -> None:
        route = self.routes.pop(service, None)
        self._note_held()
        for replica in route.replicas if route else ():
            self._leave(replica.address)

    async def changed(self, service: str) -> None:
        """Wait for the next change of a service's route."""
        await self._changed.setdefault(service, asyncio.Event()).wait()

    def traffic(self) -> dict[str, ConnectionCounts]:
        """Return the counts of the calls that this process has made, by service."""
        found = dict(self._past)
        for connection, service in self._services.items():
            found[service] = found.get(service, ConnectionCounts()).plus(connection.traffic)
        return found

    def learn(self, route: ServiceRoute) -> None:
        """Take what another process knows of a service, where this one knows nothing yet."""
        if route.service not in self.routes:
            self.update(route)

    def reference(
        self, service: str, api: str, args: tuple[Any, ...], kwargs: dict[str, Any], context: CallContext
    ) -> StreamReference:
        """Return the call of an api that yields, for another process of the graph to make."""
        route = self.routes.get(service)
        known = None if route is None else replace(route, apis=())
        return StreamReference(service, api, args, kwargs, context.remaining(), known)

    # -- calls

    async def call(
        self,
        service: str,
        api: str,
        arguments: Any,
        context: CallContext,
        *,
        from_below: bool = True,
        since: float | None = None,
    ) -> Any:
        """Call `api` of some replica of `service` with `arguments` = (args, kwargs), or (the signature for which they
        have been validated, arguments by name).

        `from_below`: whether errors are marked as internal (`NbcomposeError.internal`). `since`: when it was first
        tried, by `time.monotonic()`; None: this is the first time.

        A call is retried when it never left this process, or when its replica is leaving and had not started it; if
        the api is idempotent, also when the replica died. Raises `ServiceUnavailable`, `DeadlineExceeded`,
        `ReplicaDied`, or what the api raised.
        """
        try:
            deadline = self._deadline(service, context)
            resends = RESENDS
            began, waited = (time.monotonic(), 0.0) if since is None else (since, _seconds_since(since))
            while True:
                connection = self._idle_choice(service)
                if connection is None:
                    connection = await self._connect(service, deadline)
                    deadline = self._deadline(service, context) if deadline is None else deadline
                    waited = _seconds_since(began)
                try:
                    return await connection.call(api, arguments, context, deadline, waited)
                except ConnectionClosed as error:
                    await _while_routes_change(error)
                    waited = _seconds_since(began)
                except NbcomposeError as error:
                    if not (resends and self.may_resend(service, api, error)):
                        await self.explain(error)
                        error = self._named(error, service, api, arguments)
                        raise error.from_below() if from_below else error  # noqa: B904  it is the same error
                    resends -= 1
                    waited = _seconds_since(began)
        except BaseException:
            leave_unread(arguments)
            raise

    def _named(self, error: NbcomposeError, service: str, api: str, arguments: Any) -> NbcomposeError:
        """Return the error of a call that could not be sent with the parameter's name in it."""
        route = self.routes.get(service)
        return named(error, service, None if route is None else route.api(api), arguments)

    async def explain(self, error: BaseException) -> None:
        """Say in the error of a call whose replica died how that ended. Where others see the message, they do not see
        what the replica wrote: that is in a note.
        """
        address = error.__dict__.pop("address", "") if isinstance(error, ReplicaDied) else ""
        if not address or self.post_mortem is None:
            return
        with contextlib.suppress(Exception):  # the error itself matters more
            found = await self.post_mortem(address)
            if found is not None:
                error.args = (f"{error}: {found.end}",)
                if found.lines:
                    error.add_note("\n  ".join(["It wrote last:", *found.lines]))

    def may_resend(self, service: str, api: str, error: BaseException) -> bool:
        """Whether a call that failed with `error` may be retried: its own replica died, and the api is idempotent."""
        if not isinstance(error, ReplicaDied) or error.__cause__ is not None or error.spent:  # one further down died
            return False
        route = self.routes.get(service)
        spec = route.api(api) if route is not None else None
        return spec is not None and spec.idempotent

    def begin(
        self, service: str, api: str, arguments: Any, context: CallContext, result: Settled
    ) -> Callable[[], object] | None:
        """As `call`, for a thread that waits for `result`. Returns a function that cancels the call.

        Returns None if no connection is open: `call` must be used, which waits for one. `result` may be set to
        `ConnectionClosed`: then the call was never sent, or it was declined.
        """
        connection = self._idle_choice(service)
        if connection is None:
            return None
        deadline = self._deadline(service, context)
        try:
            call_id = connection.begin(api, arguments, context, deadline, result)
        except InvalidArgument as error:
            raise self._named(error, service, api, arguments)  # noqa: B904  it is this one, with a name in it
        return lambda: connection.abandon(call_id)

    async def stream(
        self,
        service: str,
        api: str,
        arguments: Any,
        context: CallContext,
        *,
        from_below: bool = True,
        resumable: bool = False,
    ) -> AsyncGenerator[Any, None]:
        """As `call`, for an api that yields. `resumable`: see `Outgoing.stream`; where none has been yielded, not even
        `Interrupted`, the call has not been sent.
        """
        try:
            deadline = self._deadline(service, context)
            resends = RESENDS
            began, waited = time.monotonic(), 0.0
            while True:
                connection = self._idle_choice(service)
                if connection is None:
                    connection = await self._connect(service, deadline)
                    deadline = self._deadline(service, context) if deadline is None else deadline
                    waited = _seconds_since(began)
                answer = connection.stream(api, arguments, context, deadline, waited, resumable=resumable)
                try:
                    async with contextlib.aclosing(answer) as items:
                        async for item in items:
                            resends = 0  # a stream whose first item was delivered cannot be restarted
                            yield item
                    return
                except ConnectionClosed as error:  # only before the first item
                    await _while_routes_change(error)
                    waited = _seconds_since(began)
                except NbcomposeError as error:
                    if not (resends and self.may_resend(service, api, error)):
                        await self.explain(error)
                        error = self._named(error, service, api, arguments)
                        raise error.from_below() if from_below else error  # noqa: B904  it is the same error
                    resends -= 1
                    waited = _seconds_since(began)
        except BaseException:
            leave_unread(arguments)
            raise

    async def known_apis(self, service: str, context: CallContext) -> tuple[ApiSpec, ...]:
        """Return the apis of `service`; wait until they are known.

        Raises `ServiceUnavailable` when the deadline of `context` passes first.
        """
        while (route := self.routes.get(service)) is None or not route.apis:
            await self._wait(service, context.deadline)
        return route.apis

    async def replica(self, replica: ReplicaRoute, name: str) -> Connection:
        """Return a connection to this replica. Raises `ConnectionError` when it is gone or no longer on a route."""
        connection = self._connections.get(replica.address)
        if connection is not None and not connection.closed:
            return connection
        task = self._connecting.get(replica.address)
        if task is None:
            # An empty context: a connection outlives the call that opens it.
            opening = self._open(replica.address, name)
            task = asyncio.get_running_loop().create_task(opening, context=contextvars.Context())
            self._connecting[replica.address] = task
            task.add_done_callback(lambda _: self._connecting.pop(replica.address, None))
        return await asyncio.shield(task)

    async def _open(self, address: str, name: str) -> Connection:
        connection = await open_connection(address, name, None, self._lost)
        service = next((r.service for r in self.routes.values() if address in (a.address for a in r.replicas)), None)
        if service is None:
            connection.close()  # the replica has left its route in the meantime
            raise ConnectionRefusedError(f"{name} takes no more calls")
        connection.address = address
        self._services[connection] = service
        self._connections[address] = connection
        return connection

    def close(self) -> None:
        """Close every connection; calls under way fail."""
        clock.release(f"client {id(self)}")
        for task in self._connecting.values():
            task.cancel()
        for connection in list(self._connections.values()):
            connection.close()
        self._connections.clear()

    # -- choosing a replica

    def load(self, replica: ReplicaRoute) -> int:
        """Return the load of `replica`: its entry in the load table, but at least this process's calls to it."""
        connection = self._connections.get(replica.address)
        own = connection.in_flight if connection is not None else self._waiting[replica.address]
        return max(own, self._board.loads[replica.slot]) if self._board is not None else own

    def _idle_choice(self, service: str) -> Connection | None:
        """Return a connection to the less loaded of two random replicas if one is open (the usual case), else None."""
        route = self.routes.get(service)
        if route is None or not route.replicas:
            return None
        replicas = route.replicas
        replica = replicas[0] if len(replicas) == 1 else self._choose(replicas)
        connection = self._connections.get(replica.address)
        return connection if connection is not None and not connection.closed else None

    def _choose(self, replicas: tuple[ReplicaRoute, ...]) -> ReplicaRoute:
        if len(replicas) == 1:
            return replicas[0]
        a, b = _random.sample(replicas, 2)
        load_a, load_b = self.load(a), self.load(b)
        if load_a >= HELD <= load_b:  # neither has a free worker thread: look at all replicas
            return min(replicas, key=self.load)
        return a if load_a <= load_b else b

    async def _connect(self, service: str, deadline: float | None) -> Connection:
        dead: set[str] = set()
        while True:
            route = self.routes.get(service)
            if route is not None and route.gone:
                raise ServiceUnavailable(f"{service} does not run: {route.reason}")
            alive = tuple(r for r in route.replicas if r.address not in dead) if route else ()
            if not alive:
                await self._wait(service, deadline)
                dead.clear()
                continue
            replica = self._choose(alive)
            self._waiting[replica.address] += 1
            try:
                return await self.replica(replica, f"{service}, replica {replica.index}")
            except ConnectionError:
                dead.add(replica.address)  # the supervisor will soon remove it from the route
            finally:
                self._waiting[replica.address] -= 1
                if not self._waiting[replica.address]:
                    del self._waiting[replica.address]

    async def _wait(self, service: str, deadline: float | None) -> None:
        left, behind = None if deadline is None else max(0.0, deadline - clock.monotonic()), clock.behind
        try:
            # Not `wait_for`: before Python 3.12 it makes a task, and misses a route that comes before that begins.
            async with asyncio.timeout(left):
                await self.changed(service)
        except TimeoutError:
            if clock.stands():
                await asyncio.sleep(clock.LOOK_AGAIN)
            if clock.stands() or clock.behind != behind:
                return
            route = self.routes.get(service)
            reason = route.reason if route and route.reason else "no service of that name has been started"
            raise ServiceUnavailable(f"{service} was not ready in time: {reason}") from None

    def _deadline(self, service: str, context: CallContext) -> float | None:
        route = self.routes.get(service)
        deadline = context.limited(route.timeout if route is not None else None)
        if deadline is not None and deadline <= clock.monotonic():
            raise DeadlineExceeded(f"{service}: the caller's time was up before the call was sent")
        return deadline

    def _leave(self, address: str) -> None:
        """Close the connection to a replica that is no longer on the route, once its calls are done."""
        connection = self._connections.pop(address, None)
        if connection is not None:
            connection.close_when_idle()

    def _lost(self, connection: Connection) -> None:
        service = self._services.pop(connection, None)
        if service is not None:
            ended = connection.traffic._replace(in_flight=0, streaming=0)
            self._past[service] = self._past.get(service, ConnectionCounts()).plus(ended)
        for address, known in list(self._connections.items()):
            if known is connection:
                del self._connections[address]


def _seconds_since(began: float) -> float:
    """Return for how long a call has waited before it is sent; 0.0 for what a connection takes to open."""
    seconds = time.monotonic() - began
    return seconds if seconds >= WAIT_NOTED else 0.0


async def _while_routes_change(error: ConnectionClosed) -> None:
    await asyncio.sleep(DECLINED_WAIT if isinstance(error, Declined) else 0)
