"""What a user writes on the methods of a service: `@api`, `@on_startup`, `@on_shutdown`.

They only leave a mark; reading.py reads it when the class becomes a service.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

from nbcompose.declaration.options import ApiOptions
from nbcompose.errors import DeclarationError

F = TypeVar("F", bound=Callable[..., Any])

API = "__nbcompose_api__"
HOOK = "__nbcompose_hook__"


@overload
def api(function: F, /) -> F: ...
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
) -> Callable[[F], F]: ...
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


def marks_of(cls: type, name: str) -> dict[str, tuple[Any, Any]]:
    """The members of a class that bear a mark: (member, mark) by attribute, in the order they were written.

    An overriding method has the mark of the one that it overrides, unless it has one of its own.
    """
    found: dict[str, tuple[Any, Any]] = {}
    for base in reversed(cls.__mro__):
        for attribute, member in vars(base).items():
            mark = _mark_of(member, name)
            if mark is not None:
                found[attribute] = member, mark
            elif attribute in found and callable(member):
                found[attribute] = member, found[attribute][1]
            else:
                found.pop(attribute, None)
    return found


def _mark_of(member: Any, name: str) -> Any:
    """Looked up in the member's own attributes: some objects have an answer to any name."""
    for holder in (
        member,
        getattr(member, "__func__", None) if isinstance(member, staticmethod | classmethod) else None,
    ):
        mark = getattr(holder, "__dict__", {}).get(name) if not isinstance(holder, type) else None
        if mark is not None:
            return mark
    return None
