"""Numbers of the services over the last ten minutes: calls, failures, durations of answers, memory.

Kept in steps of ten seconds. Counts come from the replicas' counters, durations from the spans that they report: of a
step in which an api answers often, a random sample is kept. Thread-safe.
"""

from __future__ import annotations

import math
import random
import threading
import time
from array import array
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from nbcompose._tracing import Span

_random = random.Random()  # its own: what the notebook draws from `random` is not changed
STEP = 10.0  # seconds
STEPS = 60  # that are kept
WINDOW = 300.0  # seconds over which `p50` and `p95` are taken
SAMPLE = 64  # durations of an api that are kept of a step


class Latency(NamedTuple):
    """Durations of an api's answers in the last `WINDOW` seconds, in seconds. `answers`: how many there were."""

    answers: int
    p50: float
    p95: float


class Step(NamedTuple):
    """What happened in one step: `calls` that ended, how many of them `failed`, the answers' `p95` in seconds, and the
    most `memory` in bytes; None where nothing is known.
    """

    calls: int
    failed: int
    p95: float | None
    memory: int | None


class _Durations:
    """A random sample of an api's answers in one step."""

    __slots__ = ("count", "kept")

    def __init__(self) -> None:
        self.count = 0
        self.kept = array("d")

    def add(self, seconds: float) -> None:
        self.count += 1
        if self.count <= SAMPLE:
            self.kept.append(seconds)
        elif (place := _random.randrange(self.count)) < SAMPLE:  # reservoir sampling
            self.kept[place] = seconds


class _Step:
    __slots__ = ("answers", "calls", "failed", "memory", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.calls = self.failed = 0
        self.memory: int | None = None
        self.answers: dict[str, _Durations] = {}


class _Series:
    """One service. `calls` and `failed`: the counters as they were last. `stood`: from when to when it, or a service
    below it, was at a breakpoint last.
    """

    def __init__(self) -> None:
        self.steps: deque[_Step] = deque(maxlen=STEPS)
        self.calls = self.failed = 0
        self.stood = (0.0, 0.0)

    def at(self, now: float) -> _Step:
        number = int(now // STEP)
        if not self.steps or self.steps[-1].number < number:
            self.steps.append(_Step(number))
        return self.steps[-1]


class Usage:
    """The numbers of all services of this process."""

    def __init__(self) -> None:
        self._services: dict[str, _Series] = {}
        self._lock = threading.Lock()

    def add(self, spans: Iterable[Span], now: float | None = None) -> None:
        """Take the durations of calls that were answered, of services that are counted; not of those during which a
        person was at a breakpoint.
        """
        now = time.time() if now is None else now
        with self._lock:
            for span in spans:
                series = self._services.get(span.service)
                if series is not None and not span.error and not _stood(span, *series.stood):
                    answers = series.at(now).answers
                    durations = answers.get(span.api)
                    if durations is None:
                        durations = answers[span.api] = _Durations()
                    durations.add(span.duration)

    def count(self, service: str, calls: int, failed: int, memory: int | None, now: float | None = None) -> None:
        """Take a service's counters, which begin again at 0 with a new replica, and its memory."""
        now = time.time() if now is None else now
        with self._lock:
            series = self._services.get(service)
            if series is None:
                series = self._services[service] = _Series()
            if (calls, failed, memory) == (0, 0, None):
                return
            step = series.at(now)
            step.calls += max(0, calls - series.calls)
            step.failed += max(0, failed - series.failed)
            if memory is not None:
                step.memory = max(memory, step.memory or 0)
            series.calls, series.failed = calls, failed

    def stand(self, service: str, still: bool, now: float | None = None) -> None:
        """Note that a service is held at a breakpoint, or is no longer."""
        now = time.time() if now is None else now
        with self._lock:
            series = self._services.get(service)
            if series is not None:
                begun, ended = series.stood
                is_still = ended == math.inf
                if still and not is_still:
                    series.stood = (now, math.inf)
                elif is_still and not still:
                    series.stood = (begun, now)

    def forget(self, service: str) -> None:
        with self._lock:
            self._services.pop(service, None)

    def latencies(self, service: str, now: float | None = None) -> dict[str, Latency]:
        """Return the latencies of the apis that have answered in the last `WINDOW` seconds."""
        first = int((time.time() if now is None else now) // STEP) - int(WINDOW // STEP) + 1
        found: dict[str, list[_Durations]] = {}
        with self._lock:
            series = self._services.get(service)
            for step in series.steps if series is not None else ():
                if step.number >= first:
                    for api, durations in step.answers.items():
                        found.setdefault(api, []).append(durations)
            return {api: _latency(parts) for api, parts in found.items()}

    def history(self, service: str, now: float | None = None) -> list[Step]:
        """Return the last `STEPS` steps, the present one last; memory that was not measured anew is as it was."""
        last = int((time.time() if now is None else now) // STEP)
        steps: list[Step] = []
        memory: int | None = None
        with self._lock:
            series = self._services.get(service)
            kept = {step.number: step for step in series.steps} if series is not None else {}
            for number in range(last - STEPS + 1, last + 1):
                step = kept.get(number) or _Step(number)
                memory = memory if step.memory is None else step.memory
                p95 = _latency(step.answers.values()).p95 if step.answers else None
                steps.append(Step(step.calls, step.failed, p95, memory))
        return steps


def _latency(parts: Iterable[_Durations]) -> Latency:
    """Return the percentiles by nearest rank; each duration of a sample stands for as many as it was drawn from."""
    weighted = sorted((seconds, part.count / len(part.kept)) for part in parts for seconds in part.kept)
    total = sum(weight for _, weight in weighted)
    return Latency(round(total), _at(weighted, 0.5 * total), _at(weighted, 0.95 * total))


def _at(weighted: list[tuple[float, float]], rank: float) -> float:
    passed = 0.0
    for seconds, weight in weighted:
        passed += weight
        if passed >= rank - 1e-9:
            return seconds
    return weighted[-1][0]


def _stood(span: Span, begun: float, ended: float) -> bool:
    return span.start < ended and span.start + span.duration > begun
