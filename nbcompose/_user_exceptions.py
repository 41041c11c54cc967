"""Safe handling of exceptions raised by user code: bounded texts, user frames only, errors that end only their call.

`str` and `repr` of such an exception run user code, which may raise, return anything, be slow, or never end; nothing
here raises because of that.
"""

from __future__ import annotations

import asyncio
import sysconfig
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import FunctionType, TracebackType
from typing import Any

import cloudpickle

MAX_WALK = 10_000  # causes, or frames, that are counted at all

_STDLIB = Path(sysconfig.get_path("stdlib"))
# Frames that say how a call was carried, not what was called.
_MACHINERY = (
    f"{Path(__file__).parent}/",
    f"{Path(cloudpickle.__file__).parent}/",
    *(f"{_STDLIB / name}" for name in ("asyncio", "concurrent", "threading.py", "contextlib.py", "functools.py")),
)


def walk(tb: TracebackType | None) -> Iterator[TracebackType]:
    for _ in range(MAX_WALK):
        if tb is None:
            return
        yield tb
        tb = tb.tb_next


def users_frames(tb: TracebackType | None) -> Iterator[TracebackType]:
    return (t for t in walk(tb) if not t.tb_frame.f_code.co_filename.startswith(_MACHINERY))


MAX_TEXT = 20_000  # characters of a message
MAX_NAME = 200  # characters of a type's name
MAX_DEPTH = 20  # containers in one another, in what is shown of a value
MAX_DIGITS = 4_300  # of a number, which takes the square of their count

# What would end a thread, a loop, a task or an iteration, and not the call that raised it.
ENDS = (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError, StopIteration, StopAsyncIteration)
_PLAIN = frozenset({str, bytes, int, float, bool, type(None)})


class Enough(BaseException):
    """Raised in a thread that runs users' code for an error text and takes too long (_rpc/exception_data.py)."""


def contained(error: BaseException) -> Exception:
    """`error`; in place of one that would end more than the call that raised it, a RuntimeError that tells of it."""
    kind = type(error)
    if issubclass(kind, Exception) and not issubclass(kind, ENDS):
        return error  # type: ignore[return-value]  # mypy does not narrow by `kind`
    told = RuntimeError(f"it raised {_said_at_once(error)}")
    told.__cause__ = error
    return told


def _said_at_once(error: BaseException) -> str:
    """Of users' code nothing runs here, on the loop perhaps: what the cause says is told where there is time."""
    kind = type(error)
    is_plain = kind.__str__ is BaseException.__str__ and not isinstance(kind.__getattribute__, FunctionType)
    return said(error) if is_plain and all(type(arg) in _PLAIN for arg in error.args) else name_of(kind)


def passes(error: BaseException) -> bool:
    """Whether an error in a coroutine goes on as it is: one of its call, or the end of its task that somebody wants."""
    kind = type(error)
    if issubclass(kind, asyncio.CancelledError | GeneratorExit):
        try:
            task = asyncio.current_task()
        except RuntimeError:  # no loop runs: a coroutine is being thrown away
            task = None
        return task.cancelling() > 0 if task is not None else True
    return issubclass(kind, Exception) and not issubclass(kind, ENDS)


def name_of(kind: type) -> str:
    try:
        return clipped(kind.__name__, MAX_NAME)
    except Enough:
        raise
    except BaseException:  # a metaclass may do anything
        return "Exception"


def text_of(error: BaseException, room: int = MAX_TEXT) -> str:
    """`str(error)`; of one that is long the beginning."""
    try:
        return clipped(_text(error, room), room)
    except Enough:
        raise
    except BaseException as failure:
        return f"<its text is not available: {name_of(type(failure))}>"


def said(error: BaseException, room: int = MAX_TEXT) -> str:
    """Its type, and its text where it has one."""
    text = text_of(error, room)
    return f"{name_of(type(error))}: {text}" if text else name_of(type(error))


def in_short(value: Any, room: int = MAX_TEXT) -> str:
    """`repr(value)`; of one that is long the beginning, and how much more there is."""
    return clipped(_repr(value, room // 2, MAX_DEPTH), room)


def clipped(text: str, room: int = MAX_TEXT) -> str:
    """`text`, or its beginning and its length. Exactly a `str`, whatever class it was of."""
    length = str.__len__(text)
    kept = str.__getitem__(text, slice(0, room))
    return kept if length <= room else f"{kept}… ({length} characters)"


def _text(error: BaseException, room: int) -> str:
    """What Python's own `__str__` would build of large arguments is not built."""
    write = type(error).__str__
    args = error.args
    if write is KeyError.__str__ and len(args) == 1:
        return in_short(args[0], room)
    if write is BaseException.__str__:
        if not args:
            return ""
        return _of_argument(args[0], room) if len(args) == 1 else in_short(args, room)
    if not isinstance(write, FunctionType) and _is_large(args):
        return in_short(args, room)
    return str(error)


def _of_argument(value: Any, room: int) -> str:
    if isinstance(value, str) and type(value).__str__ is str.__str__:
        return value
    return in_short(value, room) if type(value) in _KNOWN else str(value)


def _is_large(args: Iterable[Any]) -> bool:
    return any(len(value) > MAX_TEXT for value in islice(args, 100) if type(value) in _SIZED)


# -- values


_SIZED = frozenset({str, bytes, bytearray, list, tuple, dict, set, frozenset})
_KNOWN = _SIZED - {str} | {int}
_BRACKETS: dict[type, tuple[str, str]] = {
    list: ("[", "]"), tuple: ("(", ")"), dict: ("{", "}"), set: ("{", "}"), frozenset: ("frozenset({", "})"),
}  # fmt: skip


def _repr(value: Any, room: int, depth: int) -> str:
    kind = type(value)
    if kind in _BRACKETS and (len(value) or kind in (list, tuple, dict)):
        return _of_container(value, kind, room, depth)
    if kind in (str, bytes, bytearray) and len(value) > room:
        unit = "characters" if kind is str else "bytes"
        return f"{value[:room]!r}… ({len(value)} {unit})"
    if kind is int and value.bit_length() > 3.3 * MAX_DIGITS:
        return f"<an int of {value.bit_length()} bits>"
    try:
        return clipped(repr(value), room)
    except Enough:
        raise
    except BaseException as failure:
        return f"<a {name_of(kind)} without a text: {name_of(type(failure))}>"


def _of_container(value: Any, kind: type, room: int, depth: int) -> str:
    opening, closing = _BRACKETS[kind]
    if depth == 0:
        return f"{opening}…{closing}"
    parts: list[str] = []
    for i, part in enumerate(_parts(value, kind, room, depth - 1)):
        if room <= 0:
            parts.append(f"… {len(value) - i} more")
            break
        parts.append(part)
        room -= len(part) + 2
    if kind is tuple and len(value) == 1:
        closing = ",)"
    return opening + ", ".join(parts) + closing


def _parts(value: Any, kind: type, room: int, depth: int) -> Iterator[str]:
    most = room // 3 + 2  # each takes three characters at least
    if kind is dict:
        for key, item in list(islice(value.items(), most)):
            yield f"{_repr(key, room, depth)}: {_repr(item, room, depth)}"
    else:
        for item in list(islice(value, most)):
            yield _repr(item, room, depth)
