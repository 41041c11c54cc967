"""Generation: the replicas of one version of a service, started together, restarted when they end, stopped together.

Used on one event loop. See `_control/supervisor.py` for which version serves, `_control/replica_handle.py` for one
replica.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from typing import Any, Protocol

from nbcompose._code import Deployment
from nbcompose._control.engines import Engine
from nbcompose._control.logs import Log, Written
from nbcompose._control.ports import port_of
from nbcompose._control.replica_handle import ReplicaHandle
from nbcompose._host import devices, memory
from nbcompose._replica import NO_STATS, ApiSummary, Stats, Swap
from nbcompose._rpc import PostMortem, ReplicaRoute, ServiceRoute
from nbcompose._spec import ServiceSpec
from nbcompose._tracing import Span

BACKOFF = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # seconds before a crashed replica starts again
STEADY = 60.0  # seconds; a replica that lived this long restarts without delay
GRACE = 10.0  # seconds that calls in flight may take when a replica is asked to stop


class SupervisorContext(Protocol):
    """What the replicas of a service need from the registry."""

    recording: bool  # whether replicas keep the arguments and answers of calls

    def changed(self, service: str) -> None:
        """Report that the state of a service has changed."""
        ...

    def routes_for(self, spec: ServiceSpec) -> tuple[ServiceRoute, ...]:
        """Return the present routes of the services that its replicas may call: itself, its dependencies, and all
        where it takes streams, since any service may make them.
        """
        ...

    def spans(self, spans: list[Span]) -> None: ...

    def output(self, service: str, written: Written) -> None:
        """Pass on what a replica writes."""
        ...

    def ended(self, member: ReplicaHandle) -> Mapping[str, ApiSummary]:
        """Note that a replica has ended, and is forgotten. Returns how the calls that it has not reported have ended,
        by api: those that it had then have failed.
        """
        ...

    async def post_mortem(self, address: str) -> PostMortem | None:
        """Return how the replica at an address has ended; None where it is not known."""
        ...

    def out_of_memory(self) -> bool | None:
        """Return whether the system has killed a process in the last moments, because memory had run out; None: not
        known.
        """
        ...

    def take_slot(self) -> int:
        """Reserve a free slot of the load table."""
        ...

    def free_slot(self, slot: int) -> None: ...

    def reserved(self) -> Mapping[str, int]:
        """Return the bytes of each GPU's memory, by its selector, that starting replicas will take."""
        ...


