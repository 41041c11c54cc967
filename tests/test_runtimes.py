"""Finding and asking this user's other processes that run services."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from chain_services import Leaf

from nbcompose import cli, runtimes
from nbcompose.errors import UnknownApi, UnknownService
from nbcompose.runtimes import Runtime, ask, find
from nbcompose.wire import address
from tests.conftest import Running

pytestmark = pytest.mark.system


def us() -> Runtime:
    return next(r for r in find() if r.pid == os.getpid())


def test_this_process_is_found_and_answers(running: Running) -> None:
    running.up(Leaf)
    assert "pytest" in us().title

    statuses = asyncio.run(ask(us(), "ps"))
    assert [(s.name, s.state) for s in statuses] == [("Leaf", "ready")]
    assert asyncio.run(ask(us(), "logs", "Leaf", 10)) == []
    asyncio.run(ask(us(), "stop", "Leaf"))
    assert running.registry.names() == []


def test_what_goes_wrong_there_is_raised_here(running: Running) -> None:
    running.up(Leaf)
    with pytest.raises(UnknownService, match="no service is called 'Writer'; there are: Leaf"):
        asyncio.run(ask(us(), "stop", "Writer"))
    with pytest.raises(UnknownApi, match="a runtime has no 'explode'; it has: ps, logs, stop"):
        asyncio.run(ask(us(), "explode"))


def test_a_process_that_has_gone_is_a_connection_error() -> None:
    with pytest.raises(ConnectionError):
        asyncio.run(ask(Runtime(1, address.fresh("nbcompose.gone"), "gone"), "ps"))


def test_names_of_others_are_not_taken_for_processes(running: Running) -> None:
    for name in ("x.y", "nope"):
        with address.listen(f"@{runtimes.PREFIX}.{os.getuid()}.{name}"):
            assert {r.pid for r in find()} >= {os.getpid()}
            assert all(r.pid != 0 for r in find())


def test_the_title_of_a_notebook_is_its_file() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"],
        env={**os.environ, "JPY_SESSION_NAME": str(Path("/home/me/rag.ipynb"))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        assert runtimes._title(process.pid) == "rag.ipynb"
        process.kill()


def test_a_process_that_hangs_does_not_hide_the_others(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "LIST_WITHIN", 0.2)
    running.up(Leaf)
    with address.listen(f"@{runtimes.PREFIX}.{os.getuid()}.{os.getppid()}.0000"):  # takes connections, answers nothing
        listed = asyncio.run(cli._everything())

    assert [(r.pid, s.name) for r, s in listed if r.pid == os.getpid()] == [(os.getpid(), "Leaf")]
