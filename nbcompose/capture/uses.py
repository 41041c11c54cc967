"""What code does with the value of a call: it awaits it, iterates over it, takes it for an answer, or hands it on.

Read from the source, for what can be told to whoever wrote it: where it cannot be known, it counts as handed on.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from typing import Literal

from nbcompose.plan import Use

Seen = Literal["returned", "stored"] | Use

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

# What is true of the whole where uses differ: the first of these that there is.
_ORDER: tuple[Seen, ...] = ("awaited", "async for", "handed on", "returned", "stored", "for", "value")

_ITERATING = frozenset(
    "all any dict enumerate filter frozenset iter list map max min next reversed set sorted sum tuple zip".split()  # noqa: SIM905
)
_LOOKING = frozenset("aiter anext callable getattr hasattr id isinstance issubclass repr setattr type".split())  # noqa: SIM905

# Code that is not async can give something to await only to what runs it, or keeps it until then. That says so by its
# name, mostly: asyncio.run, run_until_complete, gather, create_task, append, …
_TAKING = re.compile(r"run|gather|task|future|wait|shield|complete|submit|append|extend|add|put", re.IGNORECASE)


class Uses:
    """The code of one method. `calls` are all the calls in it."""

    def __init__(self, tree: ast.AST) -> None:
        self._parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        self.calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]

    def function(self, node: ast.AST) -> Function | None:
        """The innermost function that a part of the code runs in."""
        return next((a for a in self._above(node) if isinstance(a, Function)), None)

    def is_own(self, node: ast.AST) -> bool:
        """Whether that is the method itself, and no function within it."""
        return sum(isinstance(a, Function) for a in self._above(node)) == 1

    def is_async(self, node: ast.AST) -> bool:
        return isinstance(self.function(node), ast.AsyncFunctionDef)

    def of(self, node: ast.expr, depth: int = 8) -> Seen:
        """What is done with the value of an expression.

        `returned` is said of the method itself only, `stored` of code that is not async: it goes into an attribute.
        """
        parent = self._parents.get(node)
        match parent:
            case ast.Await():
                return "awaited"
            case ast.AsyncFor() | ast.For() | ast.comprehension() if parent.iter is node:
                is_async = isinstance(parent, ast.AsyncFor) or bool(getattr(parent, "is_async", False))
                return "async for" if is_async else "for"
            case ast.YieldFrom() | ast.Starred():
                return "for"
            case ast.Expr() | ast.Attribute() | ast.Subscript() | ast.BinOp() | ast.UnaryOp() | ast.Compare():
                return "value"
            case ast.FormattedValue() | ast.AugAssign():
                return "value"
            case ast.If() | ast.While() | ast.IfExp() | ast.Assert() if parent.test is node:
                return "value"
            case ast.IfExp() | ast.BoolOp() | ast.NamedExpr():
                return self.of(parent, depth)
            case ast.Return() | ast.Yield():
                return "returned" if self.is_own(parent) else "handed on"
            case ast.Assign(targets=[ast.Name() as name]) | ast.AnnAssign(target=ast.Name() as name):
                return self._of_variable(name, depth - 1) if depth else "handed on"
            case ast.Assign(targets=[ast.Attribute()]) | ast.AnnAssign(target=ast.Attribute()):
                return "handed on" if self.is_async(parent) else "stored"
            case ast.Assign(targets=[ast.Tuple() | ast.List()]):
                return "for"
            case ast.keyword():
                call = self._parents[parent]
                return self._as_argument(call) if isinstance(call, ast.Call) else "handed on"
            case ast.Call():
                return self._as_argument(parent)
            case ast.List() | ast.Tuple() | ast.Set() | ast.Dict() | ast.ListComp() | ast.SetComp() | ast.DictComp():
                use = self.of(parent, depth)
                return use if use in ("returned", "stored") else "handed on"
        return "handed on"

    def _of_variable(self, name: ast.Name, depth: int) -> Seen:
        function = self.function(name)
        if function is None:
            return "handed on"
        found: set[Seen] = set()
        for node in ast.walk(function):
            if isinstance(node, ast.Global | ast.Nonlocal) and name.id in node.names:
                return "handed on"
            if isinstance(node, ast.Name) and node.id == name.id and isinstance(node.ctx, ast.Load):
                found.add(self.of(node, depth) if self.function(node) is function else "handed on")
        return next((use for use in _ORDER if use in found), "value")  # never looked at: dropped

    def _as_argument(self, call: ast.Call) -> Seen:
        match call.func:
            case ast.Name(id=name) if hasattr(builtins, name):
                if name in _LOOKING:
                    return "handed on"
                return "for" if name in _ITERATING else "value"
            case ast.Attribute(value=ast.Constant() | ast.JoinedStr()):  # ", ".join(…)
                return "for"
            case ast.Name(id=name) | ast.Attribute(attr=name):
                return "handed on" if self.is_async(call) or _TAKING.search(name) else "value"
        return "handed on"

    def _above(self, node: ast.AST) -> Iterator[ast.AST]:
        above = self._parents.get(node)
        while above is not None:
            yield above
            above = self._parents.get(above)
