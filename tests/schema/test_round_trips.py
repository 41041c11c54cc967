"""Every type that an api may name: what is taken and refused on the wire and as JSON, and what is written."""

import dataclasses
import datetime as dt
import decimal
import enum
import json
import pathlib
import typing
import uuid
from typing import Annotated, Any, Literal, NamedTuple, Optional

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import typing_extensions
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from nbcompose._schema.codecs import image_to_url, to_base64
from nbcompose._schema.tempfiles import TempFiles
from nbcompose.errors import InvalidArgument
from tests.cases import named
from tests.optional import optional

torch = optional("torch")


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    x: float
    tags: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Vector:
    """Plain annotations that pydantic refuses."""

    name: str
    values: np.ndarray
    small: npt.NDArray[np.float32] | None = None
    blob: bytes = b""
    inner: "Vector | None" = None


class OldDict(typing.TypedDict):
    """pydantic refuses typing's own on Python 3.11."""

    name: str
    values: typing.NotRequired[np.ndarray]


class NewDict(typing_extensions.TypedDict, total=False):
    image: Image.Image
    count: typing_extensions.Required[int]


class Tree(typing.TypedDict):
    values: np.ndarray
    children: "list[Tree]"


class Pair(NamedTuple):
    label: str
    values: np.ndarray


class Item(BaseModel):
    name: str
    price: float = 0


class Embedding(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    name: str
    values: np.ndarray = Field(alias="vector")


class StrictEvent(BaseModel):
    model_config = ConfigDict(strict=True)
    when: dt.datetime


class Opaque:
    pass


def picture(mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (3, 2), 7)


def is_tensor(value: Any) -> bool:
    return type(value).__module__ == "torch"


def same(a: Any, b: Any) -> bool:
    """Whether two values are of one type and equal, whatever `==` means for the type."""
    if type(a) is not type(b):
        return isinstance(a, Image.Image) and isinstance(b, Image.Image) and image_to_url(a) == image_to_url(b)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if is_tensor(a):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, (pd.DataFrame, pd.Series)):
        return bool(a.equals(b))
    if dataclasses.is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, BaseModel):
        return same(vars(a), vars(b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, Image.Image):
        return image_to_url(a) == image_to_url(b)
    return bool(a == b)


F4 = np.array([1.5, 2], np.float32)
DAY = dt.datetime(2026, 1, 2, 3, 4, 5)
ID = uuid.UUID("12345678123456781234567812345678")
FRAME = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})

