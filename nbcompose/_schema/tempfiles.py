"""Temporary files of uploads (`TempFiles`), removed when the call that they came with, or its process, ends.

During the call the upload folder is locked (flock) by the process. A process that is killed leaves its folders behind,
without a lock: `sweep` removes them. No process id is used for that, since it may belong to another process by then, or
mean nothing in another container.
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

# Not "nbcompose-upload-": folders of earlier versions have no lock and may be in use.
PREFIX = "nbcompose-uploads."
_NAME = re.compile(re.escape(PREFIX) + r"[a-z0-9_]{8}")  # the suffix that mkdtemp adds

_current: ContextVar[TempFiles | None] = ContextVar("nbcompose_temp_files", default=None)


class TempFiles:
    """A context in which uploads are written to files; all of them are removed when it ends.

    The directory is private to the user and created with the first file. Open the context around both the decoding of a
    request *and* the call, in one task: `with TempFiles(): ...`. Contexts may nest; the innermost one is used.
    """

    def __init__(self) -> None:
        self._directory: Path | None = None
        self._lock = -1
        self._count = 0
        self._outer: TempFiles | None = None

    @staticmethod
    def current() -> TempFiles:
        """Return the innermost open context. Raises RuntimeError if there is none."""
        files = _current.get()
        if files is None:
            raise RuntimeError("a file was sent, but no `with TempFiles():` is open that would remove it afterwards")
        return files

    @property
    def used(self) -> bool:
        """Whether a file has been written."""
        return self._directory is not None

    def write(self, data: bytes, filename: str | None = None) -> Path:
        """Write `data` to a new file; only the last part of `filename` is used, with unsafe characters removed."""
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
    """Remove upload folders in `places` that ended processes of this user have left behind. Raises nothing."""
    for place in set(places):
        with contextlib.suppress(OSError), os.scandir(place) as entries:
            for entry in entries:
                if _NAME.fullmatch(entry.name):
                    _remove_if_left(entry.path)


def _locked_folder() -> tuple[Path, int]:
    """Create a folder and lock it; return its path and the lock's fd. Retries if it is swept before it is locked."""
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
            shutil.rmtree(path, ignore_errors=True)  # rmtree does not follow links
    finally:
        os.close(lock)


def _lock(path: str) -> int | None:
    """Lock the folder and return the lock's fd; None if another process has it, or it is gone or not a folder."""
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
