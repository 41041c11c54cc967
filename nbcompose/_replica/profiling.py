"""Sampling profiler of a replica: what its threads do, a hundred times a second. Imported when it is asked for.

What carries a call is left out: a thread in which only that is on the stack waits for work, and is not counted; nor is
one that makes no call and waits for another thread. Times are those of the clock on the wall, so that in a call waiting
counts too: for a service below, a file, a lock.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import NamedTuple

from nbcompose._replica.instance import Runtime
from nbcompose._replica.workers import WorkerThreads

RATE = 100.0  # samples a second
MOST_FRAMES = 200  # of a stack, the outermost
MOST_STACKS = 20_000  # different ones; what comes after is counted by api
# Seconds until a thread that computes has to let another in, while a profile is taken. With Python's own 5 ms, the
# sampler would get in when a short call ends by itself: it would see the time between calls only.
SWITCH = 0.0002

CARRIERS = ("nbcompose.", "asyncio.", "concurrent.", "threading", "contextlib", "uvloop")
# Where a call enters the user's code, and what is on the stack there under which name.
_ENTRIES: dict[CodeType, str] = {
    WorkerThreads._do.__code__: "job",
    Runtime._call_method.__code__: "api",
    Runtime._stream.__code__: "api",
}
OTHER = "(no call)"


class Frame(NamedTuple):
    """A function: its qualified name, its file, and its first line."""

    function: str
    file: str = ""
    line: int = 0


WAITS = Frame("(waits for a service)")
Stack = tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class Profile:
    """What was seen: how often each stack, the outermost frame first; the first of all is the api.

    `ticks`: how often was looked, which is the time that `count / ticks` is a part of.
    """

    ticks: int = 0
    stacks: Counter[Stack] = field(default_factory=Counter)


def sample(seconds: float) -> Profile:
    """Look at all threads for so long, in the calling thread."""
    own, until, ticks = threading.get_ident(), time.monotonic() + seconds, 0
    stacks: Counter[Stack] = Counter()
    with _let_in:
        while time.monotonic() < until:
            ticks += 1
            for thread, frame in sys._current_frames().items():
                if thread != own and (stack := _stack(frame)):
                    stacks[stack if stack in stacks or len(stacks) < MOST_STACKS else stack[:1]] += 1
            time.sleep(1 / RATE)
    return Profile(ticks, stacks)


class _LetIn:
    """While it is entered, by one thread or several, threads that compute let others in after `SWITCH` seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entered = 0
        self._before = 0.0

    def __enter__(self) -> None:
        with self._lock:
            if not self._entered:
                self._before = sys.getswitchinterval()
                sys.setswitchinterval(min(SWITCH, self._before))
            self._entered += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._entered -= 1
            if not self._entered:
                sys.setswitchinterval(self._before)


_let_in = _LetIn()


def _stack(innermost: FrameType) -> Stack:
    """Return the user's frames, () for none."""
    frame: FrameType | None = innermost
    found: list[Frame] = []
    api = ""
    while frame is not None:
        code = frame.f_code
        if code in _ENTRIES:
            called = frame.f_locals.get(_ENTRIES[code])
            api = getattr(called, "hop", "").rpartition(".")[2] or getattr(called, "api", "")
            break
        if not _carries(frame):
            if not found and frame is not innermost and _is_ours(innermost):
                found.append(WAITS)
            found.append(Frame(code.co_qualname, code.co_filename, code.co_firstlineno))
        frame = frame.f_back
    if not found or (frame is None and _carries(innermost)):
        return ()
    return (Frame(api or OTHER), *reversed(found[-MOST_FRAMES:]))


def _carries(frame: FrameType) -> bool:
    is_program = frame.f_back is None and frame.f_code.co_name == "<module>"  # what the process was started with
    return is_program or str(frame.f_globals.get("__name__")).startswith(CARRIERS)


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).startswith("nbcompose.")
