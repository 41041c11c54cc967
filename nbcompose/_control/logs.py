"""Output of replicas: split into lines as it arrives, with the call that wrote each; the last lines are kept.

Also reads what `_replica/output.py` writes: pieces of lines, between what C code and child processes write.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import io
import termios
import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import NamedTuple

import uvloop

from nbcompose._host import keep_from_children
from nbcompose._protocol import LogFilter, LogLine
from nbcompose._replica import output

LINE_LIMIT = 65536  # bytes; a longer line is cut
MOST_BEGUN = 1000  # lines that are begun at once
EVERYTHING: LogFilter = LogFilter()


class Log:
    """The last lines of a service's replicas; bounded in lines and in characters."""

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

    def last(self, count: int, wanted: LogFilter = EVERYTHING) -> list[LogLine]:
        """Return the last `count` lines that are wanted, oldest first."""
        return list(islice(filter(wanted.takes, reversed(self._lines)), count))[::-1]

    def since(self, count: int) -> tuple[int, list[LogLine]]:
        """Return the lines after the first `count` that were written, and how many of them are not kept any more."""
        lines = self.last(self.count - count)
        return self.count - count - len(lines), lines


class Written(NamedTuple):
    """A line as it is now. `ended`: it is complete; otherwise more of it may come. `key`: the descriptor, "/" and the
    call that write it; "" for what C code and child processes write.
    """

    line: LogLine
    ended: bool = True
    key: str = ""


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
        self._begun: dict[str, tuple[LogLine, bytes]] = {}

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
        for key in list(self._begun):
            self._end(key, blank=False)
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
        line, before = self._begun.pop(key, (line, b""))
        whole = before + text
        last = whole.rfind(b"\r", 0, len(whole.rstrip(b"\r")))
        self._begun[key] = line, whole[last + 1 :]  # a progress bar begins its line again with \r
        if end or len(whole) > LINE_LIMIT:
            self._end(key, blank=end != output.CALL)
        else:
            self._on_output(Written(self._line(key), ended=False, key=key))
            if len(self._begun) > MOST_BEGUN:
                self._end(next(iter(self._begun)), blank=False)
        return True

    def _line(self, key: str) -> LogLine:
        line, whole = self._begun[key]
        return line._replace(text=_state(whole).decode(errors="replace"))

    def _end(self, key: str, *, blank: bool) -> None:
        """End a line. `blank`: also one without text."""
        line = self._line(key)
        del self._begun[key]
        if blank or line.text.strip():
            self._on_output(Written(line, key=key))
        else:
            self._on_output(Written(line._replace(text=""), ended=False, key=key))


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
