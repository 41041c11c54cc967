"""Dynamic batching: groups concurrent calls of an api into batches, and returns the results to their callers.

Used on one event loop. One batch runs at a time; more replicas run more batches at once.

A batch takes the queued calls, oldest first, up to `max_batch_size` items. With `max_latency_ms` it may wait for more
calls before it starts, by these rules:

- More calls are expected while calls overlap, i.e. arrive before earlier ones have been answered. The mean gap between
  such arrivals is tracked. A batch waits until no call has arrived for `PATIENCE` such gaps.
- It does not wait if the gap is longer than the run time of a batch, nor once its oldest call has waited for one run
  time: later calls join the next batch, which starts just as soon.
- If a wait attracts no further call, batches stop waiting until calls overlap again. So a caller that makes one call
  after another is answered at once, regardless of `max_latency_ms`.
- A batch starts early enough that its oldest call is answered within `max_latency_ms` of its arrival, and every call
  before its deadline, assuming the mean run time so far.
"""

from __future__ import annotations

import asyncio
import contextvars
import pickle
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from types import FunctionType
from typing import Any, Protocol

from nbcompose._replica import joining
from nbcompose._schema import check_awaited
from nbcompose._spec import BatchPolicy
from nbcompose._tracing import CallContext
from nbcompose._user_exceptions import text_of
from nbcompose.errors import CallCancelled, DeadlineExceeded, InvalidArgument, InvalidResult

# Computes one batch from the joined items, the api's other arguments, and the batch's own context.
Run = Callable[[Any, Mapping[str, Any], CallContext], Awaitable[Any]]


