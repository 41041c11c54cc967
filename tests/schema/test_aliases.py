"""Aliases of types: with parameters, of foreign types, that refer to themselves; as libraries and cells write them."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any, TypeVar, Union

import numpy as np
import pytest
from typing_extensions import TypeAliasType

from nbcompose._schema.adapters import stream_item
from nbcompose.errors import InvalidArgument

T = TypeVar("T")
S = TypeVar("S")
Array = TypeAliasType("Array", np.ndarray[Any, np.dtype[T]], type_params=(T,))  # as numpy's NDArray, from 2.5 on
Many = TypeAliasType("Many", list[T], type_params=(T,))
Swapped = TypeAliasType("Swapped", tuple[S, T], type_params=(T, S))
Rows = TypeAliasType("Rows", Many[Array[T]], type_params=(T,))
Words = TypeAliasType("Words", Many[str])


@pytest.mark.parametrize(
    ("annotation", "given", "taken"),
    [
        (Array[np.float32], [1], np.array([1], np.float32)),
        (Many[int], ["1"], [1]),
        (Swapped[int, str], ["a", "1"], ("a", 1)),
        (Rows[np.float32], [[1], [2]], [np.array([1], np.float32), np.array([2], np.float32)]),
        (dict[str, Many[Array[np.int16]]], {"a": [[1]]}, {"a": [np.array([1], np.int16)]}),
        (Words, ["a"], ["a"]),
        (Union[Words, None], None, None),  # noqa: UP007  # what pydantic is given
        (Many, [1, "a"], [1, "a"]),
    ],
    ids=repr,
)
def test_an_alias_means_what_it_stands_for(schema_for, annotation, given, taken):
    found = schema_for(annotation).validate_json({"x": given})["x"]
    np.testing.assert_equal(found, taken)
    for array, expected in zip(_arrays(found), _arrays(taken), strict=True):
        assert array.dtype == expected.dtype


def _arrays(value: Any) -> list[np.ndarray[Any, Any]]:
    if isinstance(value, np.ndarray):
        return [value]
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [array for part in inside for array in _arrays(part)]


def test_what_does_not_fit_an_alias_is_refused(schema_for):
    with pytest.raises(InvalidArgument, match=r"x\.1: Input should be a valid integer"):
        schema_for(Many[int]).validate_json({"x": [1, "a"]})
    with pytest.raises(InvalidArgument, match="x: Input should be an array of float32"):
        schema_for(Array[np.float32]).validate_json({"x": "a"})


def test_an_alias_of_a_stream_is_one():
    assert stream_item(TypeAliasType("Texts", Iterator[str])) is str
    assert stream_item(TypeAliasType("Stream", Iterator[T], type_params=(T,))[int]) is int  # type: ignore[arg-type]
    with pytest.raises(LookupError):
        stream_item(Words)


CELL = """
import dataclasses
import numpy as np
type Tree = np.float32 | list[Tree]
type Nested[T] = T | list[Nested[T]]
type Plain = int | list[Plain]
@dataclasses.dataclass
class Box[T]:
    content: T
    more: list[T]
class Svc:
    def f(self, a: Tree, b: Nested[np.float32], c: Plain, d: Box[np.ndarray]) -> Tree: ...
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the syntax is of Python 3.12")
def test_aliases_and_classes_with_parameters_of_a_cell(schema_of, monkeypatch):
    module = types.ModuleType("notebook_cell")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(CELL, "<cell>", "exec", dont_inherit=True), vars(module))
    schema = schema_of(module.Svc)
    leaf, array = np.float32(1), np.zeros(1)
    taken = schema.validate({"a": [leaf, [leaf]], "b": [[leaf], leaf], "c": [1, [2]], "d": module.Box(array, [array])})
    assert taken == {"a": [leaf, [leaf]], "b": [[leaf], leaf], "c": [1, [2]], "d": taken["d"]}
    taken = schema.validate_json({"a": [1, [2]], "b": [[1]], "c": [1, ["2"]], "d": {"content": [1], "more": [[2]]}})
    assert [type(taken["a"][1][0]), type(taken["b"][0][0])] == [np.float32, np.float32]
    assert taken["c"] == [1, [2]]
    assert isinstance(taken["d"].more[0], np.ndarray)
    assert schema.input_schema["properties"].keys() == {"a", "b", "c", "d"}
    assert schema.dump_json([leaf, [leaf]]) == b"[1.0,[1.0]]"
    with pytest.raises(InvalidArgument, match=r"a.*1.*Input should be a float32"):
        schema.validate_json({"a": [1, ["x"]], "b": [], "c": 1, "d": {"content": [1], "more": []}})
