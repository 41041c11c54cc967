"""What a replica has in place of a terminal: `breakpoint()`, pdb, `code.interact()` and `IPython.embed()` stop where a
debugger is attached, and say how to attach one otherwise; `input()` says what works.

Debuggers and consoles that bring an input of their own (by a socket, say) are left alone. The attached debugger is in
`_replica/debugging.py`, which is imported when there is one.
"""

from __future__ import annotations

import code
import functools
import io
import logging
import os
import pdb
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import FrameType, ModuleType, TracebackType
from typing import Any, Protocol

from nbcompose._tracing import current_call
from nbcompose.errors import NoTerminal

logger = logging.getLogger("nbcompose.replica")

_NOT_THE_USERS = ("bdb", "cmd", "code", "pdb", "IPython")  # modules that stop on behalf of the user's code
_EMBED = "IPython.terminal.embed"


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
        _replace_debugger(self)
        _replace_console(self)
        if (module := sys.modules.get(_EMBED)) is not None:
            _replace_embed(self, module)
        else:
            sys.meta_path.insert(0, _EmbedFinder(self))

    def breakpoint(self, *args: Any, **kwargs: Any) -> Any:
        """`breakpoint()`: the user's own debugger where the variable PYTHONBREAKPOINT names one, or 0."""
        if os.environ.get("PYTHONBREAKPOINT"):
            return sys.__breakpointhook__(*args, **kwargs)
        self.stop("breakpoint()", sys._getframe(1))
        return None

    def stop(self, what: str, frame: FrameType) -> None:
        """Stop in the user's code, at `frame` or outside of it, where a debugger is attached; say so otherwise."""
        frame = _users(frame)
        if self.debugger is not None and os.getpid() == self._process:
            self.debugger.stop(frame)
        else:
            self.pass_by(what, frame)

    def pass_by(self, what: str, frame: FrameType) -> None:
        """Say that nothing stops there; once for each call, however often it comes by."""
        call = current_call.get()
        place = frame.f_code, frame.f_lineno, None if call is None else call.span_id
        if place == self._told:
            return
        self._told = place
        logger.warning(
            "%s in %s: no debugger is attached, so the call goes on. `%%services debug %s` attaches one (in a "
            "terminal: `nbcompose debug %s`); %s itself works in `%s()`, an instance in the notebook's own process",
            what, where(frame), self.service, self.service,
            what if what in (CONSOLE, EMBED) else "pdb", self.service,
        )  # fmt: skip


class _Input(io.TextIOWrapper):
    """Standard input without a person at it. It is empty for who reads it, and an error for who asks for a line."""

    def __init__(self, terminal: Terminal, below: Any) -> None:
        super().__init__(below, encoding="utf-8")
        self._terminal = terminal

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]
        frame = sys._getframe(1)
        service = self._terminal.service
        message = (
            f"input() in {where(frame)}: {service} runs in a process of its own, at which nobody types. Give the api a "
            f"parameter for it; input() itself works in `{service}()`, an instance in the notebook's own process"
        )
        raise NoTerminal(message.replace("input()", "sys.stdin.readline()", 1) if _reads_itself(frame) else message)


# -- what asks for lines on behalf of the user's code

CONSOLE, EMBED = "code.interact()", "IPython.embed()"


def _users(frame: FrameType) -> FrameType:
    """Return the innermost frame that is not of a debugger or a console."""
    found: FrameType | None = frame
    while found is not None and str(found.f_globals.get("__name__")).partition(".")[0] in _NOT_THE_USERS:
        found = found.f_back
    return found or frame


def _replace_debugger(terminal: Terminal) -> None:
    """Have `pdb.set_trace()`, `pdb.post_mortem()` and what else opens pdb's prompt stop at the attached debugger."""
    set_trace, interaction = pdb.Pdb.set_trace, pdb.Pdb.interaction

    @functools.wraps(set_trace)
    def set_trace_here(self: pdb.Pdb, frame: FrameType | None = None, **kwargs: Any) -> None:
        if isinstance(self.stdin, _Input):
            terminal.stop("pdb.set_trace()", frame or sys._getframe(1))
        else:
            set_trace(self, frame or sys._getframe(1), **kwargs)

    @functools.wraps(interaction)
    def interact_here(self: pdb.Pdb, frame: FrameType | None, *args: Any) -> None:
        if not isinstance(self.stdin, _Input):
            interaction(self, frame, *args)
            return
        failed = args[0].__traceback__ if args and isinstance(args[0], BaseException) else args[0] if args else None
        if frame is None and isinstance(failed, TracebackType):
            while failed.tb_next is not None:
                failed = failed.tb_next
            terminal.pass_by("pdb.post_mortem()", failed.tb_frame)
        else:
            terminal.pass_by("pdb", _users(frame or sys._getframe(1)))
        self.set_continue()

    pdb.Pdb.set_trace = set_trace_here  # type: ignore[method-assign, assignment]
    pdb.Pdb.interaction = interact_here  # type: ignore[method-assign, assignment]


def _replace_console(terminal: Terminal) -> None:
    console = code.InteractiveConsole
    interact, raw_input = console.interact, console.raw_input

    @functools.wraps(interact)
    def interact_here(self: code.InteractiveConsole, *args: Any, **kwargs: Any) -> None:
        own = type(self).raw_input is not raw_input or "raw_input" in vars(self)
        if own or not isinstance(sys.stdin, _Input):
            interact(self, *args, **kwargs)
        else:
            terminal.stop(CONSOLE, sys._getframe(1))

    console.interact = interact_here  # type: ignore[method-assign]


def _replace_embed(terminal: Terminal, module: ModuleType) -> None:
    def embed(*_: Any, **__: Any) -> None:
        terminal.stop(EMBED, sys._getframe(1))

    embed.__module__, embed.__qualname__ = module.__name__, "embed"
    vars(module)["embed"] = embed
    if (ipython := sys.modules.get("IPython")) is not None and hasattr(ipython, "embed"):
        vars(ipython)["embed"] = embed
    module.InteractiveShellEmbed.__call__ = embed


class _EmbedFinder(MetaPathFinder):
    """Replaces `IPython.embed` once IPython is imported, which most services do not do."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _EMBED or (spec := PathFinder.find_spec(fullname, path)) is None or spec.loader is None:
            return None
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _replace_embed(self._terminal, module)

        loader.exec_module = exec_module
        return spec


def _reads_itself(frame: FrameType) -> bool:
    """Whether the code at a frame calls a method of the standard input, and not `input()`."""
    return "readline" in frame.f_code.co_names and "input" not in frame.f_code.co_names


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
