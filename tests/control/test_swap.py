"""New code for real replicas that run: all of them or none, under load, after a crash; and versions that are kept."""

from __future__ import annotations

import linecache
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

import nbcompose
from nbcompose._code.packing import deployment_of
from nbcompose._control import standby
from nbcompose.errors import LaunchError
from tests.conftest import Running, alive, wait_for_end
from tests.control.test_supervisor import Load
from tests.patience import PATIENCE

pytestmark = pytest.mark.system


def counter(tag: str, **options: Any) -> Any:
    """A service whose apis say which code they are, and which instance. It travels by value."""

    class Counter:
        def __init__(self) -> None:
            self.made = (os.getpid(), time.perf_counter())

        @nbcompose.api
        def ask(self) -> tuple[str, int, float]:
            return (tag, *self.made)

        @nbcompose.api
        async def ask_on_loop(self) -> str:
            return tag

    return nbcompose.service(name="Counter", **options)(Counter)


def pids(running: Running) -> dict[int, int]:
    return {r.index: r.pid for r in running.registry.status("Counter").replicas if r.pid is not None}


def test_every_replica_gets_the_new_code_and_keeps_its_instance(running: Running) -> None:
    ask = running.up(counter("one", replicas=3), compare=True).ask
    before = {ask()[1:] for _ in range(60)}
    assert len(before) == 3
    status = running.registry.status("Counter")
    running.deploy(counter("two", replicas=3), compare=True)
    assert running.registry.wait("Counter").version == status.version + 1
    answers = {ask() for _ in range(60)}
    assert {a[0] for a in answers} == {"two"}
    assert {a[1:] for a in answers} == before


def test_a_swap_that_fails_in_one_replica_changes_none(running: Running) -> None:
    ask = running.up(counter("one", replicas=2), compare=True).ask
    spoiled = pids(running)[1]

    class Spoiled:
        """Cannot be rebuilt in one of the replicas."""

        def __reduce__(self) -> Any:
            return _rebuild, (spoiled,)

    def _rebuild(pid: int) -> str:
        if os.getpid() == pid:
            raise OSError("not here")
        return "two"

    captured = Spoiled()

    class Counter:
        def __init__(self) -> None:
            self.made = (os.getpid(), time.perf_counter())

        def tag(self, word: Any = captured) -> Any:
            return word

        @nbcompose.api
        def ask(self) -> Any:
            return (self.tag(), *self.made)

        @nbcompose.api
        async def ask_on_loop(self) -> Any:
            return self.tag()

    Counter.__qualname__ = "counter.<locals>.Counter"
    running.deploy(nbcompose.service(name="Counter", replicas=2)(Counter), compare=True)
    status = running.registry.wait("Counter")
    assert (status.state, status.out_of_date_reason) == ("ready", "OSError: not here")
    assert {ask()[0] for _ in range(30)} == {"one"}
    running.deploy(counter("three", replicas=2), compare=True)
    assert running.registry.wait("Counter").out_of_date_reason == ""
    assert {ask()[0] for _ in range(30)} == {"three"}


def test_tracebacks_have_the_lines_of_the_code_that_serves_also_after_a_swap_that_fails(running: Running) -> None:
    """A file that is edited keeps its name, as under `serve --reload`."""
    file = "/tmp/no/such/folder/counter.py"
    space = {"__name__": "__main__", "api": nbcompose.api, "service": nbcompose.service}
    cell = "@service\nclass Counter:\n    @api\n    def ask(self):\n        raise ValueError({})\n"
    Unmade = type("Unmade", (), {"__reduce__": lambda self: (int, ("not a number",))})

    def version(text: str) -> Any:
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        exec(compile(text, file, "exec"), space)
        return space["Counter"]

    def told() -> str:
        with pytest.raises(ValueError, match="on purpose") as raised:
            ask()
        return str(raised.value.__cause__).strip().partition("\n\nValueError")[0]

    try:
        ask = running.up(version(cell.format("'on purpose, one'")), compare=True).ask
        one = f"Counter.ask\n  File \"{file}\", line 5, in ask\n    raise ValueError('on purpose, one')"
        assert told() == one

        space["unmade"] = Unmade()
        running.deploy(version("\n\n" + cell.format("unmade")), compare=True)
        assert "invalid literal" in running.registry.wait("Counter").out_of_date_reason
        assert told() == one

        running.deploy(version("\n\n" + cell.format("'on purpose, two'")), compare=True)
        running.registry.wait("Counter")
        assert told() == one.replace("line 5", "line 7").replace("one", "two")
    finally:
        del linecache.cache[file]


