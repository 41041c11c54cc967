"""Lifetime of the owner process (a kernel, or `nbcompose serve`): replicas notice its end. Detect stopped processes.

On Linux replicas inherit a pidfd opened by the owner: unlike a pid it cannot be reused, and unlike a pipe it does not
depend on which processes hold it open. Elsewhere the inherited file is a pipe, and kqueue watches the pid given in the
environment.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys

import psutil

from nbcompose._host.forking import forget, keep_numbers_from_children
from nbcompose.errors import LaunchError

PID_VARIABLE = "NBCOMPOSE_OWNER_PID"

_replica_of = ""


def enter_replica(service: str) -> None:
    """In a replica: remember that this process is one, and of which service."""
    global _replica_of
    _replica_of = service


def in_replica() -> bool:
    """Whether this process is a replica."""
    return bool(_replica_of)


def forbid_in_replica() -> None:
    """Raise `LaunchError` in a replica: code that starts services must not run when a replica imports its module."""
    if _replica_of:
        raise LaunchError(
            f"the module of {_replica_of} starts services when it is imported, and each replica imports it: put what "
            'starts them under `if __name__ == "__main__":`'
        )


def open_owner_fd() -> int:
    """In the owner: open a file descriptor that tells the processes that inherit it when this one has ended."""
    if sys.platform == "linux":
        fd = os.pidfd_open(os.getpid())
    else:
        fd, writable = os.pipe()  # stays open as long as this process lives
        keep_numbers_from_children([writable])
    keep_numbers_from_children([fd])
    return fd


def close_owner_fd(fd: int) -> None:
    forget(fd)
    os.close(fd)


def owner_environment() -> dict[str, str]:
    """Return the environment variables that replicas need besides the file descriptor."""
    return {PID_VARIABLE: str(os.getpid())}


def wait_for_end(owner_fd: int) -> None:
    """In a replica: block until the owner process has ended."""
    if sys.platform == "linux":
        poll = select.poll()
        poll.register(owner_fd, select.POLLIN)
        poll.poll()
        return
    queue = select.kqueue()
    pid = int(os.environ[PID_VARIABLE])
    exited = select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
    closed = select.kevent(owner_fd, select.KQ_FILTER_READ, select.KQ_EV_ADD)
    with contextlib.suppress(ProcessLookupError):  # it has ended already
        queue.control([exited, closed], 1, None)


def is_halted(pid: int) -> bool:
    """Whether a process is stopped until it gets SIGCONT. False if a debugger holds it, it is frozen with its
    container, or it is busy.
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
    # The process name in front is arbitrary and may contain anything.
    return stat[stat.rindex(b")") + 2 :].startswith(b"T ")
