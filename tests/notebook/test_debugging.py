"""pdb's prompt in a cell of a real kernel; and what the notebook's own debugging tools say of calls."""

from __future__ import annotations

import re
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.conftest import wait_for_end
from tests.patience import PATIENCE

pytestmark = pytest.mark.system

Kernel = Any  # of conftest.py, which is no module that could be imported

WRITER = """
%%service
def tidy(text):
    text = text.strip()
    breakpoint()
    return text

class Writer:
    @api
    def write(self, text: str) -> str:
        more = text + "?"
        return more + "!"

    @api
    async def later(self, text: str) -> str:
        more = text + "?"
        return more + "!"

    @api
    def tidied(self, text: str) -> str:
        return tidy(text)

    @api
    def divide(self, by: int) -> float:
        return 1 / by

    @api
    def ask(self) -> str:
        return input("your name? ")
"""


@pytest.fixture
def writer(kernel: Kernel) -> Kernel:
    kernel.ok(WRITER)
    return kernel


def send(kernel: Kernel, source: str) -> str:
    return str(kernel.client.execute(source, stop_on_error=False, allow_stdin=True))


def prompt(kernel: Kernel) -> str:
    return str(kernel.client.get_stdin_msg(timeout=PATIENCE)["content"]["prompt"])


def debugged(kernel: Kernel, source: str, *lines: str) -> Any:
    """Run a cell, and type these at its prompts."""
    cell = send(kernel, source)
    for line in lines:
        assert prompt(kernel) in ("(Pdb) ", "ipdb> ")
        kernel.client.input(line)
    return kernel.finished(cell)


@pytest.mark.parametrize("api", ["write", "later"])
def test_a_cell_stops_in_the_calls_that_it_makes(writer: Kernel, api: str) -> None:
    ran = debugged(writer, f"%%services debug Writer\nword = 'a'\nWriter.{api}(word)", "n", "p more", "l", "w", "c")
    assert ran.error == ""
    assert ran.result == "'a?!'"
    assert f', in Writer.{api}\n-> more = text + "?"' in ran.stdout
    assert "Cell In[" in ran.stdout
    assert "\n'a?'\n" in ran.stdout
    assert "->\t        return more" in ran.stdout
    assert writer.ok(f"Writer.{api}('b')").result == "'b?!'"


def test_a_breakpoint_in_a_helper(writer: Kernel) -> None:
    assert writer.ok("Writer.tidied(' a ')").result == "'a'"
    told = writer.ok("%services logs Writer").stdout
    assert "breakpoint() in tidy, line 4, called by Writer.tidied: no debugger is attached, so the call goes on" in told
    ran = debugged(writer, "%%services debug Writer\nWriter.tidied(' a ')", "c", "p text", "c")
    assert "in tidy\n-> return text\n'a'\n" in ran.stdout
    assert ran.result == "'a'"


