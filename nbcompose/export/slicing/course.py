"""The course of a notebook: its statements in the order in which they run, and which of them make a name what it is."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from nbcompose.export.reading.binding import Names
from nbcompose.export.reading.effects import Touch
from nbcompose.export.reading.scopes import FUNCTIONS
from nbcompose.export.reading.statements import Statement
from nbcompose.export.slicing.values import DEFINITIONS, IMPORTS, Values, is_constant

END = 1_000_000_000  # a position behind every statement: when functions are called that only replicas call


@dataclass(slots=True)
class Made:
    """What makes a name what it is at some position: statements that bind it (several where some do perhaps), and
    those that alter its value since. `deleted` is the statement that deleted it.
    """

    by: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    deleted: int | None = None

    def all(self) -> list[int]:
        return sorted({*self.by, *self.changed})


class Course:
    """`chosen`: for a service, the statement of the version that serves."""

    def __init__(self, statements: Sequence[Statement], chosen: Mapping[str, int] | None = None) -> None:
        self.statements = statements
        self._events: dict[str, list[tuple[int, str]]] = {}
        self._again: dict[int, bool] = {}
        self._reads: dict[int, set[str]] = {}
        self._affects: dict[int, set[str]] = {}
        self._values = Values()
        self.services: dict[str, int] = {}
        for index in range(len(statements)):
            self._add(index)
        self.services = {n: i for n in self._events for i in [self._last(n)] if i is not None and self.is_service(i)}
        self.services.update(chosen or {})
        self.services = dict(sorted(self.services.items(), key=lambda item: item[1]))

    def knows(self, name: str) -> bool:
        """Whether any statement binds the name."""
        return any(kind in ("bind", "perhaps") for _, kind in self._events.get(name, ()))

    def find(self, name: str, before: int = END) -> Made:
        """What makes a name what it is when the statement `before` runs. A service is always the one that serves."""
        made = Made()
        if name in self.services:
            made.by.append(self.services[name])
            return made
        for index, kind in reversed(self._events.get(name, ())):
            if index >= before:
                continue
            if kind == "delete":
                made.deleted = None if made.by else index
                return made
            (made.changed if kind == "change" else made.by).append(index)
            if kind == "bind":
                made.by += self._siblings(name, index)
                return made
        return made

    def versions(self, name: str) -> list[int]:
        """The statements that surely bind a name, in order."""
        return [index for index, kind in self._events.get(name, ()) if kind == "bind"]

    def is_once(self, index: int) -> bool:
        """Whether running a statement twice differs from running it once."""
        return self._again[index]

    def reads(self, index: int) -> set[str]:
        """The names that a statement reads when it runs, and those that what it calls reads."""
        return self._reads[index]

    def affects(self, index: int) -> set[str]:
        """The names that a statement, or what it calls, binds or alters."""
        return self._affects[index]

    def is_service(self, index: int) -> bool:
        return self.statements[index].options is not None or self.statements[index].decorated

    def _last(self, name: str) -> int | None:
        """A version that failed does not serve, where there is another."""
        versions = self.versions(name)
        working = [v for v in versions if not self.statements[v].cell.failed]
        return (working or versions)[-1] if versions else None

    def _add(self, index: int) -> None:
        names = self.statements[index].names
        called = [c.names for c in self._called(index)]
        touched = {t.name: t for t in self._touches(index, called)}
        bound = {name for c in called for name in c.binds_later} - names.defines
        changed = {same for name in touched for same in self._values.same(name)} - names.surely
        reads = names.reads.union(*(c.later for c in called), names.later if names.handed else ())
        self._reads[index] = reads
        self._affects[index] = bound | names.defines | changed
        self._again[index] = any(self._differs_again(t, index) for t in touched.values()) or bool(
            reads & (bound | names.defines)
        )
        for name in bound | names.defines:
            self._event(name, index, "bind" if name in bound | names.surely else "perhaps")
        for name in changed:
            self._event(name, index, "change")
        for name in names.deletes:
            self._event(name, index, "delete")
        returned = {name for c in called for name in (*c.returns, *(names.reads if c.returns_arguments else ()))}
        self._values.follow(self.statements[index], {*touched} | bound, returned)

    def _touches(self, index: int, called: list[Names]) -> list[Touch]:
        names = self.statements[index].names
        touches = names.touches.union(names.given, *(c.touches_later | c.given_later for c in called))
        return sorted(
            (t for t in touches if self._counts(t, index)), key=lambda t: (self._differs_again(t, index), t.name)
        )

    def _event(self, name: str, index: int, kind: str) -> None:
        self._events.setdefault(name, []).append((index, kind))

    def _called(self, index: int) -> Iterator[Statement]:
        """The notebook's functions and classes that a statement calls, and those that they may call."""
        todo, seen = list(self.statements[index].names.calls), set[str]()
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            for made in self.find(name, index).by:
                if isinstance(self.statements[made].node, DEFINITIONS) and not self.is_service(made):
                    yield self.statements[made]
                    todo += self.statements[made].names.later

    def _counts(self, touch: Touch, index: int) -> bool:
        """Whether a touch may alter the value, for what its name stands for, and what is called."""
        by_call = touch.how in ("argument", "given")
        caller = self.find(touch.by.partition(".")[0], index).by if by_call else []
        if touch.how == "given" and not any(isinstance(self.statements[c].node, FUNCTIONS) for c in caller):
            return False
        if any(self.is_service(c) or self._only_looks(c, touch) for c in caller):
            return False
        made = self.find(touch.name, index).by
        if not made:
            return True
        node = self.statements[made[0]].node
        if self.is_service(made[0]):
            return False
        if isinstance(node, IMPORTS):
            return touch.sets_module
        if isinstance(node, DEFINITIONS):
            return not by_call
        return touch.how == "augment" or not is_constant(node)

    def _only_looks(self, index: int, touch: Touch) -> bool:
        statement = self.statements[index]
        if isinstance(statement.node, IMPORTS):
            return any((getattr(statement.node, "module", "") or a.name).startswith("nbcompose")
                       for a in statement.node.names)  # fmt: skip
        return isinstance(statement.node, FUNCTIONS) and "." not in touch.by and not self._alters(index)

    def _alters(self, function: int) -> bool:
        """Whether a function, or one that gets it from there, alters what is handed to it."""
        return any(self.statements[i].names.alters for i in self._handed_on(function))

    def _handed_on(self, function: int) -> set[int]:
        """A function, and those to which it hands on what is handed to it."""
        todo, found = [function], set[int]()
        while todo:
            index = todo.pop()
            if index in found or not isinstance(self.statements[index].node, FUNCTIONS):
                continue
            found.add(index)
            todo += [i for name in self.statements[index].names.hands_on for i in self.find(name).by]
        return found

    def _differs_again(self, touch: Touch, index: int) -> bool:
        """Whether doing it twice differs from doing it once; functions of the notebook are looked into."""
        makers = self.find(touch.by, index).by if touch.how in ("argument", "given") else []
        if makers and all(isinstance(self.statements[i].node, FUNCTIONS) for i in makers):
            return any(self.statements[i].names.alters_again for m in makers for i in self._handed_on(m))
        return touch.again

    def _siblings(self, name: str, index: int) -> list[int]:
        """`import a.b` after `import a.c`: both make `a` what it is."""
        if not _is_dotted(self.statements[index].node, name):
            return []
        others = [i for i, kind in self._events[name] if kind == "bind" and i < index]
        return [i for i in others if _is_dotted(self.statements[i].node, name)]


def is_import(statement: Statement) -> bool:
    return isinstance(statement.node, IMPORTS)


def is_definition(statement: Statement) -> bool:
    return isinstance(statement.node, DEFINITIONS)


def _is_dotted(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.Import) and any(a.asname is None and a.name.startswith(f"{name}.") for a in node.names)
