"""Credentials for callers outside the notebook: address and token of each service, in private files while it runs.

`~/.nbcompose/run/NAME/` has `url`, `token`, `header` (for `curl -H @FILE`) and the `pid` of the kernel. Only the user
can read them. It is a link to a folder of the kernel's own: of two kernels with a service of the same name, to that of
the one which started it last; when that stops it, to the other's.
"""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path

from nbcompose._protocol import address
from nbcompose._service import CREDENTIALS

logger = logging.getLogger("nbcompose.notebook")


def folder() -> Path:
    """Return the folder. Raises `RuntimeError` for a user without a home."""
    return Path.home() / CREDENTIALS


def store(service: str, url: str, token: str | None) -> bool:
    """Write the files of a service. Where that cannot be, what reads them fails, and the log says why.

    Returns whether another kernel runs a service of this name, to which the files referred before.
    """
    try:
        return _store(
            service,
            {"url": url, "token": token or "", "header": f"Authorization: Bearer {token}", "pid": str(os.getpid())},
        )
    except (OSError, RuntimeError) as error:
        logger.warning("the address and token of %s are in no file for callers outside: %s", service, error)
        return False


def _store(service: str, contents: dict[str, str]) -> bool:
    root = folder()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = root.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(f"{root} belongs to another user, or is open to others: remove it")
    place = root / service
    if place.parent != root:
        raise ValueError(f"{service!r} is no name of a folder")
    earlier = [place for place in _folders_of(root, service) if _is_mine(place)]
    # A folder of its own for each, so that nobody reads the token of one kernel at another's address.
    new = Path(tempfile.mkdtemp(dir=root, prefix=f".{service}.{os.getpid()}."))  # private
    for name, text in contents.items():
        (new / name).write_text(text, encoding="utf-8")
        (new / name).chmod(0o600)
    _link(place, new)
    for old in earlier:
        shutil.rmtree(old, ignore_errors=True)
    return not all(map(_is_mine, _folders_of(root, service)))


def _link(place: Path, target: Path) -> None:
    """Have `place` refer to a folder beside it, from one moment to the next."""
    if place.is_dir() and not place.is_symlink():  # of an earlier version
        shutil.rmtree(place, ignore_errors=True)
    link = target.with_name(f"{target.name}.link")
    link.unlink(missing_ok=True)
    link.symlink_to(target.name)
    link.replace(place)


def _folders_of(root: Path, service: str) -> list[Path]:
    """Return the folders of a service, of processes that run, the newest last."""
    found = []
    for place in root.glob(f".{glob.escape(service)}.*"):
        name, pid = _name_and_pid(place)
        if name == service and not place.is_symlink() and pid and address.is_alive(pid):
            found.append(place)
    return sorted(found, key=lambda place: place.stat().st_mtime)


def _is_mine(place: Path) -> bool:
    return _name_and_pid(place)[1] == os.getpid()


def _name_and_pid(place: Path) -> tuple[str, int]:
    """Return whose folder it is, from its name: ".Answer.4711.k3x9"."""
    name, _, rest = place.name[1:].rpartition(".")
    name, _, pid = name.rpartition(".") if rest else ("", "", "")
    return name, int(pid) if pid.isdecimal() else 0


def remove(service: str) -> None:
    """Remove the files of a service, if they are of this process. Another kernel's take their place."""
    with contextlib.suppress(OSError, RuntimeError):
        root = folder()
        mine = [place for place in _folders_of(root, service) if _is_mine(place)]
        _leave(root, service, [own.name for own in mine])
        for own in mine:
            shutil.rmtree(own, ignore_errors=True)


def _leave(root: Path, service: str, names: Collection[str]) -> None:
    """Have the link of a service refer to another folder, if it refers to one of these; none left: no link."""
    place = root / service
    if not place.is_symlink() or place.readlink().name not in names:
        return
    others = [other for other in _folders_of(root, service) if other.name not in names]
    if others:
        _link(place, others[-1])
    else:
        place.unlink()


def sweep() -> None:
    """Remove the files of processes that have ended without removing them."""
    with contextlib.suppress(OSError, RuntimeError):
        root = folder()
        for file in list(root.glob("*/pid")):  # hidden ones too
            with contextlib.suppress(OSError, ValueError):
                place = file.parent
                if not place.is_symlink() and not address.is_alive(int(file.read_text(encoding="utf-8"))):
                    _leave(root, _name_and_pid(place)[0], [place.name])
                    shutil.rmtree(place, ignore_errors=True)
