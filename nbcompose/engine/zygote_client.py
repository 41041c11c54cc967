"""The supervisor's end of the zygote: starts it, asks it for replicas, hears of their end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections import deque
from typing import Any

from nbcompose.engine.output import read_lines
from nbcompose.owner import owner_environment
from nbcompose.replica.birth import PRELOAD, REQUEST, Files

PRELOAD_VARIABLE = "NBCOMPOSE_PRELOAD"  # module names, separated by commas, instead of PRELOAD


class Zygote:
    """One zygote process. All methods are called on one event loop."""

    def __init__(self, owner_fd: int, preload: tuple[str, ...] | None = None) -> None:
        named = os.environ.get(PRELOAD_VARIABLE)
        self._modules = preload or (tuple(named.split(",")) if named is not None else PRELOAD)
        self._owner_fd = owner_fd
        self.environment: dict[str, str] = dict(os.environ)
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._reading: asyncio.Task[None] | None = None
        self._loading = "starting"
        self._warm = asyncio.Event()
        self._forking = asyncio.Lock()
        self._answer: asyncio.Future[int] | None = None
        self._exits: dict[int, asyncio.Future[int | None]] = {}
        self._orphans: set[asyncio.Task[None]] = set()
        self._output: deque[str] = deque(maxlen=30)
        self.alive = True

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the process; it imports in the background."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._socket = ours
        self._process = subprocess.Popen(
            [
                sys.executable, "-P", "-c", "from nbcompose.zygote import start; start()",
                str(theirs.fileno()), str(self._owner_fd), ",".join(self._modules),
            ],
            pass_fds=(theirs.fileno(), self._owner_fd),
            env={**self.environment, **owner_environment()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        theirs.close()
        assert self._process.stderr is not None
        self._reading = asyncio.ensure_future(self._read(os.dup(self._process.stderr.fileno())))
        self._process.stderr.close()

    def warming(self) -> str:
        """What it is importing now; "" once it can fork."""
        return "" if self._warm.is_set() or not self.alive else self._loading

    async def fork(self, files: Files) -> tuple[int, asyncio.Future[int | None]]:
        """A new replica's pid, and its exit status to come. Waits until the imports are done.

        Raises `ConnectionError` when the zygote dies or refuses.
        """
        await self._warm.wait()
        async with self._forking:
            if not self.alive or self._socket is None:
                raise ConnectionResetError("it has ended")
            self._answer = asyncio.get_running_loop().create_future()
            socket.send_fds(self._socket, [REQUEST], list(files))
            pid = await self._answer
        exit_status = self._exits[pid] = asyncio.get_running_loop().create_future()
        return pid, exit_status

    async def stop(self) -> None:
        """End it; its replicas live on until they are stopped themselves."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])  # a socket that is being read stays open
        if self._socket is not None:
            self._socket.close()  # it reads the end of the channel
        if self._process is not None:
            try:
                await asyncio.wait_for(asyncio.to_thread(self._process.wait), 2)
            except TimeoutError:
                self._process.kill()
                await asyncio.to_thread(self._process.wait)
        self._end("it was stopped")

    async def _read(self, output: int) -> None:
        await read_lines(output, self._output.append)
        loop = asyncio.get_running_loop()
        rest = b""
        assert self._socket is not None
        with contextlib.suppress(OSError):
            while data := await loop.sock_recv(self._socket, 65536):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._take(json.loads(line))
        self._end("it ended unexpectedly" + (f": {self._output[-1]}" if self._output else ""))

    def _take(self, message: dict[str, Any]) -> None:
        if "loading" in message:
            self._loading = f"importing {message['loading']}"
        elif "ready" in message:
            self._warm.set()
        elif "exited" in message:
            future = self._exits.pop(message["exited"], None)
            if future is not None and not future.done():
                future.set_result(message["status"])
        elif self._answer is not None and not self._answer.done():
            if "forked" in message:
                self._answer.set_result(message["forked"])
            else:
                self._answer.set_exception(ConnectionError(str(message.get("refused"))))

    def _end(self, why: str) -> None:
        self.alive = False
        self._warm.set()
        if self._process is not None:
            self._process.poll()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError(why))
        for pid, future in self._exits.items():
            if not future.done():
                self._orphans.add(asyncio.ensure_future(_watch_orphan(pid, future)))


async def _watch_orphan(pid: int, exit_status: asyncio.Future[int | None]) -> None:
    """The zygote is gone and cannot tell how its children end: see at least when."""
    if hasattr(os, "pidfd_open"):
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            pass
        else:
            loop = asyncio.get_running_loop()
            ended = loop.create_future()
            loop.add_reader(fd, ended.cancel)
            try:
                await asyncio.wait([ended])
            finally:
                loop.remove_reader(fd)
                os.close(fd)
    else:
        while _exists(pid):  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    if not exit_status.done():
        exit_status.set_result(None)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
