"""What needs a real kernel: ■, displays that change after their cell, reloading, and the kernel's end."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.patience import PATIENCE, wait_until

pytestmark = pytest.mark.system

Kernel = Any  # of conftest.py, which is no module that could be imported

ECHO = """
%%service
class Echo:
    @api
    def say(self, text: str) -> str:
        return text
"""

# A leaf that tells, in files, when a call has begun and when it was cancelled; and a service above it.
CHAIN = """
%%service
import asyncio, pathlib, time
folder = pathlib.Path({folder!r})

class Leaf:
    @api
    async def hang(self) -> None:
        (folder / "began").touch()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            (folder / "cancelled").touch()
            raise

    @api
    def drip(self) -> "Iterator[int]":
        try:
            for i in range(10_000):
                (folder / "began").touch()
                time.sleep(0.01)
                yield i
        finally:
            (folder / "cancelled").touch()

    @api
    def say(self, text: str) -> str:
        return text

class Top:
    leaf = depends(Leaf)

    @api
    async def hang(self) -> None:
        await self.leaf.to_async.hang()

    @api
    def say(self, text: str) -> str:
        return self.leaf.say(text)
"""

RESTARTS = "print(sum(s.restarts for s in get_ipython().meta['nbcompose'].registry.statuses()))"


def chain(kernel: Kernel, folder: Path) -> None:
    kernel.ok("from collections.abc import Iterator")
    kernel.ok(CHAIN.format(folder=str(folder)))


@pytest.mark.parametrize(
    "call", ["Top.hang()", "await Top.to_async.hang()", "for i in Leaf.drip(): pass"], ids=["sync", "async", "stream"]
)
def test_an_interrupt_ends_a_call_everywhere_and_the_services_live_on(
    kernel: Kernel, tmp_path: Path, call: str
) -> None:
    chain(kernel, tmp_path)
    cell = kernel.send(call)
    wait_until((tmp_path / "began").exists, "the leaf has begun")
    kernel.manager.interrupt_kernel()
    ran = kernel.finished(cell)
    assert "KeyboardInterrupt" in ran.error or "CancelledError" in ran.error
    wait_until((tmp_path / "cancelled").exists, "the leaf was cancelled")
    assert kernel.ok("Top.say('still here')").result == "'still here'"
    assert kernel.ok(RESTARTS).stdout.strip() == "0"


def test_an_interrupted_first_start_stops_the_service(kernel: Kernel, tmp_path: Path) -> None:
    began = tmp_path / "began"
    cell = kernel.send(f"""
        %%service
        class Slow:
            def __init__(self):
                import os, pathlib, time
                pathlib.Path({str(began)!r}).write_text(str(os.getpid()))
                time.sleep(3600)
            @api
            def say(self, text: str) -> str:
                return text
    """)
    wait_until(lambda: began.exists() and began.read_text(), "__init__ has begun")
    pid = int(began.read_text())
    kernel.manager.interrupt_kernel()
    ran = kernel.finished(cell)
    assert ran.error.startswith("KeyboardInterrupt")
    assert "nbcompose/_" not in ran.error  # no frames of ours
    assert ran.displays[-1]["text/plain"] == "Slow was stopped, because the cell was interrupted"
    wait_until(lambda: not psutil.pid_exists(pid), "the replica has ended")
    assert "No service runs" in kernel.ok("%services").result
    assert "Slow does not run" in kernel.run("Slow.say('x')").error


def test_an_interrupted_replacement_keeps_the_version_before(kernel: Kernel, tmp_path: Path) -> None:
    kernel.ok(ECHO)
    began = tmp_path / "began"
    slow = ECHO.replace("class Echo:", f"""class Echo:
    def __init__(self):
        import pathlib, time
        pathlib.Path({str(began)!r}).touch()
        time.sleep(3600)""")  # fmt: skip
    cell = kernel.send(slow)
    wait_until(began.exists, "__init__ has begun")
    kernel.manager.interrupt_kernel()
    ran = kernel.finished(cell)
    assert ran.error.startswith("KeyboardInterrupt")
    assert "the version before serves on" in ran.displays[-1]["text/plain"]
    assert kernel.ok("Echo.say('old')").result == "'old'"
    # What runs is the first version: running its cell again changes nothing.
    assert "unchanged" in kernel.ok(ECHO).displays[-1]["text/plain"]


FRONT = """
%%service
class Front:
    echo = depends("Echo")
    @api
    def say(self, text: str) -> str:
        return self.echo.say(text)
