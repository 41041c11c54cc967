"""Worker threads of a replica: run sync apis and generators; interrupt code that runs on after its caller has gone.

It comes between two instructions of its thread, whichever they are, so all that is here is about where it must *not*
come up: in code of ours, in the next call of the thread, in an import. Code that is deep in C is not reached before it
returns.

So many may run at once as there are *slots*. A thread that runs has one; one whose generator waits for its consumer
(generators.py) gives it up to another thread, keeps what it has on its stack, and queues for a slot before it goes on.
So a stream that nobody reads holds up nobody, and what a generator has set for its thread is not seen by other calls.

A call whose caller has gone keeps its thread until it ends by itself, or is interrupted (workers.py). `__init__`
runs here too, so that it may call dependencies; its thread is the first one, which is taken wherever it is free.
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
    """A thread, and the work that it is at. `paused`: it waits, in the middle of its work, in code of ours.

    The guard is held for moments only, and never while the work runs.
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
        """This is the thread."""
        self.thread = threading.get_ident()

    def end(self) -> None:
        """The work has ended: no exception comes up any more once this has returned.

        Raises `CallInterrupted` where one does meanwhile; call it again then.
        """
        with self._guard:
            self.job = None
            self.paused = False
            if self._pending:
                self._withdraw()

    def pause(self) -> None:
        """As `end`, until `go_on`."""
        with self._guard:
            self.paused = True
            if self._pending:
                self._withdraw()

    def go_on(self) -> None:
        self.paused = False

    def _withdraw(self) -> None:
        self._pending = False
        thread_state.withdraw(self.thread)

    # -- in another one

    def interrupt(self, job: T) -> bool:
        """Raise `CallInterrupted` in the thread if it is at this work, and not in an import; whether that was done."""
        with self._guard:
            if self.job is not job or self.paused or self._imports():
                return False
            self._pending = True
            thread_state.send(self.thread, CallInterrupted)
            if self._imports():  # it has got there meanwhile
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


SPARE = 4  # threads that are kept, besides one for each slot, for when another stream waits
WAYS_OUT = "--threads, --replicas, --timeout"
NO_CALL = CallContext()
LOOK_AGAIN = 0.2  # seconds; a call that is in an import, or waits for a slot, is not interrupted there

logger = logging.getLogger("nbcompose.replica")

# From `time.perf_counter()` to Unix time: one number, so that what it is added to stays the same.
_EPOCH = time.time() - time.perf_counter()


class Worker(Interruptible["Job"]):
    """One of the threads. `paused`: without a slot, and with a generator that is to go on."""

    __slots__ = ("_wake", "keeps_slot", "number")

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self.keeps_slot = False
        self._wake = threading.Lock()
        self._wake.acquire()

    def sleep(self) -> None:
        """In its thread: until it is given a slot."""
        self._wake.acquire()

    def wake(self) -> None:
        """Give it a slot."""
        self._wake.release()


