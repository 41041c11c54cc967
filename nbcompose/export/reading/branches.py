"""Branches: what is surely bound after `if`, `for`, `try`, `with` and `match`."""

# ruff: noqa: N802, N815  methods have the names that a NodeVisitor looks for

from __future__ import annotations

import ast
from collections.abc import Sequence

from nbcompose.export.reading import effects
from nbcompose.export.reading.binding import Binder


class Branches(Binder):
    def visit_If(self, node: ast.If) -> None:
        self.visit(node.test)
        self._branches([node.body], [node.orelse])

    def visit_While(self, node: ast.While) -> None:
        self.visit(node.test)
        self._branches([node.body], [node.orelse], always=False)

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.found.awaits |= isinstance(node, ast.AsyncFor) and not self._later
        self.visit(node.iter)
        self._touch(effects.of_iteration(node.iter))
        self._alias(ast.Tuple([node.target], ast.Store()), node.iter)
        self._touch(effects.of_target(node.target, node.iter))
        self._branches([node.target, node.body], [node.orelse], always=False)

    visit_AsyncFor = visit_For

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        self.found.awaits |= isinstance(node, ast.AsyncWith) and not self._later
        for item in node.items:
            self._touch(effects.of_context(item.context_expr))
            self.visit(item.context_expr)
            if item.optional_vars is not None:
                self.visit(item.optional_vars)
                self._alias(ast.Tuple([item.optional_vars], ast.Store()), item.context_expr)
        self._all(node.body)

    visit_AsyncWith = visit_With

    def visit_Try(self, node: ast.Try) -> None:
        before = set(self.scope.block.bound)
        ways = [] if _ends(node.body) else [self._way(node.body, node.orelse)]
        if _ends(node.body):
            self._way(node.body, node.orelse)
        for handler in node.handlers:
            self.scope.block.bound = set(before)
            bound = self._way(handler)
            if not _ends(handler.body):
                ways.append(bound)
        self.scope.block.bound = set.intersection(*ways) if ways else before
        self._all(node.finalbody)

    visit_TryStar = visit_Try  # type: ignore[assignment]  # the two nodes are alike

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.type is not None:
            self.visit(node.type)
        block = self.scope.block
        known = node.name in self.found.defines
        if node.name:
            self._bind(node.name)
        self._all(node.body)
        if node.name:  # Python deletes it when the handler ends
            block.bound.discard(node.name)
            if block is self.module and not known:
                self.found.defines.discard(node.name)

    def visit_Match(self, node: ast.Match) -> None:
        self.visit(node.subject)
        for case in node.cases:
            self._alias(ast.Tuple([case.pattern], ast.Store()), node.subject)  # type: ignore[list-item]  # it has names
        self._branches(*([case] for case in node.cases), always=any(_matches_all(c) for c in node.cases))

    def visit_MatchAs(self, node: ast.MatchAs | ast.MatchStar) -> None:
        self.generic_visit(node)
        if node.name is not None:
            self._bind(node.name)

    visit_MatchStar = visit_MatchAs

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self.generic_visit(node)
        if node.rest is not None:
            self._bind(node.rest)

    def _branches(self, *branches: Sequence[ast.AST | Sequence[ast.AST]], always: bool = True) -> None:
        """Afterwards is bound what each of them binds; nothing new where none need run."""
        before = set(self.scope.block.bound)
        ways = [] if always else [before]
        for branch in branches:
            self.scope.block.bound = set(before)
            bound = self._way(*branch)
            if not _ends(branch[-1]):
                ways.append(bound)
        self.scope.block.bound = set.intersection(*ways) if ways else before

    def _way(self, *parts: ast.AST | Sequence[ast.AST]) -> set[str]:
        self._perhaps += 1
        for part in parts:
            self._all([part] if isinstance(part, ast.AST) else part)
        self._perhaps -= 1
        return set(self.scope.block.bound)


def _ends(block: ast.AST | Sequence[ast.AST]) -> bool:
    """Whether a block never goes on behind it."""
    statements = getattr(block, "body", []) if isinstance(block, ast.AST) else block
    return bool(statements) and isinstance(statements[-1], ast.Raise | ast.Return | ast.Continue | ast.Break)


def _matches_all(case: ast.match_case) -> bool:
    return case.guard is None and isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None
