"""Reaching definitions: a notebook's statements in the order in which they ran, and which of them define a name's
value.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from nbcompose._export.binding import FUNCTIONS, StatementNames
from nbcompose._export.effects import Touch
from nbcompose._export.mutation import Altering
from nbcompose._export.statements import Statement
from nbcompose._export.values import END, Values

Quiet = tuple[str, str]  # the label of a cell's run, and a name


@dataclass(slots=True)
class Made:
    """The statements that define a name's value at some position.

    `by`: those that bind it (several where some may not run); `changed`: those that mutate its value since; `deleted`:
    the one that deleted it.
    """

    by: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    deleted: int | None = None

    def all(self) -> list[int]:
        return sorted({*self.by, *self.changed})


class Definitions:
    """The definitions of a notebook. `chosen`: for a service, the statement of the version that serves. `frozen`: names
    whose present values are stored. `loud`: (cell label, name) whose mutations count although the cell left the
    value unchanged.
    """

    def __init__(
        self,
        statements: Sequence[Statement],
        chosen: Mapping[str, int] | None = None,
        frozen: Collection[str] = (),
        loud: Collection[Quiet] = (),
    ) -> None:
        self.statements = statements
        self._events: dict[str, list[tuple[int, str]]] = {}
        self._again: dict[int, bool] = {}
        self._reads: dict[int, set[str]] = {}
        self._affects: dict[int, set[str]] = {}
        self._kept_by: dict[int, set[str]] = {}
        self._quiet: dict[Quiet, list[int]] = {}
        self._quietly: dict[int, set[str]] = {}
        self._anything: list[int] = []
        self._frozen = frozen
        self._loud = loud
        self._values = Values()
        self._altering = Altering(statements, lambda name, index: self.find(name, index).by, self.is_service, frozen)
        self.services: dict[str, int] = {}
        for index in range(len(statements)):
            self._add(index)
            if index + 1 == len(statements) or statements[index + 1].cell is not statements[index].cell:
                self._explain(index)
        self.services = {n: i for n in self._events for i in [self._last(n)] if i is not None and self.is_service(i)}
        self.services.update(chosen or {})
        self.services = dict(sorted(self.services.items(), key=lambda item: item[1]))

    def rearranged(self, order: Sequence[int]) -> Definitions:
        """Return the definitions of a script with these statements in this order; their effects stay the same."""
        script = copy.copy(self)
        place = {index: n for n, index in enumerate(order)}
        script.statements = [self.statements[i] for i in order]
        script._events = {
            name: sorted(((place[i], kind) for i, kind in events if i in place), key=lambda event: event[0])
            for name, events in self._events.items()
        }
        script._anything = sorted(place[i] for i in self._anything if i in place)
        script.services = {name: place[i] for name, i in self.services.items() if i in place}
        return script

    def knows(self, name: str) -> bool:
        """Whether any statement binds the name."""
        return any(kind in ("bind", "perhaps") for _, kind in self._events.get(name, ()))

    def find(self, name: str, before: int = END) -> Made:
        """Return what defines a name when the statement `before` runs. For a service that is always the version that
        serves.
        """
        made = Made()
        if name in self.services:
            made.by.append(self.services[name])
            return made
        for index, kind in reversed(self._events.get(name, ())):
            if index >= before or (kind == "quiet" and not self._same_cell(index, before)):
                continue
            if kind == "delete":
                made.deleted = None if made.by else index
                return made
            (made.changed if kind in ("change", "quiet") else made.by).append(index)
            if kind == "bind":
                made.by += self._siblings(name, index)
                return made
        return made

    def undone(self, taken: Collection[int]) -> set[Quiet]:
        """Return (cell label, name) of values that a cell left unchanged by several statements of which only some are
        in `taken`.
        """
        return {quiet for quiet, by in self._quiet.items() if 0 < len({*by} & {*taken}) < len({*by})}

    def versions(self, name: str) -> list[int]:
        """Return the statements that certainly bind a name, in order."""
        return [index for index, kind in self._events.get(name, ()) if kind == "bind"]

    def is_once(self, index: int) -> bool:
        """Whether running a statement twice has another effect than running it once."""
        return self._again[index]

    def reads(self, index: int) -> set[str]:
        """Return the names that a statement reads when it runs, including those that the functions it calls read."""
        return self._reads[index]

    def affects(self, index: int, reader: int | None = None) -> set[str]:
        """Return the names that a statement, or what it calls, binds or mutates; for a reader in the same cell, also
        those that the cell left unchanged in the end.
        """
        same = reader is not None and self._same_cell(index, reader)
        return self._affects[index] | self._quietly[index] if same else self._affects[index]

    def kept_by(self, index: int) -> set[str]:
        """Return the names that hold the former values of names that the statement binds again."""
        return self._kept_by[index]

    def may_read(self, index: int) -> set[str]:
        """Return the names that a statement itself reads: all known names, where it may bind or read any."""
        return self._reads[index] if index in self._anything else self.statements[index].names.reads

    def origin(self, by: str, before: int) -> str:
        """Return the full name of an imported one, "numpy.mean" for `np.mean`; "" for what was not imported."""
        return self._altering.origin(by, before)

    def is_value(self, name: str, before: int) -> bool:
        """Whether a name is bound to something else than a function, a class, or an import."""
        return self._altering.is_value(name, before)

    def is_service(self, index: int) -> bool:
        return self.statements[index].options is not None or self.statements[index].decorated

    def callable_in(self, names: Iterable[str], before: int = END) -> list[int]:
        """Return the statements whose functions may run where the values of these names, or their methods, are called:
        functions and classes, what the values were made from, and what those call in turn.
        """
        todo, seen, found = [(name, before) for name in names], set[str](), dict[int, None]()
        while todo:
            name, at = todo.pop()
            if name in seen or name in self._frozen:
                continue
            seen.add(name)
            for made in self.find(name, at).by:
                statement = self.statements[made]
                if statement.is_import or self.is_service(made):
                    continue
                if statement.is_definition or statement.names.later:
                    found[made] = None
                todo += [(n, at) for n in statement.names.later]
                if not statement.is_definition:
                    todo += [(n, made) for n in statement.names.reads]
                elif isinstance(statement.node, ast.ClassDef):
                    todo += [(n, made) for n in statement.names.calls]
        return list(found)

    def _same_cell(self, index: int, other: int) -> bool:
        return other < len(self.statements) and self.statements[index].cell is self.statements[other].cell

    def _last(self, name: str) -> int | None:
        """Return the last version; one that failed only where there is no other."""
        versions = self.versions(name)
        working = [v for v in versions if not self.statements[v].failed]
        return (working or versions)[-1] if versions else None

    def _add(self, index: int) -> None:
        statement, names = self.statements[index], self.statements[index].names
        self._altering.add(index)
        called = [self.statements[i].names for i in self.callable_in(names.calls, index)]
        bound = {name for c in called for name in c.binds_later} - names.defines
        altered = {t: self._altered(t, index) - names.surely for t in self._touched(index, called)}
        changed = set[str]().union(*altered.values())
        quiet = {name for name in changed if self._is_quiet(name, index)}
        reads = names.reads.union(*(c.later for c in called), names.later if names.handed else ())
        if names.anything or any(c.anything_later for c in called):
            self._anything.append(index)
            reads |= self._events.keys()  # and it may read any name, too
        self._reads[index] = reads
        self._affects[index] = bound | names.defines | changed - quiet
        self._again[index] = bool(reads & (bound | names.defines)) or any(
            self._altering.differs_again(touch, index) for touch, of in altered.items() if of - quiet
        )
        for name in bound | names.defines:
            self._event(name, index, "bind" if name in bound | names.surely else "perhaps")
        for name in changed:
            self._event(name, index, "quiet" if name in quiet else "change")
        self._quietly[index] = quiet
        for name in quiet:
            self._quiet.setdefault((statement.cell.label, name), []).append(index)
        for name in names.deletes:
            self._event(name, index, "delete")
        if index in self._anything[-1:]:
            for name in self._events.keys() - names.defines - bound - changed:
                self._event(name, index, "quiet" if self._is_quiet(name, index) else "perhaps")
        # Of a redefined function or class, only what can be mutated matters.
        self._kept_by[index] = self._values.kept_by(names.defines, parts=statement.is_plain)
        hands = partial(self._altering.hands, index=index)
        returned = [held for c in called for held in c.returns if hands(held)]
        read = [name for name in names.reads if self._altering.is_value(name, index)]
        self._values.follow(statement, changed | bound, returned, hands, read)

    def _touched(self, index: int, called: Sequence[StatementNames]) -> list[Touch]:
        """Return what a statement touches, including by its calls."""
        own = self.statements[index].names
        touches = dict.fromkeys(t for t in own.touches if self._altering.counts(t, index, own))
        for names in called:
            touches |= dict.fromkeys(t for t in names.touches_later if self._altering.counts(t, index, names))
        touches |= dict.fromkeys(self._altering.by_class(index))
        if own.handed:
            touches |= dict.fromkeys(t for t in own.touches_later if self._altering.counts(t, index, own))
        return list(touches)

    def _altered(self, touch: Touch, index: int) -> set[str]:
        """Return the names whose values a touch mutates. Touching a stored value affects only that name."""
        if touch.name in self._frozen:
            return {touch.name}
        altered = self._values.altered_with(touch.name, parts=touch.of_parts)
        return {n for n in altered if n == touch.name or not self._altering.is_frozen(n, index)}

    def _is_quiet(self, name: str, index: int) -> bool:
        """Whether the statement's cell was observed to leave the value of a name unchanged."""
        cell = self.statements[index].cell
        if cell.looked is None or (cell.label, name) in self._loud or not cell.looked.left(name):
            return False
        bound = (i for i, kind in self._events.get(name, ()) if kind in ("bind", "perhaps"))
        own = name in self.statements[index].names.defines
        outside = any(self.statements[i].is_import for i in self.find(name, index).by)
        return not own and not outside and not any(self.statements[i].cell is cell for i in bound)

    def _explain(self, end: int) -> None:
        """After a cell: attribute observed changes to its statements, where no statement mutates
        the name by its text.
        """
        cell = self.statements[end].cell
        if cell.looked is None:
            return
        first = next((i for i in range(end, -1, -1) if self.statements[i].cell is not cell), -1) + 1
        mine = range(first, end + 1)
        for name in sorted(cell.looked.changed):
            events = self._events.get(name, ())
            if any(i in mine and kind != "quiet" for i, kind in events):
                continue
            doing = [i for i in mine if i in self._anything] or [i for i in mine if self._does_something(i)]
            known = any(kind in ("bind", "perhaps") for _, kind in events)
            for index in doing if known else [i for i in mine if i in self._anything]:
                self._event(name, index, "change" if known and index not in self._anything else "perhaps")

    def _does_something(self, index: int) -> bool:
        node = self.statements[index].node
        return not self.statements[index].is_import and not isinstance(node, FUNCTIONS) and any(
            isinstance(n, ast.Call | ast.Delete | ast.AugAssign | ast.With) or
            (isinstance(n, ast.Attribute | ast.Subscript) and not isinstance(n.ctx, ast.Load)) for n in ast.walk(node)
        )  # fmt: skip

    def _event(self, name: str, index: int, kind: str) -> None:
        self._events.setdefault(name, []).append((index, kind))

    def _siblings(self, name: str, index: int) -> list[int]:
        """Return the other imports of a package: after `import a.c`, `import a.b`, both define `a`."""
        if not _is_dotted(self.statements[index].node, name):
            return []
        others = [i for i, kind in self._events[name] if kind == "bind" and i < index and i != index]
        return [i for i in others if _is_dotted(self.statements[i].node, name)]


def _is_dotted(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.Import) and any(a.asname is None and a.name.startswith(f"{name}.") for a in node.names)
