"""scripts/run_demo.py, which is `make demo`: the quickstart answers from its passages, with real models."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests.optional import needs

pytestmark = [pytest.mark.system, needs("transformers"), pytest.mark.slow]

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def demo() -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HF_HOME": str(CHECKOUT / "models"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(CHECKOUT / "scripts" / "run_demo.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize(
    ("question", "answer", "source"),
    [
        ("Who wrote Dune?", "Frank Herbert", "Dune"),
        ("What are the rings of Saturn made of?", "ice", "Saturn"),
        ("When was the telephone patented?", "March 1876", "Telephone"),
        ("Who is the author of Frankenstein?", "Mary Shelley", "Frankenstein"),
        ("How do I bake a cake?", "The passages say nothing about this.", "nothing"),
    ],
)
def test_each_question_gets_the_answer_of_its_passage(
    demo: subprocess.CompletedProcess[str], question: str, answer: str, source: str
) -> None:
    lines = demo.stdout.splitlines()
    at = lines.index(f"Q: {question}")
    assert answer in lines[at + 1]
    assert source in lines[at + 2]


def test_the_executed_notebook_is_saved_where_it_says(demo: subprocess.CompletedProcess[str]) -> None:
    saved, page = CHECKOUT / "build" / "quickstart.ipynb", CHECKOUT / "build" / "quickstart.html"
    assert str(saved) in demo.stdout
    assert page.as_uri() in demo.stdout
    assert "Frank Herbert" in saved.read_text()
    assert "Frank Herbert" in page.read_text()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_gets_the_same_answer_as_the_kernel(demo: subprocess.CompletedProcess[str]) -> None:
    notebook = nbformat.read(CHECKOUT / "build" / "quickstart.ipynb", as_version=4)
    [cell] = [c for c in notebook.cells if c.source.startswith("!curl")]
    reply = json.loads("".join(o.text for o in cell.outputs))
    assert f"A: {reply['answer']}\n" in demo.stdout
    assert list(reply["sources"]) == ["Dune"]
