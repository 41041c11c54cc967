from __future__ import annotations

from typing import Any

import pytest

from nbcompose._host import devices
from nbcompose._host.devices import Device

pytestmark = pytest.mark.system

Notebook = Any  # of conftest.py

ECHO = """
%%service
class Echo:
    @api
    def say(self, text: str) -> str:
        return text

class Other:
    @api
    def say(self, text: str) -> str:
        return text
"""


def test_options_of_the_cell_magic(notebook: Notebook) -> None:
    assert {"--device", "--replicas", "--no-wait"} <= set(notebook.complete("%%service "))
    assert notebook.complete("%%service --re") == ["--replace", "--replace-after", "--replicas"]
    assert notebook.complete("%%service --replace ") == ["start-first", "stop-first"]
    assert "--replicas" not in notebook.complete("%%service --replicas 2 --re")
    assert notebook.complete("%%service --env A=1 --en") == ["--env"]
    assert notebook.complete("\n# a comment\n%%service --na") == ["--name"]
    assert "--name" not in notebook.complete("x = 1\n%%service --na")


def test_devices(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    cards = (Device(0, "GPU-a", "A", 1, 1), Device(1, "GPU-b", "B", 1, 1))
    monkeypatch.setattr(devices, "discover", lambda: cards)
    assert notebook.complete("%%service --device ") == ["cpu", "cuda", "cuda:0", "cuda:1"]
    assert notebook.complete("%%service --device cu") == ["cuda", "cuda:0", "cuda:1"]
    # The colon begins a new token, to which the completion belongs.
    assert notebook.complete("%%service --device cuda:") == ["0", "1"]
    monkeypatch.setattr(devices, "discover", lambda: ())
    assert notebook.complete("%%service --device ") == ["cpu"]


def test_actions_and_names_of_services(notebook: Notebook) -> None:
    notebook.ok(ECHO)
    assert notebook.complete("%services re") == ["refresh", "restart"]
    assert set(notebook.complete("%services ")) >= {"stop", "restart", "logs", "scale", "--live"}
    for action in ("stop", "restart", "refresh", "rollback", "logs", "scale"):
        assert notebook.complete(f"%services {action} Ec") == ["Echo"]
    assert notebook.complete("%services stop Echo Ot") == ["Other"]
    assert "Echo" not in notebook.complete("%services stop Echo ")
    assert "-n" in notebook.complete("%services logs -")
    assert "--all" not in notebook.complete("%services nonsense --a")


def test_apis_of_a_service(notebook: Notebook) -> None:
    notebook.ok(ECHO)
    offered = {text.removeprefix("Echo").removeprefix(".") for text in notebook.complete("Echo.")}
    assert {"say", "to_async", "url", "token"} <= offered


def test_other_lines_are_left_to_others(notebook: Notebook) -> None:
    for text in ("%%time --de", "x = 1 --de", "%%service\nclass A: pass\n--de"):
        assert "--device" not in notebook.complete(text)
