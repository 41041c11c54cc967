"""Discovery of the user's other nbcompose processes: every process that has a registry can be found and queried.

Each one listens on a private socket whose name begins with `PREFIX` and contains its pid. On Linux the sockets are in
the abstract namespace and are listed in /proc/net/unix: nothing is left behind, however a process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from nbcompose._rpc import IncomingCall, address, open_connection, serve
from nbcompose._tracing import CallContext
from nbcompose.errors import DeadlineExceeded, NbcomposeError, UnknownApi

PREFIX = "nbcompose.runtime"
ANSWER_WITHIN = 30.0  # seconds; a stop lets calls in flight finish
# seconds; long enough for a process that is busy starting services, short enough not to wait for one that hangs
LIST_WITHIN = 10.0

Operation = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class RunningProcess:
    """A process that has a registry. `title`: its display name, filled in by `listings`."""

    pid: int
    address: str
    title: str = ""


class RuntimeServer:
    """Answers other processes of this user: the title of this process, and the given `operations`.

    Call `start` and `stop` on the registry's loop.
    """

    def __init__(self, operations: Mapping[str, Operation], title: str | None = None) -> None:
        self._operations = {"title": self._answer_title, **operations}
        self._title = title or own_title()
        self._address = ""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        sweep()
        self._address = address.fresh(f"{PREFIX}.{os.getuid()}.{os.getpid()}")
        self._server = await serve(address.listen(self._address), "another process of this user", self)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            address.remove(self._address)

    def on_call(self, call: IncomingCall) -> None:
        task = asyncio.ensure_future(self._answer(call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def on_note(self, topic: str, value: Any) -> None:
        """Ignored: other processes send no notes here."""

    async def _answer_title(self) -> str:
        return self._title

    async def _answer(self, call: IncomingCall) -> None:
        try:
            operation = self._operations.get(call.api)
            if operation is None:
                raise UnknownApi(f"a runtime has no {call.api!r}; it has: {', '.join(self._operations)}")
            args, kwargs = call.arguments
            call.reply(await operation(*args, **kwargs))
        except Exception as error:
            call.fail(error)


def find() -> list[RunningProcess]:
    """Return the processes of this user that run services, sorted by pid."""
    found = []
    for name in _addresses():
        pid = _pid(name)
        if pid is not None and psutil.pid_exists(pid):
            found.append(RunningProcess(pid, name))
    return sorted(found, key=lambda r: r.pid)


async def ask(runtime: RunningProcess, operation: str, *args: Any, within: float = ANSWER_WITHIN) -> Any:
    """Call an operation of another process and return its answer.

    Raises `ConnectionError` when the process has gone, `DeadlineExceeded` after `within` seconds, or what the operation
    raised.
    """
    connection = await open_connection(runtime.address, f"process {runtime.pid}")
    try:
        return await connection.call(operation, (args, {}), CallContext(), time.monotonic() + within)
    finally:
        connection.close()


@dataclass(frozen=True, slots=True)
class Listing:
    """A process with its title and the status of each of its services; `statuses` is None where it does not answer."""

    runtime: RunningProcess
    statuses: list[Any] | None


async def listings() -> list[Listing]:
    """Query every process of this user, for up to `LIST_WITHIN` seconds; processes that end meanwhile are left out."""
    found = await asyncio.gather(*map(_listing, find()))
    return [listing for listing in found if listing is not None]


async def _listing(runtime: RunningProcess) -> Listing | None:
    try:
        title, statuses = await asyncio.gather(*(ask(runtime, what, within=LIST_WITHIN) for what in ("title", "ps")))
    except DeadlineExceeded:
        return Listing(runtime, None)
    except (ConnectionError, NbcomposeError):
        return None
    return Listing(replace(runtime, title=printable(str(title))), statuses)


def own_title() -> str:
    """Return the name of the notebook where Jupyter puts it into the kernel's environment, else of the program.

    Never includes a command-line argument: it may be a password, and other processes display the title.
    """
    session = os.environ.get("JPY_SESSION_NAME")
    if session:
        return Path(session).name
    program = Path(sys.argv[0] if sys.argv else "")
    if program.stem == "ipykernel_launcher" or program.parent.name == "ipykernel":
        return f"a notebook in {os.getcwd()}"
    if program.name == "-c" or not program.name:
        return "python"
    return program.parent.name if program.stem == "__main__" else program.name  # `python -m pytest`: pytest


def printable(title: str) -> str:
    """Return the title in at most 60 characters, without control characters: it comes from another process."""
    return "".join(c if c.isprintable() else "?" for c in title)[:60]


def sweep() -> None:
    """Remove socket files of processes that have ended, on systems without abstract sockets."""
    if address.ABSTRACT:
        return
    for path in address.socket_folder().glob("nbcompose.*"):
        pid = next((int(part) for part in reversed(path.name.split(".")[:-1]) if part.isdigit()), None)
        if pid is not None and not psutil.pid_exists(pid):
            path.unlink(missing_ok=True)


def _addresses() -> list[str]:
    prefix = f"{PREFIX}.{os.getuid()}."
    if sys.platform != "linux":
        return [str(p) for p in address.socket_folder().glob(f"{prefix}*")]
    with open("/proc/net/unix", encoding="ascii", errors="replace") as file:
        names = {line.split()[-1] for line in file if f"@{prefix}" in line}
    return sorted(names)


def _pid(name: str) -> int | None:
    with contextlib.suppress(ValueError, IndexError):
        return int(Path(name).name.lstrip("@").split(".")[3])
    return None
