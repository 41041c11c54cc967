# ruff: noqa: B008
"""A service with every type that apis may take and give, for what reads its OpenAPI document."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import math
import pathlib
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat
from typing_extensions import TypeAliasType, TypedDict

from nbcompose import api, service

T = TypeVar("T")
UserId = NewType("UserId", int)
Json = TypeAliasType("Json", "dict[str, Json] | list[Json] | str | None")


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class TD(TypedDict):
    """As the api `td` is called, but for case."""

    seed: int


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    kind: Literal["dog"] = "dog"
    tail: np.ndarray


class Box(BaseModel, Generic[T]):
    value: T


class Pair(NamedTuple):
    a: int
    b: str = "b"


@dataclasses.dataclass
class Point:
    """As the api `point` is called."""

    x: float
    y: float = 0.0
    size: float = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.size = abs(self.x) + abs(self.y)


@dataclasses.dataclass
class Tree:
    name: str
    children: list[Tree] = dataclasses.field(default_factory=list)


class PointArguments(BaseModel):
    """As what the api `point` takes would be called."""

    points: list[Point]


def nested() -> type:
    class Point(BaseModel):
        other: str

    return Point


Another = nested()


@service
class Typed:
    """Every type."""

    @api
    def td(self, td: TD) -> TD:
        return td

    @api
    def point(self, point: Point, factor: float = 1.0) -> Point:
        """A point, farther away."""
        return Point(point.x * factor, point.y * factor)

    @api
    def points(self, points: list[Point]) -> list[Point]:
        return points

    @api
    def many(self, many: PointArguments) -> PointArguments:
        return many

    @api
    def another(self, x: Another) -> Another:  # type: ignore[valid-type]
        return x

    @api
    def tree(self, tree: Tree) -> Tree:
        return tree

    @api
    def pets(self, pet: Annotated[Cat | Dog, Field(discriminator="kind")]) -> Cat | Dog:
        return pet

    @api
    def root(self, box: Box[int], /) -> Box[int]:
        return box

    @api
    def plain(self, a: str, b: int = 1, c: float | None = None, d: bool = True, e: None = None) -> str:
        return a * min(b, 3)

    @api
    def bounded(self, n: int = Field(default=3, ge=1, le=5, description="how many")) -> int:
        return n + 1

    @api
    def user(self, user: UserId = UserId(1)) -> UserId:
        return user

    @api
    def holders(
        self, a: list[int], b: dict[str, int], c: tuple[int, str], d: set[str], e: float | str
    ) -> dict[str, int]:
        return b

    @api
    def tuples(self, pair: Pair, items: tuple[int, ...] = ()) -> Pair:
        return pair

    @api
    def choices(self, color: Color, mode: Literal["a", "b"] = "a") -> Color:
        return color

    @api
    def data(self, data: Json) -> Json:
        return data

    @api  # type: ignore[arg-type]  # mypy lets `**more` have a `self` too
    def anything(self, x: Any = None, *rest: int, **more: float) -> Any:
        return x

    @api
    def nothing(self) -> None: ...

    @api
    def numbers(self, x: float) -> float:
        """NaN, for everything."""
        return math.nan

    @api
    def finite(self, x: FiniteFloat) -> FiniteFloat:
        return x

    @api
    def arrays(
        self, a: np.ndarray, b: npt.NDArray[np.float32] | None = None, c: np.float32 = np.float32(1)
    ) -> np.ndarray:
        return a

    @api
    def tables(self, table: pd.DataFrame, column: pd.Series | None = None) -> pd.DataFrame:
        return table

    @api
    def times(self, when: dt.datetime, day: dt.date, at: dt.time, long: dt.timedelta) -> dt.datetime:
        return when

    @api
    def aware(self, when: AwareDatetime) -> AwareDatetime:
        return when

    @api
    def ids(self, x: uuid.UUID, y: decimal.Decimal) -> tuple[uuid.UUID, decimal.Decimal]:
        return x, y

    @api
    def image(self, image: Image.Image, caption: str = "") -> Image.Image:
        return image

    @api
    def files(self, file: pathlib.Path, more: list[Image.Image] = [], raw: bytes = b"") -> int:  # noqa: B006
        return len(file.read_bytes()) + len(more) + len(raw)

    @api
    def binary(self, raw: bytes) -> bytes:
        return raw

    @api(batchable=True)
    def batch(self, texts: list[str] = ["a", "bb"]) -> list[int]:  # noqa: B006
        return [len(t) for t in texts]

    @api
    def items(self, n: int = 3) -> Iterator[Point]:
        for i in range(max(0, min(n, 5))):
            yield Point(i)

    @api
    async def letters(self) -> AsyncIterator[str]:
        yield "a"
