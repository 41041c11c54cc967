"""What travels with a call, W3C trace context, and the bounded logs of spans."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcompose._tracing import spans as tracing
from nbcompose._tracing.spans import (
    CallContext,
    Parent,
    Span,
    SpanBuffer,
    TraceLog,
    cancelled,
    current_call,
    format_traceparent,
    parse_traceparent,
)

TRACE, SPAN = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7
HEADER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def span(trace: int, start: float = 0.0) -> Span:
    return Span(trace, tracing.new_span_id(), 0, "Answer", "ask", 0, start, 0.1, 0.0, "")


# -- traceparent (the examples are those of the recommendation)


def test_a_traceparent_is_read_and_written() -> None:
    assert parse_traceparent(HEADER) == Parent(TRACE, SPAN, flags=1, state="")
    assert format_traceparent(TRACE, SPAN) == HEADER


@pytest.mark.parametrize(("given", "kept"), [("00", 0), ("01", 1), ("02", 2), ("03", 3), ("ff", 3), ("fc", 0)])
def test_flags_that_are_known_are_kept(given: str, kept: int) -> None:
    parent = parse_traceparent(HEADER[:-2] + given)
    assert parent is not None
    assert parent.flags == kept
    assert CallContext(None, *parent).traceparent == f"{HEADER[:-2]}{kept:02x}"


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        ("", True),
        ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", True),
        ("a=" + "x" * 510, True),
        (",".join(f"k{i}=v" for i in range(32)), True),
        (",".join(f"k{i}=v" for i in range(33)), False),
        ("a=" + "x" * 5000, False),
        ("a=\x01", False),
        ("a=é", False),
    ],
)
def test_what_tracing_systems_say_is_passed_on(state: str, kept: bool) -> None:
    parent = parse_traceparent(HEADER, state)
    assert parent is not None
    assert parent.state == (state if kept else "")


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1))
def test_ids_survive_the_header(trace: int, span_id: int) -> None:
    assert parse_traceparent(format_traceparent(trace, span_id)) == Parent(trace, span_id)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "garbage",
        HEADER[:-1],
        HEADER.upper(),
        HEADER.replace("00-4b", "ff-4b"),  # version ff is invalid
        HEADER + "-more",  # version 00 has four parts
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01",
        HEADER.replace("4bf", "4bg"),
    ],
)
def test_invalid_headers_are_no_context(header: str) -> None:
    assert parse_traceparent(header) is None


@pytest.mark.parametrize(
    "header", [f"  {HEADER}\t", HEADER.replace("00-4b", "01-4b"), "cc" + HEADER[2:] + "-what-the-future-adds"]
)
def test_blanks_and_later_versions_are_taken(header: str) -> None:
    parent = parse_traceparent(header)
    assert parent is not None
    assert parent[:2] == (TRACE, SPAN)


@given(st.text())
def test_any_text_is_a_header_or_not(text: str) -> None:
    found = parse_traceparent(text)
    assert found is None or all(found)


# -- the context


def test_a_context_has_a_trace_of_its_own_unless_given() -> None:
    assert CallContext().trace_id != CallContext().trace_id
    assert CallContext(trace_id=5).trace_id == 5


def test_the_deadline_of_a_call_is_within_the_caller_s() -> None:
    now = time.monotonic()
    assert CallContext().limited(None) is None
    assert CallContext().remaining() is None
    assert CallContext().limited(10) == pytest.approx(now + 10, abs=5)
    assert CallContext(now + 5).limited(None) == now + 5
    assert CallContext(now + 5).limited(10) == now + 5
    assert CallContext(now + 50).limited(10) == pytest.approx(now + 10, abs=5)
    assert CallContext(now + 5).remaining() == pytest.approx(5, abs=5)


def test_cancel_calls_back_once() -> None:
    context = CallContext()
    heard: list[str] = []
    first, second = (lambda: heard.append("first")), (lambda: heard.append("second"))
    context.on_cancel(first)
    context.on_cancel(second)
    context.forget(first)
    context.forget(first)
    context.cancel()
    context.cancel()
    assert heard == ["second"]
    context.on_cancel(lambda: heard.append("late"))
    assert heard == ["second", "late"]


def test_a_callback_may_undo_others() -> None:
    context = CallContext()
    callbacks: list[Callable[[], object]] = []

    def undo() -> None:
        for callback in callbacks:
            context.forget(callback)

    callbacks += [undo, undo]
    for callback in callbacks:
        context.on_cancel(callback)
    context.cancel()
    assert context.cancelled


def test_code_can_see_that_nobody_waits() -> None:
    assert not cancelled()
    context = CallContext()
    token = current_call.set(context)
    try:
        assert not cancelled()
        context.cancel()
        assert cancelled()
        current_call.set(CallContext(time.monotonic() - 1))
        assert cancelled()
        current_call.set(CallContext(time.monotonic() + 100))
        assert not cancelled()
    finally:
        current_call.reset(token)


# -- spans


def test_a_buffer_is_bounded_and_counts_what_it_dropped() -> None:
    buffer = SpanBuffer(limit=2)
    spans = [span(i) for i in range(5)]
    for s in spans:
        buffer.add(s)
    assert buffer.dropped == 3
    assert buffer.take() == spans[:2]
    assert (buffer.take(), buffer.dropped) == ([], 0)


def test_a_trace_is_sorted_by_start() -> None:
    log = TraceLog()
    late, early = span(1, 2.0), span(1, 1.0)
    log.extend([late, early, span(2)])
    assert log.trace(1) == [early, late]
    assert log.trace(99) == []
    assert [t[0].trace_id for t in log.latest()] == [1, 2]


def test_the_log_keeps_the_last_traces() -> None:
    log = TraceLog(limit=3)
    log.extend(span(i) for i in range(1, 6))
    assert [t[0].trace_id for t in log.latest()] == [3, 4, 5]


def test_a_trace_that_goes_on_is_a_late_one() -> None:
    log = TraceLog(limit=2)
    log.extend([span(1), span(2), span(1), span(3)])
    assert [t[0].trace_id for t in log.latest()] == [1, 3]
    assert len(log.trace(1)) == 2


def test_a_loop_of_calls_is_one_bounded_trace() -> None:
    log = TraceLog(spans_per_trace=10)
    log.extend(span(1, float(i)) for i in range(100))
    assert [s.start for s in log.trace(1)] == [float(i) for i in range(90, 100)]


def test_all_spans_together_are_bounded() -> None:
    log = TraceLog(limit=1000, spans_per_trace=10, spans=25)
    for trace in range(1, 11):
        log.extend(span(trace) for _ in range(12))
    kept = log.latest()
    assert [t[0].trace_id for t in kept] == [9, 10]
    assert sum(map(len, kept)) <= 25
