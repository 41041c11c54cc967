"""Services together: readiness, missing dependencies, order, routes, and who is told of changes."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from dataclasses import replace
from typing import Any

import httpx
import psutil
import pytest
from chain_services import Asks, Front, Leaf, Mid
from faulty_services import Faulty, InitNeverEnds, InitRaises

import nbcompose
from nbcompose._code.packing import deployment_of
from nbcompose._control.registry import Registry
from nbcompose._control.status import Status
from nbcompose._rpc.connection import ConnectionCounts
from nbcompose.errors import PortInUse, ReplicaDied, ServiceUnavailable, UnknownService
from tests.conftest import Running, alive
from tests.handles import handle
from tests.patience import PATIENCE, wait_until

pytestmark = pytest.mark.system


def test_a_service_waits_for_one_that_does_not_exist_yet(running: Running) -> None:
    running.deploy(Front)
    status = running.registry.wait("Front")
    assert (status.state, status.reason) == ("waiting", "waiting for Mid, Leaf")
    ready = f"{running.registry.url('Front')}/readyz"
    response = httpx.get(ready)
    assert response.status_code == 503
    assert [r.partition(":")[0] for r in response.json()["reasons"]] == ["Mid", "Leaf"]

    running.deploy(Mid)
    running.deploy(Leaf)
    running.until("Front", lambda s: s.state == "ready")
    assert running.registry.proxy("Front").ask(1) == {"twice": 2, "plus": 2}
    assert httpx.get(ready).status_code == 200


def test_an_init_that_calls_what_does_not_exist_yet_does_not_hold_up_the_notebook(running: Running) -> None:
    running.deploy(Asks)
    status = running.registry.wait("Asks")
    assert (status.state, status.reason) == ("waiting", "waiting for Leaf")

    running.up(Leaf)
    running.until("Asks", lambda s: s.state == "ready")
    assert running.registry.proxy("Asks").value() == 3


def test_a_crash_below_is_no_crash_above(running: Running) -> None:
    running.up(Front, Mid, Leaf)
    front = running.registry.status("Front").replicas[0].pid
    running.registry.remove("Leaf")

    status = running.registry.status("Front")
    assert (status.state, status.reason) == ("waiting", "waiting for Mid, Leaf")
    with pytest.raises(ServiceUnavailable, match="Leaf does not run: it was stopped"):
        running.registry.proxy("Mid").twice(1)
    running.up(Leaf)
    assert running.until("Front", lambda s: s.state == "ready").replicas[0].pid == front


def test_services_are_listed_below_first(running: Running) -> None:
    running.up(Front, Mid, Leaf)
    assert [s.name for s in running.registry.statuses()] == ["Leaf", "Mid", "Front"]


def test_an_unknown_name_lists_the_known_ones(running: Running) -> None:
    running.up(Leaf)
    for ask in (running.registry.status, running.registry.remove, running.registry.restart, running.registry.logs):
        with pytest.raises(UnknownService, match="no service is called 'Writer'; there are: Leaf"):
            ask("Writer")


def test_a_port_in_use_names_the_process_and_changes_nothing(running: Running) -> None:
    running.up(Leaf)
    port = int(running.registry.url("Leaf").rpartition(":")[2])
    with pytest.raises(PortInUse, match=f"Mid: port {port} "):
        running.deploy(nbcompose.service(http={"port": port})(handle(Mid).inner))
    assert running.registry.names() == ["Leaf"]


def test_a_device_that_is_not_there_lists_those_that_are(running: Running) -> None:
    running.deploy(nbcompose.service(device="cuda:63")(handle(Leaf).inner))
    status = running.registry.wait("Leaf")
    assert status.state == "failed"
    assert "'cuda:63'" in status.error
    assert "cpu" in status.error


def test_memory_that_is_not_there_is_a_note_or_with_strict_an_error(running: Running) -> None:
    running.up(nbcompose.service(resources={"memory": "900TiB"})(handle(Leaf).inner))
    status = running.registry.status("Leaf")
    assert any("asks for 900 TiB" in note for note in status.all_notes)

    strict = nbcompose.service(name="Strict", resources={"memory": "900TiB"})(handle(Leaf).inner)
    deployment = deployment_of(handle(strict))
    running.registry.deploy(replace(deployment, spec=replace(deployment.spec, strict=True)))
    status = running.registry.wait("Strict")
    assert status.state == "failed"
    assert "asks for 900 TiB" in status.error


def test_memory_in_use_is_watched(running: Running) -> None:
    running.up(nbcompose.service(resources={"memory": "1MiB"})(handle(Leaf).inner))
    status = running.until("Leaf", lambda s: s.memory is not None)
    assert status.memory is not None
    assert status.memory > 2**20
    assert any("more than the 1 MiB it asks for" in n for n in status.notes)


def test_the_calls_between_services_are_counted(running: Running) -> None:
    front = running.up(Front, Mid, Leaf)
    for _ in range(3):
        front.ask(1)
    leaf = running.until("Front", lambda s: s.traffic.get("Leaf", ConnectionCounts()).calls == 3).traffic["Leaf"]
    assert leaf.sent > 0
    assert leaf.received > 0
    assert leaf.in_flight == 0
    assert running.until("Mid", lambda s: s.traffic.get("Leaf", ConnectionCounts()).calls == 6)


def test_what_replicas_print_is_in_the_log(running: Running) -> None:
    faulty = running.up(Faulty)
    faulty.prints(["one", "two"])
    faulty.prints([f"\r{n}%" for n in range(0, 101, 10)], end="")
    faulty.prints(["", "three"])
    faulty.prints(["the end"])
    wait_until(lambda: "the end" in running.registry.logs("Faulty"), "the last line is in the log")
    assert running.registry.logs("Faulty") == ["one", "two", "100%", "", "three", "the end"]


def test_huge_output_is_bounded(running: Running) -> None:
    faulty = running.up(Faulty)
    faulty.prints(["x" * 1_000_000] * 20)
    faulty.prints(["the end"])
    wait_until(lambda: running.registry.logs("Faulty", 1) == ["the end"], "the last line is in the log")
    assert sum(map(len, running.registry.logs("Faulty", 10**6))) <= 4 * 2**20


AGAIN = "──── Faulty is started again; what is above was written before ────"


@pytest.mark.parametrize("dies", [True, False])
def test_the_log_of_an_earlier_run_can_be_read(running: Running, dies: bool) -> None:
    faulty = running.up(Faulty)
    faulty.prints(["the first run"])
    if dies:
        with pytest.raises(ReplicaDied):
            faulty.exits(3)
        running.until("Faulty", lambda s: s.restarts == 1 and s.state == "ready")
    running.registry.remove("Faulty")
    before = running.registry.logs("Faulty")
    assert before[0] == "the first run"
    assert any("replica 0 ended (exit status 3)" in line for line in before) is dies
    faulty = running.up(Faulty)
    assert running.registry.logs("Faulty") == [*before, AGAIN]
    faulty.prints(["the second run"])
    wait_until(lambda: running.registry.logs("Faulty", 1) == ["the second run"], "the last line is in the log")
    assert running.registry.logs("Faulty") == [*before, AGAIN, "the second run"]
    mark = running.registry.log_lines("Faulty", 2)[0]
    assert mark.level == "INFO"
    running.up(Faulty)  # another version is no other run
    assert running.registry.logs("Faulty") == [*before, AGAIN, "the second run"]


def test_the_log_of_a_failed_start_can_be_read_after_a_good_one(running: Running) -> None:
    running.deploy(InitRaises)
    assert running.registry.wait("InitRaises").state == "failed"
    before = running.registry.logs("InitRaises")
    assert "still fine" in before
    running.up(nbcompose.service(name="InitRaises")(handle(Leaf).inner))
    assert running.registry.logs("InitRaises") == [*before, AGAIN.replace("Faulty", "InitRaises")]


def test_a_first_run_and_one_after_nothing_was_written_have_no_line_above(running: Running) -> None:
    for _ in range(2):
        running.up(Leaf)
        assert running.registry.logs("Leaf") == []
        running.registry.remove("Leaf")


def test_the_logs_of_several_replicas_say_whose_they_are(running: Running) -> None:
    running.deploy(nbcompose.service(replicas=2)(handle(InitRaises).inner))
    running.registry.wait("InitRaises")
    said = {line.replica for line in running.registry.log_lines("InitRaises", 100) if line.text == "still fine"}
    assert said & {0, 1}


def test_a_subscriber_that_fails_hurts_nobody(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    def fails(status: Status) -> None:
        raise RuntimeError("a subscriber's mistake")

    unsubscribe = running.registry.subscribe(fails)
    try:
        assert running.up(Leaf).add(1) == 2
    finally:
        unsubscribe()
    assert "failed on a change of Leaf" in caplog.text


@pytest.mark.usefixtures("interrupts")
def test_an_interrupt_ends_the_waiting_and_nothing_else(running: Running) -> None:
    running.deploy(InitNeverEnds)
    running.until("InitNeverEnds", lambda s: any(r.phase == "load" for r in s.replicas))
    main = threading.main_thread().ident
    assert main is not None
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT)).start()  # most likely while it waits
        running.registry.wait("InitNeverEnds")

    assert running.registry.status("InitNeverEnds").state == "starting"


def _in_a_fork(registry: Registry, pid: int, answers: Any) -> None:
    registry.stop()
    answers.put(alive(pid))


def test_a_forked_child_of_the_kernel_stops_nothing(running: Running) -> None:
    leaf = running.up(Leaf)
    pid = running.registry.status("Leaf").replicas[0].pid
    assert pid is not None
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=_in_a_fork, args=(running.registry, pid, answers))
    child.start()
    assert answers.get()
    child.join(PATIENCE)
    assert leaf.add(1) == 2


def test_a_registry_that_is_stopped_leaves_nothing_and_may_be_stopped_twice() -> None:
    us = psutil.Process()
    others = us.children(recursive=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NBCOMPOSE_PRELOAD", "json")
        for attempt in range(3):
            if attempt == 1:
                before = us.num_fds()
            registry = Registry()
            registry.start()
            for service in (Front, Mid, Leaf):
                registry.deploy(deployment_of(handle(service)))
            assert registry.wait("Front").state == "ready"
            front = registry.proxy("Front")
            assert front.ask(1) == {"twice": 2, "plus": 2}
            children = us.children(recursive=True)
            registry.stop()
            registry.stop()
            assert registry.names() == []
            with pytest.raises(ServiceUnavailable):
                front.ask(1)
    assert us.num_fds() <= before
    assert not [c for c in children if c not in others and alive(c.pid)]
