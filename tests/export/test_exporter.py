"""The whole export of a file: the project's notebooks against golden scripts, and where files go.

After a change that is meant: `python -m tests.export.test_exporter` writes the golden scripts anew; look at the diff.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nbcompose._export.cells import Cell, read_cells
from nbcompose._export.exporter import NotebookSource, Request, export, export_to, name_of
from nbcompose.errors import ExportRefused, NbcomposeError

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
GOLDEN = Path(__file__).parent / "golden"

CELLS = [
    Cell("1", "cell 1", "import json\nfrom nbcompose import api, depends"),
    Cell("2", "cell 2", "words = {'a': 1}"),
    Cell("3", "cell 3", "%%service\nclass A:\n    @api\n    def f(self) -> dict:\n        return words"),
    Cell("4", "cell 4", "%%service\nclass B:\n    a = depends(A)\n    @api\n    def g(self) -> int:\n        return 0"),
    Cell("5", "cell 5", "%%service\nclass C:\n    a = depends(A)\n    @api\n    def g(self) -> int:\n        return 1"),
]  # fmt: skip


def installed(names: list[str], distributions: list[str]) -> dict[str, Any]:
    """A look-up (versions.py) that is the same on every machine."""
    found = sorted({n.partition(".")[0] for n in names} - set(sys.stdlib_module_names))
    return {
        "python": [3, 11],
        "modules": {n: {"distributions": [n], "file": ""} for n in found},
        "distributions": {n: {"version": "1.0+cpu", "url": ""} for n in {*found, *distributions}},
    }


def from_file(path: Path) -> str:
    return export(NotebookSource(read_cells(path), name_of(path)), Request(), script="app.py", look_up=installed).text


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_every_notebook_of_the_project_is_the_script_that_it_was(notebook: Path) -> None:
    assert from_file(notebook) == (GOLDEN / f"{notebook.stem}.py").read_text(encoding="utf-8")


def test_there_is_no_golden_script_without_a_notebook() -> None:
    assert {p.stem for p in GOLDEN.glob("*.py")} == {p.stem for p in NOTEBOOKS}


@pytest.mark.system
@pytest.mark.parametrize("script", sorted(GOLDEN.glob("*.py")), ids=lambda p: p.stem)
def test_golden_scripts_are_clean_and_exported_are_themselves(script: Path, tmp_path: Path) -> None:
    text = script.read_text(encoding="utf-8")
    (tmp_path / "app.py").write_text(text, encoding="utf-8")  # away from this project, whose name is in it
    for command in (["check", "--select=E4,E7,E9,F,I"], ["format", "--check", "--line-length=120"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--isolated", "--no-cache", "app.py"]
        done = subprocess.run(ruff, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
    assert "get_ipython" not in text
    assert from_file(script) == text


def test_several_entries_are_served_together(tmp_path: Path) -> None:
    source = NotebookSource(CELLS, "two.ipynb")
    exported = export_to(tmp_path / "app.py", source, Request(), look_up=installed)
    assert (exported.services, exported.entries) == (("A", "B", "C"), ("B", "C"))
    assert exported.text.endswith("    nbcompose.serve(B, C)\n")
    lines = len(exported.text.splitlines())
    assert exported.summary(Path("app.py")) == f"app.py: 3 services, {lines} lines; serve it with `python app.py`"
    assert exported.summary(Path("my app.py")).endswith("serve it with `python 'my app.py'`")


@pytest.mark.system
def test_what_is_frozen_lies_beside_the_script_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "app.py"
    source = NotebookSource(CELLS, "two.ipynb", values={"words": {"b": 2}})
    export_to(path, source, Request(entries=("A",), freeze=("words",)), look_up=installed)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")) == [
        "app.py", "app_data", "app_data/words.json"
    ]  # fmt: skip
    program = f"import runpy; print(runpy.run_path({str(path)!r})['words'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "{'b': 2}\n"


@pytest.mark.parametrize("force", [False, True])
def test_only_what_nbcompose_wrote_is_overwritten(force: bool, tmp_path: Path) -> None:
    path, source = tmp_path / "app.py", NotebookSource(CELLS, "two.ipynb")
    export_to(path, source, Request(docker=True), look_up=installed)
    first = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    export_to(path, source, Request(docker=True), look_up=installed)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == first
    (tmp_path / ".dockerignore").write_text("mine\n")
    if force:
        export_to(path, source, Request(docker=True, force=True), look_up=installed)
        assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == first
        return
    with pytest.raises(
        NbcomposeError, match=r"\.dockerignore was not written by nbcompose: give another name, or --fo"
    ):
        export_to(path, source, Request(docker=True), look_up=installed)
    (tmp_path / ".dockerignore").write_bytes(b"\xff")
    with pytest.raises(NbcomposeError, match=r"\.dockerignore"):
        export_to(path, source, Request(docker=True), look_up=installed)


def test_a_refusal_leaves_no_file(tmp_path: Path) -> None:
    cells = [c for c in CELLS if c.key != "2"]
    with pytest.raises(ExportRefused, match="words"):
        export_to(tmp_path / "app.py", NotebookSource(cells, "two.ipynb"), Request(docker=True), look_up=installed)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_takes_no_file_is_a_message(tmp_path: Path) -> None:
    with pytest.raises(NbcomposeError, match=r"nowhere/app\.py cannot be written: No such file or directory"):
        export_to(tmp_path / "nowhere" / "app.py", NotebookSource(CELLS, "two.ipynb"), Request(), look_up=installed)
    (tmp_path / "app.py").mkdir()
    with pytest.raises(NbcomposeError, match=r"app\.py"):
        export_to(tmp_path / "app.py", NotebookSource(CELLS, "two.ipynb"), Request(), look_up=installed)


def test_a_script_that_would_hide_a_module_is_not_written(tmp_path: Path) -> None:
    path, source = tmp_path / "concurrent.py", NotebookSource(CELLS, "concurrent.ipynb")
    with pytest.raises(
        NbcomposeError, match=r"^concurrent\.py has the name of a module of Python's own, which it hides"
    ):
        export_to(path, source, Request(), look_up=installed)
    assert not path.exists()
    export_to(path, source, Request(force=True), look_up=installed)
    assert path.exists()


def test_modules_and_files_are_looked_for_in_the_folder_of_the_notebook(tmp_path: Path) -> None:
    (tmp_path / "near.py").write_text("")
    cells = [*CELLS, Cell("6", "cell 6", "import near"), Cell("7", "cell 7", "words = near")]
    source = NotebookSource(cells, "two.ipynb", folder=tmp_path)
    [note] = export(source, Request(entries=("A",)), script="app.py").notes
    assert note.startswith("near.py ")


def test_without_a_kernel_nothing_can_be_frozen(tmp_path: Path) -> None:
    with pytest.raises(NbcomposeError) as caught:
        export_to(
            tmp_path / "app.py", NotebookSource(CELLS, "two.ipynb"), Request(freeze=("words",)), look_up=installed
        )
    assert str(caught.value) == (
        "a value can be frozen only where it is: run the notebook, and there %export FILE --freeze words"
    )


if __name__ == "__main__":
    for path in NOTEBOOKS:
        (GOLDEN / f"{path.stem}.py").write_text(from_file(path), encoding="utf-8")
