"""`--check`: an exported script runs on its own, and its answers are compared with those of services that run here."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from nbcompose._control.entry import find_entries
from nbcompose._export.check.checking import CheckFailed, Plan, Report, check, plan, words
from nbcompose._export.check.recording import RecordedCall, Skipped, encode
from nbcompose._service.handle import Service
from tests.conftest import Running, wait_for_end
from tests.patience import PATIENCE

LIMIT = 12.0  # seconds: enough to start the script

pytestmark = pytest.mark.system

HEAD = """
import random
import time

import numpy as np

import nbcompose
"""

TAIL = """
if __name__ == "__main__":
    nbcompose.serve(Answer)
"""

SERVICES = """
@nbcompose.service
class Below:
    @nbcompose.api
    def twice(self, a: int) -> int:
        return 2 * a

@nbcompose.service
class Answer:
    below = nbcompose.depends(Below)

    @nbcompose.api
    def ask(self, a: int) -> dict:
        return {"twice": self.below.twice(a), "at": [a]}

    @nbcompose.api
    def mean(self, values: np.ndarray) -> float:
        return float(values.mean())

    @nbcompose.api
    def pick(self) -> float:
        return random.random()

    @nbcompose.api
    def count(self, n: int):
        yield from range(n)

    @nbcompose.api
    def refuse(self) -> None:
        raise ValueError("never")
