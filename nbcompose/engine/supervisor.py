"""Keeps one service running: its replicas, their restarts, its versions, its HTTP port.

All of it runs on one event loop. Names, dependencies and routes between services are registry.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol

from nbcompose import devices, memory
from nbcompose.client import ReplicaRoute, Route
from nbcompose.engine.base import Engine
from nbcompose.engine.deployment import Deployment
from nbcompose.engine.member import Member
from nbcompose.engine.ports import bind
from nbcompose.errors import LaunchError
from nbcompose.spec import ServiceSpec
from nbcompose.tracing import Span

BACKOFF = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # seconds before a crashed replica starts again
STEADY = 60.0  # seconds; a replica that lived so long starts again at once
GRACE = 10.0  # seconds that calls in flight have when a replica is asked to stop
LOG_LINES = 10_000


class Surroundings(Protocol):
    """What a supervisor needs of the registry."""

    def changed(self) -> None:
        """Something about a service is not as it was."""
        ...

    def routes_for(self, spec: ServiceSpec) -> tuple[Route, ...]:
        """The present routes of the service itself and of what it depends on."""
        ...

    def spans(self, spans: list[Span]) -> None: ...

    def take_slot(self) -> int:
        """A free slot of the load board."""
        ...

    def free_slot(self, slot: int) -> None: ...

    def promised(self) -> Mapping[int, int]:
        """Bytes of each GPU's memory that replicas which are starting will take."""
        ...


class Generation:
    """The replicas of one version of a service."""

    def __init__(self, supervisor: Supervisor, deployment: Deployment, number: int) -> None:
        self.deployment = deployment
        self.number = number
        self.members: dict[int, Member] = {}
        self.restarts = 0
        self.error = ""
        self.failed = False
        self.notes: list[str] = []
        self._supervisor = supervisor
        self._keepers: dict[int, asyncio.Task[None]] = {}
        self._stopping = False

    @property
    def spec(self) -> ServiceSpec:
        return self.deployment.spec

    def routes(self) -> list[ReplicaRoute]:
        return [m.route for m in self.members.values() if m.state == "up"]

    async def start(self, count: int) -> None:
        """Start `count` replicas at once. Raises the first `LaunchError`, after the others have been ended."""
        shortage = memory.check(self.spec)
        if shortage:
            self.notes.append(shortage)
        try:
            async with asyncio.TaskGroup() as group:
                for index in range(count):
                    group.create_task(self._first_start(index))
        except BaseExceptionGroup as group_error:
            await self.stop(0)
            raise _first(group_error) from None
        except BaseException:
            await self.stop(0)
            raise

    async def resize(self, count: int) -> None:
        """Start or stop replicas until there are `count`."""
        have = sorted(self.members)
        await asyncio.gather(
            *(self._first_start(i) for i in range(count) if i not in self.members),
            *(self._retire(i) for i in have if i >= count),
        )

    async def stop(self, grace: float) -> None:
        self._stopping = True
        for keeper in self._keepers.values():
            keeper.cancel()
        await asyncio.gather(*(m.stop(grace) for m in self.members.values()))
        for index in list(self.members):
            self._forget(index)

    async def _retire(self, index: int) -> None:
        self._keepers.pop(index).cancel()
        if index in self.members:
            await self.members[index].stop(GRACE)
            self._forget(index)

    def _forget(self, index: int) -> None:
        member = self.members.pop(index, None)
        if member is not None:
            self._supervisor.surroundings.free_slot(member.launch.slot)

    async def _first_start(self, index: int) -> None:
        await self._start(index)
        self._keepers[index] = asyncio.ensure_future(self._keep(index))

    async def _start(self, index: int) -> None:
        around = self._supervisor.surroundings
        placement = devices.place(self.spec, devices.discover(), around.promised())
        if placement.note and placement.note not in self.notes:
            self.notes.append(placement.note)
        launch = self.deployment.launch(index, around.take_slot(), placement, around.routes_for(self.spec))
        member = Member(launch, self._supervisor.log, around.changed, around.spans)
        self.members[index] = member
        around.changed()
        try:
            await member.start(self._supervisor.engine, self._supervisor.listening)
        except BaseException:
            self._forget(index)
            raise

    async def _keep(self, index: int) -> None:
        """Start replica `index` again whenever it ends, with back-off."""
        loop = asyncio.get_running_loop()
        crashes = 0
        while True:
            began = loop.time()
            member = self.members[index]
            await member.ended()
            self._forget(index)
            crashes = 0 if loop.time() - began > STEADY else crashes
            self.error = member.crash_text()
            self.restarts += 1
            self._supervisor.surroundings.changed()
            while True:
                await asyncio.sleep(BACKOFF[min(crashes, len(BACKOFF) - 1)])
                crashes += 1
                try:
                    await self._start(index)
                    break
                except LaunchError as error:
                    self.error = str(error)
                    if crashes >= len(BACKOFF):
                        self.failed = not self.routes()
                        self._supervisor.surroundings.changed()
                        return


