"""Name binding: which names a statement binds, reads and deletes, by Python's scoping rules, branches included."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from nbcompose._export import effects
from nbcompose._export.effects import Held, Touch, Via
from nbcompose._export.naming import bindings

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITIONS = (*FUNCTIONS, ast.ClassDef)
IMPORTS = (ast.Import, ast.ImportFrom)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(slots=True)
class Scope:
    """One scope. `names`: bound anywhere in it (functions, comprehensions); `bound`: certainly bound so far (modules,
    classes).
    """

    kind: str  # "module" | "class" | "function" | "inner" (comprehensions) | "types" (type parameters)
    parent: Scope | None = None
    names: set[str] = field(default_factory=set)
    bound: set[str] = field(default_factory=set)
    outside: set[str] = field(default_factory=set)  # `global`
    parameters: set[str] = field(default_factory=set)
    renewed: set[str] = field(default_factory=set)  # parameters that were bound to another value

    def holder(self, name: str) -> Scope:
        """Return the scope whose variable `name` is when it is read here; the module's for globals and builtins."""
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
        """The scope in which an assignment here binds a name: in comprehensions only the targets are local."""
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
    """Yield the names that code binds in its own scope."""
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


def names_of_import(node: ast.stmt) -> list[str]:
    return [name for name, _ in bindings(node) if name != "*"]