def test_post_mortem(writer: Kernel) -> None:
    ran = debugged(writer, "%%services debug Writer --post-mortem\nWriter.divide(0)", "p by", "c")
    assert "ZeroDivisionError: division by zero\n" in ran.stdout
    assert "\n0\n" in ran.stdout
    assert ran.error.startswith("ZeroDivisionError")
    assert "nbcompose/_" not in ran.error


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("Writer.divide(0)", "ZeroDivisionError"),
        ("Writer.unheard()", "UnknownApi"),
        ("nbcompose.streams.tee(5)", "Misuse"),
        ("Writer.divide('a')", "InvalidArgument"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_an_error_below_a_magic_shows_the_line_of_the_cell(writer: Kernel, line: str, error: str) -> None:
    for ran in (
        debugged(
            writer,
            f"%%services debug Writer --replica 0 --post-mortem\nimport nbcompose\nx = {line}",
            *["c"] * (line == "Writer.divide(0)"),
        ),
        writer.run(f"%%service\nimport nbcompose\nx = {line}"),
    ):
        assert ran.error.startswith(error)
        assert f"----> 3 x = {line}" in ran.error
        assert "run_cell_magic" not in ran.error
        assert "nbcompose/_" not in ran.error


def test_an_interrupt_at_the_prompt_detaches(writer: Kernel) -> None:
    cell = send(writer, "%%services debug Writer\nWriter.write('a')")
    prompt(writer)
    writer.manager.interrupt_kernel()
    ran = writer.finished(cell)
    assert "detached: what was at a breakpoint goes on\n" in ran.stdout
    assert (ran.error, ran.result) == ("", "'a?!'")


def test_a_call_of_another_thread_has_no_prompt(writer: Kernel) -> None:
    cell = send(
        writer,
        "%%services debug Writer\nimport threading\n"
        "thread = threading.Thread(target=Writer.write, args=['a'], daemon=True)\nthread.start()\nthread.join()",
    )
    writer.until(lambda m: writer.parent(m) == cell and "■ (Ctrl-C) detaches" in str(m["content"].get("text")))
    writer.manager.interrupt_kernel()
    assert writer.finished(cell).error.startswith("KeyboardInterrupt")
    assert writer.ok("Writer.write('b')").result


def test_a_cell_waits_for_the_next_call_of_anybody(writer: Kernel) -> None:
    url, token = writer.ok("print(Writer.url, Writer.token)").stdout.split()
    cell = send(writer, "%services debug Writer")
    writer.until(lambda m: m["msg_type"] == "stream" and "whoever calls" in m["content"]["text"])
    with ThreadPoolExecutor() as threads:
        headers = {"Authorization": f"Bearer {token}"}
        call = threads.submit(httpx.post, f"{url}/write", json={"text": "a"}, headers=headers)
        prompt(writer)
        writer.client.input("c")
        assert call.result(PATIENCE).json() == "a?!"
    writer.manager.interrupt_kernel()
    ran = writer.finished(cell)
    assert "q: detach" in ran.stdout
    assert "detached" in ran.stdout
    assert "in Writer.write\n" in ran.stdout


def test_a_front_end_without_input(writer: Kernel) -> None:
    cell = writer.client.execute("%%services debug Writer\nWriter.write('a')", allow_stdin=False)
    ran = writer.finished(str(cell))
    assert "nobody can type here" in ran.stdout
    assert ran.result == "'a?!'"


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("%services debug Wroter", "no service is called 'Wroter'; there are: Writer"),
        ("%services debug Writer --replica 4", "Writer has no replica 4; those that are up: 0"),
        ("%%services debug Writer\nawait Writer.to_async.write('a')", "a %%services cell cannot `await`"),
        ("%%services\nWriter", "%%services runs what is below it, as `%%services debug NAME` does"),
        ("%%services debug Writer\n1 +", "SyntaxError"),
        ("%%services debug Writer\n1 / 0", "ZeroDivisionError"),
        ("Writer.ask()", "NoTerminal: input() in Writer.ask, line 28: Writer runs in a process of its own"),
    ],
)
def test_what_cannot_be(writer: Kernel, cell: str, said: str) -> None:
    ran = writer.run(cell)
    assert said in ran.error + ran.stderr


def test_debug_opens_the_frame_of_the_call(writer: Kernel) -> None:
    writer.run("word = 0\nWriter.divide(word)")
    ran = debugged(writer, "%debug", "p word", "q")
    assert "Writer.divide raised it in a replica" in ran.stdout
    assert "%%services debug Writer --post-mortem" in ran.stdout
    assert "Writer.divide(word)" in ran.stdout
    assert "nbcompose/_" not in ran.stdout


def test_pdb_of_the_notebook_opens_the_frame_of_the_call_too(writer: Kernel) -> None:
    writer.ok("%pdb on")
    try:
        ran = debugged(writer, "word = 0\nWriter.divide(word)", "p word", "q")
    finally:
        writer.ok("%pdb off")
    assert "%%services debug Writer --post-mortem" in ran.stdout
    assert "Writer.divide(word)" in ran.stdout
    assert "nbcompose/_" not in ran.stdout


