"""Whether the system has stopped a process: SIGSTOP, SIGTSTP. A pure look; nothing is sent to it."""

from __future__ import annotations

import sys

import psutil


def is_halted(pid: int) -> bool:
    """Whether a process is stopped until it gets SIGCONT. One that a debugger holds, that is frozen with its container,
    or that is busy, is not.
    """
    if sys.platform != "linux":
        try:
            return psutil.Process(pid).status() == psutil.STATUS_STOPPED
        except psutil.Error:
            return False
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return False
    # The name before it is the process's own choice, and may hold anything.
    return stat[stat.rindex(b")") + 2 :].startswith(b"T ")
