"""A working day in half an hour: a notebook's graph under load, while everything that can go wrong does.

python -m benchmarks.soak                  30 minutes (make soak)
python -m benchmarks.soak --minutes 2      shorter
python -m benchmarks.soak --seed 7         other dice

A real kernel runs `Front` (two replicas), which calls `Leaf` (two replicas), both of them idempotent. HTTP clients call
`Front` from outside, threads of the notebook call it from inside. Meanwhile, in an order that the seed gives: replicas
and the zygote are killed, cells are edited (a method: swapped; `__init__`: replaced), services are restarted and
scaled, hundreds of connections come and say nothing, or nonsense, and streams are left in the middle.

What must hold, or it says so and exits with status 1:

- of the calls from inside none fails: their apis may be sent again;
- of the calls over HTTP only those fail that a killed replica of `Front` had in hand: their connection breaks;
- in the end no process, socket or file of ours is left, and neither the kernel nor its replicas hold more files than
  after the first minute, nor the kernel more than a few MB more memory.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from benchmarks.kernel import REPLACED, SWAPPED, Kernel, kernel
from benchmarks.load import Load, generate, generate_elsewhere, request

CLIENTS = 8  # over HTTP, besides the threads of the notebook
THREADS = 4
PAUSE = (0.5, 3.0)  # seconds between two troubles
FLOOD, FLOOD_SECONDS = 200, 3.0  # connections at once, and for how long
WARM = 60.0  # seconds after which what is held counts
GROWTH = 32 * 2**20  # bytes that the kernel may have more in the end: traces and logs fill up to their bounds

LEAF = """
%%service --replicas 2 --threads 2
class Leaf:
    def __init__(self):
        self.init = {init}
    @api(idempotent=True)
    async def echo(self, text: str) -> str:
        return text
    @api(idempotent=True)
    def shout(self, text: str) -> str:
        return text.upper().removesuffix("#{method}")
"""
FRONT = """
%%service --replicas 2 --threads 2
class Front:
    leaf = depends(Leaf)
    def __init__(self):
        self.init = {init}
    @api(idempotent=True)
    async def ask(self, text: str) -> str:
        quiet, loud = await asyncio.gather(self.leaf.echo(text), self.leaf.to_async.shout(text))
        return (quiet + loud).removesuffix("#{method}")
    @api(idempotent=True)
    def ask_sync(self, text: str) -> str:
        return self.leaf.shout(text)
    @api
    def words(self, count: int) -> Iterator[str]:
        for number in range(count):
            yield self.leaf.shout(str(number))
"""
CELLS = {"Leaf": LEAF, "Front": FRONT}
PREPARE = """
import asyncio, collections, threading
from collections.abc import Iterator
from nbcompose import api, depends
session = get_ipython().meta["nbcompose"]
session.keep = 0.0
"""
LOAD = f"""
soak_ends, outcomes = threading.Event(), collections.Counter()
CALLS = [
    (lambda front=Front: front.ask("a"), "aA"),  # the name is the bare class while an edited cell runs
    (lambda front=Front: front.ask_sync("b"), "B"),
]
def soak(calls):
    while not soak_ends.is_set():
        for call, expected in calls:
            try:
                outcomes["right" if call() == expected else "wrong"] += 1
            except Exception as error:
                outcomes[f"{{type(error).__name__}}: {{str(error)[:120]}}"] += 1
soak_threads = [threading.Thread(target=soak, args=(CALLS,)) for _ in range({THREADS})]
for thread in soak_threads: thread.start()
"""
STOP_LOAD = """
soak_ends.set()
for thread in soak_threads: thread.join()
"""


@dataclass(slots=True)
class Held:
    """What the kernel and what it has started hold."""

    memory: int
    files: int
    most_files: int  # of a replica


@dataclass(slots=True)
class Trouble:
    """Makes it. `counts` says what has been done how often, `fronts_killed` how many replicas of `Front` died."""

    running: Kernel
    url: str
    dice: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    fronts_killed: int = 0
    versions: Counter[tuple[str, str]] = field(default_factory=Counter)

    def replicas(self) -> dict[int, str]:
        """The service of each replica, by pid."""
        pids = "{r.pid: s.name for s in session.registry.statuses() for r in s.replicas if r.pid}"
        return dict(self.running.run("", pids).value)

    def kill_replica(self) -> None:
        pid, name = self.dice.choice(list(self.replicas().items()))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.fronts_killed += name == "Front"

    def kill_zygote(self) -> None:
        pid = self.running.run("", "session.registry._engine.zygote_pid").value
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def edit_method(self) -> None:
        self._edit("method", SWAPPED)

    def edit_init(self) -> None:
        self._edit("init", REPLACED)

    def restart(self) -> None:
        self.running.run(f"%services restart {self.dice.choice(list(CELLS))}")

    def scale(self) -> None:
        # (One replica of Front fewer is asked to leave, and may have connections that clients keep.)
        self.running.run(f"%services scale {self.dice.choice(list(CELLS))} {self.dice.choice([1, 2, 3])}")

    def flood(self) -> None:
        """Connections that say nothing, and some that say nonsense."""
        held: list[socket.socket] = []
        for number in range(FLOOD):
            with contextlib.suppress(OSError):
                held.append(self._connect())
                if number % 4 == 0:
                    held[-1].sendall(self.dice.randbytes(64) + b"\r\n\r\n")
        time.sleep(FLOOD_SECONDS)
        for connection in held:
            connection.close()

    def leave_streams(self) -> None:
        """Streams over HTTP of which the first bytes are read, and no more."""
        call = request(f"{self.url}/words", json.dumps({"count": 100_000}), f"Bearer {os.environ['NBCOMPOSE_TOKEN']}")
        for _ in range(5):
            with contextlib.suppress(OSError), self._connect() as connection:
                connection.sendall(call)
                connection.recv(256)

    def _connect(self) -> socket.socket:
        port = urlsplit(self.url).port
        assert port is not None
        return socket.create_connection(("127.0.0.1", port), timeout=5)

    def some(self) -> None:
        trouble: Callable[[], None] = self.dice.choice(
            [self.kill_replica, self.kill_replica, self.kill_zygote, self.edit_method, self.edit_method, self.edit_init,
             self.restart, self.scale, self.flood, self.leave_streams]
        )  # fmt: skip
        self.counts[trouble.__name__] += 1
        trouble()

    def _edit(self, what: str, outcome: str) -> None:
        name = self.dice.choice(list(CELLS))
        self.versions[name, what] += 1
        card = self.running.run(self.cell(name)).card
        # A replica that was killed a moment ago cannot be given new code: it is replaced then.
        if outcome not in card and REPLACED not in card:
            raise RuntimeError(f"the card should say {outcome!r} and says:\n{card}")

    def cell(self, name: str) -> str:
        return CELLS[name].format(method=self.versions[name, "method"], init=self.versions[name, "init"])


class HttpLoad:
    """Clients over HTTP, in a thread of this process, until `stop`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ending = threading.Event()
        self.outcomes: Counter[str] = Counter()
        self.durations: list[float] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.is_set():
            load = asyncio.run(generate(f"{self._url}/ask", CLIENTS, 500, 10.0, json.dumps({"text": "a"})))
            self.outcomes.update(load.outcomes)
            self.durations.append(load.p99)


