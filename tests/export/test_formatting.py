"""Scripts are formatted by ruff, wherever it is; without it, or where it cannot read one, that is said."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from nbcompose._export.formatting import formatted, ruff_command
from nbcompose.errors import NbcomposeError


@pytest.fixture(autouse=True)
def _found_anew() -> Iterator[None]:
    ruff_command.cache_clear()
    yield
    ruff_command.cache_clear()


def at(path: str | None) -> Any:
    def find_ruff_bin() -> str:
        if path is None:
            raise FileNotFoundError
        return path

    return find_ruff_bin


def test_imports_are_sorted_and_unused_ones_marked() -> None:
    text = "import numpy\nimport os\nimport near\nx = numpy.ones( 3 )\nnear.go(y)\n"
    assert formatted(text, python="3.11", own=["near"]) == (
        "import os  # noqa: F401\n\nimport numpy\n\nimport near\n\nx = numpy.ones(3)\nnear.go(y)\n"
    )


def test_what_ruff_cannot_read_is_said() -> None:
    with pytest.raises(NbcomposeError, match=r"ruff cannot format the script:\n.*script\.py:1:7"):
        formatted("def f(:\n", python="3.11")


def test_it_is_found_where_earlier_versions_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    earlier, its_main = ModuleType("ruff"), ModuleType("ruff.__main__")
    vars(its_main)["find_ruff_bin"] = at("/earlier/ruff")
    monkeypatch.setitem(sys.modules, "ruff", earlier)
    monkeypatch.setitem(sys.modules, "ruff.__main__", its_main)
    assert ruff_command() == ("/earlier/ruff",)


def test_python_runs_it_where_it_is_not_on_the_disk_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("ruff")
    vars(module)["find_ruff_bin"] = at(None)
    monkeypatch.setitem(sys.modules, "ruff", module)
    assert ruff_command() == (sys.executable, "-m", "ruff")


def test_without_it_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ruff", "ruff.__main__"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(NbcomposeError, match=r"pip install 'nbcompose\[notebook\]'"):
        ruff_command.__wrapped__()  # past the cache: another test may have found it
