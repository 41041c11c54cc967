"""`%export --check`: makes recorded calls to the notebook's services and to the exported script's, and compares.

The script runs in a separate process (`_export/check/replay.py`), which is ended with the check, also after an error.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any, Literal

from nbcompose._export.check.compare import TOLERANCE, Difference, differences, shape
from nbcompose._export.check.recording import RecordedCall
from nbcompose._export.check.replay import Answer, arguments_of, make
from nbcompose._host import open_owner_fd, owner_environment
from nbcompose._rpc import Transport
from nbcompose.errors import NbcomposeError

SLICE = 0.05  # seconds; an interrupt that another thread receives is noticed within this time
FACTOR, LEAST = 1.5, 0.05  # slower: by more than this factor, and by more than this many seconds
SHOWN = 3  # differences of an api that are shown
STOP_WAIT = 5.0  # seconds that the script's process has to end
LAST_LINES = 20  # of the script's output, shown where it ended by itself

_RUN = "from nbcompose._export.check.replay import main; main()"

Kind = Literal["same", "close", "not repeatable", "different"]
Find = Callable[[str], Transport]
Say = Callable[[str], None]


class CheckFailed(NbcomposeError):
    """The exported script does not start."""


@dataclass(frozen=True, slots=True)
class ApiResult:
    """Result of one api. `differences`: lines of text. `slower`: seconds here and in the script, where the script is
    slower.
    """

    api: str
    calls: int
    kind: Kind
    differences: tuple[str, ...] = ()
    slower: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Result of a check. `left_out`: lines on calls that could not be compared."""

    services: tuple[str, ...]
    rows: tuple[ApiResult, ...]
    left_out: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return all(row.kind != "different" for row in self.rows)


def check(script: Path, calls: Sequence[RecordedCall], find: Find, names: Sequence[str], say: Say) -> Report:
    """Start `script` and compare. `find` returns the transport to a service of the notebook, `names` are those
    services.

    Interruptible. Raises `CheckFailed`.
    """
    known = [c for c in calls if c.service in names]
    with started(script, known, say) as running:
        apis = running.ready()
        numbers = [i for i, c in enumerate(known) if c.api in apis.get(c.service, ())]
        compared: dict[str, list[Compared]] = {}
        for done, i in enumerate(numbers, 1):
            call = known[i]
            label = f"{call.service}.{call.api}"
            say(f"call {done} of {len(numbers)}: {label}")
            compared.setdefault(label, []).append(_compare(find(call.service), call, partial(running.ask, i)))
    rows = tuple(_row(label, outcomes) for label, outcomes in compared.items())
    return Report(tuple(apis), rows, _left_out(script, calls, names, apis))


# -- one call


@dataclass(frozen=True, slots=True)
class Compared:
    """The answers to one call, compared."""

    kind: Kind
    found: tuple[str, ...]
    here: float
    there: float

    @property
    def slower(self) -> bool:
        return self.there > FACTOR * self.here and self.there - self.here > LEAST


def _compare(caller: Transport, call: RecordedCall, ask: Callable[[], Answer]) -> Compared:
    arguments = arguments_of(call)
    here, there = make(caller, call, arguments), ask()
    kind, found = _judged(here, there)
    if kind == "different":
        again = make(caller, call, arguments_of(call))
        if _judged(here, again)[0] == "different":
            kind, found = _alike(here, again, there)
    compared = Compared(kind, found, here.seconds, there.seconds)
    if compared.slower:  # the first call of a process is often slow
        compared = Compared(kind, found, here.seconds, min(there.seconds, ask().seconds))
    return compared


def _judged(here: Answer, there: Answer) -> tuple[Kind, tuple[str, ...]]:
    if here.error or there.error:
        if here.error == there.error:
            return "same", ()
        return "different", (f"{_outcome(here)} in the notebook, and {_outcome(there)} in the script",)
    found = list(differences(here.value, there.value))
    if not found:
        return "same", ()
    apart = [d for d in found if not d.close]
    return ("different", _told(apart)) if apart else ("close", ())


def _alike(here: Answer, again: Answer, there: Answer) -> tuple[Kind, tuple[str, ...]]:
    """Compare shapes, for an api that answers the same call in different ways."""
    shapes = {_shape(a) for a in (here, again)}
    if _shape(there) in shapes:
        return "not repeatable", ()
    if len(shapes) > 1 and type(there.value) is type(here.value):
        return "not repeatable", ()
    return "different", (f"{_shape(here)} in the notebook, and {_shape(there)} in the script",)


