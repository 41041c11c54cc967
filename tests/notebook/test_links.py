from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from nbcompose._notebook import links
from nbcompose._protocol import address

KERNEL = "0f8fad5b-d9cb-469f-a165-70867728950e"
URL = "http://127.0.0.1:4123"
PARENT = os.getpid()


@pytest.fixture(autouse=True)
def _kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a kernel of a server that has the extension."""
    for name in ("JUPYTERHUB_PUBLIC_URL", "JUPYTERHUB_SERVICE_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JPY_PARENT_PID", str(PARENT))
    monkeypatch.setattr(links, "kernel_id", lambda: KERNEL)
    monkeypatch.setattr(links, "jupyter_runtime_dir", lambda: str(tmp_path))
    monkeypatch.setattr(address, "listeners", lambda: {PARENT})


def runtime_file(tmp_path: Path, text: str) -> None:
    (tmp_path / f"jpserver-{PARENT}.json").write_text(text)


def test_the_servers_own_file_says_where_it_is(tmp_path: Path) -> None:
    runtime_file(tmp_path, json.dumps({"url": "http://localhost:8888/user/name/", "token": "secret"}))
    assert links.page("Answer", URL) == f"http://localhost:8888/user/name/nbcompose/at/{KERNEL}/Answer/docs"


def test_a_hub_says_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/name/")
    assert links.page("Answer", URL) == f"/user/name/nbcompose/at/{KERNEL}/Answer/docs"
    monkeypatch.setenv("JUPYTERHUB_PUBLIC_URL", "https://hub.example/user/name/")
    assert links.page("Answer", URL) == f"https://hub.example/user/name/nbcompose/at/{KERNEL}/Answer/docs"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"url": 1}', '{"url": "javascript:x"}'])
def test_a_file_that_does_not_say_it_is_passed_over(tmp_path: Path, text: str) -> None:
    runtime_file(tmp_path, text)
    assert links.page("Answer", URL) == f"{URL}/docs"


@pytest.mark.parametrize("parent", ["", "x", "1"])
def test_without_the_extension_it_is_the_services_own_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parent: str
) -> None:
    runtime_file(tmp_path, json.dumps({"url": "http://localhost:8888/"}))
    monkeypatch.setenv("JPY_PARENT_PID", parent)
    assert links.page("Answer", URL) == f"{URL}/docs"


def test_without_a_kernel_it_is_the_services_own_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime_file(tmp_path, json.dumps({"url": "http://localhost:8888/"}))
    monkeypatch.setattr(links, "kernel_id", lambda: "")
    assert links.page("Answer", URL) == f"{URL}/docs"
