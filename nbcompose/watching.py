"""The user's modules behind `nbcompose serve --reload`: which they are, whether they have changed, and the import anew.

What is done about a change is reloading.py's.
"""

from __future__ import annotations

import importlib
import linecache
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from watchfiles import watch

from nbcompose.capture.modules import UserModules
from nbcompose.declaration import Service
from nbcompose.entry import file_of, find_entry
from nbcompose.replica.sources import Source, SourceFinder, spec_of

LOOK = 2000  # milliseconds; a change that the system does not tell of (a network's folder) is seen after that


class Watched:
    """The modules that `target` (see `find_entry`) imports from its own folder, or from below the present one."""

    def __init__(self, target: str) -> None:
        self.target = target
        file = file_of(target)
        self.folder = file.parent if file is not None else Path.cwd()
        self._finder = _Finder(self.folder, file)
        self._seen: dict[str, bytes | None] = {}  # what stood in each file when it was last imported
        self._entry = ""
        self._failed = False
        self._missing = ""

    @property
    def modules(self) -> UserModules:
        return UserModules(self._finder.sources)

    def load(self) -> Service:
        """The entry, imported anew with every module of the user's. Raises what `find_entry` raises, and then
        `sys.modules` is as it was.
        """
        if self._finder not in sys.meta_path:
            sys.meta_path.insert(0, self._finder)
        before = self._finder.sources
        loaded = {name: sys.modules.pop(name) for name in before if name in sys.modules}
        self._seen = {file: _read(file) for file in self._seen}
        self._finder.sources = {}
        importlib.invalidate_caches()
        linecache.checkcache()
        try:
            entry = find_entry(self.target, self._entry)
        except BaseException as error:
            self._note_failure(error)
            self._finder.sources = before
            sys.modules.update(loaded)
            raise
        self._entry, self._failed, self._missing = entry.name, False, ""
        self._seen = {source.file: source.text for source in self._finder.sources.values()}
        return entry

    def _note_failure(self, error: BaseException) -> None:
        self._failed = True
        self._missing = (error.name or "") if isinstance(error, ModuleNotFoundError) else ""
        if self._is_there_now():
            self._missing = ""  # something else is wrong with it
        for name, source in self._finder.sources.items():
            sys.modules.pop(name, None)
            self._seen[source.file] = source.text

    def looks(self, stopped: threading.Event) -> Iterator[bool]:
        """Whether something has changed, every time that may be so, and at least every `LOOK`; until `stopped`."""
        while not stopped.is_set():
            folders = self._folders()
            for events in watch(
                *folders, watch_filter=lambda _, path: path.endswith(".py"), recursive=False, stop_event=stopped,
                rust_timeout=LOOK, yield_on_timeout=True, raise_interrupt=False, ignore_permission_denied=True,
            ):  # fmt: skip
                yield self._changed(bool(events))
                if self._folders() != folders:
                    break

    def _changed(self, touched: bool) -> bool:
        """`touched`: the system told of a change. A file that has just gone may be about to come back, written anew."""
        for file, text in self._seen.items():
            now = _read(file)
            if now != text and (now is not None or not touched):
                return True
        return self._failed and (touched or self._is_there_now())

    def _is_there_now(self) -> bool:
        """Whether the module has come that was not found."""
        path = self.folder / self._missing.replace(".", "/")
        return bool(self._missing) and (path.with_suffix(".py").exists() or (path / "__init__.py").exists())

    def _folders(self) -> list[str]:
        folders = {str(self.folder), *(os.path.dirname(file) for file in self._seen)}
        return sorted(folder for folder in folders if os.path.isdir(folder))


class _Finder(SourceFinder):
    """Imports the modules of a folder from their present text, which it remembers."""

    def __init__(self, folder: Path, entry: Path | None) -> None:
        super().__init__({})
        self.sources: dict[str, Source] = {}
        self._folder = folder
        self._entry = entry

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if self._entry is not None and name == self._entry.stem:
            return self._take(name, str(self._entry))
        found = PathFinder.find_spec(name, path)
        file = found.origin if found is not None and found.has_location else None
        if file is None or not file.endswith(".py") or not _is_users(Path(file), self._folder):
            return None
        return self._take(name, os.path.abspath(file))

    def _take(self, name: str, file: str) -> ModuleSpec | None:
        text = _read(file)
        if text is None:
            return None
        self.sources[name] = Source(file, text)
        return spec_of(name, self.sources[name])


def _is_users(file: Path, folder: Path) -> bool:
    """Whether a file is below the folder, and not of something that is installed there."""
    if not file.is_relative_to(folder):
        return False
    inside = file.relative_to(folder).parts
    installed = [p for p in (Path(__file__).parent, Path(sys.prefix)) if p.is_relative_to(folder) and p != folder]
    hidden = any(part.startswith(".") or part in ("site-packages", "dist-packages") for part in inside)
    return not hidden and not any(file.is_relative_to(p) for p in installed)


def _read(file: str) -> bytes | None:
    try:
        return Path(file).read_bytes()
    except OSError:  # it does not exist, perhaps only for a moment
        return None
