"""Publisher: sends routes to callers, status to subscribers and spans to the trace log when a service changes.

Also hands out the slots of the load table. Implements `SupervisorContext` of `_control/generation.py`. Used on the
registry's loop, except for `subscribe`. See `_control/status.py` for the content of routes and statuses.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from nbcompose import settings
from nbcompose._control.logs import Written, drain
from nbcompose._control.replica_handle import ReplicaHandle
from nbcompose._control.status import Overview, Status
from nbcompose._control.supervisor import Supervisor
from nbcompose._control.usage import Usage
from nbcompose._host import devices, memory
from nbcompose._replica import ApiSummary
from nbcompose._rpc import (
    SLOTS,
    Client,
    LoadTable,
    PostMortem,
    ServiceRoute,
    call_ledger,
)
from nbcompose._service import dependency_graph
from nbcompose._spec import ServiceSpec
from nbcompose._tracing import RecordedCall, Span, TraceLog, exporter
from nbcompose.errors import ReplicaDied

Subscriber = Callable[[Status], None]
OutputListener = Callable[[str, Written], None]

ASK_WAIT = 2.0  # seconds that replicas have to say what they have recorded
COLLECT_WAIT = 1.0  # seconds that replicas have to report their last calls
END_WAIT = 2.0  # seconds for the end of a process that has closed its connections
MOST_ENDED = 16  # replicas that have ended, of which it is known how
MOST_DIED = 1000  # calls that died with their replica, of which it is known how that ended
DRAIN_WAIT = 0.05  # seconds that an answer waits, at most, for what was written before it
LOOK = 1.0  # seconds between checks for stuck replicas
MEMORY_PERIOD = 2.0  # seconds between measurements of replicas' memory
# of a CPU that measuring may take: the system counts the pages of each process, which takes milliseconds
MEMORY_SHARE = 0.005
MEMORY_BURST = 0.1  # seconds of CPU time that may be taken at once
UNTOLD_MEMORY = 2**30  # bytes of a GPU that a replica is expected to take where its service does not say


class Publisher:
    """Publishes changes of the services in `supervisors`, by name. `client` is this process's own."""

    def __init__(
        self, supervisors: Mapping[str, Supervisor], overview: Overview, client: Client, board: LoadTable
    ) -> None:
        self.traces = TraceLog()
        self.usage = Usage()
        self.recording = settings.record_arguments()
        self._exporter = exporter()
        self._supervisors = supervisors
        self._overview = overview
        self._client = client
        self._board = board
        self._slots = set(range(SLOTS))
        self._routes: dict[str, ServiceRoute] = {}
        self._below: dict[str, dict[str, None]] = {}  # dependencies of each service, in order
        self._above: dict[str, dict[str, None]] = {}  # dependents of each service
        self._shown: dict[str, Status] = {}
        self._subscribers: list[Subscriber] = []
        self._ended: deque[ReplicaHandle] = deque(maxlen=MOST_ENDED)
        # Processes that the system had killed for want of memory: at the check before the last one, and at the last.
        self._oom_kills = (memory.oom_kills(),) * 2
        self._died_with: dict[int, str] = {}  # how the replica has ended with which a call died, by its span
        self.output_listener: OutputListener | None = None
        self._lock = threading.Lock()

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """See `Registry.subscribe`. May be called from any thread."""
        with self._lock:
            self._subscribers.append(subscriber)

        def unsubscribe() -> None:
            with self._lock, contextlib.suppress(ValueError):
                self._subscribers.remove(subscriber)

        return unsubscribe

    async def watch_replicas(self) -> None:
        """Check periodically whether replicas are stopped or stuck, until cancelled."""
        while True:
            await asyncio.sleep(LOOK)
            self._oom_kills = (self._oom_kills[1], memory.oom_kills())
            self.changed(*[name for name, supervisor in self._supervisors.items() if supervisor.look()])

    async def watch_memory(self) -> None:
        """Measure periodically how much memory replicas use, least recently measured first, until cancelled."""
        credit = MEMORY_BURST
        known: dict[int, int] = {}  # the most recently measured is last
        while True:
            await asyncio.sleep(MEMORY_PERIOD)
            credit = min(MEMORY_BURST, credit + MEMORY_PERIOD * MEMORY_SHARE)
            members = _members(self._supervisors.values())
            up = {m.pid for m in members if m.pid is not None and m.state == "up"}
            known = {pid: count for pid, count in known.items() if pid in up}
            seen, seconds = await asyncio.to_thread(_usage, [*(up - known.keys()), *known], credit)
            credit -= seconds
            news = {pid for pid, count in seen.items() if known.pop(pid, None) != count}
            known.update(seen)
            self._overview.memory = known
            if any(m.launch.gpus for m in members):
                on_gpus = await asyncio.to_thread(devices.memory_by_process)
                news |= {pid for pid, count in on_gpus.items() if self._overview.gpu_memory.get(pid) != count}
                self._overview.gpu_memory = on_gpus
            self.changed(*dict.fromkeys(m.launch.spec.name for m in members if m.state == "starting" or m.pid in news))

    # -- SupervisorContext

    def changed(self, *services: str) -> None:
        """Recompute routes and statuses of services, and of their dependents where that makes a difference.

        Pushes changed routes, and notifies subscribers. An edge of the graph is followed only when the service at its
        end becomes ready, or held at a breakpoint, or ceases to be.
        """
        todo = deque(services)
        while todo:
            name = todo.popleft()
            supervisor = self._supervisors.get(name)
            before = self._standing(name)
            if supervisor is None:
                self._forget(name)
            else:
                self._look_at(supervisor)
            if before != self._standing(name):
                todo.extend(self._above.get(name, ()))

    def _standing(self, name: str) -> tuple[bool, bool]:
        return name in self._overview.ready, name in self._overview.held

    def _look_at(self, supervisor: Supervisor) -> None:
        name = supervisor.name
        self._link(name, dict.fromkeys(t for g in supervisor.everything() for t in dependency_graph.targets(g.spec)))
        route = self._overview.route(supervisor)
        if route.ready:
            self._overview.ready.add(name)
            if self._exporter is not None:
                self._exporter.start()
        else:
            self._overview.ready.discard(name)
        (self._overview.held.add if route.held else self._overview.held.discard)(name)
        self.usage.stand(name, route.held)
        if route != self._routes.get(name):
            self._routes[name] = route
            self._push(route)
        status = self._overview.status(supervisor)
        total = status.total
        self.usage.count(name, total.calls, total.failed, status.memory)
        if status != self._shown.get(name):
            self._shown[name] = status
            self._tell(status)

    def _forget(self, name: str) -> None:
        """Remove a service that no longer exists."""
        self._overview.ready.discard(name)
        self.usage.forget(name)
        self._overview.held.discard(name)
        self._link(name, {})
        if gone := self._routes.pop(name, None):
            self._push(ServiceRoute(name, gone.apis, gone.timeout, reason="it was stopped", gone=True))
        if last := self._shown.pop(name, None):
            self._tell(replace(last, state="stopped", reason="it was stopped"))

    def _link(self, name: str, below: dict[str, None]) -> None:
        """Record what all versions of a service, including draining ones, depend on."""
        before = self._below.pop(name, {})
        if below:
            self._below[name] = below
        for service in before.keys() - below.keys():
            del self._above[service][name]
        for service in below.keys() - before.keys():
            self._above.setdefault(service, {})[name] = None

    def routes_for(self, spec: ServiceSpec) -> tuple[ServiceRoute, ...]:
        return tuple(route for name, route in self._routes.items() if _calls(spec, name))

    def spans(self, spans: list[Span]) -> None:
        self.traces.extend(spans)
        self.usage.add(spans)
        if self._exporter is not None:
            self._exporter.add(spans)

    def ended(self, member: ReplicaHandle) -> Mapping[str, ApiSummary]:
        self._ended.append(member)
        spans = list(_last_spans(member, call_ledger.unreported(self._board.ledgers, member.launch.slot)))
        self.spans(spans)
        counts: dict[str, ApiSummary] = {}
        for span in spans:
            if span.error == ReplicaDied.__name__:
                self._died_with[span.span_id] = member.exit_text()
            counts[span.api] = counts.get(span.api, ApiSummary()).plus(ApiSummary.of(span.error))
        while len(self._died_with) > MOST_DIED:
            del self._died_with[next(iter(self._died_with))]
        return counts

    async def post_mortem(self, address: str) -> PostMortem | None:
        """Return how the replica at an address has ended; waits up to `END_WAIT` seconds for that. None: not known."""
        members = (*_members(self._supervisors.values()), *self._ended)
        member = next((m for m in members if m.address == address), None)
        if member is None:
            return None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_WAIT):
                await member.ended()
        return member.post_mortem() if member.state == "ended" else None

    def out_of_memory(self) -> bool | None:
        earlier, now = self._oom_kills[0], memory.oom_kills()
        return None if earlier is None or now is None else now > earlier

    def output(self, service: str, written: Written) -> None:
        if self.output_listener is not None:
            self.output_listener(service, written)

    async def drain(self) -> None:
        """Wait until what replicas have written by now has been received."""
        processes = (m.process for m in _members(self._supervisors.values()))
        await drain((p.output for p in processes if p is not None), DRAIN_WAIT)

    async def close(self) -> None:
        """Send the last spans; see `SpanExporter`."""
        if self._exporter is not None:
            await self._exporter.close()

    def take_slot(self) -> int:
        slot = min(self._slots)
        self._slots.discard(slot)
        self._board.clear(slot)
        return slot

    def free_slot(self, slot: int) -> None:
        self._slots.add(slot)

    def reserved(self) -> Mapping[str, int]:
        reserved = Counter[str]()
        for member in _members(self._supervisors.values()):
            if member.state == "starting":
                wanted = member.launch.spec.resources.memory or UNTOLD_MEMORY
                reserved.update(dict.fromkeys(member.launch.gpus, wanted))
        return reserved

    # -- sending

    async def collect(self) -> None:
        """Have the replicas report ended calls now; waits up to `COLLECT_WAIT` seconds."""
        replicas = [m for m in _members(self._supervisors.values()) if m.state == "up"]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(COLLECT_WAIT):
                await asyncio.gather(*(m.ask("report") for m in replicas), return_exceptions=True)

    async def record(self, on: bool) -> None:
        """Have the replicas keep arguments and answers from now on, or forget them and keep none."""
        self.recording = on
        await self._ask(_members(self._supervisors.values()), "record", on)

    async def recorded(self, spans: Collection[Span]) -> dict[int, RecordedCall]:
        """Return what the replicas have kept of these calls, by the number of the span, and why there is nothing of the
        others; an empty dict where nothing is recorded.
        """
        if not self.recording:
            return {}
        services = {span.service for span in spans}
        members = [m for m in _members(self._supervisors.values()) if m.launch.spec.name in services]
        found = [await self._ask(members, "recorded", trace) for trace in {span.trace_id for span in spans}]
        kept = {call.span_id: call for answers in found for calls in answers for call in calls}
        return {s.span_id: kept.get(s.span_id) or RecordedCall(s.span_id, why_not=self._why_not(s)) for s in spans}

    async def search(self, text: str) -> set[int]:
        """Return the numbers of the spans in whose arguments, answers or errors a text occurs."""
        return {
            span for spans in await self._ask(_members(self._supervisors.values()), "search", text) for span in spans
        }

    async def forget_recorded(self, services: Collection[str] = ()) -> None:
        """Have the replicas of these services, or of all, forget arguments and answers."""
        members = _members(self._supervisors.values())
        await self._ask([m for m in members if not services or m.launch.spec.name in services], "forget")

    def _why_not(self, span: Span) -> str:
        if (end := self._died_with.get(span.span_id)) is not None:
            return f"gone with its replica: {end}"
        supervisor = self._supervisors.get(span.service)
        api = supervisor.spec.api(span.api) if supervisor is not None else None
        if api is not None and not api.record:
            return "not recorded: @api(record=False)"
        return "not kept any more"

    async def _ask(self, members: Iterable[ReplicaHandle], operation: str, *arguments: Any) -> list[Any]:
        """Ask replicas that can answer; return the answers that come within `ASK_WAIT` seconds."""

        async def ask(member: ReplicaHandle) -> Any:
            async with asyncio.timeout(ASK_WAIT):
                return await member.ask(operation, *arguments)

        able = [m for m in members if m.state in ("up", "suspended", "stopping") and m.halted is None]
        answers = await asyncio.gather(*map(ask, able), return_exceptions=True)
        return [answer for answer in answers if not isinstance(answer, BaseException)]

    def _push(self, route: ServiceRoute) -> None:
        """Send a route to this process, and to the replicas that may call the service: see `routes_for`."""
        self._client.update(route)
        for member in _members(self._supervisors.values()):
            if _calls(member.launch.spec, route.service):
                member.tell(route)

    def _tell(self, status: Status) -> None:
        with self._lock:
            subscribers = list(self._subscribers)
        for subscriber in subscribers:
            try:
                subscriber(status)
            except Exception as error:  # an error of a subscriber must not end the supervision of a service
                context = {"message": f"{subscriber!r} failed on a change of {status.name}", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)


