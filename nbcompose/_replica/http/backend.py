"""Backend of the HTTP server: calls with a deadline, load balancing to sibling replicas, readiness, merged metrics.

Implements `endpoints.RuntimeLike`. The calls themselves run in `_replica/instance.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Mapping
from typing import Any

from prometheus_client.core import Metric

from nbcompose._replica import EARLY, Runtime, Siblings, merge
from nbcompose._rpc import Client, ConnectionClosed
from nbcompose._schema import ApiSchema
from nbcompose._spec import ApiSpec, ServiceSpec
from nbcompose._tracing import CallContext, Parent
from nbcompose.errors import CallCancelled, DeadlineExceeded, ReplicaDied


class HttpBackend:
    """Calls `runtime`, or a less loaded sibling replica. `client` has the routes of siblings and dependencies."""

    def __init__(self, runtime: Runtime, client: Client) -> None:
        self._runtime = runtime
        self._client = client
        self._siblings = Siblings(runtime.spec.name, runtime.index, client)

    @property
    def spec(self) -> ServiceSpec:
        return self._runtime.spec

    @property
    def schemas(self) -> Mapping[str, ApiSchema]:
        return self._runtime.schemas

    def context(self, parent: Parent | None, timeout: float | None) -> CallContext:
        """Return the context of a call over HTTP; its limit is `timeout` seconds, but at most the service's own."""
        limit = self.spec.traffic.timeout if timeout is None else min(timeout, self.spec.traffic.timeout)
        context = CallContext(time.monotonic() + limit, *(parent or ()))
        context.allowed = limit
        return context

    async def invoke(self, api: ApiSpec, arguments: dict[str, Any], context: CallContext) -> Any:
        """Call with valid arguments, here or at a less loaded sibling; the result is validated.

        Raises `DeadlineExceeded`, `CallCancelled` (when `context` is), `Overloaded`, or what the api raises.
        """
        return await self._within_deadline(self._invoke_somewhere(api, arguments, context), context, api)

    async def stream(self, api: ApiSpec, arguments: dict[str, Any], context: CallContext) -> AsyncGenerator[Any, None]:
        """As `invoke`, for an api that yields; each item is validated."""
        items = self._stream_somewhere(api, arguments, context)
        async with contextlib.aclosing(items):
            while True:
                try:
                    item = await self._within_deadline(anext(items), context, api)
                except StopAsyncIteration:
                    return
                yield item

    async def _within_deadline(self, work: Awaitable[Any], context: CallContext, api: ApiSpec) -> Any:
        task = asyncio.current_task()
        assert task is not None
        hop = f"{self.spec.name}.{api.name}"
        context.on_cancel(task.cancel)
        try:
            async with asyncio.timeout(context.remaining()) as limit:
                return await work
        except TimeoutError as error:
            # A service further down has the same deadline and may notice first: its error becomes the cause.
            from_below = isinstance(error, DeadlineExceeded)
            if not limit.expired() and not (from_below and (context.remaining() or 0.0) <= EARLY):  # raised by the api
                raise
            cause = error if from_below else None
            raise DeadlineExceeded(f"{hop} took longer than the {context.allowed:g} s that it had") from cause
        except asyncio.CancelledError:
            if context.cancelled and task.uncancel() == 0:
                raise CallCancelled(f"{hop}: the client has gone") from None
            raise
        finally:
            context.forget(task.cancel)

    async def _invoke_somewhere(self, api: ApiSpec, arguments: dict[str, Any], context: CallContext) -> Any:
        sibling = await self._siblings.less_busy(self._runtime.load)
        if sibling is not None:
            packed = self.schemas[api.name].call_arguments(arguments)
            try:
                return await sibling.call(api.name, packed, context, context.deadline)
            except ConnectionClosed:  # the call was not sent, or declined
                pass
            except ReplicaDied as error:
                if not self._client.may_resend(self.spec.name, api.name, error):
                    raise
        return await self._runtime.invoke(api, arguments, context)

    async def _stream_somewhere(
        self, api: ApiSpec, arguments: dict[str, Any], context: CallContext
    ) -> AsyncGenerator[Any, None]:
        sibling = await self._siblings.less_busy(self._runtime.load)
        if sibling is not None and not sibling.closed:
            packed = self.schemas[api.name].call_arguments(arguments)
            items = sibling.stream(api.name, packed, context, context.deadline)
        else:
            items = self._runtime.stream(api, arguments, context)
        async with contextlib.aclosing(items):
            async for item in items:
                yield item

    def refused(self, api: ApiSpec, error: Exception) -> None:
        """Count a call rejected because of its request."""
        self._runtime.metrics.refused(api.name, type(error).__name__)

    def answered(self, route: str, status: int) -> None:
        """Count an HTTP response; `route` is "" for an unknown path."""
        self._runtime.metrics.answered(route, status)

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
        own, others = await asyncio.gather(self._runtime.metric_families(), self._siblings.metrics())
        return merge([own, *others])
