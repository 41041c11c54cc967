"""`nbcompose serve` as people run it: a process of its own, read line by line."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SERVICES
from tests.patience import PATIENCE

NBCOMPOSE = str(Path(sys.executable).parent / "nbcompose")


class Served:
    """`url` is where it answers, `lines` what it has said so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.url = ""
        self._said: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def read_until(self, text: str) -> str:
        """The next line that contains `text`."""
        for line in self._next_lines(f"{text!r}"):
            if text in line:
                return line
        pytest.fail(f"it ended without {text!r}:\n" + "\n".join(self.lines))

    def rest(self) -> list[str]:
        """Whatever else it says until it ends."""
        return list(self._next_lines("its end"))

    def close(self) -> None:
        """End it, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)

    def _next_lines(self, what: str) -> Iterator[str]:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                line = self._said.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"not within {PATIENCE:g} s: {what}; it has said:\n" + "\n".join(self.lines))
            if line is None:
                self._said.put(None)
                return
            self.lines.append(line)
            yield line

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self._said.put(line.rstrip("\n"))
        self._said.put(None)


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
        served.close()
