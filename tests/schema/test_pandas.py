"""What pandas knows and JSON does not: missing values, times, intervals, categories, and the labels of an index."""

from __future__ import annotations

import json
import pathlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pydantic
import pytest

from nbcompose.errors import InvalidArgument, InvalidResult

STAMP = pd.Timestamp("2024-02-29T12:00:00", tz="UTC")
INTERVAL = {"left": 0, "right": 1, "closed": "right"}
SCALARS: list[tuple[object, object]] = [
    (pd.NA, None),
    (pd.NaT, None),
    (STAMP, "2024-02-29T12:00:00Z"),
    (pd.Timedelta("1 day 00:00:01"), "P1DT1S"),
    (pd.Period("2024-02"), "2024-02"),
    (pd.Period("2024Q1"), "2024Q1"),
    (pd.Interval(0, 1), INTERVAL),
    (
        pd.Interval(STAMP, STAMP, closed="both"),
        {"left": "2024-02-29T12:00:00Z", "right": "2024-02-29T12:00:00Z", "closed": "both"},
    ),
]
ARRAYS: list[tuple[object, object]] = [
    (pd.Categorical(["a", None, "b"]), ["a", None, "b"]),
    (pd.Index([1, 2]), [1, 2]),
    (pd.Index([pd.Interval(0, 1)]), [INTERVAL]),
    (pd.PeriodIndex(["2024-01", "NaT"], freq="M"), ["2024-01", None]),
    (pd.array([1, None], dtype="Int64"), [1, None]),
    (pd.array([True, None], dtype="boolean"), [True, None]),
    (pd.arrays.SparseArray([0, 1]), [0, 1]),
]


def dumped(schema_for, annotation: Any, value: Any) -> Any:
    schema = schema_for(annotation)
    return json.loads(schema.dump_json(schema.check_result(value)))


@pytest.mark.parametrize(("value", "expected"), SCALARS + ARRAYS)
def test_values_wherever_they_stand(schema_for, value, expected):
    assert dumped(schema_for, Any, value) == expected
    assert dumped(schema_for, dict, {"k": [value]}) == {"k": [expected]}
    assert dumped(schema_for, list[Any], [value, (value,)]) == [expected, [expected]]


class Model(pydantic.BaseModel):
    at: Any
    path: pathlib.Path


@dataclass(frozen=True)
class Data:
    at: Any
    path: pathlib.Path


@pytest.mark.parametrize("cls", [Model, Data])
def test_what_is_missing_leaves_the_rest_as_it_is(schema_for, cls, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"hello")
    value = cls(at=pd.NaT, path=path)
    assert dumped(schema_for, cls, value) == dumped(schema_for, cls, cls(at=None, path=path))
    assert value.at is pd.NaT


def test_a_file_that_is_gone_is_no_name_beside_what_is_missing(schema_for, tmp_path):
    with pytest.raises(InvalidResult, match="No such file"):
        dumped(schema_for, Data, Data(at=pd.NaT, path=tmp_path / "gone"))


@pytest.mark.parametrize(("value", "expected"), SCALARS)
def test_values_in_tables(schema_for, value, expected):
    frame = pd.DataFrame({"a": pd.Series([value, None], dtype=object), "n": [1, 2]})
    assert dumped(schema_for, pd.DataFrame, frame) == [{"a": expected, "n": 1}, {"a": None, "n": 2}]
    assert dumped(schema_for, pd.Series, frame["a"]) == [expected, None]
    typed = pd.Series([value, value]).convert_dtypes()
    assert dumped(schema_for, pd.Series, typed) == [expected, expected]
    assert dumped(schema_for, pd.DataFrame, pd.DataFrame({"c": pd.Categorical([value])}))[0]["c"] == expected


@pytest.mark.parametrize(
    ("cls", "text", "value"),
    [
        (pd.Timestamp, "2024-02-29T12:00:00+00:00", STAMP),
        (pd.Timedelta, "P1DT0H0M1S", pd.Timedelta("1 day 00:00:01")),
        (pd.Period, "2024-02", pd.Period("2024-02")),
        (pd.Interval, INTERVAL, pd.Interval(0, 1)),
    ],
)
def test_what_a_parameter_takes_a_result_gives(schema_for, cls, text, value):
    schema = schema_for(cls)
    assert schema.validate_json({"x": text}) == {"x": value}
    assert schema.validate({"x": value}) == {"x": value}
    assert json.loads(schema.dump_json(schema.check_result(value))) == text
    assert schema.input_schema["properties"]["x"]["description"].startswith(("a ", "an "))
    for wrong in ("nonsense", [1], {"left": 2, "right": 1}, {"left": 1, "right": "a"}, {"x": 1}):
        with pytest.raises(InvalidArgument):
            schema.validate_json({"x": wrong})


