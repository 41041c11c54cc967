"""nbcompose as a wheel, where no index has it: made without a network, installed by pip, imported elsewhere."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib import metadata
from io import BytesIO
from pathlib import Path

import pytest

import nbcompose
from nbcompose._export.cells import Cell
from nbcompose._export.docker import wheel_of_ours
from nbcompose._export.exporter import NotebookSource, Request, export_to
from tests.export.test_exporter import installed

HERE = '{"url": "file:///home/ann/nbcompose", "dir_info": {"editable": true}}'
ELSEWHERE = '{"url": "https://example.org/nbcompose", "vcs_info": {"vcs": "git", "commit_id": "0123abc"}}'


@pytest.fixture
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation of nbcompose as its installer has noted it down."""
    info = tmp_path / "site" / "nbcompose-0.1.0.dist-info"
    info.mkdir(parents=True)
    texts = {"METADATA": "Metadata-Version: 2.1\nName: nbcompose\nVersion: 0.1.0\n", "INSTALLER": "pip\n",
             "entry_points.txt": "[console_scripts]\nnbcompose = nbcompose.cli:main\n"}  # fmt: skip
    for name, text in texts.items():
        (info / name).write_text(text)
    (info / "RECORD").write_text("".join(f"{info.name}/{name},,\n" for name in [*texts, "RECORD"]))
    monkeypatch.setattr(metadata, "distribution", lambda name: metadata.PathDistribution(info))
    return info


def test_from_an_index_there_is_none(noted: Path) -> None:
    assert wheel_of_ours() is None


def test_from_a_place_that_pip_can_reach_there_is_none(noted: Path) -> None:
    (noted / "direct_url.json").write_text(ELSEWHERE)
    assert wheel_of_ours() is None


def test_from_a_folder_it_has_the_package_and_nothing_of_this_machine(noted: Path) -> None:
    (noted / "direct_url.json").write_text(HERE)
    made = wheel_of_ours()
    assert made is not None
    assert made == wheel_of_ours()
    assert made.name == "nbcompose-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(BytesIO(made.content)) as archive:
        names = set(archive.namelist())
        assert {n for n in names if not n.startswith("nbcompose/")} == {
            f"{noted.name}/{name}" for name in ("METADATA", "entry_points.txt", "WHEEL", "RECORD")
        }
        assert {"nbcompose/cli.py", "nbcompose/_export/docker.py"} <= names
        assert archive.read("nbcompose/cli.py") == Path(nbcompose.__file__).with_name("cli.py").read_bytes()


def test_what_is_not_installed_at_all_is_from_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    made = wheel_of_ours()
    assert made is not None
    assert made.name == f"nbcompose-{nbcompose.__version__}-py3-none-any.whl"


@pytest.mark.parametrize("local", [True, False])
def test_it_lies_beside_the_script(noted: Path, local: bool, tmp_path: Path) -> None:
    if local:
        (noted / "direct_url.json").write_text(HERE)
    cells = [Cell("1", "cell 1", "%%service\nclass A:\n    @api\n    def f(self): pass")]
    cells.insert(0, Cell("0", "cell 0", "from nbcompose import api"))
    exported = export_to(tmp_path / "app.py", NotebookSource(cells, "a.ipynb"), Request(docker=True), look_up=installed)
    name = "nbcompose-0.1.0-py3-none-any.whl"
    assert (tmp_path / name).exists() is local
    assert (f"/tmp/{name}" in (tmp_path / "Dockerfile").read_text()) is local
    assert any(f"it lies beside the script as {name}" in note for note in exported.notes) is local


@pytest.mark.slow
@pytest.mark.system
def test_pip_installs_it(noted: Path, tmp_path: Path) -> None:
    (noted / "direct_url.json").write_text(HERE)
    made = wheel_of_ours()
    assert made is not None
    file, target = tmp_path / made.name, tmp_path / "target"
    file.write_bytes(made.content)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--no-index", "--no-deps", "--target", str(target), str(file)]
    subprocess.run(pip, check=True, capture_output=True)
    program = "import nbcompose, importlib.metadata as m; print(nbcompose.__file__, m.version('nbcompose'))"
    env = {"PYTHONPATH": str(target)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=env, cwd=target
    )
    assert done.stdout.split() == [str(target / "nbcompose" / "__init__.py"), "0.1.0"]
