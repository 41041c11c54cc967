"""What a comparison of two revisions found: a line for each row, and whether the new one is slower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from benchmarks.report import legend, markdown, one_line
from benchmarks.rounds import COVERAGE, Median, median_ratio
from benchmarks.row import Figure, Unit

MARGIN = 0.03  # a change that is less is none
HEADER = ("row", "base", "new", "ratio", "verdict")


class Verdict(Enum):
    SLOWER = "slower"
    FASTER = "faster"
    SAME = "same"
    UNCERTAIN = "not told apart"
    TOO_FEW = "too few rounds"
    NOTHING = "not measured"


@dataclass(frozen=True, slots=True)
class Compared:
    """A row: one value for each round and revision; `failed` says why there is none."""

    name: str
    what: str
    unit: Unit
    base: list[float]
    new: list[float]
    failed: str = ""

    @property
    def ratio(self) -> Median | None:
        """How much worse the new one is: above 1 it takes longer, or more memory, or does less in a second."""
        if self.failed or not self.base:
            return None
        if self.unit in ("s", "MB"):
            return median_ratio(self.new, self.base)
        return median_ratio(self.base, self.new)

    @property
    def verdict(self) -> Verdict:
        return verdict(self.ratio)


def verdict(ratio: Median | None) -> Verdict:
    """By the whole interval, which must have its coverage: what noise alone can do is no finding."""
    if ratio is None:
        return Verdict.NOTHING
    if ratio.coverage < COVERAGE:
        return Verdict.TOO_FEW
    if ratio.low > 1 + MARGIN:
        return Verdict.SLOWER
    if ratio.high < 1 - MARGIN:
        return Verdict.FASTER
    if ratio.low >= 1 - MARGIN and ratio.high <= 1 + MARGIN:
        return Verdict.SAME
    return Verdict.UNCERTAIN


def table(rows: Sequence[Compared]) -> str:
    return markdown(HEADER, [_cells(row) for row in rows])


def notes(rows: Sequence[Compared]) -> str:
    """What is to be said under the figures."""
    said = [f"- {row.name}: {one_line(row.failed)}" for row in rows if row.failed]
    if brackets := legend([row.ratio for row in rows if row.ratio is not None]):
        said.append(
            "- ratio: the median of the rounds' own ratios, above 1 the new one is worse (longer, more memory, fewer a "
            f"second); {brackets}. Slower or faster: all of it is beyond {MARGIN:.0%}; same: all of it is within"
        )
    return "\n".join(said)


def status(rows: Sequence[Compared]) -> int:
    """Of the process: 1 where a row is slower, else 2 where one was not measured, else 0."""
    verdicts = [row.verdict for row in rows]
    return 1 if Verdict.SLOWER in verdicts else 2 if Verdict.NOTHING in verdicts else 0


def _cells(row: Compared) -> tuple[str, ...]:
    ratio = row.ratio
    return (
        f"{row.name}: {row.what}",
        str(Figure.of(row.base, row.unit)) if row.base else "–",
        str(Figure.of(row.new, row.unit)) if row.new else "–",
        f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]" if ratio else "–",
        row.verdict.value,
    )
