"""Convert spans to the Trace Event Format of Perfetto (https://ui.perfetto.dev) and chrome://tracing.

The format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU. A service is shown as a
process and a replica as a thread. Times are microseconds from the first span's start.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from nbcompose._tracing.rows import span_hex, trace_hex
from nbcompose._tracing.spans import CANCELLED, Span

CATEGORY = "nbcompose"
LANE = 1000  # added to a thread's number for each further concurrent call of a replica

Event = dict[str, Any]


class _Slice:
    """A span with its position: `at` is its process and thread, `begin` and `end` are microseconds."""

    __slots__ = ("at", "begin", "end", "span")

    def __init__(self, span: Span, origin: float) -> None:
        self.span = span
        self.begin = _micros(span.start - origin)
        self.end = self.begin + _micros(span.duration)
        self.at: dict[str, int] = {}

    def after(self, seconds: float) -> int:
        """Return the time, in microseconds, `seconds` after its begin, but at most its end."""
        return min(self.begin + _micros(seconds), self.end)


def trace_events(spans: Iterable[Span]) -> dict[str, Any]:
    """Return the whole document, for `json.dump`."""
    ordered = sorted(spans, key=lambda s: s.start)
    origin = ordered[0].start if ordered else 0.0
    slices = {s.span_id: _Slice(s, origin) for s in ordered}
    events = _place(list(slices.values()))
    for piece in slices.values():
        events += _calls(piece)
        caller = slices.get(piece.span.parent_id)
        if caller is not None:
            events += _arrow(caller, piece)
    return {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {"start": datetime.fromtimestamp(origin, UTC).isoformat()},
    }


def _place(slices: list[_Slice]) -> list[Event]:
    """Assign threads to the slices, and return the events that name the processes and threads.

    Slices of one thread must not overlap, so each concurrent call of a replica gets its own thread.
    """
    events: list[Event] = []
    processes: dict[str, int] = {}
    lanes: dict[tuple[str, int], list[int]] = {}  # when the last call of each ends
    for piece in slices:
        service, replica = piece.span.service, piece.span.replica
        if service not in processes:
            processes[service] = len(processes) + 1
            events.append(_name("process_name", {"pid": processes[service], "tid": 0}, service))
        ends = lanes.setdefault((service, replica), [])
        lane = next((n for n, end in enumerate(ends) if end <= piece.begin), len(ends))
        piece.at = {"pid": processes[service], "tid": replica + lane * LANE}
        if lane == len(ends):
            ends.append(0)
            events.append(_name("thread_name", piece.at, f"replica {replica}" + (f" ({lane + 1})" if lane else "")))
        ends[lane] = piece.end
    return events


def _name(kind: str, at: dict[str, int], name: str) -> Event:
    return {"ph": "M", "name": kind, "ts": 0, **at, "args": {"name": name}}


def _calls(piece: _Slice) -> list[Event]:
    """Return the events of a call: the call itself, its time in the queue, and the marks of a stream."""
    span = piece.span
    events = [_slice(span.api, piece, piece.end, _details(span))]
    if waited := piece.after(span.queued) - piece.begin:
        events.append(_slice("queued", piece, piece.begin + waited, {}))
    for name, moment in (("first item", span.first_item), ("last item", span.last_item)):
        if moment is not None:
            events.append(_event("i", name, piece, ts=piece.after(moment), s="t"))
    return events


def _details(span: Span) -> dict[str, Any]:
    details = {
        "trace": trace_hex(span.trace_id),
        "span": span_hex(span.span_id),
        "parent": span_hex(span.parent_id),
        "replica": span.replica,
        "error": span.error,
    }
    return {name: value for name, value in details.items() if value != ""}


def _slice(name: str, piece: _Slice, end: int, args: dict[str, Any]) -> Event:
    event = _event("X", name, piece, ts=piece.begin, dur=end - piece.begin, args=args)
    return {**event, "cname": "terrible"} if args.get("error", CANCELLED) != CANCELLED else event


def _arrow(caller: _Slice, called: _Slice) -> list[Event]:
    """Return the events of an arrow from the caller's slice to the beginning of the slice of its call."""
    number = span_hex(called.span.span_id)
    begin = max(caller.begin, min(called.begin, caller.end))
    return [
        _event("s", "call", caller, ts=begin, id=number),
        _event("f", "call", called, ts=called.begin, id=number, bp="e"),
    ]


def _event(kind: str, name: str, piece: _Slice, **more: Any) -> Event:
    return {"ph": kind, "name": name, "cat": CATEGORY, **piece.at, **more}


def _micros(seconds: float) -> int:
    return max(0, round(seconds * 1e6))
