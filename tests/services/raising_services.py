"""Services that raise whatever they are told to, from every kind of api. A recipe says what; see `made`."""

import asyncio
import builtins
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from nbcompose import api, depends, on_shutdown, on_startup, service
from nbcompose.errors import CallError, InvalidArgument, NbcomposeError

BUILT_IN = sorted(n for n, c in vars(builtins).items() if isinstance(c, type) and issubclass(c, BaseException))


class TextRaises(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class TextExits(Exception):
    def __str__(self) -> str:
        sys.exit(3)

    __repr__ = __str__


class TextIsNone(Exception):
    def __str__(self) -> str:
        return None  # type: ignore[return-value]

    __repr__ = __str__


class TextRecurs(Exception):
    def __str__(self) -> str:
        return str(self)


class TextIsHuge(Exception):
    def __str__(self) -> str:
        return "x" * 30_000_000


class TextNeverEnds(Exception):
    def __str__(self) -> str:
        while True:
            time.sleep(0.001)


class PickleNeverEnds(Exception):
    def __reduce__(self) -> Any:
        while True:
            time.sleep(0.001)


class ArgumentNeverEnds:
    def __repr__(self) -> str:
        while True:
            time.sleep(0.001)


class PickleExits(Exception):
    def __reduce__(self) -> Any:
        sys.exit(3)


class RevivalInterrupts(Exception):
    def __reduce__(self) -> Any:
        return RevivalInterrupts._revive, (os.getpid(),)

    @staticmethod
    def _revive(pid: int) -> Any:
        raise KeyboardInterrupt(pid)


class AttributesRaise(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


class OwnAttributesRaise(BaseException):
    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":  # which groups ask for
            return OwnAttributesRaise
        raise RuntimeError(name)


class ClassLies(Exception):
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise ValueError("no class")


class NotesAreOdd(list[Any]):
    def __iter__(self) -> Any:
        raise RuntimeError("no notes")


class Teapot(CallError):
    status = 420


class Wordy(CallError):
    status = "bad"  # type: ignore[assignment]


class Informal(CallError):
    status = 101


class Empty(CallError):
    status = 204


class Unhashable(NbcomposeError):
    status: Any = []  # noqa: RUF012


class Own(BaseException):
    """Of no base that anybody catches."""


class Both(Exception, KeyboardInterrupt):
    """Caught as the one, and ends a loop as the other."""


class BothCancelled(Exception, asyncio.CancelledError):
    pass


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


OWN: dict[str, type[BaseException]] = {
    c.__name__: c
    for c in (
        TextRaises, TextExits, TextIsNone, TextRecurs, TextIsHuge, PickleExits, RevivalInterrupts, AttributesRaise,
        OwnAttributesRaise, ClassLies, Teapot, Wordy, Informal, Empty, Unhashable, Own, Both, BothCancelled,
        asyncio.CancelledError, InvalidArgument,
    )
}  # fmt: skip
SLOW: dict[str, type[BaseException]] = {c.__name__: c for c in (TextNeverEnds, PickleNeverEnds)}

ARGUMENTS: dict[str, Any] = {
    "none": lambda: (),
    "text": lambda: ("what went wrong",),
    "surrogate": lambda: ("bad: \ud800",),
    "unprintable": lambda: (Unprintable(), 1),
    "function": lambda: (lambda: 1,),
    "long": lambda: ("x" * 30_000_000, b"y" * 30_000_000),
    "wide": lambda: (list(range(300_000)), {i: str(i) for i in range(100_000)}),
    "number": lambda: (10**50_000,),
    "ends": lambda: (ArgumentNeverEnds(),),
}
AROUND = ("nothing", "causes", "circle", "contexts", "deep group", "wide group", "frames", "notes", "many notes")


def made(recipe: dict[str, Any]) -> BaseException:
    """An exception of type `kind`, made of `arguments`, with `around` it."""
    error = _one(recipe["kind"], ARGUMENTS[recipe.get("arguments", "none")]())
    return _within(error, recipe.get("around", "nothing"))


def _one(kind: str, args: tuple[Any, ...]) -> BaseException:
    cls: Any = OWN.get(kind) or SLOW.get(kind) or getattr(builtins, kind)
    tries = [
        args,
        ("encoding", b"x", 0, 1, "reason"),
        ("encoding", "x", 0, 1, "reason"),
        ("text", 0, 1, "reason"),
        ("group", [ValueError("member")]),
        (),
    ]
    for attempt in tries:
        try:
            error: BaseException = cls(*attempt)
        except Exception:
            continue
        return error
    raise AssertionError(f"no {kind} can be made")


def _within(error: BaseException, around: str) -> BaseException:
    top = error
    if around in ("causes", "contexts"):
        for i in range(1000):
            above = LookupError(i)
            if around == "causes":
                above.__cause__ = top
            else:
                above.__context__ = top
            top = above
        error.__context__ = top if around == "contexts" else None
    elif around == "circle":
        other = LookupError("other")
        other.__cause__, error.__cause__ = error, other
    elif around == "deep group":
        for i in range(1000):
            top = BaseExceptionGroup(f"level {i}", [top])
    elif around == "wide group":
        top = BaseExceptionGroup("wide", [error, *(ValueError(i) for i in range(10_000))])
    elif around == "frames":
        top = _deep(error)
    elif around == "notes":
        error.__notes__ = NotesAreOdd([1])
    elif around == "many notes":
        error.__notes__ = ["x" * 1000, None, "\ud800", *range(100_000)]  # type: ignore[list-item]
    return top


def _deep(error: BaseException) -> BaseException:
    def down(n: int) -> None:
        if n == 0:
            raise error
        down(n - 1)

    try:
        down(900)
    except BaseException as raised:
        return raised
    raise AssertionError


@service(threads=2, traffic={"timeout": 120})
class Raising:
    @api
    async def pid(self) -> int:
        return os.getpid()

    @api
    def plain(self, recipe: dict[str, Any]) -> int:
        raise made(recipe)

    @api
    async def coroutine(self, recipe: dict[str, Any]) -> int:
        raise made(recipe)

    @api
    def items(self, recipe: dict[str, Any], after: int = 0) -> Iterator[int]:
        yield from range(after)
        raise made(recipe)

    @api
    async def async_items(self, recipe: dict[str, Any], after: int = 0) -> AsyncIterator[int]:
        for i in range(after):
            yield i
        raise made(recipe)

    @api(batchable=True)
    def batch(self, xs: list[int], recipe: dict[str, Any]) -> list[int]:
        raise made(recipe)

    @api(batchable=True)
    async def async_batch(self, xs: list[int], recipe: dict[str, Any]) -> list[int]:
        raise made(recipe)

    @api
    async def awaits_what_is_cancelled(self) -> int:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future
        return 1

    @api
    async def cancels_itself(self) -> int:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)
        return 1

    @api
    async def exits_in_a_task(self) -> int:
        async def leave() -> None:
            sys.exit(3)

        await asyncio.gather(leave())
        return 1

    @api
    async def exits_in_a_callback(self) -> int:
        asyncio.get_running_loop().call_soon(sys.exit, 3)
        await asyncio.sleep(0.01)
        return 1

    @api
    async def goes_on(self) -> int:
        """Does not let itself be cancelled."""
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    @api
    async def yields_and_goes_on(self) -> AsyncIterator[int]:
        yield 1
        await self.goes_on()


@service(threads=2, traffic={"timeout": 120})
class Above:
    """The same, through a dependency."""

    raising = depends(Raising)

    @api
    async def pid(self) -> int:
        return os.getpid()

    @api
    def plain(self, recipe: dict[str, Any]) -> int:
        return int(self.raising.plain(recipe))

    @api
    async def coroutine(self, recipe: dict[str, Any]) -> int:
        return int(await self.raising.coroutine(recipe))

    @api
    def items(self, recipe: dict[str, Any], after: int = 0) -> Iterator[int]:
        yield from self.raising.items(recipe, after)

    @api
    async def async_items(self, recipe: dict[str, Any], after: int = 0) -> AsyncIterator[int]:
        async for item in self.raising.async_items(recipe, after):
            yield item


class Hooks:
    """Its hooks raise what `RAISED` names, where `WHERE` says so; `NOTES` is a file for what has run after that."""

    def _raise(self, where: str) -> None:
        if where == os.environ["WHERE"]:
            raise made({"kind": os.environ["RAISED"]})

    @on_startup
    async def opens(self) -> None:
        self._raise("startup")

    @on_startup
    async def waits_for_what_is_cancelled(self) -> None:
        if os.environ["WHERE"] == "startup, as it waits":
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

    @on_shutdown
    async def closes(self) -> None:
        self._raise("shutdown")

    @on_shutdown
    async def closes_in_a_task(self) -> None:
        async def close() -> None:
            self._raise("shutdown, in a task")

        await asyncio.create_task(close())

    @on_shutdown
    def closes_in_a_thread(self) -> None:
        self._raise("shutdown, in a thread")

    @on_shutdown
    def last(self) -> None:
        with open(os.environ["NOTES"], "w", encoding="ascii") as file:
            file.write("closed")

    @api
    def fine(self) -> int:
        return 1
