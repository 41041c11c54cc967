"""Body of a %%service cell: runs it as an ordinary cell, and finds the service classes that it defines.

See `_notebook/staleness.py` for the comparison with what runs, `_notebook/cell_run.py` for the start.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from nbcompose._export import service_line
from nbcompose._ipython_adapter import cell_numbers, show_as, syntax_error_lines
from nbcompose._notebook.tracebacks import cell_names, execute
from nbcompose._service import API, Service, marks_of
from nbcompose.errors import NbcomposeError


class CellSyntaxError(NbcomposeError):
    """A syntax error in the body of a cell, displayed as IPython displays one. Its text says which kind and where."""


_ASKS_FOR_HELP = re.compile(r"%%service\s(?:.*\s)?(?:-h|--help)\s")


@dataclass(frozen=True, slots=True)
class Defined:
    """A class that the cell defined, bare or decorated with `@service`, and the variable that holds it."""

    variable: str
    value: type[Any] | Service


def service_line_first(lines: list[str]) -> list[str]:
    """Put `%%service` before comments that stand above it, as IPython looks for it in the first line; all other lines
    keep their place. A transformer of IPython's (`input_transformers_cleanup`), called for every cell.
    """
    at = service_line(lines)
    if at:
        return [lines[at], *lines[:at], *lines[at + 1 :]]
    # IPython does not call a magic for a cell without a second line.
    return [*lines, "\n"] if len(lines) == 1 and _ASKS_FOR_HELP.match(lines[0]) else lines


def run(shell: InteractiveShell, line: str, body: str) -> list[Defined]:
    """Run the body in the notebook's namespace; return the service classes that it defines, in order.

    Raises `CellSyntaxError`, `UsageError` for what a %%service cell cannot do, and what the body itself raises.
    """
    tree, name = _parse(shell, f"%%service {line}", body)
    code = _compile(shell, tree, name, "%%service")
    before = dict(shell.user_ns)
    execute(code, shell)
    return defined_by(tree, before, shell.user_ns)


def defined_by(tree: ast.Module, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Defined]:
    """Return the service classes that the statements of a cell have defined, in order. Raises `UsageError`.

    `before`, `after`: the names of the notebook before and after they ran.
    """
    names = list(dict.fromkeys(_class_names(tree.body)))
    made = [Defined(n, after[n]) for n in names if n in after and after[n] is not before.get(n)]
    services = [d for d in made if is_service(d.value)]
    _check(services, tree)
    return services


def evaluate(shell: InteractiveShell, line: str, body: str) -> Any:
    """Run the body of a cell whose first line is `line` as an ordinary cell; return the value of its last expression.

    Raises as `run` does.
    """
    tree, name = _parse(shell, line, body)
    asked = None
    if tree.body and isinstance(last := tree.body[-1], ast.Expr):
        del tree.body[-1]
        asked = _compile(shell, ast.Expression(last.value), name, line.split()[0])
    execute(_compile(shell, tree, name, line.split()[0]), shell)
    return None if asked is None else execute(asked, shell)


def _parse(shell: InteractiveShell, line: str, body: str) -> tuple[ast.Module, str]:
    """Return the statements of the body, and the name of their file."""
    raw = f"{line.rstrip()}\n{body}"
    try:
        # Keep line numbers: add the line of the magic, and the leading empty lines that IPython's transformers drop.
        above = 1 + next((i for i, text in enumerate(body.splitlines()) if text.strip()), 0)
        source = "\n" * above + shell.transform_cell(body)
        name = shell.compile.cache(source, number_of(shell), raw_code=raw)
        return shell.transform_ast(shell.compile.ast_parse(source, filename=name)), name
    except SyntaxError as error:
        raise _syntax_error(shell, error) from None


def _compile(shell: InteractiveShell, tree: ast.Module | ast.Expression, name: str, magic: str) -> CodeType:
    mode = "eval" if isinstance(tree, ast.Expression) else "exec"
    try:
        code: CodeType = shell.compile(tree, name, mode)
        return code
    except SyntaxError as error:
        if _awaits(shell, tree, name, mode):
            instead = _INSTEAD_OF_AWAIT[magic]
            raise UsageError(
                f"a {magic} cell cannot `await` outside of a method: it ends before the notebook's event loop goes on. "
                f"{instead}"
            ) from None
        raise _syntax_error(shell, error) from None


_INSTEAD_OF_AWAIT = {
    "%%service": "Put that line in a cell of its own",
    "%%services": "`Answer.ask(...)` without `await` and `.to_async` waits by itself",
}


def number_of(shell: InteractiveShell) -> int:
    """Return the number of the running cell. (Some IPython versions increment the count before the cell has ended.)"""
    numbers = cell_numbers(shell)
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename in numbers:
            return numbers[frame.f_code.co_filename]
        frame = frame.f_back
    return int(shell.execution_count)


def _awaits(shell: InteractiveShell, tree: ast.Module | ast.Expression, name: str, mode: str) -> bool:
    """Whether the code would compile as the body of a coroutine."""
    try:
        with shell.compile.extra_flags(ast.PyCF_ALLOW_TOP_LEVEL_AWAIT):
            code: CodeType = shell.compile(tree, name, mode)
    except SyntaxError:
        return False
    return bool(code.co_flags & inspect.CO_COROUTINE)


def _syntax_error(shell: InteractiveShell, error: SyntaxError) -> CellSyntaxError:
    # For an exception that is a SyntaxError, IPython would also show nbcompose's frames.
    where = "" if error.lineno is None else f", {cell_names(f'{error.filename}:{error.lineno}', shell)}"
    shown = CellSyntaxError(f"{type(error).__name__}: {error.msg}{where}")
    lines = syntax_error_lines(shell, error)
    show_as(shown, lambda: lines)
    return shown


def _class_names(statements: Sequence[ast.stmt]) -> Iterator[str]:
    """Yield the names of classes at the top level, including those in `if`, `try` and the like."""
    for statement in statements:
        if isinstance(statement, ast.ClassDef):
            yield statement.name
        elif not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            for block in ("body", "orelse", "finalbody"):
                yield from _class_names(getattr(statement, block, []))
            for part in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
                yield from _class_names(part.body)


def is_service(value: Any) -> bool:
    """Whether it is a service, or a class that can be one."""
    if isinstance(value, Service):
        return True
    return isinstance(value, type) and bool(marks_of(value, API))


def _check(services: list[Defined], tree: ast.Module) -> None:
    if not services:
        raise UsageError(
            "this cell defines no service: a service is a class with at least one @api method, such as\n\n"
            "    from nbcompose import api\n\n"
            "    class Echo:\n"
            "        @api\n"
            "        def say(self, text: str) -> str:\n"
            "            return text"
        )
    variables = {d.variable for d in services}
    names = [s.name for s in tree.body if isinstance(s, ast.ClassDef) and s.name in variables]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise UsageError(f"this cell defines {', '.join(twice)} twice: services of one cell need different names")
