"""Zygote process: imports the heavy libraries once, and forks replicas.

One thread, one socket to the supervisor. A request is one byte with a replica's five open files; answers are lines of
JSON: {"loading": module}, {"ready": [modules]} with the variables that were read and set meanwhile, {"forked": pid},
{"exited": pid, "status": code}, {"refused": why}. The process never touches CUDA and runs no torch operation: both
leave threads behind that a fork does not copy.

transformers (verified from 5.0.0 to 5.24.0; tests/canaries/test_transformers.py fails first where a release changes
this): the first `from_pretrained` of a process builds a table of checkpoint renamings, the same for all models, and
keeps it. `conversion_mapping.get_checkpoint_conversion_mapping` builds it as well.
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
import traceback
from collections.abc import Iterator
from typing import Any

from nbcompose._host import environment, forking, let_go_of_code, random_state
from nbcompose._replica import InheritedFds, install, run
from nbcompose._schema import ApiSchema
from nbcompose._service import api, declare


def fill_caches() -> None:
    """Build what every process otherwise builds at its first `from_pretrained`, where transformers is loaded."""
    conversions: Any = sys.modules.get("transformers.conversion_mapping")
    with contextlib.suppress(Exception):  # only saves memory
        conversions.get_checkpoint_conversion_mapping("")


PARENT_PERIOD = 0.25  # seconds
# Linux only; elsewhere the replica sets it itself, a moment later
CLOSED_BY_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


def main(control_fd: int, owner_fd: int, modules: tuple[str, ...]) -> None:
    """Preload, then fork a replica for each request, until the supervisor or the owner process is gone."""
    control = socket.socket(fileno=control_fd)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    forking.raise_limit()  # each request brings five fds
    install()
    with _ending_with_parent():
        _preload(control, modules)
    _Zygote(control, owner_fd).serve()
    os._exit(0)  # nothing here needs cleanup, and the exit handlers of libraries take time


@contextlib.contextmanager
def _ending_with_parent() -> Iterator[None]:
    """Check periodically whether the owner process is still there: imports take seconds. A timer signal is used,
    because a thread must not exist when this process forks.
    """
    parent = os.getppid()

    def look(*_: object) -> None:
        if os.getppid() != parent:
            os._exit(0)

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, PARENT_PERIOD, PARENT_PERIOD)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def _preload(control: socket.socket, modules: tuple[str, ...]) -> None:
    loaded = []
    for name in modules:
        try:
            if importlib.util.find_spec(name.partition(".")[0]) is not None:
                _say(control, {"loading": name})
                importlib.import_module(name)
                loaded.append(name)
        except Exception:
            # A broken library must not slow down services that do not use it; a service that needs it reports the
            # error.
            traceback.print_exc()
    _fill_caches()
    random_state.find()
    # Loaded objects are shared with every replica by copy-on-write: the collector must not touch their pages.
    gc.collect()
    gc.freeze()
    let_go_of_code()
    _say(control, {"ready": loaded, "read": environment.read(), "set": environment.changed()})


def _fill_caches() -> None:
    """Build once, and share, what every replica would build itself: 14 MB less for four transformers services."""

    class Sample:
        @api
        def f(self, a: int, b: str = "", c: list[float] | None = None) -> dict[str, Any]:
            return {}

    spec = declare(Sample, {})
    for one in spec.apis:
        ApiSchema.of(spec.cls, one)
    fill_caches()


def _say(control: socket.socket, message: dict[str, object]) -> None:
    control.sendall(json.dumps(message).encode() + b"\n")


class _Zygote:
    def __init__(self, control: socket.socket, owner_fd: int) -> None:
        self._control = control
        self._owner_fd = owner_fd

    def serve(self) -> None:
        wakeup, alarm = os.pipe()
        self._pipe = (wakeup, alarm)
        os.set_blocking(wakeup, False)
        os.set_blocking(alarm, False)
        signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poll = select.poll()
        for fd in (self._control.fileno(), self._owner_fd, wakeup):
            poll.register(fd, select.POLLIN | select.POLLHUP)
        parent = os.getppid()
        while True:
            events = {fd for fd, _ in poll.poll(1000)}
            if self._owner_fd in events or os.getppid() != parent:
                return
            if wakeup in events:
                with contextlib.suppress(BlockingIOError):
                    os.read(wakeup, 4096)
                self._reap()
            if self._control.fileno() in events and not self._answer():
                return

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                _say(self._control, {"exited": ended[0], "status": os.waitstatus_to_exitcode(ended[1])})

    def _answer(self) -> bool:
        """Answer one request; return False when the supervisor is gone."""
        message, fds, _, _ = socket.recv_fds(self._control, 1, len(InheritedFds._fields), CLOSED_BY_EXEC)
        if not message:
            return False
        try:
            if len(fds) != len(InheritedFds._fields):
                _say(self._control, {"refused": f"{len(fds)} files came with the request"})
            else:
                self._fork(InheritedFds(*fds))
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _fork(self, files: InheritedFds) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            _say(self._control, {"refused": str(error)})
            return
        if pid == 0:
            try:
                self._become_replica(files)
            finally:
                os._exit(1)  # in any case: the child must not go on as a second zygote
        _say(self._control, {"forked": pid})

    def _become_replica(self, files: InheritedFds) -> None:
        """In the child: close what belongs to the zygote, and run the replica. Never returns."""
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._control.close()
        for fd in (*self._pipe, self._owner_fd):
            os.close(fd)
        run(files)


def start() -> None:
    """Entry point of the command line: control file, owner file, modules. Runs with `python -c`, so that `__main__`
    stays empty: a notebook's classes belong to `__main__` too, and must not be mistaken for ours. Imports are
    already being watched.
    """
    main(int(sys.argv[1]), int(sys.argv[2]), tuple(filter(None, sys.argv[3].split(","))))