# annotation, [(value given, value that arrives)], [values that are refused]
WIRE: list[tuple[Any, list[tuple[Any, Any]], list[Any]]] = [
    (str, [("é", "é"), ("", "")], [1, b"\xff", None]),
    (int, [(3, 3), ("3", 3), (np.int64(4), 4)], ["x", 1.5, None]),
    (float, [(1.5, 1.5), (np.float32(0.5), 0.5), (2, 2.0)], ["x", None]),
    (bool, [(True, True), (np.bool_(False), False)], [3, "maybe"]),
    (None, [(None, None)], [0]),
    (bytes, [(b"\xff", b"\xff")], [3]),
    (bytearray, [(bytearray(b"a"), bytearray(b"a"))], [3]),
    (list[int], [([1, "2"], [1, 2])], ["12", [None]]),
    (dict[str, float], [({"a": 1}, {"a": 1.0})], [{"a": "x"}, [1]]),
    (dict, [({"a": object}, {"a": object})], [[1]]),
    (tuple[int, str], [((1, "a"), (1, "a"))], [(1,), ("a", "a")]),
    (set[int], [({1, 2}, {1, 2})], [{"x"}]),
    (Optional[int], [(None, None), (1, 1)], ["x"]),  # noqa: UP045
    (float | str, [("a", "a"), (1.5, 1.5)], [[]]),
    (Literal["a", "b"], [("a", "a")], ["c"]),
    (Color, [(Color.RED, Color.RED), ("blue", Color.BLUE)], ["green"]),
    (Annotated[int, Field(gt=0)], [(1, 1)], [0]),
    (Point, [(Point(1.0, ["a"]), Point(1.0, ["a"])), ({"x": 1}, Point(1.0))], [{"x": "y"}, {}, {"x": 1, "z": 2}, 3]),
    (Item, [(Item(name="a"), Item(name="a")), ({"name": "a"}, Item(name="a"))], [{"price": 1}, "a"]),
    (np.ndarray, [(F4, F4), ([1, 2], np.array([1, 2])), (2.5, np.array(2.5))], ["a", None, ["a"], [[1], [1, 2]]]),
    (
        npt.NDArray[np.float32],
        [(F4, F4), (F4.astype(float), F4), ([1, 2], np.array([1, 2], np.float32))],
        [np.array(["a"])],
    ),
    (npt.NDArray[np.uint8], [(np.array([0, 255]), np.array([0, 255], np.uint8))], [np.array([256]), [-1], [1.5]]),
    (npt.NDArray[np.floating], [(F4, F4), ([1], np.array([1.0]))], [["a"], np.array([1j])]),
    (npt.NDArray[np.float32 | np.float64], [(F4, F4), (np.array([1], np.float64), np.array([1], np.float64))], [["a"]]),
    (npt.NDArray[np.str_], [(["a", "bc"], np.array(["a", "bc"]))], [[1]]),
    (np.float32, [(np.float32(1), np.float32(1)), (1.5, np.float32(1.5))], ["a", None, [1]]),
    (np.int8, [(5, np.int8(5))], [300, 1.5]),
    (torch.Tensor, [(torch.ones(2), torch.ones(2)), ([1, 2], torch.tensor([1, 2])), (F4, torch.tensor(F4))], ["a", {}]),
    (torch.Tensor, [(torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.bfloat16))], [None]),
    (pd.DataFrame, [(FRAME, FRAME), ([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}], FRAME)], ["a", [1]]),
    (pd.Series, [(FRAME["a"], FRAME["a"]), ([1, 2], pd.Series([1, 2]))], ["a"]),
    (Image.Image, [(picture(), picture())], [3, "not base64!", to_base64(b"no image")]),
    (pathlib.Path, [(pathlib.Path("/a"), pathlib.Path("/a")), ("b", pathlib.Path("b"))], [3]),
    (dt.datetime, [(DAY, DAY), ("2026-01-02T03:04:05", DAY)], ["x"]),
    (dt.date, [(DAY.date(), DAY.date())], ["x"]),
    (dt.time, [(DAY.time(), DAY.time())], ["x"]),
    (dt.timedelta, [(dt.timedelta(1), dt.timedelta(1))], ["x"]),
    (uuid.UUID, [(ID, ID), (str(ID), ID)], ["x"]),
    (decimal.Decimal, [(decimal.Decimal("1.1"), decimal.Decimal("1.1"))], ["x"]),
    (Any, [(F4, F4), (None, None)], []),
    (npt.ArrayLike, [([1, 2], [1, 2]), (F4, F4)], []),
    (
        Vector,
        [(v := Vector("a", F4, F4, b"\xff"), v), ({"name": "a", "values": [1.5]}, Vector("a", np.array([1.5])))],
        [{"name": "a", "values": "b"}, {"name": "a"}],
    ),
    (
        OldDict,
        [({"name": "a", "values": F4}, {"name": "a", "values": F4}), ({"name": "a"}, {"name": "a"})],
        [{}, {"name": "a", "values": "x"}, {"name": "a", "other": 1}],
    ),
    (
        NewDict,
        [({"count": 1, "image": picture()}, {"count": 1, "image": picture()}), ({"count": 1}, {"count": 1})],
        [{"image": picture()}, {"count": 1, "image": 3}],
    ),
    (
        Tree,
        [(t := {"values": F4, "children": [{"values": F4, "children": []}]}, t)],
        [{"values": F4, "children": [{"values": "x", "children": []}]}],
    ),
    (Pair, [(Pair("a", F4), Pair("a", F4)), (("a", [1.5]), Pair("a", np.array([1.5])))], [("a", "b"), ("a",)]),
    (Embedding, [(e := Embedding(name="a", vector=F4), e)], [{"name": "a", "vector": "x"}, {"name": "a"}]),
    (list[np.ndarray], [([F4, [1]], [F4, np.array([1])])], [[F4, "x"]]),
    (dict[str, np.ndarray | None], [({"a": F4, "b": None}, {"a": F4, "b": None})], [{"a": "x"}]),
    (np.ndarray | list[str], [(F4, F4), (["a"], ["a"])], [{}]),
    (list[float] | np.ndarray, [(F4, F4), ([1.5], [1.5])], ["x"]),
    (typing.Iterable[int], [([1, "2"], [1, 2]), ((1, 2), [1, 2])], ["x", 3]),
]