class FailedResult:
    """An exception as a value: a future rejects some exceptions (StopIteration)."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class BatchedCall:
    """One call, or one piece of a call that is larger than a batch. `done` gets its result or a `FailedResult`.

    `since`: its arrival, in seconds on the batcher's clock.
    """

    __slots__ = ("_settled", "batch", "context", "done", "items", "on_start", "others", "since", "size")

    def __init__(
        self,
        items: Any,
        size: int,
        others: Mapping[str, Any],
        context: CallContext,
        on_start: Callable[[], None] | None,
        since: float,
    ) -> None:
        self.items = items
        self.size = size
        self.others = others
        self.context = context
        self.on_start = on_start
        self.since = since
        self.batch: Batch | None = None
        self.done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._settled = False

    @property
    def wanted(self) -> bool:
        """Whether its caller still waits for it."""
        return not self._settled

    @property
    def waits(self) -> bool:
        """Whether its batch has not started."""
        return self.batch is None and not self._settled

    def give_up(self, error: Exception) -> None:
        """Stop waiting and raise `error`."""
        self.settle(FailedResult(error))

    def settle(self, outcome: Any) -> None:
        if self._settled:
            return
        self._settled = True
        if not self.done.done():  # it is done if the waiting task was cancelled
            self.done.set_result(outcome)

    def leave(self) -> None:
        """Remove the call, whose caller is gone, from the queue or from its batch, which others may still want."""
        if self._settled:
            return
        self.settle(FailedResult(CallCancelled("the caller gave up")))
        if self.batch is not None:
            self.batch.leave()

    def refusal(self) -> Exception | None:
        """Return the error that prevents its computation (cancelled, deadline passed), or None."""
        if self.context.cancelled:
            return CallCancelled("the caller gave up")
        remaining = self.context.remaining()
        if remaining is not None and remaining <= 0:
            return DeadlineExceeded("the deadline passed before the batch of this call began")
        return None


def item_count(name: str, items: Any, dim: int) -> int:
    """Return the number of items in the batched argument of a call. Raises `InvalidArgument` if it is no batch."""
    try:
        return joining.length(items, dim)
    except TypeError as error:
        raise InvalidArgument(f"{name} takes batches: {error}") from None


def split_result(name: str, result: Any, calls: Sequence[tuple[Any, int]], dim: int) -> list[Any]:
    """Split the result of a batch into one part for each of `calls`, which are (items, number of items).

    A part with an exception among its results is a `FailedResult`. Raises `InvalidResult` unless there is one result
    for each item, and `NotAwaited`.
    """
    check_awaited(result)
    sizes = [size for _, size in calls]
    try:
        count = joining.length(result, dim)
    except TypeError as error:
        raise InvalidResult(f"{name} must return one result for each input: {error}") from None
    if count != sum(sizes):
        raise InvalidResult(f"{name}: got {count} results for {sum(sizes)} inputs")
    parts: list[Any] = []
    for (items, _), part in zip(calls, joining.split(result, sizes, dim), strict=True):
        errors = [r for r in part if isinstance(r, Exception)] if isinstance(part, list | tuple) else []
        parts.append(FailedResult(errors[0]) if errors else joining.labelled(part, items))
    return parts


class _BatchContext(CallContext):
    """The context of a batch: what its code writes belongs to all of its calls."""

    __slots__ = ("together",)


class Batch:
    """Calls that are computed together.

    `context` has the latest of their deadlines and the trace of the oldest call; it is cancelled when the callers of
    all of them are gone. The computation continues even then, since a thread cannot be stopped.
    """

    def __init__(self, calls: Sequence[BatchedCall], name: str, dims: tuple[int, int]) -> None:
        self._calls = calls
        self._name = name
        self._dims = dims
        self._wanted = len(calls)
        deadlines = [c.context.deadline for c in calls]
        latest = None if None in deadlines else max(d for d in deadlines if d is not None)
        first = calls[0].context
        self.context = _BatchContext(latest, first.trace_id, first.span_id, first.trace_flags, first.trace_state)
        self.context.together = tuple(c.context.trace_id for c in calls)

    def leave(self) -> None:
        self._wanted -= 1
        if self._wanted == 0:
            self.context.cancel()

    async def compute(self, run: Run) -> None:
        """Run the batch; every call gets its part of the result, or an exception."""
        for call in self._calls:
            call.batch = self
            if call.on_start is not None:
                call.on_start()
        try:
            items = joining.join([c.items for c in self._calls], self._dims[0])
            self._hand_out(await run(items, self._calls[0].others, self.context))
        except asyncio.CancelledError:
            self._fail(CallCancelled(f"{self._name}: the batch was cancelled"))
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
        except Exception as error:
            self._fail(error)
        except BaseException as error:
            self._fail(error)
            raise

    def _hand_out(self, result: Any) -> None:
        parts = split_result(self._name, result, [(c.items, c.size) for c in self._calls], self._dims[1])
        for call, part in zip(self._calls, parts, strict=True):
            call.settle(part)

    def _fail(self, error: BaseException) -> None:
        for call in self._calls:
            call.settle(FailedResult(error if len(self._calls) == 1 else _twin(error)))


def _twin(error: BaseException) -> BaseException:
    """Return a copy of an error for one caller, so that callers do not extend the same traceback.

    Returns the error itself if it cannot be copied. The copy is made without `__init__`, whose arguments are unknown.
    """
    try:
        if isinstance(type(error).__str__, FunctionType):  # user code, which may be slow
            return error
        twin = type(error).__new__(type(error), *error.args)
        twin.__dict__.update(error.__dict__)
        if text_of(twin) != text_of(error):
            return error
    except BaseException:  # code of the user's class may raise anything
        return error
    twin.__context__, twin.__cause__ = error.__context__, error.__cause__
    twin.__suppress_context__ = error.__suppress_context__
    return twin.with_traceback(error.__traceback__)


PATIENCE = 3.0
# The weight of the newest sample in the mean gap and the mean run time.
_WEIGHT = 0.25


class Rhythm:
    """Statistics of arrivals and run times, from which the wait of a batch is computed. All times are in seconds."""

    def __init__(self, max_latency: float | None) -> None:
        self._max_latency = max_latency
        self._latest = 0.0
        self._gap: float | None = None
        self._run: float | None = None

    def arrived(self, now: float, overlapping: bool) -> None:
        if overlapping:
            self._gap = _mean(self._gap, now - self._latest)
        self._latest = now

    def ran(self, seconds: float) -> None:
        self._run = _mean(self._run, seconds)

    def nobody_came(self) -> None:
        self._gap = None

    def pause(self, now: float, calls: Iterable[BatchedCall]) -> float:
        """Return how long a batch of `calls` (oldest first) waits from `now` for another call; 0 or less: start now."""
        waiting = [c for c in calls if c.wanted]
        if self._max_latency is None or self._gap is None or self._run is None or not waiting:
            return 0.0
        if self._gap >= self._run:
            return 0.0
        deadlines = [r - self._run for c in waiting if (r := c.context.remaining()) is not None]
        return min(
            self._latest + PATIENCE * self._gap - now,
            waiting[0].since + min(self._run, self._max_latency - self._run) - now,
            *deadlines,
        )


class WaitingLine(Protocol):
    """Tracks calls that wait for a batch, and may call their `give_up` (see `admission.Queue`)."""

    def enter(self, call: BatchedCall) -> None: ...

    def leave(self, call: BatchedCall) -> None: ...


class Batcher:
    """Forms and runs the batches of one api in one replica.

    `run(items, others, context)` computes one batch. `name` identifies the api in messages. `context` (contextvars) is
    copied for the task that runs the batches. `line` is notified of calls that arrive while others are ahead of them.
    `since`: when the running batch started, in seconds on `clock`; None if none is running. Each batch has its own
    call context with the latest deadline of its calls; it is cancelled when all its callers are gone, but the next
    batch starts only after `run` has returned.
    """

    def __init__(
        self,
        run: Run,
        policy: BatchPolicy,
        name: str,
        clock: Callable[[], float] = time.monotonic,  # uvloop's clock has a resolution of 1 ms
        context: contextvars.Context | None = None,
        line: WaitingLine | None = None,
    ) -> None:
        self.since: float | None = None
        self._run = run
        self._policy = policy
        self._name = name
        self._clock = clock
        self._context = context if context is not None else contextvars.Context()
        # Only calls with the same key can be joined; the group that is next comes first.
        self._groups: OrderedDict[Hashable, deque[BatchedCall]] = OrderedDict()
        self._rhythm = Rhythm(None if policy.max_latency_ms is None else policy.max_latency_ms / 1000)
        self._line = line
        self._unanswered = 0
        self._arrival = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    async def submit(
        self,
        items: Any,
        others: Mapping[str, Any],
        context: CallContext,
        on_start: Callable[[], None] | None = None,
    ) -> Any:
        """Return the results for `items` (see `joining.FORMS`), as many as there are items.

        `others` are the api's other arguments: only calls with equal ones are joined. `on_start` is called when the
        (first) batch with these items starts. A call without items is treated like any other: if it is alone in its
        batch, the method runs with no items.

        Raises what the method raised, or the exception in place of one of the results; InvalidArgument and
        InvalidResult if the items or the results are not a batch; CallCancelled and DeadlineExceeded.
        """
        dim_in, dim_out = self._policy.batch_dim
        size = item_count(self._name, items, dim_in)
        limit = self._policy.max_batch_size
        if size <= limit:
            return await self._one(BatchedCall(items, size, others, context, on_start, self._clock()))
        sizes = [min(limit, size - start) for start in range(0, size, limit)]
        results: list[Any] = []
        # One after another, so that a large call takes turns with the others.
        for n, piece in zip(sizes, joining.split(items, sizes, dim_in), strict=True):
            call = BatchedCall(piece, n, others, context, None if results else on_start, self._clock())
            results.append(await self._one(call))
        return joining.labelled(joining.join(results, dim_out), items)

    async def _one(self, call: BatchedCall) -> Any:
        refusal = call.refusal()
        if refusal is not None:
            raise refusal
        call.context.on_cancel(call.leave)
        if self._line is not None and self._unanswered:
            self._line.enter(call)
        self._enqueue(call)
        try:
            outcome = await call.done
        except asyncio.CancelledError:
            call.leave()
            raise
        finally:
            call.context.forget(call.leave)
            if self._line is not None:
                self._line.leave(call)
            self._unanswered -= 1
        if isinstance(outcome, FailedResult):
            raise outcome.error
        return outcome

    def _enqueue(self, call: BatchedCall) -> None:
        self._rhythm.arrived(call.since, overlapping=self._unanswered > 0)
        self._unanswered += 1
        key = (joining.kind(call.items, self._policy.batch_dim[0]), _fingerprint(call.others))
        self._groups.setdefault(key, deque()).append(call)
        self._arrival.set()
        if self._worker is None:
            # In a separate context: a batch does not belong to the call that happened to arrive first.
            loop = asyncio.get_running_loop()
            self._worker = loop.create_task(self._work(), context=self._context.copy())

    async def _work(self) -> None:
        """Compute batches until the queue is empty."""
        try:
            while self._groups:
                key, group = next(iter(self._groups.items()))
                await self._wait_for_company(group)
                calls = self._take(group)
                if group:
                    self._groups.move_to_end(key)
                else:
                    del self._groups[key]
                if calls:
                    began = self.since = self._clock()
                    batch = Batch(calls, self._name, self._policy.batch_dim)
                    await batch.compute(self._run)
                    self.since = None
                    self._rhythm.ran(self._clock() - began)
        finally:
            self._worker = self.since = None
            # Calls are left only if the loop is being shut down.
            for call in [c for group in self._groups.values() for c in group]:
                call.settle(FailedResult(CallCancelled(f"{self._name} is stopping")))
            self._groups.clear()

    async def _wait_for_company(self, group: deque[BatchedCall]) -> None:
        size, waited = len(group), False
        while sum(c.size for c in group if c.wanted) < self._policy.max_batch_size:
            pause = self._rhythm.pause(self._clock(), group)
            if pause <= 0:
                break
            waited = True
            self._arrival.clear()
            try:
                async with asyncio.timeout(pause):
                    await self._arrival.wait()
            except TimeoutError:
                break
        if waited and len(group) == size:
            self._rhythm.nobody_came()

    def _take(self, group: deque[BatchedCall]) -> list[BatchedCall]:
        """Remove the oldest calls that fit in a batch from the queue, and return them without abandoned ones."""
        taken: list[BatchedCall] = []
        room = self._policy.max_batch_size
        while group and (not group[0].wanted or self._fits(group[0], taken, room)):
            call = group.popleft()
            refusal = call.refusal()
            if refusal is not None:
                call.settle(FailedResult(refusal))
            if call.wanted:
                taken.append(call)
                room -= call.size
        return taken

    def _fits(self, call: BatchedCall, taken: list[BatchedCall], room: int) -> bool:
        return call.size <= room and not joining.clashes(call.items, [c.items for c in taken])


def _mean(mean: float | None, sample: float) -> float:
    return sample if mean is None else mean + _WEIGHT * (sample - mean)


def _fingerprint(others: Mapping[str, Any]) -> Hashable:
    """Return a key that is equal for equal arguments; unique for arguments that cannot be pickled (stream, lambda)."""
    if not others:
        return b""
    try:
        # By bytes, not by `==`: 1, 1.0 and True are equal but different, and `==` of arrays is not a bool.
        return pickle.dumps(dict(others), protocol=5)
    except Exception:
        return object()
