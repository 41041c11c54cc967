"""Exceptions as plain data and back: their type, message, attributes, notes, and the frames of every service below.

`describe` runs where the exception was raised, `rebuild` where it is raised again; sending what is between them is
incoming.py's and outgoing.py's. The text of a remote traceback:

    Answer.ask → Writer.write

    Writer.write
      File "writer.py", line 7, in write
        raise ValueError("nothing to write about")

    Answer.ask
      File "answer.py", line 9, in ask
        return self.writer.write(question)

    ValueError: nothing to write about

Frames are those of the users' code, the service that raised first. Causes and contexts are told as Python tells them.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import sysconfig
import textwrap
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import FunctionType
from typing import Any

from nbcompose.errors import CallCancelled, NbcomposeError, RemoteError, RemoteTraceback
from nbcompose.wire.classes import is_dynamic
from nbcompose.wire.cloudpickle_adapter import class_key, find_class
from nbcompose.wire.codec import dumps, loads

# An exception may hold, or print, a whole batch.
MAX_CONTENTS = 1024 * 1024  # bytes of arguments and attributes
MAX_TEXT = 20_000  # characters of a message

CAUSE = "The above exception was the direct cause of the following exception:"
CONTEXT = "During handling of the above exception, another exception occurred:"

_STDLIB = Path(sysconfig.get_path("stdlib"))
_NAMES: tuple[Any, ...] = (AttributeError.name, NameError.name)  # fields that most versions of Python do not pickle
# Frames that say how a call was carried, not what was called.
_MACHINERY = (
    f"{Path(__file__).parents[1]}/",
    *(f"{_STDLIB / name}" for name in ("asyncio", "concurrent", "threading.py", "contextlib.py", "functools.py")),
)


@dataclass(frozen=True, slots=True)
class RemoteErrorDetail:
    """An exception, as plain data.

    `hops` names the calls that it came through, the outermost first. `frames` is the text of their frames, `summary`
    the lines that follow: type, message and notes. `contents` is what `rebuild` makes the exception from.
    """

    type_module: str
    type_name: str
    type_key: str | None  # of a class that exists only in a notebook or a function (classes.py)
    message: str
    status: int
    hops: tuple[str, ...]
    frames: str
    summary: str
    contents: bytes
    notes: tuple[str, ...] = ()
    members: tuple[RemoteErrorDetail, ...] = ()  # of an exception group

    @property
    def text(self) -> str:
        """The whole traceback."""
        chain = " → ".join(self.hops) + "\n\n" if len(self.hops) > 1 else ""
        return f"{chain}{self.frames}\n\n{self.summary}"


def describe(error: BaseException, *, hop: str) -> RemoteErrorDetail:
    """Plain data about an exception that the call named `hop` (e.g. `Writer.write`) raised in this process.

    An exception that came from another service keeps that one's frames and hops, and its type, even where this
    process does not have it. Never raises because of what the exception holds.
    """
    received = _received(error)
    hops, frames = _story(error, hop)
    if received is not None and isinstance(error, RemoteError) and error.type_name:
        return replace(received, hops=hops, frames=frames, notes=_notes(error))
    cls = type(error)
    members = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return RemoteErrorDetail(
        type_module=cls.__module__,
        type_name=cls.__qualname__,
        type_key=class_key(cls) if is_dynamic(cls) else None,
        message=_message(error),
        status=error.status if isinstance(error, NbcomposeError) else 500,
        hops=hops,
        frames=frames,
        summary=_summary(error),
        contents=_contents(error),
        notes=_notes(error),
        members=tuple(describe(member, hop=hop) for member in members),
    )


def rebuild(detail: RemoteErrorDetail) -> Exception:
    """The exception, to be raised here; its `__cause__` is a `RemoteTraceback`.

    Of its own type where this process can find that, made without calling its `__init__` (which may want other
    arguments); else a `RemoteError`. What would end a process or a loop (`KeyboardInterrupt`, `SystemExit`,
    `StopIteration`) is a `RemoteError` too, and `asyncio.CancelledError` is `CallCancelled`.
    """
    cls = _find_type(detail)
    error: Exception | None = None
    if cls is not None and issubclass(cls, asyncio.CancelledError):
        error = CallCancelled(detail.message or "the call was cancelled")
    elif cls is not None and issubclass(cls, Exception) and not issubclass(cls, (StopIteration, StopAsyncIteration)):
        error = _revive(cls, detail)
    if error is None:
        name = detail.type_name
        if detail.type_module not in ("builtins", "__main__"):
            name = f"{detail.type_module}.{name}"
        error = RemoteError(detail.message, name)
    if detail.notes:
        error.__notes__ = list(detail.notes)
    error.__cause__ = RemoteTraceback(detail.text, detail)
    return error


# -- what is told


def _received(error: BaseException) -> RemoteErrorDetail | None:
    detail = getattr(error.__cause__, "detail", None) if isinstance(error.__cause__, RemoteTraceback) else None
    return detail if isinstance(detail, RemoteErrorDetail) else None


def _story(error: BaseException, hop: str, seen: frozenset[int] = frozenset()) -> tuple[tuple[str, ...], str]:
    """The hops of an exception and the text of its frames, those of its causes before them."""
    seen |= {id(error)}
    received = _received(error)
    own = _section(error, hop)
    if received is not None:
        return (hop, *received.hops), f"{received.frames}\n\n{own}"
    before, link = error.__cause__, CAUSE
    if before is None and not error.__suppress_context__:
        before, link = error.__context__, CONTEXT
    if before is None or id(before) in seen:
        return (hop,), own
    if isinstance(before, RemoteTraceback):  # of an exception that something else has rebuilt
        return (hop,), f"{before.text}\n\n{own}"
    hops, frames = _story(before, hop, seen)
    return hops, f"{frames}\n\n{_summary(before)}\n\n{link}\n\n{own}"


def _section(error: BaseException, hop: str) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(_MACHINERY)] or frames
    # Without column marks, which differ between versions of Python.
    plain = [(frame.filename, frame.lineno or 0, frame.name, frame.line) for frame in own]
    return hop + "".join(["\n", *traceback.StackSummary.from_list(plain).format()]).rstrip()


def _summary(error: BaseException) -> str:
    lines = [_clipped("".join(traceback.format_exception_only(type(error), error)).rstrip())]
    members = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    for i, member in enumerate(members, 1):
        _, frames = _story(member, f"{i} of {len(members)}")
        lines += [f"  | {line}".rstrip() for line in f"{frames}\n\n{_summary(member)}".splitlines()]
    return "\n".join(lines)


def _message(error: BaseException) -> str:
    try:
        return _clipped(str(error))
    except Exception as failure:
        return f"<its text cannot be had: {type(failure).__name__}>"


def _clipped(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}… ({len(text)} characters)"


def _notes(error: BaseException) -> tuple[str, ...]:
    notes = getattr(error, "__notes__", ())
    return tuple(str(note) for note in notes) if isinstance(notes, (list, tuple)) else ()


# -- what it is made of


def _contents(error: BaseException) -> bytes:
    """The pickled exception where its class says how that is done, else its arguments and attributes."""
    cls = type(error)
    state: Any = None
    try:
        reduced: Any = error.__reduce_ex__(5)
        if reduced[0] is not cls or isinstance(cls.__reduce__, FunctionType):
            return _limited(error)
        args, state = reduced[1], (reduced[2] if len(reduced) > 2 else None)
    except Exception:
        args, state = error.args, error.__dict__
    if isinstance(error, BaseExceptionGroup):
        args = args[:1]  # its members are described one by one
    state = {k: v for k, v in state.items() if k != "__notes__"} if isinstance(state, dict) else {}
    if getattr(cls, "name", None) in _NAMES:
        state["name"] = error.name  # type: ignore[attr-defined]
    try:
        return _limited((tuple(args), state))
    except Exception:
        kept = {name: value for name, value in state.items() if _fits(value)}
        return dumps((tuple(arg if _fits(arg) else _short(arg) for arg in args), kept))


def _limited(contents: Any) -> bytes:
    data = dumps(contents)
    if len(data) > MAX_CONTENTS:
        raise ValueError(f"{len(data)} bytes")
    return data


def _fits(value: Any) -> bool:
    try:
        _limited(value)
    except Exception:
        return False
    return True


def _short(value: Any) -> str:
    try:
        return textwrap.shorten(repr(value), 1000)
    except Exception:
        return f"<{type(value).__qualname__}>"


def _find_type(detail: RemoteErrorDetail) -> type | None:
    found: Any
    try:
        found = sys.modules.get(detail.type_module) or importlib.import_module(detail.type_module)
        for name in detail.type_name.split("."):
            found = getattr(found, name)
    except Exception:  # whatever that module raises when it is imported
        found = None
    if found is None and detail.type_key is not None:
        found = find_class(detail.type_key)
    return found if isinstance(found, type) else None


def _revive(cls: type[Exception], detail: RemoteErrorDetail) -> Exception | None:
    """None where it cannot be done."""
    try:
        contents = loads(detail.contents)
        if isinstance(contents, BaseException):
            return contents if isinstance(contents, Exception) else None
        args, state = contents
        if issubclass(cls, ExceptionGroup):
            args = (*args, [rebuild(member) for member in detail.members])
        error = cls.__new__(cls, *args)
        _native_init(cls)(error, *args)
        BaseException.__setstate__(error, state)
        return error
    except Exception:
        return None


def _native_init(cls: type[Exception]) -> Callable[..., None]:
    """The `__init__` of the nearest base written in C: only that fills the fields it keeps outside of `__dict__`."""
    own = (vars(base).get("__init__") for base in cls.__mro__)
    init: Callable[..., None] = next(i for i in own if i is not None and not isinstance(i, FunctionType))
    return init
