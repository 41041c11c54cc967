"""Output of replicas: split into lines as it arrives, with the call that wrote each; the last lines are kept.

Also reads what `_replica/output.py` writes: pieces of lines, between what C code and child processes write.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import io
import re
import termios
import time
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum, auto
from itertools import islice
from typing import NamedTuple

import uvloop

from nbcompose._control.screen import WIDEST, Row, Screen
from nbcompose._host import keep_from_children
from nbcompose._protocol import LogFilter, LogLine
from nbcompose._replica import output

LINE_LIMIT = WIDEST  # a longer line is cut
MOST_BEGUN = 1000  # calls that have begun lines at once
MOST_IDLE = 100  # calls of which it is known what they wrote last, in complete lines
HOLD = 1.0  # seconds that a drawn line has to stand before the log has it, while its call goes on
_CUT_CHARACTER = re.compile(rb"(?:[\xc2-\xdf]|[\xe0-\xef][\x80-\xbf]?|[\xf0-\xf4][\x80-\xbf]{0,2})\Z")
EVERYTHING: LogFilter = LogFilter()
AGAIN = "──── {service} is started again; what is above was written before ────"


class Log:
    """The last lines of a service's replicas, over all its runs; bounded in lines and in characters."""

    def __init__(self, lines: int = 10_000, characters: int = 4 * 2**20) -> None:
        self._lines: deque[LogLine] = deque()
        self._max_lines = lines
        self._max_characters = characters
        self._characters = 0
        self.count = 0  # lines that were ever written
        self.listeners: set[Callable[[], object]] = set()  # called when there is a new line

    def append(self, line: LogLine) -> None:
        self.count += 1
        self._lines.append(line)
        self._characters += len(line.text)
        while len(self._lines) > self._max_lines or self._characters > self._max_characters:
            self._characters -= len(self._lines.popleft().text)
        for listener in self.listeners:
            listener()

    def note(self, replica: int, text: str) -> None:
        """Add what happened to a replica."""
        self.append(LogLine(time.time(), "ERROR", replica, "", (), text))

    def begin_run(self, service: str) -> None:
        """Part the lines of the run that begins from those of earlier ones, where these have written any."""
        if self.count:
            self.append(LogLine(time.time(), "INFO", 0, "", (), AGAIN.format(service=service)))

    def last(self, count: int, wanted: LogFilter = EVERYTHING) -> list[LogLine]:
        """Return the last `count` lines that are wanted, oldest first."""
        return list(islice(filter(wanted.takes, reversed(self._lines)), count))[::-1]

    def since(self, count: int) -> tuple[int, list[LogLine]]:
        """Return the lines after the first `count` that were written, and how many of them are not kept any more."""
        lines = self.last(self.count - count)
        return self.count - count - len(lines), lines


class State(Enum):
    """OPEN: more of the line may come. PASSED: the next one has begun, but a program may come back to it, as those do
    that draw progress bars. ENDED: the log has it. GONE: it has become empty, and stands nowhere.
    """

    OPEN = auto()
    PASSED = auto()
    ENDED = auto()
    GONE = auto()


class Written(NamedTuple):
    """A line as it is now. `key`: the descriptor, "/" and the call that write it; "" for what C code and child
    processes write. `row`: which of its lines. `again`: it had been passed before.
    """

    line: LogLine
    state: State = State.ENDED
    key: str = ""
    row: int = 0
    again: bool = False

    @property
    def ended(self) -> bool:
        return self.state is State.ENDED


class _Source:
    """What one call writes to one descriptor."""

    def __init__(self) -> None:
        self.screen = Screen()
        self.lines: dict[int, LogLine] = {}  # by row: by whom it was begun
        self.passed: dict[int, tuple[Row, float]] = {}  # and not ended; and since when it is as it is
        self.logged: dict[int, str] = {}  # as which rows are in the log, that were drawn
        self.told: set[int] = set()  # rows that have been passed
        self.rest = b""  # of a character
        self.latest = 0.0  # when it wrote last

    @property
    def busy(self) -> bool:
        """Whether there is anything that has to be ended."""
        return bool(self.passed) or any(row.text for row in self.screen.rows if not row.passed)


