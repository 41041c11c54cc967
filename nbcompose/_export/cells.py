"""Cells of a notebook, in order: the input of an export. See `_notebook/history.py` for those of a live notebook."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbcompose.errors import ExportRefused


@dataclass(frozen=True, slots=True)
class Looked:
    """Comparison of the notebook's values before and after a run.

    Names whose values were `changed`, and those for which that is `unknown`. All others kept their values.
    """

    changed: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()

    def left(self, name: str) -> bool:
        """Whether the value of a name is known to be unchanged."""
        return name not in self.changed and name not in self.unknown


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a cell, or one cell of a file.

    `key` stays the same when the cell runs again; `label` is its name in messages: "cell 3" in a file, "In [7]" live.
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
    """Return the code cells of a notebook file, in order; a `.py` file is one cell. Raises `ExportRefused`."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ExportRefused(f"{path.name} is not a text file: {error}") from None
    if path.suffix == ".py":
        return [Cell(path.name, path.name, text)]
    return cells_of(_notebook(path.name, text), path.name)


def cells_of(notebook: Any, name: str = "the notebook") -> list[Cell]:
    """Return the code cells of a notebook in nbformat's form, version 4. Labels count all cells, from 1.

    Raises `ExportRefused`.
    """
    metadata = _part(notebook, "metadata")
    language = _part(metadata, "kernelspec").get("language") or _part(metadata, "language_info").get("name", "python")
    if str(language).lower() not in ("python", "ipython"):
        raise ExportRefused(f"{name} is a notebook in {language}: only Python's can be exported")
    cells = notebook.get("cells", [])
    if not isinstance(cells, list):
        raise ExportRefused(f"{name} is not a notebook: its cells are {_kind(cells)}, not a list")
    found, damaged = [], []
    keys = set()
    for number, cell in enumerate(cells, 1):
        if not isinstance(cell, dict):
            damaged.append(f"cell {number}: it is {_kind(cell)}")
        elif cell.get("cell_type") == "code":
            source = _joined(cell.get("source"))
            if source is None:
                damaged.append(f"cell {number}: its source is {_kind(cell.get('source'))}, not text")
                continue
            key = cell.get("id")
            if not isinstance(key, str) or not key or key in keys:
                key = f"#{number}"
            keys.add(key)
            found.append(Cell(key, f"cell {number}", source))
    if damaged:
        raise ExportRefused(f"{name} is damaged: save it anew in Jupyter, or mend these cells", damaged)
    return found


def _notebook(name: str, text: str) -> Any:
    try:
        notebook = json.loads(text)
        if not isinstance(notebook, dict):
            raise ValueError(f"it is {_kind(notebook)}")
        if notebook.get("nbformat") == 4:
            return notebook
        import nbformat  # imports a validator with all its formats: two seconds, which kernels need not wait

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return nbformat.reads(text, as_version=4)
    except Exception as error:  # nbformat raises many kinds of errors
        raise ExportRefused(f"{name} is not a notebook: {error}") from None


def _part(holder: Any, name: str) -> dict[str, Any]:
    part = holder.get(name)
    return part if isinstance(part, dict) else {}


def _joined(source: Any) -> str | None:
    """Return a cell's text, which may be a list of lines; None where it is neither."""
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        return "".join(source)
    return source if isinstance(source, str) else None


def _kind(value: Any) -> str:
    """Return the kind of a JSON value, in words."""
    if value is None:
        return "missing"
    if isinstance(value, list):
        odd = next((item for item in value if not isinstance(item, str | list | dict)), "")
        return f"a list with {_kind(odd)} in it" if odd != "" else "a list"
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "a text", dict: "an object"}
    return kinds.get(type(value), type(value).__name__)