"""

CALLS: list[tuple[str, str, Any, Any, int | None]] = [
    ("Answer", "ask", (1,), {}, None),
    ("Answer", "ask", (), {"a": 2}, None),
    ("Answer", "mean", ([1.0, 2.0],), {}, None),
    ("Answer", "pick", (), {}, None),
    ("Answer", "count", (3,), {}, None),
    ("Answer", "count", (1_000_000,), {}, 2),
    ("Answer", "refuse", (), {}, None),
    ("Below", "twice", (4,), {}, None),
]


def recorded(calls: list[tuple[str, str, Any, Any, int | None]] = CALLS) -> list[RecordedCall]:
    return [RecordedCall(s, a, encode((args, kwargs), 2**20) or b"", items) for s, a, args, kwargs, items in calls]


def write(folder: Path, services: str, name: str = "app.py", tail: str = TAIL) -> Path:
    path = folder / name
    path.write_text(HEAD + services + tail)
    return path


def compared(
    running: Running,
    here: str,
    script: Path,
    calls: list[RecordedCall],
    said: list[str] | None = None,
    limit: float = PATIENCE,
) -> Report:
    """The services of the text `here` run; `script` is checked against them."""
    path = write(script.parent, here, f"here_{abs(hash(here))}.py")
    found: list[Service] = find_entries(f"{path}:Answer")
    below = sys.modules[found[0].inner.__module__].Below
    running.up(below)
    running.up(found[0])
    registry = running.registry
    todo = plan(calls, {}, registry.names(), ["Answer", "Below", "Gone"], limit)
    return check(script, todo, registry.caller, (said if said is not None else []).append)


def nothing(limit: float = PATIENCE) -> Plan:
    return plan([], {}, [], [], limit)


def test_a_script_of_the_same_services_answers_the_same(running: Running, tmp_path: Path) -> None:
    said: list[str] = []
    report = compared(running, SERVICES, write(tmp_path, SERVICES), recorded(), said)
    assert {row.api: (row.calls, words(row.kind), row.differences) for row in report.rows} == {
        "Answer.ask": (2, "same", ()),
        "Answer.mean": (1, "same", ()),
        "Answer.pick": (1, "differs from call to call; same shape and types", ()),
        "Answer.count": (2, "same", ()),
        "Answer.refuse": (1, "same", ()),
        "Below.twice": (1, "same", ()),
    }
    assert report.passed
    assert sorted(report.services) == ["Answer", "Below"]
    assert said[0].startswith("starting, 0 s of ")
    assert said[-1].startswith("call 8 of 8: Below.twice, ")


def test_differences_are_found_and_told(running: Running, tmp_path: Path) -> None:
    other = (
        SERVICES.replace("return 2 * a", "return 3 * a")
        .replace("values.mean())", "values.mean()) * 1.0000001")
        .replace("def pick(self) -> float:", "def pick(self) -> str:")
        .replace("random.random()", "str(random.random())")
        .replace('ValueError("never")', 'KeyError("never")')
        .replace("yield from range(n)", "time.sleep(0.2)\n        yield from range(n)")
    )
    report = compared(running, SERVICES, write(tmp_path, other), recorded())
    rows = {row.api: row for row in report.rows}
    assert {api: words(row.kind) for api, row in rows.items()} == {
        "Answer.ask": "different",
        "Answer.mean": "same within 1e-5",
        "Answer.pick": "different",
        "Answer.count": "same",
        "Answer.refuse": "different",
        "Below.twice": "different",
    }
    assert rows["Answer.ask"].differences == (
        "['twice'] is 2 in the notebook and 3 in the script",
        "['twice'] is 4 in the notebook and 6 in the script",
    )
    assert rows["Answer.pick"].differences == ("float in the notebook, and str in the script",)
    [line] = rows["Answer.refuse"].differences
    assert line == "ValueError: never in the notebook, and KeyError: 'never' in the script"
    slower = rows["Answer.count"].slower
    assert slower is not None
    assert slower[1] >= 0.2
    assert not report.passed


def test_calls_that_the_script_cannot_answer_are_told(running: Running, tmp_path: Path) -> None:
    fewer = SERVICES.replace("def mean", "def average")
    calls = recorded([*CALLS, ("Gone", "ask", (), {}, None)])
    report = compared(running, SERVICES, write(tmp_path, fewer), calls)
    assert report.left_out == (
        "Gone.ask: 1 call was left out: 1 of a service that does not run any more",
        "Answer.mean: 1 call was left out: 1 that the script has no api for",
    )


def test_a_plan_says_what_will_be_done_and_what_is_left_out() -> None:
    calls = [
        RecordedCall("Answer", "ask", b"1", seconds=2.6),
        RecordedCall("Below", "twice", b"2", seconds=5.0),
        RecordedCall("Other", "ask", b"3", seconds=9.0),
        RecordedCall("Gone", "ask", b"4", seconds=9.0),
    ]
    skipped: Skipped = {("Answer", "ask"): Counter(failed=2, cancelled=1), ("Other", "ask"): Counter(failed=9)}
    todo = plan(calls, skipped, ["Answer", "Below", "Other"], ["Answer", "Below"])
    assert str(todo) == "2 calls of 2 services, about 8 s when they were made; limit 60 s"
    assert todo.skipped == {
        ("Answer", "ask"): {"failed": 2, "cancelled": 1},
        ("Other", "ask"): {"not in the script": 1},
        ("Gone", "ask"): {"of a service that does not run any more": 1},
    }
    one = plan([RecordedCall("Answer", "ask", b"1", seconds=0.1)], {}, ["Answer"], ["Answer"], 5)
    assert str(one) == "1 call of 1 service, less than 1 s when it was made; limit 5 s"
    assert str(nothing(5)) == "0 calls of 0 services; limit 5 s"


def hang(text: str) -> str:
    return text.replace("return 2 * a", "while True: time.sleep(0.01)")


@pytest.mark.parametrize("where", ["here", "there"])
def test_a_call_that_hangs_ends_with_the_limit(running: Running, tmp_path: Path, where: str) -> None:
    """As does what comes after it: the calls before are reported."""
    services = SERVICES.replace("class Below:", "class Below:\n    at = 'here'")
    script = write(tmp_path, hang(services) if where == "there" else services)
    calls = recorded([("Answer", "mean", ([1.0],), {}, None), *[("Below", "twice", (n,), {}, None) for n in range(3)]])
    said: list[str] = []
    report = compared(running, hang(services) if where == "here" else services, script, calls, said, limit=LIMIT)
    assert [(row.api, row.kind) for row in report.rows] == [("Answer.mean", "same")]
    assert report.left_out == (
        f"Below.twice: 3 calls were left out: 3 not made within the limit of {LIMIT:g} s (--limit)",
    )
    assert f" s of {LIMIT:g} s" in said[-1]
    assert [p for p in psutil.Process().children() if "check.replay" in " ".join(p.cmdline())] == []


def test_a_script_that_is_not_ready_in_time(tmp_path: Path) -> None:
    services = SERVICES.replace("below = ", "def __init__(self):\n        time.sleep(600)\n\n    below = ")
    said: list[str] = []
    with pytest.raises(CheckFailed, match=r"app.py was not ready within the limit \(\d s of 4 s; last: .*\): `--limit"):
        check(write(tmp_path, services), nothing(4), lambda name: pytest.fail(name), said.append)
    seconds = [int(text.rpartition(", ")[2].partition(" s of 4 s")[0]) for text in said]
    assert seconds == sorted(seconds)
    assert seconds[-1] >= 3, "the time is shown while nothing else happens"


@pytest.mark.parametrize(
    ("services", "tail", "message"),
    [
        (
            SERVICES + "\nmissing\n",
            TAIL,
            "app.py does not start: Traceback.*\n.*line .*\n.*missing\n.*NameError: .*missing",
        ),
        (SERVICES, "", "app.py does not start: app.py serves nothing: its last line is to call nbcompose.serve"),
        (
            SERVICES.replace("below = ", "def __init__(self):\n        raise OSError('no disk')\n\n    below = "),
            TAIL,
            "app.py does not start: Answer: .*no disk",
        ),
        (
            "import os\nprint('the end is near', flush=True)\nos._exit(3)",
            "",
            "app.py ended by itself:\nthe end is near",
        ),
    ],
    ids=["raises", "serves nothing", "a service fails", "ends"],
)
def test_a_script_that_does_not_start_says_why(services: str, tail: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckFailed) as caught:
        check(write(tmp_path, services, tail=tail), nothing(), lambda name: pytest.fail(name), lambda _: None)
    assert re.match(message, str(caught.value), re.DOTALL), str(caught.value)


def test_without_calls_it_starts_and_is_ready(tmp_path: Path) -> None:
    report = check(write(tmp_path, SERVICES), nothing(), lambda name: pytest.fail(name), lambda _: None)
    assert sorted(report.services) == ["Answer", "Below"]
    assert report.rows == ()


@pytest.mark.usefixtures("interrupts")
def test_an_interrupt_ends_it_and_the_scripts_processes(tmp_path: Path) -> None:
    """As ■ does, while the script starts: nothing of it is left."""
    services = SERVICES.replace("below = ", "def __init__(self):\n        time.sleep(600)\n\n    below = ")
    started: list[psutil.Process] = []

    def say(text: str) -> None:
        if text.startswith("Answer: loading (__init__), "):  # its __init__ runs
            [script] = [p for p in psutil.Process().children() if "check.replay" in " ".join(p.cmdline())]
            started.extend([script, *script.children(recursive=True)])
            threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt):
        check(write(tmp_path, services), nothing(), lambda name: pytest.fail(name), say)
    assert len(started) > 1
    for process in started:
        wait_for_end(process.pid)
