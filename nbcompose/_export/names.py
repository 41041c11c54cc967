"""Names of one top-level statement: what it binds, reads, mutates and deletes, and when.

Pure: only the statement itself is analysed. The body of a function reads later, when it is called; decorators,
defaults, bases and the bodies of classes are read at once. What a branch binds that may not run is bound possibly.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager

from nbcompose._export import effects
from nbcompose._export.binding import (
    DEFINITIONS,
    FUNCTIONS,
    Branches,
    Scope,
    StatementNames,
    bound_in,
    function_scope,
    names_of_import,
)
from nbcompose._export.effects import Held, Touch, last, root

# ruff: noqa: N802, N815  methods have the names that a NodeVisitor looks for


__all__ = ["StatementNames", "names_of"]


def names_of(statement: ast.stmt, *, lazy_annotations: bool = False) -> StatementNames:
    """Return the names of a statement. `lazy_annotations`: annotations are not evaluated where they are written."""
    reader = _Reader(lazy_annotations)
    reader.visit(statement)
    found = reader.found
    found.surely = reader.module.bound & found.defines
    found.calls &= found.reads
    return found


class _Reader(Branches):
    def visit(self, node: ast.AST) -> None:
        if code := effects.code_in(node):
            self._all(code)
        elif effects.is_anything(node, self._above):
            self.found.anything |= not self._later
            self.found.anything_later |= bool(self._later)
        self._above, above = node, self._above
        super().visit(node)
        self._above = above

    # Statements

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self._touch(effects.of_target(target, node.value))
            self.visit(target)
            self._alias(target, node.value)
            if isinstance(target, ast.Name) and not self._perhaps and self._renews(node.value):
                self.scope.block.renewed.add(target.id)
        for target in node.targets[1:]:
            self._alias(target, node.targets[0])
            self._alias(node.targets[0], target)

    def _renews(self, value: ast.expr) -> bool:
        """Whether a value assigned to a parameter is unrelated to its former one: `x = x.copy()`, not `x =
        x.to("cpu")`.
        """
        holder = self.scope.block
        parts = (known.name for h in effects.held(value) if h.how != "holds" for known in self._held_by(h))
        return not any(part in holder.parameters - holder.renewed for part in parts)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._annotation(node.annotation, lazy=self._lazy or self.scope.kind == "function")
        if node.value is not None:
            self.visit(node.value)
            self._touch(effects.of_target(node.target, node.value))
            self.visit(node.target)
            self._alias(node.target, node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.visit(node.value)
        self._touch(effects.of_target(node.target, None))
        name = node.target.id if isinstance(node.target, ast.Name) else effects.global_name(node.target)
        if not name:
            self.visit(node.target)
            return
        self._read(name)
        self._touch([Touch(name, "augment")])
        if self.scope.block.kind == "class":
            self._bind(name)
        elif self.scope.holder(name) is self.module and self._later:
            self.found.binds_later.add(name)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self._bind(node.target.id)
        self._alias(node.target, node.value)

    def visit_Delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            self._touch(effects.of_target(target, None))
            self.visit(target)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        for name in names_of_import(node):
            self._bind(name)

    visit_ImportFrom = visit_Import

    def visit_Global(self, node: ast.Global) -> None:
        self.scope.outside.update(node.names)

    def visit_Return(self, node: ast.Return) -> None:
        self._return(node.value)
        self.generic_visit(node)

    # Expressions

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if name := effects.global_name(node):
            self._global(name, node.ctx)
            self._above = node
            self.visit(node.value)
        else:
            self.generic_visit(node)

    def _global(self, name: str, how: ast.expr_context) -> None:
        """Handle `globals()["x"]` as `x`, in functions too."""
        if isinstance(how, ast.Load):
            (self.found.later if self._later else self.found.reads).add(name)
        elif self._later:
            self.found.binds_later.add(name)
        elif isinstance(how, ast.Store):
            self._bind(name)
        else:
            self._delete(name)

    def visit_Yield(self, node: ast.Yield | ast.YieldFrom) -> None:
        self.found.yields = True
        self._return(node.value)
        self.generic_visit(node)

    visit_YieldFrom = visit_Yield

    def visit_Call(self, node: ast.Call) -> None:
        self._touch(effects.of_call(node))
        values = [*node.args, *(k.value for k in node.keywords)]
        if last(node.func) == "depends":
            self.found.depends.update(
                a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)
            )
            self.found.on.update(root(a) for a in node.args if root(a))
        elif not self._later:
            self.found.calls.update(root(part) for part in (node.func, *values))
            self.found.handed |= any(isinstance(v, ast.Lambda) for v in values)
        self.generic_visit(node)

    def visit_Await(self, node: ast.Await) -> None:
        self.found.awaits |= not self._later
        self.generic_visit(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._all([*node.args.defaults, *node.args.kw_defaults])
        with self._inside(function_scope(node, self.scope), later=True):
            self._return(node.body)
            self.visit(node.body)

    def _loops(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        for loop in node.generators:
            self._touch(effects.of_iteration(loop.iter))
            for name in bound_in([loop.target]):
                self._holders.setdefault(name, set()).update(effects.held(loop.iter))

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        self.found.awaits |= any(g.is_async for g in node.generators) and not self._later
        self.visit(node.generators[0].iter)
        targets = set(bound_in(g.target for g in node.generators))
        self._loops(node)
        with self._inside(Scope("inner", self.scope, names=targets)):
            for index, generator in enumerate(node.generators):
                if index:
                    self.visit(generator.iter)
                self._all(generator.ifs)
            self._all([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt])

    visit_SetComp = visit_GeneratorExp = visit_DictComp = visit_ListComp

    # Functions and classes

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        if self._later:  # the variables of a closure
            names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} - {node.name}
            self._holders.setdefault(node.name, set()).update(Held(name, "holds") for name in names)
        self._decorators(node.decorator_list)
        self._all([*node.args.defaults, *node.args.kw_defaults])
        with self._type_parameters(node):
            for argument in ast.walk(node.args):
                if isinstance(argument, ast.arg):
                    self._annotation(argument.annotation, lazy=self._lazy)
            self._annotation(node.returns, lazy=self._lazy)
            with self._inside(function_scope(node, self.scope), later=True):
                self._all(node.body)
        self._bind(node.name)
        self._keeps(node.name, node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._decorators(node.decorator_list)
        with self._type_parameters(node):
            self._all([*node.bases, *(k.value for k in node.keywords)])
            if not self._later:  # `__init_subclass__`, or a metaclass
                self.found.calls.update(root(b) for b in (*node.bases, *(k.value for k in node.keywords)))
            with self._inside(Scope("class", self.scope)):
                self._all(node.body)
        self._bind(node.name)
        self._keeps(node.name, node)

    def _keeps(self, name: str, node: ast.AST) -> None:
        """Relate a name to what it keeps: a function its defaults, a class its attributes and methods; decorators may
        keep their arguments.
        """
        values: list[ast.AST | None] = []
        if isinstance(node, FUNCTIONS):
            values = [*node.args.defaults, *node.args.kw_defaults]
        elif isinstance(node, ast.ClassDef):
            for attribute in node.body:
                self._keeps(name, attribute)
        else:
            values = [getattr(node, "value", None)]
        if isinstance(node, DEFINITIONS):
            values += [d for d in node.decorator_list if isinstance(d, ast.Call)]
        for value in values:
            self._alias(ast.Name(name, ast.Store()), value)

    def visit_TypeAlias(self, node: ast.AST) -> None:
        """Visit `type X = ...`, which is evaluated lazily."""
        with self._type_parameters(node):
            self._later += 1
            self.visit(node.value)  # type: ignore[attr-defined]  # of Python 3.12
            self._later -= 1
        self.visit(node.name)  # type: ignore[attr-defined]

    def _decorators(self, nodes: list[ast.expr]) -> None:
        self._all(nodes)
        for decorator in nodes:
            self._touch(effects.calling(decorator))
        if not self._later:
            self.found.calls.update(root(d) for d in nodes)

    @contextmanager
    def _type_parameters(self, node: ast.AST) -> Iterator[None]:
        """Open the scope of `class X[T]` (Python 3.12)."""
        parameters: list[ast.AST] = getattr(node, "type_params", [])
        if not parameters:
            yield
            return
        with self._inside(Scope("types", self.scope, names={p.name for p in parameters})):  # type: ignore[attr-defined]
            for parameter in parameters:
                self._later += 1
                self.generic_visit(parameter)
                self._later -= 1
            yield

    # Annotations

    def _annotation(self, node: ast.expr | None, *, lazy: bool) -> None:
        if node is None:
            return
        soft, self._soft = self._soft, self._soft or lazy
        self._annotated(node)
        self._soft = soft

    def _annotated(self, node: ast.expr) -> None:
        match node:
            case ast.Constant(value=str(text)):
                self._string(text)
            case ast.Subscript(value=value, slice=inner):
                self.visit(value)
                parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
                typed = {"Literal": 0, "Annotated": 1}.get(last(value), len(parts))
                for part in parts[:typed]:
                    self._annotated(part)
                self._all(parts[typed:])
            case ast.BinOp(left=left, right=right):
                self._annotated(left)
                self._annotated(right)
            case ast.List(elts=parts) | ast.Tuple(elts=parts):
                for part in parts:
                    self._annotated(part)
            case _:
                self.visit(node)

    def _string(self, text: str) -> None:
        try:
            inner = ast.parse(text.strip(), mode="eval").body
        except SyntaxError:
            return
        self._annotation(inner, lazy=True)
