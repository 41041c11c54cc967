"""The zygote: a process that has imported the heavy libraries once, and forks replicas.

One thread, one socket to the supervisor. A request is one byte with a replica's five open files; answers are lines of
JSON: {"loading": module}, {"ready": [modules]}, {"forked": pid}, {"exited": pid, "status": code}, {"refused": why}.
It never touches CUDA and runs no torch operation: both leave threads behind that a fork does not copy.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import json
import os
import select
import signal
import socket
import sys
import threading
import traceback

from nbcompose.replica.birth import Files
from nbcompose.replica.main import run


def main(control_fd: int, owner_fd: int, modules: tuple[str, ...]) -> None:
    """Preload, then fork a replica for each request, until the supervisor or the kernel is gone."""
    os.setsid()  # ■ signals the kernel's whole process group
    control = socket.socket(fileno=control_fd)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _preload(control, modules)
    _Zygote(control, owner_fd).serve()


def _preload(control: socket.socket, modules: tuple[str, ...]) -> None:
    loaded = []
    for name in modules:
        if importlib.util.find_spec(name.partition(".")[0]) is None:
            continue
        _say(control, {"loading": name})
        try:
            importlib.import_module(name)
            loaded.append(name)
        except Exception:
            # A broken library must not take the others' speed away; a service that needs it will say what is wrong.
            traceback.print_exc()
    # What is loaded is shared with every replica: the collector must not touch its pages.
    gc.collect()
    gc.freeze()
    _say(control, {"ready": loaded, "threads": threading.active_count()})


def _say(control: socket.socket, message: dict[str, object]) -> None:
    control.sendall(json.dumps(message).encode() + b"\n")


class _Zygote:
    def __init__(self, control: socket.socket, owner_fd: int) -> None:
        self._control = control
        self._owner_fd = owner_fd

    def serve(self) -> None:
        wakeup, alarm = os.pipe()
        os.set_blocking(alarm, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
        poll = select.poll()
        for fd in (self._control.fileno(), self._owner_fd, wakeup):
            poll.register(fd, select.POLLIN | select.POLLHUP)
        parent = os.getppid()
        while True:
            events = {fd for fd, _ in poll.poll(1000)}
            if self._owner_fd in events or os.getppid() != parent:
                os._exit(0)
            if wakeup in events:
                os.read(wakeup, 4096)
                self._reap()
            if self._control.fileno() in events and not self._answer():
                return

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                _say(self._control, {"exited": ended[0], "status": os.waitstatus_to_exitcode(ended[1])})

    def _answer(self) -> bool:
        """Answer one request; False when the supervisor is gone."""
        message, fds, _, _ = socket.recv_fds(self._control, 1, len(Files._fields))
        if not message:
            return False
        if len(fds) != len(Files._fields):
            _say(self._control, {"refused": f"{len(fds)} files came with the request"})
        else:
            self._fork(Files(*fds))
        return True

    def _fork(self, files: Files) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            _say(self._control, {"refused": str(error)})
            return
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._control.close()
            os.setsid()
            run(files)
        for fd in files:
            os.close(fd)
        _say(self._control, {"forked": pid})


def start() -> None:
    """From the command line: control file, owner file, modules. With `python -c`, so that `__main__` stays empty: a
    notebook's classes are `__main__`'s too, and must not be mistaken for ours.
    """
    main(int(sys.argv[1]), int(sys.argv[2]), tuple(filter(None, sys.argv[3].split(","))))
