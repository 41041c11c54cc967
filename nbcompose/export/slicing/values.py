"""Which names of a notebook may stand for one value, or one that holds it: who alters one, alters the other."""

from __future__ import annotations

import ast
from itertools import count

from nbcompose.export.reading.scopes import FUNCTIONS
from nbcompose.export.reading.statements import Statement

DEFINITIONS = (*FUNCTIONS, ast.ClassDef)
IMPORTS = (ast.Import, ast.ImportFrom)


class Values:
    """Each name has marks, of the values that it stands for and of those that these hold: names with a mark in common
    belong together. What nothing alters (constants, functions, imports) has none of its own.
    """

    def __init__(self) -> None:
        self._marks: dict[str, set[int]] = {}
        self._new = count()

    def same(self, name: str) -> set[str]:
        """The name, and those that belong to it now."""
        marks = self._marks.get(name, set())
        return {name, *(other for other, others in self._marks.items() if marks & others)}

    def follow(self, statement: Statement, touched: set[str], returned: set[str]) -> None:
        """A statement has run. What it touches may now hold what it reads; `returned`: by functions that it calls."""
        names = statement.names
        given = set[int]().union(*(self._marks.get(name, ()) for name in returned))
        held = {name: self._held(name, statement) | given for name in names.defines}
        for name, other in sorted(names.aliases):
            held.get(name, set()).update(held.get(other, ()))
        for name in names.defines:
            before = set() if name in names.surely else self._marks.get(name, set())
            self._marks[name] = before | held[name]
        for name in touched - names.surely:
            marks = self._marks.setdefault(name, {next(self._new)})
            marks.update(*(self._marks.get(other, ()) for other in names.reads))
        for name in names.deletes:
            self._marks.pop(name, None)

    def _held(self, name: str, statement: Statement) -> set[int]:
        others = [other for alias, other in statement.names.aliases if alias == name]
        own = set[int]() if is_plain(statement) else {next(self._new)}
        return own.union(*(self._marks.get(other, ()) for other in others))


def is_plain(statement: Statement) -> bool:
    """Whether it gives the same whenever it runs: an import, a function, a class, a constant."""
    return isinstance(statement.node, (*IMPORTS, *DEFINITIONS)) or is_constant(statement.node)


def is_constant(node: ast.stmt) -> bool:
    """Whether it binds names to values that nothing can alter."""
    return isinstance(node, ast.Assign | ast.AnnAssign) and _is_literal(node.value)


def _is_literal(node: ast.expr | None) -> bool:
    if isinstance(node, ast.Tuple):
        return all(_is_literal(e) for e in node.elts)
    if isinstance(node, ast.UnaryOp):
        return _is_literal(node.operand)
    if isinstance(node, ast.BinOp):
        return _is_literal(node.left) and _is_literal(node.right)
    return isinstance(node, ast.Constant)
