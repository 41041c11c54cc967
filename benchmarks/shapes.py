"""What graphs of many services cost: to start, when nobody calls, to edit one service, and to stop.

python -m benchmarks.shapes                      10, 50, 200 services in chains, layers, stars (make bench-shapes)
python -m benchmarks.shapes layers --sizes 36    one shape, one size

The services do nothing, so that all there is to see is ours. Each graph runs in a process of its own. The yardstick of
a start is the same number of bare forks, made in turn with it: a process that has imported what a replica runs on
forks a child for each service, and all of them are alive when the last one has said so.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

SIZES = (10, 50, 200)
ROUNDS = 3
IDLE = 10.0  # seconds for which CPU time is counted
DEPTH = 10  # services of a chain
WIDTH = 3  # services of a layer, each of which depends on all of the next

SHAPES: dict[str, Callable[[int, int], list[int]]] = {  # what service i of n depends on
    "chains": lambda i, n: [i + 1] if (i + 1) % DEPTH and i + 1 < n else [],
    "layers": lambda i, n: [j for j in range((i // WIDTH + 1) * WIDTH, (i // WIDTH + 2) * WIDTH) if j < n],
    "star": lambda i, n: list(range(1, n)) if i == 0 else [],
}


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds, and the share of one CPU that all processes take when nobody calls."""

    start: float
    idle: float
    edit: float
    stop: float


def source(shape: str, count: int, text: str = "{}") -> str:
    """A module of services, those that others depend on first. `text` is what each answers, its number put in."""
    parts = ["from nbcompose import api, depends, service\n"]
    for i in reversed(range(count)):
        below = [f"    d{j} = depends(S{j})\n" for j in SHAPES[shape](i, count)]
        answer = repr(text.format(i))
        parts.append(
            f"@service\nclass S{i}:\n{''.join(below)}    @api\n    def f(self) -> str:\n        return {answer}\n"
        )
    return "\n".join(parts)


def measure(shape: str, count: int) -> Costs:
    """In this process, which has a registry and `count` replicas until it returns."""
    import importlib.util

    from nbcompose._code.packing import deployment_of
    from nbcompose._control.registry import Registry
    from nbcompose._service.handle import Service

    def services(path: Path, text: str) -> Iterator[Service]:
        path.write_text(source(shape, count, text), encoding="utf-8")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return (s for s in vars(module).values() if isinstance(s, Service))

    with tempfile.TemporaryDirectory() as folder:
        first = list(services(Path(folder, "first.py"), "{}"))
        second = {s.name: s for s in services(Path(folder, "second.py"), "{} again")}
        registry = Registry(preload=("json",))
        registry.start()
        while registry.warming():
            time.sleep(0.01)
        begin = time.perf_counter()
        for service in first:
            registry.deploy(deployment_of(service))
        for service in first:
            if (status := registry.wait(service.name)).state != "ready":
                raise SystemExit(f"{service.name} is {status.state}: {status.reason}\n{status.error}")
        started = time.perf_counter() - begin
        if registry.proxy("S0").f() != "0":
            raise SystemExit("S0 does not answer")

        time.sleep(2.0)
        before = _cpu_seconds()
        time.sleep(IDLE)
        idle = (_cpu_seconds() - before) / IDLE

        last = first[0].name  # below most of the others
        begin = time.perf_counter()
        registry.deploy(deployment_of(second[last]))
        registry.wait(last)
        if registry.proxy(last).f() != f"{last[1:]} again":
            raise SystemExit(f"{last} does not answer as edited")
        edited = time.perf_counter() - begin

        begin = time.perf_counter()
        registry.stop()
        stopped = time.perf_counter() - begin
    return Costs(started, idle, edited, stopped)


def forks(count: int) -> float:
    """The seconds that this process takes for `count` children, each of which says that it runs and waits."""
    import nbcompose._replica.main  # noqa: F401  what a replica runs on

    reading, writing = os.pipe()
    children = []
    begin = time.perf_counter()
    for _ in range(count):
        child = os.fork()
        if child == 0:
            os.write(writing, b".")
            signal.pause()
        children.append(child)
    said = 0
    while said < count:
        said += len(os.read(reading, 4096))
    seconds = time.perf_counter() - begin
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return seconds


def _cpu_seconds() -> float:
    """Of this process and all below it."""
    this = psutil.Process()
    times = [p.cpu_times() for p in [this, *this.children(recursive=True)]]
    return sum(t.user + t.system for t in times)


def _apart(*arguments: str) -> str:
    """The output of this module with these arguments, in a process of its own."""
    line = [sys.executable, "-m", "benchmarks.shapes", *arguments]
    return subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout


def _row(shape: str, count: int) -> str:
    rounds, forked = [], []
    for _ in range(ROUNDS):
        rounds.append(Costs(**json.loads(_apart("--measure", shape, str(count)))))
        forked.append(float(_apart("--forks", str(count))))
    start, idle, edit, stop = (statistics.median(getattr(r, name) for r in rounds) for name in Costs.__slots__)
    ratio = statistics.median(r.start / f for r, f in zip(rounds, forked, strict=True))
    edges = sum(len(SHAPES[shape](i, count)) for i in range(count))
    return (
        f"| {shape} | {count} | {edges:,} | {start:.2f} s | {statistics.median(forked):.2f} s | {ratio:.1f} × | "
        f"{idle:.1%} | {edit * 1000:.0f} ms | {stop:.2f} s |"
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shapes", description="What many services cost.")
    parser.add_argument("shapes", nargs="*", metavar="SHAPE", help=f"{', '.join(SHAPES)}; all of them by default")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of services")
    parser.add_argument("--measure", nargs=2, metavar=("SHAPE", "SIZE"), help="one graph, in this process")
    parser.add_argument("--forks", type=int, metavar="COUNT", help="the yardstick, in this process")
    options = parser.parse_args(arguments)
    if unknown := set(options.shapes) - set(SHAPES):
        parser.error(f"no shape is called {', '.join(sorted(unknown))}; shapes: {', '.join(SHAPES)}")
    if options.measure:
        print(json.dumps(asdict(measure(options.measure[0], int(options.measure[1])))))
        return 0
    if options.forks:
        print(forks(options.forks))
        return 0
    print("| shape | services | edges | start | that many forks | ratio | idle, of one CPU | an edit | stop |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for shape in options.shapes or SHAPES:
        for size in options.sizes:
            print(_row(shape, size), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
