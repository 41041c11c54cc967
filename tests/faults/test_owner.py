"""The kernel or the zygote is killed: nothing of ours is left of the one, nothing is lost of the other."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from chain_services import Leaf
from faulty_services import Faulty

from nbcompose._control.engines.local import LocalEngine
from tests.conftest import SERVICES, Running, wait_for_end
from tests.patience import PATIENCE

pytestmark = pytest.mark.system


@contextmanager
def kernel(*options: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """`kernel_program.py`, and what it says that it runs."""
    process = subprocess.Popen(
        [sys.executable, str(SERVICES / "kernel_program.py"), *options],
        env={**os.environ, "NBCOMPOSE_PRELOAD": "json", "PYTHONPATH": str(SERVICES), **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    found: dict[str, Any] = {"children": []}
    try:
        line = process.stdout.readline()
        found = json.loads(line) if line else pytest.fail("the program did not come up")
        yield process, found
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        if process.stdin is not None:
            process.stdin.close()
        for child in found["children"]:
            os.kill(child, signal.SIGKILL)


def sockets_of(pids: list[int]) -> list[str]:
    names = tuple(f".{pid}." for pid in pids)
    with open("/proc/net/unix", encoding="ascii", errors="replace") as file:
        return [line for line in file if "nbcompose" in line and any(name in line for name in names)]


@pytest.mark.parametrize("options", [(), ("--fork-child",)], ids=["alone", "with forked children"])
@pytest.mark.parametrize("zygote", ["1", "0"], ids=["zygote", "cold"])
def test_nothing_is_left_of_a_kernel_that_is_killed(options: tuple[str, ...], zygote: str, tmp_path: Path) -> None:
    place = str(tmp_path)  # where files of ours could be: others of this user may make some at any time elsewhere
    with kernel(*options, NBCOMPOSE_ZYGOTE=zygote, TMPDIR=place, XDG_RUNTIME_DIR=place) as (process, found):
        pids = [pid for pid in found["pids"] if pid is not None]
        assert len(pids) >= 4
        assert sockets_of([*pids, process.pid])
        ours = [n for n in found.get("files", []) if n.startswith("socket:") or n.endswith(("[pidfd]", "[eventpoll]"))]
        assert ours == []  # what a forked child has

        process.kill()

        for pid in pids:
            wait_for_end(pid)
        # A socket of the kernel's would live on in a child that it has forked: that has inherited it.
        assert sockets_of(pids) == []
        for port in found["ports"]:
            socket.create_server(("127.0.0.1", port)).close()
        if not options:
            process.wait()
            assert sockets_of([process.pid]) == []
        assert list(tmp_path.iterdir()) == []


def test_a_zygote_that_imports_ends_with_its_kernel_too() -> None:
    with kernel("--zygote-warming", NBCOMPOSE_PRELOAD="slow_to_import") as (process, found):
        process.kill()
        wait_for_end(found["pids"][0])


def test_a_kernel_that_ends_by_itself_takes_everything_with_it() -> None:
    with kernel() as (process, found):
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
        assert process.wait(PATIENCE) == 0
        for pid in found["pids"]:
            wait_for_end(pid)


def zygote_of(running: Running) -> int:
    engine = running.registry._engine
    assert isinstance(engine, LocalEngine)
    assert engine.zygote_pid is not None
    return engine.zygote_pid


def test_replicas_outlive_the_zygote_and_a_new_one_makes_the_next(running: Running) -> None:
    leaf = running.up(Leaf)
    faulty = running.up(Faulty)
    before = zygote_of(running)

    os.kill(before, signal.SIGKILL)
    wait_for_end(before)
    assert leaf.add(1) == 2

    # A replica of the old zygote is still looked after.
    os.kill(faulty.pid(), signal.SIGKILL)
    status = running.until("Faulty", lambda s: s.restarts == 1 and s.state == "ready")
    assert "it went away" in status.error
    running.registry.scale("Leaf", 2)
    running.registry.scale("Leaf", 3)
    assert zygote_of(running) != before
    assert running.registry.status("Leaf").replicas[2].cold == ""


def test_a_zygote_that_cannot_import_is_done_without() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NBCOMPOSE_PRELOAD", "ends_the_process")
        patch.setenv("PYTHONPATH", str(SERVICES))
        running = Running()
        try:
            assert running.up(Leaf).add(1) == 2
            running.registry.scale("Leaf", 2)
            cold = running.registry.status("Leaf").replicas[1].cold
            assert cold.startswith("the zygote failed: it ended unexpectedly (status 3): cannot go on")
        finally:
            running.close()
