"""Keep open files, signal handlers and the event loop's wake-up fd from forked children. Limits of open files.

A forked child holds every open file. A worker that a notebook or an api forks may outlive its parent, and would keep
our ports, connections and addresses open without serving them. And a signal for the child would be delivered to the
parent's event loop, whose wake-up fd it shares. Programs started with `exec` are not affected: `exec` closes our files
and resets signal handlers.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import stat
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, TypeVar

File = TypeVar("File", bound="socket.socket | IO[bytes]")

_objects: weakref.WeakSet[socket.socket | IO[bytes]] = weakref.WeakSet()
_files: dict[int, int] = {}  # fds with their inodes: a number may be reused for another file
_handlers: dict[int, Any] = {}  # of signals, as they were before ours
_held = threading.local()


def keep_from_children(file: File) -> File:
    """Close `file` in every child that this process forks while it is open here; return it.

    For a listening socket, its duplicates and the connections made to it are closed as well, whatever holds them.
    """
    _objects.add(file)
    return file


def keep_numbers_from_children(fds: Iterable[int]) -> None:
    """As `keep_from_children`, for fds without a file object. Except for sockets, call `forget` before closing them."""
    _files.update((fd, status.st_ino) for fd in fds if (status := _status(fd)))


def forget(fd: int) -> None:
    """Undo `keep_numbers_from_children`."""
    _files.pop(fd, None)


def open_files() -> set[int]:
    """Return the fds of all files that this process has open."""
    return {fd for fd in map(int, os.listdir("/dev/fd")) if _status(fd)}  # without the fd of the directory


def _status(fd: int) -> os.stat_result | None:
    with contextlib.suppress(OSError):
        return os.fstat(fd)
    return None


def keep_handlers_from_children() -> None:
    """Reset signal handlers in children to those that are set now."""
    _handlers.update((number, signal.getsignal(number)) for number in signal.valid_signals())


@contextlib.contextmanager
def handling(handler: Callable[..., object], *numbers: int) -> Iterator[None]:
    """Handle these signals with `handler` inside the context, in this process and not in children. Main thread only."""
    before = {number: signal.signal(number, handler) for number in numbers}
    added = before.keys() - _handlers.keys()
    _handlers.update((number, before[number]) for number in added)
    try:
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)
        for number in added:
            _handlers.pop(number, None)  # empty in a forked child that leaves this context


def _hold_signals() -> None:
    """Before a fork: block signals in the forking thread, until the child has restored its handlers."""
    if _handlers:
        _held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _handlers)


def _let_signals_in() -> None:
    mask = vars(_held).pop("mask", None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _leave_behind() -> None:
    """Runs first in the child."""
    if _handlers:
        _restore_handlers()
    _let_signals_in()
    if _files or _objects:
        nothing = os.open(os.devnull, os.O_RDWR)
        for fd in set(_of_ours()):
            # Not closed: the parent's objects would close the fd again, when it may belong to another file.
            os.dup2(nothing, fd, inheritable=False)
        os.close(nothing)
    for inherited in (_handlers, _files, _objects):
        inherited.clear()  # what the child opens from here on is for itself and its children


def _restore_handlers() -> None:
    with contextlib.suppress(ValueError):  # not the main interpreter
        signal.set_wakeup_fd(-1)
        for number, handler in _handlers.items():
            # uvloop handles SIGCHLD in C when it starts programs, which `signal.getsignal` does not show.
            if handler is not None and (number == signal.SIGCHLD or signal.getsignal(number) != handler):
                signal.signal(number, handler)


def _of_ours() -> Iterator[int]:
    yield from (fd for fd, inode in _files.items() if (status := _status(fd)) and status.st_ino == inode)
    names = set()
    for file in list(_objects):
        with contextlib.suppress(ValueError, OSError):  # it has been closed
            fd = file.fileno()
            if fd != -1:
                yield fd
                names.add(_name(fd))
    names.discard(None)
    if not names:
        return
    # Accepted connections have the listening socket's name. C code may hold them, or no object yet.
    yield from (fd for fd in open_files() if _name(fd) in names)


def _name(fd: int) -> object:
    """Return a socket's name, or its port; None if it has none, or the fd is no socket."""
    status = _status(fd)
    if status is None or not stat.S_ISSOCK(status.st_mode):
        return None
    sock = socket.socket(fileno=fd)
    try:
        name = sock.getsockname()
        return name[1] if sock.family in (socket.AF_INET, socket.AF_INET6) else name or None
    except OSError:
        return None
    finally:
        sock.detach()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold_signals, after_in_parent=_let_signals_in, after_in_child=_leave_behind)


# Programs that this process starts inherit the limit, and some iterate over all fds below it.
MOST = 65_536


def raise_limit() -> None:
    """Raise the limit of open files to the hard limit of this user, but at most to `MOST`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # macOS has a second limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def count() -> int:
    """Return the number of open files; `limit()` if they cannot be counted because no more can be opened."""
    try:
        return len(os.listdir("/dev/fd")) - 1  # without the fd of the directory
    except OSError:
        return limit()


def limit() -> int:
    """Return the limit of open files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else soft


def reserve() -> int:
    """Return how many open files clients must leave free: for calls between services, shared memory, and user code."""
    return min(256, limit() // 4)
