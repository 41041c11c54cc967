"""One batch: the calls in it, the context it is computed in, and how its result goes back to them.

Which calls make a batch, and when, is decided in `batcher.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import FunctionType
from typing import Any

from nbcompose.batching import joining
from nbcompose.errors import CallCancelled, DeadlineExceeded, InvalidResult
from nbcompose.raised import text_of
from nbcompose.tracing import CallContext
from nbcompose.unawaited import check_awaited

# Computes one batch: the joined items, the api's other arguments, the batch's own context.
Run = Callable[[Any, Mapping[str, Any], CallContext], Awaitable[Any]]


class Failure:
    """An exception as a value: a future refuses to carry some of them (StopIteration)."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Call:
    """One call, or one piece of a call that is larger than a batch; `done` gets its result or a Failure.

    `since` is when it came, on the batcher's clock.
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
        """Whether somebody still waits for it."""
        return not self._settled

    @property
    def waits(self) -> bool:
        """Whether its batch has not begun."""
        return self.batch is None and not self._settled

    def give_up(self, error: Exception) -> None:
        """Wait no more, and raise this."""
        self.settle(Failure(error))

    def settle(self, outcome: Any) -> None:
        if self._settled:
            return
        self._settled = True
        if not self.done.done():  # it is when the task that waits for it was cancelled
            self.done.set_result(outcome)

    def leave(self) -> None:
        """The caller has gone: out of the queue, or out of its batch, which others may still want."""
        if self._settled:
            return
        self.settle(Failure(CallCancelled("the caller gave up")))
        if self.batch is not None:
            self.batch.leave()

    def refusal(self) -> Exception | None:
        """Why it must not be computed, if there is a reason."""
        if self.context.cancelled:
            return CallCancelled("the caller gave up")
        remaining = self.context.remaining()
        if remaining is not None and remaining <= 0:
            return DeadlineExceeded("the deadline passed before the batch of this call began")
        return None


class Batch:
    """Calls that are computed together.

    `context` has the latest of their deadlines and the trace of the oldest; it is cancelled when all of them are
    gone. The computation goes on even then: nothing stops a thread.
    """

    def __init__(self, calls: Sequence[Call], name: str, dims: tuple[int, int]) -> None:
        self._calls = calls
        self._name = name
        self._dims = dims
        self._wanted = len(calls)
        deadlines = [c.context.deadline for c in calls]
        latest = None if None in deadlines else max(d for d in deadlines if d is not None)
        first = calls[0].context
        self.context = CallContext(latest, first.trace_id, first.span_id, first.trace_flags, first.trace_state)

    def leave(self) -> None:
        self._wanted -= 1
        if self._wanted == 0:
            self.context.cancel()

    async def compute(self, run: Run) -> None:
        """Every call gets its part of the result, or an exception."""
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
        check_awaited(result)
        sizes = [c.size for c in self._calls]
        dim = self._dims[1]
        try:
            count = joining.length(result, dim)
        except TypeError as error:
            raise InvalidResult(f"{self._name} must return one result for each input: {error}") from None
        if count != sum(sizes):
            raise InvalidResult(f"{self._name}: got {count} results for {sum(sizes)} inputs")
        for call, part in zip(self._calls, joining.split(result, sizes, dim), strict=True):
            errors = [r for r in part if isinstance(r, Exception)] if isinstance(part, list | tuple) else []
            call.settle(Failure(errors[0]) if errors else joining.labelled(part, call.items))

    def _fail(self, error: BaseException) -> None:
        for call in self._calls:
            call.settle(Failure(error if len(self._calls) == 1 else _twin(error)))


def _twin(error: BaseException) -> BaseException:
    """A copy for one caller, so that tracebacks do not grow into one another's; the error itself if that fails.

    Made without `__init__`, whose arguments are unknown here.
    """
    try:
        if isinstance(type(error).__str__, FunctionType):  # it may do anything, and take its time
            return error
        twin = type(error).__new__(type(error), *error.args)
        twin.__dict__.update(error.__dict__)
        if text_of(twin) != text_of(error):
            return error
    except BaseException:  # code of its class, which may raise anything
        return error
    twin.__context__, twin.__cause__ = error.__context__, error.__cause__
    twin.__suppress_context__ = error.__suppress_context__
    return twin.with_traceback(error.__traceback__)
