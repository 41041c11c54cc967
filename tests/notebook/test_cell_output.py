"""What services write, under the cell that called them: in real kernels, with real replicas."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

pytestmark = pytest.mark.system

Kernel = Any  # of conftest.py, which is no module that could be imported

SERVICES = """
%%service --replicas 3
import asyncio, logging, os, subprocess, sys, threading, time, warnings
from collections.abc import AsyncIterator, Iterator

class Writer:
    @api
    def write(self, text: str) -> str:
        print("writing", text)
        return text.upper()

    @api
    async def slowly(self, text: str, seconds: float) -> str:
        print("begin", text)
        await asyncio.sleep(seconds)
        print("end", text, file=sys.stderr)
        return text

    @api
    def log(self, text: str) -> None:
        logging.getLogger("w").warning("logged %s", text)

    @api
    def warn(self, text: str) -> None:
        logging.getLogger("w").error("logged %s", text)
        warnings.warn(f"warned {text}")

    @api
    def bar(self, steps: int) -> None:
        for n in range(steps + 1):
            print(f"\\r{n} of {steps}", end="", flush=True, file=sys.stderr)
        print(file=sys.stderr)

    @api
    def bars(self) -> None:
        print("before")
        for outer in range(3):
            print(f"\\router {outer} of 2", end="", flush=True, file=sys.stderr)
            for inner in range(3):
                print(f"\\n\\rinner {inner} of 2\\x1b[A", end="", flush=True, file=sys.stderr)
            print("\\n\\r            \\r\\x1b[A", end="", flush=True, file=sys.stderr)
        print(file=sys.stderr)
        print("after")

    @api
    def elsewhere(self) -> None:
        os.write(1, b"from C\\n")
        subprocess.run(["echo", "from a child"])
        print("from Python")

    @api
    def after(self) -> None:
        threading.Timer(0.05, print, ["too late"]).start()

    @api
    def fail(self) -> None:
        print("before it fails")
        raise ValueError("on purpose")

    @api
    def crash(self) -> None:
        print("last words")
        os._exit(3)

    @api
    def many(self, lines: int) -> None:
        for n in range(lines):
            print("line", n)

    @api
    def drip(self, items: int) -> Iterator[int]:
        for n in range(items):
            print("item", n)
            yield n

    @api
    async def adrip(self, items: int) -> AsyncIterator[int]:
        for n in range(items):
            print("item", n)
            yield n

    @api(batchable=True, max_batch_size=8)
    def embed(self, texts: list[str]) -> list[str]:
        print("a batch with", *sorted(texts))
        return texts

class Editor:
    writer = depends(Writer)

    @api
    async def edit(self, text: str) -> str:
        print("editing", text)
        return await self.writer.to_async.write(text)

class Answer:
    editor = depends(Editor)
    writer = depends(Writer)

    @api
    def ask(self, text: str) -> str:
        print("asked", text)
        return self.editor.to_sync.edit(text) + self.writer.write("again")

    @api
    def crash(self) -> None:
        self.writer.crash()
