"""Format exceptions as text: frames, causes and group members, bounded in depth, width and length.

`_rpc/remote_errors.py` sends the text, the HTTP server logs it. Formatting may run user code, which may never return:
`is_tame` says whether it does, `aside` then runs it in a thread with a time limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

from nbcompose._host import thread_state
from nbcompose._rpc.codec import is_plain
from nbcompose._user_exceptions import (
    MAX_NAME,
    MAX_TEXT,
    MAX_WALK,
    Enough,
    clipped,
    in_short,
    name_of,
    text_of,
    users_frames,
    walk,
)
from nbcompose.errors import NbcomposeError, RemoteTraceback

T = TypeVar("T")

MAX_CAUSES = 8  # shown from each end of a chain of causes
MAX_FRAMES = 30  # shown from each end of a traceback
MAX_MEMBERS = 8  # shown of an exception group
MAX_GROUPS = 4  # nested in one another
MAX_TOLD = 64  # exceptions shown in total, including causes and members
MAX_LINE = 500  # characters of a line of code
MAX_NOTES = 16
MAX_SHORT = 2_000  # characters of a note, and of the message of a cause or a member
TELL_WAIT = 1.0  # seconds that user code may take for the text of its error
UNTOLD = f"its text was not there after {TELL_WAIT:g} s"

CAUSE = "The above exception was the direct cause of the following exception:"
CONTEXT = "During handling of the above exception, another exception occurred:"


@dataclass(slots=True)
class Bounds:
    """How many more exceptions may be shown for one error. (A time limit would show less on a loaded machine.)"""

    left: int = MAX_TOLD

    @property
    def over(self) -> bool:
        return self.left <= 0


def story(error: BaseException, hop: str, bounds: Bounds, level: int = 0) -> tuple[tuple[str, ...], str]:
    """Return the hops of an exception and the text of its frames, preceded by those of its causes.

    A long chain is shown at both ends: the last exceptions and the first ones. `level`: number of enclosing groups.
    """
    chain, links, hops, before = _chain(error, hop)
    told: dict[int, str] = {}
    ends = list(_ends(len(chain), MAX_CAUSES))
    # The message of an nbcompose error is complete without frames; for other errors the user's frames suffice, if any.
    only_theirs = isinstance(error, NbcomposeError) or bool(before) or any(_is_of_users(chain[i]) for i in ends)
    for i in ends:
        if i and bounds.over:
            break
        bounds.left -= 1
        told[i] = _section(chain[i], hop, only_theirs)
        if i:
            told[i] += f"\n\n{summary(chain[i], bounds, level, MAX_SHORT)}\n\n{links[i - 1]}"
    parts = [before] if before else []
    untold = 0
    for i in reversed(range(len(chain))):
        if i not in told:
            untold += 1
            continue
        if untold:
            parts += [more(untold, "cause", at_least=len(chain) > MAX_WALK), links[i]]
            untold = 0
        parts.append(told[i])
    return hops, "\n\n".join(parts)


def summary(error: BaseException, bounds: Bounds, level: int = 0, room: int = MAX_TEXT) -> str:
    """Return the text after the frames: type, message, notes, and the members of a group."""
    lines = [_headline(error, room)]
    members = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    count = 0
    for member in members[:MAX_MEMBERS] if level < MAX_GROUPS else ():
        if bounds.over:
            break
        count += 1
        _, frames = story(member, f"{count} of {len(members)}", bounds, level + 1)
        text = f"{frames}\n\n{summary(member, bounds, level + 1, MAX_SHORT)}"
        lines += [f"  | {line}".rstrip() for line in text.splitlines()]
    if count < len(members):
        lines.append(f"  | {more(len(members) - count, 'exception')}")
    return "\n".join(lines)


def notes(error: BaseException) -> tuple[str, ...]:
    """Return the texts of `__notes__`, which may hold anything."""
    try:
        found = getattr(error, "__notes__", ())
        if not isinstance(found, list | tuple):
            return ()
        first = list(itertools.islice(found, MAX_NOTES))
        texts = tuple(clipped(n, MAX_SHORT) if isinstance(n, str) else in_short(n, MAX_SHORT) for n in first)
        return (*texts, more(len(found) - MAX_NOTES, "note")) if len(found) > MAX_NOTES else texts
    except Enough:
        raise
    except BaseException:  # raised by a user's subclass of list or tuple
        return ()


def cause_of(error: BaseException) -> tuple[BaseException | None, str]:
    """Return the exception that Python shows before this one, and the sentence that it writes between them."""
    if error.__cause__ is not None:
        return error.__cause__, CAUSE
    return (None if error.__suppress_context__ else error.__context__), CONTEXT


# -- chains of causes


def _chain(error: BaseException, hop: str) -> tuple[list[BaseException], list[str], tuple[str, ...], str]:
    """Return an exception and its causes, the sentences that link them, the hops, and the text of remote frames."""
    chain, seen = [error], {id(error)}
    links: list[str] = []
    while len(chain) <= MAX_WALK:
        cause, link = cause_of(chain[-1])
        if isinstance(cause, RemoteTraceback):
            detail: Any = cause.detail  # None if it was not made by _rpc/remote_errors.py
            hops = getattr(detail, "hops", ())
            return chain, links, (hop, *hops), detail.frames if hops else cause.text
        if cause is None or id(cause) in seen:
            break
        chain.append(cause)
        links.append(link)
        seen.add(id(cause))
    return chain, links, (hop,), ""


def _ends(count: int, most: int) -> Iterator[int]:
    yield from range(min(count, most))
    yield from reversed(range(max(most, count - most), count))


def more(count: int, what: str, *, at_least: bool = False) -> str:
    """Return the text in place of omitted parts."""
    return f"… {'more than ' if at_least else ''}{count} more {what}{'' if count == 1 else 's'}"


# -- one exception


def _section(error: BaseException, hop: str, only_theirs: bool) -> str:
    first, last, count = _frames(error.__traceback__, only_theirs)
    lines = ["\n", *_formatted(first)]
    if count > len(first) + len(last):
        lines.append(f"  {more(count - len(first) - len(last), 'frame', at_least=count >= MAX_WALK)}\n")
    return hop + "".join([*lines, *_formatted(last)]).rstrip()


def _is_of_users(error: BaseException) -> bool:
    """Whether one of its frames is in user code."""
    return next(users_frames(error.__traceback__), None) is not None


def _frames(tb: TracebackType | None, only_theirs: bool) -> tuple[list[TracebackType], list[TracebackType], int]:
    """Return the first and the last frames, and their total number; of user code only if `only_theirs`."""
    frames = users_frames(tb) if only_theirs else walk(tb)
    first = list(itertools.islice(frames, MAX_FRAMES))
    last: deque[TracebackType] = deque(maxlen=MAX_FRAMES)
    count = len(first)
    for frame in frames:
        last.append(frame)
        count += 1
    return first, list(last), count


def _formatted(frames: list[TracebackType]) -> list[str]:
    found = traceback.StackSummary.extract((t.tb_frame, t.tb_lineno) for t in frames)
    # Without column markers, which differ between versions of Python.
    plain = [(f.filename, f.lineno or 0, f.name, clipped(f.line or "", MAX_LINE)) for f in found]
    return traceback.StackSummary.from_list(plain).format()


def _headline(error: BaseException, room: int) -> str:
    """Return type, message and notes; as Python formats them (with the line of a syntax error) if no user code runs."""
    if cause_of(error)[0] is None and is_tame(error):
        return clipped("".join(traceback.format_exception_only(type(error), error)).rstrip(), room)
    kind = type(error)
    module = kind.__module__
    plain = module in ("builtins", "__main__") or not isinstance(module, str)
    name = name_of(kind) if plain else clipped(f"{module}.{kind.__qualname__}", MAX_NAME)
    text = text_of(error, room)
    return "\n".join([f"{name}: {text}" if text else name, *notes(error)])


# -- user code


_RUN = ("__str__", "__repr__", "__reduce__", "__reduce_ex__", "__getattribute__", "__getattr__")
_NATIVE = (type(object.__str__), type(object.__reduce__), type(None))


def is_tame(error: BaseException) -> bool:
    """Whether formatting `error` runs no user code and takes negligible time. Never raises."""
    try:
        return _is_tame(error)
    except BaseException:  # raised by code of its class
        return False


def _is_tame(error: BaseException) -> bool:
    seen = 0
    cause: BaseException | None = error
    while cause is not None and type(cause) is not RemoteTraceback:
        kind = type(cause)
        seen += 1
        if (
            seen > MAX_CAUSES
            or not all(isinstance(getattr(kind, name, None), _NATIVE) for name in _RUN)
            or issubclass(kind, BaseExceptionGroup)
            or not is_plain(cause.args, 3)
            or not is_plain(cause.__dict__, 4)
            or sum(1 for _ in itertools.islice(walk(cause.__traceback__), MAX_WALK)) > 4 * MAX_FRAMES
        ):
            return False
        cause = cause_of(cause)[0]
    return True


async def aside(tell: Callable[[], T], instead: Callable[[], T]) -> T:
    """Run `tell` in its own thread and return its result; that of `instead` if it raises or takes over `TELL_WAIT`.

    Never raises. A task that is cancelled meanwhile gets `instead` too, since the error must still be reported.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(told: T) -> None:
        if not done.done():
            done.set_result(told)

    def work() -> None:
        with contextlib.suppress(Enough, RuntimeError):  # too late; or the loop has been closed
            try:
                told = tell()
            except Exception:
                told = instead()
            loop.call_soon_threadsafe(settle, told)

    try:
        thread = threading.Thread(target=work, name="nbcompose-telling", daemon=True)
        thread.start()
        async with asyncio.timeout(TELL_WAIT):
            return await done
    except (TimeoutError, asyncio.CancelledError):
        _interrupt(thread)
    except RuntimeError:  # no more threads
        pass
    return instead()


def _interrupt(thread: threading.Thread) -> None:
    """Raise `Enough` in the thread to end Python code that runs too long (only the user's `__str__` etc. run there)."""
    if thread.ident is not None and thread.is_alive():
        thread_state.send(thread.ident, Enough)