class OutputReader(asyncio.Protocol):
    """Splits the output of a replica into lines. `ended` is done after the last one."""

    transport: asyncio.BaseTransport

    def __init__(self, fd: int, on_output: Callable[[Written], None]) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._received = 0  # bytes
        self._arrivals: deque[tuple[int, asyncio.Future[None]]] = deque()  # by how many bytes
        self._fd = fd
        self._on_output = on_output
        self._rest = b""
        self._busy: dict[str, _Source] = {}
        self._idle: dict[str, _Source] = {}
        self._timer: asyncio.TimerHandle | None = None

    def arrival(self) -> asyncio.Future[None] | None:
        """Return a future that is done when what has been written by now has been received; None if it has been."""
        if self.ended.done() or self.transport.is_closing():
            return None
        unread = array.array("i", [0])
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._fd, termios.FIONREAD, unread)
        if not unread[0]:
            return None
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._arrivals.append((self._received + unread[0], future))
        return future

    def data_received(self, data: bytes) -> None:
        self._split(data)
        self._received += len(data)
        while self._arrivals and self._arrivals[0][0] <= self._received:
            _settle(self._arrivals.popleft()[1])

    def _split(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        outside = b""  # the beginning of a line of C code, into which Python code has written lines
        for line in lines:
            before, mark, piece = line.partition(output.MARK)
            if mark and self._take(piece):
                outside += before
            else:
                self._tell_outside(outside + line)
                outside = b""
        rest = outside + rest
        if len(rest) > LINE_LIMIT:
            self._tell_outside(rest)
            rest = b""
        self._rest = rest

    def connection_lost(self, error: Exception | None) -> None:
        if self._rest:
            self._split(b"\n")
        for key in list(self._busy):
            self._end(key, self._busy.pop(key))
        if self._timer is not None:
            self._timer.cancel()
        for future in (*(future for _, future in self._arrivals), self.ended):
            _settle(future)

    def _tell_outside(self, line: bytes) -> None:
        shown = _state(line)
        for start in range(0, max(len(shown), 1), LINE_LIMIT):
            text = shown[start : start + LINE_LIMIT].decode(errors="replace")
            self._on_output(Written(LogLine(time.time(), "", 0, "", (), text)))

    def _take(self, piece: bytes) -> bool:
        """Add a piece to its line. Return False where it is none."""
        try:
            *fields, text = piece.split(b"\x1f", output.FIELDS)
            kind, level, when, api, span, traces = (field.decode() for field in fields)
            line = LogLine(float(when), level, 0, api, tuple(filter(None, traces.split(","))), "")
        except ValueError:
            return False
        key, end = f"{kind[:1]}/{span}{line.traces[:1]}", kind[1:]
        source = self._busy.pop(key, None) or self._idle.pop(key, None) or _Source()
        self._write(key, source, line, text, end)
        if end == output.CALL:
            self._end(key, source)
        elif source.busy:
            self._busy[key] = source
            if len(self._busy) > MOST_BEGUN:
                oldest = next(iter(self._busy))
                self._end(oldest, self._busy.pop(oldest))
        else:
            self._idle[key] = source
            if len(self._idle) > MOST_IDLE:
                del self._idle[next(iter(self._idle))]
        return True

    def _write(self, key: str, source: _Source, line: LogLine, data: bytes, end: str) -> None:
        screen = source.screen
        data, source.rest = source.rest + data, b""
        source.latest = line.time
        if not end and (cut := _CUT_CHARACTER.search(data)) is not None:
            data, source.rest = data[: cut.start()], cut.group()
        source.lines.setdefault(screen.number, line)
        screen.write(data.decode(errors="replace"), end=end == output.LINE)
        changed, screen.changed = screen.changed, {}
        now = asyncio.get_running_loop().time()
        for row in changed:
            source.lines.setdefault(row.number, line)
            if row.passed and not row.drawn:
                self._tell(key, source, row, State.ENDED)
            elif row.passed:
                source.passed[row.number] = (row, now)
                self._tell(key, source, row, State.PASSED)
            else:
                self._tell(key, source, row, State.OPEN if row.text else State.GONE)
        while (left := screen.scrolled()) is not None:
            self._forget(key, source, left)
        if source.passed and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(HOLD, self._look)

    def _tell(self, key: str, source: _Source, row: Row, state: State, when: float | None = None) -> None:
        number = row.number
        line = source.lines[number]._replace(text=row.text)
        line = line if when is None else line._replace(time=when)
        self._on_output(Written(line, state, key, number, number in source.told))
        if row.passed:
            source.told.add(number)

    def _log(self, key: str, source: _Source, row: Row) -> None:
        """Have the log have a row that was drawn, as it is now: with the time of that, among the lines of others."""
        if source.logged.get(row.number) != row.text:
            source.logged[row.number] = row.text
            self._tell(key, source, row, State.ENDED, source.latest if row.drawn else None)

    def _forget(self, key: str, source: _Source, row: Row) -> None:
        """End a row to which nothing can come back."""
        if source.passed.pop(row.number, None) is not None:
            self._log(key, source, row)
        source.lines.pop(row.number, None)
        source.logged.pop(row.number, None)
        source.told.discard(row.number)

    def _look(self) -> None:
        """Have the log have rows which programs have left some time ago, though they might come back to them."""
        self._timer = None
        loop = asyncio.get_running_loop()
        waiting = False
        for key, source in list(self._busy.items()):
            for number, (row, since) in list(source.passed.items()):
                if source.screen.hidden or number >= source.screen.number or since + HOLD > loop.time():
                    waiting = True
                elif source.logged.get(number) != row.text and row.text:
                    self._log(key, source, row)
        if waiting:
            self._timer = loop.call_later(HOLD, self._look)

    def _end(self, key: str, source: _Source) -> None:
        """End all lines of a call. Those without text at the end are none: a progress bar has wiped itself out."""
        last = max((row.number for row in source.screen.rows if row.text.strip()), default=-1)
        for row in source.screen.rows:
            if row.passed and row.number not in source.passed:
                continue
            if row.number in source.lines or row.number <= last:
                source.lines.setdefault(row.number, next(iter(source.lines.values())))
                if row.number <= last:
                    self._log(key, source, row)
                else:
                    self._tell(key, source, row, State.GONE)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _state(line: bytes) -> bytes:
    """What is seen of a line that a progress bar redraws with \\r: its last state."""
    return line.rstrip(b"\r").rpartition(b"\r")[2]


async def read_output(fd: int, on_output: Callable[[Written], None]) -> OutputReader:
    """Call `on_output` for each line that arrives at a pipe, until its end. The transport ends that when closed."""
    loop = asyncio.get_running_loop()
    # uvloop closes the fd and then has the object close it again: by then another thread may have reused the number.
    pipe = keep_from_children(io.FileIO(fd, closefd=not isinstance(loop, uvloop.Loop)))
    transport, reader = await loop.connect_read_pipe(lambda: OutputReader(fd, on_output), pipe)
    reader.transport = transport
    return reader


async def drain(readers: Iterable[OutputReader], within: float) -> None:
    """Wait until what has been written by now has been received, `within` seconds at most."""
    due = [arrival for reader in readers if (arrival := reader.arrival()) is not None]
    if due:
        await asyncio.wait(due, timeout=within)
