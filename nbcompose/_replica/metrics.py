"""Metrics of a replica: calls under way, timed calls, counters, the service's own Prometheus metrics.

Used on the replica's loop; counting is plain Python. The service's own metrics come from the process's default
Prometheus registry, and are collected in a thread, since a collector may run any code.
"""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import psutil
from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.samples import Sample

from nbcompose._replica.admission import Holder, Work
from nbcompose._replica.output import begun, end_lines
from nbcompose._replica.workers import Job
from nbcompose._rpc import LoadTable, call_ledger
from nbcompose._tracing import CANCELLED, CallContext, Span, new_span_id
from nbcompose._user_exceptions import name_of
from nbcompose.errors import DeadlineExceeded, Overloaded

if TYPE_CHECKING:
    from nbcompose._replica.inputs import Inputs
    from nbcompose._replica.instance import Runtime


EARLY = 0.01  # seconds before a deadline at which the caller's timer may already have expired


def outcome(error: BaseException, context: CallContext) -> str:
    """Return the outcome of a failed call for spans and counters: the error's type, or why it was cancelled."""
    if not issubclass(type(error), asyncio.CancelledError | GeneratorExit):
        return name_of(type(error))
    left = context.remaining()
    return DeadlineExceeded.__name__ if left is not None and left <= EARLY else CANCELLED


class CallsUnderWay:
    """The calls that this replica is at, as other processes see them in shared memory: how many they are, in the load
    table, and each one in the ledger (`_rpc/call_ledger.py`). Used on the replica's loop.

    `number`: of calls under way. `held`: further load, of calls that were given up and still hold threads, and of
    breakpoints; see `hold`.
    """

    def __init__(self, board: LoadTable, slot: int) -> None:
        self.number = 0
        self.held = 0
        self._loads, self._slot = board.loads, slot
        self._ledgers = board.ledgers
        begin = slot * call_ledger.LEDGER_SIZE
        self._free = list(range(begin, begin + call_ledger.LEDGER_SIZE, call_ledger.ENTRY.size))
        self._ended: deque[int] = deque()
        self._idle = asyncio.Event()
        self._idle.set()
        self._called = asyncio.Event()

    def begin(self, api: int, context: CallContext, parent: int, start: float) -> int:
        """Enter a call of the api of that number; return its place, for `end`. -1: the ledger has no room for it."""
        self.number += 1
        self._loads[self._slot] = self.number + self.held
        self._idle.clear()
        self._called.set()
        if self._free:
            place = self._free.pop()
        elif self._ended:
            place = self._ended.popleft()
        else:
            return -1
        trace = context.trace_id
        call_ledger.ENTRY.pack_into(
            self._ledgers, place, call_ledger.OPEN, context.trace_flags, api, 0.0, 0.0, start,
            trace >> 64, trace & call_ledger.LOW, context.span_id, parent, b"",
        )  # fmt: skip
        return place

    def end(self, place: int, seconds: float, queued: float, error: str) -> None:
        """Note that a call has ended. It stays in the ledger until `reported`, or until its place is needed."""
        self.number -= 1
        self._loads[self._slot] = self.number + self.held
        if self.number == 0:
            self._idle.set()
        if place < 0:
            return
        memory = self._ledgers
        call_ledger.TIMES.pack_into(memory, place + call_ledger.TIMES_AT, seconds, queued)
        if error:
            name = error.encode(errors="replace")[: call_ledger.ENTRY.size - call_ledger.ERROR_AT]
            memory[place + call_ledger.ERROR_AT : place + call_ledger.ERROR_AT + len(name)] = name
        memory[place] = call_ledger.ENDED
        self._ended.append(place)

    def withdraw(self, place: int) -> None:
        """Forget a call that has not begun, and that another replica makes."""
        self.number -= 1
        self._loads[self._slot] = self.number + self.held
        if self.number == 0:
            self._idle.set()
        if place >= 0:
            self._ledgers[place] = call_ledger.FREE
            self._free.append(place)

    def reported(self) -> None:
        """Take the calls that have ended out of the ledger: the owner knows them."""
        for place in self._ended:
            self._ledgers[place] = call_ledger.FREE
        self._free.extend(self._ended)
        self._ended.clear()

    @property
    def load(self) -> int:
        """The value in the load table."""
        return self.number + self.held

    def hold(self, load: int) -> None:
        """Set the load beside that of calls under way."""
        self.held = load
        self._loads[self._slot] = self.load

    async def none(self) -> None:
        """Wait until no call is under way."""
        await self._idle.wait()

    async def another(self) -> None:
        """Wait until a call has started since the last wait ended."""
        await self._called.wait()
        self._called.clear()


