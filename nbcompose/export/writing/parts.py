"""The fixed parts of a script, out of template.py's text: docstring, loading of frozen values, the last statement."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nbcompose.export.writing.naming import Names, bindings

TEMPLATE = Path(__file__).with_name("template.py")
_NOTEBOOK = "NOTEBOOK"
_ENTRY = "Entry"
_FILE = "file"


def _template() -> ast.Module:
    """Parsed anew each time, so that it may be changed.

    `copy.deepcopy` of a tree can take seconds: there is one `ast.Load()` for all trees, and once IPython has printed a
    traceback its parent is a node of another tree, and is copied with everything around it.
    """
    return ast.parse(TEMPLATE.read_text(encoding="utf-8"))


def _docstring() -> str:
    return ast.get_docstring(_template()) or ""


def docstring(notebook: str) -> str:
    """The docstring of a script, as a statement. `notebook` is a file's name."""
    text = _docstring().replace(_NOTEBOOK, " ".join(notebook.split()))
    return ast.unparse(ast.Module([ast.Expr(ast.Constant(text))], []))


def exported_from(script: str) -> str | None:
    """The notebook that a script says it was exported from; None where nbcompose has not written it."""
    try:
        found = ast.get_docstring(ast.parse(script))
    except (SyntaxError, ValueError):
        return None
    before, _, after = _docstring().partition(_NOTEBOOK)
    match = re.fullmatch(f"{re.escape(before)}(.+){re.escape(after)}", found or "")
    return match[1] if match else None


def guard(entries: Sequence[str], names: Names) -> str:
    """The last statement of a script: serve these, where it is the program."""
    statement = _template().body[-1]
    served = [ast.Name(entry) for entry in entries]
    for call in (n for n in ast.walk(statement) if isinstance(n, ast.Call)):
        call.args = [new for arg in call.args for new in (served if _is(arg, _ENTRY) else [arg])]
    return ast.unparse(_Fill(_template_origins(), {}, names).visit(statement))


def loading(name: str, loader: str, place: Sequence[str], names: Names) -> str:
    """The statement that gives `name` what a loader of the template reads from a file, at `place` beside the script."""
    function = next(n for n in _template().body if isinstance(n, ast.FunctionDef) and n.name == loader)
    result = function.body[-1]
    assert isinstance(result, ast.Return)
    assert result.value is not None
    path: ast.expr = ast.parse(f"{names.member('pathlib', 'Path')}(__file__).parent", mode="eval").body
    for part in place:
        path = ast.BinOp(path, ast.Div(), ast.Constant(part))
    fill = _Fill(_template_origins() | _origins(function.body), {_FILE: path}, names)
    statement = ast.Assign([ast.Name(name)], fill.visit(result.value), lineno=0)
    why = ast.get_docstring(function)
    return (f"# {why}\n" if why else "") + ast.unparse(statement)


def _is(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _template_origins() -> dict[str, ast.stmt]:
    return _origins(_template().body)


def _origins(body: Sequence[ast.stmt]) -> dict[str, ast.stmt]:
    """The imports in a block by the names that they bind."""
    return {name: node for node in body for name, _ in bindings(node)}


class _Fill(ast.NodeTransformer):
    """Puts values for some names, and for those of the template's imports what the script calls the same things."""

    def __init__(self, imports: Mapping[str, ast.stmt], values: Mapping[str, ast.expr], names: Names) -> None:
        self._imports = imports
        self._values = values
        self._names = names

    def visit_Name(self, node: ast.Name) -> Any:
        if node.id in self._values:
            return self._values[node.id]
        found = self._imports.get(node.id)
        if found is None:
            return node
        origin = dict(bindings(found))[node.id]
        if isinstance(found, ast.Import):
            text = self._names.module(origin, node.id)
        else:
            text = self._names.member(*_split(origin))
        return ast.parse(text, mode="eval").body


def _split(origin: str) -> tuple[str, str]:
    module, _, member = origin.rpartition(".")
    return module, member
