"""Of a large document few errors are made, wherever in it they are, and what is right in it stays right."""

from __future__ import annotations

import dataclasses
import re
from datetime import date
from typing import Annotated, Any, NamedTuple

import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from typing_extensions import TypeAliasType, TypedDict

from nbcompose import api
from nbcompose._schema.api import ApiSchema
from nbcompose._service.introspect import declare
from nbcompose.errors import InvalidArgument

N = 20_000
NUMBERS = {f"k{i}": i for i in range(N)}
TEXTS = dict.fromkeys(NUMBERS, "x")


class Closed(BaseModel, extra="forbid"):
    a: int
    b: int = Field(0, validation_alias=AliasChoices("bee", AliasPath("nested", "b")))


class Opened(BaseModel, extra="allow"):
    a: int


class Gathering(BaseModel, extra="forbid"):
    """Takes any keys, though it knows none of them."""

    total: int

    @model_validator(mode="before")
    @classmethod
    def gather(cls, value: Any) -> Any:
        return {"total": sum(value.values())} if isinstance(value, dict) else value


class Strict(BaseModel, strict=True, extra="forbid"):
    days: dict[str, date]


class Reals(BaseModel):
    xs: list[float]


class Held(BaseModel):
    cells: dict[str, float]


class Table(NamedTuple):
    cells: dict[str, int]


@dataclasses.dataclass
class Record:
    cells: dict[str, int]
    name: str = ""


class Keys(TypedDict):
    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    a: int


Tree = TypeAliasType("Tree", "dict[str, Tree | int]")


def _odd(value: Any) -> Any:
    return {name: part for name, part in value.items() if name != "odd"}


class Service:
    @api
    def cells(self, x: dict[str, int]) -> None: ...

    @api
    def numbered(self, x: dict[int, float]) -> None: ...

    @api
    def either(self, x: dict[str, int | bool | None] | list[int]) -> None: ...

    @api
    def few(self, x: Annotated[dict[str, int], Field(min_length=2, max_length=N)]) -> None: ...

    @api
    def sifted(self, x: Annotated[dict[str, int], BeforeValidator(_odd)]) -> None: ...

    @api
    def listed(self, x: list[dict[str, int]]) -> None: ...

    @api
    def closed(self, x: Closed) -> None: ...

    @api
    def all_closed(self, x: list[Closed]) -> None: ...

    @api
    def opened(self, x: Opened) -> None: ...

    @api
    def gathering(self, x: Gathering) -> None: ...

    @api
    def strict(self, x: Strict) -> None: ...

    @api
    def reals(self, x: Reals) -> None: ...

    @api
    def held(self, x: Held) -> None: ...

    @api
    def table(self, x: Table) -> None: ...

    @api
    def record(self, x: Record) -> None: ...

    @api
    def keys(self, x: Keys) -> None: ...

    @api
    def tree(self, x: Tree) -> None: ...

    @api  # type: ignore[arg-type]  # mypy lets `**x` have a `self` too
    def named(self, **x: int) -> None: ...


SCHEMAS = {a.name: ApiSchema.of(Service, a) for a in declare(Service, {}).apis}


@pytest.mark.parametrize(
    ("api", "document"),
    [
        ("cells", {"x": TEXTS}),
        ("cells", {"x": NUMBERS | {"last": "x"}}),
        ("cells", {"x": {}, **NUMBERS}),
        ("numbered", {"x": TEXTS}),
        ("either", {"x": TEXTS}),
        ("few", {"x": dict(list(TEXTS.items())[:N])}),
        ("few", {"x": NUMBERS | {"last": 1}}),
        ("sifted", {"x": TEXTS}),
        ("listed", {"x": [NUMBERS, TEXTS, TEXTS]}),
        ("closed", {"x": {"a": 1, **NUMBERS}}),
        ("all_closed", {"x": [{"a": 1}, NUMBERS]}),
        ("opened", {"x": NUMBERS}),
        ("reals", {"x": {"xs": ["x"] * N}}),
        ("held", {"x": {"cells": TEXTS}}),
        ("table", {"x": {"cells": TEXTS}}),
        ("record", {"x": {"cells": TEXTS}}),
        ("keys", {"x": {"a": 1, **NUMBERS}}),
        ("tree", {"x": {"inner": TEXTS}}),
        ("named", {"x": TEXTS}),
    ],
)
def test_errors_are_few(api: str, document: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        SCHEMAS[api].validate_json(document, large=True)
    rest = re.search(r"and (\d+) more$", str(caught.value))
    assert rest is None or int(rest[1]) < 5000
    with pytest.raises(InvalidArgument) as small:
        SCHEMAS[api].validate_json(document)
    told, first = caught.value.problems[0], small.value.problems[0]
    assert (told["type"], told["msg"]) == (first["type"], first["msg"])


@pytest.mark.parametrize(
    ("api", "document"),
    [
        ("cells", {"x": NUMBERS}),
        ("numbered", {"x": {str(i): i for i in range(N)}}),
        ("either", {"x": NUMBERS}),
        ("few", {"x": NUMBERS}),
        ("sifted", {"x": NUMBERS | {"odd": "x"}}),
        ("listed", {"x": [NUMBERS, NUMBERS]}),
        ("closed", {"x": {"a": 1, "bee": 2}}),
        ("closed", {"x": {"a": 1, "nested": {"b": 2}}}),
        ("opened", {"x": {"a": 1, **TEXTS}}),
        ("gathering", {"x": NUMBERS}),
        ("strict", {"x": {"days": dict.fromkeys(NUMBERS, "2026-11-26")}}),
        ("reals", {"x": {"xs": [1] * N}}),
        ("held", {"x": {"cells": NUMBERS}}),
        ("table", {"x": {"cells": NUMBERS}}),
        ("record", {"x": {"cells": NUMBERS, "name": "n"}}),
        ("keys", {"x": {"a": 1}}),
        ("tree", {"x": {"inner": NUMBERS, "other": 1}}),
        ("named", {"x": NUMBERS}),
    ],
)
def test_what_is_right_is_the_same(api: str, document: Any) -> None:
    assert SCHEMAS[api].validate_json(document, large=True) == SCHEMAS[api].validate_json(document)


def test_of_two_keys_that_mean_the_same_the_last_counts() -> None:
    document = {"x": {str(i): 0 for i in range(N)} | {"+1": 7}}
    assert SCHEMAS["numbered"].validate_json(document, large=True)["x"][1] == 7
