"""Measures what the live graph costs and how quick it is, and prints one table. See `README.md`.

python -m benchmarks.widget            every row; also writes build/widget.md and build/widget.json
python -m benchmarks.widget --quick    a round or two of each, to see that it works; prints only
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine, report
from benchmarks.kernel import LOAD, WARM_UP, Kernel, kernel
from benchmarks.rounds import median_ratio, mirrored
from benchmarks.row import Aim, Figure, Row
from benchmarks.servers import BUILD, end_cleanly

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "browser"))

from chromium import chromium  # the tests' own browser, server and page
from lab_page import Graph, Notebook
from lab_server import Server
from playwright.sync_api import Browser, expect

SECONDS = 2.0  # of load in a round
PAUSE = 500  # milliseconds between clicks, as people make
COST, BESIDE = "calls/s of a service under load, its graph looked at", "the same, with the browser on these CPUs"
LOOKED, NOT_LOOKED = "looked at", "not looked at"
FIRST = "click → first item on the screen, beyond the call's own"
REDRAW, OPENS = "redraw of {} services", "%graph → {} services on the screen, the browser on CPUs of its own"

LOADED = """\
%%service
import asyncio, time
from nbcompose import api, depends

class Leaf:
    @api
    async def echo(self, text: str) -> str:
        return text

class Front:
    leaf = depends(Leaf)

    @api
    async def pound(self, seconds: float) -> float:
        \"""Calls to `Leaf` a second, 64 in flight.\"""
        begun, count = time.perf_counter(), 0

        async def client():
            nonlocal count
            while time.perf_counter() - begun < seconds:
                await self.leaf.to_async.echo("x" * 64)
                count += 1

        await asyncio.gather(*(client() for _ in range(64)))
        return count / (time.perf_counter() - begun)
"""
STREAM = """\
%%service
from collections.abc import AsyncIterator

class Writer:
    @api
    async def write(self) -> AsyncIterator[str]:
        yield "first"
"""
TIMED = """
import statistics, time
def first():
    begun = time.perf_counter()
    for item in Writer.write():
        return time.perf_counter() - begun
print(statistics.median([first() for _ in range(50)]))
"""
ECHO = """\
from ipykernel.comm import CommManager
get_ipython().kernel.comm_manager.register_target(
    "echo", lambda comm, opened: comm.on_msg(lambda message: comm.send({}))
)
"""
OPEN_ECHO = """
async () => {
    const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    window.echo = kernel.createComm("echo");
    await window.echo.open({}).done;
}
"""
# An empty message to the kernel and back.
ECHOED = """
async () => {
    const begun = performance.now();
    await new Promise(resolve => { window.echo.onMsg = resolve; window.echo.send({}); });
    return (performance.now() - begun) / 1000;
}
"""
# From the click to the frame after the one in which the item stands in the page.
CLICKED = """
panel => new Promise(resolve => {
    const begun = performance.now();
    const seen = new MutationObserver(() => {
        if (!panel.querySelector(".nbc-result")?.textContent.includes("first")) return;
        seen.disconnect();
        requestAnimationFrame(() => setTimeout(() => resolve((performance.now() - begun) / 1000)));
    });
    seen.observe(panel, { childList: true, subtree: true, characterData: true });
    panel.querySelector("button[type=submit]").click();
})
"""
# From running the cell that is chosen to the frame after the one in which all its services stand in the page.
OPENED = """
count => new Promise(resolve => {
    const drawn = () => document.querySelectorAll(".nbc-canvas .nbc-node").length;
    const begun = performance.now();
    const seen = new MutationObserver(() => {
        if (drawn() < count) return;
        seen.disconnect();
        requestAnimationFrame(() => setTimeout(() => resolve((performance.now() - begun) / 1000)));
    });
    seen.observe(document.body, { childList: true, subtree: true });
    window.jupyterapp.commands.execute("notebook:run-cell");
})
"""
CLEAR = "() => window.jupyterapp.commands.execute('notebook:clear-cell-output')"
COUNT_UPDATES = """
canvas => {
    window.updates = 0;
    let planned = false;
    new MutationObserver(() => {
        if (planned) return;
        planned = true;
        requestAnimationFrame(() => { planned = false; window.updates += 1; });
    }).observe(canvas, { childList: true, subtree: true, characterData: true, attributes: true });
}
"""


