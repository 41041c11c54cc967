"""`%export --check`: makes recorded calls to the notebook's services and to the exported script's, and compares.

The script runs in a separate process (`_export/check/replay.py`), which is ended with the check, also after an error.
All together takes no longer than a limit, which the plan says (`Plan`).
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any, Literal

from nbcompose._export.check.compare import TOLERANCE, Difference, differences, shape
from nbcompose._export.check.recording import LIMIT, RecordedCall, Skipped
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


class LimitReached(Exception):
    """The check has taken as long as it may."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a check will do. `skipped`: calls that are left out, by service and api, with the reasons."""

    calls: tuple[RecordedCall, ...]
    skipped: Skipped
    limit: float = LIMIT

    def __str__(self) -> str:
        """E.g. "12 calls of 3 services, about 8 s when they were made; limit 60 s"."""
        calls, services = len(self.calls), len({c.service for c in self.calls})
        seconds = sum(c.seconds for c in self.calls)
        took = f"about {seconds:.0f} s" if seconds >= 1 else "less than 1 s"
        made = f", {took} when {'they were' if calls != 1 else 'it was'} made" if calls else ""
        return f"{_counted(calls, 'call')} of {_counted(services, 'service')}{made}; limit {self.limit:g} s"


def plan(
    calls: Sequence[RecordedCall],
    skipped: Skipped,
    running: Collection[str],
    exported: Collection[str],
    limit: float = LIMIT,
) -> Plan:
    """Return the plan of a check: calls of services that run in the notebook and are in the script."""
    left_out = {key: Counter(count) for key, count in skipped.items() if key[0] in exported and key[0] in running}
    known = []
    for call in calls:
        if call.service in running and call.service in exported:
            known.append(call)
        else:
            reason = "not in the script" if call.service in running else "of a service that does not run any more"
            left_out.setdefault((call.service, call.api), Counter())[reason] += 1
    return Plan(tuple(known), left_out, limit)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


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


def check(script: Path, todo: Plan, find: Find, say: Say) -> Report:
    """Start `script` and compare. `find` returns the transport to a service of the notebook.

    Ends within the limit of the plan; interruptible. Raises `CheckFailed`.
    """
    clock = Clock(todo.limit)
    skipped = {key: Counter(count) for key, count in todo.skipped.items()}
    compared: dict[str, list[Compared]] = {}
    with started(script, todo.calls, say, clock) as running:
        apis = running.ready()
        for i, call in enumerate(todo.calls):
            label, count = f"{call.service}.{call.api}", skipped.setdefault((call.service, call.api), Counter())
            if call.api not in apis.get(call.service, ()):
                count["that the script has no api for"] += 1
                continue
            running.say(f"call {i + 1} of {len(todo.calls)}: {label}")
            try:
                compared.setdefault(label, []).append(
                    _compare(find(call.service), call, partial(running.ask, i), clock)
                )
            except LimitReached:
                count[f"not made within the limit of {todo.limit:g} s (--limit)"] += 1
    rows = tuple(_row(label, outcomes) for label, outcomes in compared.items() if outcomes)
    return Report(tuple(apis), rows, tuple(_left_out(skipped)))


class Clock:
    """The time that is left of a check."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._begun = time.monotonic()

    def left(self) -> float:
        """Return the seconds that are left. Raises `LimitReached`."""
        left = self._begun + self._limit - time.monotonic()
        if left <= 0:
            raise LimitReached
        return left

    def __str__(self) -> str:
        return f"{time.monotonic() - self._begun:.0f} s of {self._limit:g} s"


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


def _compare(caller: Transport, call: RecordedCall, ask: Callable[[], Answer], clock: Clock) -> Compared:
    """Raises `LimitReached`."""

    def ours() -> Answer:
        answer = make(caller, call, arguments_of(call), clock.left())
        clock.left()  # an error may be that the time was over
        return answer

    here, there = ours(), ask()
    kind, found = _judged(here, there)
    if kind == "different":
        again = ours()
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


def _left_out(skipped: Skipped) -> Iterator[str]:
    """Yield lines such as "Answer.ask: 3 calls were left out: 2 failed, 1 cancelled"."""
    for (service, api), count in skipped.items():
        total = count.total()
        if total:
            reasons = ", ".join(f"{n} {reason}" for reason, n in count.items())
            yield f"{service}.{api}: {_counted(total, 'call')} {'was' if total == 1 else 'were'} left out: {reasons}"


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
def started(script: Path, calls: Sequence[RecordedCall], say: Say, clock: Clock) -> Iterator[RunningScript]:
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
            running = RunningScript(script, process, connection, output, say, clock)
            running.send(list(calls))
            yield running
            connection.close()  # which ends the process, unless it is at a call
            with contextlib.suppress(subprocess.TimeoutExpired, LimitReached):
                process.wait(min(STOP_WAIT, clock.left()))
        finally:
            process.kill()  # its replicas end with it
            process.wait()


class RunningScript:
    """A running script; made by `started`. While it is waited for, what it does is said with the time that it takes."""

    def __init__(
        self,
        script: Path,
        process: subprocess.Popen[bytes],
        connection: Any,
        output: IO[bytes],
        say: Say,
        clock: Clock,
    ) -> None:
        self._script = script
        self._process = process
        self._connection = connection
        self._output = output
        self._say = say
        self._clock = clock
        self._does = "starting"

    def say(self, does: str) -> None:
        """Say what is done now."""
        self._does = does
        self._say(f"{does}, {self._clock}")

    def ready(self) -> dict[str, list[str]]:
        """Wait until the script's services are ready; return their apis. Raises `CheckFailed`."""
        self.say("starting")
        try:
            for kind, content in self._messages():
                if kind == "status":
                    self.say(content)
                elif kind == "failed":
                    raise CheckFailed(f"{self._script.name} does not start: {content}")
                elif kind == "ready":
                    found: dict[str, list[str]] = content
                    return found
        except LimitReached:
            raise CheckFailed(
                f"{self._script.name} was not ready within the limit ({self._clock}; last: {self._does}): "
                "`--limit SECONDS` gives it more"
            ) from None
        raise AssertionError("messages end with an error")

    def ask(self, number: int) -> Answer:
        """Return the script's answer to one of the calls, by number. Raises `CheckFailed`, `LimitReached`."""
        self.send((number, self._clock.left()))
        answer: Answer = next(content for kind, content in self._messages() if kind == "answer")
        return answer

    def send(self, content: Any) -> None:
        with contextlib.suppress(OSError):  # the process has ended, which is reported by the next wait
            self._connection.send(content)

    def _messages(self) -> Iterator[tuple[str, Any]]:
        while True:
            try:
                if self._connection.poll(min(SLICE, self._clock.left())):
                    yield self._connection.recv()
                else:
                    self.say(self._does)  # with the time by now
            except (EOFError, OSError):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(STOP_WAIT)
                raise CheckFailed(f"{self._script.name} ended by itself{self._last_lines()}") from None

    def _last_lines(self) -> str:
        self._output.seek(0)
        lines = self._output.read().decode(errors="replace").splitlines()[-LAST_LINES:]
        return ":\n" + "\n".join(lines) if lines else ""
