"""In-process services: `Answer()` creates a service and its dependencies in this process, for unit tests.

Arguments and results are validated by the same schemas as in a replica; dependencies are called in the same way and
raise the same errors. Calls of the instance to its own methods are not validated, as in a replica. Features of a server
are left out: timeouts, concurrency limits, joining of batches.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import sys
import types
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from nbcompose._replica import batching
from nbcompose._replica.local_stream import LocalStream
from nbcompose._rpc import (
    Args,
    Client,
    DeclaredProxy,
    HttpTransport,
    Kwargs,
    ServiceStream,
    Transport,
    background,
    find_api,
    in_thread,
    misplaced_argument,
    newest,
)
from nbcompose._schema import ApiSchema, check_awaited, is_stream, renew
from nbcompose._service import Dependency, Service, check_dependencies, declare, dependency_graph
from nbcompose._spec import ApiSpec, DependencySpec, ServiceSpec
from nbcompose._tracing import CallContext, current_call
from nbcompose._units import did_you_mean
from nbcompose._user_exceptions import contained, passes
from nbcompose.errors import DeclarationError, InvalidArgument, NbcomposeError, UnknownApi

# The instance whose code is running. Weak, because a context lives as long as the connections that were opened in it.
_inside: ContextVar[weakref.ref[Any] | None] = ContextVar("nbcompose_inside", default=None)


@contextlib.contextmanager
def within(instance: Any, context: CallContext | None = None) -> Iterator[None]:
    """Mark that code of `instance` is running, as part of a call or during its creation."""
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


class _contained:  # noqa: N801  named like those of contextlib
    """Converts exceptions that would end more than a call to errors of the call, as a replica does; not interrupts."""

    def __init__(self, *, on_loop: bool) -> None:
        self._on_loop = on_loop

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, tb: object) -> None:
        if error is None or issubclass(type(error), KeyboardInterrupt) or (self._on_loop and passes(error)):
            return
        told = contained(error)
        if told is not error:
            raise told from error


def checked(method: Callable[..., Any], service: str, api: ApiSpec, schema: ApiSchema) -> Callable[..., Any]:
    """Return `method` of a service wrapped with the validation and the errors that it has in a replica."""
    wrap = _STREAMS[api.is_async] if api.stream else _UNARY[api.is_async]
    wrapped = wrap(method, api, schema)

    @functools.wraps(method)
    def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        inside = _inside.get()
        if inside is not None and inside() is self:
            return method(self, *args, **kwargs)
        for value in (*args, *kwargs.values()):  # between processes, pickling raises these errors
            if not (isinstance(value, ServiceStream) or (api.stream_params and is_stream(value))):
                check_awaited(value)
        try:
            given = schema.bind(args, kwargs)
            for name, value in given.items():
                if name not in api.stream_params and isinstance(value, ServiceStream):
                    raise misplaced_argument(service, api, name, value)
            arguments = schema.validate(given)
        except InvalidArgument as error:
            raise error.from_below()  # noqa: B904  it is the same error
        streams = _opened(schema, arguments)
        args, kwargs = schema.call_arguments(arguments)
        try:
            called = wrapped(self, args, kwargs)
        except BaseException:
            _then_closed(None, streams)
            raise
        return _CLOSED[api.stream, api.is_async](called, streams) if streams else called

    return call


def _opened(schema: ApiSchema, arguments: dict[str, Any]) -> list[LocalStream]:
    """Put what the api reads in place of the streams among the arguments; return these."""
    streams = []
    for name, param in schema.streams.items():
        value = arguments.get(name)
        if value is not None:
            check = None if isinstance(value, list) else param.item
            stream = LocalStream(name, check, value, background(), is_async=schema.spec.is_async)
            arguments[name] = stream
            streams.append(stream)
    return streams


def _then_closed(result: Any, streams: list[LocalStream]) -> Any:
    for stream in streams:
        stream.close()
    return result


async def _then_closed_async(call: Coroutine[Any, Any, Any], streams: list[LocalStream]) -> Any:
    try:
        return await call
    finally:
        for stream in streams:
            await stream.aclose()


def _items_then_closed(items: Generator[Any, None, None], streams: list[LocalStream]) -> Generator[Any, None, None]:
    try:
        yield from items
    finally:
        for stream in streams:
            stream.close()


async def _items_then_closed_async(
    items: AsyncGenerator[Any, None], streams: list[LocalStream]
) -> AsyncGenerator[Any, None]:
    try:
        async with contextlib.aclosing(items):
            async for item in items:
                yield item
    finally:
        for stream in streams:
            await stream.aclose()


# By whether the api yields, and whether it is async.
_CLOSED: Mapping[tuple[bool, bool], Callable[[Any, list[LocalStream]], Any]] = {
    (False, False): _then_closed,
    (False, True): _then_closed_async,
    (True, False): _items_then_closed,
    (True, True): _items_then_closed_async,
}


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
                # Not around the yield: code of the consumer is not part of this call.
                with within(self, context), _contained(on_loop=False):
                    item = next(items, _END)
                if item is _END:
                    return
                yield schema.check_result(item, "yielded")
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
                yield schema.check_result(item, "yielded")
        finally:
            with within(self, context):
                await items.aclose()

    return call


def _result(api: ApiSpec, schema: ApiSchema, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
    check_awaited(result)
    if api.batch is not None:
        dim_in, dim_out = api.batch.batch_dim
        items = args[0] if args else kwargs[api.params[0].name]
        size = batching.item_count(api.name, items, dim_in)
        [result] = batching.split_result(api.name, result, [(items, size)], dim_out)
        if isinstance(result, batching.FailedResult):
            raise result.error
    return schema.check_result(result)


_END = object()
_UNARY = {False: _unary, True: _unary_async}
_STREAMS = {False: _stream, True: _stream_async}


def build(service: Service) -> Any:
    """Return an instance of `service`, connected to instances of its dependencies. Raises as `collect`, and
    `CycleError`.
    """
    services = collect(service)
    dependency_graph.check_acyclic([s.spec for s in services.values()])
    built: dict[str, InProcessTransport] = {}
    for name in dependency_graph.order(dependency_graph.edges(s.spec for s in services.values())):
        spec = services[name].spec
        built[name] = InProcessTransport(name, spec.apis, _instance(spec, built))
    return built[service.name].instance


def collect(*entries: Service) -> dict[str, Service]:
    """Return services and all their direct and indirect dependencies in this process, by name.

    A dependency given by name is looked up in the module of the class that names it, then in those of `entries`.
    Raises `DeclarationError` for a name that is unknown, or that two services have.
    """
    found: dict[str, Service] = {}
    todo = list(reversed(entries))
    while todo:
        service = todo.pop()
        known = found.get(service.name)
        if known is None:
            found[service.name] = service
            todo += [_target(service, d, entries) for d in service.spec.dependencies if d.url is None]
        elif known.inner is not service.inner:
            raise DeclarationError(
                f"two services are called {service.name!r}, at {known.spec.location} and at {service.spec.location}: "
                "give one another name, @service(name=...)"
            )
    return found


def _declared(cls: type[Any], attribute: str) -> Dependency:
    dependency = inspect.getattr_static(cls, attribute)
    assert isinstance(dependency, Dependency)
    return dependency


def _target(service: Service, dependency: DependencySpec, entries: Sequence[Service]) -> Service:
    target = _declared(service.inner, dependency.attribute).target
    if isinstance(target, Service):
        return target
    if isinstance(target, type):
        return Service(declare(target, {}))
    known = []
    for beside in (service, *entries):
        module = sys.modules.get(beside.inner.__module__)  # of a notebook: __main__
        for value in vars(module).values() if module is not None else ():
            if isinstance(value, Service):
                if value.name == dependency.service:
                    return value
                known.append(value.name)
    raise DeclarationError(
        f"{service.name} depends on {dependency.service!r}, by name, and no service of that name is known in this "
        f"process{did_you_mean(dependency.service, known)}"
    )


def _instance(spec: ServiceSpec, built: dict[str, InProcessTransport]) -> Any:
    """Return an instance of a subclass whose apis validate and whose dependencies are the instances in `built`."""
    members: dict[str, Any] = {"__module__": spec.cls.__module__, "__qualname__": spec.cls.__qualname__}
    for dependency in spec.dependencies:
        caller = _caller(spec.cls, dependency, built)
        members[dependency.attribute] = DeclaredProxy(caller, f"self.{dependency.attribute}")
    for api in spec.apis:
        method = getattr(spec.cls, api.method)
        renew(method, newest)
        members[api.method] = checked(method, spec.name, api, ApiSchema.of(spec.cls, api))
    cls: Any = types.new_class(spec.cls.__name__, (spec.cls,), exec_body=lambda body: body.update(members))
    instance = cls.__new__(cls)
    with within(instance):
        instance.__init__()
        check_dependencies(instance)
        for hook in spec.on_startup:
            result = getattr(instance, hook)()
            if inspect.iscoroutine(result):
                background().run(result)
    return instance


def _caller(
    cls: type[Any], dependency: DependencySpec, built: dict[str, InProcessTransport]
) -> InProcessTransport | HttpTransport:
    if dependency.url is None:
        return built[dependency.service]
    return HttpTransport(dependency.url, _declared(cls, dependency.attribute).token, background())


class InProcessTransport:
    """A `Caller` (see transport.py) of an instance in this process."""

    def __init__(self, service: str, apis: tuple[ApiSpec, ...], instance: Any) -> None:
        self.service = service
        self.instance = instance
        self._apis = apis

    def apis(self) -> tuple[ApiSpec, ...]:
        return self._apis

    def unknown(self, error: UnknownApi) -> UnknownApi:
        return error

    async def learn(self, api: str, context: CallContext) -> ApiSpec:
        return self.learn_sync(api, context)

    def learn_sync(self, api: str, context: CallContext) -> ApiSpec:
        return find_api(self.service, self._apis, api)

    def blocks(self, context: CallContext) -> bool:
        """Whether waiting would block an event loop: as in a replica for an async api, but on any running loop."""
        return context.on_loop and _on_a_loop()

    async def call(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> Any:
        spec, method = self._method(api)
        if spec.is_async:
            return await method(*args, **kwargs)
        return await in_thread(method, *args, **kwargs)

    async def stream(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> AsyncGenerator[Any, None]:
        spec, method = self._method(api)
        if spec.is_async:
            async with contextlib.aclosing(method(*args, **kwargs)) as items:
                async for item in items:
                    yield item
            return
        generator: Generator[Any, None, None] = method(*args, **kwargs)
        try:
            while (item := await in_thread(next, generator, _END)) is not _END:
                yield item
        finally:
            with contextlib.suppress(ValueError):  # it is running, in a thread that cannot be stopped
                generator.close()

    def call_sync(self, api: ApiSpec, args: Args, kwargs: Kwargs, context: CallContext) -> Any:
        method = getattr(self.instance, api.method)
        if not api.is_async:
            return method(*args, **kwargs)
        portal = background()  # an async api called by synchronous code runs on the process's background loop
        if api.stream:
            return portal.iterate(method(*args, **kwargs))
        return portal.run(method(*args, **kwargs))

    def reference(self, api: str, args: Args, kwargs: Kwargs, context: CallContext, to: Transport) -> None:
        return None

    def reaches(self, client: Client) -> bool:
        return False

    def sent(self, value: Any, inbox: object) -> Any:
        """Streams are passed as they are: both ends are in this process."""
        return value

    def _method(self, name: str) -> tuple[ApiSpec, Any]:
        api = find_api(self.service, self._apis, name)
        return api, getattr(self.instance, api.method)


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
