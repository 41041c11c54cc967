"""Top-level statements of cells, each with its text in the script and the names that it uses."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbcompose._export.binding import DEFINITIONS, IMPORTS, StatementNames
from nbcompose._export.cells import Cell
from nbcompose._export.effects import last
from nbcompose._export.magics import Plain, magic_in, plain
from nbcompose._export.names import names_of

# The head of a script, for those that start it: `#!`, and PEP 723's block.
_HEAD = re.compile(r"\A#!.*\n|^# /// [a-zA-Z0-9-]+$\n(?:^#(?:| .*)$\n)+?^# ///$\n?", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Statement:
    """A top-level statement.

    `text` includes the comments above it and no magics; `line` is its first line in the cell, from 1. `options`: those
    of the %%service cell, where it is a service of that. `magic`: the text of the magic or shell command that it is, or
    that its value comes from; where a whole cell is not Python, `node` is `pass` and `text` is empty. `decorated`: it
    is a class with `@service`.
    """

    cell: Cell
    text: str
    node: ast.stmt
    line: int
    names: StatementNames = field(default_factory=StatementNames, compare=False, repr=False)
    options: Mapping[str, Any] | None = None
    magic: str = ""
    decorated: bool = False

    @property
    def is_import(self) -> bool:
        return isinstance(self.node, IMPORTS)

    @property
    def is_definition(self) -> bool:
        return isinstance(self.node, DEFINITIONS)

    @property
    def is_plain(self) -> bool:
        """Whether it gives the same result whenever it runs: an import, a function, a class, a constant."""
        return self.is_import or self.is_definition or is_constant(self.node)

    @property
    def is_future(self) -> bool:
        return isinstance(self.node, ast.ImportFrom) and self.node.module == "__future__"

    @property
    def failed(self) -> bool:
        """Whether its cell may have failed at this statement, or before it; those before the failure did run."""
        stopped = self.cell.stopped
        return self.cell.failed and (stopped is None or (self.node.end_lineno or self.line) >= stopped)

    @property
    def ran(self) -> bool:
        """Whether its cell got as far as this statement."""
        return self.cell.stopped is None or self.line <= self.cell.stopped


def statements_of(cells: Iterable[Cell]) -> list[Statement]:
    """Return the statements of all cells, in the order in which they ran. A cell that is not Python counts as one."""
    found: list[Statement] = []
    services = _Services()
    lazy = sys.version_info >= (3, 14)  # from 3.14 on annotations are evaluated lazily
    for cell in cells:
        try:
            parsed = plain(cell.source)
            tree = ast.parse(parsed.text)
            names = [names_of(node, lazy_annotations=lazy or any(map(_is_future, tree.body))) for node in tree.body]
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            found.append(_foreign(cell, f"{cell.source.strip()} ({_why(error)})"))
            continue
        if parsed.foreign:
            found.append(_foreign(cell, parsed.foreign))
            continue
        lazy = lazy or any(_is_future(s) for s in tree.body)
        texts = list(_texts(parsed.text, tree.body))
        for node, text, own in zip(tree.body, texts, names, strict=True):
            options = parsed.options if services.take(node, parsed, tree) else None
            magic, decorated = magic_in(getattr(node, "value", None)), services.decorate(node)
            found.append(Statement(cell, text, node, first_line(node), own, options, magic, decorated))
    return found


def first_line(node: ast.stmt) -> int:
    """Return the line at which a statement begins, with its decorators."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(d.lineno for d in decorators)])


def is_constant(node: ast.stmt) -> bool:
    """Whether a statement binds names to immutable values."""
    return isinstance(node, ast.Assign | ast.AnnAssign) and is_literal(node.value)


def is_literal(node: ast.expr | None) -> bool:
    if isinstance(node, ast.Tuple):
        return all(is_literal(e) for e in node.elts)
    if isinstance(node, ast.UnaryOp):
        return is_literal(node.operand)
    if isinstance(node, ast.BinOp):
        return is_literal(node.left) and is_literal(node.right)
    return isinstance(node, ast.Constant)