"""

WRITER_A = "Writer:\n  writing a"


@pytest.fixture(scope="module")
def services(shared_kernel: Kernel) -> Kernel:
    """A kernel with three services that write, each in three replicas."""
    shared_kernel.ok(SERVICES)
    return shared_kernel


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        pytest.param("Writer.write('a')", WRITER_A, id="print"),
        pytest.param("await Writer.to_async.write('a')", WRITER_A, id="await"),
        pytest.param("import asyncio\nawait asyncio.to_thread(Writer.write, 'a')", WRITER_A, id="a thread awaited"),
        pytest.param("for _ in range(2): Writer.write('a')", WRITER_A + "\n  writing a", id="a loop"),
        pytest.param("%time Writer.write('a')", WRITER_A, id="a magic"),
        pytest.param("get_ipython().run_cell('Writer.write(\"a\")')", WRITER_A, id="a cell in a cell"),
        pytest.param("Writer.bar(20)", "Writer:\n  20 of 20", id="a progress bar"),
        pytest.param("Writer.bars()", "Writer:\n  before\n  outer 2 of 2\n  after", id="a bar in a bar"),
        pytest.param("Writer.elsewhere()", "Writer:\n  from Python", id="C code and child processes"),
        pytest.param("list(Writer.drip(3))", "Writer:\n  item 0\n  item 1\n  item 2", id="generator"),
        pytest.param(
            "[n async for n in Writer.to_async.adrip(2)]", "Writer:\n  item 0\n  item 1", id="async generator"
        ),
        pytest.param(
            "Writer.many(1304)",
            "\n  ".join(
                [
                    "Writer:",
                    *(f"line {n}" for n in range(50)),
                    "… 1,204 more lines: %services logs Writer",
                    *(f"line {n}" for n in range(1254, 1304)),
                ]
            ),
            id="many lines",
        ),
        pytest.param(
            "Answer.ask('a')",
            "Answer:\n  asked a\nEditor:\n  editing a\nWriter:\n  writing a\n  writing again",
            id="services below",
        ),
        pytest.param(
            "await asyncio.gather(Writer.to_async.slowly('a', 0.2), Editor.to_async.edit('b'),\n"
            "                     Writer.to_async.slowly('c', 0.1), Writer.to_async.slowly('d', 0.0))",
            "Writer:\n  begin a\n  end a\n  writing b\n  begin c\n  end c\n  begin d\n  end d\nEditor:\n  editing b",
            id="calls at once, in the order of the calls",
        ),
        pytest.param("Writer.embed(['a', 'b'])", "Writer:\n  a batch with a b", id="a batch"),
        pytest.param(
            "try:\n    Writer.fail()\nexcept ValueError: pass", "Writer:\n  before it fails", id="a call that fails"
        ),
        pytest.param("with open('/dev/null'): Writer.__class__", "", id="no call"),
        pytest.param(
            "import threading\nthread = threading.Thread(target=Writer.write, args=['a'])\nthread.start()\n"
            "thread.join()\nWriter.write('b')",
            "Writer:\n  writing b",
            id="a thread that nothing waits for",
        ),
        pytest.param(
            "task = asyncio.create_task(Writer.to_async.slowly('a', 1.0))\nawait Writer.to_async.write('b')",
            "Writer:\n  writing b",
            id="a task that the cell does not wait for",
        ),
    ],
)
def test_what_calls_write_is_under_their_cell(services: Kernel, cell: str, expected: str) -> None:
    assert services.ok(cell).plain == expected


def test_levels_and_the_lines_of_cells(services: Kernel) -> None:
    ran = services.ok("Writer.warn('it')")
    shown = re.fullmatch(  # in logging's usual form, where another test has made the root logger's handler
        r"Writer:\n  (ERROR:w:)?logged it\n  Cell In\[\d+\], line 25: UserWarning: warned it\n"
        r'    warnings.warn\(f"warned {text}"\)',
        ran.plain,
    )
    assert shown, ran.plain
    assert '<span style="color:#c9302c">logged it</span>' in ran.html
    assert ">Writer</div>" in ran.html


def test_output_stands_where_the_first_call_wrote_it_and_before_the_result(services: Kernel) -> None:
    cell = services.send("print('one')\nWriter.write('a')\nprint('two')\nWriter.write('b')")
    services.finished(cell)
    kinds = [
        (m["msg_type"], str(m["content"].get("text", "")).strip())
        for m in services.messages
        if services.parent(m) == cell and m["msg_type"] in ("stream", "display_data", "execute_result")
    ]
    assert kinds == [("stream", "one"), ("display_data", ""), ("stream", "two"), ("execute_result", "")]
    assert services.shown(cell).plain == "Writer:\n  writing a\n  writing b"


def test_output_comes_while_the_call_runs(services: Kernel, tmp_path: Path) -> None:
    go = tmp_path / "go"
    services.ok(f"""
        %%service
        import pathlib
        class Waiter:
            @api
            def wait(self) -> None:
                print("waiting")
                while not pathlib.Path({str(go)!r}).exists():
                    time.sleep(0.01)
                print("done")
    """)
    for call in ("Waiter.wait()", "await Waiter.to_async.wait()"):
        go.unlink(missing_ok=True)
        cell = services.send(call)
        services.until(lambda m, c=cell: services.parent(m) == c and "waiting" in str(m["content"].get("data")))
        go.touch()
        assert services.finished(cell).plain == "Waiter:\n  waiting\n  done"


def test_output_is_filed_under_its_cell_while_a_task_of_an_earlier_one_waits(services: Kernel) -> None:
    services.ok("task = asyncio.create_task(Writer.to_async.slowly('earlier', 60.0))")
    services.ok("await asyncio.sleep(0)")  # it has begun
    assert services.ok("await Writer.to_async.slowly('now', 0.3)").plain == "Writer:\n  begin now\n  end now"
    services.ok("task.cancel()")


def test_nothing_comes_after_the_end_of_the_cell(services: Kernel) -> None:
    first = services.send("Writer.after()\ntask = asyncio.create_task(Writer.to_async.slowly('late', 0.1))")
    assert services.finished(first).displays == []
    second = services.ok("await task\nWriter.write('b')")
    assert second.plain == "Writer:\n  writing b"
    assert services.shown(first).displays == []


CAPTURED = "print([o.data['text/plain'] for o in c.outputs], repr(c.stdout))"


@pytest.mark.parametrize(
    ("cell", "left"),
    [
        pytest.param("%%capture c\nWriter.write('a')", "", id="%%capture"),
        pytest.param(
            "from IPython.utils.io import capture_output\nwith capture_output() as c: await Writer.to_async.write('a')",
            "",
            id="await",
        ),
        pytest.param(
            "from IPython.utils.io import capture_output\n"
            "with capture_output() as c:\n    Writer.write('a')\n    within = len(c.outputs)\nassert within == 1",
            "",
            id="capture_output",
        ),
        pytest.param(
            "from IPython.utils.io import capture_output\n"
            "Writer.write('b')\nwith capture_output() as c: Writer.write('a')\nWriter.write('c')",
            "Writer:\n  writing b\n  writing c",
            id="a part of the cell",
        ),
    ],
)
def test_what_is_captured_is_not_under_the_cell(services: Kernel, cell: str, left: str) -> None:
    services.ok("c = None")
    assert services.ok(cell).plain == left
    kept = "['Writer:\\n  writing a', \"'A'\"] ''" if cell.startswith("%%") else "['Writer:\\n  writing a'] ''"
    assert services.ok(CAPTURED).stdout == f"{kept}\n"
    assert "Writer:\n  writing a" in services.ok("c.show()").plain


def test_what_stands_for_this_process_only_leaves_the_block(services: Kernel) -> None:
    ran = services.ok("import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()): Writer.write('a')")
    assert ran.plain == WRITER_A
    assert services.ok("%%capture --no-display c\nWriter.write('a');").plain == WRITER_A


LOGGING = """
%%service
import logging
logger = logging.getLogger("reporter")
class Reporter:
    @api
    def report(self, text: str) -> str:
        logger.debug("debug %s", text)
        logger.info("info %s", text)
        return {answer!r}
