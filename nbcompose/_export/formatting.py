"""Formatting of a script by ruff: sorted imports, formatted code, `noqa` marks where the user's own lines break a rule.

Ruff runs in a separate process, in an empty folder and without the user's configuration: the result is the same
everywhere.
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
# Errors, and unused or unsorted imports; the further default rules of later ruff versions are a matter of taste.
RULES = "E4,E7,E9,F,I"
# Not marked: an undefined name is an error that the user should see.
NOT_MARKED = "F821"


def formatted(text: str, *, python: str, own: Sequence[str] = ()) -> str:
    """Return the formatted text. `python`: the oldest version that must run it, e.g. "3.11"; `own`: the user's own
    modules.
    """
    target = f"--target-version=py{python.replace('.', '')}"
    first_party = f"lint.isort.known-first-party = {json.dumps(sorted(own))}"
    check = ["check", target, f"--line-length={LINE_LENGTH}", "--config", first_party, "--quiet"]
    form = ["format", target, f"--line-length={LINE_LENGTH}"]  # not --quiet, which hides what it cannot read
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
    """Run ruff and return its output. Raises `NbcomposeError` where it cannot read the script."""
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
            from ruff.__main__ import find_ruff_bin  # its place in earlier versions
        except ImportError:
            raise NbcomposeError("an export is formatted by ruff: pip install 'nbcompose[notebook]'") from None
    try:
        return (str(find_ruff_bin()),)
    except FileNotFoundError:
        return sys.executable, "-m", "ruff"
