"""The process that owns all replicas (a kernel, or `nbcompose serve`): how they notice its end; which processes are
stopped.

On Linux a pidfd, opened by the owner itself and inherited: no number that could be reused, and it does not depend on
who holds which pipe open. Elsewhere the inherited file is a pipe, and kqueue watches the pid that the environment
names.
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
    """In a replica: remember what this process is."""
    global _replica_of
    _replica_of = service


def in_replica() -> bool:
    return bool(_replica_of)


def forbid_in_replica() -> None:
    """Raise `LaunchError` in a replica: what starts services must not run when a replica imports their module."""
    if _replica_of:
        raise LaunchError(
            f"the module of {_replica_of} starts services when it is imported, and each replica imports it: put what "
            'starts them under `if __name__ == "__main__":`'
        )


def open_owner_fd() -> int:
    """In the owner: a file descriptor that tells its heirs when this process has ended."""
    if sys.platform == "linux":
        fd = os.pidfd_open(os.getpid())
    else:
        fd, writable = os.pipe()  # which stays open as long as this process lives
        keep_numbers_from_children([writable])
    keep_numbers_from_children([fd])
    return fd


def close_owner_fd(fd: int) -> None:
    forget(fd)
    os.close(fd)


def owner_environment() -> dict[str, str]:
    """What heirs need in their environment besides the file."""
    return {PID_VARIABLE: str(os.getpid())}


def wait_for_end(owner_fd: int) -> None:
    """In an heir: block until the owner has ended."""
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
