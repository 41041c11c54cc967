from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import numpy as np
import pytest

from nbcompose._replica.batching import PATIENCE, BatchedCall, Batcher, Rhythm
from nbcompose._spec import BatchPolicy
from nbcompose._tracing.spans import CallContext, current_call
from nbcompose.errors import CallCancelled, DeadlineExceeded, InvalidArgument, InvalidResult


class Model:
    """An api that upper-cases: keeps what it was given, and computes when `gate` is open."""

    def __init__(self, policy: BatchPolicy | None = None, method: Callable[..., Any] | None = None) -> None:
        self.batches: list[Any] = []
        self.contexts: list[CallContext] = []
        self.others: list[Mapping[str, Any]] = []
        self.started = asyncio.Semaphore(0)
        self.gate = asyncio.Event()
        self.gate.set()
        self._method = method or (lambda texts, **others: [t.upper() for t in texts])
        self.batcher = Batcher(self._run, policy or BatchPolicy(), "Model.shout")

    async def _run(self, texts: Any, others: Mapping[str, Any], context: CallContext) -> Any:
        self.batches.append(texts)
        self.others.append(others)
        self.contexts.append(context)
        self.started.release()
        await self.gate.wait()
        return self._method(texts, **others)

    def call(self, texts: Any, context: CallContext | None = None, **others: Any) -> asyncio.Task[Any]:
        return asyncio.create_task(self.submit(texts, context, **others))

    async def submit(self, texts: Any, context: CallContext | None = None, **others: Any) -> Any:
        return await self.batcher.submit(texts, others, context or CallContext())

    async def busy(self) -> asyncio.Task[Any]:
        """A first call that computes until `gate` is opened, so that what follows queues up."""
        self.gate.clear()
        first = self.call(["first"])
        await self.started.acquire()
        return first


async def queued(*calls: asyncio.Task[Any]) -> None:
    """Let tasks that were just created reach the queue."""
    await asyncio.sleep(0)
    assert not any(c.done() for c in calls)


async def test_calls_at_the_same_time_are_one_batch() -> None:
    model = Model()
    results = await asyncio.gather(*(model.submit([c, c + "x"]) for c in "abc"))
    assert results == [["A", "AX"], ["B", "BX"], ["C", "CX"]]
    assert model.batches == [["a", "ax", "b", "bx", "c", "cx"]]


async def test_what_queued_while_a_batch_ran_is_the_next_batch() -> None:
    model = Model()
    first = await model.busy()
    later = [model.call([c]) for c in "abc"]
    await queued(*later)
    assert model.batches == [["first"]]
    model.gate.set()
    assert await asyncio.gather(first, *later) == [["FIRST"], ["A"], ["B"], ["C"]]
    assert model.batches == [["first"], ["a", "b", "c"]]


async def test_a_batch_closes_at_its_size_without_dividing_calls() -> None:
    model = Model(BatchPolicy(max_batch_size=4))
    texts = [["a"] * 2, ["b"] * 2, ["c"] * 3, ["d"] * 2]
    assert await asyncio.gather(*map(model.submit, texts)) == [[t.upper() for t in ts] for ts in texts]
    assert model.batches == [["a", "a", "b", "b"], ["c"] * 3, ["d"] * 2]


async def test_a_larger_call_is_split_and_takes_turns() -> None:
    model = Model(BatchPolicy(max_batch_size=2))
    large, small = model.call(list("abcde")), model.call(["x"])
    assert await large == list("ABCDE")
    assert await small == ["X"]
    assert model.batches == [["a", "b"], ["x"], ["c", "d"], ["e"]]


async def test_a_split_call_starts_once_and_an_error_ends_it() -> None:
    def method(texts: list[str]) -> list[str]:
        if "c" in texts:
            raise ValueError("no c")
        return texts

    model = Model(BatchPolicy(max_batch_size=1), method)
    starts: list[int] = []
    with pytest.raises(ValueError, match="no c"):
        await model.batcher.submit(list("abcde"), {}, CallContext(), on_start=lambda: starts.append(1))
    assert model.batches == [["a"], ["b"], ["c"]]
    assert starts == [1]


