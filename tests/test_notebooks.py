"""The notebooks as they are committed: run, without errors, and with nothing of the machine that ran them.

That they still do what is saved in them is checked by `make notebooks`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
PRIVATE = {
    "a port": re.compile(r"(127\.0\.0\.1|localhost):\d+"),
    "a token": re.compile(r"Bearer [\w-]{8,}"),
    "a home or checkout": re.compile(rf"/(home|root|Users)/|{re.escape(str(FOLDER.parent))}"),
    "a duration": re.compile(r"\b\d+(\.\d+)? ?(ms|s|seconds)\b"),
}


# What `%%time` says, in the one cell that is about how long something takes; nbval.cfg leaves it out too.
TIMED = re.compile(r"(CPU times|Wall time): .*?\\n")
# How long a card takes to say that it is a saved one is a style, not something that was measured.
STYLES = re.compile(r"\banimation:[\w -]*")


def code_of(path: Path) -> list[nbformat.NotebookNode]:
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]


def test_there_is_one_for_each_pattern_and_the_quickstart() -> None:
    names = {path.stem for path in NOTEBOOKS}
    assert names >= {"quickstart", "several_models", "sequential", "concurrent", "inference_graph", "streams", "llms"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_every_cell_was_run_in_order_without_errors(path: Path) -> None:
    cells = code_of(path)
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    assert [o for c in cells for o in c.outputs if o.output_type == "error" or o.get("name") == "stderr"] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
@pytest.mark.parametrize("what", PRIVATE)
def test_outputs_hold_nothing_of_the_machine(path: Path, what: str) -> None:
    measured = what == "a duration"  # a cell may be about how long things took: nbval does not compare it
    cells = [c for c in code_of(path) if not (measured and "nbval-ignore-output" in c.metadata.get("tags", ()))]
    shown = [STYLES.sub("", TIMED.sub("", json.dumps(o))) for c in cells for o in c.outputs]
    assert [m.group() for text in shown for m in PRIVATE[what].finditer(text)] == []


@pytest.mark.system
def test_a_display_counts_as_its_last_update_left_it(tmp_path: Path) -> None:
    """What notebooks/conftest.py adds to nbval."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for name in ("conftest.py", "pytest.ini", "nbval.cfg"):
        (folder / name).write_bytes((FOLDER / name).read_bytes())
    source = "h = display('starting', display_id=True)\nh.update('ready')"
    for name, shown in (("same", "'ready'"), ("differs", "'starting'")):
        output = nbformat.v4.new_output("display_data", data={"text/plain": shown})
        cell = nbformat.v4.new_code_cell(source, execution_count=1, outputs=[output])
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / f"{name}.ipynb")
    command = [sys.executable, "-m", "pytest", "-c", "notebooks/pytest.ini", "--color=no", "notebooks"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False)
    assert "differs.ipynb::Cell 0 - Notebook cell execution failed" in done.stdout
    assert "1 failed, 1 passed" in done.stdout
