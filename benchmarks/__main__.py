"""Measures the rows named, or all, and prints one table. See `README.md`.

python -m benchmarks                     every row; also writes build/bench.md and build/bench.json
python -m benchmarks hop http            rows whose names begin so; prints only
python -m benchmarks --without ray       leaves a peer out, though it is installed
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from benchmarks import calls, cell, graph, machine, report
from benchmarks.row import Row, named
from benchmarks.servers import BENTOML, BUILD, OURS, RAY, Framework, end_cleanly

Measure = Callable[[Sequence[Framework]], Sequence[Row]]

MEASURES: dict[str, Measure] = {
    "hop-pinned": lambda frameworks: [calls.HOP_PINNED.run(frameworks)],
    "hop-recorded-pinned": lambda frameworks: [calls.HOP_RECORDED_PINNED.run([f for f in frameworks if f is OURS])],
    "hop-mixed-pinned": lambda frameworks: [calls.HOP_MIXED_PINNED.run(frameworks)],
    "hop-sync-pinned": lambda frameworks: [calls.HOP_SYNC_PINNED.run(frameworks)],
    "hop": lambda frameworks: [calls.HOP.run(frameworks)],
    "hop-sync": lambda frameworks: [calls.HOP_SYNC.run(frameworks)],
    "in-flight": lambda frameworks: [calls.IN_FLIGHT.run(frameworks)],
    "http-64": lambda frameworks: [calls.HTTP_64.run(frameworks)],
    "http-1": lambda frameworks: [calls.HTTP_1.run(frameworks)],
    "cell": lambda frameworks: [cell.run()],
    "array": lambda frameworks: [calls.ARRAY.run(frameworks)],
    "graph": graph.run,
}


def main(arguments: Sequence[str]) -> int:
    options = _parse(arguments)
    end_cleanly()
    frameworks = [f for f in (OURS, BENTOML, RAY) if f.installed and f.name not in options.without]
    for peer in (BENTOML, RAY):
        if not peer.installed:
            print(
                f"{peer.label} is not installed: its column stays empty ('make bench-peers' adds it)", file=sys.stderr
            )
    about = machine.describe()
    print(", ".join(f"{key} {value}" for key, value in about.items()), file=sys.stderr)
    rows: list[Row] = []
    for name in options.rows:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        rows.extend(MEASURES[name](frameworks))
    print(report.table(rows))
    if said := report.notes(rows):
        print(f"\n{said}")
    if options.rows == list(MEASURES):
        print("\nwritten: " + ", ".join(str(path) for path in report.write(BUILD, rows, about)))
    return 0 if all(row.ours for row in rows) else 1


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What nbcompose costs.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"begins the name of a row: {', '.join(MEASURES)}")
    parser.add_argument("--without", action="append", default=[], choices=[BENTOML.name, RAY.name], help="leave it out")
    options = parser.parse_args(arguments)
    try:
        options.rows = named(options.rows, MEASURES)
    except ValueError as error:
        parser.error(str(error))
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