async def test_only_calls_with_equal_further_arguments_are_joined() -> None:
    model = Model()
    others: list[dict[str, Any]] = [{"k": 1}, {"k": True}, {}, {"k": 1}, {"k": np.ones(2)}, {"k": np.ones(2)}]
    await asyncio.gather(*(model.submit([str(i)], **o) for i, o in enumerate(others)))
    assert model.batches == [["0", "3"], ["1"], ["2"], ["4", "5"]]
    assert model.others[1] == {"k": True}


async def test_different_arguments_take_turns() -> None:
    model = Model(BatchPolicy(max_batch_size=1))
    await asyncio.gather(*(model.submit([t], k=k) for t, k in [("a", 1), ("b", 1), ("c", 1), ("d", 2)]))
    assert model.batches == [["a"], ["d"], ["b"], ["c"]]


async def test_further_arguments_that_cannot_be_compared_join_nothing() -> None:
    model = Model()
    same = lambda text: text  # noqa: E731 (pickle refuses a lambda, which is the point)
    assert await asyncio.gather(model.submit(["a"], k=same), model.submit(["b"], k=same)) == [["A"], ["B"]]
    assert model.batches == [["a"], ["b"]]


async def test_arrays_of_other_shapes_or_dtypes_are_not_joined() -> None:
    model = Model(method=lambda rows: rows * 2)
    rows = [np.ones((1, 2)), np.ones((1, 3)), np.ones((2, 2)), np.ones((1, 2), "f4")]
    results = await asyncio.gather(*map(model.submit, rows))
    assert [r.shape for r in results] == [(1, 2), (1, 3), (2, 2), (1, 2)]
    assert [r.dtype.str for r in results] == ["<f8", "<f8", "<f8", "<f4"]
    assert [b.shape for b in model.batches] == [(3, 2), (1, 3), (1, 2)]


async def test_input_and_result_may_have_different_dimensions() -> None:
    model = Model(BatchPolicy(batch_dim=(1, 0)), lambda columns: columns.T * 2)
    left, right = await asyncio.gather(model.submit(np.ones((3, 2))), model.submit(np.zeros((3, 1))))
    assert (left.shape, right.shape) == ((2, 3), (1, 3))
    assert left.sum() == 12


async def test_an_exception_among_the_results_fails_its_caller_alone() -> None:
    def method(texts: list[str]) -> list[Any]:
        return [ValueError(f"bad {t}") if t == "b" else t for t in texts]

    model = Model(method=method)
    a, b, c = await asyncio.gather(*(model.submit([t]) for t in "abc"), return_exceptions=True)
    assert (a, c) == (["a"], ["c"])
    assert isinstance(b, ValueError)
    assert str(b) == "bad b"
    assert len(model.batches) == 1


class Unlucky(Exception):
    def __init__(self, code: int, *, hint: str) -> None:
        super().__init__(f"code {code}")
        self.hint = hint


async def test_the_batchs_exception_goes_to_each_as_its_own_copy() -> None:
    def method(texts: list[str]) -> list[str]:
        raise Unlucky(7, hint="try later") from KeyError("inner")

    errors: list[Any] = await asyncio.gather(*(Model(method=method).submit(["x"]) for _ in "a"), return_exceptions=True)
    model = Model(method=method)
    errors += await asyncio.gather(model.submit(["a"]), model.submit(["b"]), return_exceptions=True)
    assert len(set(map(id, errors))) == 3
    for error in errors:
        assert isinstance(error, Unlucky)
        assert (str(error), error.hint) == ("code 7", "try later")
        assert isinstance(error.__cause__, KeyError)
        frames = error.__traceback__
        names = []
        while frames is not None:
            names.append(frames.tb_frame.f_code.co_name)
            frames = frames.tb_next
        assert names[-1] == "method"
        assert names.count("submit") == 2  # once in this file, once in the batcher: nobody else's frames


