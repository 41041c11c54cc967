"""Import of user modules from a snapshot of their source text, for `nbcompose serve --reload`.

A version of a service is the source text that it was made from: a replica imports that text, even when it restarts
after a crash, regardless of later changes on disk. Compiled files are not used: they distinguish sources by a time
stamp in seconds, and a file may be saved twice within one.
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
    """A module's file and its content."""

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
    """Import hook for the modules in `sources`, by name."""

    def __init__(self, sources: Mapping[str, ModuleSource]) -> None:
        self.sources = sources

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        source = self.sources.get(name)
        return spec_of(name, source) if source is not None else None


def spec_of(name: str, source: ModuleSource) -> ModuleSpec | None:
    """Return the import spec of a module with this source text."""
    folder, file = os.path.split(source.file)
    inside = [folder] if file == "__init__.py" else None
    loader = _Loader(name, source)
    return importlib.util.spec_from_file_location(name, source.file, loader=loader, submodule_search_locations=inside)


def use_sources(sources: Mapping[str, ModuleSource]) -> None:
    """Import these modules from their source texts from now on, and show their lines in tracebacks."""
    if sources:
        sys.meta_path.insert(0, SourceFinder(sources))
    know_lines({source.file: lines_of(source) for source in sources.values()})


def know_lines(texts: Mapping[str, str]) -> None:
    """Use these texts (by file) for tracebacks instead of the files on disk."""
    for file, text in texts.items():
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)


def find_source(name: str, file: str) -> ModuleSpec | None:
    """Return the import spec of the module `name` if its source text is known here, else None."""
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
    """Return a class or value of a module imported here; new code that shares it is pickled as a call of this."""
    return getattr(sys.modules[module], name)
