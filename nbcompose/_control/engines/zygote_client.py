"""The supervisor's end of the zygote: starts it, requests forks, reports exits, and decides whether a fork is allowed.

A fork is allowed where no library has read a variable that differs: variables are set in the replica before any user
code runs. What Python code read is recorded while the zygote imports; what native code may have read is found by the
names that it contains. See `_host/environment.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from nbcompose import settings
from nbcompose._control import Written, read_output
from nbcompose._host import environment, keep_from_children, owner_environment
from nbcompose._replica import PRELOAD, REQUEST, InheritedFds

# Differ between processes and do not affect a library that is imported, even if it reads them.
IGNORED = frozenset({
    "_", "PWD", "OLDPWD", "SHLVL", "COLUMNS", "LINES", "PYTEST_CURRENT_TEST", "JPY_PARENT_PID", "JPY_SESSION_NAME",
    "JPY_INTERRUPT_EVENT", "IPY_INTERRUPT_EVENT", "CLICOLOR", "CLICOLOR_FORCE", "FORCE_COLOR", "PAGER", "GIT_PAGER",
    "MPLBACKEND", "TERM", "PYDEVD_USE_FRAME_EVAL", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER",
    "NBCOMPOSE_DEVICE", "NBCOMPOSE_OWNER_PID", *settings.VARIABLES,
})  # fmt: skip


class Readers:
    """Finds the libraries that read a variable during the zygote's imports.

    `seen`: the module that read it, by variable name or pattern; `pid`: the zygote, which must be running.
    """

    def __init__(self, seen: Mapping[str, str], pid: int) -> None:
        self._seen = seen
        self._pid = pid
        self._known: dict[str, str] = {}

    def explain(self, names: list[str]) -> str:
        """Return those of `names` that were read, each with its reader; "" when none was. Takes 0.1 s a name."""
        return "; ".join(f"{name}, {reader}" for name in names if (reader := self._reader(name)))

    def _reader(self, name: str) -> str:
        if name not in self._known:
            self._known[name] = self._find(name)
        return self._known[name]

    def _find(self, name: str) -> str:
        modules = [module for seen, module in self._seen.items() if fnmatchcase(name, seen)]
        if modules:
            return f"which {modules[0]} read when it was imported"
        library = environment.knows(self._pid, name)
        return f"which {library} may have read when it was loaded" if library else ""


# Imports are watched from the first one on.
START = (
    "from nbcompose._host import environment, random_state; environment.watch(); random_state.watch(); "
    "from nbcompose._control.engines.zygote import start; start()"
)

# A replica's pid, and a future of its exit status.
Forked = tuple[int, "asyncio.Future[int | None]"]


class Zygote:
    """One zygote process. All methods are called on one event loop; `on_end` is called there after the process has
    ended.
    """

    def __init__(
        self, owner_fd: int, preload: tuple[str, ...] | None, on_end: Callable[[Zygote], None] = lambda _: None
    ) -> None:
        named = settings.preload()
        usual = PRELOAD if named is None else named
        self.imports = usual if preload is None else preload
        self._owner_fd = owner_fd
        self._on_end = on_end
        self.environment: dict[str, str] = dict(os.environ)
        self.set_by_imports: dict[str, str] = {}  # variables that libraries set on import
        self.readers: Readers | None = None  # set when it is warm
        self.alive = True
        self.was_warm = False
        self.end = ""  # how it ended, in words
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._living: asyncio.Task[None] | None = None
        self._loading = "starting a process"
        self._warm = asyncio.Event()
        # The zygote answers in the order of the requests; cancelled requests keep their place.
        self._answers: deque[asyncio.Future[Forked]] = deque()
        self._exits: dict[int, asyncio.Future[int | None]] = {}
        self._orphans: set[asyncio.Task[None]] = set()
        self._output: deque[str] = deque(maxlen=30)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the process; it imports in the background. Raises `OSError`."""
        ours, theirs = socket.socketpair()
        keep_from_children(ours)
        with theirs:
            try:
                ours.setblocking(False)
                self._process = self._popen(theirs)
            except BaseException:
                ours.close()
                raise
        self._socket = ours
        assert self._process.stderr is not None
        output = os.dup(self._process.stderr.fileno())
        self._process.stderr.close()
        self._living = asyncio.ensure_future(self._live(ours, output))
        self._living.add_done_callback(lambda _: ours.close())  # also where the loop ends before the zygote does

    def _popen(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                sys.executable, "-P", "-c", START,
                str(theirs.fileno()), str(self._owner_fd), ",".join(self.imports),
            ],
            pass_fds=(theirs.fileno(), self._owner_fd),
            env={**self.environment, **owner_environment()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # ■ signals the kernel's whole process group
        )  # fmt: skip

    def warming(self) -> str:
        """Return what the zygote is importing now; "" once it can fork."""
        return "" if self._warm.is_set() or not self.alive else self._loading

    async def refusal(self, wanted: Mapping[str, str]) -> str:
        """Return why a replica with this environment cannot be forked, in words; "" when it can.

        A variable that a library sets on import is not a difference: the library sets it in the kernel as in the
        zygote. Whether one that differs was read, or set, is known only when the zygote is warm: this waits for it.
        """
        if not self._differing(wanted):
            return ""
        await self._warm.wait()
        if self.readers is None:
            return ""  # the zygote has ended; `fork` reports it
        return await asyncio.to_thread(self.readers.explain, self._differing(wanted))

    def _differing(self, wanted: Mapping[str, str]) -> list[str]:
        """Return the variables whose wanted value differs from the one that the zygote has."""
        began, by_imports = self.environment, self.set_by_imports
        names = (began.keys() | wanted.keys()) - IGNORED
        return sorted(n for n in names if wanted.get(n) not in (began.get(n), by_imports.get(n, began.get(n))))

    async def fork(self, files: InheritedFds) -> Forked:
        """Fork a replica; return its pid and a future of its exit status. Waits until the imports are done.

        Raises `ConnectionError` when the zygote dies or refuses. Cancelling this kills the replica.
        """
        await self._warm.wait()
        if not self.alive or self._socket is None:
            raise ConnectionResetError(self.end)
        answer: asyncio.Future[Forked] = asyncio.get_running_loop().create_future()
        try:
            socket.send_fds(self._socket, [REQUEST], list(files))
        except OSError as error:
            raise ConnectionResetError(f"it takes no requests: {error}") from error
        self._answers.append(answer)
        return await answer

    async def stop(self) -> None:
        """Kill the zygote; its replicas live on until they are stopped themselves."""
        self._on_end = lambda _: None
        if self._process is not None and self.alive:
            self._process.kill()  # it holds nothing that needs cleanup
        if self._living is not None:
            await asyncio.wait([self._living])

    async def _live(self, ours: socket.socket, output: int) -> None:
        assert self._process is not None
        reader = await read_output(output, self._take_output)
        try:
            await self._listen(ours)
        except (ValueError, LookupError, TypeError) as error:  # it runs other code, which was changed since it started
            why = f"it says what is not understood ({type(error).__name__}: {error})"
        else:
            why = ""
        self._process.kill()  # the channel has closed: the zygote has ended or is useless
        status = await asyncio.to_thread(self._process.wait)
        await asyncio.wait([reader.ended], timeout=1)
        last = f": {self._output[-1]}" if self._output else ""
        self._take_end(why or f"it ended unexpectedly (status {status}){last}")

    def _take_output(self, written: Written) -> None:
        if written.ended:
            self._output.append(written.line.text)

    async def _listen(self, ours: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        rest = b""
        with contextlib.suppress(OSError):
            while data := await loop.sock_recv(ours, 65536):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._take(json.loads(line))

    def _take(self, message: dict[str, Any]) -> None:
        if "loading" in message:
            self._loading = f"importing {message['loading']}"
        elif "ready" in message:
            assert self.pid is not None
            self.set_by_imports, self.readers = message["set"], Readers(message["read"], self.pid)
            self.was_warm = True
            self._warm.set()
        elif "forked" in message:
            self._take_child(message["forked"])
        elif "exited" in message:
            exit_status = self._exits.pop(message["exited"], None)
            if exit_status is not None and not exit_status.done():
                exit_status.set_result(message["status"])
        elif "refused" in message:
            answer = self._answers.popleft()
            if not answer.done():
                answer.set_exception(ConnectionError(str(message["refused"])))

    def _take_child(self, pid: int) -> None:
        # Register first: a replica may end at once, and its exit arrive in the same read.
        exit_status = self._exits[pid] = asyncio.get_running_loop().create_future()
        answer = self._answers.popleft()
        if not answer.done():
            answer.set_result((pid, exit_status))
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _take_end(self, why: str) -> None:
        self.alive = False
        self.end = why
        self._warm.set()
        for answer in self._answers:
            if not answer.done():
                answer.set_exception(ConnectionResetError(why))
        self._answers.clear()
        for pid, exit_status in self._exits.items():
            task = asyncio.ensure_future(_watch_orphan(pid, exit_status))
            self._orphans.add(task)
            task.add_done_callback(self._orphans.discard)
        self._exits.clear()
        self._on_end(self)


async def _watch_orphan(pid: int, exit_status: asyncio.Future[int | None]) -> None:
    """Watch a replica whose zygote has ended: its exit status cannot be known, but the time of its end can."""
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(ProcessLookupError):
            await _readable(os.pidfd_open(pid))
    else:
        while _exists(pid):  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    if not exit_status.done():
        exit_status.set_result(None)


async def _readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    loop.add_reader(fd, event.set)
    try:
        await event.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