async def test_an_exception_that_cannot_be_copied_is_shared() -> None:
    def method(texts: list[str]) -> list[str]:
        b"\xff".decode("utf-8")
        return texts

    model = Model(method=method)
    left: Any
    right: Any
    left, right = await asyncio.gather(model.submit(["a"]), model.submit(["b"]), return_exceptions=True)
    assert isinstance(left, UnicodeDecodeError)
    assert str(left) == str(right)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (["one"], "Model.shout: got 1 results for 2 inputs"),
        ([], "Model.shout: got 0 results for 2 inputs"),
        (np.ones((3, 2)), "Model.shout: got 3 results for 2 inputs"),
        ("ab", "Model.shout must return one result for each input: expected a list, .* got str"),
        (None, "Model.shout must return one result for each input: .* got NoneType"),
        (np.array(1.0), "Model.shout must return one result for each input: .* no dimension 0"),
    ],
)
async def test_a_result_of_the_wrong_length_or_form_fails_all(result: Any, message: str) -> None:
    model = Model(method=lambda texts: result)
    errors = await asyncio.gather(model.submit(["a"]), model.submit(["b"]), return_exceptions=True)
    for error in errors:
        assert isinstance(error, InvalidResult)
        with pytest.raises(InvalidResult, match=message):
            raise error


async def test_what_is_no_batch_is_the_callers_mistake() -> None:
    model = Model()
    with pytest.raises(InvalidArgument, match=r"^Model.shout takes batches: expected a list, .* got str$"):
        await model.submit("bare")
    assert model.batches == []


async def test_no_items_alone_and_with_others() -> None:
    model = Model()
    assert await model.submit([]) == []
    assert model.batches == [[]]
    arrays = Model(method=lambda rows: np.zeros((len(rows), 8)))
    empty, one = await asyncio.gather(arrays.submit([]), arrays.submit(["a"]))
    assert (empty.shape, one.shape) == ((0, 8), (1, 8))


async def test_a_caller_cancelled_in_the_queue_leaves_it() -> None:
    model = Model()
    first = await model.busy()
    context = CallContext()
    by_task, by_context, stays = model.call(["a"]), model.call(["b"], context), model.call(["c"])
    await queued(by_task, by_context, stays)
    by_task.cancel()
    context.cancel()
    with pytest.raises(asyncio.CancelledError):
        await by_task
    with pytest.raises(CallCancelled):
        await by_context
    model.gate.set()
    assert await asyncio.gather(first, stays) == [["FIRST"], ["C"]]
    assert model.batches == [["first"], ["c"]]


async def test_nothing_is_computed_when_everybody_left_the_queue() -> None:
    model = Model()
    first = await model.busy()
    gone = model.call(["a"])
    await queued(gone)
    gone.cancel()
    model.gate.set()
    await first
    assert await model.submit(["b"]) == ["B"]
    assert model.batches == [["first"], ["b"]]


async def test_a_caller_cancelled_while_it_computes_leaves_the_others_alone() -> None:
    model = Model()
    first = await model.busy()
    context = CallContext()
    calls = [model.call(["a"]), model.call(["b"], context), model.call(["c"])]
    await queued(*calls)
    model.gate.set()
    model.gate = asyncio.Event()  # holds the second batch
    await first
    await model.started.acquire()
    calls[0].cancel()
    context.cancel()
    with pytest.raises(CallCancelled):
        await calls[1]
    assert not model.contexts[1].cancelled
    model.gate.set()
    assert await calls[2] == ["C"]
    assert calls[0].cancelled()


async def test_when_all_have_gone_the_batch_is_told_and_the_next_waits_for_it() -> None:
    model = Model()
    first = await model.busy()
    second = model.call(["b"])
    await queued(second)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert model.contexts[0].cancelled
    assert model.batches == [["first"]]
    model.gate.set()
    assert await second == ["B"]


async def test_giving_up_after_the_answer_changes_nothing() -> None:
    model = Model()
    context = CallContext()
    await model.submit(["a"], context)
    context.cancel()
    assert not model.contexts[0].cancelled


async def test_an_expired_call_is_not_computed() -> None:
    model = Model()
    with pytest.raises(DeadlineExceeded):
        await model.submit(["a"], CallContext(time.monotonic() - 1))
    first = await model.busy()
    context = CallContext(time.monotonic() + 1000)
    late, fine = model.call(["b"], context), model.call(["c"])
    await queued(late, fine)
    context.deadline = time.monotonic() - 1  # as if it had waited that long
    model.gate.set()
    with pytest.raises(DeadlineExceeded):
        await late
    assert await asyncio.gather(first, fine) == [["FIRST"], ["C"]]
    assert model.batches == [["first"], ["c"]]


async def test_a_call_of_a_caller_that_has_gone_is_refused() -> None:
    model = Model()
    context = CallContext()
    context.cancel()
    with pytest.raises(CallCancelled):
        await model.submit(["a"], context)
    assert model.batches == []


