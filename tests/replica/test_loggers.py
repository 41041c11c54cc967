"""Loggers as one process has set them, in another: in processes of their own, since they are of the whole process."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import pytest

from tests.patience import PATIENCE

SEND = "import logging, pickle, sys\nfrom nbcompose._replica.loggers import Loggers\n"
TAKE = """
import io, logging, pickle, sys
states = [pickle.loads(bytes.fromhex(a)) for a in sys.argv[1:]]
states[0].take()
"""


def python(program: str, *arguments: str) -> str:
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def sent(program: str) -> str:
    """What a process in which `program` has set loggers sends."""
    return python(f"{SEND}{textwrap.dedent(program)}\nprint(pickle.dumps(Loggers.now()).hex())").strip()


SAY = """
for level in ("debug", "info", "error"):
    getattr(logging.getLogger("app.part"), level)(level)
"""


@pytest.mark.parametrize(
    ("program", "written"),
    [
        pytest.param("", "error\n", id="nothing"),
        pytest.param(
            "logging.basicConfig(level=logging.INFO)", "INFO:app.part:info\nERROR:app.part:error\n", id="basicConfig"
        ),
        pytest.param(
            "logging.basicConfig(level=logging.INFO, format='{name} says {message}', style='{', stream=sys.stdout)",
            "app.part says info\napp.part says error\n",
            id="a format",
        ),
        pytest.param("logging.getLogger('app').setLevel('CRITICAL')", "", id="a named logger"),
        pytest.param("logging.disable(logging.ERROR)", "", id="disable"),
        pytest.param(
            "logging.getLogger('app').setLevel('DEBUG')\nhandler = logging.StreamHandler()\n"
            "handler.setLevel('INFO')\nlogging.getLogger('app').addHandler(handler)",
            "info\nerror\n",
            id="a handler with a level",
        ),
        pytest.param(
            "logging.basicConfig()\nlogging.getLogger('app').addHandler(logging.StreamHandler())\n"
            "logging.getLogger('app').propagate = False",
            "error\n",
            id="propagate",
        ),
        pytest.param(
            "logging.getLogger('app').addHandler(logging.NullHandler())\nimport io, os\n"
            "logging.getLogger('app').addHandler(logging.StreamHandler(io.StringIO()))\n"
            "logging.getLogger('app').addHandler(logging.FileHandler(os.devnull))",
            "error\n",
            id="handlers that show nothing",
        ),
        pytest.param(
            "class Own(logging.Handler): ...\nlogging.root.addHandler(Own())\nlogging.root.setLevel('INFO')",
            "INFO:app.part:info\nERROR:app.part:error\n",
            id="a handler of another kind",
        ),
    ],
)
def test_loggers_write_as_they_are_set_elsewhere(program: str, written: str) -> None:
    assert python(TAKE + SAY, sent(program)) == written


def test_loggers_of_jupyter_are_not_sent() -> None:
    set_up = "for name in ('traitlets', 'tornado.access'): logging.getLogger(name).setLevel('DEBUG')"
    assert python(f"{TAKE}print(*states[0].states)", sent(set_up)) == "\n"


INFO = "logging.basicConfig(level=logging.INFO)"


@pytest.mark.parametrize(
    ("program", "written"),
    [
        pytest.param("states[1].take()", "error\n", id="what was set is not any more"),
        pytest.param(
            "logging.getLogger('app').setLevel('DEBUG'); states[0].take()",
            "DEBUG:app.part:debug\nINFO:app.part:info\nERROR:app.part:error\n",
            id="its own code is stronger",
        ),
        pytest.param(
            "handler = logging.StreamHandler(); logging.root.addHandler(handler)", "info\nerror\n", id="its own handler"
        ),
        pytest.param("sys.stderr = io.StringIO()", "", id="the present stream"),
    ],
)
def test_loggers_that_change(program: str, written: str) -> None:
    assert python(f"{TAKE}{program}\n{SAY}", sent(INFO), sent("")) == written


def test_the_level_of_the_environment_is_stronger(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is for services too, and is set before."""
    info: Any = sent("")
    monkeypatch.setenv("NBCOMPOSE_LOG_LEVEL", "debug")
    start = "from nbcompose import settings\nsettings.start_logging('%(message)s')\n"
    assert python(f"{start}{TAKE}{SAY}", info) == "debug\ninfo\nerror\n"


def test_levels_are_set_again_after_imports() -> None:
    program = "logging.getLogger('app').setLevel('DEBUG'); states[0].set_levels()"
    assert python(f"{TAKE}{program}\n{SAY}", sent("logging.getLogger('app').setLevel('CRITICAL')")) == ""
