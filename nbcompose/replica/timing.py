"""One call at a replica, timed: made when it arrives, ended exactly once, which writes its span and its counts."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from nbcompose.errors import DeadlineExceeded
from nbcompose.raised import name_of
from nbcompose.replica.queueing import Holder
from nbcompose.replica.threads import Job
from nbcompose.tracing import CANCELLED, CallContext, Span, new_span_id

if TYPE_CHECKING:
    from nbcompose.replica.runtime import Runtime


EARLY = 0.01  # seconds before a deadline at which the caller's timer may have gone off


def outcome(error: BaseException, context: CallContext) -> str:
    """What a span and the counts say of a call that raised: the error's type, or why the caller did not wait for it."""
    if not issubclass(type(error), asyncio.CancelledError | GeneratorExit):
        return name_of(type(error))
    left = context.remaining()
    return DeadlineExceeded.__name__ if left is not None and left <= EARLY else CANCELLED


class TimedCall:
    """A call of an api of a runtime. `job`: where a thread does it."""

    __slots__ = (
        "_arrived", "_first_item", "_last_item", "_parent", "_queued", "_runtime", "_start", "api", "context", "job",
    )  # fmt: skip

    def __init__(self, runtime: Runtime, api: str, context: CallContext) -> None:
        self.api = api
        self.context = context
        self.job: Job | None = None
        self._runtime = runtime
        self._parent = context.span_id
        context.span_id = new_span_id()
        self._start = time.time()
        self._arrived = time.perf_counter()
        self._queued = 0.0
        self._first_item: float | None = None
        self._last_item: float | None = None
        runtime.begin()
        runtime.metrics.started(api)

    @property
    def holder(self) -> Holder:
        """As those who wait for its place see it."""
        paused = self._runtime.pauses(self.job)
        left = self.context.cancelled or (self.job is not None and self.job.left is not None)
        return Holder(self.api, self._start, left, paused)

    def admitted(self) -> None:
        self._queued = time.perf_counter() - self._arrived

    def streamed(self) -> None:
        """An item is about to go out."""
        self._last_item = time.perf_counter() - self._arrived
        if self._first_item is None:
            self._first_item = self._last_item
        self._runtime.metrics.streamed(self.api)

    def ended(self, error: str = "") -> None:
        seconds = time.perf_counter() - self._arrived
        if self.job is not None:
            self._queued = self.job.started - self._arrived if self.job.started else seconds
        runtime = self._runtime
        runtime.end()
        runtime.metrics.finished(self.api, seconds, self._queued, error)
        runtime.spans.add(
            Span(
                self.context.trace_id, self.context.span_id, self._parent, runtime.spec.name, self.api,
                runtime.index, self._start, seconds, self._queued, error, self._first_item, self._last_item,
            )
        )  # fmt: skip