"""


@pytest.fixture(params=["1", pytest.param("0", marks=pytest.mark.slow)])
def zygote(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBCOMPOSE_ZYGOTE", request.param)


def test_levels_that_the_notebook_sets_hold_in_services(zygote: None, own_kernel: Kernel) -> None:
    kernel = own_kernel
    kernel.ok("import logging\nlogging.basicConfig(level=logging.INFO)")
    kernel.ok(LOGGING.format(answer="one"))
    assert kernel.ok("Reporter.report('a')").plain == "Reporter:\n  INFO:reporter:info a"
    assert " INFO    Reporter#0 report" in kernel.ok("%services logs Reporter").stdout
    kernel.ok("logging.getLogger('reporter').setLevel(logging.DEBUG)")
    assert "is ready" in kernel.ok(LOGGING.format(answer="one")).plain  # no change of it
    assert kernel.ok("Reporter.report('b')").plain == "Reporter:\n  INFO:reporter:info b"
    assert "code swapped" in kernel.ok(LOGGING.format(answer="two")).plain
    assert kernel.ok("Reporter.report('c')").plain == "Reporter:\n  DEBUG:reporter:debug c\n  INFO:reporter:info c"
    kernel.ok("logging.getLogger('reporter').setLevel(logging.ERROR)\n%services restart Reporter")
    assert kernel.ok("Reporter.report('d')").plain == ""


def test_the_log_only(services: Kernel) -> None:
    services.ok("%config NbcomposeMagics.output = 'log'")
    assert services.ok("Writer.write('unseen')").displays == []
    assert "| writing unseen" in services.ok("%services logs Writer -n 5").stdout
    services.ok("%config NbcomposeMagics.output = 'cell'")
    assert services.ok("Writer.write('seen')").plain == "Writer:\n  writing seen"
    assert "expected any of ['cell', 'log']" in services.run("%config NbcomposeMagics.output = 'page'").stderr


LINE = re.compile(r"\d\d:\d\d:\d\d\.\d{3} (\w*) *Writer#[012](?: (\w+) ([0-9a-f]{8}))? \| (.*)")


def test_a_log_says_when_who_and_how_grave_and_can_be_filtered(services: Kernel) -> None:
    services.ok("Writer.warn('grave')\nWriter.elsewhere()")
    lines = [LINE.fullmatch(line) for line in services.ok("%services logs Writer -n 6").stdout.splitlines()]
    assert all(lines)
    found = [match.groups() for match in lines if match]
    assert [(level, api) for level, api, *_ in found] == [
        ("ERROR", "warn"), ("WARNING", "warn"), ("WARNING", "warn"), ("", None), ("", None), ("", "elsewhere"),
    ]  # fmt: skip
    assert [text for *_, text in found][:1] == ["logged grave"]
    trace = found[0][2]
    of_the_call = services.ok(f"%services logs Writer --trace {trace}").stdout.splitlines()
    assert of_the_call[0].endswith(" | logged grave")
    assert len(of_the_call) == 3
    errors = services.ok("%services logs Writer --level error").stdout
    assert "logged grave" in errors
    assert "warned" not in errors
    assert "from Python" in services.ok("%services logs Writer --api elsewhere").stdout
    assert services.ok("%services logs Writer --api none").stdout == "Writer has written nothing of that kind\n"
    assert "\x1b" not in services.ok("%services logs Writer").stdout


def test_a_log_is_followed_until_the_cell_is_interrupted(services: Kernel) -> None:
    services.ok(
        "async def later():\n    await asyncio.sleep(0.1)\n    await Writer.to_async.write('followed')\n"
        "thread = threading.Thread(target=asyncio.run, args=[later()])"
    )
    cell = services.send("import threading\nthread.start()\n%services logs Writer -n 1 --follow")
    services.until(lambda m: services.parent(m) == cell and "| writing followed" in str(m["content"].get("text")))
    services.manager.interrupt_kernel()
    assert services.finished(cell).error == ""


def test_a_crash_in_a_call_says_how_the_process_ended_and_what_it_wrote_last(services: Kernel) -> None:
    ran = services.run("Writer.crash()")
    assert ran.error.startswith("ReplicaDied: Writer, replica ")
    assert "went away while it worked on this call: exit status 3\n" in ran.error
    assert re.search(r"It wrote last:\n(  .*\n)*  last words", ran.error)
    assert ran.plain == "Writer:\n  last words"
    below = services.run("Answer.crash()")
    assert "went away while it worked on this call: exit status 3\n" in below.error
    assert "last words" in below.error


def test_a_loading_service_says_what_it_wrote_last(services: Kernel, tmp_path: Path) -> None:
    go = tmp_path / "go"
    cell = services.send(f"""
        %%service
        import pathlib, time
        class Slow:
            def __init__(self):
                print("reading weights")
                while not pathlib.Path({str(go)!r}).exists():
                    time.sleep(0.01)
            @api
            def say(self) -> str:
                return ""
    """)
    services.until(lambda m: services.parent(m) == cell and "reading weights" in str(m["content"].get("data")))
    go.touch()
    assert "reading weights" not in services.finished(cell).plain


LOADING = """
%%service
class {name}:
    def __init__(self):
        print("loading")
        {then}
    @api
    def f(self) -> None: ...
