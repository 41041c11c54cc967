"""The four-model graph in versions: the source that BentoML serves, and its cells, edited in the same places.

It is `inference_graph.py`. One of its services, BertBaseUncased, says besides which `__init__` made it, how long that
took, and which version of its method answers.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.graph import QUESTION
from benchmarks.servers import ROOT

SOURCE = ROOT / "benchmarks/inference_graph.py"
EDITED = "BertBaseUncased"
API = "generate_score"
ASK = f"answer = InferenceGraph.{API}(**{QUESTION!r})"

_IMPORT = "import asyncio\n"
_LOAD = """\
        self.classification_pipeline = transformers.pipeline(
            task="text-classification", model=self.model_path, tokenizer=self.model_path
        )
"""
_ANSWER = """\
    def classify_generated_texts(self, sentence: str) -> float | str:
        return self.classification_pipeline(sentence)[0]["score"]  # type: ignore[no-any-return]
"""
_TIMED_LOAD = """\
        began = time.perf_counter()
{load}\
        self.started, self.loading = {version.started}, time.perf_counter() - began
"""
_MARKED_ANSWER = """\
    def classify_generated_texts(self, sentence: str) -> t.List[t.Any]:
        score = self.classification_pipeline(sentence)[0]["score"]
        return [self.started, {version.answered}, self.loading, score]
"""


@dataclass(frozen=True, slots=True)
class Version:
    """A number that stands in `__init__`, and one that stands in the method: an edit changes one of them."""

    started: int = 0
    answered: int = 0

    @property
    def next_method(self) -> Version:
        return replace(self, answered=self.answered + 1)

    @property
    def next_init(self) -> Version:
        return replace(self, started=self.started + 1)


@dataclass(frozen=True, slots=True)
class Answer:
    """Which version answered, and the seconds that its `__init__` took to load the model."""

    version: Version
    loading: float


def source(version: Version) -> str:
    """The module in this version."""
    text = _replaced(SOURCE.read_text(), _IMPORT, f"{_IMPORT}import time\n")
    text = _replaced(text, _LOAD, _TIMED_LOAD.format(load=_LOAD, version=version))
    return _replaced(text, _ANSWER, _MARKED_ANSWER.format(version=version))


def cells(version: Version) -> Mapping[str, str]:
    """The same as cells of a notebook, in order: the imports under "", and each service's under its name."""
    text = source(version)
    classes = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
    lines = text.splitlines(keepends=True)
    first = {node.name: min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1 for node in classes}
    services = {node.name: "%%service\n" + "".join(lines[first[node.name] : node.end_lineno]) for node in classes}
    return {"": "".join(lines[: first[classes[0].name]]), **services}


def read(answer: Sequence[Mapping[str, Any]]) -> Answer:
    """Who gave an answer of the graph. Raises `ValueError` for one that is not of one version."""
    found = {tuple(result["score"][:3]) for result in answer}
    if len(found) != 1:
        raise ValueError(f"an answer of several versions: {found}")
    started, answered, loading = found.pop()
    return Answer(Version(started, answered), loading)


def _replaced(text: str, old: str, new: str) -> str:
    if text.count(old) != 1:
        raise ValueError(f"{SOURCE.name} should have this once, and has it {text.count(old)} times:\n{old}")
    return text.replace(old, new)
