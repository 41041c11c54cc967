"""What services look like from outside: their state, the routes that callers get, the status that people see.

Reads supervisors and changes nothing; who is told is switchboard.py's. Used on the registry's loop.
"""

from __future__ import annotations

from collections.abc import Mapping

from nbcompose import topology
from nbcompose.calling.client import Route
from nbcompose.engine.base import Engine
from nbcompose.engine.member import Member
from nbcompose.engine.status import ReplicaStatus, ServiceState, Status, joined, totals
from nbcompose.engine.supervisor import Supervisor
from nbcompose.host import memory
from nbcompose.replica.queueing import NO_WORK
from nbcompose.spec import ServiceSpec

HALTED = "its process was stopped (SIGSTOP): kill -CONT lets it go on"
NEW_VERSION, RESTART = "new version starting", "restarting"


class Overview:
    """A view of `supervisors`, by name. `memory` is what replicas use, in bytes, by pid.

    `ready` holds the services that were ready when they were last looked at, which switchboard.py does whenever one
    changes. So a state takes a look at the services directly below, however deep the graph is.
    """

    def __init__(self, supervisors: Mapping[str, Supervisor], engine: Engine) -> None:
        self.memory: Mapping[int, int] = {}
        self.ready: set[str] = set()
        self._supervisors = supervisors
        self._engine = engine

    def state(self, supervisor: Supervisor) -> tuple[ServiceState, str]:
        """A service's state, and why it is not ready."""
        if supervisor.stopped:
            return "stopped", "it was stopped"
        if not supervisor.routes():
            return self._state_without_replicas(supervisor)
        below = self._not_ready_below(supervisor.spec)
        return ("waiting", f"waiting for {', '.join(below)}") if below else ("ready", "")

    def _state_without_replicas(self, supervisor: Supervisor) -> tuple[ServiceState, str]:
        if supervisor.coming is not None:
            waits_for = supervisor.waits_for
            return ("waiting", waits_for) if waits_for else ("starting", "it is starting")
        generation = supervisor.generation
        if generation is not None and any(m.halted is not None for m in generation.members.values()):
            return "waiting", HALTED
        if generation is not None and not generation.failed:
            return "starting", "its replica ended and is being started again"
        error = supervisor.error or (generation.error if generation is not None else "")
        return "failed", f"it failed: {error.strip().splitlines()[0] if error else 'no replica is left'}"

    def missing_below(self, name: str) -> list[str]:
        """Services below `name` that do not exist, or have failed: nothing to wait for."""
        edges = topology.edges(s.spec for s in self._supervisors.values())
        return [
            n
            for n in topology.below(edges, name)
            if n not in self._supervisors or self.state(self._supervisors[n])[0] in ("failed", "stopped")
        ]

    def _not_ready_below(self, spec: ServiceSpec) -> list[str]:
        return [name for name in topology.targets(spec) if name not in self.ready]

    def route(self, supervisor: Supervisor) -> Route:
        """What callers of the service know of it."""
        spec = supervisor.spec
        state, reason = self.state(supervisor)
        return Route(
            service=spec.name,
            apis=spec.apis,
            timeout=spec.traffic.timeout,
            replicas=supervisor.routes(),
            ready=state == "ready",
            reason=reason,
            gone=state in ("failed", "stopped"),
        )

    def status(self, supervisor: Supervisor) -> Status:
        state, reason = self.state(supervisor)
        spec = supervisor.spec
        generation = supervisor.generation or supervisor.coming
        members = [m for g in supervisor.generations() for m in g.members.values()]
        replacing = _replacing(supervisor)
        calls, errors, p50 = totals(m.stats for m in members if m.stats is not None)
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
            calls=calls,
            errors=errors,
            p50=p50,
            restarts=generation.restarts if generation is not None else 0,
            error=supervisor.error or (generation.error if generation is not None else ""),
            notes=(
                *(generation.notes if generation is not None else ()),
                *self._memory_notes(spec, members),
            ),
            stuck=supervisor.stuck.notes,
            remark=supervisor.remark,
            behind=supervisor.behind,
            stale=supervisor.stale,
            traffic=joined(m.stats for m in members if m.stats is not None),
            replacing=replacing,
            reversible=supervisor.previous is not None or replacing == NEW_VERSION,
        )

    def _replica(self, member: Member) -> ReplicaStatus:
        process, stats = member.process, member.stats
        phase = self._engine.warming() or member.phase if member.phase == "spawn" else member.phase
        return ReplicaStatus(
            index=member.index,
            pid=process.pid if process is not None else None,
            state=member.state if member.halted is None else "halted",
            phase=phase,
            progress=member.progress,
            device=member.device,
            cold=process.cold if process is not None else "",
            in_flight=stats.in_flight if stats is not None else 0,
            threads_busy=stats.threads_busy if stats is not None else 0,
            memory=self.memory.get(process.pid) if process is not None else None,
            work=stats.work if stats is not None else NO_WORK,
            halted=member.halted,
        )

    def _memory_notes(self, spec: ServiceSpec, members: list[Member]) -> list[str]:
        wanted = spec.resources.memory
        used = [self.memory.get(m.process.pid, 0) for m in members if m.process is not None]
        if wanted is None or not used or max(used) <= wanted:
            return []
        return [f"a replica uses {memory.human(max(used))}, more than the {memory.human(wanted)} it asks for"]


def _replacing(supervisor: Supervisor) -> str:
    serves, comes = supervisor.generation, supervisor.coming
    if serves is None or comes is None or serves is comes:
        return ""
    return RESTART if serves.deployment is comes.deployment else NEW_VERSION


def url(supervisor: Supervisor) -> str:
    """Where the service answers over HTTP; "" where it does not."""
    port, host = supervisor.port, supervisor.spec.http.host
    if port is None:
        return ""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
