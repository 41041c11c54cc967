"""A process that the system has stopped is seen, routed round and replaced; one that is busy, or traced, is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from chain_services import Front, Leaf, Mid
from faulty_services import Faulty
from held_services import Runaway

import nbcompose
from nbcompose._control import publisher
from nbcompose._host import memory
from nbcompose._host.lifetime import is_halted
from nbcompose._notebook.display import ServicesTable
from nbcompose._tracing.spans import CallContext, current_call
from nbcompose.errors import ServiceUnavailable
from tests.conftest import Running, wait_for_end
from tests.handles import handle
from tests.patience import PATIENCE, wait_until

pytestmark = pytest.mark.system


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner looks often."""
    monkeypatch.setattr(publisher, "LOOK", 0.05)


def faulty(replicas: int = 1, replace_after: float = 0.0) -> nbcompose.Service:
    traffic = {"replace_after": replace_after}
    return handle(nbcompose.service(replicas=replicas, threads=4, traffic=traffic)(handle(Faulty).inner))


def test_one_of_two_is_routed_round_and_comes_back(running: Running) -> None:
    proxy = running.up(faulty(2))
    pids = {r.pid for r in running.registry.status("Faulty").replicas}
    halted = proxy.pid()
    os.kill(halted, signal.SIGSTOP)
    status = running.until("Faulty", lambda s: s.up == 1)
    assert status.state == "ready"
    assert "was stopped (SIGSTOP)" in repr(ServicesTable([status]))
    assert "1 of 2" in repr(ServicesTable([status]))
    assert {proxy.pid() for _ in range(20)} == pids - {halted}
    url = f"{running.registry.url('Faulty')}/pid"
    assert {httpx.post(url, json={}).json() for _ in range(10)} == pids - {halted}

    os.kill(halted, signal.SIGCONT)
    running.until("Faulty", lambda s: s.up == 2)
    wait_until(lambda: proxy.pid() == halted, "it is called again")
    assert running.registry.status("Faulty").restarts == 0


def test_the_only_one_is_not_ready_and_neither_is_what_is_above(running: Running) -> None:
    front = running.up(Front, Mid, Leaf)
    [replica] = running.registry.status("Leaf").replicas
    assert replica.pid is not None
    os.kill(replica.pid, signal.SIGSTOP)
    status = running.until("Leaf", lambda s: s.state == "waiting" and "SIGSTOP" in s.reason)
    shown = repr(ServicesTable([status]))
    assert shown.count("SIGSTOP") == 1
    assert f"kill -CONT {replica.pid} lets it go on" in shown
    running.until("Front", lambda s: s.state == "waiting")
    ready = f"{running.registry.url('Mid')}/readyz"
    wait_until(lambda: httpx.get(ready).status_code == 503, "what is above is not ready")
    assert "SIGSTOP" in httpx.get(ready).text
    token = current_call.set(CallContext(time.monotonic() + 1))
    with pytest.raises(ServiceUnavailable, match="its process was stopped"):
        running.registry.proxy("Leaf").add(1)
    current_call.reset(token)

    os.kill(replica.pid, signal.SIGCONT)
    running.until("Front", lambda s: s.state == "ready")
    assert httpx.get(ready).status_code == 200
    assert front is not None


def test_it_is_replaced_after_a_while(running: Running) -> None:
    proxy = running.up(faulty(replace_after=0.5))
    before = proxy.pid()
    os.kill(before, signal.SIGSTOP)
    running.until("Faulty", lambda s: s.state == "waiting" or s.restarts == 1)
    assert proxy.pid() != before
    wait_for_end(before)
    status = running.until("Faulty", lambda s: s.state == "ready" and len(s.replicas) == 1)
    assert "its process was stopped, by SIGSTOP or the like), and was replaced" in status.error
    assert status.restarts == 1


def test_not_where_there_is_no_room(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = running.up(faulty(replace_after=0.2))
    before = proxy.pid()
    monkeypatch.setattr(memory, "available", lambda: 0)
    os.kill(before, signal.SIGSTOP)
    running.until("Faulty", lambda s: any("no room for two" in note for note in s.stuck))
    os.kill(before, signal.SIGCONT)
    running.until("Faulty", lambda s: s.state == "ready")
    assert proxy.pid() == before


def test_a_service_of_one_that_is_stopped_can_be_removed_at_once(running: Running) -> None:
    proxy = running.up(faulty())
    pid = proxy.pid()
    os.kill(pid, signal.SIGSTOP)
    running.until("Faulty", lambda s: s.state == "waiting")
    running.registry.remove("Faulty")
    wait_for_end(pid)


# -- what is none


@pytest.fixture
def traced() -> Iterator[subprocess.Popen[bytes]]:
    """A process that a debugger holds."""
    program = (
        "import ctypes, os, signal; ctypes.CDLL(None).ptrace(0, 0, None, None); os.kill(os.getpid(), signal.SIGTRAP)"
    )
    process = subprocess.Popen([sys.executable, "-c", program])
    yield process
    process.kill()
    process.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="ptrace is asked for as Linux has it")
def test_one_that_a_debugger_holds_is_not_stopped(traced: subprocess.Popen[bytes]) -> None:
    def state() -> str:
        return Path(f"/proc/{traced.pid}/stat").read_text().rpartition(")")[2].split()[0]

    wait_until(lambda: state() in "tT", "the debugger has it")
    assert state() == "t"
    assert not is_halted(traced.pid)


def test_one_that_is_busy_is_not_stopped(running: Running, tmp_path: Path) -> None:
    proxy = running.up(nbcompose.service(threads=2, traffic={"interrupt_after": 0})(handle(Runaway).inner))
    for call in (proxy.loop, lambda: proxy.stuck(str(tmp_path / "inside"))):
        running.in_thread(call)
    wait_until((tmp_path / "inside").exists, "it is there")
    assert not is_halted(proxy.pid())


def test_a_stopped_process_is_told_whatever_its_name() -> None:
    program = "import ctypes; ctypes.CDLL(None).prctl(15, b'a) R 1 ('); print(flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdin is not None
    process.stdout.readline()
    assert not is_halted(process.pid)
    process.send_signal(signal.SIGSTOP)
    wait_until(lambda: is_halted(process.pid), "it is stopped")
    process.send_signal(signal.SIGCONT)
    wait_until(lambda: not is_halted(process.pid), "it goes on")
    process.stdin.close()
    process.stdout.close()
    assert process.wait(PATIENCE) is not None