class TimedCall:
    """Measures one call of an api: times, counters, span. `job`: its work in a thread, if any."""

    __slots__ = (
        "_arrived", "_counts", "_first_item", "_last_item", "_parent", "_place", "_queued", "_runtime", "_start", "api",
        "context", "inputs", "job",
    )  # fmt: skip

    def __init__(self, runtime: Runtime, api: str, context: CallContext) -> None:
        self.api = api
        self.context = context
        self.job: Job | None = None
        self.inputs: Inputs | None = None  # the streams among its arguments
        self._runtime = runtime
        self._parent = context.span_id
        context.span_id = new_span_id()
        context.api = api
        self._start = time.time()
        self._arrived = time.perf_counter()
        self._queued = 0.0
        self._first_item: float | None = None
        self._last_item: float | None = None
        self._counts = runtime.metrics.apis[api]
        self._counts.in_progress += 1
        self._place = runtime.under_way.begin(self._counts.number, context, self._parent, self._start)

    @property
    def holder(self) -> Holder:
        """Describes the call to those that wait for its place."""
        paused = self._runtime.pauses(self.job)
        left = self.context.cancelled or (self.job is not None and self.job.left is not None)
        return Holder(self.api, self._start, left, paused)

    def admitted(self) -> None:
        self._queued = time.perf_counter() - self._arrived

    def streamed(self) -> None:
        """Record that an item is about to be sent."""
        self._last_item = time.perf_counter() - self._arrived
        if self._first_item is None:
            self._first_item = self._last_item
        self._counts.items += 1

    def declined(self) -> None:
        """It has not begun, and its caller makes it at another replica, which counts and traces it."""
        self._counts.in_progress -= 1
        self._runtime.under_way.withdraw(self._place)

    def ended(self, error: str = "") -> None:
        seconds = time.perf_counter() - self._arrived
        if begun:
            end_lines(self.context)
        if self.job is not None:
            self._queued = self.job.started - self._arrived if self.job.started else seconds
        runtime = self._runtime
        runtime.under_way.end(self._place, seconds, self._queued, error)
        if error == Overloaded.__name__ and runtime.limited and not self._queued:
            self._counts.refused += 1  # its own queue was full; otherwise that of a service that it called
        self._counts.finished(seconds, self._queued, error)
        waited = self.context.waited
        first, last = self._first_item, self._last_item
        runtime.spans.add(
            Span(
                self.context.trace_id, self.context.span_id, self._parent, runtime.name, self.api,
                runtime.index, self._start - waited, seconds + waited, self._queued + waited, error,
                None if first is None else first + waited, None if last is None else last + waited,
                self.context.trace_flags, self.context.trace_state,
                0.0 if self.inputs is None else min(seconds, self.inputs.waited),
            )
        )  # fmt: skip


# Seconds, from a cached lookup to a long generation; 2.5 steps per decade.
BUCKETS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    120.0,
    300.0,
)
_BUCKET_NAMES = (*map(str, BUCKETS), "+Inf")

# Every outcome is a separate time series that never ends, so exception classes created at run time must be bounded.
MAX_OUTCOMES = 32
OK = "ok"
OTHER = "other"


class ApiSummary(NamedTuple):
    """Numbers of calls that have ended, by how. `refused`: they never began, because of their arguments or because the
    queue was full; `cancelled`: by their callers.
    """

    answered: int = 0
    failed: int = 0
    refused: int = 0
    cancelled: int = 0

    @classmethod
    def of(cls, error: str) -> ApiSummary:
        """Return the numbers of one call that has ended so: the `error` of its span."""
        return cls(cancelled=1) if error == CANCELLED else cls(failed=1) if error else cls(answered=1)

    @property
    def calls(self) -> int:
        return sum(self)

    def plus(self, other: ApiSummary) -> ApiSummary:
        return ApiSummary(*map(sum, zip(self, other, strict=True)))


