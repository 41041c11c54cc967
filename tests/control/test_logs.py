"""Cutting a real pipe into lines, and keeping the last of them."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import pytest
import uvloop

from nbcompose._control.logs import LINE_LIMIT, Log, Written, read_output
from nbcompose._protocol import LogLine
from nbcompose._replica import output
from tests.patience import PATIENCE


def line(text: str, *, level: str = "", replica: int = 0, api: str = "", traces: tuple[str, ...] = ()) -> LogLine:
    return LogLine(1764000000.5, level, replica, api, traces, text)


async def lines_of(*pieces: bytes) -> list[str]:
    readable, writable = os.pipe()
    found: list[Written] = []
    reader = await read_output(readable, found.append)
    for piece in pieces:
        await asyncio.to_thread(os.write, writable, piece)  # it may fill the pipe
    os.close(writable)
    await reader.ended
    return [written.line.text for written in found if written.ended]


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ([b"one\ntwo\n"], ["one", "two"]),
        ([b"on", b"e\n\nthree"], ["one", "", "three"]),
        ([b"caf\xc3", b"\xa9\n"], ["café"]),
        ([b"\xff\n"], ["\ufffd"]),
        ([b"windows\r\n"], ["windows"]),
        ([b"\r  0%|  |\r 50%|# |\r100%|##|\n"], ["100%|##|"]),
        ([], []),
    ],
)
async def test_lines(pieces: list[bytes], lines: list[str]) -> None:
    assert await lines_of(*pieces) == lines


async def test_a_line_without_end_is_cut() -> None:
    found = await lines_of(*[b"x" * 32768] * 5, b"\nafter\n")

    assert "".join(found[:-1]) == "x" * 32768 * 5
    assert max(map(len, found)) == LINE_LIMIT
    assert found[-1] == "after"


async def test_a_progress_bar_is_in_the_log_with_the_time_of_its_last_state() -> None:
    """Among the lines that others have written while it was drawn."""
    readable, writable = os.pipe()
    log: list[LogLine] = []
    reader = await read_output(readable, lambda w: log.append(w.line) if w.ended else None)

    def write(when: float, api: str, text: str, end: str) -> None:
        fields = (f"1{end}", "", str(when), api, api, "", text)
        os.write(writable, output.MARK + "\x1f".join(fields).encode() + b"\n")

    write(1.0, "draws", "\r  0%|  |", "")
    write(2.0, "prints", "meanwhile", output.LINE)
    write(3.0, "draws", "\r100%|##|", output.CALL)
    os.close(writable)
    await reader.ended
    assert [(line.time, line.text) for line in log] == [(2.0, "meanwhile"), (3.0, "100%|##|")]


def test_the_end_of_a_pipe_closes_no_file_that_another_thread_has_opened() -> None:
    done = threading.Event()
    lost: list[Any] = []

    def open_and_close() -> None:
        while not done.is_set() and not lost:
            fd = os.open(os.devnull, os.O_RDONLY)
            try:
                os.fstat(fd)
                os.close(fd)
            except OSError as error:
                lost.append(error)

    async def read_many() -> None:
        async with asyncio.timeout(PATIENCE):
            for _ in range(1000):
                await lines_of(b"one\n")

    others = [threading.Thread(target=open_and_close) for _ in range(2)]
    for thread in others:
        thread.start()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(read_many())
    finally:
        done.set()
        for thread in others:
            thread.join(PATIENCE)
    assert lost == []


def test_a_log_keeps_the_last_lines() -> None:
    log = Log(lines=3)
    for i in range(5):
        log.append(line(f"line {i}", replica=i % 2))

    assert [(kept.replica, kept.text) for kept in log.last(100)] == [(0, "line 2"), (1, "line 3"), (0, "line 4")]
    assert [kept.text for kept in log.last(1)] == ["line 4"]


def test_a_log_of_long_lines_is_bounded_in_characters() -> None:
    log = Log(lines=1000, characters=100)
    for i in range(50):
        log.append(line(str(i) * 20))

    assert [kept.text[:2] for kept in log.last(1000)] == ["48", "49"]
