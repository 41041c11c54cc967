# ruff: noqa: B008
"""pydantic's `Field(...)` in a signature: defaults, bounds, what is shown of them; what is refused in their place."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Annotated, Any

import numpy as np
import pytest
from pydantic import BaseModel, Field, PrivateAttr
from pydantic.fields import FieldInfo

from nbcompose import api, service
from nbcompose._schema.api import ApiSchema
from nbcompose._schema.openapi_document import openapi
from nbcompose._service.introspect import declare
from nbcompose._service.signature import signature_of
from nbcompose.errors import DeclarationError, InvalidArgument
from tests.handles import handle

made: list[int] = []


def fresh() -> list[int]:
    made.append(1)
    return [len(made)]


class In(BaseModel):
    x: int = 1


@service
class Ranks:
    @api
    def ranked(self, q: str, candidates: list[str] = Field(["a dog", "a cat"], description="c")) -> list[str]:
        return list(candidates)

    @api
    def n(self, n: int = Field(default=3, ge=1, le=5)) -> int:
        return n + 1

    @api
    def annotated(self, n: Annotated[int, Field(ge=1, le=5)] = 3) -> int:
        return n + 1

    @api
    def default_inside(self, n: Annotated[int, Field(default=3, ge=1, le=5)]) -> int:
        return n + 1

    @api
    def both(self, n: Annotated[int, Field(default=9, ge=1, le=5)] = 3) -> int:
        return n + 1

    @api
    def keyword(self, *, n: int = Field(3, ge=1, le=5)) -> int:
        return n + 1

    @api
    def positional(self, n: int = Field(3, ge=1, le=5), m: int = 0, /) -> int:
        return n + 1 + m

    @api
    def required(self, n: int = Field(ge=1, le=5)) -> int:
        return n + 1

    @api
    def made_anew(self, xs: list[int] = Field(default_factory=fresh, max_length=2)) -> list[int]:
        return xs

    @api
    def none(self, n: int = Field(None, ge=1, le=5)) -> int | None:  # type: ignore[assignment]
        return n

    @api
    def bare(self, n=Field(3)):
        return n

    @api
    def array(self, xs: np.ndarray = Field(np.ones(2), description="numbers")) -> np.ndarray:
        return xs + 1

    @api
    def others(self) -> list[Any]:
        """What the class's own code gets."""
        return [self.n(), self.keyword(), self.positional(), self.ranked("q"), self.none(), self.bare()]

    @api(batchable=True)
    def sizes(self, sentences: list[str] = ["a", "bb"]) -> list[int]:  # noqa: B006
        return [len(s) for s in sentences]

    @api(batchable=True)
    def sizes_in_field(self, sentences: list[str] = Field(["a", "bb"], max_length=3)) -> list[int]:
        return [len(s) for s in sentences]


SCHEMAS = {a.name: ApiSchema.of(handle(Ranks).inner, a) for a in handle(Ranks).spec.apis}
ranks = Ranks()


def over_http(name: str, body: dict[str, Any]) -> Any:
    args, kwargs = SCHEMAS[name].call_arguments(SCHEMAS[name].validate_json(body))
    return getattr(handle(Ranks).inner(), name)(*args, **kwargs)


@pytest.mark.parametrize(
    ("name", "given", "answer"),
    [
        ("ranked", {"q": "x"}, ["a dog", "a cat"]),
        ("ranked", {"q": "x", "candidates": ["b"]}, ["b"]),
        *[(name, {}, 4) for name in ("n", "annotated", "default_inside", "both", "keyword")],
        *[(name, {"n": 5}, 6) for name in ("n", "annotated", "default_inside", "both", "keyword", "required")],
        ("none", {}, None),
        ("none", {"n": 2}, 2),
        ("bare", {}, 3),
        ("others", {}, [4, 4, 4, ["a dog", "a cat"], None, 3]),
        ("sizes", {}, [1, 2]),
        ("sizes_in_field", {}, [1, 2]),
        ("sizes_in_field", {"sentences": ["ccc"]}, [3]),
    ],
)
def test_values(name: str, given: dict[str, Any], answer: Any) -> None:
    assert getattr(ranks, name)(**given) == answer
    assert over_http(name, given) == answer


def test_values_that_are_passed_by_position() -> None:
    assert (ranks.positional(), ranks.positional(5), ranks.positional(5, 1)) == (4, 6, 7)
    assert (over_http("positional", {}), over_http("positional", {"m": 1})) == (4, 5)


def test_a_default_that_is_made_is_made_for_each_call() -> None:
    first, second = ranks.made_anew(), ranks.made_anew()
    assert second[0] == first[0] + 1
    assert over_http("made_anew", {}) == [second[0] + 1]
    assert ranks.made_anew([7]) == [7]


def test_a_default_is_not_changed_by_a_call() -> None:
    ranks.sizes().append(7)
    assert ranks.sizes() == [1, 2]


def test_an_array() -> None:
    assert ranks.array().tolist() == over_http("array", {}).tolist() == [2, 2]
    assert over_http("array", {"xs": [5]}).tolist() == [6]
    assert "default" not in SCHEMAS["array"].input_schema["properties"]["xs"]


