"""The decorators of the declaration API: `@service`, `@api`, `@on_startup`, `@on_shutdown`.

They only leave a mark; introspect.py reads it when the class becomes a service.

Marks on methods are decorators.py's, dependencies dependency.py's, a class is read into a spec by introspect.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, TypeVar, overload

from nbcompose._host import in_replica
from nbcompose._service.handle import Service, UnreadService
from nbcompose._service.introspect import API, HOOK, declare
from nbcompose._service.options import ApiOptions
from nbcompose._service.typed import Api, ApiDecorator, P, T
from nbcompose.errors import DeclarationError

F = TypeVar("F", bound=Callable[..., Any])


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
) -> ApiDecorator: ...
def api(function: Any = None, /, **options: Any) -> Any:
    """Make a method one that others may call: over HTTP, from other services, from the notebook.

    The method may be plain, `async`, a generator or an async generator. `name` is what callers say (the method's name
    by default), `route` its HTTP path (`/name`). `batchable=True` joins concurrent calls along `batch_dim` (one
    number, or one for the input and one for the result) into lists, arrays or tensors of at most `max_batch_size`
    items; the first call waits at most `max_latency_ms` milliseconds for company, and not at all by default.
    `idempotent=True`: to run twice does no harm, so a call whose replica dies before it answers is sent again.

    `interruptible=False`: a call that is not `async` is left alone when it runs on after its caller has gone (see the
    option `--interrupt-after`), because it would leave something behind that is broken.

    A method that overrides one with this mark is an api too, under the same options.

    Mistakes are reported when the class becomes a service, all of them at once.
    """

    def mark(method: Any) -> Any:
        return _mark(method, API, ApiOptions(options), "@api")

    return mark if function is None else mark(function)


def on_startup(method: F) -> F:
    """Call this method (plain or `async`) in each replica after `__init__`, before the first call."""
    marked: F = _mark(method, HOOK, "startup", "@on_startup")
    return marked


def on_shutdown(method: F) -> F:
    """Call this method (plain or `async`) in each replica after its last call, before it ends."""
    marked: F = _mark(method, HOOK, "shutdown", "@on_shutdown")
    return marked


def _mark(method: Any, name: str, value: Any, decorator: str) -> Any:
    if isinstance(method, type) or not (callable(method) or isinstance(method, classmethod)):
        hint = "; options are given by name, e.g. @api(name=...)" if isinstance(method, str) else ""
        raise DeclarationError(f"{decorator} goes on a method, not on {method!r}{hint}")
    setattr(method, name, value)
    return method


@overload
def service(cls: type[Any], /) -> Service: ...
@overload
def service(**options: Any) -> Callable[[type[Any]], Service]: ...
def service(cls: type[Any] | None = None, /, **options: Any) -> Any:
    """Make a class a service.

    Options: `name`; `device` ("cpu", "cuda", "cuda:1", "mps"); `replicas` (also `workers`), processes; `threads`,
    worker threads of each replica for apis that are not `async`; `resources` {"cpu", "gpu", "memory"};
    `traffic` {"timeout" in seconds, "max_concurrency", "max_queue"}; `envs`, environment variables;
    `http` {"port", "cors"}; `strict`, refuse to start where memory falls short.

    Raises `DeclarationError` with every mistake, each with its file and line.
    """

    def wrap(decorated: type[Any]) -> Service:
        if in_replica() and isinstance(decorated, type):  # the owner has read it already
            return UnreadService(decorated, options.get("name"), lambda: declare(decorated, options))
        return Service(declare(decorated, options))

    return wrap if cls is None else wrap(cls)
