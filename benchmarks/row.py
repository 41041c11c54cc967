"""What a row of the table is: figures, an aim, and whether it was met. Knows nothing of how they are measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Unit = Literal["s", "calls/s", "MB"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value; `detail` is what must be said beside it, such as failures."""

    value: float
    unit: Unit
    detail: str = ""

    def __str__(self) -> str:
        text = self._number()
        return f"{text}, {self.detail}" if self.detail else text

    def _number(self) -> str:
        if self.unit != "s":
            return f"{self.value:,.0f} {self.unit}"
        for factor, unit in ((1e6, "µs"), (1e3, "ms")):
            if self.value * factor < 1000:
                return f"{self.value * factor:.{0 if self.value * factor >= 100 else 1}f} {unit}"
        return f"{self.value:.2f} s"


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

    def met(self, ratio: float | None, ours: float, failures: int) -> bool | None:
        value = ratio if self.of == "ratio" else ours
        if value is None or math.isnan(value):
            return None
        within = value <= self.limit if self.at == "most" else value >= self.limit
        return within and not (self.no_failures and failures)


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
    ratio: float | None = None
    failures: int = 0
    peers: dict[str, Figure] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    samples: dict[str, list[float]] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        return None if self.ours is None else self.aim.met(self.ratio, self.ours.value, self.failures)


def median_ratio(ours: Sequence[float], other: Sequence[float]) -> float:
    """The median of the rounds' own ratios, which a slow minute of the machine moves less than either median."""
    return statistics.median(a / b for a, b in zip(ours, other, strict=True))
