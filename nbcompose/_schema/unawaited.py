"""What stands for an answer that is still to be awaited: whoever takes it for the answer is told, and how to get it."""

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
        """The line of the instruction at `at` (`f_lasti` of a frame). Apart from `f_lineno`, which costs every call."""
        lines = (line for start, end, line in code.co_lines() if start <= at < end and line is not None)
        return cls(code.co_filename, next(lines, code.co_firstlineno))

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Unawaited:
    """Base of what a call gives that is to be awaited. All that one does with an answer raises `NotAwaited`.

    Looking at it (`repr`, `type`, `id`) and keeping it, in a set too, are free.
    """

    __slots__ = ()

    def misused(self) -> NotAwaited:
        """The error that says which call it was, where it was made, and what to write there."""
        raise NotImplementedError

    __hash__ = object.__hash__


def check_awaited(value: Any) -> None:
    """Raises `NotAwaited` where `value` is still to be awaited."""
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


# No `__next__`: a task takes what has one for a generator. No `__call__`: `callable` is to say no.
for _name in (
    *_names("bool bytes complex float index int len round str format"),
    *_names("iter reversed contains getitem setitem delitem"),
    *_names("eq ne lt le gt ge abs invert neg pos"),
    *_names("add and floordiv lshift matmul mod mul or pow rshift sub truediv xor", "", "r", "i"),
    *_names("divmod", "", "r"),
    *_names("copy deepcopy reduce_ex"),  # pickle, too
):
    setattr(Unawaited, _name, _refusal(_name))
