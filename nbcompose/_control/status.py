"""Status: the state and route of services, computed from supervisors, as plain data.

Reads supervisors and changes nothing. Used on the registry's loop. See `_control/publisher.py` for who is notified.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from nbcompose._control.engines import Engine
from nbcompose._control.generation import Generation
from nbcompose._control.replica_handle import ReplicaHandle
from nbcompose._control.supervisor import Supervisor
from nbcompose._host import memory
from nbcompose._hub import ModelProgress
from nbcompose._protocol import ServiceState
from nbcompose._replica import NO_WORK, ApiSummary, Phase, Stats, Work
from nbcompose._rpc import ConnectionCounts, ServiceRoute
from nbcompose._service import dependency_graph
from nbcompose._spec import ServiceSpec
from nbcompose._units import did_you_mean, human_duration, human_size


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """One replica. `memory` is bytes (its proportional share where the system tells), None while not known, as
    `gpu_memory` is, what it has of a GPU's. `halted`: since when (Unix time) the system has its process stopped.
    `waiting_for`: the service that its start waits for. `preparing`: what the engine has to do before there is a
    process, in words. `said`: the last line that it wrote while it starts. `stopped_at`: the breakpoint that it is at,
    e.g. "Writer.write, line 5", or "".
    """

    index: int
    pid: int | None
    state: str
    phase: Phase
    progress: ModelProgress | None
    device: str
    cold: str
    in_flight: int
    threads_busy: int
    memory: int | None
    work: Work = NO_WORK
    halted: float | None = None
    waiting_for: str = ""
    preparing: str = ""
    gpu_memory: int | None = None
    said: str = ""
    stopped_at: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """Status of one service.

    `reason` says why it is not ready, `error` what went wrong last (also while an earlier version serves on), `notes`
    what its user should know, `stuck` why a replica that is of no use is not replaced, `replace_after` after how many
    seconds it would be. `change_reason` says how the version that serves came about, `out_of_date_reason` why the one
    that was wanted last does not serve, `stale` what has changed in the notebook since it was packed. `counts`: how the
    calls of each api have ended, since the service was started. `memory_limit`: the bytes that a replica asks for.
    `traffic`: the calls that it has made, by service. `reads`: those of them on which it does not depend, whose
    streams others have passed to its version. `replacing`: "new version starting" or "restarting" while replicas start
    that will take over. `reversible`: there is a version to go back to. `swapped`: the version that
    serves came by a hot swap. `waits_for`: the services below that are not ready.
    """

    name: str
    state: ServiceState
    reason: str
    version: int
    replicas: tuple[ReplicaStatus, ...]
    wanted: int
    apis: tuple[str, ...]
    dependencies: tuple[str, ...]
    url: str
    counts: Mapping[str, ApiSummary] = field(default_factory=dict)
    memory_limit: int | None = None
    restarts: int = 0
    error: str = ""
    notes: tuple[str, ...] = ()
    shortage: memory.Shortage | None = None
    stuck: tuple[str, ...] = ()
    change_reason: str = ""
    swapped: bool = False
    out_of_date_reason: str = ""
    stale: tuple[str, ...] = ()
    traffic: Mapping[str, ConnectionCounts] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    replacing: str = ""
    reversible: bool = False
    waits_for: tuple[str, ...] = ()
    replace_after: float = 0.0

    @property
    def all_notes(self) -> tuple[str, ...]:
        """`notes`, and the shortage of memory in words."""
        return (*([str(self.shortage)] if self.shortage is not None else ()), *self.notes)

    @property
    def device(self) -> str:
        return ", ".join(sorted({r.device for r in self.replicas if r.device}))

    @property
    def up(self) -> int:
        return sum(r.state == "up" for r in self.replicas)

    @property
    def memory(self) -> int | None:
        known = [r.memory for r in self.replicas if r.memory is not None]
        return sum(known) if known else None

    @property
    def gpu_memory(self) -> int | None:
        known = [r.gpu_memory for r in self.replicas if r.gpu_memory is not None]
        return sum(known) if known else None

    @property
    def memory_over(self) -> bool:
        """Whether a replica uses more memory than it asks for."""
        limit = self.memory_limit
        return limit is not None and any((r.memory or 0) > limit for r in self.replicas)

    @property
    def total(self) -> ApiSummary:
        """How the calls of all apis have ended."""
        return ApiSummary(*map(sum, zip(*self.counts.values(), strict=True))) if self.counts else ApiSummary()

    @property
    def calls(self) -> int:
        return self.total.calls

    @property
    def waiting(self) -> int:
        """Number of calls that wait for admission in a replica."""
        return sum(r.work.waiting for r in self.replicas)

    def trouble(self, *, in_cell: bool = False) -> list[str]:
        """Return what delays its calls at this moment, in words: stopped processes, workers without a caller, queued
        calls; and what can be done. `in_cell`: it is read in a cell that runs, where no other one can.
        """
        now = time.time()
        halted = [
            f"replica {r.index} was stopped (SIGSTOP) {_age(now - r.halted)} ago: kill -CONT {r.pid} lets it go on"
            for r in self.replicas
            if r.halted is not None
        ]
        abandoned = sorted((h for r in self.replicas for h in r.work.held if h.abandoned), key=lambda h: h.since)
        held = [f"{h.api} holds a worker for {_age(now - h.since)}, its caller has gone" for h in abandoned]
        since = [r.work.waiting_since for r in self.replicas if r.work.waiting_since is not None]
        queue = [_queue(self.waiting, _age(now - min(since)))] if since else []
        stopped = [f"replica {r.index} is at a breakpoint ({r.stopped_at})" for r in self.replicas if r.stopped_at]
        return [*stopped, *halted, *held, *self._replacements(now), *queue, *self.stuck_notes(in_cell=in_cell)]

    def _replacements(self, now: float) -> list[str]:
        """Return which replicas will be replaced that are held by calls without callers, and when."""
        if not self.replace_after or self.stuck:
            return []
        held = [(r.index, now - r.work.held_since) for r in self.replicas if r.work.held_since is not None]
        left = [(index, self.replace_after - seconds) for index, seconds in held if seconds < self.replace_after]
        return [f"replica {index} is replaced in {_age(more)} if that does not end before" for index, more in left]

    def stuck_notes(self, *, in_cell: bool = False) -> list[str]:
        """Return `stuck` with what does it; `in_cell`: see `trouble`."""
        command = f"%services restart {self.name}"
        way = f"Restart in the graph's panel does it now, {command} after ■" if in_cell else f"{command} does it"
        return [f"{note}; {way}" for note in self.stuck]

    @property
    def settled(self) -> bool:
        """Whether nothing more happens without intervention."""
        return self.state in ("ready", "failed", "stopped")


class Link(NamedTuple):
    """An edge of the graph. `passed`: the callee is one of those that the caller `reads`."""

    caller: str
    callee: str
    passed: bool = False


def links(statuses: Sequence[Status]) -> list[Link]:
    """Return the edges of the graph, which is acyclic: of two services that read each other's streams, it has the first
    of the two edges.
    """
    below = {s.name: tuple(dict.fromkeys(s.dependencies)) for s in statuses}
    found = [Link(caller, callee) for caller, callees in below.items() for callee in callees]
    for status in statuses:
        for callee in status.reads:
            if callee in below and status.name not in {callee, *dependency_graph.below(below, callee)}:
                below[status.name] += (callee,)
                found.append(Link(status.name, callee, passed=True))
    return found


def _queue(calls: int, longest: str) -> str:
    if calls == 1:
        return f"1 call has waited for a place for {longest} so far"
    return f"{calls} calls wait for a place, the first for {longest} so far"


def _age(seconds: float) -> str:
    return human_duration(seconds, 2)


# What a replica does that is starting, in the order in which it does it.
PHASE_WORDS = {
    Phase.SPAWN: "starting a process",
    Phase.IMPORT: "importing what it uses",
    Phase.DOWNLOAD: "getting its models",
    Phase.LOAD: "loading (__init__)",
    Phase.READY: "about to answer",
}


def progress(status: Status | None) -> str:
    """Return the progress of the starting replicas: that of the slowest."""
    replicas = status.replicas if status is not None else ()
    starting = [r for r in replicas if r.state == "starting"]
    if not starting:
        coming = status is not None and status.state != "ready" and any(r.state == "up" for r in replicas)
        return PHASE_WORDS[Phase.READY if coming else Phase.SPAWN]
    order = list(PHASE_WORDS)
    slowest = min(starting, key=lambda r: order.index(r.phase))
    waiting = f"waiting for {slowest.waiting_for}" if slowest.waiting_for else ""
    text = waiting or _download(slowest) or slowest.preparing or PHASE_WORDS[slowest.phase]
    return text if len(starting) == 1 else f"{text} ({len(starting)} replicas)"


def _download(replica: ReplicaStatus) -> str:
    p = replica.progress
    if p is None or replica.phase is not Phase.DOWNLOAD:
        return ""
    done = f"{human_size(p.bytes_done)} of {human_size(p.bytes_total)}, {p.files_done} of {p.files_total} files"
    return f"downloading {p.model}: {done}"


def _calls(stats: list[Stats]) -> dict[str, Any]:
    """Return what a status says of the calls that replicas have got and made."""
    counts: dict[str, ApiSummary] = {}
    for api, ended in (item for s in stats for item in s.apis.items()):
        counts[api] = counts.get(api, ApiSummary()).plus(ended)
    traffic: dict[str, ConnectionCounts] = {}
    for service, made in (item for s in stats for item in s.traffic.items()):
        traffic[service] = traffic.get(service, ConnectionCounts()).plus(made)
    return {
        "counts": counts,
        "traffic": traffic,
    }


def _reads(spec: ServiceSpec, generation: Generation | None) -> tuple[str, ...]:
    """Return the services that the replicas of a version have called and on which it does not depend."""
    if generation is None:
        return ()
    reported = [generation.ended, *(m.stats for m in generation.members.values())]
    called = {name for s in reported if s is not None for name, made in s.traffic.items() if made.calls}
    return tuple(sorted(called.difference(dependency_graph.targets(spec), (d.url for d in spec.dependencies))))


HALTED = "its process was stopped (SIGSTOP): kill -CONT lets it go on"
NEW_VERSION, RESTART = "new version starting", "restarting"


class Overview:
    """Computes state, route and status of `supervisors`, by name. `memory`, `gpu_memory`: bytes that replicas use, by
    pid.

    `ready` holds the services that were ready when they were last checked, which `_control/publisher.py` does whenever
    one changes. So computing a state needs only the services directly below, however deep the graph is.
    """

    def __init__(self, supervisors: Mapping[str, Supervisor], engine: Engine) -> None:
        self.memory: Mapping[int, int] = {}
        self.gpu_memory: Mapping[int, int] = {}
        self.ready: set[str] = set()
        self.held: set[str] = set()  # at a breakpoint themselves, or a service below them is
        self._supervisors = supervisors
        self._engine = engine

    def state(self, supervisor: Supervisor) -> tuple[ServiceState, str, tuple[str, ...]]:
        """Return a service's state, why it is not ready, and the services that it waits for."""
        if supervisor.stopped:
            return "stopped", "it was stopped", ()
        serves = bool(supervisor.routes())
        if serves:
            below = tuple(name for name in dependency_graph.targets(supervisor.spec) if name not in self.ready)
        else:
            below = (supervisor.waits_for,) if supervisor.waits_for else ()
        if below:
            return "waiting", f"waiting for {', '.join(map(self._named, below))}", below
        return ("ready", "", ()) if serves else (*_state_without_replicas(supervisor), ())

    def _named(self, name: str) -> str:
        """Return the name of a service that others wait for, with what was probably meant where it does not exist."""
        return name if name in self._supervisors else f"{name}{did_you_mean(name, self._supervisors)}"

    def missing_below(self, name: str) -> list[str]:
        """Return the services below `name` that do not exist or have failed: waiting for them is useless."""
        edges = dependency_graph.edges(s.spec for s in self._supervisors.values())
        return [
            n
            for n in dependency_graph.below(edges, name)
            if n not in self._supervisors or self.state(self._supervisors[n])[0] in ("failed", "stopped")
        ]

    def route(self, supervisor: Supervisor) -> ServiceRoute:
        """Return what callers need to know about the service."""
        spec = supervisor.spec
        state, reason, _ = self.state(supervisor)
        return ServiceRoute(
            service=spec.name,
            apis=spec.apis,
            timeout=spec.traffic.timeout,
            replicas=supervisor.routes(),
            ready=state == "ready",
            reason=reason,
            gone=state in ("failed", "stopped"),
            held=self._is_held(supervisor),
        )

    def _is_held(self, supervisor: Supervisor) -> bool:
        versions = supervisor.everything()
        at_breakpoint = any(m.stopped_at for g in versions for m in g.members.values())
        return at_breakpoint or any(name in self.held for g in versions for name in dependency_graph.targets(g.spec))

    def status(self, supervisor: Supervisor) -> Status:
        state, reason, waits_for = self.state(supervisor)
        spec = supervisor.spec
        generation = supervisor.generation or supervisor.candidate
        members = [m for g in supervisor.generations() for m in g.members.values()]
        replacing = _replacing(supervisor)
        return Status(
            name=spec.name,
            state=state,
            reason=reason,
            version=generation.number if generation is not None else 0,
            replicas=tuple(map(self._replica, members)),
            wanted=supervisor.wanted,
            apis=tuple(a.signature for a in spec.apis),
            dependencies=tuple(d.service if d.url is None else d.url for d in spec.dependencies),
            url=url(supervisor),
            restarts=generation.restarts if generation is not None else 0,
            error=supervisor.error or (generation.error if generation is not None else ""),
            notes=(
                *(generation.notes if generation is not None else ()),
                *self._memory_notes(spec, members),
            ),
            shortage=generation.shortage if generation is not None else None,
            stuck=supervisor.stuck.notes,
            change_reason=supervisor.change_reason,
            swapped=supervisor.swapped,
            out_of_date_reason=supervisor.out_of_date_reason,
            stale=supervisor.stale,
            replacing=replacing,
            memory_limit=spec.resources.memory,
            reversible=supervisor.previous is not None or replacing == NEW_VERSION,
            waits_for=waits_for,
            replace_after=spec.traffic.replace_after,
            reads=_reads(spec, generation),
            **_calls(supervisor.stats()),
        )

    def _replica(self, member: ReplicaHandle) -> ReplicaStatus:
        process, stats = member.process, member.stats
        return ReplicaStatus(
            index=member.index,
            pid=process.pid if process is not None else None,
            state=member.state if member.halted is None else "halted",
            phase=member.phase,
            progress=member.progress,
            device=member.device,
            cold=process.cold if process is not None else "",
            in_flight=stats.in_flight if stats is not None else 0,
            threads_busy=stats.threads_busy if stats is not None else 0,
            memory=self.memory.get(process.pid) if process is not None else None,
            gpu_memory=self.gpu_memory.get(process.pid) if process is not None else None,
            work=stats.work if stats is not None else NO_WORK,
            halted=member.halted,
            waiting_for=self._named(member.waiting_for) if member.waiting_for else "",
            preparing=self._engine.warming() if member.phase is Phase.SPAWN else "",
            said=member.said if member.state == "starting" else "",
            stopped_at=member.stopped_at,
        )

    def _memory_notes(self, spec: ServiceSpec, members: list[ReplicaHandle]) -> list[str]:
        wanted = spec.resources.memory
        used = [self.memory.get(m.process.pid, 0) for m in members if m.process is not None]
        if wanted is None or not used or max(used) <= wanted:
            return []
        return [f"a replica uses {human_size(max(used))}, more than the {human_size(wanted)} it asks for"]


def _state_without_replicas(supervisor: Supervisor) -> tuple[ServiceState, str]:
    if supervisor.candidate is not None:
        return "starting", "it is starting"
    generation = supervisor.generation
    if generation is not None and any(m.halted is not None for m in generation.members.values()):
        return "waiting", HALTED
    if generation is not None and not generation.failed:
        often = f" (it has ended {n} times: each start waits longer)" if (n := generation.restarts) > 2 else ""
        return "starting", f"its replica ended and is being started again{often}"
    error = supervisor.error or (generation.error if generation is not None else "")
    return "failed", f"it failed: {error.strip().splitlines()[0] if error else 'no replica is left'}"


def _replacing(supervisor: Supervisor) -> str:
    serves, comes = supervisor.generation, supervisor.candidate
    if serves is None or comes is None or serves is comes:
        return ""
    return RESTART if serves.deployment is comes.deployment else NEW_VERSION


def url(supervisor: Supervisor) -> str:
    """Return the HTTP address of the service; "" where it has none."""
    port, host = supervisor.port, supervisor.spec.http.host
    if port is None:
        return ""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
