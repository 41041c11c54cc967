"""Convert the spans of a trace to rows in the order of the call tree, ready for JSON. Pure functions.

Ids are hex text, as in a `traceparent` header; times are seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypedDict

from nbcompose._protocol import SpanRow, Summary
from nbcompose._tracing.spans import Span, TraceLog


class Waterfall(TypedDict):
    """One trace. `start` is `time.time()` seconds."""

    trace: str
    start: float
    seconds: float
    rows: list[SpanRow]


def trace_hex(trace_id: int) -> str:
    return f"{trace_id:032x}"


def span_hex(span_id: int) -> str:
    return f"{span_id:016x}" if span_id else ""


def call_tree(spans: Iterable[Span]) -> list[tuple[Span, int]]:
    """Return every span with its depth: callers before their calls, siblings by their start.

    A span whose caller is missing is a root: it was called from outside, or its caller has not ended yet.
    """
    ordered = sorted(spans, key=lambda s: s.start)
    known = {s.span_id for s in ordered}
    below: dict[int, list[Span]] = {}
    for span in ordered:
        below.setdefault(span.parent_id if span.parent_id in known else 0, []).append(span)
    found: list[tuple[Span, int]] = []
    todo = [(span, 0) for span in reversed(below.get(0, ()))]
    while todo:  # not recursive: a chain of calls may be longer than Python's stack
        span, depth = todo.pop()
        found.append((span, depth))
        todo += [(child, depth + 1) for child in reversed(below.get(span.span_id, ()))]
    return found


def extent(spans: Sequence[Span]) -> tuple[float, float]:
    """Return when the first span began, and how many seconds later the last one ended; zeros if there are none."""
    start = min((s.start for s in spans), default=0.0)
    return start, max((s.start + s.duration for s in spans), default=0.0) - start


def waterfall(spans: Sequence[Span]) -> Waterfall:
    """Return the data to draw one trace."""
    start, seconds = extent(spans)
    return {
        "trace": trace_hex(spans[0].trace_id) if spans else "",
        "start": start,
        "seconds": seconds,
        "rows": [_row(span, depth, start) for span, depth in call_tree(spans)],
    }


def _row(span: Span, depth: int, origin: float) -> SpanRow:
    return {
        "span": span_hex(span.span_id),
        "parent": span_hex(span.parent_id),
        "service": span.service,
        "api": span.api,
        "replica": span.replica,
        "depth": depth,
        "start": span.start - origin,
        "queued": span.queued,
        "seconds": span.duration,
        "first_item": span.first_item,
        "last_item": span.last_item,
        "error": span.error,
    }


def newest_last(log: TraceLog) -> list[list[Span]]:
    """Return every trace that is kept, by its start. (The log is in the order in which replicas reported them.)"""
    return sorted(log.latest(), key=lambda spans: spans[0].start)


def summaries(log: TraceLog) -> list[Summary]:
    """Return every trace that is kept, the newest first, as a list to choose from."""
    return [_summary(spans) for spans in reversed(newest_last(log))]


def _summary(spans: Sequence[Span]) -> Summary:
    start, seconds = extent(spans)
    roots = [span for span, depth in call_tree(spans) if depth == 0]
    return {
        "trace": trace_hex(spans[0].trace_id),
        "root": f"{roots[0].service}.{roots[0].api}",
        "start": start,
        "seconds": seconds,
        "spans": len(spans),
        "error": next((root.error for root in roots if root.error), ""),
    }
