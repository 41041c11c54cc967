"""Starts a graph as one of the three frameworks serves it, and stops every process of it again.

Every process inherits `BENCH_RUN`, a mark by which all of them are found, whoever their parent is by then.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
START_LIMIT = 180.0
STOP_LIMIT = 15.0

Graph = Literal["front", "inference"]
MODULES: dict[Graph, str] = {
    "front": "benchmarks.services:Front",
    "inference": "benchmarks.inference_graph:InferenceGraph",
}


@dataclass(frozen=True, slots=True)
class Framework:
    """How one of them is installed and started. `command` takes the graph and the port.

    `root` is the folder that its processes import this package from, and ours `nbcompose` too.
    """

    name: str
    label: str
    python: Path
    command: Callable[[Path, Graph, int], list[str]]
    root: Path = ROOT

    @property
    def installed(self) -> bool:
        return self.python.exists()


def _serve_ours(python: Path, graph: Graph, port: int) -> list[str]:
    return [str(python.parent / "nbcompose"), "serve", MODULES[graph], "--port", str(port)]


def _serve_bentoml(python: Path, graph: Graph, port: int) -> list[str]:
    return [str(python), "-m", "bentoml", "serve", MODULES[graph], "--host", "127.0.0.1", "--port", str(port)]


def _serve_ray(python: Path, graph: Graph, port: int) -> list[str]:
    return [str(python), "-m", "benchmarks.peers.ray_app", graph, str(port)]


OURS = Framework("nbcompose", "nbcompose", Path(sys.executable), _serve_ours)
BENTOML = Framework("bentoml", "BentoML", ROOT / ".venv-bentoml/bin/python", _serve_bentoml)
RAY = Framework("ray", "Ray Serve", ROOT / ".venv-ray/bin/python", _serve_ray)


class StartError(Exception):
    """A graph did not come up; the message ends with what it printed last."""


class Server:
    """A graph that was started: where it answers, and its processes."""

    def __init__(self, framework: Framework, port: int, mark: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.framework = framework
        self.url = f"http://127.0.0.1:{port}"
        self.pid = process.pid  # of its first process
        self._port = port
        self._mark = mark
        self._process = process
        self._log = log
        self._started = time.perf_counter()

    def post(self, path: str, body: object, timeout: float = 120) -> Any:
        """The decoded answer; OSError or ValueError when there is none, or it is not a 200."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=timeout)
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = response.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"POST {path}: {error!r}") from error
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(f"POST {path}: {response.status} {content[:300].decode(errors='replace')}")
        # BentoML answers a str as bare text.
        return json.loads(content) if "json" in response.headers.get_content_type() else content.decode()

    def first_answer(self, path: str, body: object, timeout: float = 30) -> Any:
        """Asks until there is an answer; StartError when the process ends first, or `START_LIMIT` passes."""
        deadline = time.monotonic() + START_LIMIT
        while True:
            try:
                return self.post(path, body, timeout)
            except (OSError, ValueError) as error:
                self._check_alive(deadline, error)
                time.sleep(0.02)

    @property
    def age(self) -> float:
        """Seconds since its first process was started."""
        return time.perf_counter() - self._started

    def pss(self) -> float:
        """Proportional memory of all its processes, in MB (10^6 bytes)."""
        return sum(pss(pid) for pid in marked(self._mark))

    def printed(self, marker: str) -> str:
        """What follows `marker` on the line that its first process printed; waits for it. StartError as above."""
        deadline = time.monotonic() + START_LIMIT
        while True:
            for line in self._log.read_text(errors="replace").splitlines():
                if line.startswith(marker):
                    return line.removeprefix(marker)
            self._check_alive(deadline, f"did not print {marker!r}")
            time.sleep(0.02)

    def _check_alive(self, deadline: float, reason: object) -> None:
        said = "\n".join(self._log.read_text(errors="replace").splitlines()[-12:])
        if self._process.poll() is not None:
            raise StartError(f"ended with code {self._process.returncode}; it printed:\n{said}")
        if time.monotonic() > deadline:
            raise StartError(f"not ready in {START_LIMIT:.0f} s ({reason}); it printed:\n{said}")


@contextmanager
def serving(framework: Framework, graph: Graph = "front", command: list[str] | None = None) -> Iterator[Server]:
    """The graph while the block runs; it may still be starting when the block begins. See `Server.first_answer`."""
    BUILD.mkdir(exist_ok=True)
    port, mark = _free_port(), uuid.uuid4().hex
    log = BUILD / f"bench-{framework.label.replace(' ', '-')}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command or framework.command(framework.python, graph, port),
            cwd=framework.root,
            env=environment(framework, mark),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Server(framework, port, mark, process, log)
    finally:
        _stop(process, mark)


def end_cleanly() -> None:
    """From now on SIGTERM is a `KeyboardInterrupt` too, and neither signal is heard after the first.

    What was started has to be ended then, which must not be interrupted. To be called by a program's `main`.
    """

    def interrupt(*_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)


def environment(framework: Framework, mark: str) -> dict[str, str]:
    return {
        **os.environ,
        "BENCH_RUN": mark,
        "BENCH_FRAMEWORK": framework.name,
        "PYTHONPATH": str(framework.root),
        "PATH": f"{framework.python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "HF_HOME": os.environ.get("HF_HOME", str(ROOT / "models")),
        "HF_HUB_OFFLINE": "1",
        "BENTOML_HOME": str(BUILD / "bentoml-home"),
        "BENTOML_DO_NOT_TRACK": "true",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def marked(mark: str) -> list[int]:
    """The processes that were started with this mark in their environment."""
    wanted = f"BENCH_RUN={mark}".encode()
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if wanted in (entry / "environ").read_bytes():
                    pids.append(int(entry.name))
            except OSError:  # it ended meanwhile, or is not ours
                continue
    return pids


def _stop(process: subprocess.Popen[bytes], mark: str) -> None:
    """Asks the first process to end, then makes sure that no other is left."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + STOP_LIMIT
    while time.monotonic() < deadline and (process.poll() is None or marked(mark)):
        time.sleep(0.05)
    for pid in marked(mark):
        os.kill(pid, signal.SIGKILL)
    process.wait()


def pss(pid: int) -> float:
    """Proportional memory of a process, in MB (10^6 bytes); 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("Pss:")), 0.0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
