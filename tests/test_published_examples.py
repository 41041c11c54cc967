"""BentoML's published model composition examples, served as they are (`services/published_*.py`), called over HTTP.

The models are random stand-ins of the same kind (see scripts/stand_ins.py): the plumbing is tested, not the answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.optional import needs
from tests.patience import PATIENCE
from tests.serve_process import run, serving

pytestmark = [pytest.mark.system, needs("transformers")]

MODELS = Path(__file__).parents[1] / "models"
PRELOAD = "torch,transformers,transformers.pipelines"


@contextmanager
def example(target: str) -> Iterator[str]:
    """Serve it; the address where it answers."""
    if not (MODELS / "hub").is_dir():
        pytest.fail("the models are not laid out: run `make models` first")
    hub: dict[str, Any] = {"HF_HOME": str(MODELS), "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    with serving(target, "--port", "0", NBCOMPOSE_PRELOAD=PRELOAD, **hub) as served:
        yield served.url
        if target.endswith("InferenceGraph"):
            logs = run("logs", "InferenceGraph", "--pid", str(served.process.pid)).stdout
            assert "GPT2.generate does not declare max_length, num_return_sequences: ignored" in logs


def ask(url: str, **arguments: Any) -> Any:
    response = httpx.post(url, json=arguments, timeout=PATIENCE)
    assert response.status_code == 200, response.text
    return response.json()


def assert_classified(answer: dict[str, Any], labels: list[str]) -> None:
    assert answer["sequence"] == "I love it"
    assert sorted(answer["labels"]) == sorted(labels)
    assert sum(answer["scores"]) == pytest.approx(1)


def assert_labelled(answer: dict[str, Any]) -> None:
    assert set(answer) == {"label", "score"}
    assert 0 <= answer["score"] <= 1


@pytest.mark.slow
def test_several_models_in_one_service() -> None:
    with example("published_multi_model:MultiModelService") as url:
        assert_classified(ask(f"{url}/process_a", input_data="I love it"), ["positive", "negative", "neutral"])
        assert_labelled(ask(f"{url}/process_b", input_data="I love it"))
        both = ask(f"{url}/combined_process", input_data="I love it", labels=["fun", "work"])
        assert_classified(both["classification"], ["fun", "work"])
        assert_labelled(both["sentiment"])


def test_one_service_after_another() -> None:
    with example("published_sequential:InferenceService") as url:
        answer = ask(f"{url}/predict", input_data="I love it")
        assert_labelled(answer["preprocessing_result"])
        assert_labelled(answer["final_result"])


@pytest.mark.slow
def test_services_at_the_same_time() -> None:
    with example("published_concurrent:EnsembleService") as url:
        answer = ask(f"{url}/ensemble_predict", input_data="I love it")
        assert_classified(answer["zero_shot_classification"], ["positive", "negative", "neutral"])
        assert_labelled(answer["sentiment_analysis"])


@pytest.mark.slow
def test_an_inference_graph() -> None:
    with example("published_inference_graph:InferenceGraph") as url:
        answers = ask(f"{url}/generate_score")
        assert len(answers) == 2
        for answer in answers:
            assert answer["generated"].startswith("I have an idea!")
            assert 0 <= answer["score"] <= 1