def _foreign(cell: Cell, what: str) -> Statement:
    what = what.encode(errors="backslashreplace").decode()  # lone surrogates cannot be printed
    node = ast.Pass(lineno=1, col_offset=0, end_lineno=1, end_col_offset=0)
    return Statement(cell, "", node, 1, magic=what)


def _why(error: Exception) -> str:
    """Return why a cell cannot be parsed as Python."""
    if isinstance(error, SyntaxError):
        return error.msg
    if isinstance(error, RecursionError | MemoryError):
        return "an expression in it is nested too deeply: write it in several"
    return str(error)  # null bytes, or lone surrogates


def _is_future(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and any(a.name == "annotations" for a in node.names)
    )


class _Services:
    """Decides which classes become services: those with an api of their own or of a base, or with `@service`."""

    def __init__(self) -> None:
        self._known: dict[str, bool] = {}  # classes of the notebook
        self._apis, self._decorators = {"api"}, {"service"}  # the notebook's names for them

    def take(self, node: ast.stmt, cell: Plain, tree: ast.Module) -> bool:
        """Whether a statement is a service of its %%service cell."""
        if isinstance(node, ast.ImportFrom) and node.module == "nbcompose":
            self._apis.update(a.asname or a.name for a in node.names if a.name == "api")
            self._decorators.update(a.asname or a.name for a in node.names if a.name == "service")
        if not isinstance(node, ast.ClassDef):
            return False
        bases = [last(b) for b in node.bases]
        is_one = has_api(node, self._apis) or self.decorate(node) or any(self._known.get(b, False) for b in bases)
        if cell.options is not None and not is_one and sum(isinstance(s, ast.ClassDef) for s in tree.body) == 1:
            is_one = any(b not in self._known for b in bases)  # the api can only come from an imported base
        self._known[node.name] = is_one
        return is_one and cell.options is not None

    def decorate(self, node: ast.stmt) -> bool:
        """Whether a statement is a class with `@service`."""
        return isinstance(node, ast.ClassDef) and _has(node.decorator_list, self._decorators)


def has_api(node: ast.ClassDef, names: Collection[str] = ("api",)) -> bool:
    """Whether the class has a method with `@api`."""
    methods = (n for n in ast.walk(node) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
    return any(_has(method.decorator_list, names) for method in methods)


def _has(decorators: list[ast.expr], names: Collection[str]) -> bool:
    return any(last(d.func if isinstance(d, ast.Call) else d) in names for d in decorators)


def _texts(source: str, nodes: list[ast.stmt]) -> Iterator[str]:
    """Yield the source of each statement, with the comments above it and behind it."""
    source = _HEAD.sub(lambda m: "\n" * m[0].count("\n"), source)
    lines = re.split(r"\r\n|\r|\n", source)  # as Python counts lines: `splitlines` splits at more characters
    done = 0  # lines that belong to earlier statements
    for index, node in enumerate(nodes):
        first = first_line(node) - 1
        end = node.end_lineno or first + 1
        above = lines[done:first]
        body = lines[first:end]
        shares_end = index + 1 < len(nodes) and nodes[index + 1].lineno == end
        if shares_end or _behind(body[-1], node).startswith(";"):
            comment = "" if shares_end else _behind(body[-1], node).lstrip("; ")
            body[-1] = f"{_cut(body[-1], None, node.end_col_offset)}{'  ' if comment else ''}{comment}"
        if index and nodes[index - 1].end_lineno == first + 1:
            body[0] = _cut(body[0], node.col_offset, None)
        yield "\n".join([*_comments(above, glued=index > 0), *body])
        done = end


def _behind(line: str, node: ast.stmt) -> str:
    return _cut(line, node.end_col_offset, None).strip()


def _cut(line: str, start: int | None, end: int | None) -> str:
    """Return part of a line by columns of the syntax tree, which count bytes."""
    return line.encode()[start:end].decode()


def _comments(lines: list[str], glued: bool) -> list[str]:
    """Return the comments above a statement, except one that directly follows the previous statement and is separated
    from this one.
    """
    lines = [line.rstrip() for line in lines]
    if glued and "" in lines:
        lines = lines[lines.index("") :]
    kept = [line for line in lines if not line or line.startswith("#")]
    while kept and not kept[0]:
        kept.pop(0)
    return kept if any(kept) else []