class WorkerThreads:
    """`slots` threads at a time that run sync code for one event loop. Each calls `prepare` first.

    `interrupt_after`: seconds, see `spec.Traffic`; 0: never. `on_held` is called on the loop when the number of calls
    that are `abandoned` has changed.
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
        self._loop = loop
        self._prepare = prepare
        self._service = service
        self._interrupt_after = interrupt_after
        self._on_held = on_held
        # What a thread with a slot does next: a job, a thread that is to have the slot, or None: it ends.
        self._turns: queue.SimpleQueue[Job | Worker | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._workers: list[Worker] = []
        self._spare: list[Worker] = []  # they sleep, and have nothing to do
        self._stopped = False
        self._open = 0  # jobs that have not ended
        place = f"{slots} worker thread{'' if slots == 1 else 's'}"
        self.queue = Queue(service, place, WAYS_OUT, self.holders)

    # -- what there is to see; from any thread

    @property
    def busy(self) -> int:
        """Slots that are taken, also by calls whose caller has gone."""
        return sum(w.job is not None and not w.paused for w in list(self._workers))

    @property
    def paused(self) -> int:
        """Threads whose generator waits for its consumer, or for a slot to go on."""
        return sum(w.paused for w in list(self._workers))

    @property
    def all_abandoned(self) -> float | None:
        """Since when (Unix time) all slots have been held by calls whose caller has gone; None where they are not."""
        held = [job for w in list(self._workers) if (job := w.job) is not None and not w.paused]
        left = [job.left for job in held if job.left is not None]
        return None if len(left) < self.slots else max(left) + _EPOCH

    def pauses(self, job: Job) -> bool:
        return any(w.job is job and w.paused for w in list(self._workers))

    def holders(self) -> list[Holder]:
        """The calls that have a slot, those that have had it longest first."""
        jobs = [job for w in list(self._workers) if (job := w.job) is not None and not w.paused]
        return [
            Holder(job.api, job.started + _EPOCH, job.left is not None)
            for job in sorted(jobs, key=lambda job: job.started)
            if job.api
        ]

    # -- on the loop

    def start(self, most: int | None = None) -> None:
        """Start threads until there is one for each slot, at most so many of them."""
        missing = self.slots - len(self._workers)
        for _ in range(missing if most is None else min(most, missing)):
            self._start(self._new())

    def stop(self) -> None:
        """Let the threads end once they are idle; does not wait."""
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
        """As `run`, for a call of an api: it is shown, has a deadline for its turn, and may be interrupted."""
        job = Job(self, function, args, kwargs, api, context)
        if self._open >= self.slots:
            job.queued = True
            self.queue.enter(job, api.name)
        self._open += 1
        self._turns.put(job)
        return job

    def resume(self, worker: Worker) -> None:
        """Let a worker that has paused go on as soon as there is a slot for it. From any thread."""
        if worker.keeps_slot:
            worker.wake()
        else:
            self._turns.put(worker)

    def left(self, job: Job) -> None:
        """The caller of a job has gone while a thread is at it."""
        if job.left is None:
            job.left = time.perf_counter()
            self.abandoned += 1
            self._on_held()
            if self._interrupt_after and job.interruptible:
                self._loop.call_later(self._interrupt_after, self._interrupt, job)

    def _interrupt(self, job: Job) -> None:
        """End a job that runs on for nobody, once it is where that can be done, and again if that is not heeded."""
        worker = next((w for w in list(self._workers) if w.job is job), None)
        if worker is None:
            return  # it has ended
        wait = LOOK_AGAIN
        if worker.interrupt(job):
            wait = self._interrupt_after
            logger.warning(
                "an interrupt is sent to %s.%s, which has run on for %.0f s after its caller had gone",
                self._service, job.api, time.perf_counter() - (job.left or 0.0),
            )  # fmt: skip
        self._loop.call_later(wait, self._interrupt, job)

    def _settle(self, job: Job, result: Any, failure: BaseException | None) -> None:
        """A thread has done the job."""
        self._open -= 1
        if job.queued:
            self.queue.leave(job)
        if job.left is not None:
            self.abandoned -= 1
            self._on_held()
        job.settle(result, failure)

    def _drop(self, job: Job) -> None:
        """Its caller had left before a thread was free."""
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
            except CallInterrupted:  # it came when the call had ended, and ends here
                pass
        self._tell(self._settle, job, result, failure)

    def _tell(self, function: Callable[..., object], *args: Any) -> None:
        try:  # noqa: SIM105  a context manager costs a hundredth of a call
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop has been closed: the process ends
            pass

    def pause(self) -> Worker:
        """In the middle of a job: give the slot up, or keep it where no other thread can have it. `resume` and `sleep`
        follow.
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
        """Give the slot to a thread of a lower number, where one is spare; returns when it has one again."""
        with self._lock:
            if not self._spare or self._spare[0].number > worker.number:
                return True
            first = self._spare.pop(0)
        first.wake()
        return self._rest(worker)

    def _rest(self, worker: Worker) -> bool:
        """Without a slot, until there is one again. False: this thread is one too many."""
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
    """Sync work for a thread. `started` is `time.perf_counter()` when a thread took it, 0.0 before; `left`, when its
    caller went away meanwhile.

    `api` and `context` are those of a call; "" and `NO_CALL` for what is none.
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
        self._ticket = [None]  # whoever takes it has the job: a thread, or the caller that gives up
        self._on_end: Callable[[], object] | None = None

    @property
    def waits(self) -> bool:
        """Whether it is in the queue: no thread has it, and somebody wants it."""
        return bool(self._ticket)

    def claim(self) -> bool:
        """Whether the caller of this, and nobody before, has got the job. Any thread."""
        try:
            self._ticket.pop()
        except IndexError:
            return False
        return True

    def give_up(self, error: Exception) -> None:
        """On the loop: raise this instead, unless a thread has it."""
        if self.claim() and not self.future.done():
            self.future.set_exception(error)

    def when_off(self, callback: Callable[[], object]) -> None:
        """Call `callback` on the loop once no thread is, or will be, at this job: now, where that is so already."""
        if self.future.done() and not self.future.cancelled():
            callback()
        elif self.claim():
            self.future.cancel()
            callback()
        else:
            self._on_end = callback
            self._threads.left(self)

    def settle(self, result: Any, error: BaseException | None) -> None:
        """On the loop: a thread has done it."""
        if not self.future.done():
            self._tell(result, error)
        if self.left is not None and not self.future.cancelled():
            self.future.exception()  # nobody waits for it
        if self._on_end is not None:
            self._on_end()

    def _tell(self, result: Any, error: BaseException | None) -> None:
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(contained(error))
