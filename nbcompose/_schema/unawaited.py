"""Placeholder of a result that has not been awaited: using it raises an error that says where and how to await it."""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType
from typing import Any, NamedTuple, NoReturn

from nbcompose.errors import NotAwaited


class CallSite(NamedTuple):
    """A line of user code that makes a call."""

    file: str
    line: int

    @classmethod
    def of(cls, code: CodeType, at: int) -> CallSite:
        """Return the line of the instruction at `at` (`f_lasti` of a frame). `f_lineno` would slow down every call."""
        lines = (line for start, end, line in code.co_lines() if start <= at < end and line is not None)
        return cls(code.co_filename, next(lines, code.co_firstlineno))

    def __str__(self) -> str:
        return _shown(f"{self.file}:{self.line}")


_shown: Callable[[str], str] = str


def show_places(shown: Callable[[str], str]) -> Callable[[], None]:
    """Have `file:line` of calls written by `shown`, as a notebook does for cells. Returns what undoes that."""
    global _shown
    _shown = shown

    def undo() -> None:
        global _shown
        _shown = str

    return undo


class Unawaited:
    """Base class of what a call returns before it is awaited. Any operation on it as a value raises `NotAwaited`.

    `repr`, `type` and `id`, and storing it, even in a set, are allowed.
    """

    __slots__ = ()

    def misused(self) -> NotAwaited:
        """Return the error that names the call and its line, and says what to write there."""
        raise NotImplementedError

    __hash__ = object.__hash__


class Uncalled:
    """Base class of that by which services are called (apis, and services themselves), which is no value by itself."""

    __slots__ = ()

    def _uncalled(self) -> str:  # not public: the names of apis are attributes of some
        """Return what it is, and what was probably meant where it is given as a value."""
        raise NotImplementedError


def check_awaited(value: Any) -> None:
    """Raise `NotAwaited` if `value` has not been awaited."""
    if isinstance(value, Unawaited):
        raise value.misused()


def _refusal(name: str) -> Callable[..., NoReturn]:
    def refuse(self: Unawaited, *_: Any) -> NoReturn:
        __tracebackhide__ = True
        raise self.misused()

    refuse.__name__ = name
    refuse.__qualname__ = f"Unawaited.{name}"
    return refuse


def _names(text: str, *prefixes: str) -> list[str]:
    return [f"__{prefix}{name}__" for name in text.split() for prefix in prefixes or ("",)]


# No `__next__`: asyncio tasks would take the object for a generator. No `__call__`: `callable` must return False.
for _name in (
    *_names("bool bytes complex float index int len round str format"),
    *_names("iter reversed contains getitem setitem delitem"),
    *_names("eq ne lt le gt ge abs invert neg pos"),
    *_names("add and floordiv lshift matmul mod mul or pow rshift sub truediv xor", "", "r", "i"),
    *_names("divmod", "", "r"),
    *_names("copy deepcopy reduce_ex"),  # pickle, too
):
    setattr(Unawaited, _name, _refusal(_name))