"""


def test_the_log_of_a_service_that_was_stopped_or_failed_can_be_read(services: Kernel) -> None:
    services.ok(LOADING.format(name="Gone", then="pass"))
    services.ok("%services stop Gone")
    assert services.ok("%services logs Gone").stdout.endswith("Gone#0 | loading\n")
    assert services.ok("%services logs Gone --follow").stdout.endswith("Gone#0 | loading\n")
    services.run(LOADING.format(name="Bad", then="1 / 0"))
    assert "Bad#0 | loading\n" in services.ok("%services logs Bad").stdout
    assert "no service is called 'Nobody'" in services.run("%services logs Nobody").error


def test_a_service_in_the_process_prints_as_any_code(services: Kernel) -> None:
    assert services.ok("from_here = Writer().write('here')").stdout == "writing here\n"


RUN = [
    "%services restart Writer",  # so that no connection is open, as in a new kernel
    "print('first')\nAnswer.ask('a')",
    "await asyncio.gather(Writer.to_async.slowly('a', 0.01), Answer.to_async.ask('b'), Editor.to_async.edit('c'))",
    "await asyncio.gather(*[Writer.to_async.write(str(n)) for n in range(20)])",
    "for item in Writer.drip(3): print(item)",
    "[await asyncio.to_thread(Answer.ask, str(n)) for n in range(4)]",  # several threads at once would race
    "Writer.log('it')\nWriter.many(200)",
]


def test_twenty_runs_of_a_notebook_are_the_same(tmp_path: Path) -> None:
    """Each saved by nbclient, as `nbconvert --execute` and papermill do; without ids, which are new each time."""
    sources = ["%load_ext nbcompose\nfrom nbcompose import api, depends", SERVICES.strip(), *RUN * 20]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    nbclient.NotebookClient(book, timeout=120, kernel_name="python3").execute(cwd=str(tmp_path))
    outputs = [cell.outputs for cell in book.cells[2:]]
    runs = [unnumbered(outputs[n + 1 : n + len(RUN)]) for n in range(0, len(outputs), len(RUN))]
    assert len(runs) == 20
    assert all(any(output["output_type"] == "display_data" for output in cell) for cell in runs[0])
    for run in runs[1:]:
        assert run == runs[0]


def unnumbered(outputs: list[Any]) -> list[Any]:
    return [
        [{key: value for key, value in output.items() if key != "execution_count"} for output in cell]
        for cell in outputs
    ]
