"""Backend of a replica's HTTP server: calls of its own runtime or of less busy siblings, readiness, merged metrics."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from prometheus_client.core import Metric

from nbcompose._replica import METRICS, Runtime, merge
from nbcompose._rpc import Client, Connection, ConnectionClosed, Portal, ReplicaRoute, outgoing
from nbcompose._schema import ApiSchema
from nbcompose._spec import ApiSpec, ServiceSpec
from nbcompose._tracing import CallContext, clock
from nbcompose.errors import ReplicaDied

METRICS_WAIT = 2.0  # seconds for a replica's metrics


class HttpBackend:
    """Calls `runtime`, or a less loaded sibling replica. `client` has the routes of siblings and dependencies."""

    def __init__(self, runtime: Runtime, client: Client) -> None:
        self._runtime = runtime
        self._client = client
        self._portal = Portal(asyncio.get_running_loop(), threading.get_ident())
        self._name = runtime.spec.name
        self.refused = runtime.metrics.refused
        self.answered = runtime.metrics.answered

    @property
    def spec(self) -> ServiceSpec:
        return self._runtime.spec

    @property
    def schemas(self) -> Mapping[str, ApiSchema]:
        return self._runtime.schemas

    async def invoke(
        self, api: ApiSpec, arguments: dict[str, Any], context: CallContext, encode: Callable[[Any], Any] | None = None
    ) -> Any:
        """Call here or at a less loaded sibling; encode the result where `encode` is given.

        Raises `Overloaded`, or what the api raises.
        """
        route = self._client.routes.get(self._name)
        if route is not None and len(route.replicas) > 1 and (sibling := await self._less_busy()) is not None:
            try:
                given = outgoing(api, arguments, self._portal)
                result = await sibling.call(api.name, (api.signature, given), context, context.deadline)
                return result if encode is None else encode(result)
            except ConnectionClosed:  # the call was not sent, or declined
                pass
            except ReplicaDied as error:
                if not self._client.may_resend(self._name, api.name, error):
                    await self._client.explain(error)
                    raise
        return await self._runtime.invoke(api, arguments, context, encode)

    async def stream(self, api: ApiSpec, arguments: dict[str, Any], context: CallContext) -> AsyncGenerator[Any, None]:
        """As `invoke`, for an api that yields."""
        sibling = await self._less_busy()
        if sibling is not None and not sibling.closed:
            given = outgoing(api, arguments, self._portal)
            items = sibling.stream(api.name, (api.signature, given), context, context.deadline)
        else:
            items = self._runtime.stream(api, arguments, context)
        async with contextlib.aclosing(items):
            async for item in items:
                yield item

    async def _less_busy(self) -> Connection | None:
        """Return a connection to the sibling with the lowest load if that is below our own (see `_rpc/load_table.py`).

        Returns None if there is none, or it is just gone. Needed because all requests of a kept HTTP connection reach
        the same process.
        """
        load = self._runtime.under_way.load
        best = min(self._siblings(), key=self._client.load, default=None) if load else None
        if best is None or self._client.load(best) >= load:
            return None
        try:
            return await self._client.replica(best, f"{self._name}, replica {best.index}")
        except OSError:
            return None

    def _siblings(self) -> list[ReplicaRoute]:
        route = self._client.routes.get(self._name)
        return [r for r in route.replicas if r.index != self._runtime.index] if route is not None else []

    async def language_models(self) -> list[str]:
        return self._runtime.language_models()

    async def ready(self) -> list[str]:
        """Return why this service cannot answer now: its dependencies that are not ready. Empty if all are ready."""
        reasons = []
        for dependency in self.spec.dependencies:
            if dependency.url is not None:
                continue
            route = self._client.routes.get(dependency.service)
            if route is None or not route.ready:
                reasons.append(f"{dependency.service}: {route.reason if route else 'not started'}")
        return reasons

    async def metric_families(self) -> list[Metric]:
        """Return the metrics of all replicas of this service; one that does not answer within 2 s is left out."""
        siblings = metrics_of(self._client, self._name, self._siblings())
        own, others = await asyncio.gather(self._runtime.metric_families(), siblings)
        return merge([own, *others])


async def metrics_of(client: Client, service: str, replicas: list[ReplicaRoute]) -> list[list[Metric]]:
    """Return the metrics of each of these replicas, without those that do not answer in time."""

    async def ask(replica: ReplicaRoute) -> list[Metric]:
        connection = await client.replica(replica, f"{service}, replica {replica.index}")
        deadline = clock.monotonic() + METRICS_WAIT
        families: list[Metric] = await connection.call(METRICS, ((), {}), CallContext(), deadline)
        return families

    answers = await asyncio.gather(*map(ask, replicas), return_exceptions=True)
    return [a for a in answers if not isinstance(a, BaseException)]
