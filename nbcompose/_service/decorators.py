"""The decorators of the declaration API: `@service`, `@api`, `@on_startup`, `@on_shutdown`.

`@api` and the hooks only mark a method; `_service/introspect.py` reads the marks when the class becomes a service.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, overload

from nbcompose._host import in_replica
from nbcompose._service.handle import Service, UnreadService
from nbcompose._service.introspect import API, HOOK, declare
from nbcompose.errors import DeclarationError

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
T = TypeVar("T")
Waited = TypeVar("Waited")
Given = TypeVar("Given")

# What type checkers know of an api: its parameters and its result, on the service's class and on an instance. For
# checkers only: at run time an api is the function that was written. `Answer.ask("…")` waits for the result, whatever
# kind of function `ask` is; `self.answer.ask("…")` of a dependency gives what the function gives.


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


@overload
def api(function: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]], /) -> Api[P, T, Coroutine[Any, Any, T]]: ...
@overload
def api(function: Callable[Concatenate[Any, P], AsyncIterator[T]], /) -> Api[P, Iterator[T], AsyncIterator[T]]: ...
@overload
def api(function: Callable[Concatenate[Any, P], T], /) -> Api[P, T, T]: ...
@overload
def api(
    *,
    name: str | None = None,
    route: str | None = None,
    batchable: bool = False,
    batch_dim: int | tuple[int, int] = 0,
    max_batch_size: int = 100,
    max_latency_ms: float | None = None,
    idempotent: bool = False,
    interruptible: bool = True,
    record: bool = True,
) -> ApiDecorator: ...
def api(function: Any = None, /, **options: Any) -> Any:
    """Make a method callable over HTTP, from other services and from the notebook.

    The method may be plain, `async`, a generator or an async generator. A method that overrides an api is an api too,
    with the same options. Mistakes are reported when the class becomes a service, all of them at once.

    Args:
        name: The name for callers; the method's name by default.
        route: The HTTP path; `/name` by default.
        batchable: Join concurrent calls into one.
        batch_dim: The dimension along which calls are joined: one number, or one for the input and one for the result.
        max_batch_size: The most items in a batch (a list, array or tensor).
        max_latency_ms: Milliseconds that the first call of a batch waits at most for others; not at all by default.
        idempotent: Running a call twice does no harm, so it is sent again if its replica dies before it answers.
        interruptible: False: if a call that is not `async` runs on after its caller has gone, do not interrupt it (see
            the option `--interrupt-after`), because it would leave something broken behind.
        record: False: never keep this api's arguments and answers for traces.

    Returns:
        The method itself, or a decorator if options are given.

    Raises:
        DeclarationError: It decorates something that is not a method.
    """

    def mark(method: Any) -> Any:
        return _mark(method, API, options, "@api")

    return mark if function is None else mark(function)


def on_startup(method: F) -> F:
    """Call this method (plain or `async`) in each replica after `__init__`, before the first call.

    Args:
        method: A method that needs no arguments besides `self`.

    Returns:
        The method itself.

    Raises:
        DeclarationError: It decorates something that is not a method.
    """
    marked: F = _mark(method, HOOK, "startup", "@on_startup")
    return marked


def on_shutdown(method: F) -> F:
    """Call this method (plain or `async`) in each replica after its last call, before it ends.

    Args:
        method: A method that needs no arguments besides `self`.

    Returns:
        The method itself.

    Raises:
        DeclarationError: It decorates something that is not a method.
    """
    marked: F = _mark(method, HOOK, "shutdown", "@on_shutdown")
    return marked


def _mark(method: Any, name: str, value: Any, decorator: str) -> Any:
    if isinstance(method, type) or not (callable(method) or isinstance(method, classmethod)):
        hint = "; options are given by name, e.g. @api(name=...)" if isinstance(method, str) else ""
        what = "a property" if isinstance(method, property) else repr(method)
        raise DeclarationError(f"{decorator} goes on a method, not on {what}{hint}")
    setattr(method, name, value)
    return method


# To type checkers it stays the class, whose apis have types. (mypy ignores what a class decorator returns anyway.)
@overload
def service(cls: type[T], /) -> type[T]: ...
@overload
def service(**options: Any) -> Callable[[type[T]], type[T]]: ...
def service(cls: type[Any] | None = None, /, **options: Any) -> Any:
    """Make a class a service.

    Args:
        name: The service's name; the class's by default.
        device: "cpu", "cuda", "cuda:1" or "mps".
        replicas: The number of processes; also called `workers`.
        threads: Worker threads of each replica, for apis that are not `async`.
        resources: A dict with some of "cpu", "gpu", "memory".
        traffic: A dict with some of "timeout" (seconds), "max_concurrency", "max_queue", "interrupt_after" (seconds),
            "replace_after" (seconds).
        envs: Environment variables of the replicas.
        http: A dict with some of "port", "host", "cors", "max_body", "max_values".
        strict: Refuse to start if there is not enough memory.
        openai: Also answer `/v1/chat/completions` and `/v1/models`, as OpenAI's clients call them, with the language
            models (`nbcompose.llms`) that the instance has as attributes.

    Returns:
        The service, or a decorator if options are given.

    Raises:
        DeclarationError: With every mistake, each with its file and line.
    """

    def wrap(decorated: type[Any]) -> Service:
        if in_replica() and isinstance(decorated, type):  # the owner process has validated it already
            return UnreadService(decorated, options.get("name"), lambda: declare(decorated, options))
        return Service(declare(decorated, options))

    return wrap if cls is None else wrap(cls)


def as_service(entry: Any) -> Service:
    """Return a service as it is, or that of a class. Raises `DeclarationError`."""
    return entry if isinstance(entry, Service) else Service(declare(entry, {}))
