"""What a replica has in place of a terminal: `breakpoint()` stops where a debugger is attached, and says how to attach
one otherwise; `input()` says what works.

The debugger itself is in `_replica/debugging.py`, which is imported when one is attached.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from types import FrameType
from typing import Any, Protocol

from nbcompose._tracing import current_call
from nbcompose.errors import NoTerminal

logger = logging.getLogger("nbcompose.replica")

_DEBUGGERS = ("bdb", "cmd", "pdb")  # modules whose code asks for a line on behalf of a debugger


class Stops(Protocol):
    """The debugger that is attached."""

    def stop(self, frame: FrameType) -> None:
        """Stop where `frame` goes on."""


class Terminal:
    """`sys.breakpointhook` and `sys.stdin` of the replica of a service. `debugger`: the one that is attached, or None.

    A process that the service has forked has the memory of an attached debugger, and none.
    """

    def __init__(self) -> None:
        self.service = ""
        self.debugger: Stops | None = None
        self._process = os.getpid()
        self._told: tuple[object, ...] = ()

    def install(self, service: str) -> None:
        """Take the places of the hook and of the standard input."""
        self.service, self._process = service, os.getpid()
        sys.breakpointhook = self.breakpoint
        below = sys.stdin.buffer if sys.stdin is not None else open(os.devnull, "rb")  # noqa: SIM115
        sys.stdin = _Input(self, below)

    def breakpoint(self, *args: Any, **kwargs: Any) -> Any:
        """`breakpoint()`: the user's own debugger where the variable PYTHONBREAKPOINT names one, or 0."""
        if os.environ.get("PYTHONBREAKPOINT"):
            return sys.__breakpointhook__(*args, **kwargs)
        frame = sys._getframe(1)
        if self.debugger is not None and os.getpid() == self._process:
            self.debugger.stop(frame)
        else:
            self.pass_by("breakpoint()", frame)
        return None

    def pass_by(self, what: str, frame: FrameType) -> None:
        """Say that nothing stops there; once for each call, however often it comes by."""
        call = current_call.get()
        place = frame.f_code, frame.f_lineno, None if call is None else call.span_id
        if place == self._told:
            return
        self._told = place
        logger.warning(
            "%s in %s: no debugger is attached, so the call goes on. `%%services debug %s` attaches one (in a "
            "terminal: `nbcompose debug %s`); pdb itself works in `%s()`, an instance in the notebook's own process",
            what, where(frame), self.service, self.service, self.service,
        )  # fmt: skip


class _Input(io.TextIOWrapper):
    """Standard input without a person at it. It is empty for who reads it, and an error for who asks for a line."""

    def __init__(self, terminal: Terminal, below: Any) -> None:
        super().__init__(below, encoding="utf-8")
        self._terminal = terminal

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]
        frame = sys._getframe(1)
        asking: FrameType | None = frame
        while asking is not None and asking.f_globals.get("__name__") in _DEBUGGERS:
            debugger = asking.f_locals.get("self")
            asking = asking.f_back
            if (stopped := getattr(debugger, "curframe", None)) is not None:
                self._terminal.pass_by("pdb.set_trace()", stopped)
                return "continue\n"
        service = self._terminal.service
        raise NoTerminal(
            f"input() in {where(frame)}: {service} runs in a process of its own, at which nobody types. Give the api a "
            f"parameter for it; input() itself works in `{service}()`, an instance in the notebook's own process"
        )


def where(frame: FrameType) -> str:
    """Return a place in words: "Writer.write, line 5", or "tidy, line 2, called by Writer.write"."""
    place = f"{frame.f_code.co_qualname}, line {frame.f_lineno}"
    outer: FrameType | None = frame
    api = frame
    while outer is not None and not str(outer.f_globals.get("__name__")).startswith("nbcompose."):
        api, outer = outer, outer.f_back
    # Outside of a call there are only frames of asyncio, or of a thread that the service has started.
    return place if api is frame or current_call.get() is None else f"{place}, called by {api.f_code.co_qualname}"


terminal = Terminal()
