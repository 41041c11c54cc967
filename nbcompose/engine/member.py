"""One replica as its supervisor sees it: how far it has come, its numbers, its output, its end."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

from nbcompose.client import ReplicaRoute, Route
from nbcompose.engine.base import Engine, ReplicaProcess
from nbcompose.errors import LaunchError
from nbcompose.models import ModelProgress
from nbcompose.replica.control import Failure, Stats, Up
from nbcompose.replica.launch import Launch
from nbcompose.tracing import Span
from nbcompose.wire.call import Connection, IncomingCall
from nbcompose.wire.remote_errors import rebuild

MemberState = Literal["starting", "up", "stopping", "ended"]

LAST_LINES = 30  # of the output, shown after a crash


class Member:
    """Implements the supervisor's side of the control channel. Used on the supervisor's loop only."""

    def __init__(
        self,
        launch: Launch,
        log: deque[tuple[int, str]],
        on_change: Callable[[], None],
        on_spans: Callable[[list[Span]], None],
    ) -> None:
        self.launch = launch
        self.index = launch.index
        self.state: MemberState = "starting"
        self.phase = "spawn"
        self.progress: ModelProgress | None = None
        self.stats: Stats | None = None
        self.device = ""
        self.cut = 0
        self.process: ReplicaProcess | None = None
        self._address = ""
        self._log = log
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._on_change = on_change
        self._on_spans = on_spans
        self._up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    @property
    def name(self) -> str:
        return f"{self.launch.spec.name}, replica {self.index}"

    @property
    def route(self) -> ReplicaRoute:
        return ReplicaRoute(self.index, self._address, self.launch.slot)

    async def start(self, engine: Engine, http: socket.socket | None) -> None:
        """Spawn and wait until it can be called. Raises `LaunchError`; cancelling this ends the replica."""
        try:
            self.process = await engine.spawn(self.name, self.launch.spec.envs, http, self, self._closed, self._output)
            self._watching = asyncio.ensure_future(self._watch(self.process))
            self.process.connection.note("launch", self.launch)
            ends: list[asyncio.Future[Any]] = [self._up, self._ended]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if not self._up.done():
                raise LaunchError(
                    f"{self.launch.spec.name} ended while it started ({self.phase}): {self.exit_text()}",
                    "\n".join(self._last_lines),
                )
            self._up.result()
        except BaseException:
            self.kill()
            self._up.cancel()
            raise

    async def ended(self) -> None:
        """Wait until the process has ended."""
        await asyncio.shield(self._ended)

    async def stop(self, grace: float) -> None:
        """Ask it to finish what it has in hand within `grace` seconds and to end; then see that it does."""
        if self.process is None or self.state == "ended":
            self._finish(None)
            return
        self.state = "stopping"
        self._on_change()
        self.process.connection.note("stop", grace)
        try:
            await asyncio.wait_for(self.ended(), grace + 5)
        except TimeoutError:
            self.kill()
            await self.ended()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
        else:
            self._finish(None)

    def tell(self, route: Route | str) -> None:
        if self.process is not None and self.state != "ended":
            self.process.connection.note("route", route)

    def exit_text(self) -> str:
        """How the process ended, in words."""
        status = self._ended.result() if self._ended.done() and not self._ended.cancelled() else None
        if status is None:
            return "it went away"
        if status >= 0:
            return f"exit status {status}"
        name = signal.Signals(-status).name
        hint = "; SIGKILL is also what the system sends when memory runs out" if name == "SIGKILL" else ""
        return f"killed by {name}{hint}"

    def crash_text(self) -> str:
        """How it ended, and the last that it wrote."""
        return "\n".join([f"{self.name}: {self.exit_text()}", *self._last_lines])

    # -- the control channel

    def on_call(self, call: IncomingCall) -> None:
        call.fail(LookupError(f"a supervisor has no {call.api}"))

    def on_note(self, topic: str, value: Any) -> None:
        if topic == "spans":
            self._on_spans(value)
            return
        if topic == "phase":
            self.phase, self.progress = value, None
        elif topic == "progress":
            self.progress = value
        elif topic == "stats":
            self.stats = value
        elif topic == "cut":
            self.cut = value
        elif topic == "up":
            self._take_up(value)
        elif topic == "failed":
            self._take_failure(value)
        self._on_change()

    def _take_up(self, up: Up) -> None:
        self._address, self.device = up.address, up.device
        self.phase, self.progress = "ready", None
        self.state = "up"
        if not self._up.done():
            self._up.set_result(None)

    def _take_failure(self, failure: Failure) -> None:
        if self._up.done():
            return
        error = rebuild(failure.detail)
        if isinstance(error, LaunchError):
            error.__cause__ = None  # it says what to do; where in nbcompose it was found out helps nobody
            self._up.set_exception(error)
            return
        message = f"{self.launch.spec.name} could not start ({PHASES.get(failure.phase, failure.phase)})"
        self._up.set_exception(LaunchError(message, failure.detail.text))

    def _closed(self, _: Connection) -> None:
        """The control channel broke: the process has ended, or will in a moment."""

    def _output(self, line: str) -> None:
        self._log.append((self.index, line))
        self._last_lines.append(line)

    async def _watch(self, process: ReplicaProcess) -> None:
        self._finish(await process.wait())

    def _finish(self, status: int | None) -> None:
        self.state = "ended"
        if not self._ended.done():
            self._ended.set_result(status)
        if self.process is not None:
            self.process.connection.close()
        self._on_change()


PHASES = {
    "spawn": "starting a process",
    "import": "importing what the class uses",
    "download": "getting its models",
    "load": "__init__",
}
