"""Timed calls (`Span`), the context that travels down the call tree (`CallContext`), and the log of traces
(`TraceLog`).

Ids and the `traceparent` header are those of W3C Trace Context (https://www.w3.org/TR/trace-context/, version 00). Used
in every process; knows nothing of processes or sockets.
"""

from __future__ import annotations

import contextlib
import random
import re
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import NamedTuple

from nbcompose._tracing import clock

# Ids must be unique, not secret: a seeded generator costs a third of os.urandom.
_random = random.Random()

CANCELLED = "CallCancelled"  # the `error` of a span whose caller has cancelled: not a failure

TRACEPARENT = re.compile(r"^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$")


SAMPLED = 0x01
KNOWN_FLAGS = 0x03  # sampled, and random (how the trace id was generated)
MAX_STATE = 4096  # characters; the standard requires passing on at least 512
MAX_MEMBERS = 32


_LOW = (1 << 64) - 1  # the part of a trace id that is random
_limit = _LOW  # traces are sampled whose ids are not above it there; -1: none
_follows = True  # whether a caller's decision counts


def sample(share: float, follows: bool) -> None:
    """Set which traces this process samples: a share of those that begin here, and what a caller has decided.

    With `follows` False, the share of those from callers too. Ids decide, by the rule of OpenTelemetry's
    `TraceIdRatioBased`, so that all processes decide alike.
    """
    global _limit, _follows
    _limit, _follows = round(share * (_LOW + 1)) - 1, follows


def _flags(trace_id: int) -> int:
    return SAMPLED if _limit == _LOW or trace_id & _LOW <= _limit else 0


class Parent(NamedTuple):
    """The external call that caused a call: ids, flags, and the `tracestate` of tracing systems."""

    trace_id: int
    span_id: int
    flags: int = SAMPLED
    state: str = ""


def new_trace_id() -> int:
    return _random.getrandbits(128) or 1


def new_span_id() -> int:
    return _random.getrandbits(64) or 1


class CallContext:
    """The state that travels with a call: deadline, trace, parent span, and whether the caller has cancelled.

    `deadline` is in seconds on the clock of deadlines (`_tracing/clock.py`); None: no limit. `allowed`: the timeout in
    seconds that a call from outside was given. `span_id` is the caller's span until the call begins, then its own.
    `trace_flags` (of a trace that begins here, see `sample`) and `trace_state` are passed on unchanged: a trace that is
    not sampled is recorded here all the same. `api`: the one that is called, once the call begins. `together`: the
    traces of all calls of a batch, in its context. `on_loop`: the api runs on an event loop, which a blocking call
    would stop. `waited`: seconds that the call waited at its caller before it was sent, while a replica was replaced,
    say. `on_cancel` callbacks run once, on the event loop of the process; `cancelled` may be read from any
    thread.
    """

    __slots__ = (
        "_callbacks", "allowed", "api", "cancelled", "deadline", "on_loop", "span_id", "trace_flags", "trace_id",
        "trace_state", "waited",
    )  # fmt: skip
    together: tuple[int, ...] = ()

    def __init__(
        self,
        deadline: float | None = None,
        trace_id: int = 0,
        span_id: int = 0,
        trace_flags: int = SAMPLED,
        trace_state: str = "",
    ) -> None:
        self.deadline = deadline
        self.allowed: float | None = None
        self.api = ""
        self.trace_id = trace_id or new_trace_id()
        self.span_id = span_id
        self.trace_flags = trace_flags if trace_id else _flags(self.trace_id)
        self.trace_state = trace_state
        self.on_loop = False
        self.waited = 0.0
        self.cancelled = False
        self._callbacks: list[Callable[[], object]] | None = None

    @property
    def traceparent(self) -> str:
        """The `traceparent` header of this call."""
        return format_traceparent(self.trace_id, self.span_id or new_span_id(), self.trace_flags)

    def remaining(self) -> float | None:
        """Return the seconds until the deadline, possibly negative; None if there is no deadline."""
        return None if self.deadline is None else self.deadline - clock.monotonic()

    def within(self, timeout: float) -> CallContext:
        """This context for one call that may take `timeout` seconds, whatever its service allows."""
        return _WithTimeout(self, timeout)

    def limited(self, timeout: float | None) -> float | None:
        """Return the deadline of a nested call that may take `timeout` seconds: at most this call's deadline."""
        if timeout is None:
            return self.deadline
        own = clock.monotonic() + timeout
        return own if self.deadline is None else min(own, self.deadline)

    def on_cancel(self, callback: Callable[[], object]) -> None:
        """Call `callback` when the caller cancels; at once if it already has."""
        if self.cancelled:
            callback()
        elif self._callbacks is None:
            self._callbacks = [callback]
        else:
            self._callbacks.append(callback)

    def forget(self, callback: Callable[[], object]) -> None:
        """Undo `on_cancel`. From any thread."""
        callbacks = self._callbacks  # another thread may be here while the loop cancels
        if callbacks is not None:
            with contextlib.suppress(ValueError):
                callbacks.remove(callback)

    def cancel(self) -> None:
        if self.cancelled:
            return
        self.cancelled = True
        callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            callback()


