"""What the extension imports, how long that takes, and how Jupyter's server comes to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from jupyter_server.extension.application import ExtensionApp

import nbcompose
from nbcompose._jupyter.app import START_HOOK, NbcomposeExtension
from tests.jupyter.started import listeners
from tests.patience import until
from tests.test_layers import imports, modules

ALLOWED = {"errors", "settings", "_protocol", "_units", "_jupyter"}
MOST_SECONDS = 0.05
TIMED = """
import importlib, json, sys, time
import jupyter_server.serverapp, jupyter_server.extension.application, jupyter_server.services.events.handlers
before = set(sys.modules)
begun = time.perf_counter()
import nbcompose
[point] = nbcompose._jupyter_server_extension_points()
seconds = time.perf_counter() - begun
print(json.dumps([seconds, sorted(set(sys.modules) - before), sorted(sys.modules)]))
"""
HEAVY = {"IPython", "ipykernel", "torch", "numpy", "httpx", "pydantic", "mcp", "cloudpickle"}


def test_jupyter_is_told_of_one_extension() -> None:
    assert nbcompose._jupyter_server_extension_points() == [{"module": "nbcompose._jupyter", "app": NbcomposeExtension}]


@pytest.fixture
def without_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in Jupyter's server before 2.16, which loads extensions and does not start them."""
    monkeypatch.delattr(ExtensionApp, START_HOOK, raising=False)


async def test_it_listens_also_where_jupyter_starts_no_extension(without_hook: None, jp_serverapp: Any) -> None:
    [extension] = jp_serverapp.extension_manager.extension_apps["nbcompose"]
    await until(lambda: listeners(os.getpid()))
    await extension.runtimes.look()  # until then it may be about to listen
    await extension.stop_extension()
    await until(lambda: not listeners(os.getpid()))


def test_it_uses_the_lowest_rooms_only() -> None:
    inside = {
        wanted.split(".")[1]
        for name, tree in modules().items()
        if name.startswith("nbcompose._jupyter")
        for wanted in imports(tree)
        if wanted.startswith("nbcompose.")
    }
    assert inside - {"__version__"} <= ALLOWED


def test_nobody_else_uses_it() -> None:
    users = [
        name
        for name, tree in modules().items()
        if not name.startswith("nbcompose._jupyter")
        if any(wanted.startswith("nbcompose._jupyter") for wanted in imports(tree))
    ]
    assert users == []


@pytest.mark.system
def test_its_import_is_quick_and_loads_nothing_heavy() -> None:
    for _ in range(5):  # what else the machine does makes some of them slow
        done = subprocess.run([sys.executable, "-c", TIMED], capture_output=True, text=True, check=True)
        taken, new, every = json.loads(done.stdout)
        assert "nbcompose._jupyter.app" in new
        assert not HEAVY & set(new)
        assert not {"IPython", "torch", "numpy"} & set(every)
        if taken < MOST_SECONDS:
            return
    pytest.fail(f"each import took {MOST_SECONDS:g} s or more")
