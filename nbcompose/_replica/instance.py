"""Service instance of a replica and its calls: admission, batching, worker threads, deadlines, spans.

Path of a call: connection, or HTTP → `_replica/http/backend.py` → `Runtime` → the method. Runs on the replica's event
loop; synchronous apis run in worker threads (`_replica/workers.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any

from prometheus_client.core import Metric

from nbcompose._host import apply_threads, thread_state
from nbcompose._replica.admission import Admission, Holder, Queue, Work, unix_time
from nbcompose._replica.batching import Batcher
from nbcompose._replica.chat_api import MODELS
from nbcompose._replica.generators import ThreadItems
from nbcompose._replica.hot_swap import Api, Code, Swap, renew
from nbcompose._replica.inputs import Inputs
from nbcompose._replica.metrics import METRICS, CallsUnderWay, OwnMetrics, ServiceMetrics, TimedCall, outcome
from nbcompose._replica.output import end_lines
from nbcompose._replica.recording import Recorder
from nbcompose._replica.workers import Job, WorkerThreads
from nbcompose._rpc import HELD, Client, IncomingCall, LoadTable, Portal
from nbcompose._schema import ApiSchema
from nbcompose._service import check_dependencies
from nbcompose._spec import ApiSpec, ServiceSpec
from nbcompose._tracing import CallContext, SpanBuffer, current_call
from nbcompose._user_exceptions import contained, passes
from nbcompose.errors import (
    CallCancelled,
    CallError,
    InvalidArgument,
    InvalidResult,
    NotBegun,
    ServiceUnavailable,
    UnknownApi,
)

INTERRUPT_AFTER = 10.0  # seconds; the default for `Traffic.interrupt_after`
CUT_WAIT = 1.0  # seconds for cancelled calls to report that at shutdown
MOST_TOLD = 8  # calls holding threads that are reported at most

logger = logging.getLogger("nbcompose.replica")


class Runtime:
    """One instance of one service, across hot swaps of its code. `torch_threads`: see `Placement`. `client`: by which
    it calls the services whose streams are arguments; None: none can be.
    """

    def __init__(
        self,
        spec: ServiceSpec,
        index: int,
        slot: int,
        board: LoadTable,
        torch_threads: int | None = None,
        client: Client | None = None,
    ) -> None:
        self.name = spec.name
        self.index = index
        self.code = Code(spec)
        self.metrics = ServiceMetrics(spec.name, index, self.code.apis)
        self.spans = SpanBuffer()
        self.recorder: Recorder | None = None  # None: arguments and answers are not recorded
        self._own_metrics = OwnMetrics(spec.name, index)
        self.under_way = CallsUnderWay(board, slot)
        self._loop = asyncio.get_running_loop()
        self._portal = Portal(self._loop, threading.get_ident())
        self._client = Client() if client is None else client
        # Earlier versions are kept: dropping an old instance would run its `__del__` on state that is still in use.
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
        self.on_code: Callable[[Code], object] = _nothing_of  # called with new code before it is used
        # Thread modes set by `__init__` and the start-up hooks, and the objects that keep them active.
        self._modes: thread_state.Modes = {}
        self._holding: list[Any] = []
        self._context = contextvars.Context()
        limit = spec.traffic.max_concurrency
        self._admission = None if limit is None else Admission(spec.name, limit, spec.traffic.max_queue)
        self._lines: dict[str, Queue] = {}  # queues for batches, by api
        self._tasks: set[asyncio.Task[None]] = set()
        self._dismissing = self._cutting = False

    @property
    def spec(self) -> ServiceSpec:
        return self.code.spec

    @property
    def limited(self) -> bool:
        """Whether calls may have to wait for a place, or be refused one."""
        return self._admission is not None

    @property
    def schemas(self) -> Mapping[str, ApiSchema]:
        return self.code.schemas

    # -- lifecycle

    async def start(self) -> None:
        """Create the instance: run `__init__` and the start-up hooks, in a worker thread. Raises what they raise.

        Thread modes and context variables that they set apply to all calls whose tasks are created in the context of
        this one, or below it.
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
        """Apply modes set on the other side: on the loop those set in the first thread, or vice versa."""
        self._modes.update(found)
        self._holding += thread_state.take(found)

    def _prepare_thread(self) -> None:
        if self._torch_threads is not None:
            apply_threads(self._torch_threads)
        self._holding += thread_state.take(self._modes)

    async def renewed(self, swap: Swap) -> Code:
        """Return the new code of `swap`, ready for `take`. Raises `CannotSwap`, or what user code raises."""
        code = await asyncio.to_thread(renew, self.code, swap)
        code.bind(code.instance, self._batcher)
        return code

    def take(self, code: Code) -> None:
        """Switch to `code`: new calls use it, calls under way finish on the previous code."""
        self._former.append(self.code)
        self.on_code(code)
        self.code = code
        if code.renewal is not None:
            code.renewal.take()
        self.metrics.know(code.apis)

    def leave(self) -> None:
        """Prepare to leave: if abandoned calls hold all threads, reject the calls that wait for one."""
        if self._threads.all_abandoned is not None:
            self._dismiss()

    def _dismiss(self) -> None:
        self._dismissing = True
        for queue in self._queues():
            queue.dismiss()

    def _queues(self) -> tuple[Queue, ...]:
        places = () if self._admission is None else (self._admission.queue,)
        return *places, self._threads.queue, *self._lines.values()

    async def stop(self) -> int:
        """Cancel the calls still under way, and run the shutdown hooks. Return how many calls were cancelled."""
        self._dismiss()
        await asyncio.sleep(0)  # waiting calls are answered before the others are cancelled
        left, self._cutting = self.under_way.number, True
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
        context.on_loop = True  # a blocking call of a dependency must raise instead of blocking the loop
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
            context.api = api.spec.name
            try:
                return await self._call_method(api, {items_name: items, **others}, context)
            finally:
                end_lines(context)

        policy = api.spec.batch
        assert policy is not None

        def holders() -> list[Holder]:
            return [] if batcher.since is None else [Holder(api.spec.name, unix_time(batcher.since))]

        place = f"a batch of it (max_batch_size={policy.max_batch_size})"
        line = Queue(api.hop, place, "max_batch_size=, --replicas, --timeout", holders)
        self._lines[api.spec.name] = line
        batcher = Batcher(run, policy, api.hop, context=self._context, line=line)
        return batcher

    # -- calls from connections

    def on_call(self, call: IncomingCall) -> None:
        """Start to answer a call; returns at once."""
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
            if call.api == MODELS:
                call.reply(self.language_models())
                return
            if self._dismissing:
                call.decline()
                return
            api = self.code.apis.get(call.api)
            if api is None:
                raise self._unknown(call.api)
            args, kwargs = call.arguments
            call.arguments = None
            if args.__class__ is str and args == api.spec.signature:
                arguments = kwargs  # they came over HTTP to another process, where they were validated for this api
            else:
                try:
                    named = kwargs if args.__class__ is str else api.schema.bind(args, kwargs)
                    arguments = api.schema.validate(named)
                except InvalidArgument:
                    self.metrics.refused(api.spec.name, InvalidArgument.__name__)
                    raise
            del args, kwargs
            if api.spec.stream:
                items = self._stream(api, arguments, call.context, declines=True)
                async with contextlib.aclosing(items):
                    async for item in items:
                        try:
                            await call.send(item)
                        except CallError as error:  # it cannot be sent: so the stream has failed
                            await items.athrow(_of_api(error, hop, api))
                call.end()
            else:
                call.reply_encoded(await self._invoke(api, arguments, call.context, call.encode, declines=True))
        except BaseException as error:  # every error must be answered, and the loop must go on
            if _may_decline(error):
                call.decline()
            elif not issubclass(type(error), asyncio.CancelledError):  # not isinstance, which may run the object's code
                await call.fail_aside(contained(error), hop)
            elif self._cutting:  # if the caller is gone as well, `fail` has no effect
                call.fail(ServiceUnavailable(f"{hop}: the service was stopped before this call was done"), hop)
            elif call.context.cancelled:
                call.fail(CallCancelled(f"{hop} was cancelled"), hop)
            else:
                call.fail(contained(error), hop)

    def _unknown(self, name: str) -> UnknownApi:
        return UnknownApi(f"{self.name} has no api {name!r}; it has: {', '.join(self.code.apis)}")

    def _of(self, spec: ApiSpec) -> Api:
        """Return the api that the arguments were validated for: of an earlier version if it has changed since."""
        for code in (self.code, *reversed(self._former)):
            api = code.apis.get(spec.name)
            if api is not None and api.spec == spec:
                return api
        raise UnknownApi(f"{self.spec.name} has no api {spec.signature}")

    def language_models(self) -> list[str]:
        """Return the names of the language models that answer `chat.completions`."""
        completions = self.code.completions
        return [] if completions is None else list(completions.models())

    # -- calls from connections and HTTP

    async def invoke(
        self, spec: ApiSpec, arguments: dict[str, Any], context: CallContext, encode: Callable[[Any], Any] | None = None
    ) -> Any:
        """Call with valid arguments; the result is validated, and encoded where `encode` is given: what that raises is
        how the call has ended. Raises `Overloaded`, or what the api raises.
        """
        api = self.code.apis.get(spec.name)
        current = api if api is not None and api.spec is spec else self._of(spec)
        return await self._invoke(current, arguments, context, encode)

    async def _invoke(
        self,
        api: Api,
        arguments: dict[str, Any],
        context: CallContext,
        encode: Callable[[Any], Any] | None = None,
        *,
        declines: bool = False,
    ) -> Any:
        """As `invoke`. `declines`: whether the caller makes the call at another replica if it has not begun here."""
        call = TimedCall(self, api.spec.name, context)
        record = None if self.recorder is None else self.recorder.begin(api.spec, arguments, context)
        inputs: Inputs | None = None
        try:
            if api.spec.stream_params:
                inputs = call.inputs = Inputs(api, arguments, context, self._portal, self._client, self.spec)
            if self._admission is not None:
                await self._admission.enter(call)
                call.admitted()
            try:
                if api.batcher is not None:
                    items = arguments.pop(api.spec.params[0].name)
                    result = await api.batcher.submit(items, arguments, context, call.admitted)
                else:
                    result = await self._call_method(api, arguments, context, call)
                result = api.schema.check_result(result)
            finally:
                self._leave(call)
                if inputs is not None:
                    await inputs.close()
            try:
                answer = result if encode is None else encode(result)
            except InvalidResult as error:
                raise _of_api(error, f"{self.name}.{api.spec.name}", api)  # noqa: B904  it is the same error
        except BaseException as error:
            ended = outcome(error, context)
            if declines and _may_decline(error):
                call.declined()
                raise
            call.ended(ended)
            if record is not None:
                record.failed(error, ended)
            raise
        call.ended()
        if record is not None:
            record.answered(result)
        return answer

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
        else:  # a batch, which no single call owns
            context.on_cancel(lambda: job.when_off(_nothing))
        return await job.future

    def stream(self, spec: ApiSpec, arguments: dict[str, Any], context: CallContext) -> AsyncGenerator[Any, None]:
        """As `invoke`, for an api that yields; each item is validated."""
        return self._stream(self._of(spec), arguments, context)

    async def _stream(
        self, api: Api, arguments: dict[str, Any], context: CallContext, *, declines: bool = False
    ) -> AsyncGenerator[Any, None]:
        call = TimedCall(self, api.spec.name, context)
        record = None if self.recorder is None else self.recorder.begin(api.spec, arguments, context)
        given = False  # the consumer has an item: an exception then comes from closing the generator
        inputs: Inputs | None = None
        try:
            if api.spec.stream_params:
                inputs = call.inputs = Inputs(api, arguments, context, self._portal, self._client, self.spec)
            if self._admission is not None:
                await self._admission.enter(call)
                call.admitted()
            try:
                async with contextlib.aclosing(self._items(api, arguments, context, call)) as items:
                    async for item in items:
                        item = api.schema.check_result(item, "yielded")
                        call.streamed()
                        if record is not None:
                            record.item(item)
                        given = True
                        yield item
                        given = False
            finally:
                self._leave(call)
                if inputs is not None:
                    await inputs.close()
        except BaseException as error:
            if declines and _may_decline(error):
                call.declined()
                raise
            if record is not None:
                record.failed(error, outcome(error, context))
            if given or passes(error):
                call.ended(outcome(error, context))
                raise
            told = contained(error)
            call.ended(outcome(told, context))
            raise told from error
        call.ended()
        if record is not None:
            record.ended()

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
        """Release the call's place once its thread has finished, which may be long after the caller has left."""
        admission = self._admission
        if call.job is not None:
            call.job.when_off(_nothing if admission is None else lambda: admission.leave(call))
        elif admission is not None:
            admission.leave(call)

    async def metric_families(self) -> list[Metric]:
        """Return this replica's metrics: nbcompose's own, and those that the service's code defines."""
        work = self.metrics.work_families(self.work(), self._threads.busy)
        return [*self.metrics.families(), *work, *await self._own_metrics.families()]

    def _note_held(self) -> None:
        threads = self._threads
        no_use = threads.abandoned >= threads.slots or bool(threads.halted)
        self.under_way.hold(threads.abandoned + (HELD if no_use else 0))

    def halt(self, thread: int) -> None:
        """Note that a thread is at a breakpoint: calls go to other replicas where there are some. From any thread."""
        self._threads.halted.add(thread)
        self._note_held()

    def go_on(self, thread: int) -> bool:
        """Undo `halt`; return whether no thread is at a breakpoint any more."""
        self._threads.halted.discard(thread)
        self._note_held()
        return not self._threads.halted

    def pauses(self, job: Job | None) -> bool:
        """Whether a stream waits for its consumer."""
        return job is not None and self._threads.pauses(job)

    def work(self) -> Work:
        """Return what calls currently wait for."""
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
    """Call a function; return its result and the modes that it has set in this thread."""
    before = thread_state.read()
    return function(), thread_state.changed(before, thread_state.read())


def _of_api(error: CallError, hop: str, api: Api) -> CallError:
    """Say in the error of a result that cannot be sent which api has returned it, and in a note, where others do not
    see it, where that is.
    """
    if type(error) is InvalidResult:
        error.args = (f"{hop}: {error}",)
        code = getattr(inspect.unwrap(api.method), "__code__", None)
        if code is not None:
            error.add_note(f"{api.spec.name} is at {code.co_filename}:{code.co_firstlineno}")
    return error


def _may_decline(error: BaseException) -> bool:
    """Whether a call has not begun here, and its caller may make it elsewhere. An api that raises `NotBegun`, since one
    that it called did, has begun.
    """
    return type(error) is NotBegun and error.here


def _nothing() -> None: ...


def _nothing_of(_: Code) -> None: ...


_UNSET = object()
