"""The document of a service that has every type, checked with a validator, and how clashing names are told apart."""

import dataclasses
import datetime as dt
import decimal
import enum
import json
import pathlib
import typing
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal, NamedTuple

import jsonschema
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from PIL import Image
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat

from nbcompose import api
from nbcompose._schema.api import ApiSchema
from nbcompose._schema.openapi_document import openapi
from nbcompose._service.introspect import declare
from nbcompose._spec import ServiceSpec
from tests.optional import Absent, optional

torch = optional("torch")
Tensor: Any = np.ndarray if isinstance(torch, Absent) else torch.Tensor


class Color(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Node:
    values: np.ndarray
    child: "Node | None" = None


class Options(typing.TypedDict, total=False):
    seed: int


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    kind: Literal["dog"]
    tail: np.ndarray
    size: int = 3


class Pair(NamedTuple):
    a: int
    b: np.ndarray


class Engine:
    pass


class All:
    """Does everything.

    In several words.
    """

    def plain(
        self, a: str, b: int = 1, c: float | None = None, d: bool = True, e: None = None, f: bytes = b"\xff"
    ) -> str:
        """Plain things.

        More about them.
        """

    def holders(
        self, a: list[int], b: dict[str, Node], c: tuple[int, str], d: set[str], e: float | str, f: Literal["x"]
    ) -> dict: ...

    def classes(self, a: Color, b: Node, c: Options, d: Pair, e: Engine, f: Cat) -> Node: ...

    def pets(self, a: typing.Annotated[Cat | Dog, Field(discriminator="kind")]) -> Cat | Dog: ...

    def arrays(
        self, a: np.ndarray, b: npt.NDArray[np.float32], c: np.float32, d: Tensor, e: pd.DataFrame, f: pd.Series
    ) -> np.ndarray: ...

    def files(self, a: list[Image.Image], b: pathlib.Path, c: bytes | None = None) -> Image.Image: ...

    def caption(self, image: Image.Image, prompt: str = "") -> bytes: ...

    def times(
        self, a: dt.datetime, b: dt.date, c: dt.time, d: dt.timedelta, e: uuid.UUID, f: decimal.Decimal, g: Any = None
    ) -> dt.datetime: ...

    def open(self, x, *args, **kwargs):
        return x

    def items(self, n: int = 3) -> Iterator[Node]:
        yield Node(np.ones(n))

    async def letters(self) -> AsyncIterator[str]:
        yield "a"

    def callback(self, f: typing.Callable[[int], int] = abs) -> None: ...


class Reads:
    @api
    async def one(self, text: AsyncIterator[str]) -> int:
        return len([piece async for piece in text])

    @api
    async def two(self, a: AsyncIterator[int], b: AsyncIterator[int]) -> int:
        return 0


@pytest.fixture
def document(make_spec):
    def make(owner: type, needs_token: bool = False) -> dict[str, Any]:
        apis = tuple(make_spec(owner, name) for name in vars(owner) if not name.startswith("_"))
        spec = ServiceSpec(name=owner.__name__, cls=owner, apis=apis)
        return openapi(spec, {api.name: ApiSchema.of(owner, api) for api in apis}, needs_token=needs_token)

    return make


@pytest.mark.parametrize("needs_token", [False, True])
def test_the_document_is_valid_openapi(document, needs_token):
    made = document(All, needs_token)
    OpenAPIV31SpecValidator(made).validate()
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert ("security" in made) is needs_token
    assert ("401" in made["paths"]["/plain"]["post"]["responses"]) is needs_token


def test_every_schema_in_it_is_a_json_schema(document):
    made = document(All)
    for schema in made["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for path in made["paths"].values():
        for media in path["post"]["requestBody"]["content"].values():
            jsonschema.Draft202012Validator.check_schema(media.get("schema", {}))


def test_docstrings_and_signatures_are_in_it(document):
    made = document(All)
    assert made["info"] == {
        "title": "All",
        "version": "1",
        "summary": "Does everything.",
        "description": "In several words.",
    }
    plain = made["paths"]["/plain"]["post"]
    assert (plain["summary"], plain["description"]) == ("Plain things.", "More about them.")
    assert plain["requestBody"]["required"] is True
    assert made["paths"]["/open"]["post"]["summary"] == "open(x, *args, **kwargs)"
    assert made["paths"]["/items"]["post"]["requestBody"]["required"] is False


@pytest.mark.parametrize(
    ("path", "takes", "gives"),
    [
        ("/plain", ["application/json", "multipart/form-data", "text/plain"], ["application/json", "text/plain"]),
        ("/holders", ["application/json"], ["application/json"]),
        ("/caption", None, ["application/octet-stream", "application/json"]),
        ("/arrays", ["application/json", "multipart/form-data"], ["application/json", "application/x-npy"]),
        ("/items", ["application/json"], ["application/x-ndjson", "text/event-stream"]),
    ],
)
def test_the_forms_of_bodies(document, path, takes, gives):
    operation = document(All)["paths"][path]["post"]
    assert takes is None or list(operation["requestBody"]["content"]) == takes
    assert list(operation["responses"]["200"]["content"]) == gives


def test_the_bodies_that_a_stream_is_sent_as():
    spec = declare(Reads, {})
    made = openapi(spec, {a.name: ApiSchema.of(Reads, a) for a in spec.apis}, needs_token=False)["paths"]
    lines = ["application/json", "application/x-ndjson"]
    one = made["/one"]["post"]["requestBody"]["content"]
    assert list(one) == [*lines, "text/plain", "text/event-stream"]
    assert "event: end" in one["text/event-stream"]["schema"]["description"]
    assert list(made["/two"]["post"]["requestBody"]["content"]) == lines


def test_a_raw_image_is_a_body(document):
    content = document(All)["paths"]["/caption"]["post"]["requestBody"]["content"]
    assert {"image/png", "image/jpeg", "multipart/form-data"} < set(content)


def test_errors_have_one_shape(document):
    responses = document(All)["paths"]["/plain"]["post"]["responses"]
    assert set(responses) == {"200", "400", "422", "429", "500", "503", "504"}
    assert {r["content"]["application/json"]["schema"]["$ref"] for code, r in responses.items() if code != "200"} == {
        "#/components/schemas/Error"
    }


def follow(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    return document["components"]["schemas"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def test_classes_of_one_name_are_told_apart(document):
    def first() -> type:
        class Item(BaseModel):
            a: int

        return Item

    def second() -> type:
        class Item(BaseModel):
            b: int

        class Holder(BaseModel):
            item: Item

        return Holder

    def third() -> type:
        class Item(BaseModel):
            a: int

        class Holder(BaseModel):
            item: Item

        return Holder

    class Svc:
        def one(self, x, y) -> None: ...
        def two(self, x, y) -> None: ...
        def three(self, x, y) -> None: ...

    for name, cls in (("one", first()), ("two", second()), ("three", third())):
        getattr(Svc, name).__annotations__ = {"x": cls, "y": list[cls], "return": cls}  # type: ignore[valid-type]
    made = document(Svc)
    OpenAPIV31SpecValidator(made).validate()

    def fields(name: str) -> dict[str, Any]:
        body = follow(made, made["paths"][f"/{name}"]["post"]["requestBody"]["content"]["application/json"]["schema"])
        top = follow(made, body["properties"]["x"])["properties"]
        return follow(made, top["item"])["properties"] if "item" in top else top

    assert list(fields("one")) == ["a"]
    assert list(fields("two")) == ["b"]
    assert list(fields("three")) == ["a"]


def test_a_class_that_two_apis_share_is_there_once(document):
    class Svc:
        def one(self, x: Cat) -> None: ...
        def two(self, y: list[Cat]) -> list[Cat]: ...

    assert set(document(Svc)["components"]["schemas"]) == {
        "Error", "ErrorDetail", "ErrorProblem", "Cat", "OneArguments", "TwoArguments"
    }  # fmt: skip


def test_a_users_own_error_class_does_not_replace_ours(document):
    class Error(BaseModel):
        code: int

    class Svc:
        def f(self, x: Error, y: list[Error]) -> None: ...

    made = document(Svc)
    assert made["components"]["schemas"]["Error"]["required"] == ["error"]
    assert "ErrorInput" in made["components"]["schemas"]


@pytest.mark.parametrize("order", [("td", "TD"), ("TD", "td"), ("point", "Point"), ("Point", "point")])
def test_names_differ_by_more_than_case(document, order):
    """A class and an api that generators would give one name."""
    api, cls = order
    made_class = dataclasses.make_dataclass(cls, [("seed", int)])

    class Svc: ...

    def method(self, x): ...

    method.__annotations__ = {"x": made_class, "return": list[made_class]}  # type: ignore[valid-type]
    method.__name__ = api
    setattr(Svc, api, method)
    names = list(document(Svc)["components"]["schemas"])
    assert cls in names
    assert len({name.lower().replace("_", "") for name in names}) == len(names)
    assert {name: schema["title"] for name, schema in document(Svc)["components"]["schemas"].items()} == {
        name: name for name in names
    }


def test_a_class_is_one_component_as_an_argument_inside_of_others_and_as_a_result(document):
    class Svc:
        def one(self, x: Options) -> Options: ...
        def two(self, x: list[Options]) -> list[Options]: ...
        def three(self, x: Color) -> Color: ...

    made = document(Svc)
    assert {"Options", "Color"} <= made["components"]["schemas"].keys()
    assert not {"OptionsOutput", "ColorOutput"} & made["components"]["schemas"].keys()
    results = [made["paths"][f"/{api}"]["post"]["responses"]["200"]["content"] for api in ("one", "two", "three")]
    assert [r["application/json"]["schema"] for r in results] == [
        {"$ref": "#/components/schemas/Options"},
        {"items": {"$ref": "#/components/schemas/Options"}, "type": "array"},
        {"$ref": "#/components/schemas/Color"},
    ]


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (float, float("nan")),
        (list[float], [float("inf"), 1.0]),
        (float | None, float("nan")),
        (np.float32, np.float32("nan")),
        (dt.datetime, dt.datetime(2024, 1, 2)),
        (dt.time, dt.time(1, 2)),
        (np.ndarray, np.array(float("nan"))),
        (np.ndarray, np.array([[True]])),
    ],
    ids=str,
)
def test_an_answer_is_what_its_schema_says(schema_for, annotation, value):
    schema = schema_for(annotation)
    answer = json.loads(schema.dump_json(schema.check_result(value)))
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(schema.output_schema, format_checker=checker).validate(answer)


def test_what_is_always_so_is_promised(schema_for):
    assert schema_for(FiniteFloat).output_schema == {"type": "number"}
    assert schema_for(AwareDatetime).output_schema == {"type": "string", "format": "date-time"}
    assert "format" not in schema_for(dt.datetime).output_schema
    assert schema_for(dt.datetime).input_schema["properties"]["x"]["format"] == "date-time"
    assert schema_for(float).input_schema["properties"]["x"]["type"] == "number"


def test_files_and_texts_say_what_they_are(document):
    made = document(All)
    body = made["paths"]["/files"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    form = follow(made, body)["properties"]
    assert (form["b"]["format"], form["a"]["items"]["format"]) == ("binary", "binary")
    bodies = made["paths"]["/caption"]["post"]["requestBody"]["content"]
    assert bodies["image/png"] == {"schema": {"type": "string", "format": "binary"}}
    texts = made["paths"]["/plain"]["post"]["responses"]["200"]["content"]
    assert texts["text/plain"] == {"schema": {"type": "string"}}
