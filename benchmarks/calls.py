"""The rows about calls: between services, over HTTP, and with a large array."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from benchmarks import yardsticks
from benchmarks.compare import Comparison, Sample
from benchmarks.load import generate_elsewhere
from benchmarks.machine import pinned
from benchmarks.row import Aim
from benchmarks.servers import OURS, Server

COPY = "np.copyto"
HTTP_CALLS = 1500  # in a round: 10,500 in all


def _calls(server: Server, ours: int, peers: int) -> int:
    """Fewer for the peers, so that a row takes them no longer than us by more than it must."""
    return ours if server.framework.name == OURS.name else peers


def hop(server: Server) -> Sample:
    return Sample(statistics.median(server.post("/hop", {"calls": _calls(server, 2000, 500)})))


def hop_sync(server: Server) -> Sample:
    return Sample(statistics.median(server.post("/hop_sync", {"calls": _calls(server, 2000, 500)})))


def hop_mixed(server: Server) -> Sample:
    return Sample(statistics.median(server.post("/hop_mixed", {"calls": _calls(server, 2000, 500)})))


def in_flight(server: Server) -> Sample:
    calls = _calls(server, 20_000, 2000)
    answer = server.post("/in_flight", {"calls": calls, "width": 64})
    failures = int(answer["failures"])
    return Sample((calls - failures) / answer["seconds"], calls, failures)


def http_64(server: Server) -> Sample:
    load = generate_elsewhere(f"{server.url}/ask", 64, HTTP_CALLS, {"text": "hello"})
    return Sample(load.rate, load.calls, load.failures)


def http_1(server: Server) -> Sample:
    load = generate_elsewhere(f"{server.url}/echo", 1, _calls(server, 2000, 500), {"text": "hello"})
    return Sample(load.p50, load.calls, load.failures)


def array(server: Server) -> Sample:
    answer = server.post("/one_way", {"mib": 64, "calls": _calls(server, 15, 5)})
    return Sample(statistics.median(answer["call"]), yardstick=statistics.median(answer["copy"]))


# Beside every call on one CPU: the least that a Python RPC takes, which the ratio divides by, and the kernel alone.
ON_ONE_CPU: dict[str, Callable[[], float]] = {
    "least RPC": lambda: statistics.median(yardsticks.measure("rpc", 2000)),
    "ping-pong": lambda: statistics.median(yardsticks.measure("ping-pong", 2000)),
}


def _pinned(what: str, aim: Aim, take: Callable[[Server], Sample]) -> Comparison:
    return Comparison(f"{what}, p50, one CPU", aim, "s", take, "least RPC", ON_ONE_CPU, around=pinned)


HOP_PINNED = _pinned("service → service, async api", Aim(2.5), hop)
HOP_MIXED_PINNED = _pinned("service → service, sync api from an async one", Aim(4), hop_mixed)
HOP_SYNC_PINNED = _pinned("service → service, sync api from a sync one", Aim(5), hop_sync)
HOP = Comparison("service → service, async api, p50", Aim(0.12), "s", hop)
HOP_SYNC = Comparison("service → service, sync api from a sync one, p50", Aim(0.12), "s", hop_sync)
IN_FLIGHT = Comparison("service → service, 64 in flight", Aim(20, "least"), "calls/s", in_flight)
HTTP_64 = Comparison(
    "HTTP → Front → Leaf, 64 clients, 10,500 calls", Aim(8, "least", no_failures=True), "calls/s", http_64
)
HTTP_1 = Comparison("HTTP → Front, one client, p50", Aim(0.5), "s", http_1)
ARRAY = Comparison("64 MiB float64 array, one way", Aim(2), "s", array, COPY)
