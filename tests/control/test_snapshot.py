"""What the front end is told: statuses in, plain data out."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from nbcompose._control.picture import drawing
from nbcompose._control.snapshot import WINDOW, Meter, below, latency_words, memory_words, snapshot
from nbcompose._control.status import ReplicaStatus, Status
from nbcompose._control.usage import Latency
from nbcompose._protocol import messages
from nbcompose._replica import ApiSummary, Phase
from nbcompose._rpc.connection import ConnectionCounts
from nbcompose._spec import ApiSpec, ServiceSpec

MIB = 2**20
UP = ReplicaStatus(0, 4711, "up", Phase.READY, None, "cpu", "", 2, 1, 1000)
WRITER = Status(
    "Writer", "ready", "", 1, (UP,), 1, ("write(x: str)",), (), "http://127.0.0.1:1",
    counts={"write": ApiSummary(answered=2, failed=1), "never": ApiSummary()},
)  # fmt: skip
ANSWER = Status(
    "Answer", "ready", "", 2, (UP, UP), 2, ("ask(x: str)",), ("Writer", "https://far/x"), "",
    traffic={"Writer": ConnectionCounts(3, 1, 1, 100, 200)},
)  # fmt: skip
SPEC = ServiceSpec("Writer", object, (ApiSpec("write", "write", "/write", (), stream=True, doc="Writes."),))


def called(times: int) -> Status:
    return replace(WRITER, counts={"write": ApiSummary(answered=times)})


def number(api: str, answered: int, p50: float | None = None) -> messages.ApiNumbers:
    return {"api": api, "answered": answered, "failed": 1, "refused": 0, "cancelled": 0, "p50": p50, "p95": p50}


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([], ""),
        ([number("ask", 0)], ""),
        ([number("ask", 1, 0.0123)], "12.3 ms"),
        ([number("ask", 1, 4.2), number("tell", 9, 0.0000759)], "75.9 µs (tell)"),
        ([number("ask", 1, 4.2), number("tell", 9)], "4.2 s (ask)"),
    ],
)
def test_a_percentile_is_of_one_api_and_says_of_which(numbers: list[messages.ApiNumbers], text: str) -> None:
    assert latency_words(numbers, "p50") == text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((None,), ""),
        ((519 * MIB,), "519 MiB"),
        ((519 * MIB, 512 * MIB, True), "519 MiB of 512 MiB, over its limit"),
        ((519 * MIB, 1024 * MIB, False, 3 * 1024 * MIB), "519 MiB of 1 GiB, GPU 3 GiB"),
    ],
)
def test_memory_and_its_limit(values: Any, text: str) -> None:
    assert memory_words(*values) == text


def test_memory_is_marked_where_one_replica_uses_more_than_its_share() -> None:
    limited = replace(ANSWER, memory_limit=1500, replicas=(UP, replace(UP, memory=1600)))
    [told] = snapshot([limited], {})["services"]
    assert (told["memory"], told["memory_limit"], told["memory_over"]) == (2600, 3000, True)
    assert not replace(limited, memory_limit=1600).memory_over


def test_a_snapshot_has_what_the_picture_and_the_panel_show() -> None:
    latencies = {"Writer": {"write": Latency(2, 0.0125, 0.5)}}
    told = snapshot(
        [WRITER, ANSWER], {"Writer": SPEC}, {"Writer": 1.26}, "<svg/>", latencies=lambda name: latencies.get(name, {})
    )
    assert json.loads(json.dumps(told)) == told
    writer, answer = told["services"]
    assert (writer["id"], writer["rate"], writer["p50_ms"], writer["calls"]) == ("node:Writer", 1.3, 12.5, 3)
    assert writer["numbers"] == [
        {"api": "write", "answered": 2, "failed": 1, "refused": 0, "cancelled": 0, "p50": 0.0125, "p95": 0.5}
    ]
    assert (writer["errors"], answer["numbers"], answer["p50_ms"]) == (1, [], None)
    assert writer["apis"] == [{"name": "write", "signature": "write()", "doc": "Writes.", "stream": True}]
    assert (answer["up"], answer["wanted"], answer["in_flight"], answer["memory"]) == (2, 2, 4, 2000)
    assert answer["rate"] == 0.0
    assert told["svg"] == "<svg/>"


def test_a_program_is_drawn_as_a_notebook_is() -> None:
    picture = drawing([WRITER, ANSWER], {"Writer": SPEC}, folded=())
    narrow = drawing([WRITER, ANSWER], {"Writer": SPEC}, folded=(), page=280)
    wide, slim = (int(svg.split('width="')[1].split('"')[0]) for svg in (picture, narrow))
    assert slim < 300 < wide
    assert 'id="node:Writer"' in picture
    assert 'id="edge:Answer:Writer"' in picture


def test_all_views_give_the_percentile_of_the_same_api() -> None:
    """`ask` was called most, `tell` most lately."""
    several = replace(WRITER, counts={"ask": ApiSummary(answered=9), "tell": ApiSummary(answered=3)})
    lately = {"ask": Latency(1, 0.05, 0.05), "tell": Latency(3, 2.6, 2.6)}
    [told] = snapshot([several], {}, latencies=lambda _: lately)["services"]
    assert told["p50_ms"] == 50.0
    assert latency_words(told["numbers"], "p50") == "50 ms (ask)"


def test_a_version_that_comes_is_told_of_beside_the_one_that_serves() -> None:
    coming = replace(UP, state="starting", phase=Phase.LOAD)
    rolling = replace(WRITER, replicas=(UP, coming), replacing="new version starting", reversible=True)
    [told] = snapshot([rolling], {})["services"]
    assert (told["state"], told["reversible"]) == ("ready", True)
    assert told["coming"] == "new version starting: loading (__init__)"
    [settled] = snapshot([WRITER], {})["services"]
    assert (settled["coming"], settled["reversible"]) == ("", False)


def test_an_edge_has_its_traffic_and_one_without_calls_has_none_yet() -> None:
    one, other = snapshot([WRITER, ANSWER], {})["edges"]
    assert one == {
        "from": "Answer", "to": "Writer", "id": "edge:Answer:Writer",
        "calls": 3, "in_flight": 1, "streaming": 1, "sent": 100, "received": 200,
    }  # fmt: skip
    assert (other["to"], other["calls"]) == ("https://far/x", 0)


def test_an_edge_to_whom_a_stream_was_passed_and_never_a_circle() -> None:
    passed = {"Writer": ConnectionCounts(2, 0, 0, 10, 20)}
    reader = replace(ANSWER, name="Reader", dependencies=(), reads=("Gone", "Writer"), traffic=passed)
    [edge] = snapshot([WRITER, reader], {})["edges"]
    assert (edge["from"], edge["to"], edge["passed"], edge["calls"]) == ("Reader", "Writer", True, 2)
    both = [replace(WRITER, reads=("Reader", "Writer")), reader]
    assert [(e["from"], e["to"]) for e in snapshot(both, {})["edges"]] == [("Writer", "Reader")]
    assert 'id="edge:Writer:Reader" class="nbc-edge nbc-stream"' in drawing(both, {})


def test_nothing_that_is_secret_or_changes_from_run_to_run_is_told() -> None:
    text = json.dumps(snapshot([WRITER, ANSWER], {"Writer": SPEC}))
    assert "127.0.0.1" not in text
    assert "4711" not in text


@pytest.mark.parametrize(
    ("names", "found"),
    [(None, ["Writer", "Answer"]), (["Answer"], ["Writer", "Answer"]), (["Writer"], ["Writer"]), (["Gone"], [])],
)
def test_the_services_below_a_name(names: list[str] | None, found: list[str]) -> None:
    assert [s.name for s in below([WRITER, ANSWER], names)] == found


def test_a_rate_looks_back_a_moment_and_falls_to_zero() -> None:
    meter = Meter()

    def rate(calls: int, now: float) -> float:
        return meter.rates([called(calls)], now)["Writer"]

    assert rate(100, 0.0) == 0.0  # what was before is not known
    assert rate(110, 1.0) == pytest.approx(10.0)
    assert rate(120, 2.0) == pytest.approx(10.0)
    assert rate(120, 2.0 + WINDOW) == 0.0
    assert rate(5, 5.0) == 0.0  # a new replica counts from 0
    assert rate(7, 6.0) == pytest.approx(2.0)


def test_a_service_that_is_gone_is_forgotten_by_the_meter() -> None:
    meter = Meter()
    meter.rates([WRITER], 0.0)
    meter.rates([], 1.0)
    assert meter.rates([called(50)], 2.0) == {"Writer": 0.0}
