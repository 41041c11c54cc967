"""%services in a real IPython shell, with real replicas."""

from __future__ import annotations

import re
from typing import Any

import pytest

pytestmark = pytest.mark.system

Notebook = Any  # of conftest.py

CELL = """
%%service
class Echo:
    @api
    def say(self, text: str) -> str:
        print("said", text)
        return text

class Front:
    echo = depends(Echo)
    @api
    def say(self, text: str) -> str:
        return self.echo.say(text)
"""


@pytest.fixture
def running(clean: Notebook) -> Notebook:
    clean.ok(CELL)
    return clean


def pids(notebook: Notebook, name: str) -> set[int]:
    return {r.pid for r in notebook.shell.meta["nbcompose"].registry.status(name).replicas}


def test_the_table_says_nothing_that_changes(running: Notebook) -> None:
    before = repr(running.ok("%services").result)
    assert before == (
        "name   state  device  replicas  depends on\n"
        "Echo   ready  cpu     1         -\n"
        "Front  ready  cpu     1         Echo"
    )
    running.ok("Front.say('x')")
    assert repr(running.ok("%services").result) == before


def test_the_live_table_counts(running: Notebook) -> None:
    running.ok("Front.say('x')")
    assert "p50" in running.ok("%services --live").result.columns


def test_stop(running: Notebook) -> None:
    assert running.ok("%services stop Front Echo").stdout == "Front was stopped\nEcho was stopped\n"
    assert running.ok("%services").result.rows == []
    assert "Echo does not run" in running.run("Echo.say('x')").error


def test_stop_all_ends_those_that_others_depend_on_last(running: Notebook) -> None:
    assert running.ok("%services stop --all").stdout == "Front was stopped\nEcho was stopped\n"
    assert running.ok("%services stop --all").stdout == ""


def test_stopping_a_dependency_shows_in_its_dependents(running: Notebook) -> None:
    running.ok("%services stop Echo")
    assert running.ok("%services").result.rows == [("Front", "waiting for Echo", "cpu", "1", "Echo")]
    running.ok(CELL)
    assert running.ok("Front.say('back')").result == "back"


def test_restart_makes_new_replicas_of_the_same_code(running: Notebook) -> None:
    before, front = pids(running, "Echo"), pids(running, "Front")
    ran = running.ok("%services restart Echo")
    assert ran.plain.startswith("Echo is ready\n  restarted\n")
    assert not before & pids(running, "Echo")
    assert pids(running, "Front") == front
    assert running.ok("Front.say('x')").result == "x"
    assert "unchanged" in running.ok(CELL).plain


def test_scale(running: Notebook) -> None:
    assert running.ok("%services scale Echo 3").stdout == "Echo has 3 replicas\n"
    assert running.ok("%services").result.rows[0][3] == "3"
    assert running.ok("%services scale Echo 1").stdout == "Echo has 1 replica\n"
    assert running.ok("%services").result.rows[0][3] == "1"


LINE = r"\d\d:\d\d:\d\d\.\d{3} {9}Echo#0 say [0-9a-f]{8} \| (.*)"


def test_logs(running: Notebook) -> None:
    assert running.ok("%services logs Echo").stdout == "Echo has written nothing\n"
    running.ok("for text in 'abc':\n    Echo.say(text)")
    lines = running.ok("%services logs Echo").stdout.splitlines()  # what was written before the answer is there
    assert [re.fullmatch(LINE, line)[1] for line in lines] == ["said a", "said b", "said c"]  # type: ignore[index]
    assert running.ok("%services logs Echo -n 1").stdout == lines[-1] + "\n"
    assert running.ok("%services logs Echo --api say").stdout.splitlines() == lines
    assert running.ok("%services logs Echo --level info").stdout == "Echo has written nothing of that kind\n"


@pytest.mark.parametrize("action", ["stop Ecco", "restart Ecco", "logs Ecco", "scale Ecco 2", "stop Echo Ecco"])
def test_an_unknown_name_lists_the_known(running: Notebook, action: str) -> None:
    ran = running.run(f"%services {action}")
    assert "UnknownService: no service is called 'Ecco'; there are: Echo, Front" in ran.error
    assert "Traceback" not in ran.error
    assert len(running.ok("%services").result.rows) == 2


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("stop", "%services stop takes names, or --all. Running: Echo, Front"),
        ("stop Echo --all", "%services stop takes names, or --all"),
        ("scale Echo none", "'none' is not a whole number from 1"),
        ("nonsense", "invalid choice: 'nonsense'"),
    ],
)
def test_a_wrong_use_says_what_is_right(running: Notebook, action: str, expected: str) -> None:
    ran = running.run(f"%services {action}")
    assert f"UsageError: {expected}" in ran.error or expected in ran.error
    assert "Traceback" not in ran.error
    assert len(running.ok("%services").result.rows) == 2
