"""scripts/set_up.sh: which Python it takes, and what it says when there is none."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "set_up.sh"


def set_up(venv: Path, python: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHON": python}
    return subprocess.run([SCRIPT, venv], env=environment, capture_output=True, text=True, check=False)


def executable(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_no_python_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    done = set_up(tmp_path / "venv", str(tmp_path / "nowhere"))
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in done.stderr
    assert "make PYTHON=" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_a_python_that_is_too_old_is_passed_over(tmp_path: Path) -> None:
    old = executable(tmp_path / "old", "exit 1")
    new = executable(
        tmp_path / "new", 'case "$*" in *venv*) echo "no venv here" >&2; exit 1;; esac; echo "Python 3.99.0"'
    )
    done = set_up(tmp_path / "venv", f"{old} {new}")
    assert f"with {new} (Python 3.99.0)" in done.stdout
    assert "python3-venv" in done.stderr
    assert done.returncode != 0