def _own_nodes(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Yield the nodes of a scope, without those of nested scopes; of comprehensions, only the targets of `:=`."""
    for node in nodes:
        yield node
        if isinstance(node, DEFINITIONS):
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


@dataclass(slots=True)
class StatementNames:
    """The names of a statement, by use. `surely` is a subset of `defines`, and `calls` of `reads`.

    `later`: read when what the statement defines is called. `soft`: read by annotations that are not necessarily
    evaluated. `handed`: it passes a lambda to a call, which may call it at once. `depends`: services it depends on, by
    registered name; `on`: by variable. `aliases`: names, and how their values are related to those of other names.
    `binds_later`, `touches_later`, `returns`: effects on globals when what it defines is called. `arguments`,
    `hands_back`: effects on its arguments; `hands_back` names the functions through which an argument is returned.
    `anything`, `anything_later`: it may bind and mutate any name. `yields`: it defines a generator.
    """

    defines: set[str] = field(default_factory=set)
    surely: set[str] = field(default_factory=set)
    reads: set[str] = field(default_factory=set)
    calls: set[str] = field(default_factory=set)
    later: set[str] = field(default_factory=set)
    soft: set[str] = field(default_factory=set)
    touches: set[Touch] = field(default_factory=set)
    deletes: set[str] = field(default_factory=set)
    aliases: set[tuple[str, Held]] = field(default_factory=set)
    binds_later: set[str] = field(default_factory=set)
    touches_later: set[Touch] = field(default_factory=set)
    returns: set[Held] = field(default_factory=set)
    depends: set[str] = field(default_factory=set)
    on: set[str] = field(default_factory=set)
    arguments: set[Touch] = field(default_factory=set)
    hands_back: set[Via] = field(default_factory=set)
    anything: bool = False
    anything_later: bool = False
    yields: bool = False
    handed: bool = False
    awaits: bool = False


class Binder(ast.NodeVisitor):
    """Visitor that collects the names of a statement. `lazy`: annotations are not evaluated where they are written."""

    def __init__(self, lazy: bool) -> None:
        self.found = StatementNames()
        self.module = self.scope = Scope("module")
        self._lazy = lazy
        self._later = 0  # nesting depth of functions
        self._perhaps = 0  # nesting depth of branches
        self._soft = False
        self._holders: dict[str, set[Held]] = {}  # loop or local variable → names whose values it may be, or hold
        self._above: ast.AST | None = None  # the parent of the visited node

    # Names

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._read(node.id)
        elif isinstance(node.ctx, ast.Store):
            self._bind(node.id)
        else:
            self._delete(node.id)

    def _read(self, name: str) -> None:
        if self.scope.holder(name) is not self.module:
            return
        if self._soft:
            self.found.soft.add(name)
        elif self._later:
            self.found.later.add(name)
        elif name not in self.module.bound:
            self.found.reads.add(name)

    def _bind(self, name: str) -> None:
        block = self.scope.block
        if name in block.outside:
            block = self.module
        if block is self.module and self._later:
            self.found.binds_later.add(name)
        elif block is self.module:
            self.found.defines.add(name)
        block.bound.add(name)

    def _delete(self, name: str) -> None:
        block = self.scope.block
        block.bound.discard(name)
        if block is not self.module or self._later:
            return
        if name in self.found.defines:
            self.found.defines.discard(name)
        else:
            self._read(name)
        if not self._perhaps:
            self.found.deletes.add(name)

    def _touch(self, touches: Iterable[Touch]) -> None:
        for touch in touches:
            by = self._outside(touch.by) if touch.how == "argument" else touch.by
            for held in self._held_by(Held(touch.name, "is", touch.via)):
                name, holder = held.name, self.scope.holder(held.name)
                here = Touch(name, touch.how, by, held.via, touch.deep or name != touch.name)
                if holder.kind == "function" and name in holder.parameters:
                    if name not in holder.renewed:
                        self.found.arguments.add(here)
                elif holder is self.module and name not in (() if self._later else self.module.bound):
                    (self.found.touches_later if self._later else self.found.touches).add(here)

    def _outside(self, function: str) -> str:
        """Return a function's name if it is bound outside this scope; of a local one nothing is known."""
        first, dot, _ = function.partition(".")
        if not first or first == effects.LAMBDA or self.scope.holder(first) is self.module:
            return function
        return f".{function.rpartition('.')[2]}" if dot else ""

    def _held_by(self, start: Held) -> list[Held]:
        """Return `start`, and the names whose values a loop or local variable may be, or hold."""
        todo, found = [start], dict[str, Held]()
        while todo:
            one = todo.pop()
            if one.name not in found:
                found[one.name] = replace(one, via=tuple(map(self._outside, one.via)))
                todo += [replace(h, via=(*h.via, *one.via)) for h in self._holders.get(one.name, ())]
        return list(found.values())

    def _return(self, value: ast.AST | None) -> None:
        for held in (h for one in effects.held(value) for h in self._held_by(one)):
            holder = self.scope.holder(held.name)
            if holder is self.module:
                self.found.returns.add(held)
            elif held.name in holder.parameters:
                self.found.hands_back.add(held.via)

    def _alias(self, target: ast.AST, value: ast.AST | None) -> None:
        for name in bound_in([target]):
            for other in effects.held(value):
                self._holders.setdefault(name, set()).add(other)
                if self.scope is self.module:
                    unpacked = isinstance(target, ast.Tuple | ast.List)
                    self.found.aliases.add((name, replace(other, how="within") if unpacked else other))

    @contextmanager
    def _inside(self, scope: Scope, *, later: bool = False) -> Iterator[None]:
        self.scope, before = scope, self.scope
        self._later += later
        yield
        self._later -= later
        self.scope = before

    def _all(self, nodes: Iterable[ast.AST | None]) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)


# ruff: noqa: N815  methods have the names that a NodeVisitor looks for


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

    visit_TryStar = visit_Try  # type: ignore[assignment]  # the two nodes have the same fields

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.type is not None:
            self.visit(node.type)
        block = self.scope.block
        known = node.name in self.found.defines
        if node.name:
            self._bind(node.name)
        self._all(node.body)
        if node.name:  # Python deletes it at the end of the handler
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
        """Visit branches: bound afterwards is what all of them bind, or nothing new where possibly
        none of them runs.
        """
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
    """Whether control never continues behind a block."""
    statements = getattr(block, "body", []) if isinstance(block, ast.AST) else block
    return bool(statements) and isinstance(statements[-1], ast.Raise | ast.Return | ast.Continue | ast.Break)


def _matches_all(case: ast.match_case) -> bool:
    return case.guard is None and isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None
