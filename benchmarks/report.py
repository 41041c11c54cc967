"""The table, for a terminal and as Markdown at once, and the JSON beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.row import Row

HEADER = ("what", "nbcompose", "yardstick", "ratio", "aim", "met")
PEERS = ("BentoML", "Ray Serve")
COLOR = re.compile(r"\x1b\[[0-9;]*m")  # of a kernel's tracebacks
MET = {True: "yes", False: "NO", None: "–"}


def table(rows: Sequence[Row], peers: Sequence[str] = PEERS) -> str:
    """A Markdown table whose columns line up. `peers`: the labels that have a column."""
    lines = [(*HEADER, *peers), *(_cells(row, peers) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    texts = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    texts.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(texts)


def notes(rows: Sequence[Row]) -> str:
    """What the rows had to say beside their figures, one line each; empty when nothing."""
    return "\n".join(f"- {row.what}: {_one_line(note)}" for row in rows for note in row.notes)


def write(
    folder: Path, rows: Sequence[Row], machine: Mapping[str, str], name: str = "bench", peers: Sequence[str] = PEERS
) -> list[Path]:
    """`bench.md` and `bench.json` in `folder`, or what else their `name` is."""
    folder.mkdir(exist_ok=True)
    markdown, data = folder / f"{name}.md", folder / f"{name}.json"
    about = ", ".join(f"{key} {value}" for key, value in machine.items())
    markdown.write_text("\n\n".join(part for part in (table(rows, peers), notes(rows), about) if part) + "\n")
    measured = [{**asdict(row), "met": row.met} for row in rows]
    data.write_text(json.dumps({"machine": dict(machine), "rows": measured}, indent=2, ensure_ascii=False) + "\n")
    return [markdown, data]


def _cells(row: Row, peers: Sequence[str]) -> tuple[str, ...]:
    other = f"{row.yardstick}: {row.other}" if row.other else row.yardstick
    ratio = f"{row.ratio:.2g} ×" if row.ratio is not None and row.ratio < 10 else f"{row.ratio or 0:.0f} ×"
    return (
        row.what,
        str(row.ours or "–"),
        other,
        "–" if row.ratio is None else ratio,
        str(row.aim),
        MET[row.met],
        *(str(row.peers.get(label, "–")) for label in peers),
    )


def _one_line(text: str) -> str:
    """Errors end with what happened; a table has room for no more."""
    lines = COLOR.sub("", text).strip().splitlines()
    return lines[0] if len(lines) < 2 else f"{lines[0]} … {lines[-1]}"
