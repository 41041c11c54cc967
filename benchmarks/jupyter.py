"""Measures what Jupyter's server adds to a call, and what the extensions cost, and prints one table. See `README.md`.

python -m benchmarks.jupyter            every row; also writes build/jupyter.md and build/jupyter.json
python -m benchmarks.jupyter --quick    a round or two of each, to see that it works; prints only
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine, report
from benchmarks.load import Load, generate_elsewhere
from benchmarks.rounds import median_ratio, mirrored
from benchmarks.row import Aim, Figure, Row
from benchmarks.servers import BUILD, OURS, end_cleanly, serving
from benchmarks.widget import LOADED, SECONDS, jupyterlab, slowed
from tests.jupyter.started import TOKEN, started

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "browser"))

from chromium import chromium  # the tests' own browser, server and page
from lab_page import TIMEOUT, Notebook
from lab_server import Server

BODY = {"text": "hello"}
DRIPS = 20  # calls a second
SETTLED = 1.0  # seconds after the panel was opened or closed, in which nothing is measured
PROXIED, DIRECT, ME = "through Jupyter", "the same, directly", "GET api/me of the same server"
BEYOND = "HTTP → Jupyter → Front, one client, p50, beyond the same directly"
BESIDE_ME, MANY = "HTTP → Jupyter → Front, one client, p50", "HTTP → Jupyter → Front, 64 clients"
PANEL = "calls/s of a service under load, the panel of what runs open, the browser on CPUs of its own"
BESIDE = "the same, with the browser on these CPUs"
OPEN_COSTS = (
    "an open panel: CPU seconds each second of the kernel, its replicas and Jupyter's server, beyond one closed"
)
START = "JupyterLab, from its address to all restored, with the extension"

# What a panel costs does not depend on who runs the cell: so it is run where no tab has to be in front.
EXECUTE = """
async code => {
    let said = "";
    const running = window.benchKernel.requestExecute({ code, store_history: false });
    running.onIOPub = message => { if (message.header.msg_type === "stream") said += message.content.text; };
    const limit = new Promise((_, refuse) => setTimeout(() => refuse(new Error("no answer in 120 s")), 120_000));
    await Promise.race([running.done, limit]);
    return said;
}
"""
KEEP_KERNEL = """
() => {
    const { currentWidget } = window.jupyterapp.shell;
    window.benchKernel = currentWidget.sessionContext.session.kernel;
    window.benchNotebook = currentWidget.id;
}
"""
# As many calls open and closed, and few: what the panel takes is then the difference, whatever else the machine does.
DRIP = f"""\
%%service
import asyncio
from nbcompose import api, depends

class Leaf:
    @api
    async def echo(self, text: str) -> str:
        return text

class Front:
    leaf = depends(Leaf)

    @api
    async def drip(self, seconds: float) -> None:
        \"\"\"{DRIPS} calls to `Leaf` a second: the numbers of both change all the time.\"\"\"
        for _ in range(round(seconds * {DRIPS})):
            await self.leaf.to_async.echo("x" * 64)
            await asyncio.sleep(1 / {DRIPS})
