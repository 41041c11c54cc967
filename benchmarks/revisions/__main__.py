"""Compares the working tree with a revision, and prints one table. See `README.md`.

python -m benchmarks.revisions BASE                 every row; also writes build/revisions.md and build/revisions.json
python -m benchmarks.revisions BASE hop http        rows whose names begin so; prints only
python -m benchmarks.revisions BASE --rounds 15     narrower intervals

Its exit status is 1 when a row of the working tree is slower, and 2 when one could not be measured. Interrupted, it
prints what the rounds so far have given.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict

from benchmarks import machine, report
from benchmarks.revisions import verdict
from benchmarks.revisions.measure import Measurement
from benchmarks.revisions.rows import GROUPS
from benchmarks.revisions.trees import UnknownRevision, pair
from benchmarks.revisions.verdict import Compared
from benchmarks.row import named
from benchmarks.servers import BUILD, end_cleanly

ROUNDS = 9  # the interval leaves out the smallest and the largest ratio: 96.1 %
NAMES = [row.name for group in GROUPS for row in group.rows]


def main(arguments: Sequence[str]) -> int:
    options = _parse(arguments)
    end_cleanly()
    about = machine.describe()
    measurement = Measurement(options.rows)
    try:
        with pair(options.base) as both:
            _say(both.about)
            measurement.run(both, options.rounds, _say)
    except UnknownRevision as error:
        _say(str(error))
        return 2
    except KeyboardInterrupt:
        _say("interrupted: everything that was started has ended")
        if measured := [row for row in measurement.rows() if row.base]:
            print(_text(measured))
        return 130
    rows = measurement.rows()
    print(_text(rows))
    if options.rows == NAMES:
        compared = [_data(row) for row in rows]
        written = report.write_both(BUILD, "revisions", [both.about, _text(rows)], compared, about)
        print("\nwritten: " + ", ".join(str(path) for path in written))
    return verdict.status(rows)


def _text(rows: Sequence[Compared]) -> str:
    return f"{verdict.table(rows)}\n\n{verdict.notes(rows)}"


def _data(row: Compared) -> dict[str, object]:
    return {**asdict(row), "ratio": asdict(row.ratio) if row.ratio else None, "verdict": row.verdict.value}


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.revisions", description="Whether the working tree is slower than a revision."
    )
    parser.add_argument("base", metavar="BASE", help="the revision: a commit, a tag, a branch")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"begins the name of a row: {', '.join(NAMES)}")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"{ROUNDS} without it; fewer than 6 give no verdict")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    try:
        options.rows = named(options.rows, NAMES)
    except ValueError as error:
        parser.error(str(error))
    return options


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
