"""Credentials for callers outside the notebook: address and token of each service, in private files while it runs.

`~/.nbcompose/run/NAME/` has `url`, `token`, `header` (for `curl -H @FILE`) and the `pid` of the kernel. Only the user
can read them. Of two kernels with a service of the same name, the files are those of the one that started it last.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from pathlib import Path

from nbcompose._protocol import address
from nbcompose._service import CREDENTIALS

logger = logging.getLogger("nbcompose.notebook")


def folder() -> Path:
    """Return the folder. Raises `RuntimeError` for a user without a home."""
    return Path.home() / CREDENTIALS


def store(service: str, url: str, token: str | None) -> None:
    """Write the files of a service. Where that cannot be, what reads them fails, and the log says why."""
    try:
        _store(
            service,
            {"url": url, "token": token or "", "header": f"Authorization: Bearer {token}", "pid": str(os.getpid())},
        )
    except (OSError, RuntimeError) as error:
        logger.warning("the address and token of %s are in no file for callers outside: %s", service, error)


def _store(service: str, contents: dict[str, str]) -> None:
    root = folder()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = root.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(f"{root} belongs to another user, or is open to others: remove it")
    place = root / service
    if place.parent != root:
        raise ValueError(f"{service!r} is no name of a folder")
    # Made beside it, so that nobody reads a file that is half written, or the token of one kernel at another's address.
    new = Path(tempfile.mkdtemp(dir=root, prefix="."))  # private
    for name, text in contents.items():
        (new / name).write_text(text, encoding="utf-8")
        (new / name).chmod(0o600)
    shutil.rmtree(place, ignore_errors=True)
    new.rename(place)


def remove(service: str) -> None:
    """Remove the files of a service, if they are of this process."""
    with contextlib.suppress(OSError, RuntimeError):
        place = folder() / service
        if (place / "pid").read_text(encoding="utf-8") == str(os.getpid()):
            shutil.rmtree(place, ignore_errors=True)


def sweep() -> None:
    """Remove the files of processes that have ended without removing them."""
    with contextlib.suppress(OSError, RuntimeError):
        for file in folder().glob("*/pid"):
            with contextlib.suppress(OSError, ValueError):
                if not address.is_alive(int(file.read_text(encoding="utf-8"))):
                    shutil.rmtree(file.parent, ignore_errors=True)
