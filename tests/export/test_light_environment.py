"""An exported script where nbcompose is installed without its extras: no Jupyter, no torch (`make system` makes it)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from nbcompose._export.cells import Cell
from nbcompose._export.exporter import NotebookSource, Request, export_to
from tests.patience import PATIENCE
from tests.serve_process import Served

pytestmark = pytest.mark.system

PYTHON = Path(__file__).parents[2] / ".venv-light" / "bin" / "python"
ABSENT = ("IPython", "ipykernel", "jupyter_client", "nbformat", "ipywidgets", "anywidget", "torch")
CELLS = [
    """\
%load_ext nbcompose
import numpy as np
from nbcompose import api, depends
from pydantic import BaseModel""",
    """\
class Found(BaseModel):
    text: str
    score: float

LETTERS = 'aeiou'""",
    """\
%%service --threads 2
class Embedder:
    @api(batchable=True)
    def embed(self, texts: list[str]) -> np.ndarray:
        return np.array([[text.count(letter) for letter in LETTERS] for text in texts], dtype=float)""",
    """\
%%service --port {port}
class Search:
    embedder = depends(Embedder)

    @api
    async def best(self, query: str, among: list[str]) -> Found:
        vectors = await self.embedder.to_async.embed([query, *among])
        scores = vectors[1:] @ vectors[0]
        best = int(scores.argmax())
        return Found(text=among[best], score=scores[best])""",
    "Search.best('moon', ['soon', 'tree'])\n%graph",
]


@pytest.fixture(scope="module")
def python() -> Path:
    if not PYTHON.exists():
        pytest.fail("there is no .venv-light: run `make system`, which makes it")
    return PYTHON


def test_nothing_of_jupyter_is_there(python: Path) -> None:
    program = f"import importlib.util, json; print(json.dumps([n for n in {ABSENT!r} if importlib.util.find_spec(n)]))"
    found = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True, env=alone())
    assert json.loads(found.stdout) == []


def test_a_script_serves_its_graph(python: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    cells = [Cell(str(n), f"cell {n}", source.replace("{port}", str(port))) for n, source in enumerate(CELLS, 1)]
    export_to(tmp_path / "app.py", NotebookSource(cells, "search.ipynb"), Request())
    process = subprocess.Popen(
        [python, "app.py"], cwd=tmp_path, env=alone(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    served = Served(process)
    try:
        assert f"Search answers at http://127.0.0.1:{port} " in served.read_until("answers at")
        asked = {"query": "moon", "among": ["soon", "tree"]}
        assert httpx.post(f"http://127.0.0.1:{port}/best", json=asked).json() == {"text": "soon", "score": 4.0}
    finally:
        process.terminate()
        process.wait(PATIENCE)
        served.close()


def alone() -> dict[str, str]:
    """The environment without paths to this project's other environment."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    return {**kept, "PYTHONUNBUFFERED": "1"}
