"""Output of replicas: split into lines as it arrives; the last lines are kept."""

from __future__ import annotations

import asyncio
import io
from collections import deque
from collections.abc import Callable
from itertools import islice

import uvloop

from nbcompose._host import keep_from_children

LINE_LIMIT = 65536  # bytes; a longer line is cut


class Log:
    """The last lines of a service's replicas, each with its replica's index; bounded in lines and in characters."""

    def __init__(self, lines: int = 10_000, characters: int = 4 * 2**20) -> None:
        self._lines: deque[tuple[int, str]] = deque()
        self._max_lines = lines
        self._max_characters = characters
        self._characters = 0
        self.count = 0  # lines that were ever written
        self.listeners: set[Callable[[], object]] = set()  # called when there is a new line

    def append(self, index: int, line: str) -> None:
        self.count += 1
        self._lines.append((index, line))
        self._characters += len(line)
        while len(self._lines) > self._max_lines or self._characters > self._max_characters:
            self._characters -= len(self._lines.popleft()[1])
        for listener in self.listeners:
            listener()

    def last(self, count: int) -> list[tuple[int, str]]:
        """Return the last `count` lines, oldest first."""
        return list(islice(reversed(self._lines), count))[::-1]

    def since(self, count: int) -> tuple[int, list[tuple[int, str]]]:
        """Return the lines after the first `count` that were written, and how many of them are not kept any more."""
        lines = self.last(self.count - count)
        return self.count - count - len(lines), lines


class _Lines(asyncio.Protocol):
    """Splits the output of a replica into lines."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._on_line = on_line
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        if len(rest) > LINE_LIMIT:
            lines.append(rest)
            rest = b""
        self._rest = rest
        for line in lines:
            # A progress bar redraws its line with \r: only the last state is logged.
            shown = line.rstrip(b"\r").rpartition(b"\r")[2]
            for start in range(0, max(len(shown), 1), LINE_LIMIT):
                self._on_line(shown[start : start + LINE_LIMIT].decode(errors="replace"))

    def connection_lost(self, error: Exception | None) -> None:
        if self._rest:
            self.data_received(b"\n")
        if not self.ended.done():
            self.ended.set_result(None)


async def read_lines(fd: int, on_line: Callable[[str], None]) -> tuple[asyncio.BaseTransport, asyncio.Future[None]]:
    """Call `on_line` for each line that arrives at a pipe, until its end.

    Returns the transport, which stops the reading when closed, and a future that is done after the last line.
    """
    loop = asyncio.get_running_loop()
    # uvloop closes the fd and then has the object close it again: by then another thread may have reused the number.
    pipe = keep_from_children(io.FileIO(fd, closefd=not isinstance(loop, uvloop.Loop)))
    transport, protocol = await loop.connect_read_pipe(lambda: _Lines(on_line), pipe)
    return transport, protocol.ended
