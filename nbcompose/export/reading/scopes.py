"""Scopes of Python: which names a block of code binds, and where a name that it reads is looked up."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(slots=True)
class Scope:
    """`names`: bound anywhere in it (functions, comprehensions); `bound`: surely bound so far (modules, classes)."""

    kind: str  # "module" | "class" | "function" | "inner" (comprehensions) | "types" (type parameters)
    parent: Scope | None = None
    names: set[str] = field(default_factory=set)
    bound: set[str] = field(default_factory=set)
    outside: set[str] = field(default_factory=set)  # `global`
    parameters: set[str] = field(default_factory=set)
    renewed: set[str] = field(default_factory=set)  # parameters that stand for something else than they did

    def holder(self, name: str) -> Scope:
        """The scope whose variable `name` is when it is read here; the module's for globals and builtins."""
        scope, here = self, True
        while scope.parent is not None:
            if name in scope.outside:
                break
            if scope.kind == "class":
                if here and name in scope.bound:
                    return scope
                if name == "__class__":
                    return scope
            elif name in scope.names:
                return scope
            here = here and scope.kind == "types"
            scope = scope.parent
        return scope if scope.parent is None else scope.module

    @property
    def module(self) -> Scope:
        scope = self
        while scope.parent is not None:
            scope = scope.parent
        return scope

    @property
    def block(self) -> Scope:
        """Where a name that is assigned here goes: comprehensions have no variables of their own but their targets."""
        scope = self
        while scope.kind in ("inner", "types") and scope.parent is not None:
            scope = scope.parent
        return scope


def function_scope(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, parent: Scope) -> Scope:
    body: Iterable[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else node.body
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    parameters = {a.arg for a in every if a is not None}
    scope = Scope("function", parent, parameters=parameters)
    not_own = set[str]()
    for statement in _own_nodes(body):
        if isinstance(statement, ast.Global):
            scope.outside.update(statement.names)
        elif isinstance(statement, ast.Nonlocal):
            not_own.update(statement.names)
    scope.names = parameters | set(bound_in(body)) - scope.outside - not_own
    return scope


def bound_in(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The names that code binds in its own scope."""
    for node in _own_nodes(nodes):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.Name(ctx=ast.Store() | ast.Del()):
                yield node.id
            case ast.Import() | ast.ImportFrom():
                yield from names_of_import(node)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name
            case ast.MatchMapping(rest=str(name)):
                yield name


def names_of_import(node: ast.Import | ast.ImportFrom) -> list[str]:
    return [a.asname or (a.name if isinstance(node, ast.ImportFrom) else a.name.partition(".")[0])
            for a in node.names if a.name != "*"]  # fmt: skip


def _own_nodes(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """The nodes of a scope, without those of the scopes inside it. Of comprehensions: what `:=` binds."""
    for node in nodes:
        yield node
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            heads = [*node.decorator_list, *(node.bases if isinstance(node, ast.ClassDef) else _defaults(node.args))]
            yield from _own_nodes(heads)
        elif isinstance(node, ast.Lambda):
            yield from _own_nodes(_defaults(node.args))
        elif isinstance(node, ast.AnnAssign) and not node.simple and node.value is None:
            yield from _own_nodes([node.annotation])  # `(x): int` does not make `x` a variable
        elif isinstance(node, _COMPREHENSIONS):
            yield from (n.target for n in ast.walk(node) if isinstance(n, ast.NamedExpr))
        else:
            yield from _own_nodes(ast.iter_child_nodes(node))


def _defaults(arguments: ast.arguments) -> list[ast.expr]:
    return [*arguments.defaults, *(d for d in arguments.kw_defaults if d is not None)]
