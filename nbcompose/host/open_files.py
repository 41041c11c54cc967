"""How many files this process has open, and may have: connections, shared memory, whatever the user's code opens."""

from __future__ import annotations

import contextlib
import os
import resource

# Programs that this process starts inherit the limit, and some go through all the numbers below it.
MOST = 65_536


def raise_limit() -> None:
    """Take as many as the system lets this user have (the hard limit), `MOST` at most."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # macOS has another bound besides
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def count() -> int:
    """How many there are; `limit` where there are too many to look."""
    try:
        return len(os.listdir("/dev/fd")) - 1  # without that of the folder
    except OSError:
        return limit()


def limit() -> int:
    """How many there may be."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else soft


def reserve() -> int:
    """How many of them clients leave free: for calls between services, shared memory, and the user's own code."""
    return min(256, limit() // 4)
