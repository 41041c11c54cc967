"""Text streams that say which call wrote what: in processes of their own, whose output is read as a supervisor does."""

from __future__ import annotations

import asyncio
import os
import sys
import textwrap
from typing import Any

import pytest

from nbcompose._control.logs import LINE_LIMIT, Written, read_output
from tests.patience import PATIENCE

BEGIN = """
import asyncio, contextvars, logging, os, subprocess, sys, threading, warnings
from nbcompose._replica.output import end_lines, install
from nbcompose._tracing import CallContext, current_call
install()

def call(api, trace, span=1):
    context = CallContext(None, trace, span)
    context.api = api
    return context

def within(context, function, *args, **kwargs):
    def run():
        current_call.set(context)
        return function(*args, **kwargs)
    return contextvars.copy_context().run(run)

ask, write = call("ask", 0xA), call("write", 0xB, 2)
"""


async def read(program: str) -> list[Written]:
    """Run a program with its output to a pipe; return what was read there."""
    readable, writable = os.pipe()
    found: list[Written] = []
    reader = await read_output(readable, found.append)
    code = textwrap.dedent(BEGIN) + textwrap.dedent(program)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=writable, stderr=writable)
    os.close(writable)
    async with asyncio.timeout(PATIENCE):
        await reader.ended
        await process.wait()
    return found


async def lines(program: str) -> list[tuple[str, str, str, str]]:
    """The lines that a program writes: level, api, the last digits of the trace, text."""
    written = [w.line for w in await read(program) if w.ended]
    return [(line.level, line.api, line.traces[0].lstrip("0") if line.traces else "", line.text) for line in written]


ASK, WRITE = ("", "ask", "a"), ("", "write", "b")


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        pytest.param("print('one', 'two')", [("", "", "", "one two")], id="outside a call"),
        pytest.param("within(ask, print, 'one\\ntwo\\n')", [(*ASK, t) for t in ("one", "two", "")], id="several lines"),
        pytest.param("within(ask, print, 'e', file=sys.stderr)", [(*ASK, "e")], id="stderr"),
        pytest.param(
            "within(ask, print, 'a', end=''); within(write, print, 'b'); within(ask, print, 'c')",
            [(*WRITE, "b"), (*ASK, "ac")],
            id="lines of two calls at once",
        ),
        pytest.param("within(ask, print, 'a', end=''); end_lines(ask)", [(*ASK, "a")], id="a line that a call leaves"),
        pytest.param(
            "within(ask, print, 'a', end='', flush=True); end_lines(ask)", [(*ASK, "a")], id="one that was flushed"
        ),
        pytest.param(
            "within(ask, print, '\\r 10%', end='', flush=True); within(ask, print, '\\r 20%', flush=True)",
            [(*ASK, " 20%")],
            id="a progress bar",
        ),
        pytest.param(
            "within(ask, print, '\\r 9%', end='', flush=True); within(ask, print, '\\r   \\r', end=''); end_lines(ask)",
            [],
            id="a progress bar that wipes itself out",
        ),
        pytest.param(
            "within(ask, print, '\\r10%', end='', flush=True); within(ask, print); within(ask, print, 'next')\n"
            "within(ask, print, '\\x1b[2A20%'); end_lines(ask)",
            [(*ASK, "20%"), (*ASK, "next")],
            id="a row that is drawn again",
        ),
        pytest.param("within(ask, print); end_lines(ask)", [(*ASK, "")], id="an empty line"),
        pytest.param(
            "within(ask, warnings.warn_explicit, 'old', UserWarning, 'file.py', 3)",
            [("WARNING", "ask", "a", "file.py:3: UserWarning: old")],
            id="a warning",
        ),
        pytest.param(
            "within(ask, logging.error, 'bad\\nindeed'); within(ask, print, 'plain')",
            [("ERROR", "ask", "a", "ERROR:root:bad"), ("ERROR", "ask", "a", "indeed"), (*ASK, "plain")],
            id="logging",
        ),
        pytest.param(
            "within(ask, logging.getLogger('x').warning, 'bare')", [("WARNING", "ask", "a", "bare")], id="logging, bare"
        ),
        pytest.param("within(ask, os.write, 1, b'C\\n')", [("", "", "", "C")], id="as C code writes"),
        pytest.param(
            "os.write(1, b'C, be'); within(ask, print, 'P'); os.write(1, b'gun\\n')",
            [(*ASK, "P"), ("", "", "", "C, begun")],
            id="between what C code writes",
        ),
        pytest.param("within(ask, subprocess.run, ['echo', 'child'])", [("", "", "", "child")], id="a child process"),
        pytest.param(
            """
            def fork():
                print("before")
                if os.fork() == 0:
                    print("forked", flush=True)
                    os._exit(0)
                os.wait()
            within(ask, fork)
            """,
            [(*ASK, "before"), ("", "", "", "forked")],
            id="a forked child",
        ),
        pytest.param(
            "def run():\n"
            "    thread = threading.Thread(target=print, args=('thread',)); thread.start(); thread.join()\n"
            "within(ask, run)",
            [("", "", "", "thread")],
            id="a thread of its own",
        ),
        pytest.param(
            "within(ask, asyncio.run, asyncio.sleep(0))\n"
            "async def both():\n"
            "    async def one(context):\n"
            "        current_call.set(context)\n"
            "        for i in range(2):\n"
            "            print(context.api, i)\n"
            "            await asyncio.sleep(0)\n"
            "        await asyncio.to_thread(print, 'aside')\n"
            "    await asyncio.gather(one(ask), one(write))\n"
            "asyncio.run(both())",
            [(*ASK, "ask 0"), (*WRITE, "write 0"), (*ASK, "ask 1"), (*WRITE, "write 1"), "aside", "aside"],
            id="async calls at once",
        ),
        pytest.param("sys.stdout.buffer.write(b'bytes\\n'); sys.stdout.flush()", [("", "", "", "bytes")], id="bytes"),
        pytest.param("within(ask, print, '\\ud800é')", [(*ASK, "\\ud800é")], id="what is no text"),
        pytest.param("os.write(1, b'\\x1enbcompose\\x1fno piece\\n')", None, id="what looks like a piece"),
        pytest.param("within(ask, print, 'last words'); os._exit(3)", [(*ASK, "last words")], id="before the end"),
        pytest.param(
            "within(ask, sys.stdout.write, 'half a li'); os._exit(3)", [(*ASK, "half a li")], id="a line that was begun"
        ),
        pytest.param("within(ask, sys.stdout.writelines, ['a\\n', 'b\\n'])", [(*ASK, "a"), (*ASK, "b")], id="all"),
    ],
)
async def test_lines_say_who_wrote_them(program: str, expected: list[Any] | None) -> None:
    found = await lines(program)
    if expected is None:
        assert [text for *_, text in found] == ["\x1enbcompose\x1fno piece"]
        return
    aside = [line for line in expected if isinstance(line, str)]  # by threads, in any order
    assert found[: len(expected) - len(aside)] == expected[: len(expected) - len(aside)]
    rest = [(*who, text) for text, who in zip(aside, (ASK, WRITE), strict=bool(aside))]
    assert sorted(found[len(expected) - len(aside) :]) == sorted(rest)


