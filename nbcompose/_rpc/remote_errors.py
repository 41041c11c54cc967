"""Exceptions as plain data and back: their type, message, attributes, notes, and the frames of every service below.

`describe` runs where the exception was raised, `rebuild` where it is raised again; sending what is between them is
server_calls.py's and client_calls.py's. The text of a remote traceback (exception_data.py):

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
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any

from nbcompose._rpc import exception_data
from nbcompose._rpc.codec import dumps_within, loads
from nbcompose._rpc.exception_data import MAX_GROUPS, MAX_MEMBERS, UNTOLD, Bounds, aside, is_tame
from nbcompose._rpc.notebook_classes import class_key, find_class, is_dynamic
from nbcompose._user_exceptions import ENDS, Enough, clipped, in_short, name_of, text_of
from nbcompose.errors import CallCancelled, NbcomposeError, RemoteError, RemoteTraceback

# An exception may hold a whole batch.
MAX_CONTENTS = 1024 * 1024  # bytes of arguments and attributes
MAX_ATTRIBUTES = 64

_NAMES: tuple[Any, ...] = (AttributeError.name, NameError.name)  # fields that most versions of Python do not pickle


@dataclass(frozen=True, slots=True)
class RemoteErrorDetail:
    """An exception, as plain data.

    `hops` names the calls that it came through, the outermost first. `frames` is the text of their frames, `summary`
    the lines that follow: type, message and notes. `contents` is what `rebuild` makes the exception from.
    """

    type_module: str
    type_name: str
    type_key: str | None  # of a class that exists only in a notebook or a function (notebook_classes.py)
    message: str
    status: int
    hops: tuple[str, ...]
    frames: str
    summary: str
    contents: bytes
    notes: tuple[str, ...] = ()
    members: tuple[RemoteErrorDetail, ...] = ()  # of an exception group: the first ones

    @property
    def text(self) -> str:
        """The whole traceback."""
        chain = " → ".join(self.hops) + "\n\n" if len(self.hops) > 1 else ""
        return f"{chain}{self.frames}\n\n{self.summary}"


def describe(error: BaseException, *, hop: str) -> RemoteErrorDetail:
    """Plain data about an exception that the call named `hop` (e.g. `Writer.write`) raised in this process.

    An exception that came from another service keeps that one's frames and hops, and its type, even where this
    process does not have it. Within bounds (exception_data.py), and never raises, whatever the exception holds or does.
    """
    try:
        return _describe(error, hop, Bounds(), 0)
    except BaseException as failure:
        return nameless(error, hop, f"no more can be told of it: {name_of(type(failure))}")


async def describe_aside(error: BaseException, *, hop: str) -> RemoteErrorDetail:
    """As `describe`, on a loop, of an error of users' code: what that runs to be told holds nobody up."""
    if is_tame(error):
        return describe(error, hop=hop)
    return await aside(lambda: describe(error, hop=hop), lambda: nameless(error, hop, UNTOLD))


def nameless(error: BaseException, hop: str, why: str) -> RemoteErrorDetail:
    """What can be said of an exception without looking into it, and why there is no more."""
    name = name_of(type(error))
    return RemoteErrorDetail("", name, None, why, 500, (hop,), hop, f"{name}: {why}", b"")


def rebuild(detail: RemoteErrorDetail) -> Exception:
    """The exception, to be raised here; its `__cause__` is a `RemoteTraceback`.

    Of its own type where this process can find that, made without calling its `__init__` (which may want other
    arguments); else a `RemoteError`. What would end a process or a loop (`KeyboardInterrupt`, `SystemExit`,
    `StopIteration`) is a `RemoteError` too, and `asyncio.CancelledError` is `CallCancelled`.
    """
    cls = _find_type(detail)
    if cls is not None and issubclass(cls, asyncio.CancelledError):
        return _completed(CallCancelled(detail.message or "the call was cancelled"), detail)
    if cls is not None and issubclass(cls, Exception) and not issubclass(cls, ENDS):
        try:
            return _completed(_revive(cls, detail), detail)
        except BaseException:  # code of the class, which may raise anything
            pass
    name = detail.type_name
    if detail.type_module not in ("builtins", "__main__", ""):
        name = f"{detail.type_module}.{name}"
    return _completed(RemoteError(detail.message, name), detail)


def _completed(error: Exception, detail: RemoteErrorDetail) -> Exception:
    if detail.notes:
        error.__notes__ = list(detail.notes)
    error.__cause__ = RemoteTraceback(detail.text, detail)
    return error


# -- what is told


