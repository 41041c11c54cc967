"""Which calls of dependencies are found in a service's code, and how they call."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from nbcompose._code.dependency_calls import calls_of
from nbcompose._code.diff import DependencyCall
from nbcompose._service.decorators import api
from nbcompose._service.dependency import depends
from nbcompose._service.introspect import declare


def named(f: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(f)
    def wrapper(self: Any, *args: Any) -> Any:
        return f(self, *args)

    return wrapper


def unnamed(f: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(self: Any) -> Any:
        return f(self)

    return wrapper


class Base:
    w: Any

    def inherited(self) -> None:
        self.w.base()


class Caller(Base):
    w = depends("Writer")
    far = depends(url="http://127.0.0.1:1")
    x: Any = None

    @api
    def plain(self) -> None:
        self.w.f(1, 2, limit=3)

    async def forms(self) -> None:
        await self.w.to_async.f(1)
        self.w.to_sync.f(*[1])
        self.w.f(**dict(a=1), b=2)  # noqa: C408

    def nested(self) -> None:
        def inner() -> Any:
            return [self.w.a(x) for x in (lambda: self.w.b())()]

        inner()

    def long(self) -> str:
        text = """
at the margin
"""
        return str(
            self.w.f(
                1,
                # why
                b=text,
            )
        )

    @named
    def decorated(self) -> None:
        self.w.named()

    @unnamed
    def wrapped(self) -> None:
        self.w.unnamed()

    def another_name(me) -> None:  # noqa: N805
        me.w.f(self=1)

    @property
    def prop(self) -> Any:
        return self.w.prop()

    short = lambda self: self.w.short(1)  # noqa: E731

    @staticmethod
    def none(x: Any) -> None:
        x.y.z()

    def others(self) -> None:
        self.x.f()
        self.far.f()
        self.w.f  # not called
        other = self
        other.w.f()  # not followed
        self.w.f.g()


def found(method: str) -> list[DependencyCall]:
    spec = declare(Caller, {})
    return [c for c in calls_of(spec, [Caller, Base]) if c.caller == f"Caller.{method}"]


def shapes(method: str) -> list[tuple[str, int, tuple[str, ...], bool]]:
    return [(c.api, c.positional, c.keywords, c.open) for c in found(method)]


def test_a_call() -> None:
    [call] = found("plain")
    assert call.attribute == "w"
    assert shapes("plain") == [("f", 2, ("limit",), False)]
    line = vars(Caller)["plain"].__code__.co_firstlineno + 2
    assert (call.where.file, call.where.line) == (__file__, line)


def test_its_forms() -> None:
    assert shapes("forms") == [("f", 1, (), False), ("f", 1, (), True), ("f", 0, ("b",), True)]


def test_calls_in_functions_and_comprehensions() -> None:
    assert sorted(shapes("nested")) == [("a", 1, (), False), ("b", 0, (), False)]


def test_a_call_of_several_lines_after_a_text_at_the_margin() -> None:
    assert shapes("long") == [("f", 1, ("b",), False)]
    assert found("long")[0].where.line == Caller.long.__code__.co_firstlineno + 5


def test_decorated_methods() -> None:
    assert shapes("decorated") == [("named", 0, (), False)]
    assert shapes("wrapped") == [("unnamed", 0, (), False)]


def test_other_kinds_of_members() -> None:
    assert shapes("another_name") == [("f", 0, ("self",), False)]
    assert shapes("prop") == [("prop", 0, (), False)]
    assert shapes("short") == [("short", 1, (), False)]
    assert shapes("inherited") == [("base", 0, (), False)]


def test_what_is_no_call_of_a_dependency() -> None:
    assert shapes("others") == []
    assert shapes("none") == []


def test_code_without_source() -> None:
    class Made:
        w = depends("Writer")

        @api
        def f(self) -> None: ...

        exec("def g(self):\n    self.w.f()")

    assert list(calls_of(declare(Made, {}), [Made])) == []


def test_without_dependencies_nothing_is_read() -> None:
    class Alone:
        w: Any = None

        @api
        def f(self) -> None:
            self.w.f()

    assert list(calls_of(declare(Alone, {}), [Alone])) == []
