"""`Answer.asgi()`: a service as an ASGI application that calls its replicas, and starts them where they do not run."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any

from prometheus_client.core import Metric

from nbcompose._control.registry import Registry
from nbcompose._control.serving import Handle, Run, run
from nbcompose._replica import COMPLETIONS, MODELS, ServiceMetrics, merge
from nbcompose._replica.http import Access, AsgiApp, metrics_of
from nbcompose._rpc import outgoing
from nbcompose._schema import ApiSchema
from nbcompose._service import Service
from nbcompose._spec import ApiSpec, ServiceSpec
from nbcompose._tracing import CallContext
from nbcompose.errors import NbcomposeError, ServiceUnavailable

logger = logging.getLogger("nbcompose")


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
        self._counts = ServiceMetrics(service.name, "asgi", _counted(service.spec))
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
        graph = run(self._service, say=logger.info)
        try:
            graph.__enter__()
        except BaseException as error:
            started.set_result(error)
            return
        self._run = graph
        atexit.register(self._exit)
        started.set_result(None)

    def _exit(self) -> None:
        with self._lock:
            graph, self._run = self._run, None
        if graph is not None:
            atexit.unregister(self._exit)
            graph.__exit__(None, None, None)

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
            self._counts.know(_counted(spec))
            self._schemas = {a.name: ApiSchema.of(spec.cls, a, spec.http.max_values) for a in spec.apis}
        self._known = spec
        return self._schemas

    async def invoke(
        self, api: ApiSpec, arguments: dict[str, Any], context: CallContext, encode: Callable[[Any], Any] | None = None
    ) -> Any:
        registry = await self.start()
        given = outgoing(api, arguments, registry.portal)
        call = registry.client.call(self._name, api.name, (api.signature, given), context, from_below=False)
        result = await registry.portal.join(call)
        return result if encode is None else encode(result)

    async def stream(self, api: ApiSpec, arguments: dict[str, Any], context: CallContext) -> AsyncGenerator[Any, None]:
        registry = await self.start()
        given = outgoing(api, arguments, registry.portal)
        items = registry.client.stream(self._name, api.name, (api.signature, given), context, from_below=False)
        async with contextlib.aclosing(registry.portal.join_items(items)) as here:
            async for item in here:
                yield item

    async def language_models(self) -> list[str]:
        registry = await self.start()
        call = registry.client.call(self._name, MODELS, ((), {}), CallContext(), from_below=False)
        names: list[str] = await registry.portal.join(call)
        return names

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


def _counted(spec: ServiceSpec) -> list[str]:
    """Return the names of what is called."""
    return [*(api.name for api in spec.apis), *([COMPLETIONS.name] if spec.openai else [])]
