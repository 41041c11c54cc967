"""What a module's text says, statement by statement: which names it binds, and what these are made from.

A module is run anew in each process, so a value of it (a lock, a time, a model) is what its statements say: it has
changed when they have. Comments and places do not count.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from nbcompose.capture.digests import digest_of

_PLAIN = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
_Bound = Mapping[str, list[ast.stmt]]


@dataclass(frozen=True, slots=True)
class Statements:
    """A module's statements by the names that they bind, and those that do something else besides.

    `opaque`: names whose own statements are not looked into, since they count by name (services).
    """

    tree: ast.Module
    bound: _Bound
    acting: tuple[ast.stmt, ...]
    opaque: frozenset[str] = frozenset()

    @classmethod
    def of(cls, text: str, opaque: Iterable[str] = ()) -> Statements:
        tree = ast.parse(text)
        acting = tuple(s for s in tree.body if _acts(s))
        return cls(tree, _bindings(tree.body), acting, frozenset(opaque))

    def digest(self, name: str) -> str | None:
        """What a name of the module is made from; None where the text does not say."""
        return self._digest(self.bound[name]) if name in self.bound and name not in self.opaque else None

    def attribute_digest(self, cls: str, name: str) -> str | None:
        """The same of an attribute of a class."""
        own = next((s for s in self.bound.get(cls, ()) if isinstance(s, ast.ClassDef)), None)
        bound = _bindings(own.body) if own is not None else {}
        return self._digest(bound[name], bound) if name in bound else None

    def acts(self) -> str:
        """The digest of all that the module does when it is imported, besides binding names."""
        return self._digest(self.acting)

    def names_below(self, name: str) -> set[str]:
        """The names that `name` is made from, directly or not; and itself."""
        return {name, *self._reach(self.bound.get(name, ()), {})[1]}

    def is_made_by_decorators(self, name: str) -> bool:
        return any(isinstance(s, ast.FunctionDef | ast.AsyncFunctionDef) for s in self.bound.get(name, ()))

    def imports(self) -> Iterator[ast.Import | ast.ImportFrom]:
        """Every import, those inside of functions too."""
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.Import | ast.ImportFrom))

    def _digest(self, statements: Iterable[ast.stmt], inner: _Bound | None = None) -> str:
        return digest_of([ast.dump(s) for s in self._reach(statements, inner or {})[0]])

    def _reach(self, statements: Iterable[ast.stmt], inner: _Bound) -> tuple[list[ast.stmt], set[str]]:
        """The statements, and those that bind what they name, directly or not."""
        todo, found, names = list(statements), dict[int, ast.stmt](), set[str]()
        while todo:
            statement = todo.pop(0)
            if id(statement) in found:
                continue
            found[id(statement)] = statement
            used = {n.id for n in ast.walk(statement) if isinstance(n, ast.Name)}
            names |= used
            for name in sorted(used - self.opaque):
                todo += inner.get(name) or self.bound.get(name, [])
        return list(found.values()), names


def _bindings(body: Iterable[ast.stmt]) -> dict[str, list[ast.stmt]]:
    bound: dict[str, list[ast.stmt]] = {}
    for statement in body:
        if not _is_for_scripts(statement):
            for name in set(_names_bound(statement)):
                bound.setdefault(name, []).append(statement)
    return bound


def _names_bound(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.partition(".")[0]


def _acts(statement: ast.stmt) -> bool:
    """Whether it may do something else than bind names."""
    if isinstance(statement, _PLAIN) or _is_for_scripts(statement):
        return False
    if isinstance(statement, ast.Expr):
        return not isinstance(statement.value, ast.Constant)
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return any(isinstance(node, ast.Attribute | ast.Subscript) for t in targets for node in ast.walk(t))
    return True


def _is_for_scripts(statement: ast.stmt) -> bool:
    """`if __name__ == "__main__":` and `if TYPE_CHECKING:` do not run in a replica."""
    if not isinstance(statement, ast.If) or statement.orelse:
        return False
    text = ast.unparse(statement.test)
    return "__name__" in text or "TYPE_CHECKING" in text
