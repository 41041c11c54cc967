"""What a row of the table is: figures, an aim, and whether it was met. Knows nothing of how they are measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.rounds import Median, median

Unit = Literal["s", "calls/s", "items/s", "MB"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value, by its rounds; `detail` is what must be said beside it, such as failures."""

    median: Median
    unit: Unit
    detail: str = ""

    @classmethod
    def of(cls, rounds: Sequence[float], unit: Unit, detail: str = "") -> Figure:
        """The median of one value for each round. Raises `ValueError` without any."""
        return cls(median(rounds), unit, detail)

    def __str__(self) -> str:
        return self._with_detail(self._number(self.median.value))

    @property
    def with_interval(self) -> str:
        low, high = self._number(self.median.low), self._number(self.median.high)
        return self._with_detail(f"{self._number(self.median.value)} [{low}, {high}]")

    def _with_detail(self, text: str) -> str:
        return f"{text}, {self.detail}" if self.detail else text

    def _number(self, value: float) -> str:
        if self.unit != "s":
            return f"{value:,.0f} {self.unit}" if abs(value) >= 100 else f"{value:.1f} {self.unit}"
        for factor, unit in ((1e6, "µs"), (1e3, "ms")):
            if abs(value) * factor < 1000:
                return f"{value * factor:.{0 if abs(value) * factor >= 100 else 1}f} {unit}"
        return f"{value:.2f} s"


@dataclass(frozen=True, slots=True)
class Aim:
    """What a ratio, or where there is no yardstick the value itself, should be."""

    limit: float
    at: Literal["most", "least"] = "most"
    of: Literal["ratio", "value"] = "ratio"
    no_failures: bool = False

    def __str__(self) -> str:
        sign = "≤" if self.at == "most" else "≥"
        text = f"{sign} {self.limit:g}{' ×' if self.of == 'ratio' else ' s'}"
        return f"{text}, 0 failures" if self.no_failures else text

    def met(self, measured: Median | None, failures: int) -> bool | None:
        """By the median. None where nothing was measured."""
        if measured is None:
            return None
        return self._within(measured.value) and not (self.no_failures and failures)

    def straddled(self, measured: Median | None) -> bool:
        """Whether one end of the interval is within the aim, and the other is not."""
        return measured is not None and self._within(measured.low) != self._within(measured.high)

    def _within(self, value: float) -> bool:
        return value <= self.limit if self.at == "most" else value >= self.limit


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. A figure is None where its framework is not installed or failed; `notes` says which.

    `yardstick` names what `ratio` divides by; `peers` are by label; `samples` holds every round, for the JSON.
    """

    what: str
    aim: Aim
    yardstick: str
    ours: Figure | None = None
    other: Figure | None = None
    ratio: Median | None = None
    failures: int = 0
    peers: dict[str, Figure] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    samples: dict[str, list[float]] = field(default_factory=dict)

    @property
    def measured(self) -> Median | None:
        """What the aim is of."""
        if self.ours is None or self.aim.of == "ratio":
            return self.ratio
        return self.ours.median

    @property
    def met(self) -> bool | None:
        return None if self.ours is None else self.aim.met(self.measured, self.failures)

    @property
    def straddled(self) -> bool:
        return self.aim.straddled(self.measured)


def named(wanted: Sequence[str], names: Iterable[str]) -> list[str]:
    """Those whose names begin with one of `wanted`, or all without any. Raises `ValueError` where none does."""
    known = list(names)
    for beginning in wanted:
        if not any(name.startswith(beginning) for name in known):
            raise ValueError(f"no row's name begins with {beginning!r}; rows: {', '.join(known)}")
    return [name for name in known if not wanted or any(name.startswith(beginning) for beginning in wanted)]
