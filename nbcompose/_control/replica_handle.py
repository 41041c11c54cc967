"""Handle of one replica: state, statistics, output, exit status."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import socket
import sysconfig
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psutil

from nbcompose._control.engines import Engine, ReplicaProcess
from nbcompose._control.logs import Log, Written
from nbcompose._host import is_halted
from nbcompose._hub import ModelProgress
from nbcompose._replica import Launch, Phase, StartFailure, Stats, Up
from nbcompose._rpc import Connection, IncomingCall, PostMortem, ReplicaRoute, ServiceRoute, rebuild
from nbcompose._tracing import CallContext
from nbcompose.errors import LaunchError

if TYPE_CHECKING:  # a generation has the replicas
    from nbcompose._control.generation import SupervisorContext

ReplicaState = Literal["starting", "up", "suspended", "stopping", "ended"]

LAST_LINES = 200  # of the output, which are looked through after a crash
CRASH_LINES = 30  # of these, in the status
LINES_TOLD = 10  # of these, in the error of a call
SAID_PERIOD = 0.1  # seconds between changes by what a starting replica writes
CLOSE_WAIT = 1.0  # seconds to wait for the last notes of a replica that has ended
STOP_WAIT = 5.0  # seconds that a replica has for its hooks and exit, after the grace for its calls
KILL_WAIT = 5.0  # seconds after which a process that was killed is not waited for any more
LEFT = (
    "{name}: its process {pid} was killed and has not ended within {wait:g} s, since the system keeps it, for example "
    "at a file or a device that does not answer; it is left behind (`ps -o pid,stat,wchan {pid}` says where it waits)"
)

logger = logging.getLogger("nbcompose")


class ReplicaHandle:
    """One replica: the supervisor's side of its control channel. Used on the supervisor's loop only."""

    def __init__(
        self,
        launch: Launch,
        log: Log,
        routes: Callable[[], tuple[ServiceRoute, ...]],
        on_change: Callable[[], None],
        context: SupervisorContext,
    ) -> None:
        self.launch = launch
        self.index = launch.index
        self.name = f"{launch.spec.name}, replica {launch.index}"
        self.state: ReplicaState = "starting"
        self.phase = Phase.SPAWN
        self.waiting_for = ""  # the service that its start waits for
        self.progress: ModelProgress | None = None
        self.stats: Stats | None = None
        self.device = ""
        self.loaded_in = 0.0  # seconds from its start until it could be called
        self.cut = 0
        self.said = ""  # the last line that it wrote while it starts
        self.halted: float | None = None  # since when (Unix time) its process is stopped by the system
        self.stopped_at = ""  # the breakpoint that it is at
        self.detach: Callable[[], object] = lambda: None  # the debugger, if one is attached
        self.process: ReplicaProcess | None = None
        self.gone_since: float | None = None  # since when (Unix time) it cannot be reached
        self._out_of_memory: bool | None = None  # whether it was killed for that; None: not known
        self._address = ""
        self._log = log
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._routes = routes
        self._on_change = on_change
        self._began = time.monotonic()
        self._context = context
        self._answering: set[asyncio.Task[None]] = set()
        self._telling: asyncio.TimerHandle | None = None
        loop = asyncio.get_running_loop()
        self._up: asyncio.Future[None] = loop.create_future()
        self._left: asyncio.Future[None] = loop.create_future()  # the control channel is closed, its last note read
        self._ended: asyncio.Future[int | None] = loop.create_future()
        self._watching: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id; None before there is a process."""
        return self.process.pid if self.process is not None else None

    @property
    def route(self) -> ReplicaRoute:
        return ReplicaRoute(self.index, self._address, self.launch.slot)

    async def start(self, engine: Engine, http: socket.socket | None) -> None:
        """Spawn the process and wait until the replica can be called. Raises `LaunchError`.

        On failure or cancellation the process has ended when this returns.
        """
        try:
            launch = self.launch
            process = await engine.spawn(
                self.name, launch.environment, http, self, self._closed, self._output, heavy=launch.heavy
            )
            self.process = process
            self._watching = asyncio.ensure_future(self._watch(process))
            # The current routes: they may have changed during the spawn, when no note could be sent.
            process.connection.note("launch", replace(self.launch, routes=self._routes()))
            ends: list[asyncio.Future[Any]] = [self._up, self._ended]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if not self._up.done():
                raise LaunchError(
                    f"{self.launch.spec.name} ended while it started ({PHASES[self.phase]}): {self.exit_text()}",
                    "\n".join(telling(self._last_lines)[-CRASH_LINES:]),
                )
            self._up.result()
        except BaseException:
            self.kill()
            if self._up.done() and not self._up.cancelled():
                self._up.exception()  # mark it as retrieved
            self._up.cancel()
            await self._end_at_once()
            raise

    async def ended(self) -> None:
        """Wait until the process has ended and its output has been read."""
        await asyncio.shield(self._ended)

    async def stop(self, grace: float) -> None:
        """Ask the replica to finish its calls within `grace` seconds and end; kill it if it does not."""
        if self.process is None or self.state == "ended":
            self._finish(None)
            return
        self.state = "stopping"
        self.detach()  # what is at a breakpoint goes on
        self._on_change()
        if self.halted is not None:
            self.kill()  # it does not respond
        self.process.connection.note("stop", grace)
        try:
            await asyncio.wait_for(self.ended(), grace + STOP_WAIT)
        except TimeoutError:
            await self._end_at_once()

    async def _end_at_once(self) -> None:
        """Kill the process and wait for its end, `KILL_WAIT` seconds at most: it need not come, or be reported."""
        self.kill()
        try:
            await asyncio.wait_for(self.ended(), KILL_WAIT)
        except TimeoutError:
            if self.pid is not None and _runs(self.pid):
                text = LEFT.format(name=self.name, pid=self.pid, wait=KILL_WAIT)
                logger.warning(text)
                self._log.note(self.index, text)
            self._finish(None)

    async def settled(self) -> None:
        """Wait until the replica is up or has ended."""
        ends: list[asyncio.Future[Any]] = [self._up, self._ended]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)

    async def ask(self, operation: str, *arguments: Any) -> Any:
        """Run one of the replica's `Operation`s. Raises what it raises, and `ConnectionError` when the replica goes
        away.
        """
        assert self.process is not None
        return await self.process.connection.call(operation, arguments, CallContext())

    def kill(self) -> None:
        """Kill the process; wait for `ended` to see that it has ended."""
        if self.process is not None:
            self.process.kill()
        else:
            self._finish(None)

    def tell(self, route: ServiceRoute) -> None:
        if self.process is not None and self.state != "ended":
            self.process.connection.note("route", route)

    def look(self) -> bool:
        """Check whether the system has stopped or continued the process. Returns whether that changed since the last
        check.
        """
        halts = self.process is not None and self.state == "up" and is_halted(self.process.pid)
        if halts == (self.halted is not None):
            return False
        self.halted = time.time() if halts else None
        return True

    def exit_text(self) -> str:
        """Return how the process ended, in words."""
        status = self._ended.result() if self._ended.done() and not self._ended.cancelled() else None
        if status is None:
            return "it went away"
        if status >= 0:
            return f"exit status {status}"
        name = f"signal {-status}"
        with contextlib.suppress(ValueError):
            name = signal.Signals(-status).name
        if name == "SIGKILL" and self._out_of_memory is not None:
            return f"killed by {name}" + (", since memory had run out" if self._out_of_memory else "")
        hint = "; SIGKILL is also what the system sends when memory runs out" if name == "SIGKILL" else ""
        return f"killed by {name}{hint}"

    @property
    def address(self) -> str:
        return self._address

    def post_mortem(self) -> PostMortem:
        """Return how the process ended, and its last output lines, for the error of a call."""
        return PostMortem(self.exit_text(), tuple(telling(self._last_lines)[-LINES_TOLD:]))

    def crash_text(self) -> str:
        """Return how the process ended, and its last output lines."""
        return "\n".join([f"{self.name}: {self.exit_text()}", *telling(self._last_lines)[-CRASH_LINES:]])

    # -- the control channel

    def on_call(self, call: IncomingCall) -> None:
        if call.api == "post_mortem":
            answering = asyncio.ensure_future(self._tell_post_mortem(call))
            self._answering.add(answering)
            answering.add_done_callback(self._answering.discard)
        else:
            call.fail(LookupError(f"a supervisor has no {call.api}"))

    async def _tell_post_mortem(self, call: IncomingCall) -> None:
        try:
            call.reply(await self._context.post_mortem(*call.arguments))
        except Exception as error:
            call.fail(error)

    def on_note(self, topic: str, value: Any) -> None:
        if topic == "spans":
            self._context.spans(value)
            return
        if topic == "phase":
            self.phase, self.progress, self.waiting_for = value, None, ""
        elif topic == "waiting":
            self.waiting_for = value
        elif topic == "progress":
            self.progress = value
        elif topic == "stats":
            self.stats = value
        elif topic == "leaving":
            self._leave()
        elif topic == "cut":
            self.cut = value
        elif topic == "up":
            self._take_up(value)
        elif topic == "failed":
            self._take_failure(value)
        self._on_change()

    def _take_up(self, up: Up) -> None:
        self._address, self.device = up.address, up.device
        self.phase, self.progress, self.waiting_for = Phase.READY, None, ""
        if self.state == "starting":
            self.state, self.loaded_in = "up", time.monotonic() - self._began
        if not self._up.done():
            self._up.set_result(None)

    def _take_failure(self, failure: StartFailure) -> None:
        if self._up.done():
            return
        error = rebuild(failure.detail)
        if isinstance(error, LaunchError):
            error.__cause__ = None  # the message says what to do; where nbcompose raised it does not help
            self._up.set_exception(error)
            return
        message = f"{self.launch.spec.name} could not start ({PHASES[failure.phase]})"
        self._up.set_exception(LaunchError(message, failure.detail.text))

    def _leave(self) -> None:
        if self.state in ("up", "suspended"):
            self.state = "stopping"

    def _closed(self, _: Connection) -> None:
        """The control channel closed: the process has ended or soon will. No more calls are sent there."""
        if not self._left.done():
            self._left.set_result(None)
        self.gone_since = time.time()
        self._leave()
        self._on_change()
        # a process that is still running cannot be reached any more
        asyncio.get_running_loop().call_later(STOP_WAIT, self.kill)

    def _output(self, written: Written) -> None:
        line = written.line._replace(replica=self.index)
        if written.ended:
            self._log.append(line)
            self._last_lines.append(line.text)
        self._context.output(self.launch.spec.name, written._replace(line=line))
        if self.state == "starting" and line.text.strip():
            self.said = line.text
            if self._telling is None:
                self._telling = asyncio.get_running_loop().call_later(SAID_PERIOD, self._tell_said)

    def _tell_said(self) -> None:
        self._telling = None
        self._on_change()

    async def _watch(self, process: ReplicaProcess) -> None:
        status = await process.wait()
        # Its last notes, such as the reason of a failure, may still be in transit.
        await asyncio.wait([self._left], timeout=CLOSE_WAIT)
        self._finish(status)

    def _finish(self, status: int | None) -> None:
        self.state, self.stopped_at = "ended", ""
        if not self._ended.done():
            if status == -signal.SIGKILL:
                self._out_of_memory = self._context.out_of_memory()
            self._ended.set_result(status)
        if self.process is not None:
            self.process.connection.close()
        self._on_change()


