"""Prints the interpreters that `make test-pythons` runs, one `VERSION PATH` a line: the newest of each minor version.

    python scripts/find_pythons.py [NAME ...]

A NAME is a version ("3.12"), a path, or "others": all but the version that runs this script. Without one, everything is
taken that is on PATH or in the folders of pyenv and uv, can be run (a shim of pyenv's often cannot), and is a version
that the project supports.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

OLDEST, NEWEST = (3, 11), (3, 14)
ASK = (
    "import ensurepip, sys, venv; "
    "print(*sys.version_info[:3], sys.implementation.name, not getattr(sys, '_is_gil_enabled', lambda: True)())"
)

Version = tuple[int, int, int]


def candidates() -> Iterator[Path]:
    """Whatever may be an interpreter, by its name and place."""
    for minor in range(OLDEST[1], NEWEST[1] + 1):
        name = f"python3.{minor}"
        for folder in os.get_exec_path():
            yield Path(folder) / name
        pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
        yield from pyenv.glob(f"versions/*/bin/{name}")
        data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
        uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or data / "uv" / "python")
        yield from uv.glob(f"*/bin/{name}")


def version_of(path: Path) -> Version | None:
    """What the interpreter says it is, and that it can make an environment; None for anything that cannot be used."""
    if not os.access(path, os.X_OK):
        return None
    try:
        asked = subprocess.run([path, "-c", ASK], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.fullmatch(r"(\d+) (\d+) (\d+) cpython False", asked.stdout.strip())
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def found(paths: Iterator[Path]) -> dict[tuple[int, int], tuple[Version, Path]]:
    """The newest interpreter of each supported minor version; of equal ones the first."""
    best: dict[tuple[int, int], tuple[Version, Path]] = {}
    for path in dict.fromkeys(paths):
        version = version_of(path)
        if version is None or not OLDEST <= version[:2] <= NEWEST:
            continue
        if version[:2] not in best or best[version[:2]][0] < version:
            best[version[:2]] = version, path
    return best


def named(names: list[str]) -> Iterator[Path]:
    """The paths that NAMEs stand for. Raises SystemExit for one that is no interpreter."""
    known = found(candidates()) if any(re.fullmatch(r"3\.\d+|others", name) for name in names) else {}
    for name in names:
        if name == "others":
            yield from (path for version, (_, path) in known.items() if version != sys.version_info[:2])
        elif match := re.fullmatch(r"3\.(\d+)", name):
            if (3, int(match[1])) not in known:
                have = ", ".join(f"{a}.{b}" for a, b in sorted(known)) or "none"
                raise SystemExit(f"there is no Python {name} on PATH or in the folders of pyenv and uv; found: {have}")
            yield known[3, int(match[1])][1]
        else:
            path = shutil.which(name)
            if path is None or version_of(Path(path)) is None:
                raise SystemExit(f"{name} is no Python that can be run: name a version (3.12) or a path")
            yield Path(path)


def main(names: list[str]) -> int:
    for (major, minor), (_, path) in sorted(found(named(names) if names else candidates()).items()):
        print(f"{major}.{minor} {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