@pytest.mark.parametrize("cls", [pd.Timestamp, pd.Timedelta, pd.Period])
def test_no_time_is_null(schema_for, cls):
    assert dumped(schema_for, cls, pd.NaT) is None
    assert dumped(schema_for, cls | None, None) is None


FRAME = pd.DataFrame({"x": [10, 20, 30]})


@pytest.mark.parametrize(
    ("frame", "rows"),
    [
        (FRAME, [{"x": 10}, {"x": 20}, {"x": 30}]),
        (FRAME[FRAME.x > 10], [{"x": 20}, {"x": 30}]),  # numbers of rows, which nobody gave them
        (
            FRAME.set_index(pd.Index(["a", "b", "c"])),
            [{"index": n, "x": x} for n, x in (("a", 10), ("b", 20), ("c", 30))],
        ),
        (FRAME.set_index(pd.Index([7, 8, 9], name="id")), [{"id": n, "x": n * 10 - 60} for n in (7, 8, 9)]),
        (FRAME.set_index("x", drop=False), [{"x": 10}, {"x": 20}, {"x": 30}]),
        (FRAME.set_index("x"), [{"x": 10}, {"x": 20}, {"x": 30}]),
        (FRAME.describe().loc[["mean", "max"]], [{"index": "mean", "x": 20.0}, {"index": "max", "x": 30.0}]),
        (
            pd.DataFrame({"v": [1]}, pd.MultiIndex.from_tuples([("a", 2)], names=["k", None])),
            [{"k": "a", "level_1": 2, "v": 1}],
        ),
        (pd.DataFrame({"v": [1]}, pd.PeriodIndex(["2024-01"], freq="M")), [{"index": "2024-01", "v": 1}]),
        (pd.DataFrame({"v": [1, 2]}, pd.Index(["a", "a"])), [{"index": "a", "v": 1}, {"index": "a", "v": 2}]),
        (pd.DataFrame({"v": [1.5]}, pd.Index([np.nan])), [{"index": None, "v": 1.5}]),
        (pd.DataFrame(), []),
        (pd.DataFrame(index=[7, 8]), [{}, {}]),
        (pd.DataFrame(index=["a", "b"]), [{"index": "a"}, {"index": "b"}]),
        (pd.DataFrame({"v": []}, pd.Index([], dtype=object)), []),
    ],
)
def test_labels_of_a_table_are_fields_of_its_rows(schema_for, frame, rows):
    assert dumped(schema_for, pd.DataFrame, frame) == rows
    assert dumped(schema_for, Any, frame) == rows


@pytest.mark.parametrize(
    ("series", "values"),
    [
        (pd.Series([1, 2]), [1, 2]),
        (FRAME[FRAME.x > 10]["x"], [20, 30]),
        (pd.Series([1, None], ["a", "b"]), [{"index": "a", "value": 1.0}, {"index": "b", "value": None}]),
        (pd.Series([1], pd.Index(["a"], name="word"), name="n"), [{"word": "a", "n": 1}]),
        (pd.Series(["a", "a"], name="w").value_counts(), [{"w": "a", "count": 2}]),
        (pd.Series([1], [STAMP]), [{"index": "2024-02-29T12:00:00Z", "value": 1}]),
        (pd.Series([], dtype=float), []),
    ],
)
def test_a_series_with_labels_is_a_table_of_them(schema_for, series, values):
    assert dumped(schema_for, pd.Series, series) == values
    assert dumped(schema_for, dict, {"s": series}) == {"s": values}


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (pd.DataFrame({"a": [1]}, index=["x"]), "index,a\nx,1\n"),
        (pd.DataFrame({"a": [1]}, index=pd.Index([3], name="key")), "key,a\n3,1\n"),
        (pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([("x", 1)], names=["k", "a"])), "k,a\nx,1\n"),
        (pd.DataFrame({"at": [STAMP], "none": [pd.NA]}), "at,none\n2024-02-29 12:00:00+00:00,\n"),
        (pd.DataFrame({"a": []}), "a\n"),
    ],
)
def test_a_csv_file_has_the_rows_and_labels_that_json_has(schema_for, frame, expected):
    assert schema_for(pd.DataFrame).encode(frame, "text/csv").decode() == expected


def test_columns_whose_names_repeat_have_no_csv_form(schema_for):
    with pytest.raises(InvalidResult, match="a DataFrame whose column names repeat has no CSV form"):
        schema_for(pd.DataFrame).encode(pd.DataFrame([[1, 2]], columns=["a", "a"]), "text/csv")
