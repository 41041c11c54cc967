"""What replicas write to stdout and stderr, as lines."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable


class _Lines(asyncio.Protocol):
    """Cuts what a replica writes into lines; a line that never ends is cut at 64 KiB."""

    LIMIT = 65536

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        if len(rest) > self.LIMIT:
            lines.append(rest)
            rest = b""
        self._rest = rest
        for line in lines:
            # A progress bar redraws its line with \r: the last state is what a log should hold.
            self._on_line(line.rstrip(b"\r").rpartition(b"\r")[2].decode(errors="replace"))

    def connection_lost(self, error: Exception | None) -> None:
        if self._rest:
            self.data_received(b"\n")


async def read_lines(fd: int, on_line: Callable[[str], None]) -> None:
    """Call `on_line` for each line that arrives at a pipe, until its end."""
    pipe = os.fdopen(fd, "rb", buffering=0)
    await asyncio.get_running_loop().connect_read_pipe(lambda: _Lines(on_line), pipe)
