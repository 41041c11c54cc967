"""The labels of pandas rows: joining and splitting must not show in them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from nbcompose import api, service
from nbcompose._replica.batching import Batcher
from nbcompose._spec import BatchPolicy
from nbcompose._tracing.spans import CallContext

LABELS: dict[str, list[pd.Index]] = {
    "numbered": [pd.RangeIndex(3), pd.RangeIndex(1)],
    "numbered and empty": [pd.RangeIndex(2), pd.RangeIndex(0)],
    "filtered": [pd.Index([1, 2]), pd.Index([7])],
    "the same rows": [pd.Index([1, 2]), pd.Index([2, 1])],
    "filtered, none left": [pd.Index([1, 2]), pd.Index([], dtype="int64")],
    "a range from 5": [pd.RangeIndex(5, 7), pd.RangeIndex(7, 8)],
    "a range with a name": [pd.RangeIndex(2, name="id"), pd.RangeIndex(3, name="id")],
    "two names": [pd.Index([1, 2], name="id"), pd.Index([3], name="key")],
    "text": [pd.Index(["a", "b"]), pd.Index(["c"])],
    "two types": [pd.Index(["a", "b"]), pd.Index([3])],
    "repeated": [pd.Index([4, 4]), pd.Index([5])],
    "times": [pd.date_range("2024-01-01", periods=2, tz="UTC"), pd.date_range("2025-01-01", periods=1, tz="UTC")],
    "two zones": [pd.date_range("2024-01-01", periods=2, tz="UTC"), pd.date_range("2025-01-01", periods=1)],
    "categories": [pd.CategoricalIndex(["a", "b"], categories=["a", "b"]), pd.CategoricalIndex(["b"], ["a", "b"])],
    "missing": [pd.Index([1.0, float("nan")]), pd.Index([float("nan")])],
    "several levels": [
        pd.MultiIndex.from_tuples([("a", 1), ("a", 2)], names=["x", "y"]),
        pd.MultiIndex.from_tuples([("b", 1)], names=["x", "y"]),
    ],
    "several levels, the same": [
        pd.MultiIndex.from_tuples([("a", 1), ("a", 2)]),
        pd.MultiIndex.from_tuples([("a", 1)]),
    ],
}


def double(frame: pd.DataFrame) -> pd.Series:
    return frame["x"] * 2


def table(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(y=frame["x"] * 2)


def by_position(frame: pd.DataFrame) -> pd.Series:
    """As most models answer: an array, which knows no labels."""
    return pd.Series(frame["x"].to_numpy() * 2)


def by_label(frame: pd.DataFrame) -> pd.Series:
    """Looks rows up by their labels, which works as long as they are unique."""
    return pd.Series({label: frame.loc[label, "x"] * 2 for label in frame.index}, index=frame.index, dtype="int64")


def relabelled(frame: pd.DataFrame) -> pd.Series:
    return pd.Series([x * 2 for x in frame["x"]], index=[f"row {x}" for x in frame["x"]], dtype="int64")


def listed(frame: pd.DataFrame) -> list[int]:
    return [int(x) * 2 for x in frame["x"]]


def alone(method: Callable[..., Any], frame: pd.DataFrame) -> Any:
    """What the method returns to a caller whom nobody joins; rows that it has only numbered are the caller's."""
    result = method(frame)
    if isinstance(result, list):
        return result
    return result.set_axis(frame.index) if result.index.equals(pd.RangeIndex(len(frame))) else result


def check(got: Any, wanted: Any) -> None:
    if isinstance(wanted, list):
        assert got == wanted
    elif isinstance(wanted, pd.Series):
        pd.testing.assert_series_equal(got, wanted, check_index_type="equiv")
    else:
        pd.testing.assert_frame_equal(got, wanted, check_index_type="equiv")


def frames_with(labels: list[pd.Index]) -> list[pd.DataFrame]:
    start, frames = 10, []
    for index in labels:
        frames.append(pd.DataFrame({"x": range(start, start + len(index))}, index=index, dtype="int64"))
        start += len(index)
    return frames


@pytest.mark.parametrize("size", [1, 2, 100], ids=lambda n: f"batches of {n}")
@pytest.mark.parametrize("labels", LABELS.values(), ids=list(LABELS))
@pytest.mark.parametrize("method", [double, table, by_position, by_label, relabelled, listed])
async def test_each_caller_gets_its_own_labels(method: Any, labels: list[pd.Index], size: int) -> None:
    if method is by_label and any(index.has_duplicates for index in labels):
        pytest.skip("labels that repeat look up several rows, also where nothing is joined")
    batches: list[int] = []

    async def run(frame: pd.DataFrame, others: Any, context: CallContext) -> Any:
        batches.append(len(frame))
        return method(frame)

    batcher = Batcher(run, BatchPolicy(max_batch_size=size), "J.double")
    frames = [f for frame in frames_with(labels) for f in (frame, frame * 2)]
    results = await asyncio.gather(*(batcher.submit(frame, {}, CallContext()) for frame in frames))
    for result, frame in zip(results, frames, strict=True):
        check(result, alone(method, frame))
    assert max(batches) <= size


async def joined(*frames: pd.DataFrame) -> list[int]:
    """The sizes of the batches that calls with these rows, made at once, are computed in."""
    batches: list[int] = []

    async def run(frame: pd.DataFrame, others: Any, context: CallContext) -> Any:
        batches.append(len(frame))
        return frame

    batcher = Batcher(run, BatchPolicy(), "J.double")
    await asyncio.gather(*(batcher.submit(frame, {}, CallContext()) for frame in frames))
    return batches


@pytest.mark.parametrize(
    ("labels", "batches"),
    [
        ([pd.RangeIndex(2), pd.RangeIndex(1), pd.RangeIndex(3)], [6]),
        ([pd.Index([1, 2]), pd.Index([5]), pd.Index([9])], [4]),
        ([pd.Index([1, 2]), pd.Index([2]), pd.Index([9])], [2, 2]),  # 2 is there twice
        ([pd.Index([1]), pd.RangeIndex(2)], [1, 2]),
        ([pd.Index([1]), pd.Index(["a"])], [1, 1]),
    ],
)
async def test_rows_are_joined_where_no_label_is_there_twice(labels: list[pd.Index], batches: list[int]) -> None:
    assert await joined(*frames_with(labels)) == batches


async def test_what_an_api_has_kept_is_left_alone() -> None:
    kept = pd.Series([1, 2])

    async def run(frame: pd.DataFrame, others: Any, context: CallContext) -> Any:
        return kept

    batcher = Batcher(run, BatchPolicy(), "J.double")
    [frame] = frames_with([pd.Index([7, 8])])
    result = await batcher.submit(frame, {}, CallContext())
    assert result.index.tolist() == [7, 8]
    assert kept.index.tolist() == [0, 1]


@pytest.mark.parametrize("method", [double, table, by_position, relabelled, listed])
@pytest.mark.parametrize("labels", LABELS.values(), ids=list(LABELS))
def test_an_instance_in_this_process_answers_as_a_served_one(method: Any, labels: list[pd.Index]) -> None:
    @service
    class J:
        @api(batchable=True)
        def run(self, frame: pd.DataFrame):
            return method(frame)

    instance = J()
    for frame in frames_with(labels):
        check(instance.run(frame), alone(method, frame))
