"""Who dies, when, under load: what is lost, and what is left. (The owner's end is in test_owner.py.)"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from chain_services import Front, Leaf, Mid

import nbcompose
from nbcompose._control import generation
from nbcompose._control.engines.local import LocalEngine
from nbcompose._control.status import Status
from nbcompose._host import memory
from nbcompose._replica.metrics import ApiSummary
from nbcompose.errors import ReplicaDied
from tests.conftest import Running, wait_for_end
from tests.control.test_supervisor import Load
from tests.handles import handle
from tests.patience import PATIENCE

pytestmark = pytest.mark.system


class Dies:
    """Its replica ends in the middle of calls."""

    @nbcompose.api
    def fine(self) -> int:
        return os.getpid()

    @nbcompose.api
    def die(self, code: int = 3) -> None:
        os._exit(code)

    @nbcompose.api
    async def items(self) -> AsyncIterator[int]:
        yield os.getpid()
        os.kill(os.getpid(), signal.SIGKILL)


class Asks:
    dies = nbcompose.depends("Dies")

    @nbcompose.api
    def go(self) -> None:
        self.dies.die()


CALLERS = 16
SERVICES = {
    handle(service).name: nbcompose.service(replicas=2, threads=4)(handle(service).inner)
    for service in (Front, Mid, Leaf)
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where files of ours would be left."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def environment(folder: Path) -> dict[str, str]:
    return {"NBCOMPOSE_PRELOAD": "json", "TMPDIR": str(folder)}


def kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def zygote(running: Running) -> int | None:
    assert isinstance(running.registry._engine, LocalEngine)
    return running.registry._engine.zygote_pid


def replica(running: Running, service: str, index: int = 0) -> int | None:
    return running.registry.status(service).replicas[index].pid


def kill_replica(service: str) -> Callable[[Running], None]:
    def disturb(running: Running) -> None:
        kill(replica(running, service))
        running.until(service, lambda s: s.restarts == 1 and s.up == 2)

    return disturb


def kill_all_replicas(running: Running) -> None:
    for index in range(2):
        kill(replica(running, "Leaf", index))
    running.until("Leaf", lambda s: s.restarts == 2 and s.up == 2)


def kill_zygote(running: Running) -> None:
    pid = zygote(running)
    kill(pid)
    wait_for_end(pid or 0)


def kill_both(running: Running) -> None:
    kill(zygote(running))
    kill_replica("Mid")(running)


def kill_one_that_starts(running: Running) -> None:
    scaling = running.in_thread(running.registry.scale, "Leaf", 3)
    status = running.until("Leaf", lambda s: any(r.state == "starting" and r.pid for r in s.replicas))
    kill(next(r.pid for r in status.replicas if r.state == "starting"))
    scaling.exception()  # it says so, where the replica had not come up
    running.until("Leaf", lambda s: s.state == "ready" and s.up >= 2)


def kill_those_that_drain(running: Running) -> None:
    old = {r.pid for r in running.registry.status("Mid").replicas}
    running.registry.restart("Mid")
    running.until("Mid", lambda s: s.version == 2 and s.up == 2 and not s.replacing)
    for pid in old:
        try:
            kill(pid)
        except ProcessLookupError:  # it had nothing in hand
            continue


def replace_all(running: Running) -> None:
    for name in SERVICES:
        running.registry.restart(name)
        running.until(name, lambda s: s.version == 2 and s.up == 2 and not s.replacing)


def scale_down(running: Running) -> None:
    for name in SERVICES:
        running.registry.scale(name, 1)


IN_HAND, NOTHING = CALLERS, 0


@pytest.mark.parametrize(
    ("disturb", "lost"),
    [
        pytest.param(kill_replica("Front"), IN_HAND, id="a replica of the entry"),
        pytest.param(kill_replica("Mid"), IN_HAND, id="a replica in the middle"),
        pytest.param(kill_replica("Leaf"), IN_HAND, id="a replica below"),
        pytest.param(kill_all_replicas, 2 * IN_HAND, id="all replicas below"),  # one after the other
        pytest.param(kill_both, IN_HAND, id="the zygote and a replica"),
        pytest.param(kill_those_that_drain, IN_HAND, id="replicas that drain"),
        pytest.param(kill_one_that_starts, NOTHING, id="a replica that starts"),
        pytest.param(kill_zygote, NOTHING, id="the zygote"),
        pytest.param(replace_all, NOTHING, id="none: all are replaced"),
        pytest.param(scale_down, NOTHING, id="none: half of them are stopped"),
    ],
)
def test_what_is_lost_and_left(running: Running, folder: Path, disturb: Callable[[Running], None], lost: int) -> None:
    front = running.up(*SERVICES.values())
    with Load(lambda: front.ask(1), CALLERS) as load:
        load.more(100)
        disturb(running)
        load.more(100)
    assert {type(error) for error in load.errors} <= {ReplicaDied}
    assert len(load.errors) <= lost
    assert front.ask(2) == {"twice": 4, "plus": 3}

    running.clear()
    for pid in running.pids:
        wait_for_end(pid)
    with open("/proc/net/unix", encoding="ascii", errors="replace") as file:
        assert [line for line in file if any(f".{pid}." in line for pid in running.pids)] == []
    assert list(folder.iterdir()) == []


def test_a_service_that_runs_out_of_memory_says_so_and_goes_on(running: Running) -> None:
    class Large:
        @nbcompose.api
        def take(self, count: int) -> int:
            import resource

            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + 64 * 2**20, resource.RLIM_INFINITY))
            try:
                return len(bytes(count))
            finally:
                resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    large = running.up(nbcompose.service(Large))
    with pytest.raises(MemoryError):
        large.take(2**30)
    assert large.take(1024) == 1024
    assert running.registry.status("Large").restarts == 0


def back(running: Running, restarts: int) -> Status:
    """Wait until the service that died is ready again."""
    return running.until("Dies", lambda s: s.restarts == restarts and s.state == "ready")


def test_calls_that_died_with_their_replica_have_failed(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "BACKOFF", (0.0,) * 8)
    began = time.time()
    running.registry.record(True)
    running.deploy(nbcompose.service(Dies))
    asks = running.up(nbcompose.service(Asks))
    dies = running.registry.proxy("Dies")
    fine = 0
    for times in range(1, 4):
        for _ in range(times):
            dies.fine()  # not reported yet, when the replica dies
            fine += 1
        with pytest.raises(ReplicaDied, match="exit status 3"):
            dies.die()
        back(running, times)
    with pytest.raises(ReplicaDied):
        asks.go()
    back(running, 4)
    with pytest.raises(httpx.TransportError):
        httpx.post(f"{running.registry.url('Dies')}/die", json={"code": 5})
    back(running, 5)
    with pytest.raises(ReplicaDied, match="SIGKILL"):
        list(dies.items())
    status = back(running, 6)
    assert status.counts["fine"] == ApiSummary(answered=fine)
    assert status.counts["die"] == ApiSummary(failed=5)
    assert status.counts["items"] == ApiSummary(failed=1)

    traces = running.registry.collect_traces().latest()
    spans = [span for trace in traces for span in trace if span.start >= began]  # and none of another test
    died = [span for span in spans if span.error == "ReplicaDied" and span.service == "Dies"]
    assert sorted(span.api for span in died) == ["die"] * 5 + ["items"]
    assert all(0 <= span.duration < PATIENCE and span.start > 1e9 for span in died)
    assert len([span for span in spans if span.api == "fine" and not span.error]) == fine
    caller = next(span for span in spans if span.service == "Asks")
    below = next(span for span in died if span.parent_id == caller.span_id)
    assert (below.trace_id, caller.error) == (caller.trace_id, "ReplicaDied")
    recorded = running.registry.recorded(died)
    assert {recorded[span.span_id].why_not.partition(";")[0] for span in died} == {
        "gone with its replica: exit status 3",
        "gone with its replica: exit status 5",
        "gone with its replica: killed by SIGKILL",
    }


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (7, 8, "killed by SIGKILL, since memory had run out"),
        (7, 7, "killed by SIGKILL"),
        (None, None, "killed by SIGKILL; SIGKILL is also what the system sends when memory runs out"),
    ],
)
def test_whether_memory_had_run_out_is_said(
    running: Running, monkeypatch: pytest.MonkeyPatch, before: int | None, after: int | None, said: str
) -> None:
    publisher = running.registry._publisher
    monkeypatch.setattr(memory, "oom_kills", lambda: after)
    running.deploy(nbcompose.service(Dies))
    running.until("Dies", lambda s: s.state == "ready")
    monkeypatch.setattr(publisher, "_oom_kills", (before, before))
    with pytest.raises(ReplicaDied) as caught:
        list(running.registry.proxy("Dies").items())
    assert str(caught.value).endswith(f": {said}")
