"""Fields that a dataclass sets itself: in answers and in their schema, and never in what is asked for."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Generic, TypeVar

import numpy as np
import pytest

T = TypeVar("T")


@dataclasses.dataclass
class Base:
    base: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.base = 1


@dataclasses.dataclass
class Plain(Base):
    word: str
    size: int = dataclasses.field(init=False)
    fixed: int = dataclasses.field(init=False, default=4)
    made: list[int] = dataclasses.field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.size = len(self.word)


@dataclasses.dataclass(kw_only=True)
class Keywords(Base):
    size: int = dataclasses.field(init=False)
    word: str

    def __post_init__(self) -> None:
        super().__post_init__()
        self.size = len(self.word)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    word: str
    size: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", len(self.word))


@dataclasses.dataclass
class Once:
    word: str
    times: dataclasses.InitVar[int] = 2
    size: int = dataclasses.field(init=False)

    def __post_init__(self, times: int) -> None:
        self.size = len(self.word) * times


@dataclasses.dataclass
class Arrays(Generic[T]):
    word: T
    size: np.ndarray = dataclasses.field(init=False)
    child: Frozen = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.size, self.child = np.ones(2), Frozen("abc")


CASES: list[tuple[Any, Any, dict[str, Any], list[str]]] = [
    (Plain, Plain("ab"), {"base": 1, "word": "ab", "size": 2, "fixed": 4, "made": []}, ["word"]),
    (Keywords, Keywords(word="ab"), {"base": 1, "size": 2, "word": "ab"}, ["word"]),
    (Frozen, Frozen("ab"), {"word": "ab", "size": 2}, ["word"]),
    (Once, Once("ab", 3), {"word": "ab", "size": 6}, ["word", "times"]),
    (Arrays[str], Arrays("ab"), {"word": "ab", "size": [1.0, 1.0], "child": {"word": "abc", "size": 3}}, ["word"]),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "value", "document", "asked"), CASES, ids=lambda v: getattr(v, "__name__", ""))
def test_a_dataclass(schema_for, annotation, value, document, asked):
    schema = schema_for(annotation)
    assert schema.check_result(value) is value
    assert json.loads(schema.dump_json(value)) == document
    assert list(json.loads(schema.dump_json(value))) == list(document)
    given = {name: document[name] for name in asked if name in document}
    again = schema.validate_json({"x": given})["x"]
    assert schema.dump(again) == {**document, **({"size": 4} if annotation is Once else {})}
    assert schema.dump(schema.validate_json({"x": document})["x"]) == schema.dump(again)
    name = annotation.__name__ if isinstance(annotation, type) else "Arrays_str_"
    assert list(schema.input_schema["$defs"][name]["properties"]) == asked
    answered = schema.output_schema["$defs"][name]
    assert list(answered["properties"]) == list(document)
    assert set(answered["required"]) >= {"word", "size"}


@pytest.mark.parametrize(("annotation", "value", "document", "asked"), CASES, ids=lambda v: getattr(v, "__name__", ""))
def test_inside_of_others(schema_for, annotation, value, document, asked):
    for holder, inside, written in (
        (list[annotation], [value], [document]),  # type: ignore[valid-type]
        (annotation | None, value, document),
        (dict[str, annotation], {"a": value}, {"a": document}),  # type: ignore[valid-type]
        (tuple[int, annotation], (1, value), [1, document]),  # type: ignore[valid-type]
    ):
        assert schema_for(holder).dump(inside) == written
