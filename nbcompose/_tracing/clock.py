"""The clock of deadlines: `time.monotonic()`, which stands still while a service is at a breakpoint.

All deadlines of a process are on it (`CallContext.deadline`), so that each of them is put off at once. It stands in the
process that is at the breakpoint, and in those whose calls may wait for that one: see `ServiceRoute.held`.

Call it as `clock.monotonic()`, not by an imported name: until it has stood for the first time it is `time.monotonic`
itself, and costs nothing more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LOOK_AGAIN = 0.1  # seconds until a timer that has come while the clock stood looks again

monotonic: Callable[[], float] = time.monotonic
behind = 0.0  # seconds for which it has stood so far

_holders: set[str] = set()
_lock = threading.Lock()


def hold(holder: str) -> None:
    """Stop the clock until `release` with the same name. From any thread."""
    global monotonic
    with _lock:
        if not _holders:
            stands = monotonic()
            monotonic = lambda: stands  # noqa: E731  a module's function that is replaced
        _holders.add(holder)


def release(holder: str) -> None:
    """Let the clock go on where no other holder has stopped it. From any thread."""
    global monotonic, behind
    with _lock:
        if holder not in _holders:
            return
        _holders.remove(holder)
        if not _holders:
            late = behind = time.monotonic() - monotonic()
            monotonic = lambda: time.monotonic() - late  # noqa: E731


def stands() -> bool:
    """Whether it stands still now."""
    return bool(_holders)
