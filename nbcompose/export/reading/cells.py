"""The cells of a notebook, in order: what export starts from. notebook/history.py makes those of a live one."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from nbcompose.errors import ExportRefused


@dataclass(frozen=True, slots=True)
class Looked:
    """What was seen of the notebook's values before and after a run: names whose values were `changed`, and those of
    which that is `unknown`. All others were left as they were.
    """

    changed: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()

    def left(self, name: str) -> bool:
        """Whether the value of a name was left as it was."""
        return name not in self.changed and name not in self.unknown


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a cell, or one cell of a file.

    `key` stays the same when the cell runs again; `label` is what messages call it: "cell 3" in a file, "In [7]" live.
    `stopped`: the line at which a run failed, where that is known. `looked`: what it did to values, in a live notebook.
    """

    key: str
    label: str
    source: str
    seconds: float | None = None
    failed: bool = False
    current: bool = True
    stopped: int | None = None
    looked: Looked | None = None


def read_cells(path: Path) -> list[Cell]:
    """The code cells of a notebook file, as they stand in it; a `.py` file is one cell. Raises `ExportRefused`."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ExportRefused(f"{path.name} is not a text file: {error}") from None
    if path.suffix == ".py":
        return [Cell(path.name, path.name, text)]
    return cells_of(_notebook(path.name, text), path.name)


def cells_of(notebook: Any, name: str = "the notebook") -> list[Cell]:
    """The same of a notebook in nbformat's form, version 4. People count all cells, from 1."""
    metadata = notebook.get("metadata", {})
    language = metadata.get("kernelspec", {}).get("language") or metadata.get("language_info", {}).get("name", "python")
    if language.lower() not in ("python", "ipython"):
        raise ExportRefused(f"{name} is a notebook in {language}: only Python's can be exported")
    return [
        Cell(cell.get("id") or f"#{number}", f"cell {number}", _joined(cell.get("source", "")))
        for number, cell in enumerate(notebook.get("cells", []), 1)
        if cell.get("cell_type") == "code"
    ]


def _notebook(name: str, text: str) -> Any:
    try:
        notebook = json.loads(text)
        if notebook.get("nbformat") == 4:
            return notebook
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return nbformat.reads(text, as_version=4)
    except Exception as error:  # nbformat raises what it comes upon
        raise ExportRefused(f"{name} is not a notebook: {error}") from None


def _joined(source: str | list[str]) -> str:
    return source if isinstance(source, str) else "".join(source)
