"""Notebook files that are damaged or strange: a message that names the cell, and no traceback of ours."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nbcompose.cli import main

SERVICE = "from nbcompose import api, service\n@service\nclass A:\n    @api\n    def f(self) -> int:\n        return 1"
NEEDS = (
    "from nbcompose import api, service\n@service\nclass A:\n    @api\n    def f(self) -> int:\n        return value"
)


def code(source: Any, **more: Any) -> dict[str, Any]:
    return {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": source, **more}


def write(folder: Path, cells: Any, **more: Any) -> Path:
    path = folder / "odd.ipynb"
    document = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells, **more}
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


MISSING = {"cell_type": "code", "metadata": {}, "outputs": []}


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([code(SERVICE), code(3)], "cell 2: its source is a number, not text"),
        ([code([1, 2])], "cell 1: its source is a list with a number in it, not text"),
        ([code(["a = 1\n", None])], "cell 1: its source is a list with missing in it, not text"),
        ([code(None)], "cell 1: its source is missing, not text"),
        ([MISSING], "cell 1: its source is missing, not text"),
        ([code({"a": 1})], "cell 1: its source is an object, not text"),
        ([code(SERVICE), 7], "cell 2: it is a number"),
        ({"a": 1}, "its cells are an object, not a list"),
        ("abc", "its cells are a text, not a list"),
        (None, "its cells are missing, not a list"),
    ],
)
def test_a_damaged_cell_is_named(cells: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(write(tmp_path, cells))]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("nbcompose: odd.ipynb ")


@pytest.mark.parametrize("text", ["[]", "3", "null", '"a"', "", "{", "[" * 5000, '{"nbformat": 3}', '{"nbformat": 2}'])
def test_what_is_no_notebook(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "odd.ipynb"
    path.write_text(text)
    assert main(["export", str(path)]) == 1
    assert "nbcompose: " in capsys.readouterr().err


ODD = {
    "terms": "value = " + " + ".join("1" * 20_000),
    "some terms": "value = " + " + ".join("1" * 500),
    "brackets": "value = " + "[" * 150 + "]" * 150,
    "signs": "value = " + "-" * 5_000 + "1",
    "attributes": "value = a" + ".a" * 5_000,
    "calls": "value = f" + "()" * 5_000,
    "comparisons": "value = " + " < ".join("1" * 20_000),
    "elifs": "if 0:\n    pass\n" + "elif 0:\n    pass\n" * 2_000 + "value = 1",
    "blocks": "".join("  " * i + "if 1:\n" for i in range(99)) + "  " * 99 + "value = 1",
    "null": "value = 1\0",
    "surrogate": "value = '\ud800'",
    "surrogate name": "\udcff = 1",
    "digits": "value = " + "1" * 10_000,
    "escape": "value = '\\N{no such name}'",
    "feed": "value = 1\x0c\n\x0cother = 2",
    "bom": "\ufeffvalue = 1",
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("needed", [False, True])
def test_a_cell_that_is_hard_to_read(
    name: str, needed: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, [code(ODD[name]), code(NEEDS if needed else SERVICE)])
    status = main(["export", str(path)])
    said = capsys.readouterr()
    if status == 0:
        compile(said.out, "app.py", "exec", dont_inherit=True)
    else:
        assert needed
        assert status == 1
        assert "cell 1" in said.err or "cell 2" in said.err


@pytest.mark.system
def test_no_traceback_of_ours_at_the_command_line(tmp_path: Path) -> None:
    for cells in ([code(ODD["terms"]), code(NEEDS)], [code(3)]):
        path = write(tmp_path, cells)
        command = [sys.executable, "-m", "nbcompose.cli", "export", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert "cell 1" in done.stderr


anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)
sources = st.one_of(
    st.sampled_from([SERVICE, NEEDS, "value = 1", "%%bash\nls", "%%service", "!ls", "?", "%time", "x = !ls", ""]),
    st.text("ab=()[]{}:%!?\\\n\t '\"#\0\ud800", max_size=30),
    anything,
)
cells = st.one_of(
    anything,
    sources.map(code),
    st.builds(lambda s, key, value: code(s) | {key: value}, sources, st.sampled_from(["id", "cell_type"]), anything),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.one_of(anything, st.lists(cells, max_size=4)), st.one_of(st.just({}), anything))
@example([code("a = 1", id=[1]), code("b = 2", id=[1])], {"kernelspec": 3, "language_info": "x"})
@example([code("value = 1", id="same"), code(NEEDS, id="same")], {})
@example([], {"kernelspec": {"language": ["python"]}})
def test_any_file_is_exported_or_refused(tmp_path_factory: pytest.TempPathFactory, found: Any, metadata: Any) -> None:
    path = write(tmp_path_factory.mktemp("odd"), found, metadata=metadata)
    assert main(["export", str(path), "-o", str(path.with_name("app.py"))]) in (0, 1)