class _Histogram:
    """Number of observations in each of `BUCKETS`, and their sum."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * len(_BUCKET_NAMES)
        self.sum = 0.0

    def buckets(self) -> list[tuple[str, float]]:
        return list(zip(_BUCKET_NAMES, map(float, accumulate(self.counts)), strict=True))


class ApiCounts:
    """Counts and times of one api's calls. Used on the replica's loop only; `finished` takes about a microsecond.

    `number`: the api's in the ledger of calls.
    """

    __slots__ = ("in_progress", "items", "number", "outcomes", "queued", "refused", "seconds")

    def __init__(self, api: str) -> None:
        self.number = call_ledger.api_number(api)
        self.in_progress = 0
        self.items = 0
        self.refused = 0
        self.outcomes: Counter[str] = Counter()
        self.seconds = _Histogram()
        self.queued = _Histogram()

    def finished(self, seconds: float, queued: float = 0.0, error_type: str = "") -> None:
        """A call has ended after `seconds`, `queued` of which it waited; `error_type` names its exception, if any."""
        self.in_progress -= 1
        self.seconds.counts[bisect_left(BUCKETS, seconds)] += 1
        self.seconds.sum += seconds
        self.queued.counts[bisect_left(BUCKETS, queued) if queued else 0] += 1
        self.queued.sum += queued
        outcome = error_type or OK
        if outcome in self.outcomes:
            self.outcomes[outcome] += 1
        else:
            self.count(outcome)

    def summary(self) -> ApiSummary:
        answered, cancelled = self.outcomes[OK], self.outcomes[CANCELLED]
        failed = self.outcomes.total() - answered - cancelled - self.refused
        return ApiSummary(answered, failed, self.refused, cancelled)

    def count(self, outcome: str) -> None:
        """One more of this outcome, but for its times."""
        if outcome not in self.outcomes and len(self.outcomes) >= MAX_OUTCOMES:
            outcome = OTHER
        self.outcomes[outcome] += 1


class ServiceMetrics:
    """What one replica has done, by api in `apis`. `service` and `replica` label every sample; an ASGI application in
    the owner counts as a replica of that name.
    """

    def __init__(self, service: str, replica: int | str, apis: Iterable[str]) -> None:
        self._labels = (service, str(replica))
        self._process = psutil.Process()
        self.apis = {api: ApiCounts(api) for api in apis}
        self._answers: Counter[tuple[str, int]] = Counter()

    def know(self, apis: Iterable[str]) -> None:
        """Add counters for the apis of new code."""
        for api in apis:
            self.apis.setdefault(api, ApiCounts(api))

    def refused(self, api: str, error_type: str) -> None:
        """Record a call rejected because of its arguments or request; it has no times."""
        self.apis[api].refused += 1
        self.apis[api].count(error_type)

    def answered(self, route: str, status: int) -> None:
        """Record an HTTP response. `route` is one of the service's own, or ""."""
        self._answers[route, status] += 1

    def summary(self) -> dict[str, ApiSummary]:
        """Return how the calls of each api have ended."""
        return {api: counts.summary() for api, counts in self.apis.items()}

    def families(self) -> list[Metric]:
        """Return the current values as Prometheus families, which can be pickled."""
        return [*self.counts(), *self._process_families()]

    def counts(self) -> list[Metric]:
        """Return the families of calls and responses only."""
        return [*self._call_families(), self._http_family()]

    def _call_families(self) -> list[Metric]:
        labels = ["service", "replica", "api"]
        calls = CounterMetricFamily(
            "nbcompose_calls", "Calls that have ended, or were refused.", labels=[*labels, "outcome"]
        )
        progress = GaugeMetricFamily("nbcompose_calls_in_progress", "Calls that wait or run.", labels=labels)
        items = CounterMetricFamily("nbcompose_stream_items", "Items that streams have given.", labels=labels)
        seconds = HistogramMetricFamily(
            "nbcompose_call_seconds", "From arrival to end, waiting included.", labels=labels
        )
        queued = HistogramMetricFamily("nbcompose_queue_seconds", "From arrival until a place was free.", labels=labels)
        for api, counts in self.apis.items():
            key = [*self._labels, api]
            for outcome, count in counts.outcomes.items():
                calls.add_metric([*key, outcome], count)
            progress.add_metric(key, counts.in_progress)
            items.add_metric(key, counts.items)
            seconds.add_metric(key, counts.seconds.buckets(), counts.seconds.sum)
            queued.add_metric(key, counts.queued.buckets(), counts.queued.sum)
        return [calls, progress, items, seconds, queued]

    def work_families(self, work: Work, busy: int) -> list[Metric]:
        """Return gauges of what calls wait for. `busy`: number of busy worker threads."""
        now = time.time()
        longest = 0.0 if work.waiting_since is None else max(0.0, now - work.waiting_since)
        abandoned = sum(h.abandoned for h in work.held)
        labels = ["service", "replica"]
        found: list[Metric] = []
        for name, text, value in (
            ("nbcompose_queue_calls", "Calls that wait for a place.", work.waiting),
            ("nbcompose_queue_longest_seconds", "How long the first of them has waited.", longest),
            ("nbcompose_worker_threads_busy", "Worker threads at work.", busy),
            ("nbcompose_worker_threads_abandoned", "Those whose caller has gone.", abandoned),
            ("nbcompose_streams_paused", "Streams that wait for their consumers.", work.paused),
        ):
            gauge = GaugeMetricFamily(name, text, labels=labels)
            gauge.add_metric(self._labels, value)
            found.append(gauge)
        return found

    def _http_family(self) -> Metric:
        labels = ["service", "replica", "route", "status"]
        answers = CounterMetricFamily("nbcompose_http_responses", "Answers over HTTP, by their status.", labels=labels)
        for (route, status), count in self._answers.items():
            answers.add_metric([*self._labels, route, str(status)], count)
        return answers

    def _process_families(self) -> list[Metric]:
        with self._process.oneshot():
            memory, cpu = self._process.memory_info().rss, self._process.cpu_times()
            started = self._process.create_time()
        labels = ["service", "replica"]
        resident = GaugeMetricFamily("nbcompose_process_resident_bytes", "Memory of the replica.", labels=labels)
        resident.add_metric(self._labels, memory)
        busy = CounterMetricFamily("nbcompose_process_cpu_seconds", "CPU time of the replica.", labels=labels)
        busy.add_metric(self._labels, cpu.user + cpu.system)
        since = GaugeMetricFamily(
            "nbcompose_process_start_time_seconds", "When the replica started, in Unix time.", labels=labels
        )
        since.add_metric(self._labels, started)
        return [resident, busy, since]