def _describe(error: BaseException, hop: str, bounds: Bounds, level: int) -> RemoteErrorDetail:
    received = _received(error)
    hops, frames = exception_data.story(error, hop, bounds, level)
    notes = exception_data.notes(error)
    if received is not None and isinstance(error, RemoteError) and error.type_name:
        return replace(received, hops=hops, frames=frames, notes=notes)
    cls = type(error)
    members: list[RemoteErrorDetail] = []
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions[:MAX_MEMBERS] if level < MAX_GROUPS else ():
            if members and bounds.over:
                break
            members.append(_describe(member, hop, bounds, level + 1))
        left_out = len(error.exceptions) - len(members)
        if left_out:
            notes = (*notes, exception_data.more(left_out, "exception"))
    return RemoteErrorDetail(
        type_module=clipped(cls.__module__),
        type_name=clipped(cls.__qualname__),
        type_key=class_key(cls) if is_dynamic(cls) else None,
        message=text_of(error),
        status=error.status if isinstance(error, NbcomposeError) and isinstance(error.status, int) else 500,
        hops=hops,
        frames=frames,
        summary=exception_data.summary(error, bounds, level),
        contents=_contents(error),
        notes=notes,
        members=tuple(members),
    )


def _received(error: BaseException) -> RemoteErrorDetail | None:
    detail = getattr(error.__cause__, "detail", None) if isinstance(error.__cause__, RemoteTraceback) else None
    return detail if isinstance(detail, RemoteErrorDetail) else None


# -- what it is made of


def _contents(error: BaseException) -> bytes:
    """The pickled exception where its class says how that is done, else its arguments and attributes."""
    cls = type(error)
    state: Any = None
    try:
        reduced: Any = error.__reduce_ex__(5)
        if reduced[0] is not cls or isinstance(cls.__reduce__, FunctionType):
            return dumps_within(error, MAX_CONTENTS)
        args, state = reduced[1], (reduced[2] if len(reduced) > 2 else None)
    except Enough:
        raise
    except BaseException:  # the class's own code
        args, state = error.args, error.__dict__
    if isinstance(error, BaseExceptionGroup):
        args = args[:1]  # its members are described one by one
    state = {k: v for k, v in state.items() if k != "__notes__"} if isinstance(state, dict) else {}
    if getattr(cls, "name", None) in _NAMES:
        state["name"] = error.name  # type: ignore[attr-defined]
    if not any(_is_long(value) for value in (*args, *state.values())):
        try:
            return dumps_within((tuple(args), state), MAX_CONTENTS)
        except Enough:
            raise
        except BaseException:  # code of what it holds
            pass
    return _pieces(args, state)


def _pieces(args: Any, state: dict[str, Any]) -> bytes:
    """What of it can be sent, and is not too large: the rest of the arguments is shown, of the attributes left out."""
    room = MAX_CONTENTS

    def fits(value: Any) -> bool:
        nonlocal room
        if _is_long(value):
            return False
        try:
            room -= len(dumps_within(value, room))
        except Enough:
            raise
        except BaseException:
            return False
        return True

    shown = tuple(arg if fits(arg) else _short(arg) for arg in args[:MAX_ATTRIBUTES])
    kept = {name: value for name, value in list(state.items())[:MAX_ATTRIBUTES] if fits(value)}
    return dumps_within((shown, kept), 4 * MAX_CONTENTS)


def _is_long(value: Any) -> bool:
    return type(value) in (str, bytes, bytearray) and len(value) > MAX_CONTENTS


def _short(value: Any) -> str:
    return textwrap.shorten(in_short(value, 2_000), 1000)


def _find_type(detail: RemoteErrorDetail) -> type | None:
    if not detail.type_module:
        return None
    found: Any
    try:
        found = sys.modules.get(detail.type_module) or importlib.import_module(detail.type_module)
        for name in detail.type_name.split("."):
            found = getattr(found, name)
    except BaseException:  # whatever that module raises when it is imported
        found = None
    if found is None and detail.type_key is not None:
        found = find_class(detail.type_key)
    return found if isinstance(found, type) else None


def _revive(cls: type[Exception], detail: RemoteErrorDetail) -> Exception:
    """Raises whatever it likes where it cannot be done."""
    contents = loads(detail.contents)
    if isinstance(contents, BaseException):
        if not isinstance(contents, Exception) or isinstance(contents, ENDS):
            raise TypeError(type(contents))
        return contents
    args, state = contents
    if issubclass(cls, ExceptionGroup):
        args = (*args, [rebuild(member) for member in detail.members])
    error = cls.__new__(cls, *args)
    _native_init(cls)(error, *args)
    BaseException.__setstate__(error, state)
    return error


def _native_init(cls: type[Exception]) -> Callable[..., None]:
    """The `__init__` of the nearest base written in C: only that fills the fields it keeps outside of `__dict__`."""
    own = (vars(base).get("__init__") for base in cls.__mro__)
    init: Callable[..., None] = next(i for i in own if i is not None and not isinstance(i, FunctionType))
    return init
