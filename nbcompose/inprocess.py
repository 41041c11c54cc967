"""`Answer()`: a service and everything below it in this process, for unit tests.

Arguments and results go through the same schema as those of a served one, dependencies are called the same way and
raise the same errors. What belongs to a server is left out: time-outs, limits on concurrency, joining of batches.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import types
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

from nbcompose import graph
from nbcompose.declaration import Dependency, Service, declare
from nbcompose.errors import DeclarationError
from nbcompose.portal import Portal, background
from nbcompose.proxy import Proxy
from nbcompose.schema import ApiSchema
from nbcompose.spec import ApiSpec, DependencySpec
from nbcompose.tracing import CallContext, current_call
from nbcompose.url_client import UrlCaller

Find = Callable[[str], Service | None]


def build(service: Service, find: Find = lambda name: None) -> Any:
    """An instance of `service`, connected to instances of what it depends on.

    `find` looks up services that are named by text. Raises `DeclarationError` where one is not found, `CycleError`.
    """
    services = collect(service, find)
    graph.check_acyclic([s.spec for s in services.values()])
    built: dict[str, Any] = {}
    for name in graph.order(graph.edges(s.spec for s in services.values())):
        built[name] = _instance(services[name], built)
    return built[service.name]


def collect(service: Service, find: Find) -> dict[str, Service]:
    """`service` and every service below it in this process, by name. Raises `DeclarationError`."""
    found = {service.name: service}
    todo = [service]
    while todo:
        current = todo.pop()
        for spec in current.spec.dependencies:
            if spec.url is None and spec.service not in found:
                found[spec.service] = _target(current, spec, find)
                todo.append(found[spec.service])
    return found


def _declared(service: Service, attribute: str) -> Dependency:
    dependency = inspect.getattr_static(service.inner, attribute)
    assert isinstance(dependency, Dependency)
    return dependency


def _target(service: Service, spec: DependencySpec, find: Find) -> Service:
    target = _declared(service, spec.attribute).target
    if isinstance(target, type):
        return Service(declare(target, {}))
    found = target if isinstance(target, Service) else find(spec.service)
    if found is None:
        raise DeclarationError(
            f"{service.name} depends on {spec.service!r}, by name, and no service of that name is known in this process"
        )
    return found


def _instance(service: Service, built: dict[str, Any]) -> Any:
    """An object of a subclass whose apis validate and whose dependencies are the instances in `built`."""
    spec = service.spec
    members: dict[str, Any] = {"__module__": spec.cls.__module__, "__qualname__": spec.cls.__qualname__}
    for dependency in spec.dependencies:
        if dependency.url is None:
            caller = InProcessCaller(dependency.service, built[dependency.service])
            members[dependency.attribute] = Proxy(caller)
        else:
            token = _declared(service, dependency.attribute).token
            portal: Portal = background()
            members[dependency.attribute] = Proxy(UrlCaller(dependency.url, token, portal))
    schemas = {api.name: ApiSchema.of(spec.cls, api) for api in spec.apis}
    for api in spec.apis:
        members[api.method] = _checked(getattr(spec.cls, api.method), api, schemas[api.name])
    checked: Any = types.new_class(spec.cls.__name__, (spec.cls,), exec_body=lambda body: body.update(members))
    instance = checked()
    instance.__dict__["__nbcompose_apis__"] = spec.apis
    for hook in spec.on_startup:
        result = getattr(instance, hook)()
        if inspect.iscoroutine(result):
            background().run(result)
    return instance


def _checked(method: Any, api: ApiSpec, schema: ApiSchema) -> Any:
    """The method, with the validation that a served one has."""

    def prepare(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return schema.call_arguments(schema.validate(schema.bind(args, kwargs)))

    @contextlib.contextmanager
    def running(on_loop: bool) -> Iterator[None]:
        outer = current_call.get()
        context = CallContext(outer.deadline, outer.trace_id) if outer else CallContext()
        context.on_loop = on_loop
        token = current_call.set(context)
        try:
            yield
        finally:
            current_call.reset(token)

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = prepare(args, kwargs)
        with running(on_loop=False):
            result = method(self, *args, **kwargs)
        for item in result if isinstance(result, list) and api.batch is not None else ():
            if isinstance(item, Exception):
                raise item
        return schema.check_result(result)

    async def call_async(self: Any, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = prepare(args, kwargs)
        with running(on_loop=True):
            return schema.check_result(await method(self, *args, **kwargs))

    def stream(self: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        args, kwargs = prepare(args, kwargs)
        return map(schema.check_item, method(self, *args, **kwargs))

    async def stream_async(self: Any, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        args, kwargs = prepare(args, kwargs)
        async with contextlib.aclosing(method(self, *args, **kwargs)) as items:
            async for item in items:
                yield schema.check_item(item)

    chosen = {(False, False): call, (False, True): call_async, (True, False): stream, (True, True): stream_async}
    return functools.wraps(method)(chosen[api.stream, api.is_async])


class InProcessCaller:
    """A `Caller` (see proxy.py) of an instance in this process."""

    def __init__(self, service: str, instance: Any) -> None:
        self.service = service
        self._instance = instance

    def apis(self) -> tuple[ApiSpec, ...]:
        apis: tuple[ApiSpec, ...] = self._instance.__dict__["__nbcompose_apis__"]
        return apis

    def _method(self, name: str) -> tuple[ApiSpec, Any]:
        api = next(a for a in self.apis() if a.name == name)
        return api, getattr(self._instance, api.method)

    async def call(self, api: str, args: tuple[Any, ...], kwargs: dict[str, Any], context: CallContext) -> Any:
        spec, method = self._method(api)
        if spec.is_async:
            return await method(*args, **kwargs)
        return await asyncio.to_thread(method, *args, **kwargs)

    async def stream(
        self, api: str, args: tuple[Any, ...], kwargs: dict[str, Any], context: CallContext
    ) -> AsyncGenerator[Any, None]:
        spec, method = self._method(api)
        if spec.is_async:
            async for item in method(*args, **kwargs):
                yield item
            return
        items = method(*args, **kwargs)
        while (item := await asyncio.to_thread(next, items, _END)) is not _END:
            yield item

    def call_sync(
        self, api: ApiSpec | None, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], context: CallContext
    ) -> Any:
        spec, method = self._method(name)
        if not spec.is_async:
            return method(*args, **kwargs)
        portal = background()  # an async api, called by sync code: on the process's own loop
        if spec.stream:
            return portal.iterate(method(*args, **kwargs))
        return portal.run(method(*args, **kwargs))


_END = object()