class Generation:
    """The replicas of one version. `listening` is its own handle of the service's HTTP port, closed when it has
    stopped.

    `failed`: no replica is left and none will be started; `error` says why, also while other replicas still run.
    """

    def __init__(
        self,
        deployment: Deployment,
        number: int,
        engine: Engine,
        context: SupervisorContext,
        log: Log,
        listening: socket.socket | None,
    ) -> None:
        self.deployment = deployment
        self.number = number
        self.listening = listening
        self.port = port_of(listening) if listening is not None else None
        self.members: dict[int, ReplicaHandle] = {}
        self.restarts = 0
        self.ended: Stats | None = None  # of replicas that have ended
        self.error = ""
        self.failed = False
        self.notes: list[str] = []
        self.shortage: memory.Shortage | None = None
        self._engine = engine
        self._context = context
        self._log = log
        self._keepers: dict[int, asyncio.Task[None]] = {}
        self._retiring: dict[int, asyncio.Task[None]] = {}
        # tasks that start the replacement of a replica
        self._replacing: dict[int, asyncio.Task[ReplicaHandle | None]] = {}

    @property
    def spec(self) -> ServiceSpec:
        return self.deployment.spec

    @property
    def patience(self) -> float:
        """The grace of a replaced version: its calls may use up the service's own timeout."""
        return max(GRACE, self.spec.traffic.timeout)

    def routes(self) -> list[ReplicaRoute]:
        return [m.route for m in self.members.values() if m.state == "up" and m.halted is None]

    async def start(self, count: int) -> None:
        """Start `count` replicas at once and wait for all. Raises the first `LaunchError`; the caller then stops it."""
        self.shortage = memory.check(self.spec)
        await self.resize(count)

    async def resize(self, count: int) -> None:
        """Start or stop replicas until there are `count`. Raises the first `LaunchError`; replicas that came up stay.

        Cancelling this ends only the waiting.
        """
        coming = [self._launch(i) for i in range(count) if i not in self._keepers]
        going = [self._retire(i) for i in sorted(self._keepers) if i >= count]
        if not coming and not going:
            return
        await asyncio.wait([*coming, *going], return_when=asyncio.FIRST_EXCEPTION)
        errors = [f.exception() for f in coming if f.done() and not f.cancelled()]
        for error in filter(None, errors):
            raise error

    async def swap(self, deployment: Deployment, swap: Swap) -> None:
        """Hot swap: give all replicas new code, or none; replicas that restart later get the new code too.

        Raises `CannotSwap`, or what preparing the new code raised.
        """
        while True:
            behind = [m for m in self.members.values() if m.launch.origin is not deployment.origin]
            starting = [m for m in behind if m.state == "starting"]
            up = [m for m in behind if m.state == "up" and m.halted is None]
            for halted in (m for m in behind if m.halted is not None):
                halted.kill()  # it does not respond, and restarts with the new code
            if starting:
                await asyncio.wait([asyncio.ensure_future(m.settled()) for m in starting])
                continue
            await self._prepare(up, swap)
            # Point of no return: cancelling now would leave replicas on different versions.
            self.deployment = deployment
            await asyncio.shield(asyncio.gather(*(self._commit(m, deployment) for m in up)))
            if not up:
                return

    async def _prepare(self, members: list[ReplicaHandle], swap: Swap) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for member in members:
                    group.create_task(_unless_gone(member.ask("prepare", swap)))
        except BaseException as error:
            for member in members:
                with contextlib.suppress(Exception):
                    await asyncio.shield(member.ask("discard"))
            raise (error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error) from None

    async def _commit(self, member: ReplicaHandle, deployment: Deployment) -> None:
        await _unless_gone(member.ask("commit"))
        member.launch = replace(
            member.launch, spec=replace(deployment.spec, cls=object), origin=deployment.origin, heavy=deployment.heavy
        )
        for route in self._context.routes_for(member.launch.spec):  # the new code may call others
            member.tell(route)

    async def stop(self, grace: float) -> None:
        """Stop all replicas and release the port. It cannot be started again."""
        keepers = [*self._keepers.values(), *self._replacing.values()]
        self._keepers.clear()
        self._replacing.clear()
        for keeper in keepers:
            keeper.cancel()
        stopping = [asyncio.ensure_future(m.stop(grace)) for m in self.members.values() if m.state == "up"]
        try:
            if keepers or stopping:
                await asyncio.wait([*keepers, *stopping])
            for member in list(self.members.values()):
                await member.stop(grace)
                self._forget(member)
        finally:  # whoever waits for it may be cancelled
            self._close_port()

    async def suspend(self, grace: float) -> None:
        """Accept no more calls and keep what is loaded, until `resume` or `stop`. No replica is restarted meanwhile."""
        for keeper in self._keepers.values():
            keeper.cancel()
        self._keepers.clear()
        suspended = [m for m in self.members.values() if m.state == "up"]
        for member in suspended:
            member.state = "suspended"
        await asyncio.gather(*(_unless_gone(m.ask("suspend", grace)) for m in suspended))

    async def resume(self) -> None:
        """Accept calls again. Raises `ConnectionError` where a replica has ended meanwhile."""
        members = list(self.members.values())
        if not members or any(m.state != "suspended" for m in members):
            raise ConnectionResetError("a replica has gone")
        await asyncio.gather(*(m.ask("resume") for m in members))
        for member in members:
            member.state = "up"
            self._keepers[member.index] = asyncio.ensure_future(self._keep_on(member))

    def kill(self) -> None:
        """Kill all processes at once; `stop` waits for their end."""
        for member in self.members.values():
            member.kill()

    def _retire(self, index: int) -> asyncio.Future[None]:
        """Start to stop replica `index` for good."""
        keeper = self._keepers.pop(index)
        keeper.cancel()
        if (replacing := self._replacing.pop(index, None)) is not None:
            replacing.cancel()
        retiring = asyncio.ensure_future(self._end(index, keeper, self._retiring.get(index)))
        self._retiring[index] = retiring
        return retiring

    async def _end(self, index: int, keeper: asyncio.Task[None], earlier: asyncio.Task[None] | None) -> None:
        await asyncio.wait([keeper, *([earlier] if earlier is not None else [])])
        member = self.members.get(index)
        if member is not None:
            await member.stop(GRACE)
            self._forget(member)

    def _changed(self) -> None:
        self._context.changed(self.spec.name)

    def _close_port(self) -> None:
        if self.listening is not None:
            self.listening.close()
            self.listening = None

    # -- one replica over all its restarts

    def _launch(self, index: int) -> asyncio.Future[None]:
        """Start to keep replica `index` running; the future is done when it has come up for the first time."""
        up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        keeper = self._keepers[index] = asyncio.ensure_future(self._keep(index, up))
        keeper.add_done_callback(lambda _: up.cancel())  # also when the task was cancelled before it started
        return up

    async def _keep(self, index: int, up: asyncio.Future[None]) -> None:
        if index in self._retiring:
            await asyncio.wait([self._retiring[index]])  # the previous replica of this index
        try:
            member = await self._start(index)
        except Exception as error:
            self.error = str(error)
            up.set_exception(error)
            up.exception()  # mark it as retrieved: the waiting caller may have left
            self._lost(index)
        else:
            up.set_result(None)
            await self._keep_on(member)

    async def _keep_on(self, member: ReplicaHandle | None) -> None:
        loop = asyncio.get_running_loop()
        attempt = 0
        while member is not None:
            index = member.index
            began = loop.time()
            await member.ended()
            self._forget(member)
            if (successor := await self._successor(index)) is not None:
                member = successor
                continue
            attempt = 0 if loop.time() - began > STEADY else attempt
            self.error = member.crash_text()
            self._log.note(index, f"replica {index} ended ({member.exit_text()}), and is started again")
            self.restarts += 1
            self._changed()
            member, attempt = await self._again(index, attempt)
        self._lost(index)

    def _lost(self, index: int) -> None:
        """Note that this replica is not started again."""
        self._keepers.pop(index, None)
        self.failed = not self._keepers
        if self.failed:
            self._close_port()  # no replica accepts there: a client should get an error instead of waiting
        self._changed()

    async def _again(self, index: int, attempt: int) -> tuple[ReplicaHandle | None, int]:
        """Restart a replica with backoff; returns None for it when too many attempts have failed."""
        while True:
            await asyncio.sleep(BACKOFF[min(attempt, len(BACKOFF) - 1)])
            attempt += 1
            try:
                return await self._start(index), attempt
            except Exception as error:
                self.error = str(error)
                self._changed()
                if attempt >= len(BACKOFF):
                    return None, attempt

    # -- replacement of a running replica

    def is_replaced(self, member: ReplicaHandle) -> bool:
        return member.index in self._replacing or member.index not in self._keepers

    def replace(self, member: ReplicaHandle, why: str, *, stop_first: bool) -> None:
        """Replace a stuck replica. It is stopped when the new one is up; with `stop_first`, before that one starts."""
        self._replacing[member.index] = asyncio.ensure_future(self._replace(member, why, stop_first))

    async def _replace(self, old: ReplicaHandle, why: str, stop_first: bool) -> ReplicaHandle | None:
        """Return the new replica, or None when it could not be started."""
        index = old.index
        try:
            if stop_first:
                await old.stop(GRACE)
                self._forget(old)
            new = await self._start(index, -1 - index)
        except Exception as error:
            self.error = f"{why}, and could not be replaced: {error}"
            self._replacing.pop(index, None)
            self._changed()
            return None
        self.error = f"{why}, and was replaced"
        self._log.note(index, self.error)
        self.restarts += 1
        await old.stop(GRACE)  # its other calls may finish
        self._forget(old)
        self.members[index] = self.members.pop(-1 - index, new)
        self._changed()
        return new

    async def _successor(self, index: int) -> ReplicaHandle | None:
        """Return the replacement of a replica that has ended, or None."""
        replacing = self._replacing.get(index)
        if replacing is None:
            return None
        await asyncio.wait([replacing])
        self._replacing.pop(index, None)
        return replacing.result() if not replacing.cancelled() else None

    async def _start(self, index: int, key: int | None = None) -> ReplicaHandle:
        around, spec = self._context, self.spec
        there = () if devices.is_for_host(spec) else (devices.discover(), around.reserved())
        placement = devices.place(spec, *there)
        if placement.note and placement.note not in self.notes:
            self.notes.append(placement.note)
        launch = replace(self.deployment.launch(index, around.take_slot(), placement), record=around.recording)
        member = ReplicaHandle(launch, self._log, lambda: around.routes_for(spec), self._changed, around)
        self.members[index if key is None else key] = member
        self._changed()
        try:
            await member.start(self._engine, self.listening)
            if launch.record is not around.recording:  # changed meanwhile
                await member.ask("record", around.recording)
        except BaseException:
            self._forget(member)
            raise
        return member

    def _forget(self, member: ReplicaHandle) -> None:
        for key in [k for k, m in self.members.items() if m is member]:
            del self.members[key]
            self.ended = (member.stats or NO_STATS).after(self.ended, self._context.ended(member))
            self._context.free_slot(member.launch.slot)


async def _unless_gone(asking: Coroutine[Any, Any, Any]) -> None:
    """Ignore `ConnectionError`: a replica that ends restarts with the code that is current then."""
    with contextlib.suppress(ConnectionError):
        await asking
