"""`nbcompose export`: a notebook's file to a script, without a kernel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from nbcompose.cli import main

SERVICE = "%%service --timeout 5\nclass A:\n    @api\n    def f(self) -> int:\n        return start"


def write(folder: Path, *sources: str) -> Path:
    cells = [nbformat.v4.new_markdown_cell("# One"), *(nbformat.v4.new_code_cell(s) for s in sources)]
    path = folder / "notebook.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write(tmp_path, "%load_ext nbcompose\nfrom nbcompose import api", "start = 1", SERVICE, "!ls", "A.f()")


def test_to_a_file(notebook: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(notebook), "-o", "app.py", "--docker"]) == 0
    text = Path("app.py").read_text()
    said = capsys.readouterr()
    assert said.out.startswith(f"app.py: 1 service, {len(text.splitlines())} lines; ")
    left_out, wheel = said.err.splitlines()
    assert left_out.startswith("note: cell 5: `!ls` ")
    assert wheel.startswith("note: nbcompose is not from a package index here: it lies beside the script as ")
    assert [p.name in wheel for p in Path().glob("*.whl")] == [True]
    assert '@service(traffic={"timeout": 5.0})' in text or '@service(traffic={"timeout": 5})' in text
    assert Path("Dockerfile").exists()
    assert main(["export", str(notebook), "-o", "app.py", "--docker"]) == 0
    assert Path("app.py").read_text() == text


@pytest.mark.parametrize("output", [[], ["-o", "-"]])
def test_to_standard_output(output: list[str], notebook: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(notebook), *output]) == 0
    said = capsys.readouterr()
    compile(said.out, "app.py", "exec")
    assert said.out.endswith("nbcompose.serve(A)\n")
    assert said.err.startswith("note: cell 5: `!ls` ")


def test_a_script_that_was_exported_is_the_same_script(notebook: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(notebook), "-o", "notebook.py"]) == 0
    text = Path("notebook.py").read_text()
    capsys.readouterr()
    assert main(["export", "notebook.py"]) == 0
    assert capsys.readouterr().out == text


def test_modules_beside_a_notebook_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "near.py").write_text("start = 1")
    path = write(tmp_path / "there", "from nbcompose import api\nfrom near import start", SERVICE)
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(path)]) == 0
    assert capsys.readouterr().err.startswith("note: near.py ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "concurrent.py"], "concurrent.py has the name of a module of Python's own, which it hides: call the "),
        (
            ["--freeze", "start"],
            "a value can be frozen only where it is: run the notebook, and there %export FILE --freeze",
        ),
        (["--entry", "B"], "no service is called 'B'; there are: A"),
        (["--docker"], "--docker writes files beside the script: say where that is to be, with -o app.py"),
        (["-o", "app.txt"], "app.txt: a script's name ends in .py"),
        (["-o", "none/app.py"], "none/app.py cannot be written: No such file or directory"),
    ],
)
def test_what_cannot_be_is_a_line_on_stderr(
    arguments: list[str], message: str, notebook: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(notebook), *arguments]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"nbcompose: {message}")
    assert {p.name for p in Path().iterdir()} == {"notebook.ipynb"}


@pytest.mark.parametrize("name", ["none.ipynb", "broken.ipynb", "."])
def test_a_file_that_is_no_notebook(name: str, notebook: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("broken.ipynb").write_text("{")
    assert main(["export", name]) == 1
    said = capsys.readouterr().err
    assert said.startswith("nbcompose: ")
    assert said.count("\n") == 1


def test_a_refusal_names_the_cell_and_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, "from nbcompose import api", "start = !wc -l notebook.ipynb", SERVICE)
    assert main(["export", str(path), "-o", "app.py"]) == 1
    said = capsys.readouterr().err
    assert "cell 3, line 1" in said
    assert "subprocess" in said
    assert "or store its value, in the running notebook: %export FILE --freeze start\n" in said
    assert not Path("app.py").exists()


@pytest.mark.system
def test_without_the_notebook_packages_it_says_what_to_install(notebook: Path) -> None:
    program = (
        "import sys\n"
        "for name in ('IPython', 'nbformat', 'ruff'): sys.modules[name] = None\n"
        "from nbcompose.cli import main\n"
        f"sys.exit(main(['export', {str(notebook)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "pip install 'nbcompose[notebook]'" in done.stderr
    assert "Traceback" not in done.stderr