"""


@pytest.mark.parametrize("init", ["", "def __init__(self):\n        self.echo.say('early')"], ids=["", "in __init__"])
def test_a_card_becomes_ready_after_its_cell_under_its_cell(kernel: Kernel, init: str) -> None:
    first = kernel.send(FRONT.replace("    @api", f"    {init}\n    @api"))
    waiting = kernel.finished(first)
    told = "Front is waiting for Echo\n  It becomes ready by itself, once Echo is."
    assert waiting.displays[-1]["text/plain"] == told
    kernel.ok("1 + 1")
    second = kernel.send(ECHO)
    kernel.until(lambda m: kernel.parent(m) == first and is_update(m, "Front is ready"))
    kernel.finished(second)
    assert len(kernel.shown(first).displays) == 1
    assert [d["text/plain"].splitlines()[0] for d in kernel.shown(second).displays] == ["Echo is ready"]
    assert kernel.ok("Front.say('both')").result == "'both'"


def test_a_new_version_may_wait_while_the_one_before_serves(kernel: Kernel) -> None:
    plain = FRONT.replace('    echo = depends("Echo")\n', "").replace("self.echo.say(text)", "text")
    kernel.ok(plain)
    needs = FRONT.replace("    @api", "    def __init__(self):\n        self.echo.say('early')\n    @api")
    first = kernel.send(needs)
    assert kernel.finished(first).displays[-1]["text/plain"].startswith("Front is waiting for Echo\n")
    assert kernel.ok("Front.say('old')").result == "'old'"
    kernel.ok(ECHO.replace("return text", "return text.upper()"))
    kernel.until(lambda m: kernel.parent(m) == first and is_update(m, "Front is ready"))
    assert kernel.ok("Front.say('new')").result == "'NEW'"


def test_a_call_that_waits_says_for_what(kernel: Kernel) -> None:
    kernel.ok(ECHO)
    kernel.ok(FRONT.replace('"Echo"', '"Ecko"'))
    calls = kernel.send("Front.say('x')")
    said = "Front is waiting for Ecko (Ecko does not run: did you mean Echo?); ■ gives the call up"
    kernel.until(lambda m: kernel.parent(m) == calls and said in str(m["content"].get("data")))
    kernel.manager.interrupt_kernel()
    ran = kernel.finished(calls)
    assert ran.error.startswith("KeyboardInterrupt")
    assert ran.plain == ""  # it is said while that is so


def test_a_call_that_waits_for_an_earlier_one_says_so(kernel: Kernel, tmp_path: Path) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    kernel.ok("""
        %%service
        import time
        from pathlib import Path
        class Busy:
            @api
            def hold(self, begun: str, go: str) -> None:
                Path(begun).touch()
                while not Path(go).exists():
                    time.sleep(0.01)
            @api
            def quick(self) -> int:
                return 1
    """)
    held = kernel.send(f"Busy.hold({str(begun)!r}, {str(go)!r})")
    wait_until(begun.exists, "the call has begun")
    kernel.manager.interrupt_kernel()
    assert kernel.finished(held).error.startswith("KeyboardInterrupt")
    waits = kernel.send("Busy.quick()")
    said = "hold holds a worker for"
    kernel.until(lambda m: kernel.parent(m) == waits and said in str(m["content"].get("data")))
    go.touch()
    ran = kernel.finished(waits)
    assert (ran.result, ran.plain) == ("1", "")


GROUPS = """
%%service
import asyncio

