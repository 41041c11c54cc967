"""Worker threads of a replica: run synchronous apis and generators, and interrupt calls whose caller is gone.

An interrupt is an exception raised between any two instructions of a thread. `Interruptible` prevents it where it must
*not* be raised: in nbcompose's own code, in the next call of the thread, in an import. Code in C is not interrupted
before it returns.

The number of *slots* limits how many threads run at once. A running thread has a slot. A thread whose generator waits
for its consumer (`_replica/generators.py`) passes its slot to another thread, keeps its stack, and queues for a slot
before it continues. So a stream that is not read blocks no other call, and thread state set by a generator is not
visible to other calls.

An abandoned call, whose caller is gone, keeps its thread until it ends by itself or is interrupted. `__init__` runs
here too, so that it may call dependencies; it runs in the first thread, which is preferred whenever it is free.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Generic, TypeVar

from nbcompose._host import thread_state
from nbcompose._replica.admission import Holder, Queue
from nbcompose._spec import ApiSpec
from nbcompose._tracing import CallContext
from nbcompose._user_exceptions import contained
from nbcompose.errors import CallInterrupted

T = TypeVar("T")

_IMPORT = "<frozen importlib"


class Interruptible(Generic[T]):
    """A thread and its current work, which can be interrupted. `paused`: it waits in nbcompose's code during its work.

    The guard is held only briefly, and never while the work runs.
    """

    __slots__ = ("_guard", "_pending", "job", "paused", "thread")

    def __init__(self) -> None:
        self.job: T | None = None
        self.paused = False
        self._guard = threading.Lock()
        self._pending = False  # an exception has been sent for this work
        self.thread = 0

    # -- in the thread

    def enter(self) -> None:
        """Register the calling thread as the one to interrupt."""
        self.thread = threading.get_ident()

    def end(self) -> None:
        """End the work: after this has returned, no interrupt is raised any more.

        Raises `CallInterrupted` if an interrupt arrives meanwhile; it must then be called again.
        """
        with self._guard:
            self.job = None
            self.paused = False
            if self._pending:
                self._withdraw()

    def pause(self) -> None:
        """Prevent interrupts as `end` does, until `go_on`."""
        with self._guard:
            self.paused = True
            if self._pending:
                self._withdraw()

    def go_on(self) -> None:
        self.paused = False

    def _withdraw(self) -> None:
        self._pending = False
        thread_state.withdraw(self.thread)

    # -- in another thread

    def interrupt(self, job: T) -> bool:
        """Raise `CallInterrupted` in the thread if it does this work and is not in an import. Return whether it did."""
        with self._guard:
            if self.job is not job or self.paused or self._imports():
                return False
            self._pending = True
            thread_state.send(self.thread, CallInterrupted)
            if self._imports():  # it has started one meanwhile
                self._withdraw()
                return False
        return True

    def _imports(self) -> bool:
        frame: FrameType | None = sys._current_frames().get(self.thread)
        while frame is not None:
            if frame.f_code.co_filename.startswith(_IMPORT):
                return True
            frame = frame.f_back
        return False


SPARE = 4  # idle threads kept besides one for each slot, for further streams that pause
WAYS_OUT = "--threads, --replicas, --timeout"
NO_CALL = CallContext()
LOOK_AGAIN = 0.2  # seconds until the next attempt, for a call that is in an import or waits for a slot

logger = logging.getLogger("nbcompose.replica")

# Offset from `time.perf_counter()` to Unix time: computed once, so that converted times do not vary.
_EPOCH = time.time() - time.perf_counter()


class Worker(Interruptible["Job"]):
    """One of the worker threads. `paused`: it has no slot, and a generator that is to be continued."""

    __slots__ = ("_wake", "keeps_slot", "number")

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self.keeps_slot = False
        self._wake = threading.Lock()
        self._wake.acquire()

    def sleep(self) -> None:
        """Wait, in its thread, until it is given a slot."""
        self._wake.acquire()

    def wake(self) -> None:
        """Give it a slot."""
        self._wake.release()


class WorkerThreads:
    """Pool of threads that run synchronous code for one event loop, at most `slots` of them at a time.

    Each thread calls `prepare` first. `interrupt_after`: seconds, see `Traffic` in `_spec.py`; 0: never. `on_held` is
    called on the loop when the number of `abandoned` calls has changed.
    """

    def __init__(
        self,
        slots: int,
        loop: asyncio.AbstractEventLoop,
        prepare: Callable[[], object] = lambda: None,
        *,
        service: str = "",
        interrupt_after: float = 0.0,
        on_held: Callable[[], object] = lambda: None,
    ) -> None:
        self.slots = slots
        self.abandoned = 0
        self.halted: set[int] = set()  # identifiers of threads that are at a breakpoint
        self._loop = loop
        self._prepare = prepare
        self._service = service
        self._interrupt_after = interrupt_after
        self._on_held = on_held
        # What a thread with a slot does next: run a job, pass the slot to a paused thread, or (None) end.
        self._turns: queue.SimpleQueue[Job | Worker | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._workers: list[Worker] = []
        self._spare: list[Worker] = []  # idle threads without a slot
        self._stopped = False
        self._open = 0  # jobs that have not ended
        place = f"{slots} worker thread{'' if slots == 1 else 's'}"
        self.queue = Queue(service, place, WAYS_OUT, self.holders)

    # -- state, from any thread

    @property
    def busy(self) -> int:
        """Number of slots in use, including those of abandoned calls."""
        return sum(w.job is not None and not w.paused for w in list(self._workers))

    @property
    def paused(self) -> int:
        """Number of threads whose generator waits for its consumer, or for a slot to continue."""
        return sum(w.paused for w in list(self._workers))

    @property
    def all_abandoned(self) -> float | None:
        """Since when (Unix time) abandoned calls have held all slots; None if they do not."""
        held = [job for w in list(self._workers) if (job := w.job) is not None and not w.paused]
        left = [job.left for job in held if job.left is not None]
        return None if len(left) < self.slots else max(left) + _EPOCH

    def pauses(self, job: Job) -> bool:
        return any(w.job is job and w.paused for w in list(self._workers))

    def holders(self) -> list[Holder]:
        """Return the calls that have a slot, the longest-running first."""
        jobs = [job for w in list(self._workers) if (job := w.job) is not None and not w.paused]
        return [
            Holder(job.api, job.started + _EPOCH, job.left is not None)
            for job in sorted(jobs, key=lambda job: job.started)
            if job.api
        ]

    # -- on the loop

    def start(self, most: int | None = None) -> None:
        """Start threads until there is one for each slot, at most `most` new ones."""
        missing = self.slots - len(self._workers)
        for _ in range(missing if most is None else min(most, missing)):
            self._start(self._new())

    def stop(self) -> None:
        """End the threads once they are idle; does not wait."""
        for _ in range(self.slots):
            self._turns.put(None)
        with self._lock:
            self._stopped = True
            spare, self._spare = self._spare, []
        for worker in spare:
            worker.wake()

    def run(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Job:
        """Run `function` in a worker thread, in the caller's context (contextvars); await the job's `future`."""
        job = Job(self, function, args, kwargs)
        self._open += 1
        self._turns.put(job)
        return job

    def call(
        self, api: ApiSpec, context: CallContext, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Job:
        """As `run`, for a call of an api: visible in the queue, with a deadline for getting a slot, interruptible."""
        job = Job(self, function, args, kwargs, api, context)
        if self._open >= self.slots:
            job.queued = True
            self.queue.enter(job, api.name)
        self._open += 1
        self._turns.put(job)
        return job

    def resume(self, worker: Worker) -> None:
        """Continue a paused worker as soon as there is a slot for it. From any thread."""
        if worker.keeps_slot:
            worker.wake()
        else:
            self._turns.put(worker)

    def left(self, job: Job) -> None:
        """Record that the caller of a running job is gone, and schedule its interrupt."""
        if job.left is None:
            job.left = time.perf_counter()
            self.abandoned += 1
            self._on_held()
            if self._interrupt_after and job.interruptible:
                self._loop.call_later(self._interrupt_after, self._interrupt, job)

    def _interrupt(self, job: Job) -> None:
        """Interrupt an abandoned job as soon as it can be interrupted, and again if it keeps running."""
        worker = next((w for w in list(self._workers) if w.job is job), None)
        if worker is None:
            return  # it has ended
        wait = LOOK_AGAIN
        if worker.thread not in self.halted and worker.interrupt(job):
            wait = self._interrupt_after
            logger.warning(
                "an interrupt is sent to %s.%s, which has run on for %.0f s after its caller had gone",
                self._service, job.api, time.perf_counter() - (job.left or 0.0),
            )  # fmt: skip
        self._loop.call_later(wait, self._interrupt, job)

    def _settle(self, job: Job, result: Any, failure: BaseException | None) -> None:
        """Take the outcome of a job from its thread."""
        self._open -= 1
        if job.queued:
            self.queue.leave(job)
        if job.left is not None:
            self.abandoned -= 1
            self._on_held()
        job.settle(result, failure)

    def _drop(self, job: Job) -> None:
        """Discard a job whose caller had left before a thread was free."""
        self._open -= 1
        self.queue.leave(job)

    # -- in the threads

    def _new(self) -> Worker:
        with self._lock:
            taken = {w.number for w in self._workers}
            worker = Worker(next(n for n in itertools.count() if n not in taken))
            self._workers.append(worker)
        return worker

    def _start(self, worker: Worker) -> None:
        name = f"nbcompose-api-{worker.number}"
        threading.Thread(target=self._work, args=(worker,), name=name, daemon=True).start()

    def _work(self, worker: Worker) -> None:
        worker.enter()
        self._prepare()
        goes_on = True
        while goes_on and (turn := self._turns.get()) is not None:
            if isinstance(turn, Worker):
                turn.wake()
                goes_on = self._rest(worker)
            elif turn.claim():
                self._do(worker, turn)
                has_paused = turn.has_paused
                del turn  # arrays of the last call must not live until the next
                goes_on = not has_paused or self._make_way(worker)
            else:
                self._tell(self._drop, turn)

    def _do(self, worker: Worker, job: Job) -> None:
        job.started = time.perf_counter()
        result, failure = None, None
        worker.job = job
        try:
            result = job.context_vars.run(job.function, *job.args, **job.kwargs)
        except BaseException as error:  # SystemExit too: user code must not end the thread
            failure = error
        while True:
            try:
                worker.end()
                break
            except CallInterrupted:  # it arrived after the call had ended, and is dropped
                pass
        self._tell(self._settle, job, result, failure)

    def _tell(self, function: Callable[..., object], *args: Any) -> None:
        try:  # noqa: SIM105  a context manager takes a hundredth of the time of a call
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop has been closed: the process is ending
            pass

    def pause(self) -> Worker:
        """Release the slot in the middle of a job, or keep it if no other thread can take it. Return the worker.

        `resume` and `sleep` must follow.
        """
        worker = next(w for w in list(self._workers) if w.thread == threading.get_ident())
        assert worker.job is not None
        worker.job.has_paused = True
        worker.pause()
        worker.keeps_slot = not self._give_slot_up()
        return worker

    def _give_slot_up(self) -> bool:
        with self._lock:
            worker = self._spare.pop(0) if self._spare else None
        if worker is not None:
            worker.wake()
            return True
        worker = self._new()
        try:
            self._start(worker)
        except RuntimeError:  # the system has no more threads
            with self._lock:
                self._workers.remove(worker)
            return False
        return True

    def _make_way(self, worker: Worker) -> bool:
        """Pass the slot to an idle thread with a lower number, if any, and `_rest`. Return False if it must end."""
        with self._lock:
            if not self._spare or self._spare[0].number > worker.number:
                return True
            first = self._spare.pop(0)
        first.wake()
        return self._rest(worker)

    def _rest(self, worker: Worker) -> bool:
        """Wait without a slot until there is one again. Return False if this thread is surplus and must end."""
        with self._lock:
            enough = len(self._spare) >= self.slots + SPARE and worker.number >= self.slots
            if self._stopped or enough:
                self._workers.remove(worker)
                return False
            self._spare.append(worker)
            self._spare.sort(key=lambda w: w.number)
        worker.sleep()
        return not self._stopped


class Job:
    """Synchronous work for a thread.

    `started`: `time.perf_counter()` when a thread took it, 0.0 before. `left`: the same clock when its caller left
    while it ran, else None. `api` and `context` are those of a call of an api; "" and `NO_CALL` for other work.
    """

    __slots__ = (
        "_on_end", "_threads", "_ticket", "api", "args", "context", "context_vars", "function", "future", "has_paused",
        "interruptible", "kwargs", "left", "queued", "since", "started",
    )  # fmt: skip

    def __init__(
        self,
        threads: WorkerThreads,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        api: ApiSpec | None = None,
        context: CallContext = NO_CALL,
    ) -> None:
        self.future: asyncio.Future[Any] = threads._loop.create_future()
        self.context_vars = contextvars.copy_context()
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.api = api.name if api is not None else ""
        self.interruptible = api is not None and api.interruptible
        self.context = context
        self.since = time.monotonic()
        self.started = 0.0
        self.left: float | None = None
        self.has_paused = False
        self.queued = False
        self._threads = threads
        self._ticket = [None]  # popped by the first to claim the job: a thread, or the caller that cancels it
        self._on_end: Callable[[], object] | None = None

    @property
    def waits(self) -> bool:
        """Whether it is in the queue: no thread has taken it, and it has not been cancelled."""
        return bool(self._ticket)

    def claim(self) -> bool:
        """Claim the job; return False if it has been claimed before. From any thread."""
        try:
            self._ticket.pop()
        except IndexError:
            return False
        return True

    def give_up(self, error: Exception) -> None:
        """Fail the job with `error` unless a thread has taken it. On the loop."""
        if self.claim() and not self.future.done():
            self.future.set_exception(error)

    def when_off(self, callback: Callable[[], object]) -> None:
        """Call `callback` on the loop once no thread runs, or will run, this job; at once if that is already so."""
        if self.future.done() and not self.future.cancelled():
            callback()
        elif self.claim():
            self.future.cancel()
            callback()
        else:
            self._on_end = callback
            self._threads.left(self)

    def settle(self, result: Any, error: BaseException | None) -> None:
        """Set the outcome, on the loop, after a thread has run the job."""
        if not self.future.done():
            self._tell(result, error)
        if self.left is not None and not self.future.cancelled():
            self.future.exception()  # marks it as retrieved, since no caller waits for it
        if self._on_end is not None:
            self._on_end()

    def _tell(self, result: Any, error: BaseException | None) -> None:
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(contained(error))
