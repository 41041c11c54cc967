from __future__ import annotations

import os
import pickle

import psutil
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from nbcompose._replica.metrics import BUCKETS, MAX_OUTCOMES, ApiSummary, ServiceMetrics, merge
from nbcompose._tracing import CANCELLED


class Collected(CollectorRegistry):
    def __init__(self, families: list[Metric]) -> None:
        self.families = families

    def collect(self) -> list[Metric]:
        return self.families


def samples(families: list[Metric]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """What a Prometheus server would read: (sample name, its labels) → value."""
    text = generate_latest(Collected(families)).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def labels(**more: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({"service": "Answer", "replica": "0", **more}.items()))


@pytest.fixture
def metrics() -> ServiceMetrics:
    return ServiceMetrics("Answer", 0, ["ask", "tell"])


def test_calls_are_counted_by_outcome(metrics: ServiceMetrics) -> None:
    for error in ("", "", "ValueError"):
        metrics.apis["ask"].in_progress += 1
        metrics.apis["ask"].finished(0.2, 0.1, error)
    metrics.apis["tell"].in_progress += 1
    metrics.apis["tell"].items += 1
    metrics.apis["tell"].items += 1
    read = samples(metrics.families())
    assert read["nbcompose_calls_total", labels(api="ask", outcome="ok")] == 2
    assert read["nbcompose_calls_total", labels(api="ask", outcome="ValueError")] == 1
    assert read["nbcompose_calls_in_progress", labels(api="ask")] == 0
    assert read["nbcompose_calls_in_progress", labels(api="tell")] == 1
    assert read["nbcompose_stream_items_total", labels(api="tell")] == 2


def test_histograms_are_cumulative(metrics: ServiceMetrics) -> None:
    for seconds in (0.0001, 0.001, 0.3, 1000.0):
        metrics.apis["ask"].in_progress += 1
        metrics.apis["ask"].finished(seconds, seconds / 2)
    read = samples(metrics.families())
    assert [read["nbcompose_call_seconds_bucket", labels(api="ask", le=str(b))] for b in BUCKETS] == [
        *[1.0] * 1, *[2.0] * 8, *[3.0] * (len(BUCKETS) - 9),
    ]  # fmt: skip
    assert read["nbcompose_call_seconds_bucket", labels(api="ask", le="+Inf")] == 4
    assert read["nbcompose_call_seconds_count", labels(api="ask")] == 4
    assert read["nbcompose_call_seconds_sum", labels(api="ask")] == pytest.approx(1000.3011)
    assert read["nbcompose_queue_seconds_sum", labels(api="ask")] == pytest.approx(500.15055)


def test_outcomes_do_not_grow_without_end(metrics: ServiceMetrics) -> None:
    for i in range(100):
        metrics.apis["ask"].in_progress += 1
        metrics.apis["ask"].finished(0.0, 0.0, f"Error{i}")
    read = samples(metrics.families())
    outcomes = {key[1]: value for key, value in read.items() if key[0] == "nbcompose_calls_total"}
    assert len(outcomes) == MAX_OUTCOMES + 1
    assert outcomes[labels(api="ask", outcome="other")] == 100 - MAX_OUTCOMES


def test_the_summary_tells_how_calls_ended(metrics: ServiceMetrics) -> None:
    for error in ("", "", "DeadlineExceeded", CANCELLED, CANCELLED, CANCELLED):
        metrics.apis["ask"].in_progress += 1
        metrics.apis["ask"].finished(1.0, error_type=error)
    metrics.refused("ask", "InvalidArgument")
    assert metrics.summary() == {
        "ask": ApiSummary(answered=2, failed=1, refused=1, cancelled=3),
        "tell": ApiSummary(),
    }
    assert metrics.summary()["ask"].calls == 7


def test_the_process_is_measured(metrics: ServiceMetrics) -> None:
    read = samples(metrics.families())
    assert 1e6 < read["nbcompose_process_resident_bytes", labels()] < 1e11
    assert read["nbcompose_process_cpu_seconds_total", labels()] > 0
    started = read["nbcompose_process_start_time_seconds", labels()]
    assert started == pytest.approx(psutil.Process(os.getpid()).create_time(), abs=2)


def test_replicas_are_merged_under_one_name() -> None:
    replicas = [ServiceMetrics("Answer", i, ["ask"]) for i in (0, 1)]
    for metrics in replicas:
        metrics.apis["ask"].in_progress += 1
        metrics.apis["ask"].finished(0.1)
    # As they travel between replicas.
    families = merge(pickle.loads(pickle.dumps([metrics.families() for metrics in replicas])))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    read = samples(families)
    assert read["nbcompose_calls_total", labels(api="ask", outcome="ok")] == 1
    assert read["nbcompose_calls_total", labels(api="ask", outcome="ok", replica="1")] == 1
    text = generate_openmetrics(Collected(families)).decode()
    assert text.endswith("# EOF\n")
    assert text.count("# TYPE nbcompose_calls counter") == 1


def test_merging_leaves_what_it_merges_alone() -> None:
    families = ServiceMetrics("Answer", 0, ["ask"]).families()
    before = [len(family.samples) for family in families]
    merge([families, families])
    assert [len(family.samples) for family in families] == before
