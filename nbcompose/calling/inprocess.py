"""`Answer()`: a service and everything below it in this process, for unit tests.

Arguments and results go through the same schema as those of a served one, dependencies are called the same way and
raise the same errors (checked.py). What belongs to a server is left out: time-outs, limits on concurrency, joining of
batches.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import sys
import types
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

from nbcompose import topology
from nbcompose.calling.caller import Args, Kwargs, find_api
from nbcompose.calling.checked import checked, within
from nbcompose.calling.portal import background
from nbcompose.calling.proxy import DeclaredProxy
from nbcompose.calling.url_client import UrlCaller
from nbcompose.declaration import Dependency, Service, declare
from nbcompose.declaration.dependency import check_dependencies
from nbcompose.errors import DeclarationError
from nbcompose.schema import ApiSchema
from nbcompose.schema.hints import renew
from nbcompose.spec import ApiSpec, DependencySpec, ServiceSpec
from nbcompose.tracing import CallContext
from nbcompose.wire.named import newest

Find = Callable[[str], Service | None]


def build(service: Service, find: Find | None = None) -> Any:
    """An instance of `service`, connected to instances of what it depends on.

    `find` looks up services that are named by text: in the modules of the classes that name them by default. Raises
    `DeclarationError` where one is not found, and `CycleError`.
    """
    services = collect(service, find)
    topology.check_acyclic([s.spec for s in services.values()])
    built: dict[str, InProcessCaller] = {}
    for name in topology.order(topology.edges(s.spec for s in services.values())):
        spec = services[name].spec
        built[name] = InProcessCaller(name, spec.apis, _instance(spec, built))
    return built[service.name].instance


def collect(service: Service, find: Find | None = None) -> dict[str, Service]:
    """`service` and every service below it in this process, by name.

    Raises `DeclarationError` for a name that is not known, or that two services have.
    """
    found = {service.name: service}
    todo = [service]
    while todo:
        current = todo.pop()
        for spec in current.spec.dependencies:
            if spec.url is not None:
                continue
            target = _target(current, spec, find)
            known = found.get(target.name)
            if known is None:
                found[target.name] = target
                todo.append(target)
            elif known.inner is not target.inner:
                raise DeclarationError(
                    f"two services are called {target.name!r}, at {known.spec.location} and at {target.spec.location}: "
                    "give one another name, @service(name=...)"
                )
    return found


def _declared(cls: type[Any], attribute: str) -> Dependency:
    dependency = inspect.getattr_static(cls, attribute)
    assert isinstance(dependency, Dependency)
    return dependency


def _target(service: Service, spec: DependencySpec, find: Find | None) -> Service:
    target = _declared(service.inner, spec.attribute).target
    if isinstance(target, Service):
        return target
    if isinstance(target, type):
        return Service(declare(target, {}))
    found = (find or _beside(service))(spec.service)
    if found is None:
        raise DeclarationError(
            f"{service.name} depends on {spec.service!r}, by name, and no service of that name is known in this process"
        )
    return found


def _beside(service: Service) -> Find:
    """Services of the module, or the notebook, where `service` was written."""
    module = sys.modules.get(service.inner.__module__)
    known = {s.name: s for s in vars(module).values() if isinstance(s, Service)} if module is not None else {}
    return known.get


def _instance(spec: ServiceSpec, built: dict[str, InProcessCaller]) -> Any:
    """An object of a subclass whose apis validate and whose dependencies are the instances in `built`."""
    members: dict[str, Any] = {"__module__": spec.cls.__module__, "__qualname__": spec.cls.__qualname__}
    for dependency in spec.dependencies:
        caller = _caller(spec.cls, dependency, built)
        members[dependency.attribute] = DeclaredProxy(caller, f"self.{dependency.attribute}")
    for api in spec.apis:
        method = getattr(spec.cls, api.method)
        renew(method, newest)
        members[api.method] = checked(method, api, ApiSchema.of(spec.cls, api))
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
    cls: type[Any], dependency: DependencySpec, built: dict[str, InProcessCaller]
) -> InProcessCaller | UrlCaller:
    if dependency.url is None:
        return built[dependency.service]
    return UrlCaller(dependency.url, _declared(cls, dependency.attribute).token, background())


class InProcessCaller:
    """A `Caller` (see caller.py) of an instance in this process."""

    def __init__(self, service: str, apis: tuple[ApiSpec, ...], instance: Any) -> None:
        self.service = service
        self.instance = instance
        self._apis = apis

    def apis(self) -> tuple[ApiSpec, ...]:
        return self._apis

    async def learn(self, api: str, context: CallContext) -> ApiSpec:
        return self.learn_sync(api, context)

    def learn_sync(self, api: str, context: CallContext) -> ApiSpec:
        return find_api(self.service, self._apis, api)

    def blocks(self, context: CallContext) -> bool:
        """As in a replica, where an async api runs on the event loop; here that may be anybody's."""
        return context.on_loop and _on_a_loop()

    async def call(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> Any:
        spec, method = self._method(api)
        if spec.is_async:
            return await method(*args, **kwargs)
        return await _in_thread(method, *args, **kwargs)

    async def stream(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> AsyncGenerator[Any, None]:
        spec, method = self._method(api)
        if spec.is_async:
            async with contextlib.aclosing(method(*args, **kwargs)) as items:
                async for item in items:
                    yield item
            return
        generator: Generator[Any, None, None] = method(*args, **kwargs)
        try:
            while (item := await _in_thread(next, generator, _END)) is not _END:
                yield item
        finally:
            with contextlib.suppress(ValueError):  # it runs, in a thread that cannot be stopped
                generator.close()

    def call_sync(self, api: ApiSpec, args: Args, kwargs: Kwargs, context: CallContext) -> Any:
        method = getattr(self.instance, api.method)
        if not api.is_async:
            return method(*args, **kwargs)
        portal = background()  # an async api, called by sync code: on the process's own loop
        if api.stream:
            return portal.iterate(method(*args, **kwargs))
        return portal.run(method(*args, **kwargs))

    def _method(self, name: str) -> tuple[ApiSpec, Any]:
        api = find_api(self.service, self._apis, name)
        return api, getattr(self.instance, api.method)


async def _in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """As `asyncio.to_thread`, which copies an error from future to future, and so makes of a TimeoutError another one,
    without its frames.
    """

    def work() -> Any:
        try:
            return None, function(*args, **kwargs)
        except BaseException as error:
            return error, None

    error, result = await asyncio.to_thread(work)
    if error is not None:
        raise error
    return result


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


_END = object()

Service.build = build