@pytest.mark.parametrize("api", ["ask", "ask_on_loop"])
def test_a_hundred_swaps_under_load_fail_no_call(running: Running, api: str) -> None:
    proxy = running.up(counter("0", replicas=2, threads=4), compare=True)
    seen: set[str] = set()

    def call() -> None:
        answer = getattr(proxy, api)()
        seen.add(answer if isinstance(answer, str) else answer[0])

    before = pids(running)
    with Load(call, 16) as load:
        for number in range(1, 101):
            running.deploy(counter(str(number), replicas=2, threads=4), compare=True)
            running.registry.wait("Counter")
            if number % 20 == 0:
                load.more(50)
    assert load.errors == []
    assert seen <= set(map(str, range(101)))
    assert proxy.ask_on_loop() == "100"
    assert pids(running) == before


def test_a_replica_that_crashes_after_a_swap_comes_back_with_the_new_code(running: Running) -> None:
    proxy = running.up(counter("one"), compare=True)
    running.deploy(counter("two"), compare=True)
    running.registry.wait("Counter")
    before = pids(running)[0]
    os.kill(before, signal.SIGKILL)
    running.until("Counter", lambda s: s.up == 1 and s.replicas[0].pid != before)
    assert proxy.ask()[0] == "two"


def test_replicas_that_are_added_after_a_swap_have_the_new_code(running: Running) -> None:
    proxy = running.up(counter("one"), compare=True)
    running.deploy(counter("two"), compare=True)
    running.registry.wait("Counter")
    running.registry.scale("Counter", 3)
    assert {proxy.ask()[0] for _ in range(60)} == {"two"}


def test_a_replica_that_is_still_starting_gets_the_new_code_too(running: Running) -> None:
    proxy = running.up(counter("one"), compare=True)
    scaling = running.in_thread(running.registry.scale, "Counter", 3)
    running.until("Counter", lambda s: any(r.state == "starting" for r in s.replicas))
    running.deploy(counter("two"), compare=True)
    running.registry.wait("Counter")
    scaling.result(PATIENCE)
    assert {proxy.ask()[0] for _ in range(60)} == {"two"}


def test_an_http_client_that_stays_connected_sees_the_new_code(running: Running) -> None:
    running.up(counter("one"), compare=True)
    url = running.registry.url("Counter")
    with httpx.Client() as client:
        assert client.post(f"{url}/ask_on_loop", json={}).json() == "one"
        running.deploy(counter("two"), compare=True)
        running.registry.wait("Counter")
        assert client.post(f"{url}/ask_on_loop", json={}).json() == "two"


def slow(tag: str, go: Path) -> Any:
    """As `counter`, but its `__init__` waits for a file."""

    class Counter:
        def __init__(self) -> None:
            while not go.exists():
                time.sleep(0.005)

        @nbcompose.api
        def ask(self) -> str:
            return tag

    Counter.__qualname__ = "counter.<locals>.Counter"
    return nbcompose.service(name="Counter")(Counter)


def test_the_version_that_serves_may_be_wanted_again_while_another_starts(running: Running, tmp_path: Path) -> None:
    proxy = running.up(counter("one"), compare=True)
    before = pids(running)
    running.deploy(slow("two", tmp_path / "go"), compare=True)
    running.until("Counter", lambda s: any(r.phase == "load" for r in s.replicas))
    running.deploy(counter("one"), compare=True)
    assert running.registry.wait("Counter").state == "ready"
    assert pids(running) == before
    assert proxy.ask()[0] == "one"


def test_the_version_that_starts_is_not_started_again(running: Running, tmp_path: Path) -> None:
    proxy = running.up(counter("one"), compare=True)
    for _ in range(2):
        running.deploy(slow("two", tmp_path / "go"), compare=True)
        status = running.until("Counter", lambda s: any(r.phase == "load" for r in s.replicas))
    starting = {r.pid for r in status.replicas if r.phase == "load"}
    assert len(starting) == 1
    (tmp_path / "go").touch()
    running.registry.wait("Counter")
    assert proxy.ask() == "two"
    assert set(pids(running).values()) == starting


def test_a_swap_that_comes_while_another_version_starts_gives_that_up(running: Running, tmp_path: Path) -> None:
    proxy = running.up(counter("one"), compare=True)
    running.deploy(slow("two", tmp_path / "go"), compare=True)
    running.deploy(counter("three"), compare=True)
    status = running.registry.wait("Counter")
    assert proxy.ask()[0] == "three"
    assert status.change_reason.startswith("code swapped, weights kept: ")


def test_a_stop_first_that_is_given_up_loads_the_version_before_again(running: Running, tmp_path: Path) -> None:
    proxy = running.up(counter("one"), compare=True)
    running.registry.deploy(replace(deployment_of(slow("two", tmp_path / "go")), heavy=True), stop_first=True)
    running.until("Counter", lambda s: any(r.phase == "load" for r in s.replicas))
    running.registry.abandon("Counter")
    assert running.registry.wait("Counter").state == "ready"
    assert proxy.ask()[0] == "one"


def test_scaling_while_new_code_comes_is_done(running: Running) -> None:
    running.up(counter("one"), compare=True)
    running.deploy(counter("two"), compare=True)
    running.registry.scale("Counter", 3)
    assert len(pids(running)) == 3


