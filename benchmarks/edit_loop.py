"""Measures what an edit takes and breaks, and prints one table. See `README.md`.

python -m benchmarks.edit_loop                      every row; also writes build/edit_loop.md and build/edit_loop.json
python -m benchmarks.edit_loop --quick              a few edits of each kind, to see that it works; prints only
python -m benchmarks.edit_loop --without bentoml    leaves the peer out, though it is installed
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from benchmarks import edit_calls, edit_peers, edit_time, machine, report
from benchmarks.edit_load import CLIENTS, FAILED, Load
from benchmarks.edit_peers import RELOADED, RESTARTED, noting
from benchmarks.rounds import Median, median_ratio, mirrored
from benchmarks.row import Aim, Figure, Row
from benchmarks.servers import BENTOML, BUILD, OURS, end_cleanly

PEERS = (RELOADED, RESTARTED)
METHOD = "method edit → new answer, four transformers services"
METHOD_BESIDE = "the same, beside BentoML restarted by hand"
INIT = "__init__ edit of one of them → new answer"
CALL = "the call alone"
LOADING = "loading alone"
MISSING = f"{BENTOML.label} is not installed: its columns stay empty ('benchmarks/make_peers.sh bentoml' adds it)"
OVERHEAD = 0.3  # seconds that a replacement may take besides loading the model


Turn = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Counts:
    """How many edits of each kind. `peer`: how many of each BentoML is given, which takes long for one: not more."""

    methods: int = 20
    inits: int = 10
    swaps: int = 100
    replacements: int = 20
    peer: int = 7


QUICK = Counts(methods=3, inits=2, swaps=10, replacements=4, peer=1)


class NoFailures(Aim):
    """Every call is answered; how many there were in a second is only shown."""

    __slots__ = ()

    def __str__(self) -> str:
        return "0 failures"

    def met(self, measured: Median | None, failures: int) -> bool | None:
        return not failures

    def straddled(self, measured: Median | None) -> bool:
        return False


@dataclass(slots=True)
class Taken:
    """What was measured; `notes`: what was not, and why."""

    ours: edit_time.Times = field(default_factory=edit_time.Times)
    peers: dict[str, edit_peers.Times] = field(default_factory=dict)
    swapped: Load | None = None
    replaced: Load | None = None
    reloaded: Load | None = None
    notes: list[str] = field(default_factory=list)


def main(arguments: Sequence[str]) -> int:
    options = _parse(arguments)
    end_cleanly()
    about = machine.describe()
    print(", ".join(f"{key} {value}" for key, value in about.items()), file=sys.stderr)
    counts = QUICK if options.quick else Counts()
    rows = _rows(_take(counts, bentoml=not options.without), counts)
    print(report.table(rows, PEERS))
    if said := report.notes(rows):
        print(f"\n{said}")
    if not options.quick and not options.without:
        written = report.write(BUILD, rows, about, "edit_loop", PEERS)
        print("\nwritten: " + ", ".join(str(path) for path in written))
    return 0 if all(row.ours and not row.failures for row in rows) else 1


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.edit_loop", description="What an edit takes.")
    parser.add_argument("--quick", action="store_true", help="a few edits of each kind, to see that it works")
    parser.add_argument("--without", choices=[BENTOML.name], help="leave it out")
    return parser.parse_args(arguments)


def _take(counts: Counts, *, bentoml: bool) -> Taken:
    taken = Taken()
    if bentoml and not BENTOML.installed:
        taken.notes.append(MISSING)
        bentoml = False
    _say(f"{OURS.label}: edits of the graph" + (f", beside {RESTARTED}" if bentoml else ""))
    with noting(taken.notes, OURS.label):
        _take_edits(taken, counts, bentoml=bentoml)
    _say(f"{OURS.label}: edits under load")
    with noting(taken.notes, OURS.label):
        taken.swapped, taken.replaced = edit_calls.run(counts.swaps, counts.replacements)
    if bentoml:
        _take_reloads(taken, counts)
    return taken


def _take_edits(taken: Taken, counts: Counts, *, bentoml: bool) -> None:
    """In rounds: an edit of ours and a call, and in the first of them the same edit of BentoML's."""
    with ExitStack() as stack:
        ours = stack.enter_context(edit_time.notebook(taken.ours))
        peers: list[edit_peers.Edited] = []
        if bentoml:
            with noting(taken.notes, RESTARTED):
                times = taken.peers.setdefault(RESTARTED, edit_peers.Times())
                peers.append(stack.enter_context(edit_peers.restarted(times)))
        beside = Beside(counts.peer, taken.notes)
        beside.run([ours.edit_method, ours.call], counts.methods, [peer.edit_method for peer in peers])
        beside.run([ours.edit_init], counts.inits, [peer.edit_init for peer in peers])