class Supervisor:
    """One service, through all its versions."""

    def __init__(self, deployment: Deployment, engine: Engine, surroundings: Surroundings) -> None:
        self.engine = engine
        self.surroundings = surroundings
        self.deployment = deployment
        self.wanted = deployment.spec.replicas
        self.log: deque[tuple[int, str]] = deque(maxlen=LOG_LINES)
        self.listening: socket.socket | None = bind(deployment.spec) if deployment.exposed else None
        self.generation: Generation | None = None  # the one that serves
        self.coming: Generation | None = None  # the one that starts
        self.stopped = False
        self.error = ""
        self._versions = 0
        self._work: asyncio.Task[None] | None = None
        self._draining: set[asyncio.Task[None]] = set()

    @property
    def spec(self) -> ServiceSpec:
        return (self.generation or self.coming or self).deployment.spec

    @property
    def port(self) -> int | None:
        """The HTTP port; None for a service that answers none, or has stopped."""
        return int(self.listening.getsockname()[1]) if self.listening is not None else None

    @property
    def busy_starting(self) -> bool:
        return self._work is not None and not self._work.done()

    def generations(self) -> list[Generation]:
        return [g for g in (self.generation, self.coming) if g is not None]

    def routes(self) -> tuple[ReplicaRoute, ...]:
        return tuple(self.generation.routes()) if self.generation is not None else ()

    def start(self, deployment: Deployment) -> None:
        """Bring `deployment` up in the background: the first version, or one that replaces the version that serves.

        A version that was still starting is given up.
        """
        self._rebind(deployment)
        previous, self._work = self._work, None
        self.deployment = deployment
        self.wanted = deployment.spec.replicas
        self.stopped = False
        self.error = ""
        self._work = asyncio.ensure_future(self._start(deployment, previous))

    async def settled(self) -> None:
        """Wait until what was started has come up or failed."""
        if self._work is not None:
            await asyncio.wait([self._work])

    async def scale(self, count: int) -> None:
        """Have `count` replicas. Raises `LaunchError`."""
        self.wanted = count
        if self.generation is not None:
            await self.generation.resize(count)
        self.surroundings.changed()

    async def abandon(self) -> None:
        """Give up the version that is starting; the one before serves on."""
        await self._give_up(self._work)
        if self.generation is not None:
            self.deployment = self.generation.deployment
            self.wanted = len(self.generation.members) or self.deployment.spec.replicas
        self.surroundings.changed()

    async def stop(self, grace: float = GRACE) -> None:
        """Stop all replicas and give the port back."""
        self.stopped = True
        await self._give_up(self._work)
        self.surroundings.changed()
        await asyncio.gather(*(g.stop(grace) for g in self.generations()), *self._draining)
        self.generation = self.coming = None
        self._close_port()
        self.surroundings.changed()

    def _close_port(self) -> None:
        if self.listening is not None:
            self.listening.close()
            self.listening = None

    def _rebind(self, deployment: Deployment) -> None:
        """Keep the port over versions, unless another one is asked for."""
        old, new = self.deployment.spec.http, deployment.spec.http
        if not deployment.exposed:
            self._close_port()
        elif self.listening is None or ((old.host, old.port) != (new.host, new.port) and new.port != self.port):
            fresh = bind(deployment.spec)
            self._close_port()
            self.listening = fresh

    async def _start(self, deployment: Deployment, previous: asyncio.Task[None] | None) -> None:
        await self._give_up(previous)
        self._versions += 1
        coming = self.coming = Generation(self, deployment, self._versions)
        self.surroundings.changed()
        try:
            await coming.start(self.wanted)
        except LaunchError as error:
            self.error = str(error)
            self.coming = None
        except asyncio.CancelledError:
            self.coming = None
            raise
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"
            self.coming = None
            raise
        else:
            old, self.generation, self.coming = self.generation, coming, None
            if old is not None:
                self._drain(old)
        finally:
            self.surroundings.changed()

    def _drain(self, old: Generation) -> None:
        """Stop the version before, once nobody is sent to it any more."""
        task = asyncio.ensure_future(old.stop(GRACE))
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    async def _give_up(self, work: asyncio.Task[None] | None) -> None:
        if work is not None and not work.done():
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await work


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that made a group fail, for people who wait for one."""
    errors: Sequence[BaseException] = group.exceptions
    found = errors[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
