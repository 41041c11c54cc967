"""Options of a `%%service` cell as arguments of `@service(...)`, edited into the source in place."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from nbcompose._export.naming import ScriptNames
from nbcompose._export.statements import Statement, first_line
from nbcompose.errors import ExportRefused


class Edits:
    """Collects replacements of parts of `text`, at positions of its syntax tree; `result` applies them."""

    def __init__(self, text: str) -> None:
        self._lines = text.encode().splitlines(keepends=True)
        self._made: list[tuple[int, int, bytes]] = []

    def source(self, node: ast.expr | ast.keyword) -> str:
        start, end = self._span(node)
        return b"".join(self._lines)[start:end].decode()

    def replace(self, node: ast.expr | ast.keyword, text: str) -> None:
        self._made.append((*self._span(node), text.encode()))

    def after(self, node: ast.expr | ast.keyword, text: str) -> None:
        end = self._span(node)[1]
        self._made.append((end, end, text.encode()))

    def before_end(self, node: ast.expr, text: str) -> None:
        """Insert before the node's last character, a bracket."""
        end = self._span(node)[1] - 1
        self._made.append((end, end, text.encode()))

    def above(self, line: int, text: str) -> None:
        """Insert a new line above this one (counted from 1)."""
        start = self._offset(line, 0)
        self._made.append((start, start, text.encode()))

    def result(self) -> str:
        text = b"".join(self._lines)
        for start, end, new in sorted(self._made, reverse=True):  # from the end, so that earlier positions stay valid
            text = text[:start] + new + text[end:]
        return text.decode()

    def _span(self, node: ast.expr | ast.keyword) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._offset(node.lineno, node.col_offset), self._offset(node.end_lineno, node.end_col_offset)

    def _offset(self, line: int, column: int) -> int:
        return sum(len(text) for text in self._lines[: line - 1]) + column


_SERVICE = ("nbcompose.service",)
# Options with the same meaning.
_ALIASES = {"replicas": "workers"}


def decorated(statement: Statement, services: Sequence[str], names: ScriptNames) -> str:
    """Return the text of a statement, with `@service` added to its classes that are services by their cell's magic."""
    if statement.options is None:
        return statement.text
    edits = Edits(statement.text)
    for cls in _classes(ast.parse(statement.text).body):
        if cls.name in services:
            _Decorator(cls, edits, names, statement).have(statement.options)
    return edits.result()


def _classes(body: Sequence[ast.stmt]) -> Iterator[ast.ClassDef]:
    """Yield classes at the top level, including those in `if`, `try` and the like."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield node
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for block in ("body", "orelse", "finalbody"):
                yield from _classes(getattr(node, block, []))
            for part in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
                yield from _classes(part.body)


@dataclass(eq=False)
class _Decorator:
    """The `@service` of one class, existing or to be added."""

    cls: ast.ClassDef
    edits: Edits
    names: ScriptNames
    statement: Statement

    def have(self, options: Mapping[str, Any]) -> None:
        own = [d for d in self.cls.decorator_list if self._is_service(d)]
        if not own:
            self._add(options)
        elif options:
            self._merge(own[0], options)

    def _is_service(self, decorator: ast.expr) -> bool:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        return self.names.origin(called) in _SERVICE

    def _add(self, options: Mapping[str, Any]) -> None:
        service = self.names.member("nbcompose", "service")
        call = f"{service}({_arguments(options)})" if options else service
        self.edits.above(first_line(self.cls), f"{' ' * self.cls.col_offset}@{call}\n")

    def _merge(self, decorator: ast.expr, options: Mapping[str, Any]) -> None:
        if not isinstance(decorator, ast.Call):
            self.edits.after(decorator, f"({_arguments(options)})")
            return
        own = {k.arg: k for k in decorator.keywords}
        if None in own:
            self._refuse(f"@{self.edits.source(decorator)} does not say which options it has")
        new = {}
        for option, value in options.items():
            keyword = own.get(option) or own.get(_ALIASES.get(option, ""))
            if keyword is None:
                new[option] = value
            else:
                self.edits.replace(keyword, f"{option}={self._merged(option, keyword.value, value)}")
        if new and decorator.keywords:
            self.edits.after(decorator.keywords[-1], f", {_arguments(new)}")
        elif new:
            self.edits.before_end(decorator, _arguments(new))

    def _merged(self, option: str, own: ast.expr, value: Any) -> str:
        """Return an option's value; for a dict, including the decorator's own keys that are not overridden."""
        if not isinstance(value, Mapping) or (isinstance(own, ast.Constant) and own.value is None):
            return written(value)
        if option == "envs" and not isinstance(own, ast.Dict):
            return written({**self._variables(own), **value})
        items = ", ".join(f"{key!r}: {written(part)}" for key, part in value.items())
        if not isinstance(own, ast.Dict):
            text = self.edits.source(own)
            simple = isinstance(own, ast.Name | ast.Attribute | ast.Call | ast.Subscript)
            return f"{{**{text if simple else f'({text})'}, {items}}}"
        kept = [
            f"{self.edits.source(key)}: {self.edits.source(part)}" if key else f"**{self.edits.source(part)}"
            for key, part in zip(own.keys, own.values, strict=True)
            if not (isinstance(key, ast.Constant) and key.value in value)
        ]
        return "{" + ", ".join([*kept, items]) + "}"

    def _variables(self, own: ast.expr) -> dict[str, Any]:
        """Return BentoML's form of `envs`, a list of names with values, as a dict."""
        try:
            return {e["name"]: e["value"] for e in ast.literal_eval(own) if e.get("value") is not None}
        except (ValueError, TypeError, KeyError, AttributeError):
            self._refuse(f"envs={self.edits.source(own)} of {self.cls.name} cannot be told from its text")

    def _refuse(self, why: str) -> NoReturn:
        where = f"{self.statement.cell.label}, line {self.statement.line}"
        raise ExportRefused(
            "the services cannot be exported:",
            [f"{where}: {why}: write it out, or move the options of %%service to where it is made"],
        )


def _arguments(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{option}={written(value)}" for option, value in options.items())


def written(value: Any) -> str:
    """Return an option's value as a person would write it: 120, not 120.0."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {written(part)}" for key, part in value.items()) + "}"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else repr(value)
