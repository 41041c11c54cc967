"""Replay: runs an exported script in a separate process and answers recorded calls, for `%export --check`.

The script runs as with `python app.py`, up to the call of `serve`. There its services start as they would, on any free
port, and the recorded calls are made. `_export/check/checking.py` starts the process and compares.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import nbcompose
from nbcompose._control import Graph, Registry, Status, describe
from nbcompose._export.check.compare import plain
from nbcompose._export.check.recording import RecordedCall
from nbcompose._host import wait_for_end
from nbcompose._rpc import Transport, loads
from nbcompose._service import as_service
from nbcompose._tracing import CallContext
from nbcompose.errors import NbcomposeError, RemoteError


@dataclass(frozen=True, slots=True)
class Answer:
    """Outcome of a call: a plain value (`compare.plain`), or an error's type and message."""

    value: Any
    error: tuple[str, str] | None
    seconds: float


def arguments_of(call: RecordedCall) -> tuple[Any, Any] | Exception:
    """Return positional and keyword arguments, with the classes of this process's `__main__`; or the error of loading
    them.
    """
    try:
        args, kwargs = loads(call.arguments)
    except Exception as error:  # a class of the user may raise anything
        return error
    return args, kwargs


def make(caller: Transport, call: RecordedCall, arguments: tuple[Any, Any] | Exception, limit: float) -> Answer:
    """Make a recorded call, which may take `limit` seconds at most; an error that it raises becomes an answer too."""
    begun = time.perf_counter()
    try:
        if isinstance(arguments, Exception):
            raise arguments
        value = _value(caller, call, *arguments, CallContext(deadline=time.monotonic() + max(0.0, limit)))
    except Exception as error:
        return Answer(None, _described(error), time.perf_counter() - begun)
    seconds = time.perf_counter() - begun
    return Answer(plain(value), None, seconds)


def _value(caller: Transport, call: RecordedCall, args: Any, kwargs: Any, context: CallContext) -> Any:
    api = caller.learn_sync(call.api, context)
    result = caller.call_sync(api, args, kwargs, context)
    if not api.stream:
        return result
    with contextlib.closing(result):
        return list(islice(result, call.items))


def _described(error: Exception) -> tuple[str, str]:
    if isinstance(error, RemoteError):
        return error.type_name.rpartition(".")[2], str(error).partition(": ")[2]
    return type(error).__name__, str(error)


class NotebookLink:
    """The connection to the notebook. `tell` may be called from any thread."""

    def __init__(self, file: int) -> None:
        self._connection = Connection(file)
        self._lock = threading.Lock()

    def tell(self, kind: str, content: Any) -> None:
        """Send a message; does nothing where the notebook has gone."""
        with self._lock, contextlib.suppress(OSError):
            self._connection.send((kind, content))

    def recv(self) -> Any:
        """Receive a message. Raises `EOFError` when the notebook has closed the connection."""
        return self._connection.recv()


def main() -> None:
    """Run the process. Arguments: the script, the fd of the connection to the notebook, and the owner fd. See
    `_host/lifetime.py`.
    """
    script, line, owner = sys.argv[1], NotebookLink(int(sys.argv[2])), int(sys.argv[3])
    threading.Thread(target=_leave_with, args=(owner,), daemon=True).start()
    calls: list[RecordedCall] = line.recv()
    nbcompose.serve = lambda *entries, **_: _answer(entries, calls, line)
    try:
        _run(script)
        line.tell("failed", f"{Path(script).name} serves nothing: its last line is to call nbcompose.serve")
    except BaseException as error:
        line.tell("failed", _told(error, script))
    sys.stdout.flush()
    os._exit(1)  # replicas end with this process


def _leave_with(owner: int) -> None:
    wait_for_end(owner)
    os._exit(1)


def _run(script: str) -> None:
    """Run the script as `python script` does."""
    space = sys.modules["__main__"].__dict__
    space["__file__"] = script
    sys.argv = [script]
    sys.path.insert(0, str(Path(script).parent))
    exec(compile(Path(script).read_bytes(), script, "exec"), space)


def _answer(entries: Sequence[Any], calls: Sequence[RecordedCall], line: NotebookLink) -> None:
    """Replacement of `nbcompose.serve`: start the services and answer calls. Does not return."""
    services = [as_service(e) for e in entries]
    arguments = [arguments_of(call) for call in calls]
    _as_module()
    graph = Graph(token=secrets.token_urlsafe(16))
    deployments = graph.pack(services)
    registry = graph.registry(deployments)
    try:
        registry.subscribe(_Progress(line))
        for deployment in deployments:
            registry.deploy(deployment)
        names = [d.spec.name for d in deployments]
        failed = next(_failures(registry, names), None)
        if failed is not None:
            line.tell("failed", failed)
            os._exit(1)
        line.tell("ready", {d.spec.name: [a.name for a in d.spec.apis] for d in deployments})
        while True:
            number, limit = line.recv()
            call = calls[number]
            line.tell("answer", make(registry.caller(call.service), call, arguments[number], limit))
    except EOFError:  # the check is over
        registry.stop(grace=0.5)
        os._exit(0)


def _as_module() -> None:
    """Rename the script's classes to the module that its replicas import, so that arguments of these classes match
    theirs.
    """
    main = sys.modules["__main__"]
    name = Path(str(main.__file__)).stem
    if sys.modules.setdefault(name, main) is not main:
        return
    for value in list(vars(main).values()):
        if isinstance(value, type) and value.__module__ == "__main__":
            value.__module__ = name


def _failures(registry: Registry, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        status = registry.wait(name)
        if status.state != "ready":
            yield f"{name}: {status.error or status.reason}"


class _Progress:
    """Reports the progress of the services to the notebook. Called on the registry's loop."""

    def __init__(self, line: NotebookLink) -> None:
        self._line = line
        self._told: dict[str, str] = {}

    def __call__(self, status: Status) -> None:
        text = f"{status.name}: {describe(status)}"
        if status.state == "starting" and self._told.get(status.name) != text:
            self._told[status.name] = text
            self._line.tell("status", text)


def _told(error: BaseException, script: str) -> str:
    """Return an error as text, with only the script's own frames."""
    if isinstance(error, NbcomposeError):
        return str(error)
    told = traceback.TracebackException.from_exception(error)
    told.stack[:] = [frame for frame in told.stack if frame.filename == script] or told.stack
    return "".join(told.format()).rstrip()
