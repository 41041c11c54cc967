"""What every engine must do: the same tests, whichever way a replica comes into the world."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from chain_services import Asks, Front, Leaf, Mid
from faulty_services import (
    Above,
    Faulty,
    Hooks,
    InitExits,
    InitRaises,
    InitSegfaults,
    OwnError,
)
from narrow_entry import Below, Entry
from stream_argument_services import Passing, Pipeline, Refiner, Writer
from stream_services import Words

from nbcompose import service
from nbcompose.errors import ReplicaDied, ServiceUnavailable
from tests import tracebacks
from tests.conftest import Running, wait_for_end
from tests.handles import handle
from tests.patience import PATIENCE, wait_until

pytestmark = pytest.mark.system


def test_services_that_depend_on_one_another_answer(running: Running, environment: dict[str, str]) -> None:
    front = running.up(Front, Mid, Leaf)

    assert front.ask(4) == {"twice": 8, "plus": 5}
    cold = running.registry.status("Front").replicas[0].cold
    assert cold == ("no zygote on this machine" if "NBCOMPOSE_ZYGOTE" in environment else "")


def test_init_may_call_a_dependency_that_starts_at_the_same_time(running: Running) -> None:
    assert running.up(Asks, Leaf).value() == 3


def test_an_error_keeps_its_type_its_attributes_and_the_frames_of_every_service(running: Running) -> None:
    above = running.up(Above, Faulty)

    with pytest.raises(OwnError, match=r"no \(7\)") as raised:
        above.raises("no")

    assert raised.value.code == 7
    told = str(raised.value.__cause__)
    assert "Above.raises → Faulty.raises" in told
    assert "raise OwnError(7, text)" in told
    assert "return self.faulty.raises(text)" in told


def test_streams_come_item_by_item_and_an_error_after_the_items_before_it(running: Running) -> None:
    words = running.up(Words)

    assert list(words.count(100)) == list(range(100))
    assert list(words.acount(100)) == list(range(100))
    items = words.breaks(3)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="the well is dry"):
        next(items)


def test_a_stream_is_an_argument(running: Running) -> None:
    """Of a service, which the reader calls itself; of this process, relayed; its error, and its end when it is left."""
    pipeline = running.up(Pipeline, Passing, Refiner, Writer)
    refiner, writer = running.registry.proxy("Refiner"), running.registry.proxy("Writer")

    words = [f"WORD {i}" for i in range(100)]
    assert list(pipeline.run(100)) == list(refiner.refine(writer.write(100))) == words
    assert list(refiner.refine(word.lower() for word in words)) == words
    items = refiner.refine(writer.breaks(2))
    assert [next(items), next(items)] == words[:2]
    with pytest.raises(LookupError, match="no more words") as raised:
        next(items)
    assert "Refiner.refine → Writer.breaks" in str(raised.value.__cause__)
    assert refiner.first(writer.write_for_ever()) == "word"
    wait_until(lambda: writer.counts()[1] == 3, "the stream that was left has ended")


def test_tracebacks_show_the_lines_of_a_notebook_s_cells(running: Running) -> None:
    """Whatever shape its code has, and of whichever cell it is; of new code that is swapped in, too."""
    with tracebacks.notebook() as made:
        fails = running.up(made, compare=True)
        told = {case: _told(fails, *case) for case in tracebacks.CASES}
    assert told == {case: f"Fails.{case[0]}\n{tracebacks.frames(case)}" for case in tracebacks.CASES}

    with tracebacks.notebook(tracebacks.CHANGED) as made:
        before = running.registry.status("Fails").replicas[0].pid
        running.deploy(made, compare=True)
        assert running.registry.wait("Fails").replicas[0].pid == before  # not started anew
        told = {case: _told(fails, *case) for case in tracebacks.CASES}
    changed = {case: tracebacks.frames(case, tracebacks.CHANGED) for case in tracebacks.CASES}
    assert told == {case: f"Fails.{case[0]}\n{frames}" for case, frames in changed.items()}


def _told(fails: Any, api: str, argument: Any) -> str:
    """The frames of what an api raises."""
    call = getattr(fails, api)
    with pytest.raises(ValueError, match="on purpose") as raised:
        list(call(*([] if argument is None else [argument])) or ())
    return str(raised.value.__cause__).strip().partition("\n\nValueError")[0]


def test_an_init_that_raises_is_told_with_the_line_of_the_user(running: Running) -> None:
    running.deploy(InitRaises)

    status = running.registry.wait("InitRaises")

    assert status.state == "failed"
    assert status.reason == "it failed: InitRaises could not start (__init__)"
    assert "self.weights = 1 / 0  # the line of the mistake" in status.error
    assert "ZeroDivisionError: division by zero" in status.error
    assert "nbcompose/replica" not in status.error
    assert status.replicas == ()
    assert "still fine" in running.registry.logs("InitRaises")
    with pytest.raises(ServiceUnavailable, match="InitRaises does not run: it failed"):
        running.registry.proxy("InitRaises").f()


def test_an_init_that_ends_the_process_is_told_with_its_last_output(running: Running) -> None:
    running.deploy(InitExits)

    error = running.registry.wait("InitExits").error

    assert "InitExits ended while it started (__init__): exit status 9" in error
    assert "about to leave" in error


def test_an_init_that_crashes_in_c_code_is_told_with_its_stack(running: Running) -> None:
    running.deploy(InitSegfaults)

    error = running.registry.wait("InitSegfaults").error

    assert "InitSegfaults ended while it started (__init__): killed by SIGSEGV" in error
    assert "faulty_services.py" in error


@pytest.mark.parametrize(
    ("api", "arguments", "how"),
    [
        ("exits", (5,), "exit status 5"),
        ("segfaults", (), "killed by SIGSEGV"),
        ("killed", (), "killed by SIGKILL"),
    ],
)
def test_a_replica_that_dies_in_a_call_fails_that_call_and_comes_back(
    running: Running, api: str, arguments: tuple[int, ...], how: str
) -> None:
    faulty = running.up(Faulty)
    before = faulty.pid()

    with pytest.raises(ReplicaDied, match="Faulty, replica 0 "):
        getattr(faulty, api)(*arguments)

    status = running.until("Faulty", lambda s: s.restarts == 1 and s.state == "ready")
    assert f"Faulty, replica 0: {how}" in status.error
    assert any(line.startswith(f"replica 0 ended ({how}") for line in running.registry.logs("Faulty"))
    assert faulty.pid() != before


def test_the_last_output_of_a_crash_is_kept(running: Running) -> None:
    faulty = running.up(Faulty)

    with pytest.raises(ReplicaDied):
        faulty.exits(1)

    status = running.until("Faulty", lambda s: s.restarts == 1 and s.state == "ready")
    assert status.error.endswith("the last words")
    assert "the last words" in running.registry.logs("Faulty")


def test_programs_that_a_replica_started_end_with_it(running: Running) -> None:
    faulty = running.up(Faulty)
    ended, crashed = faulty.child(), faulty.child()
    with pytest.raises(ReplicaDied):
        faulty.killed()
    wait_for_end(ended)
    wait_for_end(crashed)

    running.until("Faulty", lambda s: s.state == "ready")
    child = faulty.child()
    running.registry.remove("Faulty")
    wait_for_end(child)


def test_hooks_run_before_the_first_call_and_after_the_last(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = tmp_path / "hooks"
    hooks = running.up(service(envs={"HOOKS_FILE": str(notes)})(handle(Hooks).inner))

    hooks.call()
    running.registry.remove("Hooks")

    assert notes.read_text().split("\n") == ["init", "startup", "async startup", "call", "shutdown", ""]
    # `broken` has failed, which is the log's business.


def test_scale_restart_and_stop(running: Running) -> None:
    faulty = running.up(Faulty)
    first = faulty.pid()

    running.registry.scale("Faulty", 3)
    status = running.registry.status("Faulty")
    assert (status.up, status.wanted) == (3, 3)

    running.registry.restart("Faulty")
    status = running.registry.wait("Faulty")
    assert (status.version, status.up, status.wanted) == (2, 3, 3)
    assert faulty.pid() != first

    running.registry.scale("Faulty", 1)
    status = running.registry.status("Faulty")
    assert [r.index for r in status.replicas] == [0]

    pid = status.replicas[0].pid
    assert pid is not None
    running.registry.remove("Faulty")
    wait_for_end(pid)
    assert running.registry.names() == []
    with pytest.raises(ServiceUnavailable, match="Faulty"):
        faulty.pid()


def test_a_stop_lets_calls_in_flight_finish(running: Running, tmp_path: Path) -> None:
    running.up(Entry, Below)
    entry = running.registry.proxy("Entry")
    call = running.in_thread(entry.slow, str(tmp_path / "go"))
    running.until("Entry", lambda s: any(r.in_flight for r in s.replicas))

    removal = running.in_thread(running.registry.remove, "Entry")
    running.until("Entry", lambda s: s.state == "stopped")
    (tmp_path / "go").touch()

    assert call.result(PATIENCE) == "done"
    removal.result(PATIENCE)


def test_a_replica_ignores_interrupts_and_ends_on_sigterm(running: Running) -> None:
    faulty = running.up(Faulty)
    pid = faulty.pid()
    os.kill(pid, signal.SIGINT)
    assert faulty.pid() == pid

    os.kill(pid, signal.SIGTERM)
    running.until("Faulty", lambda s: s.restarts == 1 and s.state == "ready")
    assert faulty.pid() != pid
