"""Lines of the logs of services: what is known of each, which ones are wanted, and how they look."""

from __future__ import annotations

import logging
import re
import time
from typing import NamedTuple

from nbcompose._protocol.messages import LogDetails, LogsRequest

SHOWN_TRACE = 8  # hex digits, which find it again
_COLORS = {logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[31m", logging.CRITICAL: "\x1b[31;1m"}
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"
# What controls a terminal, such as colors and the moves of a progress bar.
_CONTROL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])|[\x00-\x08\x0b-\x1f\x7f]")


class LogLine(NamedTuple):
    """A line that a replica wrote, or that was written about it.

    `time`: Unix time. `level`: of logging, and WARNING for warnings; "" for what was printed. `api`: the one that wrote
    it, "" where no call did. `traces`: those of the call as hex text, several for a batch.
    """

    time: float
    level: str
    replica: int
    api: str
    traces: tuple[str, ...]
    text: str

    def details(self) -> LogDetails:
        """Return all but the text, as data."""
        trace = self.traces[0] if self.traces else ""
        return {"time": self.time, "level": self.level, "replica": self.replica, "api": self.api, "trace": trace}


def log_line(text: str, details: LogDetails) -> LogLine:
    """Return the line that these are of."""
    traces = (details["trace"],) if details["trace"] else ()
    return LogLine(details["time"], details["level"], details["replica"], details["api"], traces, text)


class LogFilter(NamedTuple):
    """Which lines are wanted: of this level and above, of this api, of a trace that begins so. "": all."""

    level: str = ""
    api: str = ""
    trace: str = ""

    @classmethod
    def of(cls, request: LogsRequest) -> LogFilter:
        return cls(request.get("level", ""), request.get("api", ""), request.get("trace", ""))

    def takes(self, line: LogLine) -> bool:
        return (
            (not self.level or severity(line.level) >= severity(self.level))
            and (not self.api or line.api == self.api)
            and (not self.trace or any(trace.startswith(self.trace.lower()) for trace in line.traces))
        )


def severity(level: str) -> int:
    """Return the number of a level, as in `logging`; 0 where there is none, or it is not known."""
    name = level.upper()
    return logging.getLevelNamesMapping().get(name, 0) or int((re.fullmatch(r"LEVEL (\d+)", name) or [0, 0])[1])


def log_text(service: str, line: LogLine, color: bool = False) -> str:
    """Return a line as people read it: `12:03:04.512 WARNING Writer#0 write a3f29c01 | text`.

    Args:
        service: The service's name.
        line: The line.
        color: Whether for a terminal, which shows levels in color.
    """
    when = f"{time.strftime('%H:%M:%S', time.localtime(line.time))}.{int(line.time % 1 * 1000):03}"
    call = "".join(f" {part}" for part in (line.api, line.traces[0][:SHOWN_TRACE] if line.traces else "") if part)
    where = f"{service}#{line.replica}{call}"
    level = f"{line.level:<7}"
    if not color:
        return f"{when} {level} {where} | {plain_text(line.text)}"
    found = next((c for least, c in reversed(_COLORS.items()) if severity(line.level) >= least), "")
    return f"{_DIM}{when}{_PLAIN} {found}{level}{_PLAIN} {_DIM}{where} |{_PLAIN} {line.text}"


def plain_text(text: str) -> str:
    """Return a text without what controls a terminal."""
    return _CONTROL.sub("", text)
