"""Takes the rows of both revisions in turn, round by round.

Every round starts the processes of both anew and side by side: where a process lands in memory, and the order of its
sets, make a difference that stays with it, and would otherwise be taken for one between the revisions. Every row is
then taken from one and the other at once, in an order that is mirrored from one time to the next.
"""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from benchmarks.revisions.rows import GROUPS, Group, Measured
from benchmarks.revisions.trees import Pair
from benchmarks.revisions.verdict import Compared
from benchmarks.rounds import mirrored
from benchmarks.servers import Framework, StartError

FAILURES = (StartError, OSError, ValueError, RuntimeError, TimeoutError, subprocess.SubprocessError)


@dataclass(slots=True)
class Taken:
    """What the rounds of one row gave so far, by the label of the revision; `failed` says why there will be no more."""

    row: Measured
    rounds: list[dict[str, float]] = field(default_factory=list)
    failed: str = ""

    def compared(self) -> Compared:
        base, new = ([values[label] for values in self.rounds] for label in ("base", "new"))
        return Compared(self.row.name, self.row.what, self.row.unit, base, new, self.failed)


class Measurement:
    """The rows of these names. One that fails says so, and the others are measured all the same."""

    def __init__(self, names: Sequence[str]) -> None:
        self._groups = [(group, [Taken(row) for row in group.rows if row.name in names]) for group in GROUPS]

    def run(self, pair: Pair, rounds: int, say: Callable[[str], None]) -> None:
        for number, order in enumerate(mirrored([pair.base, pair.new], rounds)):
            say(f"round {number + 1} of {rounds} …")
            for group, rows in self._groups:
                _round(group, [taken for taken in rows if not taken.failed], order)

    def rows(self) -> list[Compared]:
        """What whole rounds have given so far."""
        return [taken.compared() for _, rows in self._groups for taken in rows]


def _round(group: Group, rows: Sequence[Taken], order: Sequence[Framework]) -> None:
    if not rows:
        return
    with ExitStack() as stack:
        started: list[tuple[str, object]] = []
        for framework in order:
            with _failing(framework.label, rows):
                started.append((framework.label, stack.enter_context(group.start(framework))))
        for taken in rows:
            if not taken.failed:
                _take(taken, started)


def _take(taken: Taken, started: Sequence[tuple[str, object]]) -> None:
    values: dict[str, list[float]] = {label: [] for label, _ in started}
    for turns in mirrored(started, taken.row.times):
        for label, subject in turns:
            with _failing(label, [taken]):
                values[label].append(taken.row.take(subject))
            if taken.failed:
                return
    taken.rounds.append({label: statistics.median(times) for label, times in values.items()})


@contextmanager
def _failing(label: str, rows: Sequence[Taken]) -> Iterator[None]:
    try:
        yield
    except FAILURES as error:
        for taken in rows:
            taken.failed = f"{label}: {error}"
