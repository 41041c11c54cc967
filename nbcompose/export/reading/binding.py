"""What one statement has to do with names, and the part of its reader that keeps the books."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from nbcompose.export.reading import effects
from nbcompose.export.reading.effects import Held, Touch, Via
from nbcompose.export.reading.scopes import Scope, bound_in


@dataclass(slots=True)
class Names:
    """Of the sets, `surely` is a part of `defines`, and `calls` one of `reads`.

    `later`: read when what the statement defines is called; `soft`: read by annotations that nobody need evaluate.
    `handed`: it hands a lambda to a call, which may be called at once. `depends`: services, by registered name; `on`:
    by variable. `aliases`: names, and what their values have to do with those of others. `binds_later`,
    `touches_later`, `returns`: done with globals when what it defines is called; `arguments`, `hands_back`: done with
    what is handed to it; the latter says through which functions it is given back. `anything`, `anything_later`: it
    may set and alter any name. `yields`: it defines a generator.
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

    @property
    def changes(self) -> set[str]:
        """The names that it assigns into, or whose methods it calls."""
        return {t.name for t in self.touches if t.how in ("item", "augment", "method")}


class Binder(ast.NodeVisitor):
    """`lazy`: annotations are not evaluated where they stand."""

    def __init__(self, lazy: bool) -> None:
        self.found = Names()
        self.module = self.scope = Scope("module")
        self._lazy = lazy
        self._later = 0  # how many functions deep
        self._perhaps = 0  # how many branches deep
        self._soft = False
        self._holders: dict[str, set[Held]] = {}  # a loop's or a local variable → names whose values it may be, or hold
        self._above: ast.AST | None = None  # the node around the one that is visited

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
        """A function by a name that means something outside of the scope: of a local one nothing is known."""
        first, dot, _ = function.partition(".")
        if not first or first == effects.LAMBDA or self.scope.holder(first) is self.module:
            return function
        return f".{function.rpartition('.')[2]}" if dot else ""

    def _held_by(self, start: Held) -> list[Held]:
        """What it is of, and that of which the value of a loop's or a local variable may be, or hold, something."""
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
