"""`with nbcompose.run(Answer) as answer:` and `Answer.asgi()`: a graph in replicas, for programs and web servers.

What calls a service that runs here (`Handle`) is also what the notebook uses.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from types import TracebackType
from typing import Any

from prometheus_client.core import Metric

from nbcompose import settings
from nbcompose._control.registry import Registry
from nbcompose._control.serving import Graph, preload
from nbcompose._host import forking
from nbcompose._replica import ServiceMetrics, merge
from nbcompose._replica.http import Access, AsgiApp, metrics_of
from nbcompose._rpc import Proxy, Transport
from nbcompose._schema import ApiSchema
from nbcompose._service import Service, add_connector, service
from nbcompose._spec import ApiSpec, ServiceSpec
from nbcompose._tracing import CallContext
from nbcompose.errors import LaunchError, NbcomposeError, ServiceUnavailable

logger = logging.getLogger("nbcompose")

GRACE = 10.0  # seconds that calls in flight have at the end


class Handle:
    """A running service as a program calls it: its apis, and where it answers over HTTP."""

    def __init__(self, registry: Registry, name: str, transport: Transport) -> None:
        self._registry = registry
        self._name = name
        self._proxy = Proxy(transport)

    @property
    def to_async(self) -> Any:
        return self._proxy.to_async

    @property
    def to_sync(self) -> Any:
        return self._proxy.to_sync

    @property
    def url(self) -> str:
        return self._registry.url(self._name)

    @property
    def token(self) -> str:
        return self._registry.token(self._name) or ""

    def __getattr__(self, api: str) -> Any:
        return getattr(self._proxy, api)


class Run:
    """A graph that runs while a `with` or `async with` block does. Made by `run`; entered once."""

    def __init__(self, entries: tuple[Service, ...], http: bool, token: str | None, say: Callable[[str], None]) -> None:
        self._entries = entries
        self._http = http
        self._graph = Graph("127.0.0.1", 0, token, (), threading.Event(), say)
        self._registry: Registry | None = None
        self._disconnect: Callable[[], None] = lambda: None
        self._entered = False

    def __enter__(self) -> Any:
        if self._entered:
            raise NbcomposeError("this run has been entered already: call nbcompose.run(...) again")
        self._entered = True
        deployments = self._graph.pack(self._entries)
        if not self._http:
            deployments = [replace(d, exposed=False, token=None) for d in deployments]
        forking.raise_limit()  # a few files are needed for each replica
        registry = self._registry = Registry(preload=preload(deployments))
        try:
            registry.start()
            registry.subscribe(self._graph.show)
            for deployment in deployments:
                registry.deploy(deployment)
            for deployment in deployments:
                status = registry.wait(deployment.spec.name)
                if status.state != "ready":
                    raise LaunchError(status.error or f"{status.name} is {status.state}: {status.reason}")
            names = frozenset(d.spec.name for d in deployments)
            self._disconnect = add_connector(lambda found: self._handle(found.name) if found.name in names else None)
        except BaseException:
            registry.stop(grace=0.0)
            raise
        return self._entries[0] if len(self._entries) == 1 else self._entries

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._disconnect()
        if self._registry is not None:
            self._registry.stop(grace=GRACE if error is None else 0.0)

    async def __aenter__(self) -> Any:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.__exit__, kind, error, traceback)

    def _handle(self, name: str) -> Handle:
        assert self._registry is not None
        return Handle(self._registry, name, self._registry.caller(name))


def run(
    *entries: Any, http: bool = False, token: str | None = None, say: Callable[[str], None] = lambda _: None
) -> Run:
    """Run services and all that they depend on while a block does: `with nbcompose.run(Answer) as answer:`.

    Each service has its own replica processes, as under `nbcompose serve`; they are up when the block begins, and gone
    when it ends. In the block, `Answer.ask(...)` and `answer.ask(...)` are the same call. `async with` does the same
    and leaves the event loop free meanwhile; there, `await answer.to_async.ask(...)`.

    In a script, write it under `if __name__ == "__main__":`, since each replica imports the script.

    Args:
        *entries: The services, or their classes.
        http: Whether the entries answer over HTTP too, on free ports of 127.0.0.1 (`answer.url`).
        token: The bearer token that HTTP callers must send (`answer.token`); None: none.
        say: Gets lines for people, of what starts and what fails.

    Returns:
        A context manager. It gives the service, or a tuple of them where several were given.

    Raises:
        TypeError: No service was given.
        DeclarationError: A class is no service, or two services have one name.
        CycleError: Services depend on one another in a circle.
        LaunchError: A service could not start (when the block is entered), or this is a replica.
    """
    if not entries:
        raise TypeError("run() takes the service to run, or several: nbcompose.run(Answer)")
    services = tuple(e if isinstance(e, Service) else service(e) for e in entries)
    return Run(services, http, settings.checked_token(token), say)


def asgi_app(service: Service, token: str | None, allowed_hosts: Iterable[str]) -> AsgiApp:
    """What `Service.asgi` gives. Raises `NbcomposeError` where the class is not in this process."""
    access = Access.of(service.spec.http, token, allowed_hosts)
    backend = GraphBackend(service)
    return AsgiApp(backend, access, backend.start, backend.stop)


class GraphBackend:
    """Calls the replicas of a service where it runs in this process, and starts its graph if it runs nowhere.

    Implements `endpoints.Backend`, for any number of event loops.
    """

    def __init__(self, service: Service) -> None:
        service.inner  # noqa: B018  raises where it is not here
        self._service = service
        self._name = service.name
        self._lock = threading.Lock()
        self._starting: Future[BaseException | None] | None = None
        self._run: Run | None = None
        self._known = service.spec
        self._schemas: Mapping[str, ApiSchema] = {}
        self._counts = ServiceMetrics(service.name, "asgi", [a.name for a in service.spec.apis])
        self.refused = self._counts.refused
        self.answered = self._counts.answered

    # -- lifetime

    async def start(self) -> Registry:
        """Return the registry in which the service runs. Raises what its start raises."""
        registry = self._registry()
        if registry is None:
            error = await asyncio.shield(asyncio.wrap_future(self._begin()))
            if error is not None:
                raise error
            registry = self._registry()
        if registry is None:
            raise ServiceUnavailable(f"{self._name} has been stopped")
        return registry

    async def stop(self) -> None:
        """Stop what `start` has started."""
        await asyncio.to_thread(self._exit)

    def _registry(self) -> Registry | None:
        try:
            handle = self._service._handle()
        except NbcomposeError:
            return None
        return handle._registry if isinstance(handle, Handle) else None

    def _begin(self) -> Future[BaseException | None]:
        """Start the graph in a thread, unless that is under way; the result is its error."""
        with self._lock:
            if self._starting is None or (self._starting.done() and self._registry() is None):
                self._starting = Future()
                threading.Thread(target=self._enter, args=(self._starting,), daemon=True).start()
            return self._starting

    def _enter(self, started: Future[BaseException | None]) -> None:
        run = Run((self._service,), http=False, token=None, say=logger.info)
        try:
            run.__enter__()
        except BaseException as error:
            started.set_result(error)
            return
        self._run = run
        atexit.register(self._exit)
        started.set_result(None)

    def _exit(self) -> None:
        with self._lock:
            run, self._run = self._run, None
        if run is not None:
            atexit.unregister(self._exit)
            run.__exit__(None, None, None)

    # -- what the HTTP side asks for

    @property
    def spec(self) -> ServiceSpec:
        """The version that serves; before the start, the declared one."""
        registry = self._registry()
        deployment = registry.deployment(self._name) if registry is not None else None
        return deployment.spec if deployment is not None else self._service.spec

    @property
    def schemas(self) -> Mapping[str, ApiSchema]:
        spec, known = self.spec, self._known
        same = (spec.cls, spec.apis, spec.http.max_values) == (known.cls, known.apis, known.http.max_values)
        if not same or not self._schemas:
            self._counts.know(a.name for a in spec.apis)
            self._schemas = {a.name: ApiSchema.of(spec.cls, a, spec.http.max_values) for a in spec.apis}
        self._known = spec
        return self._schemas

    async def invoke(self, api: ApiSpec, arguments: dict[str, Any], context: CallContext) -> Any:
        registry = await self.start()
        call = registry.client.call(self._name, api.name, (api.signature, arguments), context, from_below=False)
        return await registry.portal.join(call)

    async def stream(self, api: ApiSpec, arguments: dict[str, Any], context: CallContext) -> AsyncGenerator[Any, None]:
        registry = await self.start()
        items = registry.client.stream(self._name, api.name, (api.signature, arguments), context, from_below=False)
        async with contextlib.aclosing(registry.portal.join_items(items)) as here:
            async for item in here:
                yield item

    async def ready(self) -> list[str]:
        """Return why it cannot answer. Starts it the first time, since whoever asks waits for that before calling."""
        registry = self._registry()
        if registry is not None:
            route = registry.client.routes.get(self._name)
            return [] if route is not None and route.ready else [f"{self._name}: {route.reason if route else ''}"]
        starting = self._starting if self._starting is not None else self._begin()
        error = starting.result() if starting.done() else None
        return [f"{self._name}: {error if error is not None else 'starting'}"]

    async def metric_families(self) -> list[Metric]:
        registry = self._registry()
        route = registry.client.routes.get(self._name) if registry is not None else None
        if registry is None or route is None:
            return self._counts.counts()
        replicas = await registry.portal.join(metrics_of(registry.client, self._name, list(route.replicas)))
        return merge([self._counts.counts(), *replicas])
