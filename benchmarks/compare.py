"""One row over running graphs: nbcompose, a yardstick and BentoML in turn, round by round, then Ray Serve alone.

Ray Serve is measured by itself because its idle processes would be heard by the others.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field

from benchmarks.row import Aim, Figure, Row, Unit, median_ratio
from benchmarks.servers import BENTOML, OURS, RAY, Framework, Server, StartError, serving

ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Sample:
    """What one round gave. `yardstick`: where the graph took its own, beside each call."""

    value: float
    calls: int = 0
    failures: int = 0
    yardstick: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a row is measured. `take` asks a running graph; it is called once before the rounds, to warm up.

    `yardstick` is a label and, unless it is a peer's or the graph takes its own, what to measure. `around` is entered
    before anything starts: CPU affinity, for one.
    """

    what: str
    aim: Aim
    unit: Unit
    take: Callable[[Server], Sample]
    yardstick: str = BENTOML.label
    raw: Callable[[], float] | None = None
    around: Callable[[], AbstractContextManager[object]] = nullcontext
    rounds: int = ROUNDS

    def run(self, frameworks: Sequence[Framework]) -> Row:
        """The row. A framework that does not start, or fails, leaves a note; the others are measured all the same."""
        taken = Taken()
        with self.around():
            self._take([f for f in (OURS, BENTOML) if f in frameworks], taken)
            if RAY in frameworks:
                self._take([RAY], taken)
        return self._row(taken)

    def _take(self, frameworks: Sequence[Framework], taken: Taken) -> None:
        with ExitStack() as stack:
            servers = [stack.enter_context(serving(framework)) for framework in frameworks]
            alive = [server for server in servers if self._warm_up(server, taken)]
            for _ in range(self.rounds):
                if self.raw is not None and OURS in frameworks:
                    taken.raw.append(self.raw())
                for server in [*alive]:
                    try:
                        taken.add(server.framework, self.take(server))
                    except (OSError, ValueError) as error:
                        taken.fail(server.framework, error)
                        alive.remove(server)

    def _warm_up(self, server: Server, taken: Taken) -> bool:
        try:
            server.first_answer("/ask", {"text": "warm"})
            self.take(server)
        except (StartError, OSError, ValueError) as error:
            taken.fail(server.framework, error)
            return False
        return True

    def _row(self, taken: Taken) -> Row:
        figures = {label: self._figure(samples) for label, samples in taken.samples.items()}
        ours = taken.values(OURS.label)
        other = taken.raw or [s.yardstick for s in taken.samples.get(OURS.label, []) if s.yardstick is not None]
        if self.yardstick == BENTOML.label:
            other = taken.values(BENTOML.label)
        comparable = bool(ours) and len(ours) == len(other)
        return Row(
            what=self.what,
            aim=self.aim,
            yardstick=self.yardstick,
            ours=figures.get(OURS.label),
            other=Figure(statistics.median(other), self.unit) if other else None,
            ratio=median_ratio(ours, other) if comparable else None,
            failures=sum(sample.failures for sample in taken.samples.get(OURS.label, [])),
            peers={label: figure for label, figure in figures.items() if label != OURS.label},
            notes=taken.notes,
            samples={label: taken.values(label) for label in taken.samples} | {self.yardstick: other},
        )

    def _figure(self, samples: Sequence[Sample]) -> Figure:
        calls, failures = sum(s.calls for s in samples), sum(s.failures for s in samples)
        detail = f"{failures:,} of {calls:,} failed" if calls else ""
        return Figure(statistics.median(s.value for s in samples), self.unit, detail)


@dataclass(slots=True)
class Taken:
    """The rounds so far, by the framework's label."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    raw: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, framework: Framework, sample: Sample) -> None:
        self.samples.setdefault(framework.label, []).append(sample)

    def fail(self, framework: Framework, error: Exception) -> None:
        self.notes.append(f"{framework.label}: {error}")

    def values(self, label: str) -> list[float]:
        return [sample.value for sample in self.samples.get(label, [])]
