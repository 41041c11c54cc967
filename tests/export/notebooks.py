"""Notebooks in a few words, for the tests of export."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from nbcompose._export.cells import Cell
from nbcompose._export.slice import Slice, needed
from nbcompose._export.statements import statements_of
from nbcompose._notebook.history import Looking


def service(name: str = "A", body: str = "return 1", *, top: str = "", line: str = "", base: str = "") -> str:
    """A %%service cell. `top` stands in the class's body, above its api."""
    top = f"    {top}\n" if top else ""
    return f"%%service {line}\nclass {name}{base}:\n{top}    @api\n    def f(self):\n        {body}"


def file(*sources: str) -> list[Cell]:
    """The cells of a file, after one that imports what services need."""
    return [Cell(f"k{n}", f"cell {n}", s) for n, s in enumerate(("from nbcompose import api, depends", *sources), 1)]


def live(*runs: tuple[str, str] | tuple[str, str, dict[str, Any]]) -> list[Cell]:
    """Runs of cells: (key, source, more of the cell). A run whose cell ran again with another source is overtaken."""
    full = [("imports", "from nbcompose import api, depends"), *runs]
    latest = {run[0]: run[1] for run in full}
    cells = []
    for number, (key, source, *more) in enumerate(full, 1):
        fields: dict[str, Any] = {"current": latest[key] == source, **(more[0] if more else {})}
        cells.append(Cell(key, f"In [{number}]", source, **fields))
    return cells


def ran(*sources: str, namespace: dict[str, Any] | None = None) -> list[Cell]:
    """The cells of a notebook that is run here, one after another, and looked at after each. Services stay classes."""
    space = {} if namespace is None else namespace
    space["__name__"] = "__main__"
    looking = Looking(SimpleNamespace(user_ns=space, user_ns_hidden={"__name__", "__builtins__"}))
    looking.start()
    cells = []
    for number, source in enumerate(("from nbcompose import api, depends", *sources), 1):
        exec(source.removeprefix("%%service"), space)
        cells.append(Cell(f"k{number}", f"In [{number}]", source, looked=looking.after(1.0)))
    return cells


def sliced(cells: Sequence[Cell], entries: Sequence[str] | None = None, **options: Any) -> Slice:
    return needed(statements_of(cells), entries, **options)


def lines(found: Slice) -> list[str]:
    """The first line of each statement, but for the imports of nbcompose; of classes, their names."""
    return [
        s.node.name if isinstance(s.node, ast.ClassDef) else s.text.partition("\n")[0]
        for s in found.statements
        if s.text != "from nbcompose import api, depends"
    ]
