"""Tracebacks under a cell: the user's own lines, without nbcompose's frames."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable
from functools import partial
from itertools import filterfalse
from pathlib import Path
from types import CodeType, TracebackType
from typing import Any, TypeVar

from IPython.core.interactiveshell import InteractiveShell

from nbcompose._ipython_adapter import has_own_look, message_lines, show_as, show_groups, show_kind_as, traceback_lines
from nbcompose._schema import show_places
from nbcompose._user_exceptions import users_frames, walk
from nbcompose.errors import CallError, DeclarationError, NbcomposeError, RemoteTraceback

# The folder of nbcompose's own code.
_OURS = str(Path(__file__).parents[1]) + os.sep

E = TypeVar("E", bound=BaseException)

# `File "/tmp/ipykernel_7/123.py", line 3` in a traceback; `/tmp/ipykernel_7/123.py:3` in an error of a declaration.
_FRAME = re.compile(r'File "(?P<file>[^"\n]+)", line (?P<line>\d+)')
_PLACE = re.compile(r"(?P<file>(?:/|<)[^\s:]+):(?P<line>\d+)\b")


def message_only(error: E, shell: InteractiveShell) -> E:
    """Return `error`, for raising: displayed with its type and message, without frames."""
    return _shown_as(error, shell, lambda: message_lines(shell, error))


def execute(code: CodeType, shell: InteractiveShell) -> Any:
    """Run the code of a cell that is below a magic; return the value of an expression.

    What it raises is displayed as if the cell had no magic.
    """
    try:
        return eval(code, shell.user_global_ns, shell.user_ns)  # of statements too: their value is None
    except BaseException as error:
        if has_own_look(error) or isinstance(error, DeclarationError):  # which says itself where
            raise
        own = error.__traceback__.tb_next if error.__traceback__ is not None else None
        lines = _users_lines if isinstance(error, NbcomposeError) else _all_lines
        show_as(error, partial(lines, error, shell, own))
        raise


def from_the_caller(error: E, shell: InteractiveShell) -> E:
    """Return `error`, which was raised by a call to a service: displayed with a traceback that ends at the call.

    The replica's traceback is kept where it contains lines of the user.
    """
    if (
        isinstance(error, CallError)
        and isinstance(error.__cause__, RemoteTraceback)
        and not _has_lines(error.__cause__)
    ):
        error.__cause__ = None

    def lines() -> list[str]:
        # Shown to the user, whose `%debug` then opens the frame of the call, and not one of nbcompose.
        error.__traceback__ = _outside(error.__traceback__)
        if getattr(sys, "last_value", None) is error:
            sys.last_traceback = error.__traceback__
        if isinstance(error, BaseExceptionGroup) and isinstance(error.__cause__, RemoteTraceback):
            detail: Any = error.__cause__.detail
            error.__cause__ = RemoteTraceback(detail.text, detail)  # with its members, which IPython does not show
        if shell.call_pdb and (hint := where_raised(error)):
            print(hint)
        return traceback_lines(shell, error, error.__traceback__)

    return _shown_as(error, shell, lines)


def where_raised(error: BaseException | None) -> str:
    """Return a line for who looks for the frames of an error that a replica has raised; "" for other errors."""
    remote = error.__cause__ if error is not None else None
    hops = getattr(remote.detail, "hops", ()) if isinstance(remote, RemoteTraceback) else ()
    if not hops:
        return ""
    service = hops[-1].partition(".")[0]
    return (
        f"{hops[-1]} raised it in a replica, whose frames have gone; here is the frame of the call. With "
        f"%%services debug {service} --post-mortem above the call, pdb opens there"
    )


def install(shell: InteractiveShell) -> Callable[[], None]:
    """Display errors that nbcompose raises on purpose with the user's frames only, wherever they are raised.

    Return what undoes that: they are displayed with all frames then, as any error.
    """
    show_kind_as(NbcomposeError, lambda error: _users_lines(error, shell, error.__traceback__))
    undo_groups = show_groups(shell)
    undo_places = show_places(lambda place: cell_names(place, shell))

    def undo() -> None:
        undo_places()
        show_kind_as(NbcomposeError, None)
        undo_groups()

    return undo


def cell_names(text: str, shell: InteractiveShell) -> str:
    """Return `text` with the names of cells as the notebook shows them: `Cell In[3], line 7`."""

    def name(match: re.Match[str]) -> str:
        found = shell.compile.format_code_name(match["file"])
        return match[0] if found is None else f"{found[0]} {found[1]}, line {match['line']}"

    return _PLACE.sub(name, _FRAME.sub(name, text))


def _shown_as(error: E, shell: InteractiveShell, lines: Callable[[], list[str]]) -> E:
    show_as(error, lambda: [cell_names(line, shell) for line in lines()])
    return error


def _has_lines(remote: RemoteTraceback) -> bool:
    return any(not match["file"].startswith(_OURS) for match in _FRAME.finditer(remote.text))


def _all_lines(error: BaseException, shell: InteractiveShell, frames: TracebackType | None) -> list[str]:
    return traceback_lines(shell, error, frames)


def _users_lines(error: BaseException, shell: InteractiveShell, frames: TracebackType | None) -> list[str]:
    lines = traceback_lines(shell, error, _chained(filterfalse(_is_ours, walk(_below_magic(frames)))))
    return [cell_names(line, shell) for line in lines]


def _is_ours(frame: TracebackType) -> bool:
    return frame.tb_frame.f_code.co_filename.startswith(_OURS)


def _below_magic(frames: TracebackType | None) -> TracebackType | None:
    """Return the frames of what runs below a magic of nbcompose (`execute`), or all where none does: the frame above
    them is of the line that IPython makes of the cell, `get_ipython().run_cell_magic(…)`, which nobody has written.
    """
    for frame in reversed(list(walk(frames))):
        if frame.tb_frame.f_code is execute.__code__:
            return frame.tb_next
    return frames


def _outside(frames: TracebackType | None) -> TracebackType | None:
    """Return the frames before the first one of nbcompose, and the user's below the last: of a generator, say, that is
    the argument of a call.
    """
    found = list(walk(_below_magic(frames)))
    ours = [i for i, frame in enumerate(found) if _is_ours(frame)]
    if not ours:
        return _chained(found)
    return _chained([*found[: ours[0]], *users_frames(found[ours[-1]].tb_next)])


def _chained(frames: Iterable[TracebackType]) -> TracebackType | None:
    kept = list(frames)
    chain: TracebackType | None = None
    for frame in reversed(kept):
        chain = TracebackType(chain, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return chain
