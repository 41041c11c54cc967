"""The rows about calls: between services, over HTTP, and with a large array."""

from __future__ import annotations

import statistics

from benchmarks.compare import Comparison, Sample
from benchmarks.load import generate_elsewhere
from benchmarks.machine import pinned
from benchmarks.row import Aim
from benchmarks.servers import OURS, Server
from benchmarks.yardsticks import ping_pong_elsewhere

PING_PONG = "ping-pong"
COPY = "np.copyto"
HTTP_CALLS = 10_000
HTTP_ROUNDS = 5


def _calls(server: Server, ours: int, peers: int) -> int:
    """Fewer for the peers, so that a row takes them no longer than us by more than it must."""
    return ours if server.framework is OURS else peers


def _hop(server: Server) -> Sample:
    return Sample(statistics.median(server.post("/hop", {"calls": _calls(server, 2000, 500)})))


def _hop_sync(server: Server) -> Sample:
    return Sample(statistics.median(server.post("/hop_sync", {"calls": _calls(server, 2000, 500)})))


def _hop_mixed(server: Server) -> Sample:
    return Sample(statistics.median(server.post("/hop_mixed", {"calls": _calls(server, 2000, 500)})))


def _ping_pong() -> float:
    return statistics.median(ping_pong_elsewhere(2000))


def _in_flight(server: Server) -> Sample:
    calls = _calls(server, 20_000, 2000)
    answer = server.post("/in_flight", {"calls": calls, "width": 64})
    failures = int(answer["failures"])
    return Sample((calls - failures) / answer["seconds"], calls, failures)


def _http_64(server: Server) -> Sample:
    load = generate_elsewhere(f"{server.url}/ask", 64, HTTP_CALLS // HTTP_ROUNDS, {"text": "hello"})
    return Sample(load.rate, load.calls, load.failures)


def _http_1(server: Server) -> Sample:
    load = generate_elsewhere(f"{server.url}/echo", 1, _calls(server, 2000, 500), {"text": "hello"})
    return Sample(load.p50)


def _array(server: Server) -> Sample:
    answer = server.post("/one_way", {"mib": 64, "calls": _calls(server, 15, 5)})
    return Sample(statistics.median(answer["call"]), yardstick=statistics.median(answer["copy"]))


HOP_PINNED = Comparison(
    "service → service, async api, p50, one CPU", Aim(5), "s", _hop, PING_PONG, _ping_pong, around=pinned
)
HOP_MIXED_PINNED = Comparison(
    "service → service, sync api from an async one, p50, one CPU",
    Aim(10),
    "s",
    _hop_mixed,
    PING_PONG,
    _ping_pong,
    around=pinned,
)
HOP_SYNC_PINNED = Comparison(
    "service → service, sync api from a sync one, p50, one CPU",
    Aim(10),
    "s",
    _hop_sync,
    PING_PONG,
    _ping_pong,
    around=pinned,
)
HOP = Comparison("service → service, async api, p50", Aim(0.12), "s", _hop)
HOP_SYNC = Comparison("service → service, sync api from a sync one, p50", Aim(0.12), "s", _hop_sync)
IN_FLIGHT = Comparison("service → service, 64 in flight", Aim(20, "least"), "calls/s", _in_flight)
HTTP_64 = Comparison(
    "HTTP → Front → Leaf, 64 clients, 10,000 calls",
    Aim(8, "least", no_failures=True),
    "calls/s",
    _http_64,
    rounds=HTTP_ROUNDS,
)
HTTP_1 = Comparison("HTTP → Front, one client, p50", Aim(0.5), "s", _http_1)
ARRAY = Comparison("64 MiB float64 array, one way", Aim(2), "s", _array, COPY)