class Groups:
    @api
    def several(self) -> None:
        raise ExceptionGroup("several", [ValueError("a"), ExceptionGroup("inner", [KeyError("b")])])

    @api
    async def tasks(self) -> None:
        async def bad():
            raise ValueError("in a task")
        async with asyncio.TaskGroup() as group:
            group.create_task(bad())
"""


@pytest.mark.parametrize(
    ("call", "texts"),
    [
        (
            "Groups.several()",
            ["ExceptionGroup: several (2 sub-exceptions)", "ValueError: a", "KeyError: 'b'", "line 7"],
        ),
        ("await Groups.to_async.tasks()", ["ValueError: in a task", "line 12, in bad"]),
    ],
)
def test_an_exception_group_shows_the_user_s_lines_only(kernel: Kernel, call: str, texts: list[str]) -> None:
    kernel.ok(GROUPS)
    ran = kernel.run(call)
    assert ran.error.startswith("ExceptionGroup")
    assert [text for text in texts if text not in ran.error] == []
    assert ran.error.count("ValueError: ") == 1
    assert "nbcompose/" not in ran.error
    assert "ipykernel_" not in ran.error
    assert "Cell In[" in ran.error
    assert ran.stderr == ""
    own = kernel.run("raise ExceptionGroup('own', [ValueError('c')])")
    assert "ValueError: c" in own.stderr + own.error


def test_a_figure_is_shown_that_the_kernel_has_not_plotted(kernel: Kernel) -> None:
    kernel.ok("""
        %%service
        class Plots:
            @api
            def plot(self):
                from matplotlib.figure import Figure
                figure = Figure()
                figure.subplots().plot([1, 2, 3])
                return figure
    """)
    cell = kernel.send("Plots.plot()")
    kernel.finished(cell)
    [shown] = [m for m in kernel.messages if m["msg_type"] == "execute_result" and kernel.parent(m) == cell]
    assert {"image/png", "text/plain"} <= shown["content"]["data"].keys()


def is_update(message: dict[str, Any], begin: str) -> bool:
    kind, content = message["msg_type"], message["content"]
    return kind == "update_display_data" and content["data"]["text/plain"].startswith(begin)


def test_no_wait_returns_at_once_and_the_card_follows(kernel: Kernel, tmp_path: Path) -> None:
    go = tmp_path / "go"
    cell = kernel.send(f"""
        %%service --no-wait
        class Slow:
            def __init__(self):
                import pathlib, time
                while not pathlib.Path({str(go)!r}).exists():
                    time.sleep(0.01)
            @api
            def say(self, text: str) -> str:
                return text
    """)
    assert kernel.finished(cell).displays[-1]["text/plain"] == "Slow is starting"
    go.touch()
    kernel.until(lambda m: kernel.parent(m) == cell and "Slow is ready" in str(m["content"].get("data")))


def test_a_cell_shows_how_a_service_gets_on(kernel: Kernel, tmp_path: Path) -> None:
    go = tmp_path / "go"
    cell = kernel.send(f"""
        %%service
        class Slow:
            def __init__(self):
                import pathlib, time
                while not pathlib.Path({str(go)!r}).exists():
                    time.sleep(0.01)
            @api
            def say(self, text: str) -> str:
                return text
    """)
    # The seconds are counted while it starts, and are gone when it is ready.
    kernel.until(lambda m: "loading (__init__) (1 s)" in str(m["content"].get("data")))
    go.touch()
    ran = kernel.finished(cell)
    assert len(ran.displays) == 1
    assert ran.displays[0]["text/plain"].startswith("Slow is ready\n  on cpu, 1 replica\n")
    assert " s)" not in ran.displays[0]["text/plain"]


def test_reloading_keeps_services_and_unloading_stops_them(kernel: Kernel) -> None:
    kernel.ok(ECHO)
    pid = kernel.ok("print(get_ipython().meta['nbcompose'].registry.status('Echo').replicas[0].pid)").stdout
    kernel.ok("%reload_ext nbcompose")
    assert kernel.ok("Echo.say('again')").result == "'again'"
    assert "unchanged" in kernel.ok(ECHO).displays[-1]["text/plain"]
    assert kernel.ok("print(get_ipython().meta['nbcompose'].registry.status('Echo').replicas[0].pid)").stdout == pid
    kernel.ok("%unload_ext nbcompose")
    wait_until(lambda: not psutil.pid_exists(int(pid)), "the replica has ended")
    assert "not found" in kernel.run("%services").stderr
    assert "does not run" in kernel.run("Echo.say('gone')").error
    kernel.ok("%load_ext nbcompose")
    kernel.ok(ECHO)
    assert kernel.ok("Echo.say('anew')").result == "'anew'"


def test_help(kernel: Kernel) -> None:
    for source, expected in (("%%service?", "--max-concurrency"), ("%services?", "%services scale NAME N")):
        reply = kernel.client.execute_interactive(source, output_hook=lambda _: None, timeout=PATIENCE)
        page = "".join(p["data"]["text/plain"] for p in reply["content"]["payload"] if p["source"] == "page")
        assert expected in page


def ours(kernel_pid: int) -> set[int]:
    """The processes that a kernel's services consist of."""
    found = set()
    for process in psutil.process_iter():
        try:
            if process.environ().get("NBCOMPOSE_OWNER_PID") == str(kernel_pid):
                found.add(process.pid)
        except psutil.Error:
            continue
    return found


