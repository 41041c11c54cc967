"""What type checkers know of an api: its parameters and its result, on the service's class and on an instance.

For checkers only: at run time an api is the function that was written. `Answer.ask("…")` waits for the result, whatever
kind of function `ask` is; `self.answer.ask("…")` of a dependency gives what the function gives.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, overload

P = ParamSpec("P")
T = TypeVar("T")
Waited = TypeVar("Waited")
Given = TypeVar("Given")


class ApiCall(Generic[P, T]):
    """An api that can be called."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        raise NotImplementedError

    def options(self, *, timeout: float) -> Self:
        """The same api, whose calls may take `timeout` seconds."""
        raise NotImplementedError


class Api(Generic[P, Waited, Given]):
    """An api as an attribute. `Waited` is what `Answer.ask(...)` returns, `Given` what the method itself does."""

    @overload
    def __get__(self, instance: None, owner: type, /) -> ApiCall[P, Waited]: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None, /) -> ApiCall[P, Given]: ...
    def __get__(self, instance: object, owner: type | None = None, /) -> Any:
        raise NotImplementedError


class ApiDecorator(Protocol):
    """`@api`, or `@api(...)` with options."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]], /
    ) -> Api[P, T, Coroutine[Any, Any, T]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, P], AsyncIterator[T]], /
    ) -> Api[P, Iterator[T], AsyncIterator[T]]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], T], /) -> Api[P, T, T]: ...
