"""scripts/find_pythons.py: which interpreters are found, the newest of each version, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def interpreter(path: Path, says: str, status: int = 0) -> Path:
    """What answers like an interpreter of a version, or fails like a shim."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {status}\n")
    path.chmod(0o755)
    return path


def find(home: Path, *names: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{home / 'bin'}{os.pathsep}/bin", "HOME": str(home)}
    command = [sys.executable, str(SCRIPTS / "find_pythons.py"), *names]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_on_path_in_pyenv_and_in_uv_and_the_newest_of_each(tmp_path: Path) -> None:
    interpreter(tmp_path / "bin/python3.11", "3 11 4 cpython False")
    newer = interpreter(tmp_path / ".pyenv/versions/3.11.9/bin/python3.11", "3 11 9 cpython False")
    interpreter(tmp_path / "bin/python3.12", "pyenv: python3.12: command not found", status=127)
    pyenv = interpreter(tmp_path / ".pyenv/versions/3.12.1/bin/python3.12", "3 12 1 cpython False")
    interpreter(tmp_path / ".pyenv/versions/3.10.1/bin/python3.10", "3 10 1 cpython False")
    interpreter(tmp_path / ".pyenv/versions/pypy/bin/python3.11", "3 11 13 pypy False")
    interpreter(tmp_path / ".pyenv/versions/3.13.1t/bin/python3.13", "3 13 1 cpython True")
    uv = interpreter(tmp_path / ".local/share/uv/python/cpython-3.13/bin/python3.13", "3 13 0 cpython False")
    assert find(tmp_path).stdout == f"3.11 {newer}\n3.12 {pyenv}\n3.13 {uv}\n"


def test_named_by_version_and_by_path(tmp_path: Path) -> None:
    one = interpreter(tmp_path / "bin/python3.11", "3 11 4 cpython False")
    other = interpreter(tmp_path / "elsewhere/python", "3 14 0 cpython False")
    assert find(tmp_path, "3.11", str(other)).stdout == f"3.11 {one}\n3.14 {other}\n"


def test_all_but_the_one_that_asks(tmp_path: Path) -> None:
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    others = {f"3.{minor}" for minor in range(11, 15)} - {own}
    paths = {f"3.{m}": interpreter(tmp_path / f"bin/python3.{m}", f"3 {m} 1 cpython False") for m in range(11, 15)}
    assert find(tmp_path, "others").stdout == "".join(f"{v} {paths[v]}\n" for v in sorted(others))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("3.12", "there is no Python 3.12 on PATH or in the folders of pyenv and uv; found: 3.11"),
        ("/nowhere", "/nowhere is no Python that can be run: name a version (3.12) or a path"),
    ],
)
def test_a_name_that_is_no_python(tmp_path: Path, name: str, says: str) -> None:
    interpreter(tmp_path / "bin/python3.11", "3 11 4 cpython False")
    done = find(tmp_path, name)
    assert (done.returncode, done.stderr.strip()) == (1, says)


def test_only_one_is_no_test_of_several(tmp_path: Path) -> None:
    interpreter(tmp_path / "bin/python3.11", "3 11 4 cpython False")
    environment = {"PATH": f"{tmp_path / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        [SCRIPTS / "test_pythons.sh", "3.11"],
        env=environment | {"PY": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"Only this was found, and that tells nothing about the others: 3.11 {tmp_path}" in done.stderr
