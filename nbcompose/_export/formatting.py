"""A script's text as ruff leaves it: imports sorted, formatted, and marked where the user's own lines break a rule.

Ruff runs as a process of its own, in an empty folder and without anybody's configuration: the same text everywhere.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from nbcompose.errors import NbcomposeError

LINE_LENGTH = 120
# Errors and unused or unsorted imports; later versions of ruff have more by default, which are a matter of taste.
RULES = "E4,E7,E9,F,I"
# A name that is not defined is a fault to be seen.
NOT_MARKED = "F821"


def formatted(text: str, *, python: str, own: Sequence[str] = ()) -> str:
    """`python` is the oldest version that is to run it, e.g. "3.11"; `own` are modules of the user's own."""
    target = f"--target-version=py{python.replace('.', '')}"
    first_party = f"lint.isort.known-first-party = {json.dumps(sorted(own))}"
    check = ["check", target, f"--line-length={LINE_LENGTH}", "--config", first_party, "--quiet"]
    form = ["format", target, f"--line-length={LINE_LENGTH}", "--quiet"]
    with tempfile.TemporaryDirectory(prefix="nbcompose-") as folder:
        script = Path(folder, "script.py")
        script.write_text(text, encoding="utf-8")
        _ruff([*check, "--select=I", "--fix", "--exit-zero"], script)
        _ruff(form, script)
        if _ruff([*check, f"--select={RULES}", f"--ignore={NOT_MARKED}", "--exit-zero"], script):
            _ruff([*check, f"--select={RULES}", f"--ignore={NOT_MARKED}", "--add-noqa"], script)
            _ruff(form, script)
        return script.read_text(encoding="utf-8")


def _ruff(arguments: Sequence[str], script: Path) -> str:
    """Its output. Raises `NbcomposeError` where it cannot read the script."""
    command = [*ruff_command(), *arguments, "--isolated", "--no-cache", script.name]
    done = subprocess.run(command, cwd=script.parent, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NbcomposeError(f"ruff cannot format the script:\n{(done.stderr or done.stdout).strip()}")
    return done.stdout


@cache
def ruff_command() -> tuple[str, ...]:
    try:
        from ruff import find_ruff_bin
    except ImportError:
        try:
            from ruff.__main__ import find_ruff_bin  # where earlier versions have it
        except ImportError:
            raise NbcomposeError("an export is formatted by ruff: pip install 'nbcompose[notebook]'") from None
    try:
        return (str(find_ruff_bin()),)
    except FileNotFoundError:
        return sys.executable, "-m", "ruff"
