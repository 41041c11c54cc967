"""Convert the spans of a trace to rows in the order of the call tree, ready for JSON. Pure functions.

Ids are hex text, as in a `traceparent` header; times are seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, TypedDict

from nbcompose._protocol import CallState, CallValues, SpanRow, Summary
from nbcompose._tracing.spans import CANCELLED, RecordedCall, Span, TraceLog


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
    row: SpanRow = {
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
    if span.input_wait:
        row["input_wait"] = span.input_wait
    return row


def state_of(span: Span) -> CallState:
    if span.error == CANCELLED:
        return "cancelled"
    return "failed" if span.error else "answered"


class Wanted(NamedTuple):
    """Which calls are looked for; None: any. `since`: Unix time of their start. `text`: part of their name or error, or
    of their arguments or answer.
    """

    service: str | None = None
    api: str | None = None
    state: CallState | None = None
    since: float | None = None
    text: str | None = None

    def matches(self, span: Span, with_text: Collection[int] = ()) -> bool:
        """`with_text`: the numbers of the spans in whose arguments or answers the text is."""
        return (
            self.service in (None, span.service)
            and self.api in (None, span.api)
            and self.state in (None, state_of(span))
            and (self.since is None or span.start >= self.since)
            and (
                not self.text
                or span.span_id in with_text
                or self.text.casefold() in f"{span.service}.{span.api} {span.error}".casefold()
            )
        )


ANY = Wanted()


def values_of(span: Span, recorded: Mapping[int, RecordedCall]) -> CallValues:
    """Return the arguments and the answer of a call, ready for JSON."""
    call = recorded.get(span.span_id) or RecordedCall(span.span_id)
    return {
        "span": span_hex(span.span_id),
        "arguments": [{"name": name, "text": text} for name, text in call.arguments],
        "answer": call.answer,
        "error": call.error,
        "items": call.items,
        "first": list(call.first),
        "last": list(call.last),
        "held": call.held,
        "why_not": call.why_not,
    }


def newest_last(log: TraceLog) -> list[list[Span]]:
    """Return every trace that is kept, by its start. (The log is in the order in which replicas reported them.)"""
    return sorted(log.latest(), key=lambda spans: spans[0].start)


def summaries(log: TraceLog, wanted: Wanted = ANY, with_text: Collection[int] = ()) -> list[Summary]:
    """Return every trace that is kept with a call that is `wanted`, the newest first, as a list to choose from."""
    kept = reversed(newest_last(log))
    return [_summary(spans) for spans in kept if wanted == ANY or any(wanted.matches(s, with_text) for s in spans)]


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