def test_an_edit_keeps_the_scale_and_a_declared_one_counts(running: Running) -> None:
    running.up(counter("one"), compare=True)
    running.registry.scale("Counter", 3)
    running.up(counter("two"))  # a replacement
    assert running.registry.status("Counter").up == 3
    running.up(counter("three", replicas=2))
    assert running.registry.status("Counter").up == 2


def test_an_edit_of_a_service_whose_replica_does_not_come_up_again_replaces_it(running: Running) -> None:
    proxy = running.up(counter("one"), compare=True)
    os.kill(pids(running)[0], signal.SIGKILL)
    running.deploy(counter("two"), compare=True)
    running.until("Counter", lambda s: s.up == 1)
    assert running.registry.wait("Counter").state == "ready"
    assert proxy.ask()[0] == "two"


# -- versions that are kept


@pytest.fixture
def keeping(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A registry that keeps the version that was replaced for a moment."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    running = Running(keep=60.0)
    yield running
    running.close()


def test_a_version_that_was_replaced_answers_nobody_and_can_be_had_back(keeping: Running) -> None:
    proxy = keeping.up(counter("one", replicas=2))
    made = {proxy.ask()[1:] for _ in range(40)}
    before = set(pids(keeping).values())
    with Load(proxy.ask, 8) as load, httpx.Client() as client:
        for tag in ("two", "one", "two", "one"):
            if tag == "two":
                keeping.up(counter("two", replicas=2))
            else:
                keeping.registry.roll_back("Counter")
                keeping.registry.wait("Counter")
            load.more(50)
            url = f"{keeping.registry.url('Counter')}/ask_on_loop"
            client.post(url, json={})  # a connection that was kept may still find the version before, once
            assert {client.post(url, json={}).json() for _ in range(20)} == {tag}
            assert {proxy.ask()[0] for _ in range(20)} == {tag}
    assert load.errors == []
    assert {proxy.ask()[1:] for _ in range(40)} == made
    assert set(pids(keeping).values()) == before


def test_calls_are_counted_over_all_versions_until_it_is_stopped(keeping: Running) -> None:
    proxy = keeping.up(counter("one"))
    heard: list[int] = []
    keeping.registry.subscribe(lambda status: heard.append(status.calls))

    def call(total: int) -> None:
        keeping.registry.proxy("Counter").ask()
        keeping.until("Counter", lambda s: s.calls == total)

    proxy.ask()
    call(2)
    keeping.up(counter("two"))
    call(3)
    keeping.registry.roll_back("Counter")
    keeping.registry.wait("Counter")
    call(4)
    first = pids(keeping)[0]
    for tag in ("three", "four"):
        keeping.up(counter(tag))
    wait_for_end(first)
    call(5)
    keeping.registry.deploy(deployment_of(counter("five")), stop_first=True)
    keeping.registry.wait("Counter")
    call(6)
    keeping.registry.restart("Counter")
    keeping.registry.wait("Counter")
    call(7)
    assert heard == sorted(heard)  # else they would seem to be calls of this moment
    keeping.registry.remove("Counter")
    keeping.up(counter("one"))
    call(1)


def test_rolling_back_keeps_the_scale(keeping: Running) -> None:
    keeping.up(counter("one"))
    keeping.up(counter("two"))
    keeping.registry.scale("Counter", 3)
    keeping.registry.roll_back("Counter")
    keeping.registry.wait("Counter")
    assert keeping.until("Counter", lambda s: s.up == 3).wanted == 3


def test_a_version_is_kept_only_for_a_while(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    running = Running(keep=0.1)
    running.up(counter("one"))
    before = pids(running)[0]
    running.up(counter("two"))
    wait_for_end(before)
    running.registry.roll_back("Counter")
    running.registry.wait("Counter")
    assert running.registry.proxy("Counter").ask()[0] == "one"
    running.close()


def test_only_the_last_version_is_kept(keeping: Running) -> None:
    keeping.up(counter("one"))
    first = pids(keeping)[0]
    keeping.up(counter("two"))
    second = pids(keeping)[0]
    keeping.up(counter("three"))
    wait_for_end(first)
    assert alive(second)


def test_none_is_kept_where_memory_is_short(keeping: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standby, "ROOM", 2**60)
    keeping.up(counter("one"))
    first = pids(keeping)[0]
    keeping.up(counter("two"))
    wait_for_end(first)


def test_none_is_kept_that_holds_another_port(keeping: Running) -> None:
    keeping.up(counter("one"))
    first = pids(keeping)[0]
    keeping.up(counter("two", http={"cors": ["https://example.org"]}))
    wait_for_end(first)


def test_there_is_nothing_to_go_back_to(keeping: Running) -> None:
    keeping.up(counter("one"))
    with pytest.raises(LaunchError, match="Counter has had no other version since it was started"):
        keeping.registry.roll_back("Counter")