@pytest.mark.parametrize("cell", ["%prun -q Writer.write('a')", "%%prun -q\nWriter.write('a')"])
def test_prun_says_where_the_time_goes(writer: Kernel, cell: str) -> None:
    assert "Writer ran in replicas, where %prun does not look: %services profile Writer" in writer.ok(cell).stdout
    assert "replicas" not in writer.ok("%prun -q sum([1])").stdout


STREAM_AWAITED = (
    "What was awaited is a stream, whose items come one by one: async for item in stream: …, or all of them: "
    "[item async for item in stream]\n"
)


def test_an_answer_that_is_awaited_says_what_awaits_it(writer: Kernel) -> None:
    writer.ok("""
        %%service
        from collections.abc import Iterator
        class Words:
            @api
            def each(self, count: int) -> Iterator[str]:
                yield from ["word"] * count
    """)
    for cell, said in (
        (
            "await Writer.write('a')",
            "Writer.write(…) waits, and gives the answer itself: leave out the await, or write "
            "await Writer.to_async.write(…)\n",
        ),
        (
            "async for word in Words.each(2):\n    pass",
            "Words.each(…) waits, and gives each item itself: leave out the async, or write "
            "async for word in Words.to_async.each(…)\n",
        ),
        ("await print('Writer.write()')", "Writer.write()\n"),
        ("await Words.to_async.each(2)", STREAM_AWAITED),
        ("words = Words.each(2)\nawait words", STREAM_AWAITED),
    ):
        ran = writer.run(cell)
        assert "TypeError" in ran.error
        assert ran.stdout == said


def test_a_result_that_cannot_be_sent_says_which_api_has_returned_it_and_where(kernel: Kernel) -> None:
    kernel.ok("""
        %%service
        import threading
        class Lock:
            @api
            def get(self):
                return threading.Lock()
    """)
    error = kernel.run("Lock.get()").error
    assert "InvalidResult: Lock.get: result holds a _thread.lock, which cannot be sent to another process" in error
    assert re.search(r"^get is at Cell In\[\d+\], line 4$", error, re.MULTILINE)


@pytest.mark.parametrize("cell", ["%timeit -n 2 -r 2 Writer.write('a')", "%%timeit -n 2 -r 2\nWriter.later('a')"])
def test_timeit_times_calls(writer: Kernel, cell: str) -> None:
    assert "per loop" in writer.ok(cell).stdout


def test_the_kernel_ends_at_the_prompt(own_kernel: Kernel) -> None:
    own_kernel.ok(WRITER)
    status = "get_ipython().meta['nbcompose'].registry.status('Writer')"
    pids = [int(pid) for pid in own_kernel.ok(f"print(*[r.pid for r in {status}.replicas])").stdout.split()]
    assert pids
    send(own_kernel, "%%services debug Writer\nWriter.later('a')")
    prompt(own_kernel)
    own_kernel.manager.signal_kernel(signal.SIGKILL)
    for pid in pids:
        wait_for_end(pid)


def test_debugpy_listens_until_it_is_detached(writer: Kernel) -> None:
    pytest.importorskip("debugpy")
    told = writer.ok("%services debug Writer --debugpy").stdout
    assert "any user of this machine could attach there, and run code as you" in told
    assert "Detach: %services debug Writer --detach" in told
    assert '"type": "debugpy", "request": "attach"' in told
    assert "debugpy, 127.0.0.1:" in repr(writer.ok("%services").result)
    assert writer.ok("%services debug Writer --detach").stdout == "Writer: detached, and the port is closed\n"
    assert writer.ok("%services debug Writer --detach").stdout == "Writer: debugpy does not listen\n"
    assert "--debugpy and --detach stand in a line" in writer.run("%%services debug Writer --debugpy\n1").stderr
    assert writer.ok("Writer.write('a')").result == "'a?!'"


def test_a_profile_in_the_notebook(writer: Kernel) -> None:
    assert "Writer ran nothing in " in writer.ok("%services profile Writer 1").result