async def test_a_line_that_is_longer_than_a_piece_stays_one_line() -> None:
    assert await lines("within(ask, print, 'é' * 20_000)") == [(*ASK, "é" * 20_000)]


async def test_a_line_without_end_is_cut() -> None:
    found = await lines(f"within(ask, print, 'x' * {3 * LINE_LIMIT})")

    assert "".join(text for *_, text in found) == "x" * 3 * LINE_LIMIT
    assert max(len(text) for *_, text in found) <= LINE_LIMIT + 4096


async def test_threads_that_write_at_once_do_not_cut_each_others_lines() -> None:
    found = await lines("""
        def work(context, letter):
            for _ in range(200):
                within(context, print, letter * 3000)
        threads = [threading.Thread(target=work, args=a) for a in ((ask, "a"), (write, "w"), (None, "n"))]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
    """)
    assert sorted(found) == sorted([(*ASK, "a" * 3000), (*WRITE, "w" * 3000), ("", "", "", "n" * 3000)] * 200)


async def test_what_a_batch_writes_belongs_to_all_of_its_calls() -> None:
    found = await read("""
        from nbcompose._replica.batching import _BatchContext
        batch = _BatchContext(None, 0xA, 1)
        batch.api, batch.together = "embed", (0xA, 0xB, 0xA)
        within(batch, print, "both")
    """)
    assert [[int(trace, 16) for trace in written.line.traces] for written in found] == [[0xA, 0xB]]


async def test_a_line_can_be_seen_before_it_is_complete() -> None:
    found = await read("""
        within(ask, print, "50%", end="", flush=True)
        within(ask, print, "\\r100%", flush=True)
    """)
    assert [(w.line.text, w.ended) for w in found] == [("50%", False), ("100%", False), ("100%", True)]