"""
OPEN = """
async () => {
    const { commands, shell } = window.jupyterapp;
    shell.activateById("jp-running-sessions");
    await commands.execute("nbcompose:open-graph", { runtime: window.benchKernel.id, service: "Front" });
}
"""
CLOSE = """
() => {
    window.jupyterapp.shell.activateById("filebrowser");
    window.jupyterapp.shell.activateById(window.benchNotebook);
}
"""
NOTE_RESTORED = """
let app;
Object.defineProperty(window, "jupyterapp", {
    configurable: true,
    get: () => app,
    set: value => {
        app = value;
        app.restored.then(() => { window.restoredAt = performance.now() / 1000; });
    },
});
"""
HAS_EXTENSION = "() => window.jupyterapp.hasPlugin('nbcompose:services')"


@dataclass(frozen=True, slots=True)
class Counts:
    rounds: int = 7
    calls: int = 2000  # in a round of one client
    many: int = 3000  # of 64 clients
    panels: int = 12
    starts: int = 12


QUICK = Counts(rounds=2, calls=100, many=200, panels=2, starts=2)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.jupyter", description="What Jupyter's server adds.")
    parser.add_argument("--quick", action="store_true", help="a round or two of each, to see that it works")
    options = parser.parse_args(arguments)
    end_cleanly()
    counts = QUICK if options.quick else Counts()
    about = machine.describe()
    rows = _calls(counts)
    for what, apart in ((PANEL, True), (BESIDE, False)):
        _say(what)
        rows.append(_panel(what, counts, apart=apart))
    _say(OPEN_COSTS)
    rows.append(_open_costs(counts))
    _say(START)
    rows.append(_start(counts))
    print(", ".join(f"{key} {value}" for key, value in about.items()) + "\n")
    print(report.table(rows, ()))
    if said := report.notes(rows):
        print(f"\n{said}")
    if not options.quick:
        print("\nwritten: " + ", ".join(str(path) for path in report.write(BUILD, rows, about, "jupyter", ())))
    return 0


def _say(what: str) -> None:
    print(f"measuring {what} …", file=sys.stderr, flush=True)


# -- calls


def _calls(counts: Counts) -> list[Row]:
    """`Front.echo`, which calls nothing below it, and a handler of Jupyter's that answers who is asking."""
    with tempfile.TemporaryDirectory() as home, started(Path(home)) as (base, _), serving(OURS) as server:
        server.first_answer("/echo", BODY)
        proxied = f"{base}nbcompose/at/serve-{server.pid}/Front/echo"
        turns: dict[str, tuple[str, Any, str]] = {
            DIRECT: (f"{server.url}/echo", BODY, ""),
            PROXIED: (proxied, BODY, f"token {TOKEN}"),
            ME: (f"{base}api/me", None, f"token {TOKEN}"),
        }
        for turn in turns.values():
            _take(turn, 1, counts.calls // 10)  # warm
        _say(BEYOND)
        one = _rounds(turns, (DIRECT, PROXIED, ME), 1, counts.calls, counts.rounds)
        _say(MANY)
        many = _rounds(turns, (PROXIED, ME), 64, counts.many, counts.rounds)
    return [_beyond(one), _beside_me(one), _many(many)]


def _take(turn: tuple[str, Any, str], clients: int, calls: int) -> Load:
    url, body, authorization = turn
    return generate_elsewhere(url, clients, calls, body, authorization=authorization)


def _rounds(
    turns: dict[str, tuple[str, Any, str]], names: Sequence[str], clients: int, calls: int, rounds: int
) -> dict[str, list[Load]]:
    taken: dict[str, list[Load]] = {name: [] for name in names}
    for order in mirrored(names, rounds):
        for name in order:
            taken[name].append(_take(turns[name], clients, calls))
    return taken


def _failed(loads: Sequence[Load]) -> str:
    return f"{sum(load.failures for load in loads):,} of {sum(load.calls for load in loads):,} failed"


def _p50(loads: Sequence[Load]) -> list[float]:
    return [load.p50 for load in loads]


def _beyond(taken: dict[str, list[Load]]) -> Row:
    direct, proxied = _p50(taken[DIRECT]), _p50(taken[PROXIED])
    beyond = [through - alone for through, alone in zip(proxied, direct, strict=True)]
    return Row(
        what=BEYOND,
        aim=Aim(0.001, of="value", no_failures=True),
        yardstick=DIRECT,
        ours=Figure.of(beyond, "s", _failed(taken[PROXIED])),
        other=Figure.of(direct, "s"),
        failures=sum(load.failures for load in taken[PROXIED]),
        samples={PROXIED: proxied, DIRECT: direct},
    )


def _beside_me(taken: dict[str, list[Load]]) -> Row:
    proxied, me = _p50(taken[PROXIED]), _p50(taken[ME])
    return Row(
        what=BESIDE_ME,
        aim=Aim(2),
        yardstick=ME,
        ours=Figure.of(proxied, "s"),
        other=Figure.of(me, "s", _failed(taken[ME])),
        ratio=median_ratio(proxied, me),
        samples={PROXIED: proxied, ME: me},
    )


def _many(taken: dict[str, list[Load]]) -> Row:
    rates = {name: [load.rate for load in loads] for name, loads in taken.items()}
    return Row(
        what=MANY,
        aim=Aim(0.5, at="least", no_failures=True),
        yardstick=ME,
        ours=Figure.of(rates[PROXIED], "calls/s", _failed(taken[PROXIED])),
        other=Figure.of(rates[ME], "calls/s", _failed(taken[ME])),
        ratio=median_ratio(rates[PROXIED], rates[ME]),
        failures=sum(load.failures for load in taken[PROXIED]),
        samples=rates,
    )


# -- the front end


def _panel(what: str, counts: Counts, *, apart: bool) -> Row:
    """The list, with its numbers, and the graph of the notebook in a tab of its own."""
    with jupyterlab(apart=apart) as notebook:
        page = notebook.page
        notebook.run_new(1, LOADED.strip())
        page.evaluate(KEEP_KERNEL)

        def pound() -> float:
            return float(page.evaluate(EXECUTE, f"print(Front.pound({SECONDS}))"))

        def opened() -> float:
            page.evaluate(OPEN)
            return pound()

        def closed() -> float:
            page.evaluate(CLOSE)
            return pound()

        pound()  # warm
        return slowed(what, opened, closed, counts.panels)


def _open_costs(counts: Counts) -> Row:
    """What is taken of the CPUs, and not how much is left of them: in turns, of which each has the same few calls."""
    open_, closed = "open", "closed"
    taken: dict[str, list[float]] = {open_: [], closed: []}
    parts: dict[str, dict[str, list[float]]] = {}
    with jupyterlab() as notebook:
        page = notebook.page
        notebook.run_new(1, DRIP.strip())
        page.evaluate(KEEP_KERNEL)
        pids = page.evaluate(EXECUTE, "import os; print(os.getpid(), os.getppid())").split()
        kernel, server = map(int, pids)

        def turn(label: str) -> None:
            page.evaluate(OPEN if label == open_ else CLOSE)
            page.evaluate(EXECUTE, f"Front.drip({SETTLED})")
            before, begun = _cpu_of(kernel, server), time.perf_counter()
            page.evaluate(EXECUTE, f"Front.drip({SECONDS})")
            after, seconds = _cpu_of(kernel, server), time.perf_counter() - begun
            each = {name: (after[name] - before[name]) / seconds for name in after}
            taken[label].append(sum(each.values()))
            for name, cpu in each.items():
                parts.setdefault(name, {open_: [], closed: []})[label].append(cpu)

        turn(open_)  # warm
        turn(closed)
        for record in (taken, *parts.values()):
            for values in record.values():
                values.clear()
        for order in mirrored([closed, open_], counts.panels):
            for label in order:
                turn(label)

    def beyond(record: dict[str, list[float]]) -> list[float]:
        return [more - less for more, less in zip(record[open_], record[closed], strict=True)]

    of_each = ", ".join(f"{name} {Figure.of(beyond(record), 's').with_interval}" for name, record in parts.items())
    return Row(
        what=OPEN_COSTS,
        aim=Aim(0.02, of="value"),
        yardstick=f"all that they take with it closed, {DRIPS} calls/s",
        ours=Figure.of(beyond(taken), "s"),
        other=Figure.of(taken[closed], "s"),
        samples=taken,
        notes=[f"of that: {of_each}"],
    )


def _cpu_of(kernel: int, server: int) -> dict[str, float]:
    """CPU seconds that the processes below Jupyter's server, and it itself, have taken; of those that there are now."""
    below: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name of the program, in brackets, may have brackets and blanks too.
            parent = int(path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
            below.setdefault(parent, []).append(int(path.parent.name))
    taken = {"the kernel": _cpu(kernel), "the server": _cpu(server), "replicas": 0.0}
    waiting = list(below.get(kernel, ()))
    while waiting:
        pid = waiting.pop()
        taken["replicas"] += _cpu(pid)
        waiting.extend(below.get(pid, ()))
    return taken


def _cpu(pid: int) -> float:
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(path.read_text(encoding="ascii").split()[0]) for path in threads) / 1e9


def _start(counts: Counts) -> Row:
    """The page is new each time, and what it loads is in the browser's cache."""
    taken: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as home, chromium() as browser:
        server = Server(Path(home))
        try:
            path = server.write("start.ipynb", [""])
            context = browser.new_context()
            context.set_default_timeout(TIMEOUT)
            context.add_init_script(NOTE_RESTORED)

            def restored(has: bool) -> float:
                _have_extension(Path(home), has)
                notebook = Notebook(context.new_page(), "lab", path)
                notebook.open(server.url("lab", path.name))
                if notebook.page.evaluate(HAS_EXTENSION) is not has:
                    raise RuntimeError(f"JupyterLab was to start {'with' if has else 'without'} the extension")
                seconds = float(notebook.page.evaluate("window.restoredAt"))
                notebook.page.close()
                return seconds

            for has in taken:
                restored(has)  # warm
            for order in mirrored([True, False], counts.starts):
                for has in order:
                    taken[has].append(restored(has))
        finally:
            server.stop()
    return Row(
        what=START,
        aim=Aim(1.05),
        yardstick="without it",
        ours=Figure.of(taken[True], "s"),
        other=Figure.of(taken[False], "s"),
        ratio=median_ratio(taken[True], taken[False]),
        samples={"with": taken[True], "without": taken[False]},
    )


def _have_extension(home: Path, has: bool) -> None:
    """JupyterLab's server reads this for each page."""
    path = home / "config" / "labconfig" / "page_config.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"disabledExtensions": {"nbcompose": not has}}), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
