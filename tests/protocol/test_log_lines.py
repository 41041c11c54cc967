"""Which lines of a log are wanted, and how they look."""

from __future__ import annotations

import time

import pytest

from nbcompose._protocol import LogFilter, LogLine, log_line, log_text, plain_text, severity

TRACE = "a3f29c0187e54b6c8d3f29c0187e54b6"
OTHER = "b3f29c0187e54b6c8d3f29c0187e54b6"
NOON = time.mktime((2026, 11, 27, 12, 3, 4, 0, 0, -1)) + 0.5126

PRINTED = LogLine(NOON, "", 0, "write", (TRACE,), "text")
WARNED = LogLine(NOON, "WARNING", 2, "write", (TRACE, OTHER), "careful")
OUTSIDE = LogLine(NOON, "", 1, "", (), "from C")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (PRINTED, "12:03:04.512         Writer#0 write a3f29c01 | text"),
        (WARNED, "12:03:04.512 WARNING Writer#2 write a3f29c01 | careful"),
        (OUTSIDE, "12:03:04.512         Writer#1 | from C"),
        (PRINTED._replace(text="\x1b[31mred\x1b[0m\x07"), "12:03:04.512         Writer#0 write a3f29c01 | red"),
    ],
)
def test_a_line_as_people_read_it(line: LogLine, text: str) -> None:
    assert log_text("Writer", line) == text
    colored = log_text("Writer", line, color=True)
    assert plain_text(colored) == text
    assert "\x1b[33m" in colored or line.level != "WARNING"


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (LogFilter(), [PRINTED, WARNED, OUTSIDE]),
        (LogFilter(level="debug"), [WARNED]),
        (LogFilter(level="warning"), [WARNED]),
        (LogFilter(level="error"), []),
        (LogFilter(api="write"), [PRINTED, WARNED]),
        (LogFilter(api="ask"), []),
        (LogFilter(trace="a3f29c01"), [PRINTED, WARNED]),
        (LogFilter(trace=OTHER.upper()), [WARNED]),  # of a batch
        (LogFilter(level="warning", api="write", trace="b"), [WARNED]),
    ],
)
def test_lines_that_are_wanted(wanted: LogFilter, expected: list[LogLine]) -> None:
    assert [line for line in (PRINTED, WARNED, OUTSIDE) if wanted.takes(line)] == expected


@pytest.mark.parametrize(
    ("level", "number"), [("", 0), ("warning", 30), ("ERROR", 40), ("Level 25", 25), ("TRACE OF MINE", 0)]
)
def test_how_grave_a_level_is(level: str, number: int) -> None:
    assert severity(level) == number


def test_a_line_as_data() -> None:
    assert log_line(WARNED.text, WARNED.details()) == WARNED._replace(traces=(TRACE,))
    assert log_line(OUTSIDE.text, OUTSIDE.details()) == OUTSIDE