def sockets_of(pids: set[int]) -> set[str]:
    """Abstract sockets whose names hold one of these pids."""
    names = {line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines() if "@nbcompose" in line}
    return {n for n in names if any(str(p) in n.split(".") for p in pids)}


@pytest.mark.parametrize("forked", [False, True], ids=["alone", "with a forked child of its own"])
def test_nothing_is_left_of_a_killed_kernel(own_kernel: Kernel, forked: bool) -> None:
    own_kernel.ok(ECHO.replace("%%service", "%%service --replicas 2"))
    assert own_kernel.ok("Echo.say('x')").result == "'x'"
    kernel_pid = int(own_kernel.ok("import os; print(os.getpid())").stdout)
    child = 0
    if forked:
        child = int(own_kernel.ok("""
            import time
            child = os.fork()
            if child == 0:
                time.sleep(3600)
                os._exit(0)
            print(child)
        """).stdout)  # fmt: skip
    pids = ours(kernel_pid) - {child}
    assert len(pids) >= 3  # a zygote and two replicas
    assert sockets_of({kernel_pid, *pids})
    port = int(own_kernel.ok("print(Echo.url.rpartition(':')[2])").stdout)
    os.kill(kernel_pid, signal.SIGKILL)
    wait_until(lambda: not any(map(alive, pids)), "all of them have ended")
    wait_until(lambda: not sockets_of({kernel_pid, *pids}), "no socket is left")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    if forked:
        assert alive(child)
        os.kill(child, signal.SIGKILL)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_restarted_kernel_has_stopped_its_services(own_kernel: Kernel) -> None:
    own_kernel.ok(ECHO)
    pids = ours(int(own_kernel.ok("import os; print(os.getpid())").stdout))
    assert pids
    own_kernel.manager.restart_kernel(now=False)
    wait_until(lambda: not any(map(alive, pids)), "all of them have ended")
    own_kernel.client.wait_for_ready(timeout=PATIENCE)
    own_kernel.ok("%load_ext nbcompose\nfrom nbcompose import api, depends, service")
    assert "No service runs" in own_kernel.ok("%services").result


def test_a_figure_is_shown_where_it_is_displayed_and_not_once_more(kernel: Kernel) -> None:
    kernel.ok("%matplotlib inline")
    kernel.ok("""
        %%service
        import matplotlib.pyplot as plt
        from matplotlib.figure import Figure
        from nbcompose import api

        class Plots:
            @api
            def plot(self) -> Figure:
                figure, axes = plt.subplots()
                axes.plot([1, 2])
                return figure
    """)
    shown = kernel.ok("Plots.plot()")
    assert shown.result.startswith("<Figure size 640x480")
    assert shown.displays == []
    assert kernel.ok("figure = Plots.plot()").displays == []