async def test_a_batch_has_the_latest_deadline_and_the_oldest_calls_trace() -> None:
    model = Model()
    now = time.monotonic()
    near, far = CallContext(now + 100, trace_id=1, span_id=11), CallContext(now + 200, trace_id=2, span_id=22)
    await asyncio.gather(model.submit(["a"], near), model.submit(["b"], far))
    await asyncio.gather(model.submit(["a"], near), model.submit(["b"], CallContext()))
    assert [c.deadline for c in model.contexts] == [now + 200, None]
    assert (model.contexts[0].trace_id, model.contexts[0].span_id) == (1, 11)


async def test_a_batch_does_not_run_in_the_first_callers_context() -> None:
    seen: list[Any] = []

    def method(texts: list[str]) -> list[str]:
        seen.append(current_call.get())
        return texts

    current_call.set(CallContext())
    await Model(method=method).submit(["a"])
    assert seen == [None]


async def test_on_start_marks_the_end_of_queueing() -> None:
    model = Model()
    first = await model.busy()
    events: list[str] = []
    second = asyncio.create_task(
        model.batcher.submit(["b"], {}, CallContext(), on_start=lambda: events.append("started"))
    )
    await queued(second)
    assert events == []
    model.gate.set()
    await asyncio.gather(first, second)
    assert events == ["started"]


async def test_a_method_that_is_cancelled_from_inside_fails_its_batch_only() -> None:
    def method(texts: list[str]) -> list[str]:
        if texts == ["bad"]:
            raise asyncio.CancelledError
        return texts

    model = Model(method=lambda texts, **others: method(texts))
    bad: Any
    good: Any
    bad, good = await asyncio.gather(model.submit(["bad"]), model.submit(["good"], k=1), return_exceptions=True)
    assert good == ["good"]
    with pytest.raises(CallCancelled, match=r"Model\.shout: the batch was cancelled"):
        raise bad


# --- how long a batch waits: on a clock that jumps to the next timer, so that nothing here takes time


