"""A replica's service instance and every call to it: admission, batching, threads, deadlines, spans.

The path of a call: wire, or HTTP → backend.py → `Runtime` → the method. Runs on the replica's event loop; sync apis
run in workers.py's workers. How the class got here is bootstrap.py's business, who may call server.py's and main.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any

from prometheus_client.core import Metric

from nbcompose._host import apply_threads, thread_state
from nbcompose._replica.admission import Admission, Holder, Queue, Work, unix_time
from nbcompose._replica.batching import Batcher
from nbcompose._replica.generators import ThreadItems
from nbcompose._replica.hot_swap import Api, Code, Swap, renew
from nbcompose._replica.metrics import METRICS, OwnMetrics, ServiceMetrics, TimedCall, outcome
from nbcompose._replica.workers import Job, WorkerThreads
from nbcompose._rpc import HELD, IncomingCall, LoadTable
from nbcompose._schema import ApiSchema
from nbcompose._service import check_dependencies
from nbcompose._spec import ApiSpec, ServiceSpec
from nbcompose._tracing import CallContext, SpanBuffer, current_call
from nbcompose._user_exceptions import contained, passes
from nbcompose.errors import CallCancelled, InvalidArgument, NotBegun, ServiceUnavailable, UnknownApi

INTERRUPT_AFTER = 10.0  # seconds, where nothing else is said
CUT_WAIT = 1.0  # seconds for the calls that are cut off to be told so
MOST_TOLD = 8  # of the calls that hold threads

logger = logging.getLogger("nbcompose.replica")


class Runtime:
    """One instance of one service, through all versions of its code. `torch_threads`: see `devices.Placement`."""

    def __init__(
        self, spec: ServiceSpec, index: int, slot: int, board: LoadTable, torch_threads: int | None = None
    ) -> None:
        self.name = spec.name
        self.index = index
        self.code = Code(spec)
        self.metrics = ServiceMetrics(spec.name, index, self.code.apis)
        self.spans = SpanBuffer()
        self._own_metrics = OwnMetrics(spec.name, index)
        self.in_flight = 0
        self._slot = slot
        self._board = board
        self._loop = asyncio.get_running_loop()
        # Codes before this one. Never let go of: an instance that was would run its `__del__`, on state that is in use.
        self._former: list[Code] = []
        self._torch_threads = torch_threads
        after = spec.traffic.interrupt_after
        self._threads = WorkerThreads(
            spec.threads,
            self._loop,
            self._prepare_thread,
            service=spec.name,
            interrupt_after=INTERRUPT_AFTER if after is None else after,
            on_held=self._note_held,
        )
        self._held = 0  # what threads whose caller has gone add to the load
        # What `__init__` and the start-up hooks have set for their thread, and what that needs to hold.
        self._modes: thread_state.Modes = {}
        self._holding: list[Any] = []
        self._context = contextvars.Context()
        self._admission = Admission(spec.name, spec.traffic.max_concurrency, spec.traffic.max_queue)
        self._lines: dict[str, Queue] = {}  # of batches, by api
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._called = asyncio.Event()
        self._dismissing = self._cutting = False

    @property
    def spec(self) -> ServiceSpec:
        return self.code.spec

    @property
    def schemas(self) -> Mapping[str, ApiSchema]:
        return self.code.schemas

    # -- life

    async def start(self) -> None:
        """Make the instance: `__init__` and the start-up hooks, in a worker thread. Raises what they raise.

        Modes of their thread, and variables of their context, that they set hold in all calls: in those whose tasks
        are made in the context of this one, or below it.
        """
        self._threads.start(1)
        self.code.instance = await self._set_up(self.spec.cls)
        check_dependencies(self.code.instance)
        for name in self.spec.on_startup:
            hook = getattr(self.code.instance, name)
            if inspect.iscoroutinefunction(hook):
                before = thread_state.read()
                await self._await_hook(hook)
                await self._threads.run(self._take, thread_state.changed(before, thread_state.read())).future
            else:
                await self._set_up(hook)
        self._context = contextvars.copy_context()
        self._threads.start()
        self.code.bind(self.code.instance, self._batcher)

    async def _set_up(self, function: Callable[[], Any]) -> Any:
        job = self._threads.run(_and_modes, function)
        result, found = await job.future
        self._take(found)
        for variable, value in job.context_vars.items():
            if not variable.name.startswith("nbcompose_") and variable.get(_UNSET) is not value:
                variable.set(value)
        return result

    def _take(self, found: thread_state.Modes) -> None:
        """In the first thread or on the loop, which the other one has set the modes for."""
        self._modes.update(found)
        self._holding += thread_state.take(found)

    def _prepare_thread(self) -> None:
        if self._torch_threads is not None:
            apply_threads(self._torch_threads)
        self._holding += thread_state.take(self._modes)

    async def renewed(self, swap: Swap) -> Code:
        """The code that `swap` would bring, ready to be taken. Raises `CannotSwap`, or what making it raises."""
        code = await asyncio.to_thread(renew, self.code, swap)
        code.bind(code.instance, self._batcher)
        return code

    def take(self, code: Code) -> None:
        """New calls go to `code`; those in hand finish on the one before."""
        self._former.append(self.code)
        self.code = code
        if code.renewal is not None:
            code.renewal.take()
        self.metrics.know(code.apis)

    async def idle(self) -> None:
        """Wait until no call is in hand."""
        await self._idle.wait()

    async def called(self) -> None:
        """Wait until a call has begun since the end of the wait before."""
        await self._called.wait()
        self._called.clear()

    def leave(self) -> None:
        """This replica is to go: calls that wait for threads which never come free are not kept waiting."""
        if self._threads.all_abandoned is not None:
            self._dismiss()

    def _dismiss(self) -> None:
        self._dismissing = True
        for queue in self._queues():
            queue.dismiss()

    def _queues(self) -> tuple[Queue, ...]:
        return self._admission.queue, self._threads.queue, *self._lines.values()

    async def stop(self) -> int:
        """Cut off what is still in hand, and run the shutdown hooks. Returns how many calls were cut off."""
        self._dismiss()
        await asyncio.sleep(0)  # they are answered before the others are cut off
        left, self._cutting = self.in_flight, True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CUT_WAIT)
        for name in self.spec.on_shutdown:
            try:
                await self._run_hook(name)
            except Exception:
                logger.exception("%s.%s failed", self.spec.name, name)
        self._threads.stop()
        return left

    async def _run_hook(self, name: str) -> None:
        hook = getattr(self.code.instance, name)
        if inspect.iscoroutinefunction(hook):
            await self._await_hook(hook)
        else:
            await self._threads.run(hook).future

    async def _await_hook(self, hook: Callable[[], Awaitable[None]]) -> None:
        context = CallContext()
        context.on_loop = True  # a sync call of a dependency must say so, and not wait for itself
        token = current_call.set(context)
        try:
            await hook()
        except BaseException as error:
            if passes(error):
                raise
            raise contained(error) from error
        finally:
            current_call.reset(token)

    def _batcher(self, api: Api) -> Batcher:
        items_name = api.spec.params[0].name

        async def run(items: Any, others: Mapping[str, Any], context: CallContext) -> Any:
            return await self._call_method(api, {items_name: items, **others}, context)

        policy = api.spec.batch
        assert policy is not None

        def holders() -> list[Holder]:
            return [] if batcher.since is None else [Holder(api.spec.name, unix_time(batcher.since))]

        place = f"a batch of it (max_batch_size={policy.max_batch_size})"
        line = Queue(api.hop, place, "max_batch_size=, --replicas, --timeout", holders)
        self._lines[api.spec.name] = line
        batcher = Batcher(run, policy, api.hop, context=self._context, line=line)
        return batcher

    # -- calls that come over the wire

    def on_call(self, call: IncomingCall) -> None:
        """Begin to answer a call; returns at once."""
        task = self._loop.create_task(self._serve(call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        call.context.on_cancel(task.cancel)

    async def _serve(self, call: IncomingCall) -> None:
        hop = f"{self.name}.{call.api}"
        try:
            if call.api == METRICS:
                call.reply(await self.metric_families())
                return
            if self._dismissing:
                call.decline()
                return
            api = self.code.apis.get(call.api)
            if api is None:
                raise self._unknown(call.api)
            args, kwargs = call.arguments
            call.arguments = None
            arguments = self._valid(api, args, kwargs)
            del args, kwargs
            if api.spec.stream:
                items = self._stream(api, arguments, call.context)
                async with contextlib.aclosing(items):
                    async for item in items:
                        await call.send(item)
                call.end()
            else:
                call.reply(await self._invoke(api, arguments, call.context))
        except NotBegun:
            call.decline()
        except BaseException as error:  # whatever it is, there is an answer, and the loop goes on
            if not issubclass(type(error), asyncio.CancelledError):  # not isinstance, which asks the object
                await call.fail_aside(contained(error), hop)
            elif self._cutting:  # where the caller has gone, too, nobody hears of it
                call.fail(ServiceUnavailable(f"{hop}: the service was stopped before this call was done"), hop)
            elif call.context.cancelled:
                call.fail(CallCancelled(f"{hop} was cancelled"), hop)
            else:
                call.fail(contained(error), hop)

    def _valid(self, api: Api, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return api.schema.validate(api.schema.bind(args, kwargs))
        except InvalidArgument:
            self.metrics.refused(api.spec.name, InvalidArgument.__name__)
            raise

    def _unknown(self, name: str) -> UnknownApi:
        return UnknownApi(f"{self.name} has no api {name!r}; it has: {', '.join(self.code.apis)}")

    def _of(self, spec: ApiSpec) -> Api:
        """The api that arguments were checked for: that of the version before, where they differ."""
        for code in (self.code, *reversed(self._former)):
            api = code.apis.get(spec.name)
            if api is not None and api.spec == spec:
                return api
        raise UnknownApi(f"{self.spec.name} has no api {spec.signature}")

    # -- the call itself, whoever made it

    async def invoke(self, spec: ApiSpec, arguments: dict[str, Any], context: CallContext) -> Any:
        """Call with valid arguments; the result is checked. Raises `Overloaded`, or what the api raises."""
        return await self._invoke(self._of(spec), arguments, context)

    async def _invoke(self, api: Api, arguments: dict[str, Any], context: CallContext) -> Any:
        call = TimedCall(self, api.spec.name, context)
        try:
            await self._admission.enter(call)
            try:
                call.admitted()
                if api.batcher is not None:
                    items = arguments.pop(api.spec.params[0].name)
                    result = await api.batcher.submit(items, arguments, context, call.admitted)
                else:
                    result = await self._call_method(api, arguments, context, call)
                result = api.schema.check_result(result)
            finally:
                self._leave(call)
        except BaseException as error:
            call.ended(outcome(error, context))
            raise
        call.ended()
        return result

    async def _call_method(
        self, api: Api, arguments: dict[str, Any], context: CallContext, call: TimedCall | None = None
    ) -> Any:
        args, kwargs = api.schema.call_arguments(arguments)
        current_call.set(context)
        if api.spec.is_async:
            context.on_loop = True
            try:
                return await api.method(*args, **kwargs)
            except BaseException as error:
                if passes(error):
                    raise
                raise contained(error) from error
        job = self._threads.call(api.spec, context, api.method, *args, **kwargs)
        if call is not None:
            call.job = job
        else:  # of a batch: its callers come and go
            context.on_cancel(lambda: job.when_off(_nothing))
        return await job.future

    def stream(self, spec: ApiSpec, arguments: dict[str, Any], context: CallContext) -> AsyncGenerator[Any, None]:
        """As `invoke`, for an api that yields; each item is checked."""
        return self._stream(self._of(spec), arguments, context)

    async def _stream(self, api: Api, arguments: dict[str, Any], context: CallContext) -> AsyncGenerator[Any, None]:
        call = TimedCall(self, api.spec.name, context)
        given = False  # an item is with the consumer, who may not want another
        try:
            await self._admission.enter(call)
            try:
                call.admitted()
                async with contextlib.aclosing(self._items(api, arguments, context, call)) as items:
                    async for item in items:
                        item = api.schema.check_result(item, "yielded")
                        call.streamed()
                        given = True
                        yield item
                        given = False
            finally:
                self._leave(call)
        except BaseException as error:
            if given or passes(error):
                call.ended(outcome(error, context))
                raise
            told = contained(error)
            call.ended(outcome(told, context))
            raise told from error
        call.ended()

    def _items(self, api: Api, arguments: dict[str, Any], context: CallContext, call: TimedCall) -> Any:
        args, kwargs = api.schema.call_arguments(arguments)
        current_call.set(context)
        if api.spec.is_async:
            context.on_loop = True
            return api.method(*args, **kwargs)
        items = ThreadItems(self._threads, api.spec, api.method, args, kwargs, context)
        call.job = items.job
        return items

    def _leave(self, call: TimedCall) -> None:
        """Give the call's place to the next: once its thread is off it, which may be long after the caller has left."""
        if call.job is not None:
            call.job.when_off(lambda: self._admission.leave(call))
        else:
            self._admission.leave(call)

    async def metric_families(self) -> list[Metric]:
        """What this replica has counted, and what its own code has."""
        work = self.metrics.work_families(self.work(), self._threads.busy)
        return [*self.metrics.families(), *work, *await self._own_metrics.families()]

    def begin(self) -> None:
        self.in_flight += 1
        self._board[self._slot] = self.in_flight + self._held
        self._idle.clear()
        self._called.set()

    def end(self) -> None:
        self.in_flight -= 1
        self._board[self._slot] = self.in_flight + self._held
        if self.in_flight == 0:
            self._idle.set()

    @property
    def load(self) -> int:
        """As on the load board: calls in hand, and what is left of those whose caller has gone."""
        return self.in_flight + self._held

    def _note_held(self) -> None:
        threads = self._threads
        self._held = threads.abandoned + (HELD if threads.abandoned >= threads.slots else 0)
        self._board[self._slot] = self.in_flight + self._held

    def pauses(self, job: Job | None) -> bool:
        """Whether a stream waits for its consumer."""
        return job is not None and self._threads.pauses(job)

    def work(self) -> Work:
        """What calls wait for now."""
        threads = self._threads
        waiting = [waiter for queue in self._queues() for waiter in queue.waiting]
        holders = threads.holders()
        return Work(
            waiting=len(waiting),
            waiting_since=unix_time(min(w.since for w in waiting)) if waiting else None,
            held=tuple(h for h in holders if h.abandoned or waiting)[:MOST_TOLD],
            held_since=threads.all_abandoned,
            paused=threads.paused,
        )

    @property
    def threads(self) -> WorkerThreads:
        return self._threads


def _and_modes(function: Callable[[], Any]) -> tuple[Any, thread_state.Modes]:
    """What a function returns, and the modes that it has set in this thread."""
    before = thread_state.read()
    return function(), thread_state.changed(before, thread_state.read())


def _nothing() -> None: ...


_UNSET = object()
