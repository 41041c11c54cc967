"""Slices for the tests of what comes after slicing: all the statements of some cells, none left out."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nbcompose._export.binding import StatementNames
from nbcompose._export.cells import Cell
from nbcompose._export.requirements import LookUp
from nbcompose._export.slice import Slice
from nbcompose._export.statements import Statement


def sliced(
    *cells: str,
    services: Mapping[str, Mapping[str, Any] | None],
    entries: Sequence[str] = (),
    frozen: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Slice:
    """`services`: variables with the options of their %%service cells, None where they have no such cell."""
    statements = [s for i, text in enumerate(cells, 1) for s in statements_of(text, f"cell {i}", services)]
    return Slice(tuple(statements), tuple(services), tuple(entries or services), tuple(frozen), tuple(notes))


def statements_of(text: str, label: str, services: Mapping[str, Mapping[str, Any] | None]) -> Iterator[Statement]:
    cell = Cell(label, label, text)
    lines = text.splitlines()
    for node in ast.parse(text).body:
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        while first > 1 and lines[first - 2].startswith("#"):
            first -= 1
        assert node.end_lineno is not None
        names = [n for n in ast.walk(node) if isinstance(n, ast.Name)]
        defines = {n.id for n in names if isinstance(n.ctx, ast.Store)} | set(bound(node))
        yield Statement(
            cell=cell,
            text="\n".join(lines[first - 1 : node.end_lineno]),
            node=node,
            line=first,
            names=StatementNames(defines=defines, reads={n.id for n in names if isinstance(n.ctx, ast.Load)}),
            options=next((services[name] for name in sorted(defines) if name in services), None),
        )


def bound(node: ast.stmt) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Import | ast.ImportFrom):
            yield from (a.asname or a.name.partition(".")[0] for a in inner.names)
        elif isinstance(inner, ast.ClassDef | ast.FunctionDef):
            yield inner.name


def installed(**versions: str) -> LookUp:
    """A look-up where each of these distributions has the module of its name."""
    known = {"nbcompose": "0.1.0", **versions}

    def look_up(names: list[str], distributions: list[str]) -> dict[str, Any]:
        tops = {name: name.partition(".")[0] for name in names}
        wanted = {name: top for name, top in tops.items() if top not in sys.stdlib_module_names}
        found = {name: [top] if top in known else [] for name, top in wanted.items()}
        return {
            "python": [3, 11],
            "modules": {name: {"distributions": d, "file": ""} for name, d in found.items()},
            "distributions": {name: {"version": version, "url": ""} for name, version in known.items()},
        }

    return look_up
