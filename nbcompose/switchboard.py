"""Who is told what when something about a service changes: routes to callers, status to subscribers, spans to the log.

Also hands out the places on the load board. Implements generation.py's `Surroundings`; what a route or a status says is
overview.py's. Used on the registry's loop, but for `subscribe`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

from nbcompose.calling.client import Client, Route
from nbcompose.engine.member import Member
from nbcompose.engine.status import Status
from nbcompose.engine.supervisor import Supervisor
from nbcompose.host import memory
from nbcompose.overview import Overview
from nbcompose.spec import ServiceSpec
from nbcompose.tracing import Span, TraceLog
from nbcompose.wire.board import SLOTS, LoadBoard

Subscriber = Callable[[Status], None]

COLLECT_WAIT = 1.0  # seconds that replicas have to tell of their last calls
LOOK = 1.0  # seconds between looks at whether replicas are stuck
MEMORY_PERIOD = 2.0  # seconds between looks at how much memory replicas use
UNTOLD_MEMORY = 2**30  # bytes of a GPU that a replica is expected to take where its service does not say


class Switchboard:
    """Of the services in `supervisors`, by name. `client` is this process's own."""

    def __init__(
        self, supervisors: Mapping[str, Supervisor], overview: Overview, client: Client, board: LoadBoard
    ) -> None:
        self.traces = TraceLog()
        self._supervisors = supervisors
        self._overview = overview
        self._client = client
        self._board = board
        self._slots = set(range(SLOTS))
        self._routes: dict[str, Route] = {}
        self._shown: dict[str, Status] = {}
        self._subscribers: list[Subscriber] = []
        self._lock = threading.Lock()

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """See `Registry.subscribe`. From any thread."""
        with self._lock:
            self._subscribers.append(subscriber)

        def unsubscribe() -> None:
            with self._lock, contextlib.suppress(ValueError):
                self._subscribers.remove(subscriber)

        return unsubscribe

    async def watch_replicas(self) -> None:
        """Look now and then whether replicas are of use, until cancelled."""
        while True:
            await asyncio.sleep(LOOK)
            if sum(supervisor.look() for supervisor in list(self._supervisors.values())):
                self.changed()

    async def watch_memory(self) -> None:
        """Look now and then how much memory replicas use, until cancelled."""
        while True:
            await asyncio.sleep(MEMORY_PERIOD)
            pids = [m.process.pid for m in self._members() if m.process is not None and m.state == "up"]
            self._overview.memory = await asyncio.to_thread(_usage, pids)
            self.changed()

    # -- what supervisors need (`Surroundings`)

    def changed(self) -> None:
        """Work out every route again, push those that are new, and tell subscribers. Cheap: there are few services."""
        for name in [n for n in self._routes if n not in self._supervisors]:
            gone = self._routes.pop(name)
            self._push(Route(name, gone.apis, gone.timeout, reason="it was stopped", gone=True))
            if last := self._shown.pop(name, None):
                self._tell(replace(last, state="stopped", reason="it was stopped"))
        for name, supervisor in self._supervisors.items():
            route = self._overview.route(supervisor)
            if route != self._routes.get(name):
                self._routes[name] = route
                self._push(route)
        for supervisor in list(self._supervisors.values()):
            status = self._overview.status(supervisor)
            if status != self._shown.get(status.name):
                self._shown[status.name] = status
                self._tell(status)

    def routes_for(self, spec: ServiceSpec) -> tuple[Route, ...]:
        return tuple(self._routes[n] for n in dict.fromkeys([spec.name, *_below(spec)]) if n in self._routes)

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
                    wanted = member.launch.spec.resources.memory or UNTOLD_MEMORY
                    promised[int(index)] = promised.get(int(index), 0) + wanted
        return promised

    # -- telling

    async def collect(self) -> None:
        """Have the replicas tell now of the calls that have ended; one that does not answer is not waited for long."""
        replicas = [m for m in self._members() if m.state == "up"]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(COLLECT_WAIT):
                await asyncio.gather(*(m.ask("report") for m in replicas), return_exceptions=True)

    def _members(self) -> list[Member]:
        return [m for s in self._supervisors.values() for g in s.everything() for m in g.members.values()]

    def _push(self, route: Route) -> None:
        """To this process, to the service's own replicas, and to those that depend on it."""
        self._client.update(route)
        for member in self._members():
            spec = member.launch.spec
            if route.service == spec.name or route.service in _below(spec):
                member.tell(route)

    def _tell(self, status: Status) -> None:
        with self._lock:
            subscribers = list(self._subscribers)
        for subscriber in subscribers:
            try:
                subscriber(status)
            except Exception as error:  # its own affair: it must not end the supervision of a service
                context = {"message": f"{subscriber!r} failed on a change of {status.name}", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)


def _below(spec: ServiceSpec) -> list[str]:
    return [d.service for d in spec.dependencies if d.url is None]


def _usage(pids: list[int]) -> dict[int, int]:
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError, ValueError):
            found[pid] = memory.usage(pid)
    return found
