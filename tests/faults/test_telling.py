"""What is told of an exception is bounded, says what is left out, and is there whatever the exception does."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
import raising_services
from raising_services import AROUND, BUILT_IN, OWN, made

from nbcompose._rpc import exception_data
from nbcompose._rpc.codec import CodecError, Encoder, dumps, loads
from nbcompose._rpc.exception_data import aside, is_tame
from nbcompose._rpc.remote_errors import describe, rebuild
from nbcompose._user_exceptions import MAX_TEXT, contained, in_short, said, text_of
from nbcompose.errors import CallError, InvalidArgument, InvalidResult, RemoteError


def chained(count: int) -> Exception:
    """The last of so many exceptions, each of which is the cause of the next."""
    top: Exception = ValueError("the first")
    for i in range(count):
        above = LookupError(f"level {i}")
        above.__cause__ = top
        top = above
    return top


class Counting:
    """Counts how often it was looked at."""

    looked = 0

    def __repr__(self) -> str:
        Counting.looked += 1
        return "counting"

    def __reduce__(self) -> Any:
        Counting.looked += 1
        return Counting, ()


@pytest.fixture(autouse=True)
def count() -> None:
    Counting.looked = 0


def test_of_a_long_chain_both_ends_are_told() -> None:
    text = describe(chained(1000), hop="A.a").text
    assert "LookupError: level 999" in text
    assert "LookupError: level 993" in text
    assert "… 985 more causes" in text
    assert "LookupError: level 6" in text
    assert text.index("ValueError: the first") < text.index("… 985") < text.index("level 999")
    assert len(text) < 20_000


def test_a_short_chain_is_told_as_a_whole() -> None:
    text = describe(chained(15), hop="A.a").text
    assert text.count("LookupError: level") == 15
    assert "more" not in text


def test_a_chain_that_never_ends_is_not_followed_to_its_end() -> None:
    assert "… more than 9985 more causes" in describe(chained(20_000), hop="A.a").text


def test_a_wide_group_is_told_in_part_and_comes_back_in_part() -> None:
    group = ExceptionGroup("wide", [ValueError(Counting()) for _ in range(10_000)])
    detail = describe(group, hop="A.a")
    back = rebuild(detail)
    assert Counting.looked < 200
    assert isinstance(back, ExceptionGroup)
    assert len(back.exceptions) == exception_data.MAX_MEMBERS
    assert back.__notes__ == ["… 9992 more exceptions"]
    assert "  | … 9992 more exceptions" in detail.text
    assert len(pickle.dumps(detail)) < 100_000


def test_a_deep_group_is_told_to_a_depth() -> None:
    group: Exception = ValueError("innermost")
    for i in range(1000):
        group = ExceptionGroup(f"level {i}", [group])
    detail = describe(group, hop="A.a")
    assert "level 999" in detail.text
    assert "level 900" not in detail.text
    assert "… 1 more exception" in detail.text
    back: Any = rebuild(detail)
    depth = 0
    while isinstance(back, ExceptionGroup):
        back, depth = back.exceptions[0], depth + 1
    assert depth == exception_data.MAX_GROUPS
    assert type(back) is RemoteError


def test_groups_of_groups_are_bounded_together() -> None:
    group: Exception = ValueError(Counting())
    for i in range(4):
        group = ExceptionGroup(f"level {i}", [group] * 20)
    detail = describe(group, hop="A.a")
    assert Counting.looked < 1000
    assert len(pickle.dumps(detail)) < 1_000_000


def test_of_many_frames_both_ends_are_told() -> None:
    names: dict[str, Any] = {}
    exec(compile("def a(n): return b(n)\ndef b(n): return a(n - 1) if n else 1 / 0", "user.py", "exec"), names)
    with pytest.raises(ZeroDivisionError) as caught:
        names["a"](200)
    frames = describe(caught.value, hop="A.a").frames
    assert frames.count("user.py") == 2 * exception_data.MAX_FRAMES - 1  # the test's own is the first
    assert "… 343 more frames" in frames


@pytest.mark.parametrize(
    ("made_of", "shown"),
    [
        (lambda: ValueError("x" * 10**8), "x" * MAX_TEXT + "… (100000000 characters)"),
        (lambda: ValueError("a", "x" * 10**8), "('a', 'xxx"),
        (lambda: KeyError("x" * 10**8), "'xxx"),
        (lambda: OSError(2, "x" * 10**8), "(2, 'xxx"),
        (lambda: ValueError(b"x" * 10**8), "b'xxx"),
        (lambda: ValueError(list(range(10**7))), "[0, 1, 2"),
        (lambda: ValueError(10**100_000), "<an int of 332193 bits>"),
    ],
    ids=range(7),
)
def test_what_is_large_is_never_built(made_of: Callable[[], Exception], shown: str) -> None:
    error = made_of()
    assert text_of(error).startswith(shown[:100])
    assert len(text_of(error)) < MAX_TEXT + 100
    assert len(pickle.dumps(describe(error, hop="A.a"))) < 200_000


def test_what_an_exception_holds_is_looked_at_in_part() -> None:
    many = [Counting()] * 1_000_000
    error = ValueError(many)
    error.more = [*many]  # type: ignore[attr-defined]
    describe(error, hop="A.a")
    assert Counting.looked < 100_000


@pytest.mark.parametrize(
    "value",
    ["a", "", 1, None, True, b"x", [1, "a"], (), (1,), (1, 2), {}, {"a": [1]}, set(), {1}, frozenset(), frozenset({1})],
    ids=repr,
)
def test_what_is_short_is_shown_as_python_does(value: Any) -> None:
    assert in_short(value) == repr(value)
    assert text_of(ValueError(value)) == str(ValueError(value))
    assert text_of(ValueError(value, 1)) == str(ValueError(value, 1))
    assert text_of(KeyError(value)) == str(KeyError(value))


def test_the_rest_of_what_is_shown_is_counted() -> None:
    assert in_short(list(range(1000)), 40) == "[0, 1, 2, 3, 4, 5, 6, … 993 more]"
    loop: list[Any] = [1]
    loop.append(loop)
    assert in_short(loop).startswith("[1, [1, [1, ")


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("kind", [*BUILT_IN, *OWN])
def test_every_exception_is_told_and_comes_back_as_one(kind: str, around: str) -> None:
    error = made({"kind": kind, "arguments": "surrogate", "around": around})
    detail = loads(dumps(describe(error, hop="A.a")))
    back = rebuild(detail)
    assert isinstance(back, Exception)
    assert not isinstance(back, KeyboardInterrupt | SystemExit | GeneratorExit | StopIteration | asyncio.CancelledError)
    assert isinstance(contained(error), Exception)


@pytest.mark.parametrize("kind", OWN)
def test_an_odd_exception_has_a_text(kind: str) -> None:
    error = made({"kind": kind})
    assert len(said(error)) < MAX_TEXT + 200
    detail = describe(error, hop="A.a")
    assert detail.text
    is_tame(error)


# -- aside


async def test_what_never_ends_is_told_without() -> None:
    before = threading.active_count()
    error = made({"kind": "TextNeverEnds"})
    assert not is_tame(error)
    assert await aside(lambda: text_of(error), lambda: "instead") == "instead"
    for thread in [t for t in threading.enumerate() if t.name == "nbcompose-telling"]:
        thread.join()  # it is ended
    assert threading.active_count() <= before


async def test_what_raises_is_told_without() -> None:
    assert await aside(lambda: 1 / 0, lambda: 2.0) == 2.0


async def test_a_caller_that_is_cancelled_meanwhile_has_something_to_say() -> None:
    began = threading.Event()

    def tell() -> str:
        began.set()
        return text_of(made({"kind": "TextNeverEnds"}))

    task = asyncio.create_task(aside(tell, lambda: "instead"))
    await asyncio.to_thread(began.wait)
    task.cancel()
    assert await task == "instead"


@pytest.mark.parametrize(
    ("error", "tame"),
    [
        (ValueError("a", 1), True),
        (InvalidArgument("no", [{"loc": ("x",), "msg": "m", "type": "t"}]), True),
        (ValueError(Counting()), False),
        (ValueError("x" * 10_000), False),
        (ExceptionGroup("g", [ValueError()]), False),
        (chained(3), True),
        (chained(100), False),
        (raising_services.TextRaises(), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_told_at_once_runs_no_code_of_users(error: Exception, tame: bool) -> None:
    assert is_tame(error) is tame


# -- what cannot be sent


class Unsendable:
    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> Any:
        raise self._error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            MemoryError(),
            "this process has not the memory to send the result to another (MemoryError): send less at once",
        ),
        (ValueError(), "cannot be sent to another process (ValueError): pass plain data instead"),
        (OSError(28, "No space"), "(OSError: [Errno 28] No space)"),
        (TypeError("cannot pickle it"), "(cannot pickle it): pass plain data instead"),
        (raising_services.TextRaises(), "(TextRaises: <its text is not available: RuntimeError>)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_sent_says_why(error: Exception, told: str) -> None:
    with pytest.raises(CallError) as caught:
        Encoder(None).encode([Unsendable(error)], "result")
    assert told in str(caught.value)
    assert isinstance(caught.value, InvalidResult) is not isinstance(error, MemoryError)


def raises(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), ValueError(), raising_services.TextRaises()])
def test_what_cannot_be_rebuilt_says_why(error: BaseException) -> None:
    class Odd:
        def __reduce__(self) -> Any:
            return raises, (error,)

    with pytest.raises(CodecError, match=type(error).__name__):
        loads(dumps(Odd()))


class Refusing(Exception):
    """Does not let itself be made again."""

    armed: type[BaseException] | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        if Refusing.armed is not None:
            raise Refusing.armed
        super().__setattr__(name, value)


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_class_that_refuses_to_be_rebuilt_is_a_remote_error(
    kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    detail = describe(Refusing("why"), hop="A.a")
    monkeypatch.setattr(Refusing, "armed", kind)
    back = rebuild(detail)
    assert type(back) is RemoteError
    assert "Refusing: why" in str(back)
