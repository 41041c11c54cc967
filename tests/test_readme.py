"""The README's Python blocks, run in order in a real kernel, as a reader would."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.patience import PATIENCE

pytestmark = pytest.mark.system

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each block prints or shows, by its first line."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(block) for block in blocks])
    where = {"metadata": {"path": str(tmp_path_factory.mktemp("readme"))}}  # it exports a script
    NotebookClient(notebook, timeout=int(PATIENCE), kernel_name="python3", resources=where).execute()
    return {cell.source.splitlines()[0]: _text(cell) for cell in notebook.cells}


def _text(cell: nbformat.NotebookNode) -> str:
    return "\n".join(o.get("text") or o.get("data", {}).get("text/plain", "") for o in cell.outputs)


def test_calls_answer_what_the_readme_is_about(outputs: dict[str, str]) -> None:
    assert outputs['Embedder.embed(["hello", "world"])'] == "[[0, 1, 0, 1, 0], [0, 0, 0, 1, 0]]"
    asked = outputs['print(Answer.find("where did the cat sit?"))']
    assert asked.startswith("the cat sat on the mat\n")
    assert asked.splitlines()[1] == "a quick brown fox jumps over a lazy dog"
    assert asked.rstrip().endswith("f o x")
    assert "CAT SAT" in outputs[next(line for line in outputs if line.startswith("with nbcompose.run(Answer)"))]
    known = ("the cat sat on the mat", "a quick brown fox jumps over a lazy dog", "lorem ipsum dolor")
    assert outputs["import httpx"] in {repr(text.upper()) for text in known}
    assert outputs['Answer.find("where did the cat sit?")'] == "'THE CAT SAT ON THE MAT'"


def test_the_exported_script_answers_the_same(outputs: dict[str, str]) -> None:
    shown = outputs["%export app.py --check"]
    assert "app.py starts, and its services are ready" in shown
    assert "different" not in shown


def test_services_shows_both_and_scales(outputs: dict[str, str]) -> None:
    assert "Embedder" in outputs["%services"]
    assert "Answer" in outputs["%services"]
    assert "Answer has 2 replicas" in outputs["%services scale Answer 2"]