class _WithTimeout(CallContext):
    """The context of an api, for one of the calls that it makes: with a deadline of its own, and cancelled with it."""

    __slots__ = ("_outer",)

    def __init__(self, outer: CallContext, timeout: float) -> None:
        super().__init__(outer.limited(timeout), outer.trace_id, outer.span_id, outer.trace_flags, outer.trace_state)
        self.on_loop = outer.on_loop
        self._outer = outer

    def limited(self, timeout: float | None) -> float | None:
        return self.deadline

    @property
    def cancelled(self) -> bool:
        return self._outer.cancelled

    @cancelled.setter
    def cancelled(self, value: bool) -> None:
        """It has none of its own."""

    def on_cancel(self, callback: Callable[[], object]) -> None:
        self._outer.on_cancel(callback)

    def forget(self, callback: Callable[[], object]) -> None:
        self._outer.forget(callback)


current_call: ContextVar[CallContext | None] = ContextVar("nbcompose_current_call", default=None)


def cancelled() -> bool:
    """Return whether the caller of the running api has cancelled, or its deadline has passed.

    Long sync code checks this between steps and returns: a thread cannot be stopped from outside.

    Returns:
        False outside a call.
    """
    context = current_call.get()
    if context is None:
        return False
    return context.cancelled or (context.deadline is not None and clock.monotonic() >= context.deadline)


def parse_traceparent(header: str, state: str = "") -> Parent | None:
    """Parse a `traceparent` header and its `tracestate`; None if it is invalid."""
    match = TRACEPARENT.match(header.strip())
    if match is None or match[1] == "ff" or (match[1] == "00" and match[5]):
        return None
    trace_id, span_id = int(match[2], 16), int(match[3], 16)
    if not (trace_id and span_id):
        return None
    is_valid = len(state) <= MAX_STATE and state.count(",") < MAX_MEMBERS and state.isascii() and state.isprintable()
    flags = int(match[4], 16) & KNOWN_FLAGS
    if not _follows:
        flags = flags & ~SAMPLED | _flags(trace_id)
    return Parent(trace_id, span_id, flags, state if is_valid else "")


def format_traceparent(trace_id: int, span_id: int, flags: int = SAMPLED) -> str:
    return f"00-{trace_id:032x}-{span_id:016x}-{flags:02x}"


class Span(NamedTuple):
    """One call at the replica that answered it. Times are `time.time()` seconds; durations are seconds.

    `queued` is the part of `duration` that was spent waiting: at the caller, before the call was sent to a replica that
    could take it, and in the queue. `input_wait` that spent waiting for items of
    the streams among its arguments, `error` the exception's type name or "". `first_item` and `last_item` are the times
    from `start` until a stream yielded them; None if it is no stream or yielded none. `trace_flags` and `trace_state`
    as in `CallContext`.
    """

    trace_id: int
    span_id: int
    parent_id: int
    service: str
    api: str
    replica: int
    start: float
    duration: float
    queued: float
    error: str
    first_item: float | None = None
    last_item: float | None = None
    trace_flags: int = SAMPLED
    trace_state: str = ""
    input_wait: float = 0.0


class RecordedCall(NamedTuple):
    """Arguments and answer of a call, as texts. `items`: how many a stream has given, of which `first` and `last` are
    some; None if it is no stream. `held`: some are objects as they are now, not copies.
    """

    span_id: int
    arguments: tuple[tuple[str, str], ...] = ()
    answer: str | None = None
    error: str = ""
    items: int | None = None
    first: tuple[str, ...] = ()
    last: tuple[str, ...] = ()
    held: bool = False
    why_not: str = ""


class SpanBuffer:
    """Spans to be sent from a replica to the owner process. Bounded, which limits the cost of many calls.

    Used on the replica's event loop only. `dropped` counts the spans that did not fit since the last `take`.
    """

    def __init__(self, limit: int = 512) -> None:
        self._limit = limit
        self._spans: list[Span] = []
        self.dropped = 0

    def add(self, span: Span) -> None:
        if len(self._spans) < self._limit:
            self._spans.append(span)
        else:
            self.dropped += 1

    def take(self) -> list[Span]:
        """Return the spans and empty the buffer."""
        spans, self._spans, self.dropped = self._spans, [], 0
        return spans


class TraceLog:
    """The last traces that services of this owner process took part in. Thread-safe.

    Three bounds: `limit` traces, `spans_per_trace` spans in each (an endless loop of calls is one trace), and `spans`
    in total, which limits the memory at about 350 bytes each. A trace that gets a new span counts as recent.
    """

    def __init__(self, limit: int = 1000, spans_per_trace: int = 1000, spans: int = 50_000) -> None:
        self._limit = limit
        self._spans_per_trace = spans_per_trace
        self._max_spans = spans
        self._count = 0
        self._lock = threading.Lock()
        self._traces: OrderedDict[int, deque[Span]] = OrderedDict()

    def extend(self, spans: Iterable[Span]) -> None:
        with self._lock:
            for span in spans:
                trace = self._traces.get(span.trace_id)
                if trace is None:
                    trace = self._traces[span.trace_id] = deque(maxlen=self._spans_per_trace)
                else:
                    self._traces.move_to_end(span.trace_id)
                self._count += len(trace) < self._spans_per_trace
                trace.append(span)
            while len(self._traces) > self._limit or (self._count > self._max_spans and len(self._traces) > 1):
                self._count -= len(self._traces.popitem(last=False)[1])

    def trace(self, trace_id: int) -> list[Span]:
        """Return the spans of one trace, by their start; empty if it is unknown or has been dropped."""
        with self._lock:
            return sorted(self._traces.get(trace_id, ()), key=lambda s: s.start)

    def latest(self) -> list[list[Span]]:
        """Return every trace that is kept, the oldest first."""
        with self._lock:
            return [sorted(t, key=lambda s: s.start) for t in self._traces.values()]