def held(kernel_pid: int) -> Held:
    this = psutil.Process(kernel_pid)
    files = []
    for child in this.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            files.append(child.num_fds())
    return Held(this.memory_info().rss, this.num_fds(), max(files))


def soak(minutes: float, seed: int) -> int:
    faults: list[str] = []
    folder = tempfile.TemporaryDirectory()
    os.environ["TMPDIR"] = folder.name  # of the kernel and its replicas
    with kernel() as running:
        running.run(PREPARE)
        trouble = Trouble(running, "", random.Random(seed))
        for name in CELLS:
            running.run(trouble.cell(name))
        trouble.url = running.run("", "Front.url").value
        os.environ["NBCOMPOSE_TOKEN"] = running.run("", "Front.token").value  # of the load that is made from here
        pid = running.run("import os", "os.getpid()").value
        for clients in (64, 256):
            calm = generate_elsewhere(f"{trouble.url}/ask", clients, 10_000, {"text": "a"})
            print(_calm(calm, clients), flush=True)
            if calm.failures:
                faults.append(f"{calm.failures} of {calm.calls} calls failed while nothing happened: {calm.outcomes}")
        running.run(LOAD)
        http = HttpLoad(trouble.url)
        began, first = time.monotonic(), None
        try:
            while (passed := time.monotonic() - began) < minutes * 60:
                trouble.some()
                if first is None and passed > min(WARM, minutes * 20):
                    first = held(pid)
                time.sleep(trouble.dice.uniform(*PAUSE))
        finally:
            http.stop()
            running.run(STOP_LOAD)
        inside = Counter(dict(running.run("", "dict(outcomes)").value))
        for name in CELLS:
            running.run(f"%services scale {name} 2")
        time.sleep(2.0)
        last = held(pid)
        family = [p.pid for p in psutil.Process(pid).children(recursive=True)]
    left = [pid for pid in family if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]
    files = sorted(p.name for p in Path(folder.name).iterdir() if not p.name.startswith("torch"))
    with open("/proc/net/unix", encoding="ascii", errors="replace") as file:
        sockets = [line.split()[-1] for line in file if any(f".{p}." in line for p in [pid, *family])]
    broken = http.outcomes.total() - http.outcomes["200"]

    print(f"troubles: {', '.join(f'{n} × {what}' for what, n in trouble.counts.most_common())}")
    print(f"inside:   {dict(inside)}")
    print(f"http:     {dict(http.outcomes)}; replicas of Front killed: {trouble.fronts_killed}")
    print(f"held:     after the first minute {first}, in the end {last}")
    if first is None:
        faults.append("it was too short to see a leak")
    elif last.files > first.files + 16 or last.most_files > first.most_files + 8:
        faults.append("files leak")
    elif last.memory > first.memory + GROWTH:
        faults.append("memory leaks")
    faults += [f"from inside, {n} × {what}" for what, n in inside.items() if what != "right"]
    faults += [f"over HTTP, {n} × {s}" for s, n in http.outcomes.items() if s not in ("200", "ConnectionResetError")]
    if broken > trouble.fronts_killed * CLIENTS:
        faults.append(f"{broken} calls over HTTP broke off, more than {trouble.fronts_killed} replicas can have had")
    faults += [f"left: process {p}" for p in left] + [f"left: {f}" for f in files] + [f"left: {s}" for s in sockets]
    for fault in faults:
        print(f"FAULT: {fault}")
    print("passed" if not faults else f"{len(faults)} faults")
    folder.cleanup()
    return 1 if faults else 0


def _calm(load: Load, clients: int) -> str:
    return (
        f"calm:     {load.calls:,} calls of Front → Leaf × 2 over HTTP, {clients} clients: {load.failures} failed, "
        f"{load.rate:,.0f} a second, p50 {load.p50 * 1000:.1f} ms, p99 {load.p99 * 1000:.1f} ms"
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description="A graph among troubles.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    return soak(options.minutes, options.seed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
