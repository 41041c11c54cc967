"""What a forked child must not inherit: open files, signal handlers, the wake-up of the event loop. How many files are
open.

A forked child has its own hold on every open file. A worker that a notebook or an api forks may live on when its maker
has ended, and would keep our ports, connections and addresses open, with nobody to answer. And a signal that is meant
for it would be told to the event loop of its maker, whose wake-up it shares. Programs that are started (`exec`) have
nothing of it: files of ours are closed by that, and handlers of signals are undone.
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
_files: dict[int, int] = {}  # their numbers, each with its inode: a number may come to be another file's
_handlers: dict[int, Any] = {}  # of signals, as they were before ours
_held = threading.local()


def keep_from_children(file: File) -> File:
    """Have `file` closed in whatever this process forks while it is open here; returns it.

    With a socket that listens, so are its duplicates and the connections that are made to it, whoever holds them.
    """
    _objects.add(file)
    return file


def keep_numbers_from_children(fds: Iterable[int]) -> None:
    """The same for files that no object stands for. Other than sockets, to be `forget`-ed before they are closed."""
    _files.update((fd, status.st_ino) for fd in fds if (status := _status(fd)))


def forget(fd: int) -> None:
    """Undo `keep_numbers_from_children`."""
    _files.pop(fd, None)


def open_files() -> set[int]:
    """The numbers of all files that this process has open."""
    return {fd for fd in map(int, os.listdir("/dev/fd")) if _status(fd)}  # without that of the folder


def _status(fd: int) -> os.stat_result | None:
    with contextlib.suppress(OSError):
        return os.fstat(fd)
    return None


def keep_handlers_from_children() -> None:
    """Have children begin with the signal handlers that are set now: those set later are this process's own."""
    _handlers.update((number, signal.getsignal(number)) for number in signal.valid_signals())


@contextlib.contextmanager
def handling(handler: Callable[..., object], *numbers: int) -> Iterator[None]:
    """Have `handler` called for these signals meanwhile, in this process and not in its children. Main thread only."""
    before = {number: signal.signal(number, handler) for number in numbers}
    added = before.keys() - _handlers.keys()
    _handlers.update((number, before[number]) for number in added)
    try:
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)
        for number in added:
            _handlers.pop(number, None)  # a child that leaves here has none


def _hold_signals() -> None:
    """Before a fork, for the thread that forks: a signal may reach the child before its handlers are its own."""
    if _handlers:
        _held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _handlers)


def _let_signals_in() -> None:
    mask = vars(_held).pop("mask", None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _leave_behind() -> None:
    """In the child, before anything else runs in it."""
    if _handlers:
        _restore_handlers()
    _let_signals_in()
    if _files or _objects:
        nothing = os.open(os.devnull, os.O_RDWR)
        for fd in set(_of_ours()):
            # Not closed: objects of the parent's would close the number once more, whatever has it by then.
            os.dup2(nothing, fd, inheritable=False)
        os.close(nothing)
    for inherited in (_handlers, _files, _objects):
        inherited.clear()  # what the child makes from here on is its own, and its children's


def _restore_handlers() -> None:
    with contextlib.suppress(ValueError):  # not in an interpreter of its own
        signal.set_wakeup_fd(-1)
        for number, handler in _handlers.items():
            # The event loop has C code answer SIGCHLD when it starts programs, and Python does not know.
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
    # What was accepted has the name of the socket that listened. It may be held by C code, or by nobody yet.
    yield from (fd for fd in open_files() if _name(fd) in names)


def _name(fd: int) -> object:
    """The name of a socket, or its port; None when it has none, or is no socket."""
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