@pytest.mark.parametrize(
    "name", ["n", "annotated", "default_inside", "both", "keyword", "positional", "required", "none"]
)
def test_bounds(name: str) -> None:
    for n in (0, 9):
        with pytest.raises(InvalidArgument, match=r"n: Input should be (greater|less) than or equal to"):
            getattr(ranks, name)(*([n] if name == "positional" else []), **({"n": n} if name != "positional" else {}))
        with pytest.raises(InvalidArgument, match=r"n: Input should be (greater|less) than or equal to"):
            over_http(name, {"n": n})


def test_what_has_no_default_is_required() -> None:
    with pytest.raises(InvalidArgument, match="missing `n`"):
        ranks.required()
    with pytest.raises(InvalidArgument, match="n: is missing"):
        over_http("required", {})


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("ranked", "(q: str, candidates: list[str] = ['a dog', 'a cat']) -> list[str]"),
        ("n", "(n: int = 3) -> int"),
        ("annotated", "(n: int = 3) -> int"),
        ("default_inside", "(n: int = 3) -> int"),
        ("both", "(n: int = 3) -> int"),
        ("keyword", "(*, n: int = 3) -> int"),
        ("positional", "(n: int = 3, m: int = 0, /) -> int"),
        ("required", "(n: int) -> int"),
        ("made_anew", "(xs: list[int] = fresh()) -> list[int]"),
        ("none", "(n: int = None) -> int | None"),
        ("bare", "(n=3)"),
    ],
)
def test_help_shows_the_real_default(name: str, shown: str) -> None:
    spec = next(a for a in handle(Ranks).spec.apis if a.name == name)
    assert spec.signature == name + shown
    assert str(signature_of(spec)) == shown


def test_the_document_has_defaults_and_bounds() -> None:
    document = openapi(handle(Ranks).spec, SCHEMAS, needs_token=False)
    bodies = {name: schema.input_schema for name, schema in SCHEMAS.items()}
    for name in ("n", "annotated", "default_inside", "both", "keyword", "positional"):
        assert bodies[name]["properties"]["n"] == {
            "title": "N", "type": "integer", "default": 3, "minimum": 1, "maximum": 5
        }  # fmt: skip
        assert not document["paths"][f"/{name}"]["post"]["requestBody"]["required"]
    assert bodies["ranked"]["properties"]["candidates"]["description"] == "c"
    assert bodies["ranked"]["properties"]["candidates"]["default"] == ["a dog", "a cat"]
    assert bodies["required"]["required"] == ["n"]
    assert "required" not in bodies["made_anew"]
    assert bodies["sizes"]["properties"]["sentences"]["default"] == ["a", "bb"]


def test_a_class_may_be_declared_again() -> None:
    again = declare(handle(Ranks).inner, {})
    assert [a.signature for a in again.apis] == [a.signature for a in handle(Ranks).spec.apis]
    assert {a.name: ApiSchema.of(handle(Ranks).inner, a).input_schema for a in again.apis} == {
        name: schema.input_schema for name, schema in SCHEMAS.items()
    }


# -- what is refused


class Body(FieldInfo):  # type: ignore[misc]
    """As a web framework has it."""


@dataclasses.dataclass
class Depends:
    dependency: Any


class Option:
    def __init__(self, default: Any) -> None:
        self.default = default


@pytest.mark.parametrize(
    ("default", "message"),
    [
        (Body(default=3), "its default is a Body of .*, which nbcompose does not know and would hand to the method"),
        (Depends(len), "its default is a Depends of"),
        (Option(3), "its default is a Option of"),
        (dataclasses.field(default=3), "its default is a Field of dataclasses"),
        (PrivateAttr(3), "its default is a ModelPrivateAttr of pydantic.fields"),
        (Field(3, alias="k"), "it has an alias, but a parameter has one name, in Python and over HTTP: rename it"),
        (Field(3, validation_alias="k"), "it has an alias"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_other_descriptions_are_refused(default: Any, message: str) -> None:
    class Service:
        @api
        def f(self, n: int = default) -> int:
            return n

    Service.f.__annotations__["n"] = int
    with pytest.raises(DeclarationError, match=rf"Service\.f: `n`: {message}") as caught:
        declare(Service, {})
    assert caught.value.mistakes[0].file == __file__


@pytest.mark.parametrize("annotation", [Annotated[int, Body()], Annotated[int, Field(alias="k")]])
def test_so_are_they_in_an_annotation(annotation: Any) -> None:
    class Service:
        @api
        def f(self, n):
            return n

    Service.f.__annotations__["n"] = annotation
    with pytest.raises(DeclarationError, match=r"Service\.f: `n`: it"):
        declare(Service, {})


class Unset:
    """A value of a user's own for "nothing was given"."""


@pytest.mark.parametrize("default", [Unset(), Unset, Option(1)], ids=["an object", "a class", "of the right type"])
def test_values_of_any_type_may_be_defaults(default: Any) -> None:
    class Service:
        @api
        def f(self, n: Any = default) -> bool:
            return n is default

    Service.f.__annotations__["n"] = Any if isinstance(default, Option) else int
    assert ApiSchema.of(Service, declare(Service, {}).apis[0]).validate({}) == {}
    assert inspect.signature(Service.f).parameters["n"].default is default
