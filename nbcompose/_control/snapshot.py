"""State of the services as clients see it: plain JSON data, made from statuses and specs. Pure functions."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from nbcompose._control.status import Status, progress
from nbcompose._protocol import messages
from nbcompose._rpc import ConnectionCounts
from nbcompose._service import dependency_graph
from nbcompose._spec import ApiSpec, ServiceSpec

VERSION = 1
WINDOW = 2.0  # seconds over which a rate is computed

_UNSAFE = re.compile(r"[^\w.-]", re.ASCII)
_USER = re.compile(r"(?<=://)[^/?#]*@")  # user name and password


def element_id(kind: str, *names: str) -> str:
    """Return the id of an element: `node:Answer`, `edge:Answer:Writer`.

    Different names give different ids; characters that are special in XML or CSS are escaped, as in `http~3a~2f~2f`. A
    password in a URL is left out.
    """
    return ":".join((kind, *(_UNSAFE.sub(lambda m: f"~{ord(m[0]):x}", _USER.sub("", name)) for name in names)))


def below(statuses: Sequence[Status], names: Iterable[str] | None) -> list[Status]:
    """Return the statuses of the named services and of all that they depend on, in the given order; None: all."""
    if names is None:
        return list(statuses)
    graph = {s.name: s.dependencies for s in statuses}
    wanted = {found for name in names for found in (name, *dependency_graph.below(graph, name))}
    return [s for s in statuses if s.name in wanted]


class Meter:
    """Calls per second of each service over the last `WINDOW` seconds. `now` is the time of any monotonic clock, in
    seconds.
    """

    def __init__(self) -> None:
        self._seen: dict[str, deque[tuple[float, int]]] = {}

    def rates(self, statuses: Iterable[Status], now: float) -> dict[str, float]:
        """Return the present rates; 0 for a service that is new, or whose count was reset."""
        calls = {s.name: s.calls for s in statuses}
        for name in [n for n in self._seen if n not in calls]:
            del self._seen[name]
        return {name: self._rate(name, count, now) for name, count in calls.items()}

    def _rate(self, name: str, calls: int, now: float) -> float:
        seen = self._seen.setdefault(name, deque())
        if seen and calls < seen[-1][1]:
            seen.clear()
        seen.append((now, calls))
        # One sample older than the window is kept for comparison.
        while len(seen) > 2 and seen[1][0] <= now - WINDOW:
            seen.popleft()
        (begun, first), passed = seen[0], now - seen[0][0]
        return (calls - first) / max(passed, 1.0) if passed > 0 and begun < now else 0.0


def snapshot(
    statuses: Sequence[Status],
    specs: Mapping[str, ServiceSpec],
    rates: Mapping[str, float] | None = None,
    svg: str = "",
    cell: Callable[[str], str] = lambda _: "",
) -> messages.State:
    """Return the state that clients see; `specs`: the specs of the versions that serve, by name; `cell`: see
    `RuntimeContext.cell`.
    """
    return {
        "version": VERSION,
        "services": [_service(s, specs.get(s.name), (rates or {}).get(s.name, 0.0), cell(s.name)) for s in statuses],
        "edges": [_edge(s, dependency) for s in statuses for dependency in dict.fromkeys(s.dependencies)],
        "svg": svg,
    }


def _service(status: Status, spec: ServiceSpec | None, rate: float, cell: str) -> messages.Service:
    return {
        "name": status.name,
        "id": element_id("node", status.name),
        "state": status.state,
        "reason": status.reason,
        "phase": progress(status) if status.state == "starting" else "",
        "coming": f"{status.replacing}: {progress(status)}" if status.replacing else "",
        "reversible": status.reversible,
        "device": status.device,
        "up": status.up,
        "wanted": status.wanted,
        "in_flight": sum(r.in_flight for r in status.replicas),
        "calls": status.calls,
        "errors": status.errors,
        "rate": round(rate, 1),
        "p50_ms": None if status.p50 is None else round(status.p50 * 1000, 2),
        "memory": status.memory,
        "error": status.error,
        "behind": status.out_of_date_reason,
        "stale": list(status.stale),
        "notes": [*status.all_notes, *status.trouble()],
        "serving": status.version,
        "apis": [_api(a) for a in spec.apis] if spec is not None else [],
        "dependencies": list(status.dependencies),
        "options": _options(spec) if spec is not None else {},
        "cell": cell,
    }


def _api(api: ApiSpec) -> messages.Api:
    return {"name": api.name, "signature": api.signature, "doc": api.doc, "stream": api.stream}


def _options(spec: ServiceSpec) -> dict[str, Any]:
    """Return the options that are not the default. Not `envs`, which may be secret."""
    plain = ServiceSpec(spec.name, spec.cls, spec.apis)
    found: dict[str, Any] = {}
    for name in ("device", "replicas", "threads", "strict"):
        if getattr(spec, name) != getattr(plain, name):
            found[name] = getattr(spec, name)
    for name in ("resources", "traffic"):
        default = asdict(getattr(plain, name))
        changed = {part: value for part, value in asdict(getattr(spec, name)).items() if value != default[part]}
        if changed:
            found[name] = changed
    return found


def _edge(status: Status, dependency: str) -> messages.Edge:
    traffic = status.traffic.get(dependency, ConnectionCounts())
    name = element_id("edge", status.name, dependency)
    return {
        "from": status.name,
        "to": dependency,
        "id": name,
        "calls": traffic.calls,
        "in_flight": traffic.in_flight,
        "streaming": traffic.streaming,
        "sent": traffic.sent,
        "received": traffic.received,
    }
