"""State of the services as clients see it: plain JSON data, made from statuses and specs. Pure functions."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

from nbcompose._control.status import Link, Status, links, progress
from nbcompose._control.usage import Latency
from nbcompose._protocol import messages
from nbcompose._rpc import ConnectionCounts
from nbcompose._service import dependency_graph
from nbcompose._spec import ApiSpec, ServiceSpec
from nbcompose._units import human_duration, human_size

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
    latencies: Callable[[str], Mapping[str, Latency]] = lambda _: {},
    source: Callable[[str], str] = lambda _: "",
) -> messages.State:
    """Return the state that clients see; `specs`: the specs of the versions that serve, by name; `cell` and
    `source`: see `RuntimeContext`; `latencies`: see `Usage`.
    """
    return {
        "version": VERSION,
        "services": [
            {
                **_service(s, specs.get(s.name), (rates or {}).get(s.name, 0.0), cell(s.name), latencies(s.name)),
                "source": source(s.name),
            }
            for s in statuses
        ],
        "edges": _edges(statuses),
        "svg": svg,
    }


def _service(
    status: Status, spec: ServiceSpec | None, rate: float, cell: str, latencies: Mapping[str, Latency]
) -> messages.Service:
    of_apis = numbers(status, latencies)
    most = _most_answered(of_apis)
    total, limit = status.total, status.memory_limit
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
        "calls": total.calls,
        "errors": total.failed,
        "rate": round(rate, 1),
        "p50_ms": None if most is None else round((most["p50"] or 0.0) * 1000, 5),
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
        "numbers": of_apis,
        "memory_limit": None if limit is None else limit * status.wanted,
        "memory_over": status.memory_over,
        "gpu_memory": status.gpu_memory,
    }


def numbers(status: Status, latencies: Mapping[str, Latency]) -> list[messages.ApiNumbers]:
    """Return the numbers of each api of a service that has been called."""
    found: list[messages.ApiNumbers] = []
    for api, ended in status.counts.items():
        latency = latencies.get(api)
        if ended.calls:
            found.append(
                {
                    "api": api,
                    "answered": ended.answered,
                    "failed": ended.failed,
                    "refused": ended.refused,
                    "cancelled": ended.cancelled,
                    "p50": None if latency is None else latency.p50,
                    "p95": None if latency is None else latency.p95,
                }
            )
    return found


def latency_words(numbers: Sequence[messages.ApiNumbers], which: Literal["p50", "p95"]) -> str:
    """Return a percentile of a service: its only api's, or that of the api that has been called most, with its name;
    "" where none has answered lately.
    """
    most = _most_answered(numbers)
    if most is None:
        return ""
    words = human_duration(most[which] or 0.0)
    return words if len(numbers) == 1 else f"{words} ({most['api']})"


def _most_answered(numbers: Sequence[messages.ApiNumbers]) -> messages.ApiNumbers | None:
    """Return the numbers of the api that has answered most, of those that have answered lately."""
    return max((n for n in numbers if n["p50"] is not None), key=lambda n: n["answered"], default=None)


def memory_words(memory: int | None, limit: int | None = None, over: bool = False, gpu: int | None = None) -> str:
    """Return the memory of a service, what it asks for, and whether a replica uses more; "" where it is not known."""
    parts = []
    if memory is not None:
        parts.append(human_size(memory) + (f" of {human_size(limit)}" if limit is not None else ""))
    if over:
        parts.append("over its limit")
    if gpu is not None:
        parts.append(f"GPU {human_size(gpu)}")
    return ", ".join(parts)


def _api(api: ApiSpec) -> messages.Api:
    return {"name": api.name, "signature": api.signature, "doc": api.doc, "stream": api.stream}


def _options(spec: ServiceSpec) -> dict[str, Any]:
    """Return the options that are not the default. Not `envs`, which may be secret."""
    plain = ServiceSpec(spec.name, spec.cls, spec.apis)
    found: dict[str, Any] = {}
    for name in ("device", "replicas", "threads", "strict", "openai"):
        if getattr(spec, name) != getattr(plain, name):
            found[name] = getattr(spec, name)
    for name in ("resources", "traffic"):
        default = asdict(getattr(plain, name))
        changed = {part: value for part, value in asdict(getattr(spec, name)).items() if value != default[part]}
        if changed:
            found[name] = changed
    return found


def _edges(statuses: Sequence[Status]) -> list[messages.Edge]:
    traffic = {s.name: s.traffic for s in statuses}
    return [_edge(link, traffic[link.caller].get(link.callee, ConnectionCounts())) for link in links(statuses)]


def _edge(link: Link, traffic: ConnectionCounts) -> messages.Edge:
    edge: messages.Edge = {
        "from": link.caller,
        "to": link.callee,
        "id": element_id("edge", link.caller, link.callee),
        "calls": traffic.calls,
        "in_flight": traffic.in_flight,
        "streaming": traffic.streaming,
        "sent": traffic.sent,
        "received": traffic.received,
    }
    return {**edge, "passed": True} if link.passed else edge
