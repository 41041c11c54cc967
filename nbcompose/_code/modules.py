"""User modules by their statements, so that a saved file is applied by the rules of a re-run cell.

Each process runs a module again, so a value at module level (a lock, a time, a model) counts as changed when the
statements that make it have changed. Comments and line numbers do not count. Only the service's own module is compared
in parts; any other module of the user's that it uses counts as a whole.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from types import ModuleType
from typing import Any

import cloudpickle

from nbcompose._code.diff import Fingerprint, Part
from nbcompose._code.digests import digest_of
from nbcompose._code.fingerprint import fingerprint_of
from nbcompose._replica import ModuleSource, lines_of
from nbcompose._service import Service
from nbcompose._spec import ServiceSpec

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


class UserModules:
    """The user's modules at one moment, by name; they have to be those that `sys.modules` holds now."""

    def __init__(self, sources: Mapping[str, ModuleSource]) -> None:
        self.sources = dict(sources)
        self.statements = cache(self._statements)
        self._uses = cache(self._uses_of)

    def fingerprint(self, spec: ServiceSpec) -> Fingerprint:
        """`fingerprint_of`, with what a module adds: its statements, and the other modules that it uses."""
        own = spec.cls.__module__
        with by_value(own):
            fingerprint = fingerprint_of(spec)
        text = self.statements(own)
        parts = {name: _by_text(name, part, text) for name, part in fingerprint.parts.items()}
        # What a decorator has made of a function is sent by name: only replicas that import it anew have the new one.
        roots = {n for n, p in parts.items() if p.kind == "value" and text.is_made_by_decorators(n)}
        others = {m: Part("module", self._digest(m)) for m in self._below(spec.cls)}
        others[f"{own}'s own statements"] = Part("module", text.acts())
        return replace(fingerprint, parts={**parts, **others}, roots=fingerprint.roots | roots | others.keys())

    def shared(self, fingerprint: Fingerprint, imported: Fingerprint, cls: type[Any]) -> dict[str, Any]:
        """The classes and values of the service's module, by name, that are as they were when its replicas imported
        it (`imported`): new code can go on with theirs.
        """
        text, space = self.statements(cls.__module__), vars(sys.modules[cls.__module__])
        found = {}
        for name, part in fingerprint.parts.items():
            known = imported.parts.get(name)
            same = known is not None and known.digest == part.digest and text.digest(name) is not None
            if same and part.kind in ("type", "value") and name in space and space[name] not in cls.__mro__:
                stores = fingerprint.stores | imported.stores
                if not (text.names_below(name) & stores) and not isinstance(space[name], Service | ModuleType):
                    found[name] = space[name]
        return found

    def _statements(self, name: str) -> Statements:
        services = (n for n, v in vars(sys.modules[name]).items() if isinstance(v, Service))
        return Statements.of(lines_of(self.sources[name]), services)

    @cached_property
    def _digests(self) -> dict[str, str]:
        return {name: digest_of(ast.dump(self.statements(name).tree)) for name in self.sources if name in sys.modules}

    def _digest(self, name: str) -> str:
        return self._digests.get(name, "")

    def _below(self, cls: type[Any]) -> set[str]:
        """The user's other modules that a class's own uses, directly or not."""
        own = cls.__module__
        todo = [own, *(base.__module__ for base in cls.__mro__ if base.__module__ in self.sources)]
        found: set[str] = set()
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo += self._uses(name)
        return found - {own}

    def _uses_of(self, name: str) -> set[str]:
        """The modules that one imports; not those of which it has services only, whose code it does not run."""
        found: set[str] = set()
        for node in self.statements(name).imports():
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found |= set(_with_parents(alias.name))
                continue
            base = _absolute(node, sys.modules[name])
            for alias in node.names:
                if not isinstance(vars(sys.modules[name]).get(alias.asname or alias.name), Service):
                    found |= {*_with_parents(base), f"{base}.{alias.name}"}
        return found & self.sources.keys() & sys.modules.keys()


@contextlib.contextmanager
def by_value(module: str) -> Iterator[None]:
    """Have cloudpickle take classes and functions of a module apart, not name them."""
    if module in cloudpickle.list_registry_pickle_by_value():
        yield
        return
    cloudpickle.register_pickle_by_value(sys.modules[module])
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[module])


def _by_text(name: str, part: Part, text: Statements) -> Part:
    digest: str | None = None
    if part.kind in ("value", "type"):
        digest = text.digest(name)
    elif part.kind == "attribute":
        digest = text.attribute_digest(*_split(name))
    return part if digest is None else replace(part, digest=digest)


def _split(name: str) -> tuple[str, str]:
    cls, _, attribute = name.rpartition(".")
    return cls, attribute


def _absolute(node: ast.ImportFrom, module: ModuleType) -> str:
    package = module.__package__ or ""
    return (
        importlib.util.resolve_name("." * node.level + (node.module or ""), package)
        if node.level
        else node.module or ""
    )


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[: i + 1]) for i in range(len(parts)))
