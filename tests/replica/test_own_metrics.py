"""Metrics of the service's own code, beside ours."""

from __future__ import annotations

import asyncio
import logging
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from nbcompose._replica import metrics as module
from nbcompose._replica.metrics import ApiSummary, OwnMetrics, ServiceMetrics, merge
from tests.patience import wait_until


@pytest.fixture
def registered() -> Iterator[list[Any]]:
    """What a test adds to it is in the default registry until it ends."""
    found: list[Any] = []
    yield found
    for collector in found:
        REGISTRY.unregister(collector)


class Collected:
    def __init__(self, families: list[Metric]) -> None:
        self.families = families

    def collect(self) -> list[Metric]:
        return self.families


def read(families: list[Metric]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = generate_latest(Collected(families)).decode()
    return {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for f in text_string_to_metric_families(text)
        for s in f.samples
    }


def labels(**more: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({"service": "Answer", "replica": "0", **more}.items()))


async def test_what_the_service_counts_is_there_by_replica(registered: list[Any]) -> None:
    hits = Counter("hits", "Hits.", ["kind"])
    loaded, seconds = Gauge("loaded", "Loaded."), Histogram("think_seconds", "Thinking.", buckets=(1, 2))
    registered += [hits, loaded, seconds]
    hits.labels("a").inc(2)
    loaded.set(5)
    seconds.observe(1.5)
    replicas = [await OwnMetrics("Answer", i).families() for i in range(3)]
    families = merge(pickle.loads(pickle.dumps(replicas)))  # as they travel
    found = read(families)
    for replica in "012":
        assert found["hits_total", labels(kind="a", replica=replica)] == 2
        assert found["loaded", labels(replica=replica)] == 5
        assert found["think_seconds_bucket", labels(le="2.0", replica=replica)] == 1
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    assert generate_openmetrics(Collected(families)).endswith(b"# EOF\n")


async def test_labels_of_ours_do_not_hide_its_own(registered: list[Any]) -> None:
    gauge = Gauge("shards", "Shards.", ["replica", "service"])
    registered.append(gauge)
    gauge.labels(replica="b", service="x").set(1)
    found = read(await OwnMetrics("Answer", 0).families())
    assert found["shards", labels(exported_replica="b", exported_service="x")] == 1


async def test_names_of_ours_are_taken(registered: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    registered += [Gauge("nbcompose_calls_total", "Theirs."), Gauge("nbcomposed", "Is another word.")]
    metrics = OwnMetrics("Answer", 0)
    families = [*await metrics.families(), *await metrics.families()]
    assert {f.name for f in families if f.name.startswith("nbcompose")} == {"nbcomposed"}
    assert [r.getMessage() for r in caplog.records] == [
        "metric nbcompose_calls_total is left out: names in nbcompose_* are taken"
    ]


async def test_a_collector_that_fails_leaves_ours(registered: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def describe(self) -> list[Metric]:
            return []

        def collect(self) -> Iterator[Metric]:
            raise ZeroDivisionError("on purpose")

    registered.append(Broken())
    REGISTRY.register(registered[0])
    assert await OwnMetrics("Answer", 0).families() == []
    assert "Answer: its own metrics cannot be collected" in caplog.text
    assert "on purpose" in caplog.text


async def test_a_collector_that_hangs_is_left_out_and_asked_once(
    registered: list[Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, asked = threading.Event(), []

    class Hanging:
        def describe(self) -> list[Metric]:
            return []

        def collect(self) -> Iterator[Metric]:
            asked.append(1)
            release.wait()
            yield Metric("at_last", "At last.", "gauge")

    registered.append(Hanging())
    REGISTRY.register(registered[0])
    monkeypatch.setattr(module, "WITHIN", 0.05)
    metrics = OwnMetrics("Answer", 0)
    try:
        with caplog.at_level(logging.WARNING):
            assert await asyncio.gather(*(metrics.families() for _ in range(3))) == [[], [], []]
        assert "its own metrics take more than" in caplog.text
        wait_until(lambda: asked, "the collector is asked")
        assert asked == [1]
    finally:
        release.set()
    monkeypatch.setattr(module, "WITHIN", 20)
    assert "at_last" in {family.name for family in await metrics.families()}


def test_families_of_another_type_in_another_version_are_left_out() -> None:
    first, second = Metric("hits", "Hits.", "counter"), Metric("hits", "Hits.", "gauge")
    first.add_sample("hits_total", {"replica": "0"}, 1)
    second.add_sample("hits", {"replica": "1"}, 1)
    (merged,) = merge([[first], [second]])
    assert [s.name for s in merged.samples] == ["hits_total"]


def test_refused_calls_and_answers_are_counted() -> None:
    metrics = ServiceMetrics("Answer", 0, ["ask"])
    metrics.refused("ask", "InvalidArgument")
    for status in (422, 422, 404):
        metrics.answered("/ask" if status == 422 else "", status)
    found = read(metrics.families())
    assert found["nbcompose_calls_total", labels(api="ask", outcome="InvalidArgument")] == 1
    assert found["nbcompose_calls_in_progress", labels(api="ask")] == 0
    assert found["nbcompose_call_seconds_count", labels(api="ask")] == 0
    assert found["nbcompose_http_responses_total", labels(route="/ask", status="422")] == 2
    assert found["nbcompose_http_responses_total", labels(route="", status="404")] == 1
    assert metrics.summary()["ask"] == ApiSummary(refused=1)
