"""Values: which objects the names of a notebook may refer to, and what these hold. A mutation affects every name that
holds the object.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count

from nbcompose._export.binding import DEFINITIONS, FUNCTIONS
from nbcompose._export.effects import Held
from nbcompose._export.naming import bindings
from nbcompose._export.statements import Statement, is_constant, is_literal

END = 1_000_000_000  # a position after every statement: when functions that only replicas call are called
Hands = Callable[[Held], bool]  # whether all functions through which a value was passed return it


@dataclass(slots=True)
class Objects:
    """The objects that a name may refer to, and the objects held by those."""

    own: set[int | str] = field(default_factory=set)
    parts: set[int | str] = field(default_factory=set)

    @property
    def all(self) -> set[int | str]:
        return self.own | self.parts


class Values:
    """Tracks the objects of names from statement to statement. Immutable values have no objects."""

    def __init__(self) -> None:
        self._objects: dict[str, Objects] = {}
        self._new = count()

    def altered_with(self, name: str, *, parts: bool) -> set[str]:
        """Return the name, and the names whose values are mutated with its value; `parts`: what it holds may be
        mutated, too.
        """
        of = self._objects.get(name, Objects())
        altered = of.all if parts else of.own
        return {name, *(other for other, others in self._objects.items() if altered & others.all)}

    def kept_by(self, names: Iterable[str], *, parts: bool) -> set[str]:
        """Return other names that hold the values of these; `parts`: only what those values hold."""
        of = [self._objects[name] for name in names if name in self._objects]
        kept = set[int | str]().union(*(o.parts if parts else o.all for o in of))
        return {other for other, objects in self._objects.items() if kept & objects.all}.difference(names)

    def follow(
        self, statement: Statement, altered: Iterable[str], returned: Iterable[Held], hands: Hands, read: Iterable[str]
    ) -> None:
        """Update the objects after a statement has run.

        What it mutates (`altered`) may now hold what it reads (`read`); `returned`: values returned by functions that
        it calls.
        """
        names = statement.names
        given = set[int | str]().union(*(self._objects[h.name].all for h in returned if h.name in self._objects))
        aliases = [(name, held) for name, held in sorted(names.aliases, key=repr) if hands(held)]
        made = {name: self._made(statement, name, [h for n, h in aliases if n == name]) for name in names.defines}
        for name, held in aliases:  # `x = y = []`, `with a as b, b as c`
            if name in made and held.name in made:
                made[name].own |= made[held.name].own
                made[name].parts |= made[held.name].parts
        for name, objects in made.items():
            objects.own |= given
            if name not in names.surely and name in self._objects:
                objects.own |= self._objects[name].own
                objects.parts |= self._objects[name].parts
            self._objects[name] = objects
        for name in set(altered) - names.surely:
            into = self._objects.setdefault(name, Objects({next(self._new)}))
            into.parts.update(*(self._objects[other].all for other in read if other in self._objects))
        for name in names.deletes:
            self._objects.pop(name, None)

    def _made(self, statement: Statement, name: str, aliases: list[Held]) -> Objects:
        if statement.is_import:
            return Objects({f"module {origin}" for bound, origin in bindings(statement.node) if bound == name})
        objects = Objects() if is_constant(statement.node) else Objects({next(self._new)})
        if _keeps_something(statement.node):
            objects.parts.add(next(self._new))  # what all calls share, or all instances
        for held in aliases:
            other = self._objects.get(held.name, Objects())
            if held.how == "is":
                objects.own |= other.own
                objects.parts |= other.parts
            elif held.how == "within":
                objects.own |= other.all
                objects.parts |= other.parts
            elif held.via == (held.name,):  # an object of a class
                objects.parts |= other.parts
            else:
                objects.parts |= other.all
        return objects


def _keeps_something(node: ast.stmt) -> bool:
    """Whether a statement makes a default of a function, or an attribute of a class, that can be mutated."""
    if isinstance(node, FUNCTIONS):
        return any(d is not None and not is_literal(d) for d in (*node.args.defaults, *node.args.kw_defaults))
    if isinstance(node, ast.ClassDef):
        return any(
            _keeps_something(s) if isinstance(s, DEFINITIONS) else
            isinstance(s, ast.Assign | ast.AnnAssign) and s.value is not None and not is_literal(s.value)
            for s in node.body
        )  # fmt: skip
    return False