def merge(replicas: Iterable[Iterable[Metric]]) -> list[Metric]:
    """Return one family for each name, with the samples of all replicas.

    An exposition may contain a name only once, and every replica has families of the same names. If a replica with
    another code version has another type for a name, the first one is kept.
    """
    merged: dict[str, Metric] = {}
    for family in (family for families in replicas for family in families):
        if family.name not in merged:
            merged[family.name] = Metric(family.name, family.documentation, family.type, family.unit)
        if merged[family.name].type == family.type:
            merged[family.name].samples.extend(family.samples)
    return list(merged.values())


WITHIN = 1.0  # seconds for collecting the service's own metrics; a sibling waits longer (http/backend.py)

RESERVED = "nbcompose_"

logger = logging.getLogger("nbcompose.replica")


class OwnMetrics:
    """Metrics that the service's code defines. `service` and `replica` label every sample."""

    def __init__(self, service: str, replica: int) -> None:
        self._labels = {"service": service, "replica": str(replica)}
        self._collecting: asyncio.Future[list[Metric]] | None = None
        self._left_out: set[str] = set()

    async def families(self) -> list[Metric]:
        """Return the current families; an empty list, and a log message, if collecting fails or takes too long."""
        if self._collecting is None or self._collecting.done():  # do not start another while one hangs
            self._collecting = asyncio.ensure_future(asyncio.to_thread(self._collect))
        try:
            return await asyncio.wait_for(asyncio.shield(self._collecting), WITHIN)
        except TimeoutError:
            logger.warning("%s: its own metrics take more than %g s, and are left out", self._labels["service"], WITHIN)
        except Exception:
            logger.exception("%s: its own metrics cannot be collected, and are left out", self._labels["service"])
        return []

    def _collect(self) -> list[Metric]:
        families = []
        for family in REGISTRY.collect():
            if family.name.startswith(RESERVED):
                if family.name not in self._left_out:
                    logger.warning("metric %s is left out: names in %s* are taken", family.name, RESERVED)
                self._left_out.add(family.name)
                continue
            labelled = Metric(family.name, family.documentation, family.type, family.unit)
            labelled.samples = [self._labelled(sample) for sample in family.samples]
            families.append(labelled)
        return families

    def _labelled(self, sample: Sample) -> Sample:
        # Existing labels with these names become `exported_…`, as when Prometheus adds labels to scraped samples.
        own = {f"exported_{name}" if name in self._labels else name: value for name, value in sample.labels.items()}
        return sample._replace(labels=self._labels | own)


METRICS = "__metrics__"  # api by which replicas, and the owner, request a replica's metrics
