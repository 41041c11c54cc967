"""Modules of the user's as they were at one moment, under `nbcompose serve --reload`.

A version of a service is the text that it was made from: a replica imports that, also when it starts again after a
crash, whatever has been saved since. Compiled files are left alone: they tell texts apart by the second, and people
save faster.
"""

from __future__ import annotations

import importlib.util
import linecache
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import ModuleType
from typing import Any


@dataclass(frozen=True, slots=True)
class ModuleSource:
    """A module's file, and what stood in it."""

    file: str
    text: bytes


class _Loader(SourceFileLoader):
    def __init__(self, name: str, source: ModuleSource) -> None:
        super().__init__(name, source.file)
        self._text = source.text

    def get_data(self, path: str) -> bytes:
        return self._text if path == self.path else super().get_data(path)

    def path_stats(self, path: str) -> Mapping[str, Any]:
        raise OSError("compiled files are not looked at")


class SourceFinder(MetaPathFinder):
    """Finds the modules of `sources`, by their names."""

    def __init__(self, sources: Mapping[str, ModuleSource]) -> None:
        self.sources = sources

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        source = self.sources.get(name)
        return spec_of(name, source) if source is not None else None


def spec_of(name: str, source: ModuleSource) -> ModuleSpec | None:
    """How to import a module from this text."""
    folder, file = os.path.split(source.file)
    inside = [folder] if file == "__init__.py" else None
    loader = _Loader(name, source)
    return importlib.util.spec_from_file_location(name, source.file, loader=loader, submodule_search_locations=inside)


def use_sources(sources: Mapping[str, ModuleSource]) -> None:
    """Import these modules from their texts in this process from now on, and show their lines in tracebacks."""
    if sources:
        sys.meta_path.insert(0, SourceFinder(sources))
    know_lines({source.file: lines_of(source) for source in sources.values()})


def know_lines(texts: Mapping[str, str]) -> None:
    """Show these texts in tracebacks, by file, whatever is on disk."""
    for file, text in texts.items():
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)


def find_source(name: str, file: str) -> ModuleSpec | None:
    """How to import the module `name` where its text is known here; None where it is not."""
    for finder in sys.meta_path:
        spec = finder.find_spec(name, None) if isinstance(finder, SourceFinder) else None
        if spec is not None and spec.origin == file:
            return spec
    return None


def lines_of(source: ModuleSource) -> str:
    try:
        return importlib.util.decode_source(source.text)
    except (SyntaxError, UnicodeError):
        return ""


def from_module(module: str, name: str) -> Any:
    """What stands for a class or value that new code shares with the module which was imported here."""
    return getattr(sys.modules[module], name)