class JumpingLoop(asyncio.SelectorEventLoop):
    """Whenever there is nothing to do, the time of the next timer comes at once."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        select = self._selector.select  # type: ignore[attr-defined]

        def jump(timeout: float | None = None) -> Any:
            if timeout is None:
                raise RuntimeError("everything waits, and no timer is left")
            self._now += timeout
            return select(0)

        self._selector.select = jump  # type: ignore[attr-defined]

    def time(self) -> float:
        return self._now


RUN = 0.1


class Timed:
    """An api whose batches take `RUN` seconds."""

    def __init__(self, max_latency_ms: float | None, max_batch_size: int = 100) -> None:
        policy = BatchPolicy(max_latency_ms=max_latency_ms, max_batch_size=max_batch_size)
        self.clock = asyncio.get_running_loop().time
        self.batches: list[tuple[float, int]] = []
        self.batcher = Batcher(self._run, policy, "Timed.run", self.clock)

    async def _run(self, texts: Any, others: Mapping[str, Any], context: CallContext) -> Any:
        self.batches.append((round(self.clock(), 6), len(texts)))
        await asyncio.sleep(RUN)
        return texts

    async def at(self, when: float) -> float:
        """Call at this time; how long it took."""
        await asyncio.sleep(when - self.clock())
        began = self.clock()
        await self.batcher.submit(["x"], {}, CallContext())
        return round(self.clock() - began, 6)

    async def burst(self, when: float, calls: int, gap: float) -> list[float]:
        return await asyncio.gather(*(self.at(when + i * gap) for i in range(calls)))


def timed(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(scenario())


def test_a_lone_sequential_caller_never_waits() -> None:
    async def scenario() -> None:
        model = Timed(max_latency_ms=60_000)
        assert [await model.at(i) for i in range(5)] == [RUN] * 5

    timed(scenario)


def test_without_a_latency_nothing_waits_even_after_bursts() -> None:
    async def scenario() -> None:
        model = Timed(max_latency_ms=None)
        await model.burst(0, 8, 0.001)
        await model.burst(10, 8, 0.001)
        assert model.batches == [(0.0, 1), (0.1, 7), (10.0, 1), (10.1, 7)]

    timed(scenario)


def test_a_second_burst_is_one_batch() -> None:
    async def scenario() -> None:
        model = Timed(max_latency_ms=1000)
        await model.burst(0, 8, 0.001)  # nothing is known yet: the first goes alone
        assert [size for _, size in model.batches] == [1, 7]
        took = await model.burst(10, 8, 0.001)
        (start, size) = model.batches[-1]
        assert size == 8
        assert start == pytest.approx(10 + 7 * 0.001 + PATIENCE * 0.001, abs=1e-4)
        assert max(took) == pytest.approx(start + RUN - 10, abs=1e-4)

    timed(scenario)


def test_a_wait_that_brings_nobody_is_the_last_one() -> None:
    async def scenario() -> None:
        model = Timed(max_latency_ms=1000)
        await model.burst(0, 8, 0.001)
        first, *rest = [await model.at(10 + i) for i in range(4)]
        assert first == pytest.approx(RUN + PATIENCE * 0.001, abs=1e-4)
        assert rest == [RUN] * 3

    timed(scenario)


def test_a_full_batch_starts_at_once() -> None:
    async def scenario() -> None:
        model = Timed(max_latency_ms=1000, max_batch_size=4)
        await model.burst(0, 8, 0.001)
        await model.burst(10, 4, 0.001)
        assert model.batches[-1] == (pytest.approx(10.003, abs=1e-4), 4)

    timed(scenario)


def test_a_wait_is_bounded_by_the_latency_less_the_run() -> None:
    async def scenario() -> None:
        model = Timed(max_latency_ms=105)
        await model.burst(0, 8, 0.001)
        took = await model.burst(10, 50, 0.001)
        assert took[0] == pytest.approx(0.105, abs=1e-3)
        assert model.batches[2][1] < 10

    timed(scenario)


def test_nobody_waits_for_company_longer_than_a_run_takes() -> None:
    async def scenario() -> None:
        model = Timed(max_latency_ms=60_000, max_batch_size=100_000)
        await model.burst(0, 8, 0.001)
        took = await model.burst(10, 1000, 0.001)
        assert max(took) <= 2 * RUN + 0.01
        assert sum(size for _, size in model.batches) == 1008

    timed(scenario)


class Noted:
    """What `Rhythm.pause` reads of a call."""

    def __init__(self, arrived: float, left: float | None = None) -> None:
        self.call = BatchedCall(
            [], 0, {}, CallContext(None if left is None else time.monotonic() + left), lambda: None, arrived
        )


async def test_the_pause_ends_early_enough_for_deadlines() -> None:
    rhythm = Rhythm(max_latency=10.0)
    rhythm.arrived(0.0, overlapping=False)
    rhythm.arrived(1.0, overlapping=True)
    rhythm.ran(5.0)
    assert rhythm.pause(1.0, [Noted(0.0).call]) == PATIENCE * 1.0
    assert rhythm.pause(1.0, [Noted(0.0, left=7.0).call]) == pytest.approx(2.0, abs=0.1)
    assert rhythm.pause(1.0, [Noted(0.0).call, Noted(1.0, left=1.0).call]) < 0
    assert rhythm.pause(1.0, []) == 0


async def test_calls_further_apart_than_a_run_takes_are_not_waited_for() -> None:
    rhythm = Rhythm(max_latency=60.0)
    rhythm.arrived(0.0, overlapping=False)
    rhythm.arrived(1.0, overlapping=True)
    rhythm.ran(1.5)
    assert rhythm.pause(1.0, [Noted(1.0).call]) == 1.5
    rhythm.ran(0.0)
    rhythm.ran(0.0)
    assert rhythm.pause(1.0, [Noted(1.0).call]) == 0


async def test_calls_left_when_the_loop_ends_are_answered() -> None:
    outcomes: list[Any] = []

    async def caller(submit: Awaitable[Any]) -> None:
        try:
            await submit
        except BaseException as error:
            outcomes.append(type(error))
            raise

    model = Model()
    first = await model.busy()
    left = asyncio.create_task(caller(model.submit(["b"])))
    await queued(left)
    assert model.batcher._worker is not None
    model.batcher._worker.cancel()
    with pytest.raises(CallCancelled):
        await first
    with pytest.raises(CallCancelled, match=r"Model\.shout is stopping"):
        await left
    assert outcomes == [CallCancelled]
