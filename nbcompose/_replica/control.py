"""Replica side of the control channel: notes to the supervisor, and operations that the supervisor requests.

Notes to the supervisor: phase, waiting, progress, up, failed, leaving, cut, stats, spans. Notes from it: launch, route,
stop. Calls to it: post_mortem. Calls from it (`Operation`s), once the replica is up: prepare, commit and discard new
code, suspend, resume, debug, debugpy, profile, report; record, recorded, search and forget arguments and answers. A
closed channel tells each side that the other has gone.

A hot swap has two phases: new code is prepared first, and committed when every replica of the service has prepared it.
A suspended replica keeps its loaded state, so that its version can be resumed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

from nbcompose._replica.admission import NO_WORK, Work
from nbcompose._replica.bootstrap import Launch
from nbcompose._replica.hot_swap import Code, Swap
from nbcompose._replica.http import HttpDoor
from nbcompose._replica.instance import Runtime
from nbcompose._replica.metrics import ApiSummary
from nbcompose._replica.recording import Recorder
from nbcompose._rpc import Client, Connection, ConnectionCounts, IncomingCall, PostMortem
from nbcompose._tracing import CallContext, RecordedCall
from nbcompose._user_exceptions import contained
from nbcompose.errors import NbcomposeError

# An operation that the supervisor may request by name: a coroutine function.
Operation = Callable[..., Coroutine[Any, Any, Any]]

PERIOD = 0.25  # seconds between reports to the supervisor
LEAVE_WAIT = 2.0  # seconds for the last notes to be sent


@dataclass(frozen=True, slots=True)
class Stats:
    """Statistics of a replica. `threads_busy` includes threads of abandoned calls; `traffic` is by dependency.

    `work`: what its calls wait for.
    """

    in_flight: int
    threads_busy: int
    apis: dict[str, ApiSummary]
    traffic: dict[str, ConnectionCounts]
    work: Work = NO_WORK

    def after(self, earlier: Stats | None, unreported: Mapping[str, ApiSummary]) -> Stats:
        """Return what remains of a replica that has ended, with those that had ended before: its counts. `unreported`:
        those of its last calls, by api.
        """
        apis, traffic = dict(self.apis), dict(self.traffic)
        for name, ended in (*(earlier.apis.items() if earlier is not None else ()), *unreported.items()):
            apis[name] = ended.plus(apis.get(name, ApiSummary()))
        for name, made in earlier.traffic.items() if earlier is not None else ():
            traffic[name] = made.plus(traffic.get(name, ConnectionCounts()))
        traffic = {name: made._replace(in_flight=0, streaming=0) for name, made in traffic.items()}
        return Stats(0, 0, apis, traffic)


NO_STATS = Stats(0, 0, {}, {})


@dataclass(frozen=True, slots=True)
class Up:
    """The replica answers calls at this address. `device`: the device that the service runs on."""

    address: str
    device: str


class Phase(StrEnum):
    """How far the start of a replica has come."""

    SPAWN = "spawn"
    IMPORT = "import"
    DOWNLOAD = "download"
    LOAD = "load"
    READY = "ready"


@dataclass(frozen=True, slots=True)
class StartFailure:
    """Why the replica could not start: the phase, and the error as a `RemoteErrorDetail` (`_rpc/remote_errors.py`)."""

    phase: Phase
    detail: Any


class ControlLink:
    """Connection to the supervisor. `launch` and `stop` are set by its notes; `stop` holds the grace period in seconds.

    `orphaned`: the supervisor is gone, so this process must clean up after itself.
    """

    def __init__(self, client: Client) -> None:
        self.launch: asyncio.Future[Launch] = asyncio.get_running_loop().create_future()
        self.stop: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.connection: Connection | None = None
        self.operations: dict[str, Operation] = {}
        self.orphaned = False
        self._closed = asyncio.Event()
        self._leaving = False
        self._client = client
        self._tasks: set[asyncio.Task[None]] = set()

    def on_call(self, call: IncomingCall) -> None:
        operation = self.operations.get(call.api)
        if operation is None:
            call.fail(LookupError(f"a replica's control channel has no {call.api}"))
            return
        task = asyncio.get_running_loop().create_task(self._answer(operation, call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, operation: Operation, call: IncomingCall) -> None:
        try:
            call.reply(await operation(*call.arguments))
        except BaseException as error:  # raised by user code, which is imported again
            await call.fail_aside(contained(error), call.api)

    def on_note(self, topic: str, value: Any) -> None:
        if topic == "launch" and not self.launch.done():
            for route in value.routes:  # at once: newer routes may follow directly
                self._client.update(route)
            self.launch.set_result(value)
        elif topic == "route":
            self._client.update(value)
        elif topic == "stop" and not self.stop.done():
            self.stop.set_result(value)

    def tell(self, topic: str, value: Any) -> None:
        """Send a note; no effect when the supervisor is gone."""
        if self.connection is not None:
            self.connection.note(topic, value)

    async def post_mortem(self, address: str) -> PostMortem | None:
        """Ask the supervisor how the replica at `address` has ended."""
        if self.connection is None:
            return None
        found: PostMortem | None = await self.connection.call("post_mortem", (address,), CallContext())
        return found

    async def leave(self) -> None:
        """Close the connection after all notes have been sent; waits at most `LEAVE_WAIT`."""
        self._leaving = True
        if self.connection is not None:
            self.connection.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), LEAVE_WAIT)

    def on_closed(self, _: Connection) -> None:
        """Stop at once, because the supervisor is gone (or this replica has closed the connection itself)."""
        self._closed.set()
        self.orphaned = not self._leaving
        if not self.launch.done():
            self.launch.cancel()
        if not self.stop.done():
            self.stop.set_result(0.0)


class Reporter:
    """Reports statistics and spans to the supervisor; sends nothing when nothing has changed."""

    def __init__(self, link: ControlLink, runtime: Runtime, client: Client) -> None:
        self._link = link
        self._runtime = runtime
        self._client = client
        self._last: Stats | None = None

    async def run(self) -> None:
        """Report every `PERIOD` while there are calls, until cancelled. An idle replica does not wake up."""
        while True:
            self.report()
            if self._last is not None and not (self._last.in_flight or self._last.threads_busy):
                await self._runtime.under_way.another()
            await asyncio.sleep(PERIOD)

    async def report_now(self) -> None:
        """Report now (an `Operation`); its answer arrives after the report."""
        self.report()

    def report(self) -> None:
        runtime, last = self._runtime, self._last
        spans = runtime.spans.take()
        if spans:
            self._link.tell("spans", spans)
        if spans or runtime.under_way.number or last is None or last.in_flight or last.threads_busy:
            traffic = self._client.traffic()
            work, busy = runtime.work(), runtime.threads.busy
            stats = Stats(runtime.under_way.number, busy, runtime.metrics.summary(), traffic, work)
            if stats != last:
                self._link.tell("stats", stats)
                self._last = stats
            runtime.under_way.reported()


class Renewal:
    """Operations for hot swap, standby and debugging of `runtime`; `door` is its HTTP listener."""

    def __init__(self, runtime: Runtime, door: HttpDoor) -> None:
        self._runtime = runtime
        self._door = door
        self._ready: Code | None = None
        self._debugger: Any = None

    def operations(self) -> Mapping[str, Operation]:
        return {
            "prepare": self.prepare,
            "commit": self.commit,
            "discard": self.discard,
            "suspend": self.suspend,
            "resume": self.resume,
            "debug": self.debug,
            "profile": self.profile,
            "debugpy": self.debugpy,
        }

    async def prepare(self, swap: Swap) -> None:
        """Prepare the new code while the old code serves. Raises `CannotSwap`, or what user code raises."""
        self._ready = await self._runtime.renewed(swap)

    async def commit(self) -> None:
        """Switch to the prepared code: no call that arrives after this uses the old code."""
        code, self._ready = self._ready, None
        if code is not None:
            self._runtime.take(code)
            self._door.renew()

    async def discard(self) -> None:
        self._ready = None

    async def suspend(self, grace: float) -> None:
        """Stop HTTP; requests under way have `grace` seconds. Other services are kept away by their routes."""
        await self._door.shut(grace)

    async def resume(self) -> None:
        self._door.open()

    async def debug(self, next_call: bool, post_mortem: bool) -> str:
        """Attach a debugger; return the address of its prompt. See `Debugger`."""
        from nbcompose._replica.debugging import Debugger  # imports pdb, which few replicas need

        if self._debugger is not None and self._debugger.attached:
            raise NbcomposeError(f"a debugger is attached to {self._runtime.name} already: detach it first (q, or ■)")
        self._debugger = Debugger(self._runtime, next_call, post_mortem)
        return cast(str, await self._debugger.attach())

    async def debugpy(self, port: int | None) -> Any:
        """Let clients of debugpy attach, and return where, as `Listening`; None: no more."""
        from nbcompose._replica import debugpy_adapter  # debugpy is optional, and imports a lot

        if port is None:
            return await asyncio.to_thread(debugpy_adapter.stop)
        if self._debugger is not None and self._debugger.attached:
            raise NbcomposeError(f"a debugger is attached to {self._runtime.name} already: detach it first (q, or ■)")
        return await asyncio.to_thread(debugpy_adapter.listen, port)

    async def profile(self, seconds: float) -> Any:
        """Return what the replica does in the next `seconds`, as a `Profile`."""
        from nbcompose._replica.profiling import sample  # few replicas need it

        return await asyncio.to_thread(sample, seconds)


class Recording:
    """Operations for the recorded arguments and answers of `runtime`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def operations(self) -> Mapping[str, Operation]:
        return {"record": self.record, "recorded": self.recorded, "search": self.search, "forget": self.forget}

    async def record(self, on: bool) -> None:
        """Start or stop to record; what was recorded is forgotten when it stops."""
        if on is not (self._runtime.recorder is not None):
            self._runtime.recorder = Recorder() if on else None

    async def recorded(self, trace_id: int) -> list[RecordedCall]:
        recorder = self._runtime.recorder
        return [] if recorder is None else await recorder.calls(trace_id)

    async def search(self, text: str) -> list[int]:
        recorder = self._runtime.recorder
        return [] if recorder is None else await recorder.search(text)

    async def forget(self) -> None:
        if self._runtime.recorder is not None:
            self._runtime.recorder.forget()
