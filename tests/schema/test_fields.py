"""What the parts of a form mean, by the type of what they are for."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import pathlib
import uuid
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NewType, TypedDict, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pydantic
import pytest
from PIL import Image
from typing_extensions import TypeAliasType

from nbcompose._schema.codecs import array_to_npy, image_to_bytes, to_base64
from nbcompose._schema.tempfiles import TempFiles
from nbcompose.errors import InvalidArgument, PayloadTooLarge, UnsupportedMediaType

OCTETS = "application/octet-stream"
PICTURE = Image.new("RGB", (3, 2), (1, 2, 3))
PNG = image_to_bytes(PICTURE)


class Color(enum.Enum):
    RED = "1"
    BLUE = "true"


class Level(enum.IntEnum):
    LOW = 1


class Point(pydantic.BaseModel):
    x: int
    name: str = ""


@dataclass
class Order:
    id: str


class Row(TypedDict):
    id: str


Tag = NewType("Tag", str)
Tags = TypeAliasType("Tags", list[str])
T = TypeVar("T")
Many = TypeAliasType("Many", list[T], type_params=(T,))
LIKE_JSON = ["2024", "true", "null", "1e5", "NaN", '"quoted"', "[1]", '{"a": 1}', " padded ", ""]


def read(schema, *parts):
    """The validated `x` of a form with these parts; without a name they are texts."""
    given = [("x", p, None, None) if isinstance(p, bytes) else ("x", *p) for p in parts]
    return schema.validate_json(schema.decode_form(given))


@pytest.mark.parametrize("text", LIKE_JSON)
@pytest.mark.parametrize(
    "annotation",
    [
        str, str | None, Annotated[str, "described"], Annotated[str, pydantic.Field(max_length=50)], Tag, str | int,
        int | str, str | dict, str | list[str], dict[str, int] | str, bool | str | None,
        Annotated[str, pydantic.Field("left out", max_length=50)],
    ],
)  # fmt: skip
def test_a_type_that_takes_text_gets_the_text(schema_for, annotation, text):
    assert read(schema_for(annotation), text.encode()) == {"x": text}


@pytest.mark.parametrize("text", LIKE_JSON)
@pytest.mark.parametrize(
    "annotation",
    [
        list[str],
        list[str] | None,
        Tags,
        Many[Tag],
        set[str],
        tuple[str, str],
        tuple[str, ...],
        list[Tag],
        Annotated[list[str], pydantic.Field(default_factory=list)],
    ],
)
def test_so_do_the_items_of_a_list(schema_for, annotation, text):
    found = read(schema_for(annotation), text.encode(), b"b")["x"]
    assert sorted(found) == sorted([text, "b"])


@pytest.mark.parametrize("text", [t for t in LIKE_JSON if t != "[1]"])
def test_one_part_may_be_the_one_item_of_a_list(schema_for, text):
    assert read(schema_for(list[str]), text.encode()) == {"x": [text]}


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (int, "5", 5),
        (int | None, "null", None),
        (float, "1e5", 1e5),
        (bool, "true", True),
        (bool, "on", True),
        (decimal.Decimal, "0.10", decimal.Decimal("0.10")),
        (datetime.date, "2024-02-29", datetime.date(2024, 2, 29)),
        (datetime.datetime, "2024-02-29T12:00", datetime.datetime(2024, 2, 29, 12)),
        (uuid.UUID, "12345678123456781234567812345678", uuid.UUID("12345678123456781234567812345678")),
        (Literal["1", "true"], "1", "1"),
        (Literal[1, 2], "2", 2),
        (Literal["1", 1], "1", "1"),
        (Color, "1", Color.RED),
        (Color, "true", Color.BLUE),
        (Level, "1", Level.LOW),
        (Point, '{"x": 1, "name": "2"}', Point(x=1, name="2")),
        (Point | None, '{"x": 1}', Point(x=1)),
        (Order, '{"id": "7"}', Order("7")),
        (Row, '{"id": "7"}', {"id": "7"}),
        (dict[str, Any], '{"a": [1]}', {"a": [1]}),
        (list[int], "[1, 2]", [1, 2]),
        (list[int], "1", [1]),
        (list[str], '["a", "2"]', ["a", "2"]),
        (list[list[int]], "[1, 2]", [[1, 2]]),
        (list[list[int]], "[[1], [2]]", [[1], [2]]),
        (list[Point], '{"x": 1}', [Point(x=1)]),
        (list[Point], '[{"x": 1}]', [Point(x=1)]),
        (str | list[str], "a", "a"),
        (tuple[str, int], '["1", 2]', ("1", 2)),
        (list[Image.Image], "[]", []),
        (Any, '{"a": 1}', {"a": 1}),
        (Any, "2024", 2024),
        (Any, "plain text", "plain text"),
        (Any, "", ""),
        (np.float32, "1.5", np.float32(1.5)),
        (bytes, "aGVsbG8=", b"hello"),
    ],
)
def test_others_get_what_the_text_says(schema_for, annotation, text, value):
    found = read(schema_for(annotation), text.encode())["x"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("annotation", "texts", "value"),
    [
        (list[int], ["1", "2"], [1, 2]),
        (list[int | None], ["1", "null"], [1, None]),
        (list[dict], ['{"a": 1}', "{}"], [{"a": 1}, {}]),
        (list[Point], ['{"x": 1}', '{"x": 2}'], [Point(x=1), Point(x=2)]),
        (list[Color], ["1", "true"], [Color.RED, Color.BLUE]),
        (tuple[str, dict], ["2024", '{"a": 1}'], ("2024", {"a": 1})),
        (str | list[str], ["2024", "b"], ["2024", "b"]),
        (list, ["1", "b"], [1, "b"]),
        (list[int], ["1", "", "2"], [1, 2]),
    ],
)
def test_several_texts_make_a_list(schema_for, annotation, texts, value):
    assert read(schema_for(annotation), *(t.encode() for t in texts)) == {"x": value}


@pytest.mark.parametrize("annotation", [int, float | None, Point, list[int], pathlib.Path | None, Image.Image])
def test_an_empty_field_is_one_that_was_not_filled_in(schema_of, annotation):
    class Svc:
        def f(self, x=None): ...

    Svc.f.__annotations__ = {"x": annotation}
    assert read(schema_of(Svc), b"") == {}


def test_what_a_text_does_not_fit_is_told(schema_for):
    for annotation, text, told in (
        (int, b"abc", "x: Input should be a valid integer"),
        (Point, b'{"x": "a"}', "x.x: Input should be a valid integer"),
        (int, b"", "x: is missing"),
        (str, b"\xff", "x: not UTF-8"),
        (pathlib.Path, b"no base64!", "x: not valid base64"),
    ):
        with pytest.raises(InvalidArgument, match=told), TempFiles():
            read(schema_for(annotation), text)
    with pytest.raises(InvalidArgument, match="x: Input should be a valid string"):
        read(schema_for(str), b"a", b"b")


# -- files

FILES = [
    ("x.json", "application/json", b'"aGVsbG8="'),
    ("x.json", "application/json", b"{}"),
    ("x.csv", "text/csv", b"a,b\n1,2\n"),
    ("x.md", "text/markdown", b"# a"),
    ("x.py", "text/x-python", b"print()"),
    ("x.zip", "application/zip", b"PK\x05\x06" + bytes(18)),
    ("x.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document", b"PK\xff"),
    ("x.txt", "text/plain", b"aGVsbG8="),
    ("x", None, b"null"),
    ("x", OCTETS, b""),
    ("x.nonsense", "no type at all", b"\xff"),
    (None, "image/png", b"\x89PNG"),  # no name, but no text either
]


@pytest.mark.parametrize(("filename", "media_type", "data"), FILES)
@pytest.mark.parametrize(
    "annotation",
    [
        pathlib.Path, pathlib.Path | None, Annotated[pathlib.Path, "a file"], bytes, bytes | None, bytearray,
        list[pathlib.Path], list[bytes] | None, tuple[pathlib.Path, ...], pathlib.Path | list[pathlib.Path],
    ],
)  # fmt: skip
def test_a_file_is_its_bytes(schema_for, annotation, filename, media_type, data):
    def bytes_of(value):
        return value.read_bytes() if isinstance(value, pathlib.Path) else bytes(value)

    with TempFiles():
        found = read(schema_for(annotation), (data, media_type, filename))["x"]
        assert bytes_of(found[0] if isinstance(found, (list, tuple)) else found) == data
        if "list" in str(annotation) or "tuple" in str(annotation):
            several = read(schema_for(annotation), *[(data, media_type, filename)] * 3)["x"]
            assert [bytes_of(f) for f in several] == [data] * 3


@pytest.mark.parametrize("media_type", ["image/png", OCTETS, None, "text/html", "application/json"])
def test_an_image_is_one_whatever_it_says(schema_for, media_type):
    assert read(schema_for(Image.Image), (PNG, media_type, "a"))["x"].size == (3, 2)
    assert [i.size for i in read(schema_for(list[Image.Image]), *[(PNG, media_type, "a")] * 2)["x"]] == [(3, 2)] * 2
    with pytest.raises(InvalidArgument, match="not an image"):
        read(schema_for(Image.Image), (b"no image", media_type, "a"))


@pytest.mark.parametrize("annotation", [npt.NDArray[np.float64], np.ndarray | None])
def test_an_array_is_a_file_of_its_own_or_of_json(schema_for, annotation):
    array = np.arange(3.0)
    for part in ((array_to_npy(array), OCTETS, "a.npy"), (b"[0, 1, 2]", "application/json", "a.json"), b"[0, 1, 2]"):
        assert read(schema_for(annotation), part)["x"].tolist() == [0, 1, 2]
    with pytest.raises(UnsupportedMediaType, match="x does not take image/png; it takes application/x-npy"):
        read(schema_for(annotation), (PNG, "image/png", "a.png"))


@pytest.mark.parametrize(
    ("annotation", "data", "value"),
    [
        (str, b'"as it is"', '"as it is"'),
        (list[str], b"2024", ["2024"]),
        (Point, b'{"x": 1}', Point(x=1)),
        (dict, b'{"a": 1}', {"a": 1}),
        (int, b"5", 5),
        (Any, b'{"a": 1}', {"a": 1}),
    ],
)
@pytest.mark.parametrize("media_type", ["application/json", "text/plain; charset=utf-8", OCTETS, None])
def test_a_file_for_what_is_none_is_read_as_a_text(schema_for, annotation, data, value, media_type):
    assert read(schema_for(annotation), (data, media_type, "a.json")) == {"x": value}


def test_a_table_in_a_field(schema_for):
    frame = read(schema_for(pd.DataFrame), b'[{"a": 1}, {"a": 2}]')["x"]
    assert frame["a"].tolist() == [1, 2]


def test_what_is_broken_json_where_json_is_meant_says_so(schema_for):
    with pytest.raises(InvalidArgument, match="x: "):
        read(schema_for(Any), (b"{", "application/json", "a.json"))
    with pytest.raises(PayloadTooLarge, match="200 levels deep"):
        read(schema_for(np.ndarray), (b"[" * 200_000, "application/json", "a.json"))


# -- the form as a whole


class Mixed:
    def f(
        self,
        images: list[Image.Image],
        text: str,
        k: int = 1,
        words: list[str] | None = None,
        extra: npt.NDArray[np.float32] | None = None,
        document: pathlib.Path | None = None,
        anything: Any = None,
    ) -> dict: ...


def test_a_form_of_fields_and_files(schema_of):
    schema, png = schema_of(Mixed), PNG
    with TempFiles():
        taken = schema.validate_json(
            schema.decode_form(
                [
                    ("images", png, "image/png", "a.png"),
                    ("images", png, OCTETS, "b"),
                    ("text", b'"in quotes" \xc3\xa9', None, None),
                    ("k", b"7", None, None),
                    ("words", b"one", "text/plain", None),
                    ("words", b"two", None, None),
                    ("extra", b"[1, 2]", None, None),
                    ("document", b"hello", "text/plain", "../../etc/no tes.txt"),
                    ("anything", b'{"a": 1}', "application/json", None),
                ]
            )
        )
        assert [image.size for image in taken["images"]] == [(3, 2), (3, 2)]
        assert taken["text"] == '"in quotes" é'
        assert taken["k"] == 7
        assert taken["words"] == ["one", "two"]
        assert taken["extra"].tolist() == [1.0, 2.0]
        assert taken["document"].name == "no tes.txt"
        assert taken["document"].read_text() == "hello"
        assert taken["anything"] == {"a": 1}
    assert not taken["document"].exists()


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("words", b'["a", "b"]', ["a", "b"]),
        ("words", b"a", ["a"]),
        ("images", json.dumps([to_base64(image_to_bytes(PICTURE))]).encode(), None),
        ("anything", b"plain text", "plain text"),
    ],
)
def test_a_single_part_may_be_the_whole_list_or_its_one_item(schema_of, name, data, expected):
    schema = schema_of(Mixed)
    parts = {"images": b"[]", "text": b"a", name: data}
    taken = schema.validate_json(schema.decode_form((n, d, None, None) for n, d in parts.items()))
    assert len(taken["images"]) == 1 if expected is None else taken[name] == expected


def test_parts_that_nothing_takes_are_named_all(schema_of):
    with pytest.raises(InvalidArgument, match=r"Mixed\.f: unknown `other`, `more`; the signature is f\(images"):
        schema_of(Mixed).decode_form([(name, b"1", None, None) for name in ("other", "text", "more")])
