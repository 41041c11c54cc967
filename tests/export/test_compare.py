"""Two answers, compared."""

from __future__ import annotations

import enum
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image
from pydantic import BaseModel

from nbcompose._export.check.compare import Record, differences, plain, shape


@dataclass
class Point:
    x: float
    y: float


class Box(BaseModel):
    name: str
    corner: Point


class Pair(NamedTuple):
    a: int
    b: int


class Color(enum.Enum):
    RED = 1


class Word(enum.StrEnum):
    YES = "yes"


class Shy:
    def __repr__(self) -> str:
        raise OSError("no")


@dataclass
class Unset:
    x: int = field(init=False)


class Own:
    def __init__(self) -> None:
        self.x = 1


def told(here: Any, there: Any) -> list[str]:
    return [f"{'~ ' if d.close else ''}{d}" for d in differences(plain(here), plain(there))]


@pytest.mark.parametrize(
    "value",
    [
        None, 1, 1.5, float("nan"), "text", b"bytes", [1, [2]], (1, 2), {"a": [1]}, {1, 2},
        np.arange(6.0).reshape(2, 3), np.float32(2), np.array([None, "x"]), np.array([1.0, np.nan]),
        Point(1, 2), Box(name="n", corner=Point(1, 2)), Pair(1, 2), Color.RED, Own(), ValueError("no"),
        Image.new("RGB", (2, 2)), Path("a/b"), np.array(["2020", "NaT"], "M8[s]"),
        np.array([(1.0, np.nan)], [("a", "f8"), ("b", "f8")]), Shy(), Unset(),
    ],
    ids=lambda value: f"{type(value).__name__}",
)  # fmt: skip
def test_a_value_is_the_same_as_itself_also_from_another_process(value: Any) -> None:
    here, there = plain(value), pickle.loads(pickle.dumps(plain(value)))
    assert list(differences(here, there)) == []
    assert shape(here) == shape(there)


@pytest.mark.parametrize(
    ("here", "there", "message"),
    [
        (1, 2, "it is 1 in the notebook and 2 in the script"),
        (1, 1.0, "it is 1 (int) in the notebook and 1.0 (float) in the script"),
        (True, 1, "it is True (bool) in the notebook and 1 (int) in the script"),
        ({"a": [1, 2]}, {"a": [1, 3]}, "['a'][1] is 2 in the notebook and 3 in the script"),
        ({"a": 1}, {}, "['a'] is 1 in the notebook and missing in the script"),
        ({}, {"a": 1}, "['a'] is missing in the notebook and 1 in the script"),
        ({"a": [1]}, {"a": []}, "len(['a']) is 1 in the notebook and 0 in the script"),
        (Point(1, 2), Point(1, 3), "['y'] is 2 in the notebook and 3 in the script"),
        (Point(1, 2), Pair(1, 2), "it is Point in the notebook and Pair in the script"),
        (Color.RED, 1, "it is Color('RED') (Color) in the notebook and 1 (int) in the script"),
        ("yes", "no", "it is 'yes' in the notebook and 'no' in the script"),
        (0.5, 0.6, "it is 0.5 in the notebook and 0.6 in the script"),
        (0.5, 0.5000001, "~ it is 0.5 in the notebook and 0.5000001 in the script"),
        (np.zeros(2), np.zeros(3), "it is an array float64[2] in the notebook and an array float64[3] in the script"),
        (np.zeros(2), np.ones(2, "i4"),
         "it is an array float64[2] in the notebook and an array int32[2] in the script"),
        (np.array([1, 2, 3]), np.array([1, 5, 6]),
         "[1] is 2 in the notebook and 5 (2 of 3 elements differ) in the script"),
        (np.array([1.0, 0.0]), np.array([1.0, 1e-7]), "~ [1] is 0.0 in the notebook and 1e-07 in the script"),
    ],
)  # fmt: skip
def test_a_difference_says_where_and_what(here: Any, there: Any, message: str) -> None:
    assert told(here, there) == [message]


def test_long_texts_are_shown_where_they_part() -> None:
    [line] = told("a" * 500 + "here", "a" * 500 + "there")
    assert line == f"it is …'{'a' * 20}here' in the notebook and …'{'a' * 20}there' in the script"


def test_tensors_are_compared_by_value_whatever_their_type() -> None:
    torch = pytest.importorskip("torch")
    here = torch.tensor([1.0, 2.0], dtype=torch.bfloat16)
    assert told(here, here.clone()) == []
    assert told(here, torch.tensor([1.0, 3.0], dtype=torch.bfloat16)) == [
        "[1] is 2.0 in the notebook and 3.0 in the script"
    ]
    assert told(here, here.float()) == ["it is torch.bfloat16 in the notebook and torch.float32 in the script"]
    assert told(torch.eye(2).to_sparse(), torch.eye(2).to_sparse()) == []
    for odd in (here.to(torch.float8_e4m3fn), torch.tensor([1j]).conj(), torch.zeros(2, device="meta")):
        assert told(odd, odd.clone()) == []


def test_tables_are_compared_by_their_cells() -> None:
    pandas = pytest.importorskip("pandas")
    here, there = pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]}), pandas.DataFrame({"a": [1, 2], "b": ["x", "z"]})
    assert told(here, here.copy()) == []
    assert told(here, there) == ["['b'][1] is 'y' in the notebook and 'z' in the script"]


def test_tables_without_some_values_are_the_same_as_themselves() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"a": [1.0, None]}, index=[pandas.Timestamp("2020"), pandas.NaT])
    assert told(table, table.copy()) == []
    assert told(table["a"], table["a"].copy()) == []


def test_keys_need_no_class_of_the_users() -> None:
    """The notebook may not have it, and calls it otherwise than the script."""
    assert plain({Word.YES: 1, (Word.YES, 2): 3}) == {"<Word.YES: 'yes'>": 1, ("<Word.YES: 'yes'>", 2): 3}


def test_a_file_is_its_contents(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).write_text("same")
    assert told(tmp_path / "one", tmp_path / "other") == []


def test_something_without_end_is_cut() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert told(endless, endless) == []


def test_the_address_of_an_object_does_not_count() -> None:
    assert plain(object()) == Record("object", "<object object>")


@pytest.mark.parametrize(
    ("here", "there", "same"),
    [
        ({"text": "a"}, {"text": "bcd"}, True),
        ({"text": "a"}, {"text": None}, False),
        ([1, 2, 3], [4], True),
        ([1, 2], ["a"], False),
        (np.zeros(3), np.ones(3), True),
        (np.zeros(3), np.zeros(4), False),
        (Point(1.0, 2.0), Point(3.0, 4.0), True),
    ],
)
def test_shapes_leave_values_out(here: Any, there: Any, same: bool) -> None:
    assert (shape(plain(here)) == shape(plain(there))) is same


def test_a_shape_reads_as_a_type() -> None:
    assert shape(plain({"a": [1, "x"], "b": np.zeros((2, 3), "f4")})) == "{'a': list[int | str], 'b': float32[2, 3]}"