def _calls(spec: ServiceSpec, service: str) -> bool:
    """Whether a replica may call a service: itself, a dependency, or any where a stream of it may be an argument."""
    if service == spec.name or any(api.stream_params for api in spec.apis):
        return True
    return service in dependency_graph.targets(spec)


def _last_spans(member: ReplicaHandle, entries: Iterable[call_ledger.LedgerEntry]) -> Iterator[Span]:
    """Yield the calls of a replica that has ended, of those that it has not reported."""
    names = (*(a.name for a in member.launch.spec.apis), *(member.stats.apis if member.stats is not None else ()))
    by_number = {call_ledger.api_number(name): name for name in names}
    end = member.gone_since or time.time()
    for entry in entries:
        if (api := by_number.get(entry.api)) is not None:
            seconds, error = (entry.seconds, entry.error) if entry.over else (end - entry.start, ReplicaDied.__name__)
            yield Span(
                entry.trace_id, entry.span_id, entry.parent_id, member.launch.spec.name, api, member.index, entry.start,
                max(0.0, seconds), entry.queued, error, trace_flags=entry.trace_flags,
            )  # fmt: skip


def _members(supervisors: Iterable[Supervisor]) -> list[ReplicaHandle]:
    return [m for s in supervisors for g in s.everything() for m in g.members.values()]


def _usage(pids: list[int], credit: float) -> tuple[dict[int, int], float]:
    """Return the memory in bytes by pid, for as many as fit in about `credit` seconds of CPU time; and the seconds
    used.
    """
    began, spent = time.thread_time(), 0.0
    found = {}
    for pid in pids:
        if spent >= credit:
            break
        with contextlib.suppress(OSError, ValueError):
            found[pid] = memory.usage(pid)
        spent = time.thread_time() - began
    return found, spent
