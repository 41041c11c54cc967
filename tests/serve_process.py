"""`nbcompose serve` as people run it: a process of its own, read line by line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PATIENCE, SERVICES

NBCOMPOSE = str(Path(sys.executable).parent / "nbcompose")


class Served:
    """`url` is where it answers, `lines` what it has said so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.url = ""

    def read_until(self, text: str) -> str:
        """The next line that contains `text`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if text in line:
                return self.lines[-1]
        pytest.fail(f"it ended without {text!r}:\n" + "\n".join(self.lines))

    def rest(self) -> list[str]:
        """Whatever else it says until it ends."""
        assert self.process.stdout is not None
        more = [line.rstrip("\n") for line in self.process.stdout]
        self.lines += more
        return more


def run(*arguments: str, cwd: Path = SERVICES, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command `nbcompose`, to its end."""
    return subprocess.run(
        [NBCOMPOSE, *arguments],
        cwd=cwd,
        env={**os.environ, "NBCOMPOSE_PRELOAD": "json", **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@contextmanager
def serving(
    *arguments: str,
    command: Sequence[str] = (NBCOMPOSE, "serve"),
    cwd: Path = SERVICES,
    wait: bool = True,
    stdin: Any = subprocess.DEVNULL,
    **environment: str,
) -> Iterator[Served]:
    """`nbcompose serve`, or another command that serves; with `wait`, once it answers."""
    process = subprocess.Popen(
        [*command, *arguments],
        cwd=cwd,
        env={**os.environ, "NBCOMPOSE_PRELOAD": "json", **environment},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    served = Served(process)
    try:
        if wait:
            line = served.read_until("answers at")
            found = re.search(r"http://\S+", line)
            assert found is not None
            served.url = found[0]
        yield served
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
