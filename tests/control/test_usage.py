"""Numbers of services over time, with a clock of the test's own."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbcompose._control.usage import SAMPLE, STEP, STEPS, WINDOW, Latency, Step, Usage
from nbcompose._tracing import CANCELLED, Span

NOON = 1_700_000_000.0 // STEP * STEP


def span(seconds: float, api: str = "ask", error: str = "", service: str = "Answer") -> Span:
    return Span(1, 1, 0, service, api, 0, NOON, seconds, 0.0, error)


@pytest.fixture
def usage() -> Usage:
    usage = Usage()
    usage.count("Answer", 0, 0, None, NOON)
    return usage


def test_only_answers_have_latencies_and_each_api_has_its_own(usage: Usage) -> None:
    usage.add([span(4.2), span(9e-5, error="NameError"), span(9e-5, error=CANCELLED), span(0.5, "tell")], NOON)
    usage.add([span(1.0, service="Unknown")], NOON)
    assert usage.latencies("Answer", NOON) == {"ask": Latency(1, 4.2, 4.2), "tell": Latency(1, 0.5, 0.5)}
    assert usage.latencies("Unknown", NOON) == {}


def test_calls_at_a_breakpoint_have_no_part_in_percentiles(usage: Usage) -> None:
    usage.stand("Answer", True, NOON + 1)
    usage.stand("Answer", True, NOON + 2)
    usage.add([span(5.0)], NOON + 5)
    usage.stand("Answer", False, NOON + 5)
    usage.stand("Answer", False, NOON + 6)
    usage.add([span(6.0), span(0.5)], NOON + 6)
    usage.add([span(0.25)._replace(start=NOON + 5)], NOON + 6)
    assert usage.latencies("Answer", NOON + 6) == {"ask": Latency(2, 0.25, 0.5)}


def test_percentiles_are_those_of_the_window(usage: Usage) -> None:
    usage.add([span(float(n)) for n in range(1, 21)], NOON)
    assert usage.latencies("Answer", NOON + WINDOW - STEP) == {"ask": Latency(20, 10.0, 19.0)}
    usage.add([span(100.0)], NOON + WINDOW)
    assert usage.latencies("Answer", NOON + WINDOW) == {"ask": Latency(1, 100.0, 100.0)}
    assert usage.latencies("Answer", NOON + 3 * WINDOW) == {}


def test_a_sample_counts_for_as_many_as_it_stands_for(usage: Usage) -> None:
    usage.add([span(1.0)] * (SAMPLE * 100), NOON)
    usage.add([span(2.0)] * SAMPLE, NOON + STEP)
    assert usage.latencies("Answer", NOON + STEP) == {"ask": Latency(SAMPLE * 101, 1.0, 1.0)}


@settings(max_examples=100)
@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=300), st.integers(1, 20))
def test_percentiles_are_durations_that_were(durations: list[float], spread: int) -> None:
    usage = Usage()
    usage.count("Answer", 0, 0, None, NOON)
    for i, seconds in enumerate(durations):
        usage.add([span(seconds)], NOON + i % spread * STEP)
    latency = usage.latencies("Answer", NOON + spread * STEP)["ask"]
    assert {latency.p50, latency.p95} <= set(durations)
    assert latency.p50 <= latency.p95
    assert latency.answers == len(durations)
    if len(durations) <= SAMPLE:
        ordered = sorted(durations)
        assert latency.p50 == ordered[(len(ordered) - 1) // 2]


def test_steps_have_what_is_new_in_the_counters(usage: Usage) -> None:
    usage.count("Answer", 3, 1, 1000, NOON)
    usage.count("Answer", 5, 1, 900, NOON + 1)
    usage.add([span(0.25)], NOON + 1)
    usage.count("Answer", 1, 0, 400, NOON + STEP)  # a new replica counts from 0
    usage.count("Answer", 4, 2, 400, NOON + STEP)
    history = usage.history("Answer", NOON + 2 * STEP)
    assert len(history) == STEPS
    assert history[-4:] == [
        Step(0, 0, None, None),
        Step(5, 1, 0.25, 1000),
        Step(3, 2, None, 400),
        Step(0, 0, None, 400),  # as it was
    ]


def test_old_steps_go(usage: Usage) -> None:
    for i in range(3 * STEPS):
        usage.count("Answer", i + 1, 0, 1, NOON + i * STEP)
    history = usage.history("Answer", NOON + (3 * STEPS - 1) * STEP)
    assert [step.calls for step in history] == [1] * STEPS
    assert usage.history("Answer", NOON + 10 * STEPS * STEP) == [Step(0, 0, None, None)] * STEPS


def test_a_service_that_is_gone_is_forgotten(usage: Usage) -> None:
    usage.add([span(1.0)], NOON)
    usage.forget("Answer")
    usage.add([span(1.0)], NOON)
    assert usage.latencies("Answer", NOON) == {}
    assert usage.history("Answer", NOON)[-1] == Step(0, 0, None, None)
