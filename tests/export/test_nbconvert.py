"""`jupyter nbconvert --to nbcompose`: whose versions, how it is found, and how a refusal reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbconvert.exporters import Exporter

from nbcompose import __version__
from nbcompose._export.nbconvert import NbcomposeExporter
from nbcompose.errors import ExportRefused

PROJECT = Path(__file__).parents[2] / "pyproject.toml"

CELLS = (
    "%load_ext nbcompose\nimport numpy as np\nfrom nbcompose import api",
    "%%service\nclass A:\n    @api\n    def f(self) -> float:\n        return float(np.zeros(1)[0])",
)


def notebook(kernel: str = "", cells: tuple[str, ...] = CELLS) -> Any:
    found = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in cells])
    if kernel:
        found.metadata["kernelspec"] = {"name": kernel, "display_name": kernel}
    return found


def convert(nb: Any, name: str = "answers") -> str:
    text, resources = NbcomposeExporter().from_notebook_node(nb, {"metadata": {"name": name}})
    assert resources["output_extension"] == ".py"
    return str(text)


def test_a_script_that_would_hide_a_module_is_called_otherwise() -> None:
    """`notebooks/concurrent.ipynb`: nothing that uses threads can be imported beside a concurrent.py."""
    _, resources = NbcomposeExporter().from_notebook_node(notebook(), {"metadata": {"name": "concurrent"}})
    assert resources["output_extension"] == "_app.py"


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for kernels, which is the only one that Jupyter looks at besides the environment's own."""
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    return tmp_path / "kernels"


def test_modules_beside_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "near.py").write_text("")
    nb = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("import near\nfrom nbcompose import api\n@service\nclass A:\n    @api\n"
                                         "    def f(self) -> str:\n        return near.__name__"),
               nbformat.v4.new_code_cell("from nbcompose import service")]
    )  # fmt: skip
    nb.cells.reverse()
    resources = {"metadata": {"name": "answers", "path": str(tmp_path)}}
    exporter = NbcomposeExporter()
    noted: list[str] = []
    monkeypatch.setattr(exporter.log, "warning", lambda text, *values: noted.append(text % values))
    exporter.from_notebook_node(nb, resources)
    [note] = noted
    assert note.startswith("nbcompose: near.py ")


def add(kernels: Path, name: str, argv: list[str], language: str = "python") -> None:
    (kernels / name).mkdir(parents=True)
    spec = {"argv": argv, "display_name": name, "language": language}
    (kernels / name / "kernel.json").write_text(json.dumps(spec))


def test_the_script_names_the_notebook_and_has_the_versions_of_this_environment() -> None:
    import numpy as np

    text = convert(notebook("python3"))
    assert '"""The services of answers.ipynb, without Jupyter (exported by nbcompose)."""' in text
    assert f'"numpy=={np.__version__}"' in text
    assert f'"nbcompose=={__version__}"' in text
    assert text.endswith("nbcompose.serve(A)\n")
    assert text == convert(notebook("python3"))


def test_versions_are_those_of_the_notebooks_kernel(kernels: Path) -> None:
    """Another interpreter is asked: here a program that answers as one would."""
    other = kernels.parent / "python"
    answer = {
        "python": [3, 12],
        "modules": {"numpy": {"distributions": ["numpy"], "file": ""}},
        "distributions": {"numpy": {"version": "9.8.7", "url": ""}, "nbcompose": {"version": "6.5", "url": ""}},
    }
    other.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(answer)}\nEND\n")
    other.chmod(0o755)
    add(kernels, "other", [str(other), "-m", "ipykernel"])
    text = convert(notebook("other"))
    assert '"numpy==9.8.7"' in text
    assert '"nbcompose==6.5"' in text
    assert 'requires-python = ">=3.12"' in text


@pytest.mark.system
def test_a_real_interpreter_answers(kernels: Path) -> None:
    """The one that this environment was made from has none of its packages."""
    base = Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}")
    add(kernels, "base", [str(base), "-m", "ipykernel"])
    text = convert(notebook("base"))
    assert f'requires-python = ">=3.{sys.version_info.minor}"' in text


@pytest.mark.parametrize(
    ("kernel", "why"),
    [
        ("", "the notebook does not say which kernel it runs in"),
        ("elsewhere", "the server has no kernel elsewhere"),
        ("gone", "{folder}/gone does not say what is installed there"),
        ("r", "r is not a Python kernel"),
    ],
)
def test_what_is_not_known_is_left_open_and_told(kernel: str, why: str, kernels: Path) -> None:
    add(kernels, "gone", [f"{kernels.parent}/gone", "-m", "ipykernel"])
    add(kernels, "r", ["R"], "R")
    text = convert(notebook(kernel))
    assert '#     "numpy",\n' in text
    assert f"# # versions are not known: {why.format(folder=kernels.parent)}" in text


def test_a_refusal_is_a_message_that_can_be_read() -> None:
    cells = (CELLS[0], CELLS[1].replace("np.zeros(1)", "start"))
    with pytest.raises(ExportRefused, match="cell 2, line 2: A needs `start`, which no cell sets"):
        convert(notebook("python3", cells))


def test_it_is_an_exporter_with_a_name_that_jupyterlab_lists() -> None:
    assert issubclass(NbcomposeExporter, Exporter)
    assert NbcomposeExporter.export_from_notebook == "nbcompose script"
    entry_points = tomllib.loads(PROJECT.read_text())["project"]["entry-points"]["nbconvert.exporters"]
    assert entry_points == {"nbcompose": f"{NbcomposeExporter.__module__}:{NbcomposeExporter.__name__}"}


@pytest.mark.system
def test_the_command(tmp_path: Path) -> None:
    """As installed: with the entry point that pyproject.toml declares."""
    packages = tmp_path / "packages"
    about = packages / f"nbcompose-{__version__}.dist-info"
    about.mkdir(parents=True)
    about.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: nbcompose\nVersion: {__version__}\n")
    declared = tomllib.loads(PROJECT.read_text())["project"]["entry-points"]["nbconvert.exporters"]
    lines = [f"{name} = {value}" for name, value in declared.items()]
    about.joinpath("entry_points.txt").write_text("\n".join(["[nbconvert.exporters]", *lines, ""]))
    nbformat.write(notebook("python3"), tmp_path / "answers.ipynb")
    path = os.pathsep.join([str(packages), str(PROJECT.parent)])
    done = subprocess.run(
        [sys.executable, "-m", "nbconvert", "--to", "nbcompose", "answers.ipynb"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "answers.py").read_text() == convert(notebook("python3"))
