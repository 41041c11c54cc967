"""Versions, scale and restarts of real services, and every way to change one's mind in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from chain_services import Front, Leaf, Mid
from faulty_services import Faulty, InitNeverEnds, InitRaises

import nbcompose
from nbcompose._code.packing import deployment_of
from nbcompose._control import generation, registry, replica_handle
from nbcompose._control.supervisor import Supervisor
from nbcompose._spec import Http
from nbcompose.errors import CycleError, ReplicaDied, ServiceUnavailable, UnknownService
from tests.conftest import Running, alive, wait_for_end
from tests.handles import handle
from tests.patience import PATIENCE, until

pytestmark = pytest.mark.system


def version(number: int, **options: Any) -> Any:
    """A service `Echo` whose code is another one for each number. It travels by value."""

    class Echo:
        @nbcompose.api
        def tag(self, text: str) -> str:
            return f"{text} from {number}"

        @nbcompose.api
        def slow(self, text: str, until: str) -> str:
            while not Path(until).exists():
                time.sleep(0.01)
            return f"{text} from {number}, slowly"

    return nbcompose.service(name="Echo", threads=4, **options)(Echo)


def broken_version() -> Any:
    class Echo:
        def __init__(self) -> None:
            raise ValueError("this version is broken")

        @nbcompose.api
        def tag(self, text: str) -> str:
            return text

    return nbcompose.service(name="Echo")(Echo)


class Load:
    """Threads that call without a pause until they are told to stop."""

    def __init__(self, call: Callable[[], object], threads: int) -> None:
        self.done = 0
        self.errors: list[BaseException] = []
        self._call = call
        self._stop = threading.Event()
        self._counted = threading.Condition()
        self._threads = [threading.Thread(target=self._work) for _ in range(threads)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def more(self, calls: int) -> None:
        """Wait until so many more calls have been answered."""
        with self._counted:
            target = self.done + calls
            assert self._counted.wait_for(lambda: self.done >= target, PATIENCE), "the calls have come to a halt"

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                self._call()
            except Exception as error:
                self.errors.append(error)
            with self._counted:
                self.done += 1
                self._counted.notify_all()


def test_no_call_is_lost_over_twenty_replacements(running: Running) -> None:
    echo = running.up(version(0))
    with Load(lambda: echo.tag("a"), 16) as load:
        for number in range(1, 21):
            running.up(version(number))
            load.more(50)

    assert load.errors == []
    assert echo.tag("b") == "b from 20"
    assert running.registry.status("Echo").version == 21


def test_no_http_request_is_lost_either_on_connections_that_are_kept(running: Running) -> None:
    running.up(version(0))
    url = f"{running.registry.url('Echo')}/tag"
    with contextlib.ExitStack() as clients:
        local = threading.local()

        def post() -> None:
            if not hasattr(local, "client"):
                local.client = clients.enter_context(httpx.Client())
            local.client.post(url, json={"text": "a"}).raise_for_status()

        with Load(post, 8) as load:
            for number in range(1, 11):
                running.up(version(number))
                load.more(50)

    assert load.errors == []


def test_a_call_in_hand_is_finished_by_the_version_that_took_it(running: Running, tmp_path: Path) -> None:
    echo = running.up(version(1))
    call = running.in_thread(echo.slow, "a", str(tmp_path / "go"))
    running.until("Echo", lambda s: any(r.in_flight for r in s.replicas))

    running.up(version(2))

    assert not call.done()
    assert echo.tag("a") == "a from 2"
    (tmp_path / "go").touch()
    assert call.result(PATIENCE) == "a from 1, slowly"


def test_a_stop_that_is_cancelled_has_let_go_of_the_port(running: Running, tmp_path: Path) -> None:
    echo = running.up(version(1))
    call = running.in_thread(echo.slow, "a", str(tmp_path / "go"))
    running.until("Echo", lambda s: any(r.in_flight for r in s.replicas))
    serving = running.registry._supervisors["Echo"].generation
    assert serving is not None

    async def cancelled() -> bool:
        stopping = asyncio.ensure_future(serving.stop(PATIENCE))
        await until(lambda: any(member.state == "stopping" for member in serving.members.values()))
        stopping.cancel()
        await asyncio.wait([stopping])
        return serving.listening is None

    assert running.registry.portal.run(cancelled())
    (tmp_path / "go").touch()
    call.result(PATIENCE)


def test_what_the_notebook_draws_is_not_changed_by_calls(running: Running) -> None:
    echo = running.up(version(1, replicas=2))
    state = random.getstate()
    for _ in range(100):  # more than what is kept of one step's durations
        echo.tag("a")
    running.registry.collect_traces()
    assert random.getstate() == state


def test_dependents_are_not_restarted_and_lose_no_call_when_what_they_call_is_replaced(running: Running) -> None:
    front = running.up(Front, Mid, Leaf)
    pids = {name: running.registry.status(name).replicas[0].pid for name in ("Front", "Mid", "Leaf")}

    with Load(lambda: front.ask(4), 8) as load:
        for _ in range(5):
            running.registry.restart("Leaf")
            running.registry.wait("Leaf")
            load.more(20)

    assert load.errors == []
    now = {name: running.registry.status(name).replicas[0].pid for name in pids}
    assert (now["Front"], now["Mid"]) == (pids["Front"], pids["Mid"])
    assert now["Leaf"] != pids["Leaf"]


def held_version(path: Path) -> Any:
    """One whose `__init__` waits until somebody writes into a fifo."""

    class Echo:
        def __init__(self) -> None:
            path.read_text()

        @nbcompose.api
        def tag(self, text: str) -> str:
            return text

    return nbcompose.service(name="Echo")(Echo)


def test_the_status_says_what_comes_and_whether_there_is_a_way_back(running: Running, tmp_path: Path) -> None:
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    running.up(version(1))
    first = running.registry.status("Echo")
    assert (first.replacing, first.reversible) == ("", False)

    running.deploy(held_version(fifo))
    during = running.until("Echo", lambda s: s.replacing == "new version starting")
    assert (during.state, during.reversible) == ("ready", True)
    fifo.write_text("go")
    after = running.until("Echo", lambda s: not s.replacing and s.version == 2)
    assert after.reversible

    running.registry.restart("Echo")
    assert running.until("Echo", lambda s: bool(s.replacing)).replacing == "restarting"
    fifo.write_text("go")
    running.until("Echo", lambda s: not s.replacing)


def test_a_replacement_that_fails_leaves_the_old_version_serving(running: Running) -> None:
    echo = running.up(version(1))

    running.deploy(broken_version())
    status = running.registry.wait("Echo")

    assert (status.state, status.version) == ("ready", 1)
    assert "this version is broken" in status.error
    assert echo.tag("still") == "still from 1"
    running.up(version(2))
    assert running.registry.status("Echo").error == ""


def test_only_the_calls_in_hand_fail_when_one_of_two_replicas_is_killed_under_load(running: Running) -> None:
    faulty = running.up(nbcompose.service(replicas=2, threads=4)(handle(Faulty).inner))
    victim = running.registry.status("Faulty").replicas[0].pid
    assert victim is not None

    with Load(faulty.pid, 16) as load:
        load.more(100)
        os.kill(victim, signal.SIGKILL)
        running.until("Faulty", lambda s: s.restarts == 1 and s.up == 2)
        load.more(100)

    assert len(load.errors) <= 16
    assert {type(e) for e in load.errors} <= {ReplicaDied}


def test_a_service_whose_only_replica_died_answers_again_by_itself(running: Running) -> None:
    faulty = running.up(Faulty)
    os.kill(faulty.pid(), signal.SIGKILL)

    # Calls wait for the new one.
    with Load(faulty.pid, 1) as load:
        load.more(20)
    assert len(load.errors) <= 1


def test_a_start_that_is_stopped(running: Running) -> None:
    running.deploy(InitNeverEnds)
    status = running.until("InitNeverEnds", lambda s: any(r.phase == "load" for r in s.replicas))
    pid = status.replicas[0].pid
    assert pid is not None

    running.registry.remove("InitNeverEnds")

    wait_for_end(pid)
    with pytest.raises(UnknownService):
        running.registry.status("InitNeverEnds")


def test_a_start_that_is_superseded_by_another(running: Running) -> None:
    def hangs() -> Any:
        class Echo:
            def __init__(self) -> None:
                threading.Event().wait()

            @nbcompose.api
            def tag(self, text: str) -> str:
                return text

        return nbcompose.service(name="Echo", replicas=2)(Echo)

    running.deploy(hangs())
    running.until("Echo", lambda s: any(r.phase == "load" for r in s.replicas))
    running.deploy(hangs())
    assert running.up(version(3)).tag("x") == "x from 3"

    status = running.registry.status("Echo")
    assert (status.version, len(status.replicas)) == (3, 1)
    ours = status.replicas[0].pid
    for pid in running.pids - {ours}:
        wait_for_end(pid)


def test_a_start_that_is_abandoned_leaves_what_was_there(running: Running) -> None:
    echo = running.up(version(1))

    running.deploy(nbcompose.service(name="Echo")(handle(InitNeverEnds).inner))
    running.until("Echo", lambda s: len(s.replicas) == 2)
    running.registry.abandon("Echo")

    assert running.registry.wait("Echo").state == "ready"
    assert echo.tag("x") == "x from 1"
    running.deploy(InitNeverEnds)
    running.registry.abandon("InitNeverEnds")
    assert running.registry.names() == ["Echo"]


def test_a_deploy_in_the_middle_of_a_stop_wins(running: Running) -> None:
    faulty = running.up(nbcompose.service(name="Echo")(handle(Faulty).inner))
    call = running.in_thread(faulty.hold)
    running.until("Echo", lambda s: any(r.in_flight for r in s.replicas))
    removal = running.in_thread(running.registry.remove, "Echo", 1.0)
    running.until("Echo", lambda s: s.state == "stopped")

    echo = running.up(version(5))

    removal.result(PATIENCE)
    with pytest.raises((ServiceUnavailable, ReplicaDied)):
        call.result(PATIENCE)
    assert echo.tag("x") == "x from 5"
    assert running.registry.names() == ["Echo"]


def test_a_stop_in_the_middle_of_a_deploy_in_the_middle_of_a_stop_wins(running: Running) -> None:
    faulty = running.up(nbcompose.service(name="Echo")(handle(Faulty).inner))
    running.in_thread(faulty.hold)
    running.until("Echo", lambda s: any(r.in_flight for r in s.replicas))
    first = running.in_thread(running.registry.remove, "Echo", 1.0)
    running.until("Echo", lambda s: s.state == "stopped")
    running.deploy(version(5))
    second = running.in_thread(running.registry.remove, "Echo", 0.0)

    first.result(PATIENCE)
    second.result(PATIENCE)
    assert running.registry.names() == []
    for pid in running.pids:
        wait_for_end(pid)


def test_scales_that_overlap_end_at_the_last(running: Running) -> None:
    running.up(Faulty)
    scales = [running.in_thread(running.registry.scale, "Faulty", n) for n in (3, 1, 4, 2)]
    for scale in scales:
        scale.result(PATIENCE)

    running.registry.scale("Faulty", 2)
    status = running.registry.status("Faulty")
    assert sorted(r.index for r in status.replicas if r.state == "up") == [0, 1]


def test_a_scale_in_the_middle_of_a_start_counts(running: Running) -> None:
    running.deploy(Faulty)
    running.registry.scale("Faulty", 2)

    assert running.registry.status("Faulty").up == 2


def test_a_scale_to_nothing_is_refused(running: Running) -> None:
    running.up(Faulty)
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="must be a whole number from 1"):
            running.registry.scale("Faulty", wrong)  # type: ignore[arg-type]


def test_a_service_that_failed_starts_anew_when_it_is_deployed_again(running: Running) -> None:
    running.deploy(broken_version())
    assert running.registry.wait("Echo").state == "failed"
    assert running.up(version(2)).tag("x") == "x from 2"


def test_the_port_is_kept_over_versions_and_given_back_in_the_end(running: Running) -> None:
    running.up(version(1))
    url = running.registry.url("Echo")
    running.up(version(2))
    assert running.registry.url("Echo") == url

    port = int(url.rpartition(":")[2])
    running.up(version(3, http={"port": port}))
    assert running.registry.url("Echo") == url
    running.registry.remove("Echo")
    running.up(version(4, http={"port": port}))
    assert running.registry.url("Echo") == url


def test_a_version_on_another_port_that_fails_leaves_the_first_where_it_is(running: Running) -> None:
    running.up(version(1))
    url = running.registry.url("Echo")
    deployment = deployment_of(broken_version())
    running.registry.deploy(replace(deployment, spec=replace(deployment.spec, http=Http(host="localhost"))))
    running.registry.wait("Echo")

    assert running.registry.url("Echo") == url
    assert httpx.post(f"{url}/tag", json={"text": "x"}).json() == "x from 1"


def test_a_circle_is_refused_and_changes_nothing(running: Running) -> None:
    class A:
        b = nbcompose.depends("B")

        @nbcompose.api
        def f(self) -> int:
            return 1

    class B:
        a = nbcompose.depends("A")

        @nbcompose.api
        def f(self) -> int:
            return 1

    running.deploy(nbcompose.service(A))
    with pytest.raises(CycleError, match="──▶"):
        running.deploy(nbcompose.service(B))
    assert running.registry.names() == ["A"]


def test_nothing_is_left_of_many_versions_but_the_last(running: Running) -> None:
    running.up(version(0))
    running.registry.remove("Echo")
    us = psutil.Process()
    before = us.num_fds()
    for number in range(5):
        running.up(version(number, replicas=2))
        running.deploy(InitRaises)
        running.registry.wait("InitRaises")
    running.registry.remove("Echo")
    running.registry.remove("InitRaises")

    assert us.num_fds() <= before + 2  # the pool of shared memory may have grown
    assert not any(alive(pid) for pid in running.pids)


def test_a_replica_that_cannot_come_back_is_given_up(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "BACKOFF", (0.0, 0.0, 0.0))
    here = tmp_path / "here"
    here.touch()

    class Frail:
        def __init__(self) -> None:
            here.read_text()

        @nbcompose.api
        def pid(self) -> int:
            return os.getpid()

    frail = running.up(nbcompose.service(Frail))
    url = running.registry.url("Frail")
    here.unlink()
    os.kill(frail.pid(), signal.SIGKILL)

    status = running.until("Frail", lambda s: s.state == "failed")
    assert "FileNotFoundError" in status.error
    with pytest.raises(ServiceUnavailable, match="Frail"):
        frail.pid()
    with pytest.raises(httpx.ConnectError):  # refused: nobody would answer
        httpx.post(f"{url}/pid", json={})

    here.touch()
    running.registry.restart("Frail")
    assert running.registry.wait("Frail").state == "ready"
    assert running.registry.url("Frail") == url
    assert httpx.post(f"{url}/pid", json={}).status_code == 200


def test_a_replica_that_hears_nothing_is_killed_in_the_end(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_handle, "STOP_WAIT", 0.2)
    pid = running.up(Faulty).pid()
    os.kill(pid, signal.SIGSTOP)

    running.registry.remove("Faulty", grace=0.0)

    assert not alive(pid)


@pytest.mark.parametrize("kept", [False, True])
def test_a_replica_whose_end_nobody_reports_is_not_waited_for(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kept: bool
) -> None:
    """`kept`: its process seems to be there still, as one does that the system keeps."""
    monkeypatch.setattr(replica_handle, "STOP_WAIT", 0.2)
    monkeypatch.setattr(replica_handle, "KILL_WAIT", 0.2)
    if kept:
        monkeypatch.setattr(replica_handle, "_runs", lambda _: True)
    pid = running.up(Faulty).pid()
    zygote = psutil.Process(pid).ppid()
    os.kill(zygote, signal.SIGSTOP)  # which reports how its children end
    try:
        running.in_thread(running.registry.remove, "Faulty", grace=0.0).result(PATIENCE)
        assert not alive(pid)
    finally:
        os.kill(zygote, signal.SIGCONT)
    left = f"Faulty, replica 0: its process {pid} was killed and has not ended within 0.2 s"
    assert (left in caplog.text) is any(left in line for line in running.registry.logs("Faulty")) is kept
    assert running.up(Faulty).pid() != pid


def test_a_service_that_does_not_end_is_not_waited_for(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    released, ends = threading.Event(), Supervisor._end

    async def hang(supervisor: Supervisor, *args: Any) -> None:
        await asyncio.to_thread(released.wait)
        await ends(supervisor, *args)

    pid = running.up(Faulty).pid()
    with monkeypatch.context() as patch:
        patch.setattr(registry, "REMOVE_WAIT", 0.2)
        patch.setattr(Supervisor, "_end", hang)
        running.in_thread(running.registry.remove, "Faulty", grace=0.0).result(PATIENCE)
    wait_for_end(pid)
    assert f"Faulty has not ended within 0.2 s, and is not waited for any more: its processes were killed ({pid})" in (
        caplog.text
    )
    assert running.registry.names() == []
    released.set()


def test_the_end_of_one_registry_is_not_held_up_by_a_replica_that_hears_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "STOP_WAIT", 0.2)
    monkeypatch.setenv("NBCOMPOSE_PRELOAD", "json")
    running = Running()
    pid = running.up(Faulty).pid()
    os.kill(pid, signal.SIGSTOP)

    running.registry.stop(grace=0.0)

    wait_for_end(pid)
