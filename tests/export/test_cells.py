"""Cells of files: which, under what names, and what is no notebook."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest

from nbcompose._export.cells import Cell, cells_of, read_cells
from nbcompose.errors import ExportRefused


def notebook(*cells: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": list(cells)}


def code(source: str | list[str], **more: Any) -> dict[str, Any]:
    return {"cell_type": "code", "source": source, "outputs": [], "metadata": {}, "execution_count": None, **more}


def write(folder: Path, content: object, name: str = "a.ipynb") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_code_cells_are_counted_as_people_count_them(tmp_path: Path) -> None:
    markdown = {"cell_type": "markdown", "source": "# Title", "metadata": {}}
    path = write(tmp_path, notebook(markdown, code("x = 1", id="one"), markdown, code(["y = 2\n", "z = 3"])))
    assert read_cells(path) == [Cell("one", "cell 2", "x = 1"), Cell("#4", "cell 4", "y = 2\nz = 3")]


def test_a_script_is_one_cell(tmp_path: Path) -> None:
    assert read_cells(write(tmp_path, "x = 1\n", "a.py")) == [Cell("a.py", "a.py", "x = 1\n")]


def test_older_formats(tmp_path: Path) -> None:
    old = {
        "nbformat": 3,
        "nbformat_minor": 0,
        "metadata": {},
        "worksheets": [{"cells": [{"cell_type": "code", "input": ["x = 1"], "outputs": [], "language": "python"}]}],
    }
    assert [c.source for c in read_cells(write(tmp_path, old))] == ["x = 1"]


def test_cells_of_a_notebook_in_memory() -> None:
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x = 1", id="a")])
    assert cells_of(made) == [Cell("a", "cell 1", "x = 1")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "a.ipynb is not a notebook: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("[]", "a.ipynb is not a notebook: it is a list"),
        (
            notebook(kernelspec={"name": "ir", "language": "R", "display_name": "R"}),
            "a.ipynb is a notebook in R: only Python's can be exported",
        ),
        (notebook(language_info={"name": "julia"}), "a.ipynb is a notebook in julia: only Python's can be exported"),
    ],
)
def test_what_is_no_python_notebook(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(ExportRefused) as refused:
        read_cells(write(tmp_path, content))
    assert str(refused.value) == message


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ExportRefused, match=r"a\.ipynb is not a text file: "):
        read_cells(path)
