"""A root argument: the only one, positional-only. The body of a request is that argument, without a name."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pytest
from PIL import Image
from pydantic import BaseModel

from nbcompose import api, service
from nbcompose._schema.api import ApiSchema
from nbcompose._schema.openapi_document import openapi
from nbcompose._schema.tempfiles import TempFiles
from nbcompose.errors import InvalidArgument
from tests.handles import handle


class In(BaseModel):
    x: int
    y: str = "why"


class Keys(TypedDict):
    x: int


@service
class Roots:
    @api
    def model(self, given: In, /) -> In:
        return given

    @api
    def optional(self, given: In = In(x=7), /) -> In:  # noqa: B008
        return given

    @api
    def keys(self, given: dict[str, int], /) -> dict[str, int]:
        return given

    @api
    def typed(self, given: Keys, /) -> Keys:
        return given

    @api
    def items(self, given: list[int], /) -> list[int]:
        return given

    @api
    def items_or(self, given: list[int] = [1], /) -> list[int]:  # noqa: B006
        return given

    @api
    def text(self, given: str, /) -> str:
        return given

    @api
    def text_or(self, given: str = "nothing", /) -> str:
        return given

    @api
    def path(self, given: Path, /) -> str:
        return f"{given.name}: {given.read_text()}"

    @api
    def array(self, given: np.ndarray, /) -> np.ndarray:
        return given

    @api
    def image(self, given: Image.Image, /) -> int:
        return given.width

    @api(batchable=True)
    def sizes(self, given: list[str], /) -> list[int]:
        return [len(g) for g in given]

    @api
    def two(self, given: In, more: int = 1, /) -> int:
        return given.x + more

    @api
    def named(self, given: In) -> In:
        return given


SCHEMAS = {a.name: ApiSchema.of(handle(Roots).inner, a) for a in handle(Roots).spec.apis}


def over_http(name: str, document: Any) -> Any:
    args, kwargs = SCHEMAS[name].call_arguments(SCHEMAS[name].validate_json(document))
    return getattr(handle(Roots).inner(), name)(*args, **kwargs)


@pytest.mark.parametrize(
    ("name", "body", "answer"),
    [
        ("model", {"x": 1}, In(x=1)),
        ("optional", {"x": 1}, In(x=1)),
        ("optional", {}, In(x=7)),  # as without a body
        ("keys", {"given": 1, "x": 2}, {"given": 1, "x": 2}),
        ("keys", {}, {}),
        ("typed", {"x": 1}, {"x": 1}),
        ("items", [1, 2], [1, 2]),
        ("items_or", {}, [1]),
        ("items_or", [2], [2]),
        ("text", "hello", "hello"),
        ("sizes", ["a", "bb"], [1, 2]),
        ("two", {"given": {"x": 1}, "more": 2}, 3),
        ("named", {"given": {"x": 1}}, In(x=1)),
    ],
)
def test_bodies(name: str, body: Any, answer: Any) -> None:
    assert over_http(name, body) == answer


def test_an_array_is_a_body() -> None:
    assert over_http("array", [[1, 2]]).tolist() == [[1, 2]]


def test_a_name_in_python_is_none_over_http() -> None:
    with pytest.raises(InvalidArgument, match=r"given\.x: is missing") as caught:
        over_http("model", {"given": {"x": 1}})
    assert str(caught.value).endswith("the body is given itself, without its name, which is positional-only")
    with pytest.raises(InvalidArgument, match=r"given\.x: is missing"):
        over_http("named", {"given": {}})


def test_in_python_it_is_passed_by_position() -> None:
    assert Roots().model(In(x=1)) == In(x=1)
    with pytest.raises(InvalidArgument, match="unknown `given`"):
        Roots().model(given=In(x=1))  # type: ignore[call-arg]


def test_the_document() -> None:
    document = openapi(handle(Roots).spec, SCHEMAS, needs_token=False)
    bodies = {
        name: document["paths"][f"/{name}"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        for name in SCHEMAS
    }
    assert bodies["model"] == {"$ref": "#/components/schemas/In"}
    assert bodies["keys"]["additionalProperties"] == {"type": "integer"}
    assert bodies["items"]["items"] == {"type": "integer"}
    assert bodies["items_or"]["default"] == [1]
    assert bodies["text"]["type"] == "string"
    assert bodies["two"] == {"$ref": "#/components/schemas/TwoArguments"}
    assert document["components"]["schemas"]["TwoArguments"]["properties"].keys() == {"given", "more"}


def test_a_file_is_a_body_and_a_part() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2)).save(buffer, "PNG")
    schema = SCHEMAS["image"]
    for document in (
        schema.decode_body(buffer.getvalue(), "image/png"),
        schema.decode_form([("given", buffer.getvalue(), "image/png", "a.png")]),
    ):
        assert over_http("image", document) == 3


@pytest.mark.parametrize(
    ("name", "parts", "answer"),
    [
        ("text", [b"2024"], "2024"),
        ("text_or", [b"2024"], "2024"),
        ("text_or", [], "nothing"),
        ("model", [b'{"x": 1}'], In(x=1)),
        ("optional", [b""], In(x=7)),
        ("items", [b"1", b"2"], [1, 2]),
        ("items_or", [], [1]),
        ("sizes", [b"a", b"22"], [1, 2]),
    ],
)
def test_the_parts_of_a_form_have_its_name(name: str, parts: list[bytes], answer: Any) -> None:
    assert over_http(name, SCHEMAS[name].decode_form([("given", part, None, None) for part in parts])) == answer
    with pytest.raises(InvalidArgument, match="unknown `other`"):
        SCHEMAS[name].decode_form([("other", b"1", None, None)])


def test_a_raw_body_of_any_type_is_the_file() -> None:
    with TempFiles():
        document = SCHEMAS["path"].decode_body(b"a,b", "text/csv", "rows.csv")
        assert over_http("path", document) == "rows.csv: a,b"
    assert over_http("text", SCHEMAS["text"].decode_body("é".encode("latin-1"), "text/html; charset=latin-1")) == "é"
