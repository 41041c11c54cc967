"""What the text of a cell says of the class in which the cursor is: what it depends on, and names for that.

The text is parsed and never run; it may be incomplete.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nbcompose._service import depends

_TRIES = 40  # lines above the cursor that may be incomplete

_STREAM = re.compile(r"(?:[\w.]*Optional\[)?(?:[\w.]+\.)?(?:Async)?(?:Iterator|Generator)\b")

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Around:
    """The class around the cursor, and the method; `names`: those of the notebook."""

    tree: ast.Module
    cls: ast.ClassDef
    method: _Function | None
    names: Mapping[str, Any]

    @classmethod
    def of(cls, text: str, line: int, names: Mapping[str, Any]) -> Around | None:
        """Return what is around a line of a cell; None where that is no class, or it cannot be parsed."""
        lines = ["" if text[:1] in "%!" else text for text in text.split("\n")]
        indent = re.match(r"\s*", lines[line])
        for end in range(line, max(-1, line - _TRIES), -1):  # a statement above may be incomplete too
            try:
                tree = ast.parse("\n".join([*lines[:end], f"{indent[0] if indent else ''}pass"]))
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                continue
            found, last = None, tree.body[-1]
            while isinstance(last, ast.ClassDef):
                found, last = last, last.body[-1]
            return cls(tree, found, last if isinstance(last, _Function) else None, names) if found else None
        return None

    @property
    def instance(self) -> str:
        """The name by which the method knows the instance."""
        return (_first(self.method) if self.method is not None else "") or "self"

    def declared(self, name: str) -> str | None:
        """Return the target of `name = depends(TARGET)`: a variable, or the name of a service; "" where it has none."""
        in_body = ((node, target) for node in self.cls.body for target in _assigned(node))
        methods = [node for node in self.cls.body if isinstance(node, _Function)]
        # Only in the body it is right, which is said where the class runs.
        in_methods = (
            (node, target.attr)
            for method in methods
            for node in ast.walk(method)
            for target in _targets(node)
            if isinstance(target, ast.Attribute) and ast.unparse(target.value) == _first(method)
        )
        for node, target in (*in_body, *in_methods):
            value = getattr(node, "value", None)
            if target == name and isinstance(value, ast.Call) and self.is_depends(ast.unparse(value.func)):
                if not value.args:
                    return ""  # a service elsewhere, by its url
                service = value.args[0]
                return str(service.value) if isinstance(service, ast.Constant) else ast.unparse(service)
        return None

    def attributes(self, text: str, line: int) -> list[str]:
        """Return what the text of the cell, also below the cursor, says that the instance has: dependencies first.

        [] where it does not say all, since the class has bases or a line below is incomplete.
        """
        lines = ["" if text[:1] in "%!" else text for text in text.split("\n")]
        lines[line] = f"{lines[line][: len(lines[line]) - len(lines[line].lstrip())]}pass"
        try:
            body = ast.parse("\n".join(lines)).body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return []
        classes = [node for node in body if isinstance(node, ast.ClassDef) and node.lineno <= line + 1]
        if not classes or classes[-1].name != self.cls.name or classes[-1].bases or classes[-1].keywords:
            return []
        methods = [node for node in classes[-1].body if isinstance(node, _Function)]
        in_body = [name for node in classes[-1].body for name in _assigned(node)]
        in_methods = [
            target.attr
            for method in methods
            for node in ast.walk(method)
            for target in _targets(node)
            if isinstance(target, ast.Attribute) and ast.unparse(target.value) == _first(method)
        ]
        names = dict.fromkeys([*in_body, *in_methods, *(method.name for method in methods)])
        return sorted((n for n in names if not n.startswith("__")), key=lambda name: self.declared(name) is None)

    def alias(self, name: str) -> str | None:
        """Return what a local name of the method was set to last, e.g. "self.writer"; None where it is no name."""
        nodes = [n for n in ast.walk(self.method) if name in _assigned(n)] if self.method is not None else []
        value = getattr(max(nodes, key=lambda n: getattr(n, "lineno", 0), default=None), "value", None)
        return ast.unparse(value) if isinstance(value, ast.Name | ast.Attribute) else None

    def stream(self, name: str) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
        """Return the api around the cursor if a parameter of it with that name takes a stream; else None."""
        method = self.method
        if method is None or not is_api(method):
            return None
        arguments = (a for a in (*method.args.posonlyargs, *method.args.args, *method.args.kwonlyargs) if a.arg == name)
        written = next((ast.unparse(a.annotation) for a in arguments if a.annotation is not None), "")
        return method if _STREAM.match(written) else None

    def is_depends(self, text: str) -> bool:
        """Whether a name is that of `depends`, which the notebook or the cell may call otherwise."""
        if text.rpartition(".")[2] == "depends" or self.names.get(text) is depends:
            return True
        imports = (node for node in ast.walk(self.tree) if isinstance(node, ast.ImportFrom))
        return any(a.name == "depends" and a.asname == text for node in imports for a in node.names)


def is_api(function: _Function) -> bool:
    """Whether a method is marked as an api."""
    marks = [d.func if isinstance(d, ast.Call) else d for d in function.decorator_list]
    return any(ast.unparse(mark).rpartition(".")[2] == "api" for mark in marks)


def _first(function: _Function) -> str:
    """Return the name of the first parameter; "" without one."""
    return next((a.arg for a in (*function.args.posonlyargs, *function.args.args)), "")


def _targets(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.Assign):
        yield from node.targets
    elif isinstance(node, ast.AnnAssign | ast.NamedExpr):
        yield node.target


def _assigned(node: ast.AST) -> list[str]:
    """Return the names that a node assigns to."""
    return [target.id for target in _targets(node) if isinstance(target, ast.Name)]