# annotation, JSON document, value that arrives, JSON that is written
JSON: list[tuple[Any, Any, Any, Any]] = [
    (str, "é", "é", "é"),
    (bool, True, True, True),
    (float, 1, 1.0, 1.0),
    (None, None, None, None),
    (bytes, to_base64(b"\xff\xfe"), b"\xff\xfe", to_base64(b"\xff\xfe")),
    (bytes, "_-8=", b"\xff\xef", "/+8="),
    (tuple[int, str], [1, "a"], (1, "a"), [1, "a"]),
    (set[int], [1], {1}, [1]),
    (Color, "red", Color.RED, "red"),
    (Point, {"x": 1}, Point(1.0), {"x": 1.0, "tags": []}),
    (Item, {"name": "a"}, Item(name="a"), {"name": "a", "price": 0}),
    (StrictEvent, {"when": "2026-01-02T03:04:05"}, StrictEvent(when=DAY), {"when": "2026-01-02T03:04:05"}),
    (list[StrictEvent], [{"when": "2026-01-02T03:04:05"}], [StrictEvent(when=DAY)], [{"when": "2026-01-02T03:04:05"}]),
    (np.ndarray, [[1, 2], [3, 4]], np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    (np.ndarray, [1.5, None], np.array([1.5, np.nan]), [1.5, None]),
    (npt.NDArray[np.float32], [1], np.array([1], np.float32), [1.0]),
    (np.float16, 0.5, np.float16(0.5), 0.5),
    (torch.Tensor, [1.5, 2.5], torch.tensor([1.5, 2.5]), [1.5, 2.5]),
    (torch.Tensor, [1.5, None], torch.tensor([1.5, float("nan")]).nan_to_num(), [1.5, 0.0]),
    (pd.DataFrame, {"a": [1, 2], "b": ["x", "y"]}, FRAME, [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]),
    (pd.Series, [1, 2], pd.Series([1, 2]), [1, 2]),
    (Image.Image, image_to_url(picture()), picture(), image_to_url(picture())),
    (dt.datetime, "2026-01-02T03:04:05", DAY, "2026-01-02T03:04:05"),
    (dt.timedelta, "P1D", dt.timedelta(1), "P1D"),
    (uuid.UUID, str(ID), ID, str(ID)),
    (decimal.Decimal, "1.10", decimal.Decimal("1.10"), "1.10"),
    (Vector, {"name": "a", "values": [1.5], "small": [1], "blob": "/w==", "inner": {"name": "b", "values": [2]}},
     Vector("a", np.array([1.5]), np.array([1], np.float32), b"\xff", Vector("b", np.array([2]))),
     {"name": "a", "values": [1.5], "small": [1.0], "blob": "/w==",
      "inner": {"name": "b", "values": [2], "small": None, "blob": "", "inner": None}}),
    (OldDict, {"name": "a", "values": [1]}, {"name": "a", "values": np.array([1])}, {"name": "a", "values": [1]}),
    (Tree, {"values": [1], "children": [{"values": [2], "children": []}]},
     {"values": np.array([1]), "children": [{"values": np.array([2]), "children": []}]},
     {"values": [1], "children": [{"values": [2], "children": []}]}),
    (Pair, ["a", [1.5]], Pair("a", np.array([1.5])), ["a", [1.5]]),
    (Embedding, {"name": "a", "vector": [1]}, Embedding(name="a", vector=np.array([1])), {"name": "a", "values": [1]}),
    (list[Vector], [{"name": "a", "values": [1]}], [Vector("a", np.array([1]))],
     [{"name": "a", "values": [1], "small": None, "blob": "", "inner": None}]),
    (typing.Iterable[int], [1, 2], [1, 2], [1, 2]),
    (dict, {"a": [1, None]}, {"a": [1, None]}, {"a": [1, None]}),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "good"), [(a, g) for a, good, _ in WIRE for g in good], ids=named)
