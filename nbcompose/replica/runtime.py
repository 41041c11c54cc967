"""A replica's service instance and every call to it: admission, batching, threads, deadlines, spans.

The path of a call: wire or HTTP → `Runtime` → the method. Runs on the replica's event loop; sync apis run in
threads.py's workers. How the class got here is launch.py's business, who may call is http.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncGenerator, Awaitable, Mapping
from typing import Any

from prometheus_client.core import Metric

from nbcompose.batching import Batcher
from nbcompose.client import Client, ReplicaRoute
from nbcompose.errors import CallCancelled, DeadlineExceeded, UnknownApi
from nbcompose.replica.admission import Admission
from nbcompose.replica.metrics import ServiceMetrics, merge
from nbcompose.replica.threads import WorkerThreads
from nbcompose.schema import ApiSchema
from nbcompose.spec import ApiSpec, ServiceSpec
from nbcompose.tracing import CallContext, Span, SpanBuffer, current_call, new_span_id
from nbcompose.wire.board import LoadBoard
from nbcompose.wire.call import IncomingCall

METRICS = "__metrics__"  # asked of one another by the replicas of a service


class _Api:
    """An api of the instance, with what its calls need."""

    __slots__ = ("batcher", "hop", "method", "schema", "spec")

    def __init__(self, spec: ApiSpec, schema: ApiSchema, service: str) -> None:
        self.spec = spec
        self.schema = schema
        self.hop = f"{service}.{spec.name}"
        self.method: Any = None
        self.batcher: Batcher | None = None


class Runtime:
    """One instance of one service."""

    def __init__(self, spec: ServiceSpec, index: int, slot: int, board: LoadBoard, client: Client) -> None:
        self.spec = spec
        self.index = index
        self.schemas: Mapping[str, ApiSchema] = {a.name: ApiSchema.of(spec.cls, a) for a in spec.apis}
        self.metrics = ServiceMetrics(spec.name, index, self.schemas)
        self.spans = SpanBuffer()
        self.in_flight = 0
        self._slot = slot
        self._board = board
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._apis = {a.name: _Api(a, self.schemas[a.name], spec.name) for a in spec.apis}
        self._threads = WorkerThreads(spec.threads, self._loop)
        self._admission = Admission(spec.name, spec.traffic.max_concurrency, spec.traffic.max_queue)
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._instance: Any = None

    # -- life

    async def start(self) -> None:
        """Make the instance: `__init__` and the start-up hooks, in a worker thread. Raises what they raise."""
        self._threads.start()
        self._instance = await self._threads.run(self.spec.cls).future
        await self._run_hooks(self.spec.on_startup)
        for api in self._apis.values():
            api.method = getattr(self._instance, api.spec.method)
            if api.spec.batch is not None:
                api.batcher = self._batcher(api)

    async def stop(self, grace: float) -> int:
        """Let calls in flight finish within `grace` seconds, then run the shutdown hooks.

        Returns how many calls were cut off.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), grace)
        left = self.in_flight
        for task in list(self._tasks):
            task.cancel()
        await self._run_hooks(self.spec.on_shutdown)
        self._threads.stop()
        return left

    async def _run_hooks(self, names: tuple[str, ...]) -> None:
        for name in names:
            hook = getattr(self._instance, name)
            if inspect.iscoroutinefunction(hook):
                await hook()
            else:
                await self._threads.run(hook).future

    def _batcher(self, api: _Api) -> Batcher:
        items_name = api.spec.params[0].name

        async def run(items: Any, others: Mapping[str, Any], context: CallContext) -> Any:
            return await self._call_method(api, {items_name: items, **others}, context)

        assert api.spec.batch is not None
        return Batcher(run, api.spec.batch, api.hop)

    # -- calls that come over the wire

    def on_call(self, call: IncomingCall) -> None:
        """Begin to answer a call; returns at once."""
        task = self._loop.create_task(self._serve(call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        call.context.on_cancel(task.cancel)

    async def _serve(self, call: IncomingCall) -> None:
        hop = f"{self.spec.name}.{call.api}"
        try:
            if call.api == METRICS:
                call.reply(self.metrics.families())
                return
            api = self._find(call.api)
            args, kwargs = call.arguments
            call.arguments = None
            arguments = api.schema.validate(api.schema.bind(args, kwargs))
            del args, kwargs
            if api.spec.stream:
                items = self._stream(api, arguments, call.context)
                async with contextlib.aclosing(items):
                    async for item in items:
                        await call.send(item)
                call.end()
            else:
                call.reply(await self._invoke(api, arguments, call.context))
        except asyncio.CancelledError:
            call.fail(CallCancelled(f"{hop} was cancelled"), hop)
        except Exception as error:
            call.fail(error, hop)

    def _find(self, name: str) -> _Api:
        api = self._apis.get(name)
        if api is None:
            raise UnknownApi(f"{self.spec.name} has no api {name!r}; it has: {', '.join(self._apis)}")
        return api

    # -- calls that come over HTTP

    def context(self, traceparent: tuple[int, int] | None, timeout: float | None) -> CallContext:
        """The context of a call from outside, which may take `timeout` seconds, the service's own limit at most."""
        limit = self.spec.traffic.timeout if timeout is None else min(timeout, self.spec.traffic.timeout)
        trace_id, span_id = traceparent or (0, 0)
        return CallContext(time.monotonic() + limit, trace_id, span_id)

    async def invoke(self, api: ApiSpec, arguments: dict[str, Any], context: CallContext) -> Any:
        """Call with valid arguments, here or at a sibling that is less busy; the result is checked.

        Raises `DeadlineExceeded`, `CallCancelled` (when `context` is), `Overloaded`, or what the api raises.
        """
        own = self._apis[api.name]
        return await self._within_deadline(self._invoke_somewhere(own, arguments, context), context, own.hop)

    async def stream(self, api: ApiSpec, arguments: dict[str, Any], context: CallContext) -> AsyncGenerator[Any, None]:
        """As `invoke`, for an api that yields; each item is checked."""
        own = self._apis[api.name]
        items = self._stream_somewhere(own, arguments, context)
        async with contextlib.aclosing(items):
            while True:
                try:
                    item = await self._within_deadline(anext(items), context, own.hop)
                except StopAsyncIteration:
                    return
                yield item

    async def _within_deadline(self, work: Awaitable[Any], context: CallContext, hop: str) -> Any:
        task = asyncio.current_task()
        assert task is not None
        left = context.remaining()
        context.on_cancel(task.cancel)
        try:
            async with asyncio.timeout(left):
                return await work
        except TimeoutError as error:
            if isinstance(error, DeadlineExceeded) or (context.remaining() or 1) > 0:
                raise
            raise DeadlineExceeded(f"{hop} took longer than the {self.spec.traffic.timeout:g} s allowed") from None
        except asyncio.CancelledError:
            if context.cancelled and task.uncancel() == 0:
                raise CallCancelled(f"{hop}: the client has gone") from None
            raise
        finally:
            context.forget(task.cancel)

    async def _invoke_somewhere(self, api: _Api, arguments: dict[str, Any], context: CallContext) -> Any:
        sibling = self._less_busy()
        if sibling is not None:
            with contextlib.suppress(ConnectionRefusedError):
                connection = await self._client.replica(sibling, f"{self.spec.name}, replica {sibling.index}")
                packed = api.schema.call_arguments(arguments)
                return await connection.call(api.spec.name, packed, context, context.deadline)
        return await self._invoke(api, arguments, context)

    async def _stream_somewhere(
        self, api: _Api, arguments: dict[str, Any], context: CallContext
    ) -> AsyncGenerator[Any, None]:
        items = self._stream(api, arguments, context)
        sibling = self._less_busy()
        if sibling is not None:
            with contextlib.suppress(ConnectionRefusedError):
                connection = await self._client.replica(sibling, f"{self.spec.name}, replica {sibling.index}")
                packed = api.schema.call_arguments(arguments)
                items = connection.stream(api.spec.name, packed, context, context.deadline)
        async with contextlib.aclosing(items):
            async for item in items:
                yield item

    def _less_busy(self) -> ReplicaRoute | None:
        """A sibling with fewer calls in hand: kernels give all requests of a kept connection to one process."""
        if self.in_flight == 0:
            return None
        route = self._client.route(self.spec.name)
        if route is None or len(route.replicas) < 2:
            return None
        others = [r for r in route.replicas if r.index != self.index]
        best = min(others, key=self._client.load)
        return best if self._client.load(best) < self.in_flight else None

    # -- the call itself

    async def _invoke(self, api: _Api, arguments: dict[str, Any], context: CallContext) -> Any:
        call = _Timed(self, api, context)
        try:
            await self._admission.enter()
            try:
                call.admitted()
                if api.batcher is not None:
                    items = arguments.pop(api.spec.params[0].name)
                    result = await api.batcher.submit(items, arguments, context, call.admitted)
                else:
                    result = await self._call_method(api, arguments, context, call)
                result = api.schema.check_result(result)
            finally:
                self._admission.leave()
        except BaseException as error:
            call.ended(type(error).__name__)
            raise
        call.ended()
        return result

    async def _call_method(
        self, api: _Api, arguments: dict[str, Any], context: CallContext, call: _Timed | None = None
    ) -> Any:
        args, kwargs = api.schema.call_arguments(arguments)
        current_call.set(context)
        if api.spec.is_async:
            context.on_loop = True
            return await api.method(*args, **kwargs)
        job = self._threads.run(api.method, *args, **kwargs)
        try:
            return await job.future
        finally:
            if call is not None and job.started:
                call.began(job.started)

    async def _stream(self, api: _Api, arguments: dict[str, Any], context: CallContext) -> AsyncGenerator[Any, None]:
        call = _Timed(self, api, context)
        try:
            await self._admission.enter()
            try:
                call.admitted()
                args, kwargs = api.schema.call_arguments(arguments)
                current_call.set(context)
                if api.spec.is_async:
                    context.on_loop = True
                    items = api.method(*args, **kwargs)
                else:
                    items = self._threads.iterate(api.method, args, kwargs, context)
                async with contextlib.aclosing(items):
                    async for item in items:
                        self.metrics.streamed(api.spec.name)
                        yield api.schema.check_item(item)
            finally:
                self._admission.leave()
        except BaseException as error:
            call.ended("CallCancelled" if isinstance(error, GeneratorExit) else type(error).__name__)
            raise
        call.ended()

    def begin(self) -> None:
        self.in_flight += 1
        self._board[self._slot] = self.in_flight
        self._idle.clear()

    def end(self) -> None:
        self.in_flight -= 1
        self._board[self._slot] = self.in_flight
        if self.in_flight == 0:
            self._idle.set()

    # -- what others ask

    async def ready(self) -> list[str]:
        """Why this service cannot answer now: what is wrong below it. Empty when all is well."""
        reasons = []
        for dependency in self.spec.dependencies:
            if dependency.url is not None:
                continue
            route = self._client.route(dependency.service)
            if route is None or not route.ready:
                reasons.append(f"{dependency.service}: {route.reason if route else 'not started'}")
        return reasons

    @property
    def threads_busy(self) -> int:
        return self._threads.busy

    async def metric_families(self) -> list[Metric]:
        """The metrics of all replicas of this service; one that does not answer within 2 s is left out."""
        route = self._client.route(self.spec.name)
        siblings = [r for r in route.replicas if r.index != self.index] if route else []
        answers = await asyncio.gather(*map(self._ask_metrics, siblings), return_exceptions=True)
        return merge([self.metrics.families(), *(a for a in answers if isinstance(a, list))])

    async def _ask_metrics(self, replica: ReplicaRoute) -> list[Metric]:
        connection = await self._client.replica(replica, f"{self.spec.name}, replica {replica.index}")
        families: list[Metric] = await connection.call(METRICS, ((), {}), CallContext(), time.monotonic() + 2)
        return families


class _Timed:
    """One call's span and counts: made when it arrives, `ended` exactly once."""

    __slots__ = ("_api", "_arrived", "_context", "_parent", "_queued", "_runtime", "_start")

    def __init__(self, runtime: Runtime, api: _Api, context: CallContext) -> None:
        self._runtime = runtime
        self._api = api
        self._context = context
        self._parent = context.span_id
        context.span_id = new_span_id()
        self._start = time.time()
        self._arrived = time.perf_counter()
        self._queued = 0.0
        runtime.begin()
        runtime.metrics.started(api.spec.name)

    def admitted(self) -> None:
        self._queued = time.perf_counter() - self._arrived

    def began(self, moment: float) -> None:
        """A thread took the call at `moment` (`time.perf_counter()`)."""
        self._queued = moment - self._arrived

    def ended(self, error: str = "") -> None:
        seconds = time.perf_counter() - self._arrived
        runtime, name = self._runtime, self._api.spec.name
        runtime.end()
        runtime.metrics.finished(name, seconds, self._queued, error)
        runtime.spans.add(
            Span(
                self._context.trace_id, self._context.span_id, self._parent, runtime.spec.name, name, runtime.index,
                self._start, seconds, self._queued, error,
            )
        )  # fmt: skip
