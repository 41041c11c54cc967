"""What is compared, in groups: the rows of one group ask the same processes, which are started anew for each round.

Only what both revisions have is used: services, `nbcompose serve`, `%%service`, `import nbcompose`. The one inner name
is the registry's `warming`, for which there is no other.
"""

from __future__ import annotations

import itertools
import statistics
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from benchmarks import calls
from benchmarks.compare import Sample
from benchmarks.kernel import Kernel, loaded_kernel
from benchmarks.machine import pinned
from benchmarks.revisions.trees import check_package
from benchmarks.row import Unit
from benchmarks.servers import Framework, Server, environment, pss, serving

STREAM = 5_000
BATCHED = 5_000
IMPORT = """
import time
begin = time.perf_counter()
from nbcompose import api, depends, service
took = time.perf_counter() - begin
import nbcompose
print(took, nbcompose.__file__)
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """A row: `take` asks what the group has started, `times` in a round, and the median of them counts."""

    name: str
    what: str
    unit: Unit
    take: Callable[[Any], float]
    times: int = 5


@dataclass(frozen=True, slots=True)
class Group:
    """Rows and what they ask. `start` raises `RuntimeError` where that runs another package than the framework's."""

    start: Callable[[Framework], AbstractContextManager[object]]
    rows: tuple[Measured, ...]


# -- a graph that is served


@contextmanager
def graph(framework: Framework) -> Iterator[Server]:
    with serving(framework) as server:
        processes = server.first_answer("/processes", {})
        check_package(framework, *(process["package"] for process in processes))
        for path in ("/hop", "/hop_mixed", "/hop_sync"):
            server.post(path, {"calls": 200})
        yield server


@contextmanager
def graph_on_one_cpu(framework: Framework) -> Iterator[Server]:
    with pinned(), graph(framework) as server:
        yield server


def value(take: Callable[[Server], Sample]) -> Callable[[Server], float]:
    """Of a row of the other table. Raises `RuntimeError` where calls failed: they would look quick."""

    def checked(server: Server) -> float:
        sample = take(server)
        if sample.failures:
            raise RuntimeError(f"{sample.failures} of {sample.calls} calls failed")
        return sample.value

    return checked


def stream(server: Server) -> float:
    return STREAM / float(server.post("/stream", {"items": STREAM}))


def batched(server: Server) -> float:
    return BATCHED / float(server.post("/batched", {"calls": BATCHED, "width": 64}))


def small_array(server: Server) -> float:
    seconds: list[float] = server.post("/small_array", {"calls": 1000})
    return statistics.median(seconds)


def memory(server: Server) -> float:
    """Of the replica of `Leaf`, after the calls of the rows before."""
    _, leaf = server.post("/processes", {})
    return pss(int(leaf["pid"]))


# -- a kernel

CELL = """
import os
import nbcompose
from nbcompose import api

class {name}:
    def __init__(self):
        self.ready = True

    @api
    def state(self) -> list[str]:
        return ["{number}", str(os.getpid()), str(nbcompose.__file__)]
"""


class Notebook:
    """A kernel with a warm zygote, and a service in it that is edited."""

    def __init__(self, framework: Framework, running: Kernel) -> None:
        self._framework = framework
        self._running = running
        self._numbers = itertools.count()
        self.zygote_start = running.warm_up()
        self.new_cell()
        self.swap()

    def new_cell(self) -> float:
        """Seconds until the instance of a new service runs."""
        number = next(self._numbers)
        seconds, _ = self._run(f"Cell{number}", number)
        return seconds

    def swap(self) -> float:
        """Seconds until an edited method is the one that answers. Raises `RuntimeError` where the replica changed."""
        _, before = self._state("Cell0")
        seconds, after = self._run("Cell0", next(self._numbers))
        if after != before:
            raise RuntimeError(f"a method was edited, and replica {before} was replaced by {after}")
        return seconds

    def _run(self, name: str, number: int) -> tuple[float, str]:
        seconds = self._running.time_service(CELL.format(name=name, number=number))
        answered, pid = self._state(name)
        if answered != str(number):
            raise RuntimeError(f"version {number} of {name} was run, and version {answered} answered")
        return seconds, pid

    def _state(self, name: str) -> tuple[str, str]:
        number, pid, package = self._running.run("", f"{name}.state()").value
        check_package(self._framework, package)
        return number, pid


@contextmanager
def notebook(framework: Framework) -> Iterator[Notebook]:
    with loaded_kernel(framework) as running:
        yield Notebook(framework, running)


# -- a process of its own


@contextmanager
def interpreter(framework: Framework) -> Iterator[Framework]:
    yield framework


def import_time(framework: Framework) -> float:
    command = [str(framework.python), "-c", IMPORT]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=framework.root, env=environment(framework, "import")
    )
    seconds, package = done.stdout.split(maxsplit=1)
    check_package(framework, package.strip())
    return float(seconds)


ASYNC, MIXED, SYNC = "async → async", "async → sync", "sync → sync"
GROUPS = (
    Group(
        graph_on_one_cpu,
        (
            Measured("hop-pinned", f"call, {ASYNC}, one CPU", "s", value(calls.hop), 9),
            Measured("hop-mixed-pinned", f"call, {MIXED}, one CPU", "s", value(calls.hop_mixed), 9),
            Measured("hop-sync-pinned", f"call, {SYNC}, one CPU", "s", value(calls.hop_sync), 9),
        ),
    ),
    Group(
        graph,
        (
            Measured("hop", f"call, {ASYNC}", "s", value(calls.hop), 9),
            Measured("hop-mixed", f"call, {MIXED}", "s", value(calls.hop_mixed), 9),
            Measured("hop-sync", f"call, {SYNC}", "s", value(calls.hop_sync), 9),
            Measured("in-flight", "64 calls in flight", "calls/s", value(calls.in_flight), 3),
            Measured("http-1", "HTTP, one client", "s", value(calls.http_1)),
            Measured("http-64", "HTTP → Front → Leaf, 64 clients", "calls/s", value(calls.http_64), 3),
            Measured("array-small", "call with an array of 1 KiB", "s", small_array),
            Measured("array-large", "call with an array of 64 MiB", "s", value(calls.array)),
            Measured("stream", f"stream of {STREAM:,} numbers", "items/s", stream),
            Measured("batching", "64 callers joined into batches", "calls/s", batched),
            Measured("memory", "memory (PSS) of a replica", "MB", memory, times=1),
        ),
    ),
    Group(
        notebook,
        (
            Measured("zygote", "%load_ext → zygote warm", "s", attrgetter("zygote_start"), times=1),
            Measured("cell", "%%service cell → instance running", "s", Notebook.new_cell),
            Measured("swap", "method edited → new one in place", "s", Notebook.swap),
        ),
    ),
    Group(interpreter, (Measured("import", "from nbcompose import api, depends, service", "s", import_time),)),
)
