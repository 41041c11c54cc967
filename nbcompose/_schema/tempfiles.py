"""`TempFiles`: uploaded files that live exactly as long as the call they came with, or as the process that has it.

A folder of uploads is locked (flock) by its process while the call lasts. A process that is killed leaves its folders
behind, and nobody who locks them: `sweep` removes these. No number of a process is needed for that, which may be
another's by then, or mean nothing in a container beside this one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from contextvars import ContextVar
from pathlib import Path, PurePosixPath
from types import TracebackType

from nbcompose._host import forget, keep_numbers_from_children

# Not "nbcompose-upload-": folders of earlier versions have no lock, and may be in use.
PREFIX = "nbcompose-uploads."
_NAME = re.compile(re.escape(PREFIX) + r"[a-z0-9_]{8}")  # as mkdtemp completes it

_current: ContextVar[TempFiles | None] = ContextVar("nbcompose_temp_files", default=None)


class TempFiles:
    """A context in which uploads become files; all of them are removed when it ends.

    The directory is private to the user and is made with the first file only. Open it around the decoding of a
    request *and* the call, in one task: `with TempFiles(): ...`. Contexts may nest; the innermost one is used.
    """

    def __init__(self) -> None:
        self._directory: Path | None = None
        self._lock = -1
        self._count = 0
        self._outer: TempFiles | None = None

    @staticmethod
    def current() -> TempFiles:
        """The innermost open context. RuntimeError where there is none."""
        files = _current.get()
        if files is None:
            raise RuntimeError("a file was sent, but no `with TempFiles():` is open that would remove it afterwards")
        return files

    @property
    def used(self) -> bool:
        """Whether a file has been made."""
        return self._directory is not None

    def write(self, data: bytes, filename: str | None = None) -> Path:
        """A new file with `data`; only the last part of `filename` is used, made safe."""
        if self._directory is None:
            self._directory, self._lock = _locked_folder()
        folder = self._directory / str(self._count)
        self._count += 1
        folder.mkdir(mode=0o700)
        path = folder / _safe_name(filename or "")
        path.write_bytes(data)
        return path

    def __enter__(self) -> TempFiles:
        self._outer = _current.get()
        _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _current.set(self._outer)
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            forget(self._lock)
            os.close(self._lock)
            self._directory, self._lock = None, -1


def sweep(*places: str) -> None:
    """Remove the folders of uploads in `places` that processes of this user have left behind. Raises nothing."""
    for place in set(places):
        with contextlib.suppress(OSError), os.scandir(place) as entries:
            for entry in entries:
                if _NAME.fullmatch(entry.name):
                    _remove_if_left(entry.path)


def _locked_folder() -> tuple[Path, int]:
    """A new folder, and the file that locks it. One that is swept before it is locked is made again."""
    while True:
        path = tempfile.mkdtemp(prefix=PREFIX)
        lock = _lock(path)
        if lock is None:
            continue
        if os.path.lexists(path) and os.path.samestat(os.lstat(path), os.fstat(lock)):
            keep_numbers_from_children([lock])
            return Path(path), lock
        os.close(lock)


def _remove_if_left(path: str) -> None:
    lock = _lock(path)
    if lock is None:
        return
    try:
        if os.fstat(lock).st_uid == os.getuid():
            shutil.rmtree(path, ignore_errors=True)  # which follows no links
    finally:
        os.close(lock)


def _lock(path: str) -> int | None:
    """A file that locks the folder; None where another one does, or it is none, or has gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd


def _safe_name(filename: str) -> str:
    name = PurePosixPath(filename.replace("\\", "/")).name
    kept = "".join(c for c in name if c.isprintable() and c not in '<>:"|?*').lstrip(".")
    return kept.encode()[-120:].decode(errors="ignore") or "upload"
