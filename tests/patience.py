"""How long tests wait for what has to happen. It says nothing about how long anything takes: only what hangs takes so
long, on any machine, whatever else runs there.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Iterator

PATIENCE = 300.0  # seconds


def ever_longer(seconds: float = 0.1) -> Iterator[float]:
    """Deadlines for what has to be under way when they pass: each twice as long, until the caller has seen it was."""
    while seconds < PATIENCE:
        yield seconds
        seconds *= 2
    raise AssertionError("it was under way before none of the deadlines")


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait for something that tells nobody when it happens: a file, the end of somebody else's process."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE:g} s: {what}"
        time.sleep(0.01)


async def until(condition: Callable[[], object]) -> None:
    """As `wait_until`, on an event loop, which goes on meanwhile."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE:g} s: {inspect.getsource(condition)}"
        await asyncio.sleep(0.001)
