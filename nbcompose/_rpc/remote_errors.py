"""Serialize exceptions across processes: type, message, attributes, notes, and the frames of every service below.

`describe` runs in the process that raised the exception, `rebuild` in the one that raises it again, where the last line
of this stands below the traceback of the caller. The text of a remote traceback (see `_rpc/exception_data.py`):

    Answer.ask → Writer.write

    Writer.write
      File "writer.py", line 7, in write
        raise ValueError("nothing to write about")

    Answer.ask
      File "answer.py", line 9, in ask
        return self.writer.write(question)

    ValueError: nothing to write about

Frames are those of user code, beginning with the service that raised. Causes and contexts are shown as in Python.
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

# Bounded, since an exception may hold a whole batch.
MAX_CONTENTS = 1024 * 1024  # bytes of arguments and attributes
MAX_ATTRIBUTES = 64

_NAMES: tuple[Any, ...] = (AttributeError.name, NameError.name)  # fields that most versions of Python do not pickle


@dataclass(frozen=True, slots=True)
class RemoteErrorDetail:
    """An exception as plain data.

    `hops` names the calls that it passed through, the outermost first. `origin`: a number by which the process knows it
    whose stream it came from, as an argument of a call; 0: from none. `frames` is the text of their frames, `summary`
    the lines that follow: type, message and notes. `contents` is the pickle from which `rebuild` makes the exception.
    """

    type_module: str
    type_name: str
    type_key: str | None  # for a class that exists only in a notebook or a function (_rpc/notebook_classes.py)
    message: str
    status: int
    hops: tuple[str, ...]
    frames: str
    summary: str
    contents: bytes
    notes: tuple[str, ...] = ()
    members: tuple[RemoteErrorDetail, ...] = ()  # the first members of an exception group
    origin: int = 0

    @property
    def text(self) -> str:
        """The whole traceback."""
        return f"{self.story}\n\n{self.summary}"

    @property
    def story(self) -> str:
        """The traceback without type and message, which stand where the exception is raised again."""
        chain = " → ".join(self.hops) + "\n\n" if len(self.hops) > 1 else ""
        return f"{chain}{self.frames}"


def describe(error: BaseException, *, hop: str) -> RemoteErrorDetail:
    """Return plain data about an exception that the call named `hop` (e.g. `Writer.write`) raised in this process.

    An exception that came from another service keeps that service's frames and hops, and its type, even if this
    process does not have that type. The size is bounded (see `_rpc/exception_data.py`). Never raises, whatever the
    exception holds or does.
    """
    try:
        return _describe(error, hop, Bounds(), 0)
    except BaseException as failure:
        return nameless(error, hop, f"no more can be told of it: {name_of(type(failure))}")


async def describe_aside(error: BaseException, *, hop: str) -> RemoteErrorDetail:
    """As `describe`, on an event loop, for an error of user code.

    User code that must run for the description (e.g. `__str__`) runs in its own thread, for a limited time.
    """
    if is_tame(error):
        return describe(error, hop=hop)
    return await aside(lambda: describe(error, hop=hop), lambda: nameless(error, hop, UNTOLD))


def nameless(error: BaseException, hop: str, why: str) -> RemoteErrorDetail:
    """Return a description with the type's name only; `why` says why there is no more."""
    name = name_of(type(error))
    return RemoteErrorDetail("", name, None, why, 500, (hop,), hop, f"{name}: {why}", b"")


def rebuild(detail: RemoteErrorDetail) -> Exception:
    """Return the exception, to be raised in this process; its `__cause__` is a `RemoteTraceback`.

    It has its original type if this process can find that, and is made without calling the class's Python `__init__`
    (which may take other arguments); else it is a `RemoteError`. Exceptions that would end a process or a loop
    (`KeyboardInterrupt`, `SystemExit`, `StopIteration`) become a `RemoteError` too, and `asyncio.CancelledError`
    becomes `CallCancelled`.
    """
    cls = _find_type(detail)
    if cls is not None and issubclass(cls, asyncio.CancelledError):
        return _completed(CallCancelled(detail.message or "the call was cancelled"), detail)
    if cls is not None and issubclass(cls, Exception) and not issubclass(cls, ENDS):
        try:
            return _completed(_revive(cls, detail), detail)
        except BaseException:  # code of the user's class may raise anything
            pass
    name = detail.type_name
    if detail.type_module not in ("builtins", "__main__", ""):
        name = f"{detail.type_module}.{name}"
    return _completed(RemoteError(detail.message, name), detail)


def _completed(error: Exception, detail: RemoteErrorDetail) -> Exception:
    if detail.notes:
        error.__notes__ = list(detail.notes)
    # The members of a group are told by the group, where it is one here too.
    is_whole = not detail.members or isinstance(error, BaseExceptionGroup)
    error.__cause__ = RemoteTraceback(detail.story if is_whole else detail.text, detail)
    return error


# -- describing an exception


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
        origin=received.origin if received is not None else 0,
    )


def _received(error: BaseException) -> RemoteErrorDetail | None:
    detail = getattr(error.__cause__, "detail", None) if isinstance(error.__cause__, RemoteTraceback) else None
    return detail if isinstance(detail, RemoteErrorDetail) else None


# -- contents: what the exception is rebuilt from


def _contents(error: BaseException) -> bytes:
    """Return the pickled exception if its class customizes pickling, else its pickled arguments and attributes."""
    cls = type(error)
    state: Any = None
    try:
        reduced: Any = error.__reduce_ex__(5)
        if reduced[0] is not cls or isinstance(cls.__reduce__, FunctionType):
            return dumps_within(error, MAX_CONTENTS)
        args, state = reduced[1], (reduced[2] if len(reduced) > 2 else None)
    except Enough:
        raise
    except BaseException:  # raised by code of the class
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
        except BaseException:  # raised by code of the values that it holds
            pass
    return _pieces(args, state)


def _pieces(args: Any, state: dict[str, Any]) -> bytes:
    """Return the parts that can be pickled and are small enough: other arguments as text, without other attributes."""
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
    except BaseException:  # importing the module may raise anything
        found = None
    if found is None and detail.type_key is not None:
        found = find_class(detail.type_key)
    return found if isinstance(found, type) else None


def _revive(cls: type[Exception], detail: RemoteErrorDetail) -> Exception:
    """Return the exception with its original type. May raise anything, since it runs code of the class."""
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
    """Return the `__init__` of the nearest base written in C: it sets the fields that are not in `__dict__`."""
    own = (vars(base).get("__init__") for base in cls.__mro__)
    init: Callable[..., None] = next(i for i in own if i is not None and not isinstance(i, FunctionType))
    return init
