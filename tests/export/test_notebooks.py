"""The scripts of the notebooks, served where there is no Jupyter. `make notebooks` exports and checks them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from nbcompose._export.cells import Cell
from nbcompose._export.exporter import NotebookSource, Request, export_to
from tests.export.test_exporter import GOLDEN, NOTEBOOKS
from tests.optional import needs
from tests.patience import PATIENCE
from tests.serve_process import Served, serving

pytestmark = [pytest.mark.system, needs("transformers")]

ROOT = Path(__file__).parents[2]
MODELS = {"HF_HOME": str(ROOT / "models"), "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}

# Imported by every Python that starts: what an environment without Jupyter lacks.
BLOCKER = """
import sys

BLOCKED = ("IPython", "ipykernel", "jupyter", "jupyter_client", "jupyter_core", "jupyter_server", "jupyterlab",
           "nbformat", "nbconvert", "nbclient", "ipywidgets", "anywidget", "traitlets")

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
"""

# What each one's entry is asked, over HTTP, and what is seen of the answer. (One of llms.ipynb needs a server beside.)
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "quickstart": ("ask", {"question": "Who wrote Dune?"}),
    "sequential": ("predict", {"input_data": "The food was good."}),
    "concurrent": ("ensemble_predict", {"input_data": "The food was good."}),
    "several_models": ("process_b", {"input_data": "The food was good."}),
    "inference_graph": ("generate_score", {"original_sentence": "I have an idea!"}),
    "streams": ("tell", {"topic": "the sea"}),
}


@pytest.mark.parametrize(
    "notebook",
    [pytest.param(p, marks=pytest.mark.slow) if p.stem != "sequential" else p for p in NOTEBOOKS if p.stem in ASKED],
    ids=lambda p: p.stem,
)
def test_its_script_answers_where_there_is_no_jupyter(notebook: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCKER)
    script = tmp_path / "app.py"
    script.write_bytes((GOLDEN / notebook.name).with_suffix(".py").read_bytes())
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    api, arguments = ASKED[notebook.stem]
    here: dict[str, Any] = {
        **MODELS,
        "PYTHONPATH": path,
        "NBCOMPOSE_PRELOAD": "torch,transformers,transformers.pipelines",
    }
    with serving(str(script), "--port", "0", cwd=notebook.parent, **here) as served:
        lines = {"Accept": "application/x-ndjson, application/json"}
        response = httpx.post(f"{served.url}/{api}", json=arguments, headers=lines, timeout=PATIENCE)
        assert response.status_code == 200, response.text
    is_stream = response.headers["content-type"] == "application/x-ndjson"
    check_answer(notebook, [json.loads(line) for line in response.iter_lines()] if is_stream else response.json())


def test_python_runs_a_script_where_there_is_no_jupyter(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    cells = [
        Cell("1", "cell 1", "%load_ext nbcompose\nfrom nbcompose import api\nstart = 40"),
        Cell("2", "cell 2", f"%%service --port {port}\nclass A:\n    @api\n    def f(self, n: int) -> int:\n"
             "        return start + n"),
    ]  # fmt: skip
    (tmp_path / "sitecustomize.py").write_text(BLOCKER)
    export_to(tmp_path / "app.py", NotebookSource(cells, "small.ipynb"), Request())
    process = subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    served = Served(process)
    try:
        assert f"A answers at http://127.0.0.1:{port} " in served.read_until("answers at")
        assert httpx.post(f"http://127.0.0.1:{port}/f", json={"n": 2}).json() == 42
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        served.close()


def check_answer(notebook: Path, answer: Any) -> None:
    if notebook.stem == "quickstart":  # real models: the answer that is saved in the notebook
        assert answer["answer"] in json.dumps(json.loads(notebook.read_text(encoding="utf-8")))
        assert list(answer["sources"]) == ["Dune"]
    elif notebook.stem == "streams":
        saved = json.dumps(json.loads(notebook.read_text(encoding="utf-8")))
        assert answer
        assert all(sentence in saved for sentence in answer)
    elif notebook.stem == "inference_graph":
        assert answer[0]["generated"].startswith("I have an idea!")
    else:
        keys = {
            "sequential": {"preprocessing_result", "final_result"},
            "concurrent": {"zero_shot_classification", "sentiment_analysis"},
            "several_models": {"label", "score"},
        }
        assert set(answer) == keys[notebook.stem]
