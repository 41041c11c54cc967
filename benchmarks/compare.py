"""One row over running graphs: yardsticks, nbcompose and BentoML in turn, round by round, then Ray Serve alone.

Ray Serve is measured by itself because its idle processes would be heard by the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field

from benchmarks.rounds import ROUNDS, median_ratio, mirrored
from benchmarks.row import Aim, Figure, Row, Unit
from benchmarks.servers import BENTOML, OURS, RAY, Framework, Server, StartError, serving


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

    `yardstick` is the label of what the ratio divides by: one of `raw`, which is measured beside the graphs, or a peer,
    or what the graph takes of its own. `around` is entered before anything starts: CPU affinity, for one.
    """

    what: str
    aim: Aim
    unit: Unit
    take: Callable[[Server], Sample]
    yardstick: str = BENTOML.label
    raw: Mapping[str, Callable[[], float]] = field(default_factory=dict)
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
            turns: list[str | Server] = [*self.raw] if OURS in frameworks else []
            turns += [server for server in servers if self._warm_up(server, taken)]
            for order in mirrored(turns, self.rounds):
                for turn in order:
                    if isinstance(turn, str):
                        taken.raw.setdefault(turn, []).append(self.raw[turn]())
                    elif not self._take_one(turn, taken):
                        turns.remove(turn)

    def _take_one(self, server: Server, taken: Taken) -> bool:
        try:
            taken.add(server.framework, self.take(server))
        except (OSError, ValueError) as error:
            taken.fail(server.framework, error)
            return False
        return True

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
        ours, other = taken.values(OURS.label), self._yardstick(taken)
        comparable = bool(ours) and len(ours) == len(other)
        return Row(
            what=self.what,
            aim=self.aim,
            yardstick=self.yardstick,
            ours=figures.get(OURS.label),
            other=Figure.of(other, self.unit, self._besides(taken)) if other else None,
            ratio=median_ratio(ours, other) if comparable else None,
            failures=sum(sample.failures for sample in taken.samples.get(OURS.label, [])),
            peers={label: figure for label, figure in figures.items() if label != OURS.label},
            notes=taken.notes,
            samples={label: taken.values(label) for label in taken.samples} | taken.raw | {self.yardstick: other},
        )

    def _yardstick(self, taken: Taken) -> list[float]:
        if self.yardstick in self.raw:
            return taken.raw.get(self.yardstick, [])
        if self.yardstick == BENTOML.label:
            return taken.values(BENTOML.label)
        return [s.yardstick for s in taken.samples.get(OURS.label, []) if s.yardstick is not None]

    def _besides(self, taken: Taken) -> str:
        """The other raw costs: figures only."""
        figures = {label: Figure.of(seconds, self.unit) for label, seconds in taken.raw.items()}
        return ", ".join(f"{label} {figure}" for label, figure in figures.items() if label != self.yardstick)

    def _figure(self, samples: Sequence[Sample]) -> Figure:
        calls, failures = sum(s.calls for s in samples), sum(s.failures for s in samples)
        detail = f"{failures:,} of {calls:,} failed" if calls else ""
        return Figure.of([s.value for s in samples], self.unit, detail)


@dataclass(slots=True)
class Taken:
    """The rounds so far, by the label of the framework or yardstick."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    raw: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, framework: Framework, sample: Sample) -> None:
        self.samples.setdefault(framework.label, []).append(sample)

    def fail(self, framework: Framework, error: Exception) -> None:
        self.notes.append(f"{framework.label}: {error}")

    def values(self, label: str) -> list[float]:
        return [sample.value for sample in self.samples.get(label, [])]
