"""Finding and asking this user's other processes that run services."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import os
import pkgutil
import sys
from typing import Any

import pytest
from chain_services import Leaf

import nbcompose
from nbcompose import cli
from nbcompose._control import discovery
from nbcompose._control.discovery import Listing, RunningProcess, ask, find, listings, own_title, printable
from nbcompose._rpc import address
from nbcompose.errors import UnknownApi, UnknownService
from tests.conftest import Running
from tests.patience import PATIENCE

pytestmark = pytest.mark.system

ALL_MODULES = [m.name for m in pkgutil.walk_packages(nbcompose.__path__, "nbcompose.")]


def us() -> RunningProcess:
    return next(r for r in find() if r.pid == os.getpid())


def ours(found: list[Listing]) -> Listing:
    return next(listing for listing in found if listing.runtime.pid == os.getpid())


def test_this_process_is_found_and_answers(running: Running) -> None:
    running.up(Leaf)
    listing = ours(asyncio.run(listings()))
    assert listing.runtime.title == own_title()
    assert [(s.name, s.state) for s in listing.statuses or ()] == [("Leaf", "ready")]
    assert asyncio.run(ask(us(), "logs", "Leaf", 10)) == []
    asyncio.run(ask(us(), "stop", "Leaf"))
    assert running.registry.names() == []


def test_what_goes_wrong_there_is_raised_here(running: Running) -> None:
    running.up(Leaf)
    with pytest.raises(UnknownService, match="no service is called 'Writer'; there are: Leaf"):
        asyncio.run(ask(us(), "stop", "Writer"))
    with pytest.raises(UnknownApi, match="a runtime has no 'explode'; it has: title, ps, logs, stop"):
        asyncio.run(ask(us(), "explode"))


def test_a_process_that_has_gone_is_a_connection_error() -> None:
    with pytest.raises(ConnectionError):
        asyncio.run(ask(RunningProcess(1, address.fresh("nbcompose.gone")), "ps"))


def test_names_of_others_are_not_taken_for_processes(running: Running) -> None:
    for name in ("x.y", "nope"):
        with address.listen(f"@{discovery.PREFIX}.{os.getuid()}.{name}"):
            assert {r.pid for r in find()} >= {os.getpid()}
            assert all(r.pid != 0 for r in find())


@pytest.mark.parametrize(
    ("arguments", "title"),
    [
        (["/home/me/app.py", "--token", "s3cret"], "app.py"),
        (["/home/me/app.py", "https://me:s3cret@host/?token=s3cret", "TOKEN=s3cret"], "app.py"),
        (["/lib/site-packages/pytest/__main__.py", "tests", "--pw=s3cret"], "pytest"),
        (["/bin/nbcompose", "serve", "--token=s3cret", "app.py"], "nbcompose"),
        (["/lib/ipykernel_launcher.py", "-f", "/run/kernel-s3cret.json"], f"a notebook in {os.getcwd()}"),
        (["/lib/ipykernel/__main__.py", "-f", "kernel.json"], f"a notebook in {os.getcwd()}"),
        (["-c", "s3cret"], "python"),
        ([""], "python"),
        ([], "python"),
    ],
)
def test_no_argument_of_the_command_is_in_a_title(
    arguments: list[str], title: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.setattr(sys, "argv", arguments)
    assert own_title() == title


def test_the_title_of_a_notebook_is_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/me/rag.ipynb")
    assert own_title() == "rag.ipynb"


def test_a_title_of_another_process_does_nothing_to_a_terminal() -> None:
    assert printable("\x1b[2J\x9b1m a\nb\u202e" + 100 * "x") == "?[2J?1m a?b?" + 48 * "x"


def test_what_says_what_a_service_runs_with_does_not_show_its_secrets() -> None:
    """Whoever logs one of these, or has it in the message of an error, writes no token and no variable."""
    secrets = {"token", "envs", "environment"}
    shown = [
        f"{cls.__module__}.{cls.__name__}.{f.name}"
        for name in ALL_MODULES
        for cls in vars(importlib.import_module(name)).values()
        if isinstance(cls, type) and dataclasses.is_dataclass(cls) and cls.__module__ == name
        for f in dataclasses.fields(cls)
        if f.name in secrets and f.repr and cls.__repr__ is not object.__repr__
    ]
    assert shown == []


def test_a_process_that_hangs_is_told_and_does_not_hide_the_others(
    running: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def ask_ours_patiently(runtime: RunningProcess, *args: Any, within: float) -> Any:
        return await ask(runtime, *args, within=within if runtime.pid == os.getppid() else PATIENCE)

    monkeypatch.setattr(discovery, "LIST_WITHIN", 0.2)
    monkeypatch.setattr(discovery, "ask", ask_ours_patiently)
    running.up(Leaf)
    with address.listen(f"@{discovery.PREFIX}.{os.getuid()}.{os.getppid()}.0000"):  # takes connections, answers nothing
        assert cli.main(["ps"]) == 0
        assert cli.main(["logs", "Nobody"]) == 1
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert rows[str(os.getpid())][1:3] == ["Leaf", "ready"]
    assert " ".join(rows[str(os.getppid())]) == "? ? does not answer"
