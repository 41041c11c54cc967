"""A service's state at one moment, as plain data: what tables, cards and `nbcompose ps` show."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from nbcompose.models import ModelProgress
from nbcompose.replica.control import Stats
from nbcompose.replica.queueing import NO_WORK, Work, seconds
from nbcompose.wire.call import Traffic

ServiceState = Literal["starting", "waiting", "ready", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """One replica. `memory` is bytes (its proportional share where the system tells), None while not known. `halted`:
    since when (Unix time) the system has its process stopped.
    """

    index: int
    pid: int | None
    state: str
    phase: str
    progress: ModelProgress | None
    device: str
    cold: str
    in_flight: int
    threads_busy: int
    memory: int | None
    work: Work = NO_WORK
    halted: float | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """`state`: *starting*: no replica can be called yet; *waiting*: a replica can, but something below it cannot
    answer; *ready*: the whole chain can; *failed*: it does not come back by itself; *stopped*.

    `reason` says why it is not ready, `error` what went wrong last (also while an earlier version serves on), `notes`
    what its user should know, `stuck` why a replica that is of no use is not replaced. `remark` says how the version
    that serves came about, `behind` why the one that was wanted last does not serve, `stale` what has changed in the
    notebook since it was packed. `p50` is in seconds. `traffic`: the calls that it has made, by dependency.
    `replacing`: "new version starting" or "restarting" while replicas start that will take over. `reversible`: there is
    a version to go back to.
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
    calls: int = 0
    errors: int = 0
    p50: float | None = None
    restarts: int = 0
    error: str = ""
    notes: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()
    remark: str = ""
    behind: str = ""
    stale: tuple[str, ...] = ()
    traffic: Mapping[str, Traffic] = field(default_factory=dict)
    replacing: str = ""
    reversible: bool = False

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
    def waiting(self) -> int:
        """Calls that wait for a place in a replica."""
        return sum(r.work.waiting for r in self.replicas)

    def trouble(self) -> list[str]:
        """What holds up its calls at this moment, in words: threads that are held for nobody, and who waits."""
        now = time.time()
        halted = [
            f"replica {r.index} was stopped (SIGSTOP) {seconds(now - r.halted)} ago: kill -CONT {r.pid} lets it go on"
            for r in self.replicas
            if r.halted is not None
        ]
        abandoned = sorted((h for r in self.replicas for h in r.work.held if h.abandoned), key=lambda h: h.since)
        held = [f"{h.api} holds a worker for {seconds(now - h.since)}, its caller has gone" for h in abandoned]
        since = [r.work.waiting_since for r in self.replicas if r.work.waiting_since is not None]
        wait = "call waits" if self.waiting == 1 else "calls wait"
        queue = [f"{self.waiting} {wait} for a place, for up to {seconds(now - min(since))}"] if since else []
        return [*halted, *held, *queue, *self.stuck]

    @property
    def settled(self) -> bool:
        """Nothing more happens unless somebody does something."""
        return self.state in ("ready", "failed", "stopped")


def joined(stats: Iterable[Stats]) -> dict[str, Traffic]:
    """The calls that all replicas of a service have made, by dependency."""
    found: dict[str, Traffic] = {}
    for service, traffic in (item for s in stats for item in s.traffic.items()):
        found[service] = found.get(service, Traffic()).plus(traffic)
    return found


def totals(stats: Iterable[Stats]) -> tuple[int, int, float | None]:
    """Calls, errors, and the median of the busiest api in the busiest replica, which stands for all."""
    apis = [a for s in stats for a in s.apis.values()]
    calls = sum(a.calls for a in apis)
    errors = sum(a.errors for a in apis)
    busiest = max(apis, key=lambda a: a.calls, default=None)
    return calls, errors, busiest.p50_seconds if busiest is not None else None