def tree(count: int) -> str:
    """Return the source of services that call two others each, down to those that call none."""
    lines = ["%%service", "from nbcompose import api, depends"]
    for n in range(count):
        below = [d for d in (2 * n + 1, 2 * n + 2) if d < count]
        lines += [f"class Step{n:03}:", *(f"    d{d} = depends('Step{d:03}')" for d in below), "    @api"]
        calls = "".join(f" + await self.d{d}.to_async.run()" for d in below)
        lines += ["    async def run(self) -> int:", f"        return 1{calls}"]
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Counts:
    rounds: int = 12  # the interval leaves out the two smallest and the two largest
    clicks: int = 50
    seconds: float = 10.0


QUICK = Counts(rounds=2, clicks=5, seconds=2.0)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.widget", description="What the live graph costs.")
    parser.add_argument("--quick", action="store_true", help="a round or two of each, to see that it works")
    options = parser.parse_args(arguments)
    end_cleanly()
    counts = QUICK if options.quick else Counts()
    about = machine.describe()
    print(", ".join(f"{key} {value}" for key, value in about.items()), file=sys.stderr)
    _say(COST)
    with kernel() as running:
        rows = [_cost(running, counts)]
    with jupyterlab() as notebook:
        for what, measure in ((BESIDE, _cost_beside), (FIRST, _first_item), (REDRAW.format(20), _redraw)):
            _say(what)
            rows.append(measure(notebook, counts))
    with jupyterlab(apart=True) as notebook:
        _say(REDRAW.format(40))
        rows.append(_redraw(notebook, counts, 40))
        _say(OPENS.format(200))
        rows.append(_opens(notebook, counts, 200))
    print(report.table(rows, ()))
    if said := report.notes(rows):
        print(f"\n{said}")
    if not options.quick:
        print("\nwritten: " + ", ".join(str(path) for path in report.write(BUILD, rows, about, "widget", ())))
    return 0


def _say(what: str) -> None:
    print(f"measuring {what} …", file=sys.stderr, flush=True)


# -- what it costs


def _cost(running: Kernel, counts: Counts) -> Row:
    """A front end that looks, and takes no time of this machine: messages to the kernel as static/ sends them."""
    running.run("from nbcompose import api, depends\nfrom nbcompose._notebook.graph import widget")
    running.run(LOADED)
    pound = f"Front.pound({SECONDS})"
    running.run("", pound)

    def without() -> float:
        running.run("widget.leave_all()")
        return float(running.run("", pound).value)

    def looked() -> float:
        comm = running.run("%graph", "[w.comm.comm_id for w in widget._open.values()][-1]").value
        running.tell(comm, {"id": "1", "type": "look", "client": "benchmark", "on": True})
        return float(running.run("", pound).value)

    return slowed(COST, looked, without, counts.rounds)


def _cost_beside(notebook: Notebook, counts: Counts) -> Row:
    """The graph is above the cell that makes the calls, or far away from it."""
    near, far = 3, 5
    pound = f"print(Front.pound({SECONDS}))"
    for number, source in enumerate([LOADED.strip(), "%graph", pound, "print('\\n' * 400)", pound], start=1):
        notebook.write(number, source)
        notebook.run(number)
    return slowed(
        BESIDE,
        lambda: float(notebook.run(near).inner_text()),
        lambda: float(notebook.run(far).inner_text()),
        counts.rounds,
    )


def slowed(what: str, looked: Callable[[], float], without: Callable[[], float], rounds: int) -> Row:
    taken: dict[str, list[float]] = {LOOKED: [], NOT_LOOKED: []}
    for order in mirrored([(NOT_LOOKED, without), (LOOKED, looked)], rounds):
        for label, take in order:
            taken[label].append(take())
    return Row(
        what=what,
        aim=Aim(0.98, at="least"),
        yardstick=NOT_LOOKED,
        ours=Figure.of(taken[LOOKED], "calls/s"),
        other=Figure.of(taken[NOT_LOOKED], "calls/s"),
        ratio=median_ratio(taken[LOOKED], taken[NOT_LOOKED]),
        samples=taken,
    )


# -- how quick it is


def _first_item(notebook: Notebook, counts: Counts) -> Row:
    notebook.run_new(1, STREAM.strip())
    graph = Graph(notebook.run_new(2, "%graph Writer"))
    alone = float(notebook.run_new(3, TIMED.strip()).inner_text())
    notebook.run_new(3, ECHO.strip())
    notebook.page.evaluate(OPEN_ECHO)
    graph.choose("Writer")

    def click() -> None:
        seconds.append(float(graph.panel.evaluate(CLICKED)))
        graph.ends("1 item")

    def echo() -> None:
        echoes.append(float(notebook.page.evaluate(ECHOED)))

    seconds: list[float] = []
    echoes: list[float] = []
    for order in mirrored([click, echo], counts.clicks):
        for turn in order:
            notebook.page.wait_for_timeout(PAUSE)
            turn()
    beyond = [taken - alone for taken in seconds]
    return Row(
        what=FIRST,
        aim=Aim(0.05, of="value"),
        yardstick="an empty message to the kernel and back",
        ours=Figure.of(beyond, "s"),
        other=Figure.of(echoes, "s"),
        ratio=median_ratio(beyond, echoes),
        samples={"click to screen": seconds, "there and back": echoes},
        notes=[
            f"the call alone: {Figure.of([alone], 's')}; "
            f"the slowest of {len(seconds)} clicks: {Figure.of([max(seconds)], 's')}"
        ],
    )


