"""What is above everything else in a script: its imports, once, and the environment that they find.

A notebook imports anywhere; a script at the top, sorted (by ruff) and only what it uses.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Collection, Sequence

from nbcompose.errors import ExportRefused
from nbcompose.export.reading.statements import Statement
from nbcompose.export.writing.layout import blocks, comments
from nbcompose.export.writing.naming import Names, bindings


class Head:
    """The top of a script with these statements: `body` are those that go below, `names` what the script calls things.

    `taken`: names that something else binds. Raises `ExportRefused` where imports would give one name two meanings.
    """

    def __init__(self, statements: Sequence[Statement], taken: Collection[str]) -> None:
        rest = [s for s in statements if not _is_import(s)]
        self._imports = [s for s in statements if _is_import(s)]
        _check(self._imports)
        self.names = Names((s.node for s in self._imports), {*taken}.union(*(s.defines for s in rest)))
        self._settings = [s for s in rest if self._goes_above(s)]
        self.body = [s for s in rest if not self._goes_above(s)]

    def text(self) -> str:
        """All that `names` was asked for by now is imported too."""
        first = frozenset[str]().union(*(s.reads for s in self._settings))
        used = self.names.used.union(*(s.reads | s.later | s.deletes for s in self.body))
        above = [s.text if _is_future(s) else _import(s, first) for s in self._imports]
        said = [s for s, text in zip(self._imports, above, strict=True) if text]
        below = ["" if _is_future(s) else _import(s, used - first, commented=s not in said) for s in self._imports]
        settings = blocks(self._settings, [s.text for s in self._settings])
        return "\n".join([*filter(None, above), *settings, *self.names.added, *filter(None, below), ""])

    def notes(self) -> list[str]:
        return [
            f"{s.cell.label}, line {s.line}: the script sets this after its imports: if a library reads it when it is "
            "imported, set it where the script is started"
            for s in self.body
            if self._is_setting(s.node)
        ]

    def _goes_above(self, statement: Statement) -> bool:
        """Libraries read the environment when they are imported: what sets it and needs no more than imports."""
        known = {*dir(builtins)}.union(*(s.defines for s in self._imports))
        return self._is_setting(statement.node) and statement.reads <= known

    def _is_setting(self, node: ast.stmt) -> bool:
        """Whether all that it does is to set environment variables."""
        sets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            sets = [t.value if isinstance(t, ast.Subscript) else t for t in node.targets]
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = node.value.func
            sets = [called.value] if isinstance(called, ast.Attribute) and called.attr in _SETTERS else []
        return bool(sets) and all(self.names.origin(s) == "os.environ" for s in sets)


_SETTERS = ("update", "setdefault")


def _is_import(statement: Statement) -> bool:
    return isinstance(statement.node, ast.Import | ast.ImportFrom)


def _is_future(statement: Statement) -> bool:
    return isinstance(statement.node, ast.ImportFrom) and statement.node.module == "__future__"


def _check(imports: Sequence[Statement]) -> None:
    """At the top of a script an import is there for all; in a notebook the one that ran before is meant."""
    seen: dict[str, tuple[str, Statement]] = {}
    reasons = []
    for statement in imports:
        for name, origin in bindings(statement.node):
            before, first = seen.setdefault(name, (origin, statement))
            if before != origin:
                reasons.append(
                    f"{statement.cell.label}, line {statement.line}: {name} is {origin} here, and {before} in "
                    f"{first.cell.label}, line {first.line}: give one of them another name, `import ... as ...`"
                )
    if reasons:
        raise ExportRefused("the services cannot be exported:", reasons)


def _import(statement: Statement, wanted: Collection[str], *, commented: bool = True) -> str:
    """An import without the names that are not wanted; "" where none is left."""
    node = statement.node
    assert isinstance(node, ast.Import | ast.ImportFrom)
    kept = [a for a in node.names if a.name == "*" or (a.asname or a.name.partition(".")[0]) in wanted]
    if len(kept) in (0, len(node.names)):
        return statement.text if kept else ""
    above = statement.text.split("\n")[: comments(statement.text)] if commented else []
    shorter = ast.Import(kept) if isinstance(node, ast.Import) else ast.ImportFrom(node.module, kept, node.level)
    return "\n".join([*above, ast.unparse(shorter)])