def _shape(answer: Answer) -> str:
    return answer.error[0] if answer.error else shape(answer.value)


def _outcome(answer: Answer) -> str:
    return f"{answer.error[0]}: {answer.error[1]}" if answer.error else "an answer"


def _told(found: Sequence[Difference]) -> tuple[str, ...]:
    more = (f"and {len(found) - SHOWN} more",) if len(found) > SHOWN else ()
    return (*map(str, found[:SHOWN]), *more)


# -- the report


def _row(label: str, outcomes: Sequence[Compared]) -> ApiResult:
    order: Sequence[Kind] = ("different", "not repeatable", "close", "same")
    kind = next(k for k in order if any(o.kind == k for o in outcomes))
    found = tuple(dict.fromkeys(line for o in outcomes for line in o.found))
    slow = next((o for o in outcomes if o.slower), None)
    return ApiResult(label, len(outcomes), kind, found, (slow.here, slow.there) if slow is not None else None)


def _left_out(
    script: Path, calls: Sequence[RecordedCall], names: Sequence[str], apis: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    lines = {}
    for call in calls:
        label = f"{call.service}.{call.api}"
        if call.service not in names:
            lines[label] = f"{label}: {call.service} does not run in the notebook any more"
        elif call.service in apis and call.api not in apis[call.service]:
            lines[label] = f"{label}: {script.name} has no such api"
    return tuple(lines.values())


def words(kind: Kind) -> str:
    """Return the kind as a cell of the table."""
    return {
        "same": "same",
        "close": f"same within {TOLERANCE:.0e}".replace("e-0", "e-"),
        "not repeatable": "differs from call to call; same shape and types",
        "different": "different",
    }[kind]


# -- the process


@contextlib.contextmanager
def started(script: Path, calls: Sequence[RecordedCall], say: Say) -> Iterator[RunningScript]:
    """Run the script's process during the `with` block. `say` gets the progress of its services
    until they are ready.
    """
    near, far = socket.socketpair()
    owner = open_owner_fd()
    with Connection(near.detach()) as connection, tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", _RUN, str(script.resolve()), str(far.fileno()), str(owner)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(far.fileno(), owner),
                env={**os.environ, **owner_environment()},
                start_new_session=True,  # ■ interrupts only the notebook, which ends this process
            )
        finally:
            os.close(owner)
            far.close()
        try:
            running = RunningScript(script, process, connection, output, say)
            running.send(list(calls))
            yield running
            connection.close()  # which ends the process
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_WAIT)
        finally:
            process.kill()  # its replicas end with it
            process.wait()


class RunningScript:
    """A running script; made by `started`."""

    def __init__(
        self, script: Path, process: subprocess.Popen[bytes], connection: Any, output: IO[bytes], say: Say
    ) -> None:
        self._script = script
        self._process = process
        self._connection = connection
        self._output = output
        self._say = say

    def ready(self) -> dict[str, list[str]]:
        """Wait until the script's services are ready; return their apis. Raises `CheckFailed`."""
        self._say("starting")
        for kind, content in self._messages():
            if kind == "status":
                self._say(content)
            elif kind == "failed":
                raise CheckFailed(f"{self._script.name} does not start: {content}")
            elif kind == "ready":
                found: dict[str, list[str]] = content
                return found
        raise AssertionError("messages end with an error")

    def ask(self, number: int) -> Answer:
        """Return the script's answer to one of the calls, by number. Raises `CheckFailed`."""
        self.send(number)
        answer: Answer = next(content for kind, content in self._messages() if kind == "answer")
        return answer

    def send(self, content: Any) -> None:
        with contextlib.suppress(OSError):  # the process has ended, which is reported by the next wait
            self._connection.send(content)

    def _messages(self) -> Iterator[tuple[str, Any]]:
        while True:
            try:
                if self._connection.poll(SLICE):
                    yield self._connection.recv()
            except (EOFError, OSError):
                self._process.wait()
                raise CheckFailed(f"{self._script.name} ended by itself{self._last_lines()}") from None

    def _last_lines(self) -> str:
        self._output.seek(0)
        lines = self._output.read().decode(errors="replace").splitlines()[-LAST_LINES:]
        return ":\n" + "\n".join(lines) if lines else ""
