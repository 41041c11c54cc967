"""numpy's arrays as JSON, both ways: times of every unit, and dtypes whose items are no JSON by themselves."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import jsonschema
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcompose._schema import times
from nbcompose.errors import InvalidArgument
from tests.cases import named

MOMENTS = npt.NDArray[np.datetime64]
DURATIONS = npt.NDArray[np.timedelta64]
EAST = dt.timezone(dt.timedelta(hours=2))


def moments(*texts: str | None, unit: str) -> npt.NDArray[Any]:
    return np.array(texts, f"M8[{unit}]")


def durations(*numbers: int | str, unit: str) -> npt.NDArray[Any]:
    return np.array(numbers, f"m8[{unit}]")


# annotation, value, its JSON
TIMES: list[tuple[Any, Any, Any]] = [
    (MOMENTS, moments("2026", None, unit="Y"), ["2026-01-01", None]),
    (MOMENTS, moments("2026-02", unit="M"), ["2026-02-01"]),
    (MOMENTS, moments("2026-01-01", unit="W"), ["2026-01-01"]),
    (MOMENTS, moments("2026-01-02", None, unit="D"), ["2026-01-02", None]),
    (MOMENTS, moments("2026-01-02T03", unit="h"), ["2026-01-02T03:00:00"]),
    (MOMENTS, moments("2026-01-02T03:04", unit="m"), ["2026-01-02T03:04:00"]),
    (MOMENTS, moments("2026-01-02T03:04:05", None, unit="s"), ["2026-01-02T03:04:05", None]),
    (MOMENTS, moments("2026-01-02T03:04:05.25", unit="ms"), ["2026-01-02T03:04:05.250000"]),
    (MOMENTS, moments("2026-01-02T03:04:05.5", "1969-12-31", unit="us"),
     ["2026-01-02T03:04:05.500000", "1969-12-31T00:00:00"]),
    (MOMENTS, moments("2026-01-02T03:04:05.5", None, unit="ns"), ["2026-01-02T03:04:05.500000", None]),
    (MOMENTS, moments("2026-01-02T03:04:05.000000001", unit="ns"), ["2026-01-02T03:04:05.000000001"]),
    (MOMENTS, moments("1970-01-01T00:00:00.0000000000000001", unit="as"), ["1970-01-01T00:00:00.000000000000000100"]),
    (MOMENTS, moments("20000-01-01", unit="s"), ["20000-01-01T00:00:00"]),
    (MOMENTS, np.array([["2026-01-02"], ["NaT"]], "M8[D]"), [["2026-01-02"], [None]]),
    (MOMENTS, np.array("2026-01-02", "M8[D]"), "2026-01-02"),
    (MOMENTS, np.zeros((0, 2), "M8[ns]"), []),
    (DURATIONS, durations(2, "NaT", unit="W"), ["P14D", None]),
    (DURATIONS, durations(400, unit="D"), ["P400D"]),
    (DURATIONS, durations(25, unit="h"), ["P1DT1H"]),
    (DURATIONS, durations(90, unit="m"), ["PT1H30M"]),
    (DURATIONS, durations(0, 3661, -1, "NaT", unit="s"), ["PT0S", "PT1H1M1S", "-PT1S", None]),
    (DURATIONS, durations(-1500, unit="ms"), ["-PT1.500000S"]),
    (DURATIONS, durations(5, unit="us"), ["PT0.000005S"]),
    (DURATIONS, durations(60 * 10**9, 1, "NaT", unit="ns"), ["PT1M", "PT0.000000001S", None]),
    (DURATIONS, durations(3, unit="25s"), ["PT1M15S"]),
    (DURATIONS, np.array(7, "m8[D]"), "P7D"),
    (np.datetime64, np.datetime64("2026-01-02T03:04:05", "ns"), "2026-01-02T03:04:05"),
    (np.datetime64, np.datetime64("2026-01-02"), "2026-01-02"),
    (np.timedelta64, np.timedelta64(5, "ns"), "PT0.000000005S"),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "value", "written"), TIMES, ids=named)
def test_times_are_texts_both_ways(schema_for: Any, annotation: Any, value: Any, written: Any) -> None:
    schema = schema_for(annotation)
    assert json.loads(schema.dump_json(schema.check_result(value))) == written
    assert json.loads(schema_for(Any).dump_json({"x": value})) == {"x": written}
    taken = schema.validate_json({"x": written})["x"]
    assert np.array_equal(taken, value, equal_nan=True) or np.size(value) == 0
    assert taken.dtype.kind == value.dtype.kind
    jsonschema.validate({"x": written}, schema.input_schema)
    jsonschema.validate(written, schema.output_schema)


@pytest.mark.parametrize(
    ("annotation", "document", "arrives"),
    [
        (
            MOMENTS,
            ["2026-01-02T03:04:05Z", "2026-01-02T05:04:05+02:00"],
            moments(*["2026-01-02T03:04:05"] * 2, unit="s"),
        ),
        (MOMENTS, ["2026-01-02", "2026-01-02T03:04:05.5"], moments("2026-01-02", "2026-01-02T03:04:05.5", unit="ms")),
        (MOMENTS, ["2026-01-02 03:04"], moments("2026-01-02T03:04", unit="m")),
        (DURATIONS, ["P1Y1M1W1DT1H", "+PT1,5S"], durations(34822800000, 1500, unit="ms")),
        (DURATIONS, [None], durations("NaT", unit="s")),
        (DURATIONS, [], durations(unit="s")),
    ],
    ids=named,
)
def test_other_texts_are_read(schema_for: Any, annotation: Any, document: Any, arrives: Any) -> None:
    taken = schema_for(annotation).validate_json({"x": document})["x"]
    assert np.array_equal(taken, arrives, equal_nan=True)
    assert taken.dtype == arrives.dtype


@pytest.mark.parametrize(
    ("annotation", "given", "arrives"),
    [
        (MOMENTS, [dt.date(2026, 1, 2), None], moments("2026-01-02", None, unit="D")),
        (MOMENTS, [dt.datetime(2026, 1, 2, 5, tzinfo=EAST)], moments("2026-01-02T03", unit="us")),
        (MOMENTS, dt.datetime(2026, 1, 2), moments("2026-01-02", unit="us")[0]),
        (MOMENTS, (np.datetime64("2026-01-02T00:00:00.000000001"), "2026-01-03"),
         moments("2026-01-02T00:00:00.000000001", "2026-01-03", unit="ns")),
        (DURATIONS, [dt.timedelta(days=1), np.timedelta64(1, "ns"), "PT1S", None],
         durations(86400 * 10**9, 1, 10**9, "NaT", unit="ns")),
        (np.datetime64, dt.date(2026, 1, 2), np.datetime64("2026-01-02")),
        (np.timedelta64, dt.timedelta(days=1), np.timedelta64(1, "D")),
    ],
    ids=named,
)  # fmt: skip
def test_python_s_own_times_are_taken(schema_for: Any, annotation: Any, given: Any, arrives: Any) -> None:
    assert np.array_equal(schema_for(annotation).validate({"x": given})["x"], arrives, equal_nan=True)


@pytest.mark.parametrize(
    ("annotation", "bad"),
    [
        *((MOMENTS, [bad]) for bad in ("now", "today", "NaT", "", "2026", "2026-13-01", "P1D", 1, 1.5, True, [1, [2]])),
        *(
            (DURATIONS, [bad])
            for bad in ("P", "PT", "", "1 day", "P1.5D", "PT1", "2026-01-02", 1, True, "P999999999999Y")
        ),
        (MOMENTS, {"a": 1}),
        (MOMENTS, [["2026-01-02"], ["2026-01-02", "2026-01-03"]]),
        (DURATIONS, 5),
        (DURATIONS, [np.timedelta64(10**10, "s"), np.timedelta64(1, "ns")]),
        (np.datetime64, "now"),
        (np.timedelta64, "5"),
        (np.timedelta64, 5),
        (MOMENTS, ["2026-01-02T03:04:05.0000000000000000001"]),
        (MOMENTS, ["2026-01-02T03:04:05.000000000000000001"]),  # attoseconds reach nine seconds from 1970
        (MOMENTS, ["20000-01-01", "2026-01-02T00:00:00.000000001"]),
        (npt.NDArray[np.float64], ["2026-01-02"]),
    ],
    ids=named,
)
def test_what_is_no_time_is_refused(schema_for: Any, annotation: Any, bad: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^Svc\.f: x"):
        schema_for(annotation).validate_json({"x": bad})


def test_the_document_says_what_is_taken_and_given(schema_for: Any) -> None:
    told = json.dumps(schema_for(MOMENTS).input_schema)
    assert "an array of datetime64: nested lists of ISO 8601 dates or times, null is NaT" in told
    assert "nested lists of ISO 8601 durations" in json.dumps(schema_for(DURATIONS).output_schema)
    assert "a datetime64, as one of ISO 8601 dates or times" in json.dumps(schema_for(np.datetime64).output_schema)
    jsonschema.validate(None, schema_for(np.datetime64).output_schema)  # NaT


@given(st.integers(-(2**62), 2**62), st.sampled_from(["D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as"]))
def test_a_duration_is_read_as_it_was_written(number: int, unit: str) -> None:
    number //= {"D": 86400, "h": 3600, "m": 60}.get(unit, 1)  # as many seconds as there can be
    value = np.array([number], f"m8[{unit}]")
    read = times.from_texts(times.to_texts(value), "m")
    assert read == value


RECORDS = [("n", "i4"), ("text", "U3"), ("at", "M8[ns]"), ("pair", "f2", 2)]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (np.array([(1, "a", "2026-01-02", (0.5, np.nan))], RECORDS),
         [{"n": 1, "text": "a", "at": "2026-01-02T00:00:00", "pair": [0.5, None]}]),
        (np.array((1, "a", "NaT", (0, 0)), RECORDS), {"n": 1, "text": "a", "at": None, "pair": [0.0, 0.0]}),
        (np.array([(1, "a", "NaT", (0, 0))], RECORDS)[0], {"n": 1, "text": "a", "at": None, "pair": [0.0, 0.0]}),
        (np.zeros((2, 1), [("n", "?")]), [[{"n": False}], [{"n": False}]]),
        (np.zeros(2, np.dtype([])), [{}, {}]),
        (np.array([1 - 2j]), ["1-2j"]),
        (np.array([1.5, np.nan], np.longdouble), [1.5, None]),
        (np.longdouble(1.5), 1.5),
        (np.array([1.5], np.clongdouble), ["1.5+0j"]),
        (np.array([1.5, np.inf], np.float16), [1.5, None]),
        (np.array([True]), [True]),
        (np.array(["é"]), ["é"]),
        (np.array("é"), "é"),
        (np.array(["é"], np.dtypes.StringDType()), ["é"]),
        (np.array([b"ab", b"\xff"]), ["ab", "/w=="]),
        (np.array([b"ab"], "V2"), ["ab"]),
        (np.array([1, "a", None, {"b": np.arange(2)}, np.datetime64("2026-01-02", "ns")], object),
         [1, "a", None, {"b": [0, 1]}, "2026-01-02T00:00:00"]),
    ],
    ids=named,
)  # fmt: skip
def test_every_dtype_has_a_json_form(schema_for: Any, value: Any, written: Any) -> None:
    assert json.loads(schema_for(Any).dump_json(value)) == written
    if isinstance(value, np.ndarray):
        assert json.loads(schema_for(np.ndarray).dump_json(value)) == written
