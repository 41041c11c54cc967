"""What services of the user's own modules mean, so that a saved file is applied by the rules of a cell run again.

A service's own module is looked into, by meaning.py and by its statements; any other module of the user's that it uses
counts as a whole.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache, cached_property
from types import ModuleType
from typing import Any

import cloudpickle

from nbcompose.capture.digests import digest_of
from nbcompose.capture.meaning import meaning_of
from nbcompose.capture.statements import Statements
from nbcompose.declaration import Service
from nbcompose.plan import Meaning, Part
from nbcompose.replica.sources import Source, lines_of
from nbcompose.spec import ServiceSpec


class UserModules:
    """The user's modules at one moment, by name; they have to be those that `sys.modules` holds now."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self.sources = dict(sources)
        self.statements = cache(self._statements)
        self._uses = cache(self._uses_of)

    def meaning(self, spec: ServiceSpec) -> Meaning:
        """`meaning_of`, with what a module adds: its statements, and the other modules that it uses."""
        own = spec.cls.__module__
        with by_value(own):
            meaning = meaning_of(spec)
        text = self.statements(own)
        parts = {name: _by_text(name, part, text) for name, part in meaning.parts.items()}
        # What a decorator has made of a function is sent by name: only replicas that import it anew have the new one.
        roots = {n for n, p in parts.items() if p.kind == "value" and text.is_made_by_decorators(n)}
        others = {m: Part("module", self._digest(m)) for m in self._below(spec.cls)}
        others[f"{own}'s own statements"] = Part("module", text.acts())
        return replace(meaning, parts={**parts, **others}, roots=meaning.roots | roots | others.keys())

    def shared(self, meaning: Meaning, imported: Meaning, cls: type[Any]) -> dict[str, Any]:
        """The classes and values of the service's module, by name, that are as they were when its replicas imported
        it (`imported`): new code can go on with theirs.
        """
        text, space = self.statements(cls.__module__), vars(sys.modules[cls.__module__])
        found = {}
        for name, part in meaning.parts.items():
            known = imported.parts.get(name)
            same = known is not None and known.digest == part.digest and text.digest(name) is not None
            if same and part.kind in ("type", "value") and name in space and space[name] not in cls.__mro__:
                stores = meaning.stores | imported.stores
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
