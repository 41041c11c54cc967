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
    values: dict[str, list[float]] = field(default_factory=lambda: {"base": [], "new": []})
    failed: str = ""


def measure(pair: Pair, names: Sequence[str], rounds: int, say: Callable[[str], None]) -> list[Compared]:
    """The rows of these names. One that fails says so, and the others are measured all the same."""
    groups = [(group, [Taken(row) for row in group.rows if row.name in names]) for group in GROUPS]
    for number, order in enumerate(mirrored([pair.base, pair.new], rounds)):
        say(f"round {number + 1} of {rounds} …")
        for group, rows in groups:
            _round(group, [taken for taken in rows if not taken.failed], order)
    return [_compared(taken) for _, rows in groups for taken in rows]


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
    for label, times in values.items():
        taken.values[label].append(statistics.median(times))


@contextmanager
def _failing(label: str, rows: Sequence[Taken]) -> Iterator[None]:
    try:
        yield
    except FAILURES as error:
        for taken in rows:
            taken.failed = f"{label}: {error}"


def _compared(taken: Taken) -> Compared:
    row = taken.row
    return Compared(row.name, row.what, row.unit, taken.values["base"], taken.values["new"], taken.failed)
