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
from pydantic import BaseModel, ConfigDict, Field

from nbcompose.schema import ApiSchema, openapi
from nbcompose.spec import ServiceSpec
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
        getattr(Svc, name).__annotations__ = {"x": cls, "y": list[cls], "return": cls}
    made = document(Svc)
    OpenAPIV31SpecValidator(made).validate()

    def fields(name: str) -> dict[str, Any]:
        body = made["paths"][f"/{name}"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        top = follow(made, body["properties"]["x"])["properties"]
        return follow(made, top["item"])["properties"] if "item" in top else top

    assert list(fields("one")) == ["a"]
    assert list(fields("two")) == ["b"]
    assert list(fields("three")) == ["a"]


def test_a_class_that_two_apis_share_is_there_once(document):
    class Svc:
        def one(self, x: Cat) -> None: ...
        def two(self, y: list[Cat]) -> list[Cat]: ...

    assert set(document(Svc)["components"]["schemas"]) == {"Error", "Cat"}


def test_a_users_own_error_class_does_not_replace_ours(document):
    class Error(BaseModel):
        code: int

    class Svc:
        def f(self, x: Error, y: list[Error]) -> None: ...

    made = document(Svc)
    assert made["components"]["schemas"]["Error"]["required"] == ["error"]
    assert "Error-Input" in made["components"]["schemas"]