def _runs(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


# Of the stacks of all threads that Python writes in a crash of C code, what is not the user's.
_FRAME = re.compile(r'  File "(?P<file>[^"]*)", line \d+ in ')
_NOT_THE_USERS = (str(Path(__file__).parents[1]), sysconfig.get_path("stdlib") + os.sep, "<string>")
_ABOUT_THREAD = re.compile(r"(Current thread|Thread) 0x[0-9a-f]+ .*\(most recent call first\):$")


def telling(lines: Iterable[str]) -> list[str]:
    """Return the lines of a crashed process without those that tell nobody anything: frames of nbcompose and of
    Python's own library, threads that have no others, extension modules.
    """
    found: list[str] = []
    for line in lines:
        frame = _FRAME.match(line)
        if frame is not None and "site-packages" not in line and frame["file"].startswith(_NOT_THE_USERS):
            continue
        if line.startswith("Extension modules: ") or not line.strip():
            continue
        if found and _ABOUT_THREAD.match(found[-1]) and frame is None:
            found.pop()
        found.append(line)
    return found[:-1] if found and _ABOUT_THREAD.match(found[-1]) else found


PHASES = {
    Phase.SPAWN: "starting a process",
    Phase.IMPORT: "importing what the class uses",
    Phase.DOWNLOAD: "getting its models",
    Phase.LOAD: "__init__",
    Phase.READY: "ready",
}
