from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nbcompose._replica import joining


def same(left: Any, right: Any) -> bool:
    if type(left) is not type(right):
        return False
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right)
    if isinstance(left, pd.DataFrame | pd.Series):
        return left.equals(right)
    return bool(left == right)


CASES = [
    ([["a", "b"], ["c"]], 0, ["a", "b", "c"]),
    ([("a",), ("b", "c")], 0, ("a", "b", "c")),
    ([[], ["a"], []], 0, ["a"]),
    ([np.ones((2, 3), "f4"), np.zeros((1, 3), "f4")], 0, np.array([[1] * 3, [1] * 3, [0] * 3], "f4")),
    ([np.ones((1, 2)), np.zeros((1, 1))], 1, np.array([[1.0, 1.0, 0.0]])),
    ([np.ones((1, 2)), np.zeros((1, 1))], -1, np.array([[1.0, 1.0, 0.0]])),
    ([np.empty((0, 2)), np.ones((1, 2))], 0, np.ones((1, 2))),
    (
        [pd.DataFrame({"x": [1, 2], "y": ["a", "b"]}), pd.DataFrame({"x": [3], "y": ["c"]})],
        0,
        pd.DataFrame({"x": [1, 2, 3], "y": ["a", "b", "c"]}),
    ),
    ([pd.Series([1, 2]), pd.Series([3])], 0, pd.Series([1, 2, 3])),
]


@pytest.mark.parametrize(("parts", "dim", "whole"), CASES)
def test_join_and_split_undo_each_other(parts: list[Any], dim: int, whole: Any) -> None:
    assert same(joining.join(parts, dim), whole)
    lengths = [joining.length(p, dim) for p in parts]
    assert joining.length(whole, dim) == sum(lengths)
    assert all(same(p, q) for p, q in zip(joining.split(whole, lengths, dim), parts, strict=True))
    assert len({joining.kind(p, dim) for p in parts}) == 1


def test_one_batch_alone_is_passed_on_as_it_is() -> None:
    frame = pd.DataFrame({"x": [1]}, index=[7])
    assert joining.join([frame], 0) is frame


def test_arrays_are_split_without_copies() -> None:
    whole = np.zeros((3, 2))
    joining.split(whole, [1, 2], 0)[1][0, 0] = 5
    assert whole[1, 0] == 5


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (["a"], ("a",)),
        (np.ones((1, 2)), np.ones((1, 3))),
        (np.ones((1, 2), "f4"), np.ones((1, 2), "f8")),
        (np.ones(1), [1.0]),
        (pd.DataFrame({"x": [1]}), pd.DataFrame({"y": [1]})),
        (pd.DataFrame({"x": [1]}), pd.DataFrame({"x": [1.5]})),
        (pd.Series([1], name="x"), pd.Series([1], name="y")),
    ],
)
def test_batches_that_would_change_each_other_are_of_different_kinds(left: Any, right: Any) -> None:
    assert joining.kind(left, 0) != joining.kind(right, 0)


@pytest.mark.parametrize(
    ("value", "dim", "message"),
    [
        ("text", 0, "expected a list, tuple, numpy array, torch tensor, DataFrame or Series, got str"),
        ({"a": 1}, 0, "got dict"),
        (None, 0, "got NoneType"),
        (["a"], 1, "a list has only dimension 0, not 1"),
        (pd.DataFrame({"x": [1]}), 1, "a DataFrame has only dimension 0, not 1"),
        (np.ones((2, 2)), 2, r"a ndarray of shape \(2, 2\) has no dimension 2"),
        (np.float64(1.0), 0, "got float64"),
        (np.array(1.0), 0, r"a ndarray of shape \(\) has no dimension 0"),
    ],
)
def test_what_cannot_be_split_into_items_is_refused(value: Any, dim: int, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        joining.length(value, dim)


@pytest.mark.system
def test_no_library_is_imported_for_lists() -> None:
    code = "import sys; from nbcompose._replica import joining; joining.join([[1], [2]], 0); joining.kind([1], 0)\n"
    code += "assert not {'torch', 'pandas', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.system
def test_tensors() -> None:
    torch = pytest.importorskip("torch")
    parts = [torch.ones(2, 3, dtype=torch.bfloat16), torch.zeros(1, 3, dtype=torch.bfloat16)]
    whole = joining.join(parts, 0)
    assert whole.dtype == torch.bfloat16
    assert whole.tolist() == [[1] * 3, [1] * 3, [0] * 3]
    first, second = joining.split(whole, [2, 1], 0)
    assert torch.equal(first, parts[0])
    assert torch.equal(second, parts[1])
    assert joining.join([torch.ones(1, 2), torch.ones(1, 1)], -1).shape == (1, 3)
    assert joining.kind(parts[0], 0) == joining.kind(parts[1], 0)
    assert joining.kind(parts[0], 0) != joining.kind(parts[0].float(), 0)
    with pytest.raises(TypeError, match="no dimension 0"):
        joining.length(torch.tensor(1.0), 0)
