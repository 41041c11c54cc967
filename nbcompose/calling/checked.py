"""The methods of an in-process instance as a served one has them: validated, checked, in the context of a call.

What the instance itself calls of its own methods is left alone, as it is in a replica.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextvars import ContextVar
from typing import Any

from nbcompose.batching import joining
from nbcompose.errors import InvalidArgument, InvalidResult, NbcomposeError
from nbcompose.raised import contained, passes
from nbcompose.schema import ApiSchema
from nbcompose.spec import ApiSpec
from nbcompose.tracing import CallContext, current_call
from nbcompose.unawaited import check_awaited

# The instance whose code runs; weakly, because a context lives as long as the connections that were opened in it.
_inside: ContextVar[weakref.ref[Any] | None] = ContextVar("nbcompose_inside", default=None)


@contextlib.contextmanager
def within(instance: Any, context: CallContext | None = None) -> Iterator[None]:
    """The code of `instance` runs, as part of a call or while it is made."""
    inside = _inside.set(weakref.ref(instance))
    call = current_call.set(context) if context is not None else None
    try:
        yield
    except NbcomposeError as error:
        raise error.from_below()  # noqa: B904  it is the same error
    finally:
        _inside.reset(inside)
        if call is not None:
            current_call.reset(call)


class _contained:  # noqa: N801  as those of contextlib
    """What would end more than a call is an error of the call, as in a replica. An interrupt is the user's."""

    def __init__(self, *, on_loop: bool) -> None:
        self._on_loop = on_loop

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, tb: object) -> None:
        if error is None or issubclass(type(error), KeyboardInterrupt) or (self._on_loop and passes(error)):
            return
        told = contained(error)
        if told is not error:
            raise told from error


def checked(method: Callable[..., Any], api: ApiSpec, schema: ApiSchema) -> Callable[..., Any]:
    """`method` with the validation that it has in a replica, and the errors."""
    wrap = _STREAMS[api.is_async] if api.stream else _UNARY[api.is_async]
    wrapped = wrap(method, api, schema)

    @functools.wraps(method)
    def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        inside = _inside.get()
        if inside is not None and inside() is self:
            return method(self, *args, **kwargs)
        for value in (*args, *kwargs.values()):  # on the wire pickle finds them
            check_awaited(value)
        try:
            args, kwargs = schema.call_arguments(schema.validate(schema.bind(args, kwargs)))
        except InvalidArgument as error:
            raise error.from_below()  # noqa: B904  it is the same error
        return wrapped(self, args, kwargs)

    return call


def _context(*, on_loop: bool) -> CallContext:
    outer = current_call.get()
    context = CallContext()
    if outer is not None:
        context = CallContext(outer.deadline, outer.trace_id, 0, outer.trace_flags, outer.trace_state)
    context.on_loop = on_loop
    return context


def _unary(method: Any, api: ApiSpec, schema: ApiSchema) -> Callable[..., Any]:
    def call(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with within(self, _context(on_loop=False)), _contained(on_loop=False):
            result = method(self, *args, **kwargs)
        return _result(api, schema, args, kwargs, result)

    return call


def _unary_async(method: Any, api: ApiSpec, schema: ApiSchema) -> Callable[..., Any]:
    async def call(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with within(self, _context(on_loop=True)), _contained(on_loop=True):
            result = await method(self, *args, **kwargs)
        return _result(api, schema, args, kwargs, result)

    return call


def _stream(method: Any, api: ApiSpec, schema: ApiSchema) -> Callable[..., Any]:
    def call(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Generator[Any, None, None]:
        context = _context(on_loop=False)
        with within(self, context), _contained(on_loop=False):
            items = iter(method(self, *args, **kwargs))
        try:
            while True:
                # Not around the yield: what the consumer does meanwhile is no part of this call.
                with within(self, context), _contained(on_loop=False):
                    item = next(items, _END)
                if item is _END:
                    return
                yield schema.check_item(item)
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                with within(self, context):
                    close()

    return call


def _stream_async(method: Any, api: ApiSpec, schema: ApiSchema) -> Callable[..., Any]:
    async def call(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> AsyncGenerator[Any, None]:
        context = _context(on_loop=True)
        with within(self, context):
            items = method(self, *args, **kwargs)
        try:
            while True:
                with within(self, context), _contained(on_loop=True):
                    item = await anext(items, _END)
                if item is _END:
                    return
                yield schema.check_item(item)
        finally:
            with within(self, context):
                await items.aclose()

    return call


def _result(api: ApiSpec, schema: ApiSchema, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
    check_awaited(result)
    if api.batch is not None:
        items = args[0] if args else kwargs[api.params[0].name]
        _check_batch(api, items, result)
        result = joining.labelled(result, items)
    return schema.check_result(result)


def _check_batch(api: ApiSpec, items: Any, result: Any) -> None:
    """As many results as items, and none of them an exception, which would be its caller's (see batch.py)."""
    assert api.batch is not None
    dim_in, dim_out = api.batch.batch_dim
    try:
        wanted = joining.length(items, dim_in)
    except TypeError as error:
        raise InvalidArgument(f"{api.name} takes batches: {error}") from None
    try:
        count = joining.length(result, dim_out)
    except TypeError as error:
        raise InvalidResult(f"{api.name} must return one result for each input: {error}") from None
    if count != wanted:
        raise InvalidResult(f"{api.name}: got {count} results for {wanted} inputs")
    for item in result if isinstance(result, list | tuple) else ():
        if isinstance(item, Exception):
            raise item


_END = object()
_UNARY = {False: _unary, True: _unary_async}
_STREAMS = {False: _stream, True: _stream_async}