@dataclass(frozen=True, slots=True)
class Beside:
    """Rounds in which a peer takes part in the first few, and in no more after it has failed in one."""

    rounds: int
    notes: list[str]

    def run(self, ours: Sequence[Turn], rounds: int, peers: Sequence[Turn]) -> None:
        turns = [*ours, *peers]
        for number, order in enumerate(mirrored(turns, rounds)):
            for turn in order:
                if turn not in peers:
                    turn()
                elif number >= self.rounds or not self._managed(turn):
                    turns.remove(turn)

    def _managed(self, turn: Turn) -> bool:
        with noting(self.notes, RESTARTED):
            turn()
            return True
        return False


def _take_reloads(taken: Taken, counts: Counts) -> None:
    """A figure only, no ratio is made of it: by itself, so that what watches the file is not heard by the others."""
    _say(RELOADED)
    times = taken.peers.setdefault(RELOADED, edit_peers.Times())
    with noting(taken.notes, RELOADED), edit_peers.reloaded(times) as peer:
        for _ in range(counts.peer):
            peer.edit_method()
            peer.edit_init()
    _say(f"{RELOADED}: an edit under load")
    taken.reloaded = edit_peers.load_during_reload(taken.notes)


def _say(what: str) -> None:
    print(f"measuring {what} …", file=sys.stderr, flush=True)


# -- the table


def _rows(taken: Taken, counts: Counts) -> list[Row]:
    ours, restarted = taken.ours, taken.peers.get(RESTARTED, edit_peers.Times())
    methods = {label: times.methods for label, times in taken.peers.items()}
    inits = {label: times.inits for label, times in taken.peers.items()}
    load = statistics.median(ours.loading) if ours.loading else 0.0
    reloaded = {RELOADED: _figure_of(taken.reloaded, "1 edit")} if taken.reloaded is not None else {}
    cell = [f"the edited cell alone, until its card says so: {_median(ours.cells)}"] if ours.cells else []
    return [
        _timed(METHOD, Aim(0.1, of="value"), ours.methods, CALL, ours.calls, methods, [*cell, *taken.notes]),
        _timed(METHOD_BESIDE, Aim(0.01), ours.methods, RESTARTED, restarted.methods, methods),
        _timed(INIT, Aim(round(load + OVERHEAD, 3), of="value"), ours.inits, LOADING, ours.loading, inits),
        _counted(f"{counts.swaps} swaps under {CLIENTS} clients", taken.swapped, reloaded, taken.reloaded),
        _counted(f"{counts.replacements} replacements under {CLIENTS} clients", taken.replaced, {}),
    ]


def _timed(
    what: str,
    aim: Aim,
    ours: list[float],
    yardstick: str,
    other: list[float],
    peers: dict[str, list[float]],
    notes: Sequence[str] = (),
) -> Row:
    return Row(
        what=what,
        aim=aim,
        yardstick=yardstick,
        ours=_median(ours),
        other=_median(other),
        # BentoML takes part in the first rounds only.
        ratio=median_ratio(ours[: len(other)], other) if 0 < len(other) <= len(ours) else None,
        peers={label: Figure.of(seconds, "s") for label, seconds in peers.items() if seconds},
        notes=list(notes),
        samples={OURS.label: ours, yardstick: other, **peers},
    )


def _median(seconds: list[float]) -> Figure | None:
    return Figure.of(seconds, "s") if seconds else None


def _counted(what: str, load: Load | None, peers: dict[str, Figure], other: Load | None = None) -> Row:
    notes = [
        f"{label}: " + ", ".join(f"{count} × {kind}" for kind, count in made.failures.items())
        for label, made in ((OURS.label, load), (RELOADED, other))
        if made is not None and made.failures
    ]
    if load is not None:
        newest = next((answer for answer in load.last if answer != FAILED), FAILED)
        older = sum(count for answer, count in load.after.items() if answer != newest)
        notes.append(f"answers of {len(load.answers)} states of the graph; {older} of an older one after the last edit")
    return Row(
        what=what,
        aim=NoFailures(0),
        yardstick="–",
        ours=_figure_of(load) if load is not None else None,
        failures=load.failed if load is not None else 0,
        peers=peers,
        notes=notes,
    )


def _figure_of(load: Load, *besides: str) -> Figure:
    detail = ", ".join([f"{load.failed:,} of {load.calls:,} failed ({load.during:,} during the edits)", *besides])
    return Figure.of([(load.calls - load.failed) / load.seconds], "calls/s", detail)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
