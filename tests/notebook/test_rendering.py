"""How results look as bundles, and what the notebook has of them. Calls over a comm are in test_widget.py."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nbcompose import api, service
from nbcompose._control.operations import MOST_TEXT
from nbcompose._notebook.rendering import Renderer, Results
from nbcompose._schema.api import ApiSchema
from tests.notebook.conftest import Notebook


@service
class Whatever:
    @api
    def any(self) -> Any:
        """Whatever."""


def schema() -> ApiSchema:
    found = Whatever.spec.api("any")
    assert found is not None
    return ApiSchema.of(Whatever.spec.cls, found)


def bundle(notebook: Notebook, value: Any) -> dict[str, Any]:
    return asyncio.run(Renderer(notebook.shell).bundle(value, schema()))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("two\nlines", {"text/plain": "two\nlines"}),
        (3, {"text/plain": "3", "application/json": 3}),
        (None, {"text/plain": "None", "application/json": None}),
        (float("nan"), {"text/plain": "nan"}),
        ({"a": [1, 2]}, {"text/plain": "{'a': [1, 2]}", "application/json": {"a": [1, 2]}}),
    ],
)
def test_plain_values(bare: Notebook, value: Any, expected: dict[str, Any]) -> None:
    assert bundle(bare, value) == expected


def test_rich_values_as_a_notebook_shows_them(bare: Notebook) -> None:
    table = bundle(bare, pd.DataFrame({"n": [1, 2]}))
    assert "<table" in table["text/html"]
    assert "application/json" not in table
    picture = bundle(bare, Image.new("RGB", (2, 2)))
    assert base64.b64decode(picture["image/png"]).startswith(b"\x89PNG")
    assert bundle(bare, np.arange(3)) == {"text/plain": "array([0, 1, 2])"}


def test_what_is_long_is_cut(bare: Notebook) -> None:
    text = bundle(bare, "x" * (MOST_TEXT + 1))["text/plain"]
    assert text.endswith(f"… ({MOST_TEXT + 1:,} characters)")


def test_what_the_notebook_has_of_calls() -> None:
    results = Results()
    assert results.result is None
    assert repr(results) == "_graph: no call has been made in the graph yet"
    results.put("Answer.ask", [1])
    assert repr(results) == "_graph.result is what Answer.ask returned last: list"
