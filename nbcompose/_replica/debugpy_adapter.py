"""Adapter of debugpy: all uses of features that it does not document. Imported when it is asked for.

Seen to hold for 1.8.22; tests/control/test_debugpy.py fails first where a release changes one of these.

- `debugpy.listen` starts an adapter, a process of its own that listens on the port, and connects this one to it. When
  the adapter ends, the port is closed, and what was suspended goes on.
- It can be called once in a process: when a client has been attached, pydevd does not connect to a second adapter.
- `pydevd.settrace(suspend=True, stop_at_frame=…)` is a breakpoint.
"""

from __future__ import annotations

import os
import sys
from types import FrameType
from typing import Any, NamedTuple

import psutil

from nbcompose._replica.terminal import terminal
from nbcompose.errors import NbcomposeError, PortInUse

LOOPBACK = "127.0.0.1"
_has_listened = False
_QUIET = "PYDEVD_DISABLE_FILE_VALIDATION"  # else it warns of frozen modules, which nobody steps through


class Listening(NamedTuple):
    """Where clients may attach, and the process that listens there: when it ends, they are detached."""

    port: int
    pid: int


def listen(port: int) -> Listening:
    """Let clients of this machine attach; port 0: any free one. Waits for the adapter to start."""
    global _has_listened
    try:
        import debugpy
    except ImportError:
        raise NbcomposeError("--debugpy needs debugpy, which is not installed here: pip install debugpy") from None
    if _has_listened:
        raise NbcomposeError(
            f"debugpy listens once in the life of a process, and has done so in this replica: %services restart "
            f"{terminal.service} starts another"
        )
    before = os.environ.get(_QUIET)
    os.environ[_QUIET] = "1"
    try:
        debugpy.configure(subProcess=False)
        _, port = debugpy.listen((LOOPBACK, port))
    except RuntimeError as error:
        raise PortInUse(f"debugpy cannot listen on {LOOPBACK}:{port}: {error}") from None
    finally:
        if before is None:
            del os.environ[_QUIET]
    _has_listened = True
    terminal.debugger = _Breakpoints()
    listening = (c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN)
    pid = next(c.pid for c in listening if c.pid and c.laddr[1:2] == (port,))
    return Listening(port, pid)


def stop() -> None:
    """Take back what `listen` has put in place, after the adapter has ended."""
    terminal.debugger = None
    _pydevd().stoptrace()


class _Breakpoints:
    """What `breakpoint()` does while clients may attach."""

    def stop(self, frame: FrameType) -> None:
        pydevd = _pydevd()
        if pydevd._is_attached():
            pydevd.settrace(
                suspend=True, trace_only_current_thread=True, patch_multiprocessing=False, stop_at_frame=frame
            )
        else:
            terminal.pass_by("breakpoint()", frame)


def _pydevd() -> Any:
    """Return the debugger that comes with debugpy, which has put it where it is found."""
    return sys.modules["pydevd"]