def test_wire_takes(schema_for, annotation, good):
    given, arrives = good
    schema = schema_for(annotation)
    assert same(schema.validate({"x": given})["x"], arrives)
    assert same(schema.check_result(given), arrives)


@pytest.mark.parametrize(("annotation", "bad"), [(a, b) for a, _, bad in WIRE for b in bad], ids=named)
def test_wire_refuses(schema_for, annotation, bad):
    with pytest.raises(InvalidArgument, match=r"^Svc\.f: x") as caught:
        schema_for(annotation).validate({"x": bad})
    assert caught.value.problems[0]["loc"][0] == "x"


@pytest.mark.parametrize(("annotation", "document", "arrives", "written"), JSON, ids=named)
def test_json(schema_for, annotation, document, arrives, written):
    schema = schema_for(annotation)
    taken = schema.validate_json({"x": document})["x"]
    assert same(torch.nan_to_num(taken) if is_tensor(taken) else taken, arrives)
    assert json.loads(schema.dump_json(schema.check_result(arrives))) == written
    assert schema.dump(arrives) == written
    json.dumps([schema.input_schema, schema.output_schema])


def says_json(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except TypeError:
        return False


BAD_JSON = [(a, b) for a, _, bad in WIRE for b in bad if says_json(b)]


@pytest.mark.parametrize(("annotation", "bad"), BAD_JSON, ids=named)
def test_json_refuses(schema_for, annotation, bad):
    with pytest.raises(InvalidArgument, match=r"^Svc\.f: x"), TempFiles():
        schema_for(annotation).validate_json({"x": bad})


def test_an_array_of_the_right_dtype_is_not_copied(schema_for):
    assert schema_for(npt.NDArray[np.float32]).validate({"x": F4})["x"] is F4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.int8, torch.bool])
def test_tensors_of_any_dtype_are_written(schema_for, dtype):
    assert schema_for(torch.Tensor).dump(torch.ones(2).to(dtype)) in ([1.0, 1.0], [1, 1], [True, True])


def test_sparse_conjugated_and_tracked_tensors_are_written(schema_for):
    schema = schema_for(torch.Tensor)
    assert schema.dump(torch.eye(2).to_sparse()) == [[1.0, 0.0], [0.0, 1.0]]
    assert schema.dump(torch.ones(1, requires_grad=True)) == [1.0]
    assert schema.dump(torch.tensor([1 + 2j]).conj()) == ["1-2j"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan")])
def test_numbers_that_json_lacks_are_null(schema_for, value):
    assert schema_for(float).dump_json(value) == b"null"
    assert schema_for(Any).dump_json({"a": [value]}) == b'{"a":[null]}'
    assert schema_for(np.ndarray).dump_json(np.array([value])) == b"[null]"


def test_a_dict_may_hold_anything_that_has_a_json_form(schema_for):
    value = {
        "scalar": np.float32(0.5),
        "flag": np.bool_(True),
        "array": np.arange(2),
        "tensor": torch.ones(1, dtype=torch.bfloat16),
        "frame": pd.DataFrame({"a": [1.0, np.nan], "t": [pd.Timestamp(DAY), pd.NaT]}),
        "image": picture(),
        "path": pathlib.Path("/a/b"),
        "text": b"text",
        "point": Point(1.0),
        np.int64(3): {Color.RED},
    }
    written = schema_for(dict).dump(value)
    assert written == {
        "scalar": 0.5,
        "flag": True,
        "array": [0, 1],
        "tensor": [1.0],
        "frame": [{"a": 1.0, "t": "2026-01-02T03:04:05"}, {"a": None, "t": None}],
        "image": image_to_url(picture()),
        "path": "/a/b",
        "text": "text",
        "point": {"x": 1.0, "tags": []},
        "3": ["red"],
    }
    # One value that needs the slow way changes only itself.
    assert schema_for(dict).dump({**value, "raw": b"\xff"}) == {**written, "raw": "/w=="}


def test_bytes_in_a_model_that_are_no_text_are_base64(schema_for):
    class Raw(BaseModel):
        data: bytes

    assert schema_for(Raw).dump(Raw(data=b"\xff")) == {"data": "/w=="}
    assert schema_for(Raw).dump(Raw(data=b"a")) == {"data": "a"}
    assert schema_for(Raw).validate_json({"x": {"data": "a"}})["x"] == Raw(data=b"a")
