"""Replicas on this machine: forked by the zygote, or started cold where that cannot be. Implements base.py."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping

from nbcompose.engine.output import read_lines
from nbcompose.engine.zygote_client import Zygote
from nbcompose.errors import LaunchError
from nbcompose.owner import open_owner_fd, owner_environment
from nbcompose.replica.birth import Files
from nbcompose.wire.board import LoadBoard
from nbcompose.wire.call import Connection, Handler, adopt

# Differ between processes and mean nothing to a library that is imported.
IGNORED_VARIABLES = frozenset({
    "_", "PWD", "OLDPWD", "SHLVL", "COLUMNS", "LINES", "PYTEST_CURRENT_TEST", "JPY_PARENT_PID", "JPY_SESSION_NAME",
    "JPY_INTERRUPT_EVENT", "IPY_INTERRUPT_EVENT", "CLICOLOR", "CLICOLOR_FORCE", "FORCE_COLOR", "PAGER", "GIT_PAGER",
    "MPLBACKEND", "TERM", "PYDEVD_USE_FRAME_EVAL", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER",
    "NBCOMPOSE_DEVICE", "NBCOMPOSE_OWNER_PID",
})  # fmt: skip


class LocalProcess:
    """See `base.ReplicaProcess`."""

    def __init__(self, pid: int, connection: Connection, exit_status: asyncio.Future[int | None], cold: str) -> None:
        self.pid = pid
        self.connection = connection
        self.cold = cold
        self._exit_status = exit_status

    async def wait(self) -> int | None:
        return await asyncio.shield(self._exit_status)

    def kill(self) -> None:
        if not self._exit_status.done():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)


class LocalEngine:
    """See `base.Engine`. `board` is the load board that its replicas share."""

    def __init__(self, board: LoadBoard, preload: tuple[str, ...] | None = None) -> None:
        self._board = board
        self._preload = preload
        self._owner = open_owner_fd()
        self._zygote: Zygote | None = None
        self._stopped = False

    async def start(self) -> None:
        if hasattr(os, "fork") and os.environ.get("NBCOMPOSE_ZYGOTE", "1") != "0":
            self._zygote = Zygote(self._owner, self._preload)
            self._zygote.start()

    async def stop(self) -> None:
        self._stopped = True
        if self._zygote is not None:
            await self._zygote.stop()
        os.close(self._owner)

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
        handler: Handler,
        on_closed: Callable[[Connection], None],
        on_output: Callable[[str], None],
    ) -> LocalProcess:
        ours, theirs = socket.socketpair()
        readable, writable = os.pipe()
        nothing = os.open(os.devnull, os.O_RDONLY)
        http_fd = http.fileno() if http is not None else nothing
        files = Files(theirs.fileno(), writable, self._owner, self._board.fd, http_fd)
        try:
            pid, exit_status, cold = await self._make(files, environment)
        except BaseException:
            ours.close()
            os.close(readable)
            raise
        finally:
            theirs.close()
            os.close(writable)
            os.close(nothing)
        await read_lines(readable, on_output)
        connection = await adopt(ours, name, handler, on_closed)
        return LocalProcess(pid, connection, exit_status, cold)

    async def _make(self, files: Files, environment: Mapping[str, str]) -> tuple[int, asyncio.Future[int | None], str]:
        zygote = self._zygote
        if zygote is None:
            return *self._start_cold(files, environment), "no zygote on this machine"
        differing = self._differing(zygote.environment, environment)
        if differing:
            return *self._start_cold(files, environment), f"the environment differs: {', '.join(differing)}"
        if not zygote.alive:
            zygote = self._zygote = Zygote(self._owner, self._preload)
            zygote.start()
        try:
            pid, exit_status = await zygote.fork(files)
            return pid, exit_status, ""
        except ConnectionError as error:
            if not self._stopped:
                self._zygote = Zygote(self._owner, self._preload)  # the next replica finds it warm
                self._zygote.start()
            return *self._start_cold(files, environment), f"the zygote failed: {error}"

    def _differing(self, zygote: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
        """Variables that a library may have read, when the zygote imported it, with another value."""
        now = {**os.environ, **wanted}
        names = (now.keys() | zygote.keys()) - IGNORED_VARIABLES
        return sorted(n for n in names if now.get(n) != zygote.get(n))

    def _start_cold(self, files: Files, environment: Mapping[str, str]) -> tuple[int, asyncio.Future[int | None]]:
        try:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-c",
                    "from nbcompose.replica.main import start; start()",
                    ",".join(map(str, files)),
                ],
                pass_fds=tuple(files),
                env={**os.environ, **environment, **owner_environment()},
                stdin=subprocess.DEVNULL,
                stdout=files.output,
                stderr=files.output,
                start_new_session=True,
            )
        except OSError as error:
            raise LaunchError(f"a process could not be started: {error}") from error
        loop = asyncio.get_running_loop()
        exit_status: asyncio.Future[int | None] = asyncio.ensure_future(asyncio.to_thread(process.wait), loop=loop)
        return process.pid, exit_status
