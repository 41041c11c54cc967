"""Local engine: replicas are forked by the zygote, or started cold where that is not possible."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from nbcompose import settings
from nbcompose._control import OutputReader, Written, read_output
from nbcompose._control.engines.base import NOT_WARM
from nbcompose._control.engines.zygote_client import Zygote
from nbcompose._host import close_owner_fd, open_owner_fd
from nbcompose._replica import InheritedFds
from nbcompose._rpc import CallHandler, Connection, LoadTable, adopt
from nbcompose._schema import sweep
from nbcompose.errors import LaunchError


def start_cold(files: InheritedFds, environment: Mapping[str, str]) -> tuple[int, asyncio.Future[int | None]]:
    """Start a new interpreter for a replica; return its pid and a future of its exit status. Raises `LaunchError`."""
    code = "from nbcompose._replica.main import start; start()"
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", code, ",".join(map(str, files))],
            pass_fds=tuple(files),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=files.output,
            stderr=files.output,
            start_new_session=True,
        )
    except OSError as error:
        raise LaunchError(f"a process could not be started: {error}") from error
    return process.pid, _exit_status(process)


def _exit_status(process: subprocess.Popen[bytes]) -> asyncio.Future[int | None]:
    """Wait in a separate thread: the loop's thread pool is small, and a replica lives long."""
    loop = asyncio.get_running_loop()
    exit_status: asyncio.Future[int | None] = loop.create_future()

    def settle(status: int) -> None:
        if not exit_status.done():
            exit_status.set_result(status)

    def wait() -> None:
        status = process.wait()
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(settle, status)

    threading.Thread(target=wait, name=f"nbcompose-wait-{process.pid}", daemon=True).start()
    return exit_status


ZYGOTES = 2  # after this many zygotes ended before they were warm, start no more: a library that they import is broken
# seconds to wait for the last lines of an ended replica; another process may still hold its output open
OUTPUT_WAIT = 1.0


@dataclass(eq=False)
class LocalProcess:
    """Process of a replica, forked or started cold. See `base.ReplicaProcess`."""

    pid: int
    connection: Connection
    exit_status: asyncio.Future[int | None]
    output: OutputReader
    cold: str
    temporary: set[str]

    async def wait(self) -> int | None:
        status = await asyncio.shield(self.exit_status)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # processes that it started and left behind
        await asyncio.wait([self.output.ended], timeout=OUTPUT_WAIT)
        await _sweep(self.temporary)
        return status

    def kill(self) -> None:
        if self.exit_status.done():
            return
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)  # just forked, and not yet leader of its process group


class _Ends(NamedTuple):
    """The supervisor's ends of the control channel and the output pipe that a replica inherits."""

    connection: Connection
    output: OutputReader

    @classmethod
    async def open(
        cls,
        control: socket.socket,
        output: int,
        name: str,
        handler: CallHandler,
        on_closed: Callable[[Connection], None],
        on_output: Callable[[Written], None],
    ) -> _Ends:
        async def work() -> _Ends:
            reader = await read_output(output, on_output)
            return cls(await adopt(control, name, handler, on_closed), reader)

        opening = asyncio.ensure_future(work())
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The work itself is not cancelled: the end that had not been opened yet would stay open.
            await asyncio.wait([opening])
            opening.result().close()
            raise

    def close(self) -> None:
        self.connection.close()
        self.output.transport.close()


class LocalEngine:
    """Starts replicas on this machine. See `base.Engine`. `board` is the load table that its replicas share.

    `preload`: the modules that the zygote imports; None: the default ones (`PRELOAD` in `_replica/bootstrap.py`).
    """

    def __init__(self, board: LoadTable, preload: tuple[str, ...] | None = None) -> None:
        self._board = board
        self._preload = preload
        self._owner: int | None = None
        self._zygote: Zygote | None = None
        self._sweeping: asyncio.Future[None] | None = None
        self._cold_zygotes = 0  # number of zygotes that ended before they were warm

    async def start(self) -> None:
        self._owner = open_owner_fd()
        self._sweeping = asyncio.ensure_future(_sweep(_temporary({})))  # uploads of processes whose owner was killed
        if hasattr(os, "fork") and settings.zygote():
            self._new_zygote()

    async def stop(self) -> None:
        owner, self._owner = self._owner, None
        if self._zygote is not None:
            await self._zygote.stop()
        if owner is not None:
            close_owner_fd(owner)
        await _sweep(_temporary({}))

    def warming(self) -> str:
        return self._zygote.warming() if self._zygote is not None else ""

    @property
    def zygote_pid(self) -> int | None:
        return self._zygote.pid if self._zygote is not None else None

    async def spawn(
        self,
        name: str,
        environment: Mapping[str, str],
        http: socket.socket | None,
        handler: CallHandler,
        on_closed: Callable[[Connection], None],
        on_output: Callable[[Written], None],
        *,
        heavy: bool = True,
    ) -> LocalProcess:
        if self._owner is None:
            raise LaunchError(f"{name}: nbcompose has been stopped in this process")
        ours, theirs = socket.socketpair()
        readable, writable = os.pipe()
        nothing = os.open(os.devnull, os.O_RDONLY)
        http_fd = http.fileno() if http is not None else nothing
        files = InheritedFds(theirs.fileno(), writable, self._owner, self._board.fd, http_fd)
        try:
            ends = await _Ends.open(ours, readable, name, handler, on_closed, on_output)
            try:
                # Last: nothing may fail once the process exists.
                pid, exit_status, cold = await self._make(files, environment, heavy)
            except BaseException:
                ends.close()
                raise
        finally:
            theirs.close()
            os.close(writable)
            os.close(nothing)
        return LocalProcess(pid, ends.connection, exit_status, ends.output, cold, _temporary(environment))

    async def _make(
        self, files: InheritedFds, environment: Mapping[str, str], heavy: bool
    ) -> tuple[int, asyncio.Future[int | None], str]:
        zygote = self._zygote
        if zygote is None:
            return *start_cold(files, environment), "no zygote on this machine"
        if not zygote.alive:
            return *start_cold(files, environment), f"the zygote failed: {zygote.end}"
        if not heavy and zygote.imports and zygote.warming():
            return *start_cold(files, environment), NOT_WARM
        if reason := await zygote.refusal(environment):
            return *start_cold(files, environment), f"the environment differs: {reason}"
        try:
            pid, exit_status = await zygote.fork(files)
        except ConnectionError as error:
            return *start_cold(files, environment), f"the zygote failed: {error}"
        return pid, exit_status, ""

    def _new_zygote(self) -> None:
        assert self._owner is not None
        zygote = self._zygote = Zygote(self._owner, self._preload, self._zygote_ended)
        try:
            zygote.start()
        except OSError as error:
            zygote.alive, zygote.end = False, str(error)

    def _zygote_ended(self, zygote: Zygote) -> None:
        """Start a new zygote at once, so that the next replica finds it warm."""
        self._cold_zygotes += not zygote.was_warm
        if self._owner is not None and self._cold_zygotes < ZYGOTES:
            self._new_zygote()


def _temporary(environment: Mapping[str, str]) -> set[str]:
    """Return the folders where a process with this environment may put uploads; they may differ from this process's."""
    return {tempfile.gettempdir(), *(environment[name] for name in ("TMPDIR", "TEMP", "TMP") if environment.get(name))}


async def _sweep(places: set[str]) -> None:
    """Remove the uploads that killed processes left behind."""
    try:
        await asyncio.to_thread(sweep, *places)
    except RuntimeError:  # the interpreter is shutting down and starts no threads
        sweep(*places)