def _redraw(notebook: Notebook, counts: Counts, services: int = 20) -> Row:
    """What the page's main thread does while the numbers of services change, for each time that they did.

    The same with the graph out of sight, when nothing is sent or drawn of it, is the notebook's own and taken off.
    """
    notebook.run_new(1, tree(services))
    graph = Graph(notebook.run_new(2, "%graph Step000"))
    graph.canvas.evaluate(COUNT_UPDATES)
    notebook.write(3, f"import time\nend = time.time() + {counts.seconds}\nwhile time.time() < end:\n    Step000.run()")
    busy = _busy_while(notebook)
    updates = int(notebook.page.evaluate("window.updates"))
    graph.canvas.evaluate("canvas => { canvas.closest('.nbc-app').style.display = 'none'; }")
    alone = _busy_while(notebook)
    return Row(
        what=REDRAW.format(services),
        aim=Aim(0.016, of="value"),
        yardstick="–",
        ours=Figure.of([(busy - alone) / updates], "s"),
        notes=[
            f"{updates} redraws in {counts.seconds:g} s; the page's thread took {busy:.2f} s of a CPU, "
            f"and {alone:.2f} s with the graph out of sight"
        ],
    )


def _opens(notebook: Notebook, counts: Counts, services: int) -> Row:
    """How long it takes to show a large graph: the kernel's part, the page's, and the messages between them."""
    notebook.run_new(1, "%services stop --all")
    notebook.run_new(1, tree(services))
    notebook.write(2, "%graph")
    seconds = []
    for _ in range(counts.rounds):
        notebook.page.evaluate(CLEAR)
        expect(Graph(notebook.output(2)).canvas).to_have_count(0)
        notebook.page.wait_for_timeout(PAUSE)
        seconds.append(float(notebook.page.evaluate(OPENED, services)))
    return Row(
        what=OPENS.format(services),
        aim=Aim(1.0, of="value"),
        yardstick="–",
        ours=Figure.of(seconds, "s"),
        samples={"opened": seconds},
    )


def _busy_while(notebook: Notebook) -> float:
    """CPU seconds of the page's main thread while the load runs.

    Not Chromium's own count of seconds that the thread was at work: in these it also waits, for a CPU or for the
    threads that paint, which have graphics hardware where people look at it and here share the CPU.
    """
    browser = notebook.page.context.browser
    assert browser is not None
    devtools = browser.new_browser_cdp_session()

    def taken() -> float:
        processes = devtools.send("SystemInfo.getProcessInfo")["processInfo"]
        return sum(_of_main_thread(p["id"]) for p in processes if p["type"] == "renderer")

    before = taken()
    notebook.run(3)
    after = taken()
    devtools.detach()
    return after - before


def _of_main_thread(pid: int) -> float:
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9


@contextlib.contextmanager
def jupyterlab(*, apart: bool = False) -> Iterator[Notebook]:
    """JupyterLab in a browser, with the extension loaded. `apart`: the browser and the rest share no CPU."""
    cpus = sorted(os.sched_getaffinity(0))
    half = len(cpus) // 2
    with contextlib.ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory())
        if apart and half:
            stack.callback(os.sched_setaffinity, 0, cpus)
            os.sched_setaffinity(0, cpus[:half])  # what is started now inherits it
        browser = stack.enter_context(chromium())
        if apart and half:
            os.sched_setaffinity(0, cpus[half:])
        server = Server(Path(home))
        try:
            yield _opened(browser, server)
        finally:
            server.stop()


def _opened(browser: Browser, server: Server) -> Notebook:
    cells = [f"{LOAD.strip()}{WARM_UP}from nbcompose import api, depends", "", "", "", "", ""]
    path = server.write("widget.ipynb", cells)
    notebook = Notebook(browser.new_page(viewport={"width": 1200, "height": 1000}), "lab", path)
    notebook.open(server.url("lab", path.name))
    notebook.run(0)
    return notebook


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
