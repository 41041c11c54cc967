"""The table, for a terminal and as Markdown at once, and the JSON beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.rounds import Median
from benchmarks.row import Row

HEADER = ("what", "nbcompose", "yardstick", "ratio", "aim", "met")
PEERS = ("BentoML", "Ray Serve")
COLOR = re.compile(r"\x1b\[[0-9;]*m")  # of a kernel's tracebacks
MET = {True: "yes", False: "NO", None: "–"}
STRADDLED = ", but the interval straddles the aim"


def table(rows: Sequence[Row], peers: Sequence[str] = PEERS) -> str:
    """A Markdown table whose columns line up. `peers`: the labels that have a column."""
    return markdown((*HEADER, *peers), [_cells(row, peers) for row in rows])


def markdown(header: tuple[str, ...], lines: Sequence[tuple[str, ...]]) -> str:
    lines = [header, *lines]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    texts = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    texts.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(texts)


def legend(medians: Sequence[Median]) -> str:
    """What the brackets of a table are; empty where it has none."""
    coverages = sorted({(m.count, m.coverage) for m in medians if m.count > 1})
    said = ", ".join(f"{coverage:.1%} (of {count} rounds)" for count, coverage in coverages)
    return f"in brackets, an interval that covers the true median with a probability of {said}" if said else ""


def notes(rows: Sequence[Row]) -> str:
    """What is to be said under the figures; empty when nothing is."""
    said = [f"- {row.what}: {one_line(note)}" for row in rows for note in row.notes]
    brackets = legend([row.measured for row in rows if row.measured is not None])
    return "\n".join([*said, *([f"- {brackets}"] if brackets else [])])


def write(
    folder: Path, rows: Sequence[Row], machine: Mapping[str, str], name: str = "bench", peers: Sequence[str] = PEERS
) -> list[Path]:
    """`bench.md` and `bench.json` in `folder`, or what else their `name` is."""
    measured = [{**asdict(row), "met": row.met, "straddled": row.straddled} for row in rows]
    return write_both(folder, name, [table(rows, peers), notes(rows)], measured, machine)


def write_both(
    folder: Path, name: str, texts: Sequence[str], rows: Sequence[Mapping[str, object]], machine: Mapping[str, str]
) -> list[Path]:
    """The texts and the machine as Markdown, the rows and the machine as JSON."""
    folder.mkdir(exist_ok=True)
    text, data = folder / f"{name}.md", folder / f"{name}.json"
    about = ", ".join(f"{key} {value}" for key, value in machine.items())
    text.write_text("\n\n".join(part for part in (*texts, about) if part) + "\n")
    data.write_text(json.dumps({"machine": dict(machine), "rows": list(rows)}, indent=2, ensure_ascii=False) + "\n")
    return [text, data]


def one_line(text: str) -> str:
    """Errors end with what happened; a table has room for no more."""
    lines = COLOR.sub("", text).strip().splitlines()
    return lines[0] if len(lines) < 2 else f"{lines[0]} … {lines[-1]}"


def _cells(row: Row, peers: Sequence[str]) -> tuple[str, ...]:
    ours = "–"
    if row.ours is not None:
        ours = row.ours.with_interval if row.aim.of == "value" and row.ours.median.count > 1 else str(row.ours)
    return (
        row.what,
        ours,
        f"{row.yardstick}: {row.other}" if row.other else row.yardstick,
        "–" if row.ratio is None else _ratio(row.ratio),
        str(row.aim),
        MET[row.met] + (STRADDLED if row.straddled else ""),
        *(str(row.peers.get(label, "–")) for label in peers),
    )


def _ratio(ratio: Median) -> str:
    value, low, high = (f"{x:.2g}" if x < 10 else f"{x:.0f}" for x in (ratio.value, ratio.low, ratio.high))
    return f"{value} × [{low}, {high}]"
