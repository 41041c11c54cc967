"""What every process of a script makes anew: said where it takes long, or much memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nbcompose._export.cells import Cell
from nbcompose._export.freeze import LARGE, heavy, size_of
from tests.export.notebooks import file, live, service, sliced

torch = pytest.importorskip("torch")

A = service("A", "return x")
LARGE_ONE = np.zeros(LARGE, np.uint8)


def notes(cells: list[Cell], values: dict[str, Any] | None, **options: Any) -> list[str]:
    return list(heavy(sliced(cells, **options), values))


def test_what_takes_long() -> None:
    cells = live(("f", "def f(): pass"), ("x", "x = f()", {"seconds": 12.0}), ("A", A))
    assert notes(cells, {"x": [1]}) == [
        "In [3], line 1: every process of the script makes `x` anew, which took 12 s here: --freeze x stores what is "
        "here; what only one service needs, its __init__ can load"
    ]
    assert notes(cells, {"x": 1}, freeze=["x"]) == []


def test_what_takes_much_memory() -> None:
    cells = live(("f", "def f(): pass"), ("x", "x = f()", {"seconds": 0.1}), ("A", A))
    assert notes(cells, {"x": LARGE_ONE}) == [
        "In [3], line 1: every process of the script makes `x` anew, 64 MiB in each: --freeze x stores what is "
        "here; what only one service needs, its __init__ can load"
    ]
    assert notes(cells, {"x": LARGE_ONE[:100]}) == []


def test_models_of_a_file() -> None:
    cells = file("from transformers import pipeline", "x = pipeline('fill-mask')", A)
    assert notes(cells, None) == [
        "cell 3, line 1: every process of the script makes `x` anew: in the running notebook, %export FILE --freeze x "
        "stores what is here; what only one service needs, its __init__ can load"
    ]
    assert notes(file("x = dict(a=1)", A), None) == []


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (np.zeros(10, np.uint8), 10), (torch.zeros(10), 40), (torch.nn.Linear(3, 1), 16), ("text", 0), (None, 0),
        ([1], 0),
    ],
    ids=repr,
)  # fmt: skip
def test_sizes(value: Any, size: int) -> None:
    assert size_of(value) == size
