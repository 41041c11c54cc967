"""Every service of this process, by name: what runs, what it depends on, who is told when that changes.

The registry lives on the process's background loop. Its public methods may be called from any thread; they wait for
the loop, and an interrupt (■) ends the waiting, not the services.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
import threading
from collections.abc import Callable, Mapping
from typing import TypeVar

from nbcompose import graph, memory
from nbcompose.client import Client, Route
from nbcompose.engine.base import Engine
from nbcompose.engine.deployment import Deployment
from nbcompose.engine.local import LocalEngine
from nbcompose.engine.member import Member
from nbcompose.engine.status import ReplicaStatus, ServiceState, Status, totals
from nbcompose.engine.supervisor import GRACE, Supervisor
from nbcompose.errors import UnknownService
from nbcompose.owner import forbid_in_replica
from nbcompose.portal import background
from nbcompose.proxy import Proxy, WireCaller
from nbcompose.runtimes import RuntimeServer
from nbcompose.spec import ServiceSpec
from nbcompose.tracing import Span, TraceLog
from nbcompose.wire.board import SLOTS, LoadBoard

T = TypeVar("T")
Subscriber = Callable[[Status], None]

MEMORY_PERIOD = 2.0  # seconds between looks at how much memory replicas use


class Registry:
    """The services of this process. `start` it before use; `stop` ends them all."""

    def __init__(self, engine: Engine | None = None) -> None:
        forbid_in_replica()
        self._board = LoadBoard.create()
        self._engine: Engine = engine if engine is not None else LocalEngine(self._board)
        self._portal = background()
        self._client = Client(self._board)
        self._supervisors: dict[str, Supervisor] = {}
        self._routes: dict[str, Route] = {}
        self._shown: dict[str, Status] = {}
        self._memory: dict[int, int] = {}
        self._subscribers: list[Subscriber] = []
        self._lock = threading.Lock()
        self._slots = set(range(SLOTS))
        self._watching: asyncio.Task[None] | None = None
        self._owner = os.getpid()
        self.traces = TraceLog()
        self._runtime = RuntimeServer({"ps": self._answer_ps, "logs": self._answer_logs, "stop": self._answer_stop})

    # -- from any thread

    def start(self) -> None:
        """Begin to warm the engine up; returns at once."""
        self._portal.run(self._start())

    def stop(self, grace: float = 2.0) -> None:
        """End all services and the engine. A forked child of this process must not, and does not."""
        if os.getpid() == self._owner:
            self._portal.run(self._stop(grace), timeout=grace + 10)

    def deploy(self, deployment: Deployment) -> None:
        """Start a service, or replace the one of that name; returns before it is ready (see `wait`).

        Raises `CycleError` and `PortInUse`.
        """
        self._portal.run(self._deploy(deployment))

    def wait(self, name: str) -> Status:
        """Wait until the service is ready, or has failed, or waits for one that does not exist; interruptible."""
        return self._portal.run(self.settle(name))

    def names(self) -> list[str]:
        return list(self._supervisors)

    def status(self, name: str) -> Status:
        """Raises `UnknownService`."""
        return self._portal.run(self._on_loop(lambda: self._status(self._supervisor(name))))

    def statuses(self) -> list[Status]:
        """All services, those that others depend on first."""
        return self._portal.run(self._on_loop(self.snapshot))

    def deployment(self, name: str) -> Deployment | None:
        """What was asked for last under that name, whether or not it came up; None for an unknown name."""
        supervisor = self._supervisors.get(name)
        return supervisor.deployment if supervisor is not None else None

    def remove(self, name: str, grace: float = GRACE) -> None:
        """Stop a service and forget it. Raises `UnknownService`."""
        self._portal.run(self.remove_async(name, grace))

    def abandon(self, name: str) -> None:
        """Give up the version of a service that is starting: the one before serves on, a first one is forgotten.

        Raises `UnknownService`.
        """
        self._portal.run(self._abandon(name))

    def restart(self, name: str) -> None:
        """Replace all replicas by new ones of the same code; returns before they are ready."""
        self._portal.run(self._on_loop(lambda: self._supervisor(name).start(self._supervisor(name).deployment)))

    def scale(self, name: str, replicas: int) -> None:
        """Have that many replicas; waits until they are there. Raises `LaunchError`."""
        if not isinstance(replicas, int) or replicas < 1:
            raise ValueError(f"replicas={replicas!r} is a whole number from 1; `stop` ends a service")
        self._portal.run(self._scale(name, replicas))

    def logs(self, name: str, lines: int = 100) -> list[str]:
        """The last lines that the service's replicas wrote."""
        return self._portal.run(self._on_loop(lambda: self.log_lines(name, lines)))

    def proxy(self, name: str) -> Proxy:
        """The service as something to call. Raises `UnknownService`."""
        self._supervisor(name)
        return Proxy(WireCaller(name, self._client, self._portal))

    def url(self, name: str) -> str:
        """Where the service answers over HTTP; "" where it does not."""
        supervisor = self._supervisor(name)
        host = supervisor.spec.http.host
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{supervisor.port}" if supervisor.port is not None else ""

    def token(self, name: str) -> str | None:
        return self._supervisor(name).deployment.token

    def warming(self) -> str:
        """What a new replica would have to wait for now, or ""."""
        return self._engine.warming()

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call `subscriber` with the new status whenever a service changes, on the registry's loop: it must return at
        once, print nothing, and call no method of the registry. Returns what ends the subscription.
        """
        with self._lock:
            self._subscribers.append(subscriber)

        def unsubscribe() -> None:
            with self._lock, contextlib.suppress(ValueError):
                self._subscribers.remove(subscriber)

        return unsubscribe

    # -- on the loop

    async def settle(self, name: str) -> Status:
        """See `wait`."""
        changes: asyncio.Queue[Status] = asyncio.Queue()
        unsubscribe = self.subscribe(changes.put_nowait)
        try:
            while True:
                status = self._status(self._supervisor(name))
                if not self._supervisor(name).busy_starting and (status.settled or self._missing_below(name)):
                    return status
                await changes.get()
        finally:
            unsubscribe()

    def snapshot(self) -> list[Status]:
        specs = [s.spec for s in self._supervisors.values()]
        known = [n for n in graph.order(graph.edges(specs)) if n in self._supervisors]
        return [self._status(self._supervisors[n]) for n in known]

    def log_lines(self, name: str, lines: int) -> list[str]:
        supervisor = self._supervisor(name)
        many = supervisor.wanted > 1
        last = itertools.islice(reversed(supervisor.log), lines)
        return [f"[{index}] {line}" if many else line for index, line in last][::-1]

    async def remove_async(self, name: str, grace: float = GRACE) -> None:
        supervisor = self._supervisor(name)
        await supervisor.stop(grace)
        self._supervisors.pop(name, None)
        self._shown.pop(name, None)
        self.changed()

    async def _start(self) -> None:
        await self._engine.start()
        await self._runtime.start()
        self._watching = asyncio.ensure_future(self._watch_memory())

    async def _stop(self, grace: float) -> None:
        if self._watching is not None:
            self._watching.cancel()
        # Those that nobody depends on first: what they have in hand may need the others.
        for name in reversed(graph.order(graph.edges(s.spec for s in self._supervisors.values()))):
            if name in self._supervisors:
                await self._supervisors[name].stop(grace)
        self._supervisors.clear()
        self._client.close()
        await self._runtime.stop()
        await self._engine.stop()

    async def _deploy(self, deployment: Deployment) -> None:
        name = deployment.spec.name
        others = [s.deployment.spec for n, s in self._supervisors.items() if n != name]
        graph.check_acyclic([*others, deployment.spec])
        supervisor = self._supervisors.get(name)
        if supervisor is None:
            supervisor = self._supervisors[name] = Supervisor(deployment, self._engine, self)
        supervisor.start(deployment)
        self.changed()

    async def _abandon(self, name: str) -> None:
        if self._supervisor(name).generation is None:
            await self.remove_async(name, 0)
        else:
            await self._supervisor(name).abandon()

    async def _scale(self, name: str, replicas: int) -> None:
        await self._supervisor(name).scale(replicas)

    async def _on_loop(self, function: Callable[[], T]) -> T:
        return function()

    def _supervisor(self, name: str) -> Supervisor:
        supervisor = self._supervisors.get(name)
        if supervisor is None:
            known = ", ".join(self._supervisors) or "none runs"
            raise UnknownService(f"no service is called {name!r}; there are: {known}")
        return supervisor

    # -- what other processes of this user may ask (runtimes.py)

    async def _answer_ps(self) -> list[Status]:
        return self.snapshot()

    async def _answer_logs(self, name: str, lines: int) -> list[str]:
        return self.log_lines(name, lines)

    async def _answer_stop(self, name: str) -> None:
        await self.remove_async(name)

    # -- what supervisors need (engine/supervisor.py, `Surroundings`)

    def changed(self) -> None:
        """Work out every route again, push those that are new, and tell subscribers. Cheap: there are few services."""
        for name in [n for n in self._routes if n not in self._supervisors]:
            gone = self._routes.pop(name)
            self._push(Route(name, gone.apis, gone.timeout, reason="it was stopped", gone=True))
        for name, supervisor in self._supervisors.items():
            route = self._route(supervisor)
            if route != self._routes.get(name):
                self._routes[name] = route
                self._push(route)
        for supervisor in list(self._supervisors.values()):
            status = self._status(supervisor)
            if status != self._shown.get(status.name):
                self._shown[status.name] = status
                self._tell(status)

    def routes_for(self, spec: ServiceSpec) -> tuple[Route, ...]:
        names = [spec.name, *(d.service for d in spec.dependencies if d.url is None)]
        return tuple(self._routes[n] for n in names if n in self._routes)

    def spans(self, spans: list[Span]) -> None:
        self.traces.extend(spans)

    def take_slot(self) -> int:
        slot = min(self._slots)
        self._slots.discard(slot)
        self._board[slot] = 0
        return slot

    def free_slot(self, slot: int) -> None:
        self._slots.add(slot)

    def promised(self) -> Mapping[int, int]:
        promised: dict[int, int] = {}
        for member in self._members():
            if member.state == "starting":
                for index in re.findall(r"\d+", member.launch.environment.get("CUDA_VISIBLE_DEVICES", "")):
                    wanted = member.launch.spec.resources.memory or 2**30
                    promised[int(index)] = promised.get(int(index), 0) + wanted
        return promised

    # -- routes and readiness

    def _members(self) -> list[Member]:
        return [m for s in self._supervisors.values() for g in s.generations() for m in g.members.values()]

    def _push(self, route: Route) -> None:
        self._client.update(route)
        for member in self._members():
            spec = member.launch.spec
            if spec.name == route.service or any(
                d.service == route.service and d.url is None for d in spec.dependencies
            ):
                member.tell(route)

    def _route(self, supervisor: Supervisor) -> Route:
        spec = supervisor.spec
        state, reason = self._state(supervisor)
        return Route(
            service=spec.name,
            apis=spec.apis,
            timeout=spec.traffic.timeout,
            replicas=supervisor.routes(),
            ready=state == "ready",
            reason=reason,
            gone=state in ("failed", "stopped"),
        )

    def _state(self, supervisor: Supervisor) -> tuple[ServiceState, str]:
        if supervisor.stopped:
            return "stopped", "it was stopped"
        if not supervisor.routes():
            if supervisor.busy_starting or supervisor.coming is not None:
                return "starting", "it is starting"
            generation = supervisor.generation
            if generation is not None and not generation.failed:
                return "starting", "its replica ended and is being started again"
            error = supervisor.error or (generation.error if generation else "")
            return "failed", f"it failed: {error.strip().splitlines()[0] if error else 'no replica is left'}"
        below = self._not_ready_below(supervisor.spec)
        return ("waiting", f"waiting for {', '.join(below)}") if below else ("ready", "")

    def _not_ready_below(self, spec: ServiceSpec) -> list[str]:
        names = [d.service for d in spec.dependencies if d.url is None]
        return [n for n in dict.fromkeys(names) if n not in self._supervisors or not self._ready(n)]

    def _ready(self, name: str) -> bool:
        return self._state(self._supervisors[name])[0] == "ready"

    def _missing_below(self, name: str) -> list[str]:
        """Services below `name` that do not exist, or have failed: nothing to wait for."""
        edges = graph.edges(s.spec for s in self._supervisors.values())
        return [
            n
            for n in graph.below(edges, name)
            if n not in self._supervisors or self._state(self._supervisors[n])[0] in ("failed", "stopped")
        ]

    # -- status

    def _status(self, supervisor: Supervisor) -> Status:
        state, reason = self._state(supervisor)
        spec = supervisor.spec
        generation = supervisor.generation or supervisor.coming
        members = [m for g in supervisor.generations() for m in g.members.values()]
        calls, errors, p50 = totals(m.stats for m in members if m.stats is not None)
        return Status(
            name=spec.name,
            state=state,
            reason=reason,
            version=generation.number if generation is not None else 0,
            replicas=tuple(self._replica_status(m) for m in members),
            wanted=supervisor.wanted,
            apis=tuple(a.signature for a in spec.apis),
            dependencies=tuple(d.service if d.url is None else d.url for d in spec.dependencies),
            url=self.url(spec.name),
            calls=calls,
            errors=errors,
            p50=p50,
            restarts=generation.restarts if generation is not None else 0,
            error=supervisor.error or (generation.error if generation is not None else ""),
            notes=(*(generation.notes if generation is not None else ()), *self._memory_notes(spec, members)),
        )

    def _replica_status(self, member: Member) -> ReplicaStatus:
        pid = member.process.pid if member.process is not None else None
        phase = self._engine.warming() or member.phase if member.phase == "spawn" else member.phase
        return ReplicaStatus(
            index=member.index,
            pid=pid,
            state=member.state,
            phase=phase,
            progress=member.progress,
            device=member.device,
            cold=member.process.cold if member.process is not None else "",
            in_flight=member.stats.in_flight if member.stats is not None else 0,
            threads_busy=member.stats.threads_busy if member.stats is not None else 0,
            memory=self._memory.get(pid) if pid is not None else None,
        )

    def _memory_notes(self, spec: ServiceSpec, members: list[Member]) -> list[str]:
        wanted = spec.resources.memory
        used = [self._memory.get(m.process.pid, 0) for m in members if m.process is not None]
        if wanted is None or not used or max(used) <= wanted:
            return []
        return [f"a replica uses {memory.human(max(used))}, more than the {memory.human(wanted)} it asks for"]

    async def _watch_memory(self) -> None:
        while True:
            await asyncio.sleep(MEMORY_PERIOD)
            pids = [m.process.pid for m in self._members() if m.process is not None and m.state == "up"]
            self._memory = await asyncio.to_thread(_usage, pids)
            self.changed()

    def _tell(self, status: Status) -> None:
        with self._lock:
            subscribers = list(self._subscribers)
        for subscriber in subscribers:
            subscriber(status)


def _usage(pids: list[int]) -> dict[int, int]:
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError, ValueError):
            found[pid] = memory.usage(pid)
    return found
