"""`TempFiles`: uploaded files that live exactly as long as the call they came with."""

from __future__ import annotations

import shutil
import tempfile
from contextvars import ContextVar
from pathlib import Path, PurePosixPath
from types import TracebackType

_current: ContextVar[TempFiles | None] = ContextVar("nbcompose_temp_files", default=None)


class TempFiles:
    """A context in which uploads become files; all of them are removed when it ends.

    The directory is private to the user and is made with the first file only. Open it around the decoding of a
    request *and* the call, in one task: `with TempFiles(): ...`. Contexts may nest; the innermost one is used.
    """

    def __init__(self) -> None:
        self._directory: Path | None = None
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
            self._directory = Path(tempfile.mkdtemp(prefix="nbcompose-upload-"))
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
            self._directory = None


def _safe_name(filename: str) -> str:
    name = PurePosixPath(filename.replace("\\", "/")).name
    kept = "".join(c for c in name if c.isprintable() and c not in '<>:"|?*').lstrip(".")
    return kept.encode()[-120:].decode(errors="ignore") or "upload"
