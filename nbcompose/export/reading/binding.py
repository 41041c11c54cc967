"""What one statement has to do with names, and the part of its reader that keeps the books."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from nbcompose.export.reading import effects
from nbcompose.export.reading.effects import Touch
from nbcompose.export.reading.scopes import Scope, bound_in


@dataclass(slots=True)
class Names:
    """Of the sets, `surely` is a part of `defines`, and `calls` one of `reads`.

    `later`: read when what the statement defines is called; `soft`: read by annotations that nobody need evaluate.
    `handed`: it hands a lambda to a call, which may be called at once. `depends`: services, by registered name; `on`:
    by variable. `aliases`: (name, another name of the same value or of what holds it). `binds_later`,
    `touches_later`, `returns`: done with globals when what it defines is called; `alters`, `returns_arguments`: done
    with what is handed to it, and `alters_again` otherwise each time; `hands_on`: the functions that get it from
    there. `given`, `given_later`: touches that count where the function is known to alter what it gets.
    """

    defines: set[str] = field(default_factory=set)
    surely: set[str] = field(default_factory=set)
    reads: set[str] = field(default_factory=set)
    calls: set[str] = field(default_factory=set)
    later: set[str] = field(default_factory=set)
    soft: set[str] = field(default_factory=set)
    touches: set[Touch] = field(default_factory=set)
    deletes: set[str] = field(default_factory=set)
    aliases: set[tuple[str, str]] = field(default_factory=set)
    binds_later: set[str] = field(default_factory=set)
    touches_later: set[Touch] = field(default_factory=set)
    returns: set[str] = field(default_factory=set)
    depends: set[str] = field(default_factory=set)
    on: set[str] = field(default_factory=set)
    given: set[Touch] = field(default_factory=set)
    given_later: set[Touch] = field(default_factory=set)
    hands_on: set[str] = field(default_factory=set)
    alters: bool = False
    alters_again: bool = False
    returns_arguments: bool = False
    handed: bool = False
    awaits: bool = False

    @property
    def changes(self) -> set[str]:
        return {t.name for t in self.touches}


class Binder(ast.NodeVisitor):
    """`lazy`: annotations are not evaluated where they stand."""

    def __init__(self, lazy: bool) -> None:
        self.found = Names()
        self.module = self.scope = Scope("module")
        self._lazy = lazy
        self._later = 0  # how many functions deep
        self._perhaps = 0  # how many branches deep
        self._soft = False
        self._holders: dict[str, set[str]] = {}  # a loop's variable → what it loops over

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
            for name in {touch.name} | self._holders.get(touch.name, set()):
                holder = self.scope.holder(name)
                if holder.kind == "function" and name in holder.parameters:
                    self._touch_argument(touch, renewed=name in holder.renewed)
                elif holder is self.module and name not in (() if self._later else self.module.bound):
                    self._places(touch).add(Touch(name, touch.how, touch.by))

    def _touch_argument(self, touch: Touch, *, renewed: bool) -> None:
        if renewed or touch.moves:
            return
        if touch.how == "given":
            self.found.hands_on.add(touch.by)
        else:
            self.found.alters = True
            self.found.alters_again |= touch.again

    def _places(self, touch: Touch) -> set[Touch]:
        if touch.how == "given":
            return self.found.given_later if self._later else self.found.given
        return self.found.touches_later if self._later else self.found.touches

    def _return(self, value: ast.AST | None) -> None:
        for name in {n for one in effects.held(value) for n in (one, *self._holders.get(one, ()))}:
            holder = self.scope.holder(name)
            if holder is self.module:
                self.found.returns.add(name)
            elif name in holder.parameters:
                self.found.returns_arguments = True

    def _alias(self, target: ast.AST, value: ast.AST | None) -> None:
        for name in bound_in([target]):
            for other in effects.held(value):
                if self.scope is self.module:
                    self.found.aliases.add((name, other))
                else:
                    self._holders.setdefault(name, set()).add(other)

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
