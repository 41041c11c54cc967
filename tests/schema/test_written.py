"""Annotations as they are written, where some of their names do not exist."""

from __future__ import annotations

import inspect
import sys
import types
import typing
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest

from nbcompose._schema import hints
from nbcompose._schema.hints import annotations_of, written_signature

SOURCE = """
from dataclasses import dataclass
from functools import wraps
@dataclass
class Base:
    x: int
class Child(Base):
    y: {missing}
def f(a: int, b: {missing} = 3) -> {missing}: ...
@wraps(f)
def g(*args): ...
"""


@pytest.fixture(params=["strings", pytest.param("names", marks=pytest.mark.skipif("sys.version_info < (3, 14)"))])
def module(request: pytest.FixtureRequest) -> types.ModuleType:
    """Names that nobody evaluates: as strings, and as Python 3.14 leaves them."""
    missing = "'Missing'" if request.param == "strings" else "Missing"
    made = types.ModuleType("written")
    exec(compile(SOURCE.format(missing=missing), "<cell>", "exec", dont_inherit=True), vars(made))
    return made


def test_what_is_missing_stays_a_string(module: Any) -> None:
    assert annotations_of(module.f) == {"a": int, "b": "Missing", "return": "Missing"}
    assert annotations_of(module.Child) == {"y": "Missing"}
    assert annotations_of(module.Base) == {"x": int}
    assert annotations_of(type("Bare", (module.Base,), {})) == {}


def test_a_signature(module: Any) -> None:
    assert list(written_signature(module.f).parameters) == ["a", "b"]
    assert written_signature(module.f).parameters["b"].default == 3
    assert list(written_signature(module.g).parameters) == ["a", "b"]
    assert list(written_signature(module.g, follow_wrapped=False).parameters) == ["args"]


def test_what_is_found_is_written_back(module: Any) -> None:
    found, errors = hints.of_function(module.f, module.Child)
    assert found == {"a": int}
    assert {name: type(error) for name, error in errors.items()} == {"b": NameError, "return": NameError}
    module.Missing = str
    found, errors = hints.of_function(module.f, module.Child)
    assert (found, errors) == ({"a": int, "b": str, "return": str}, {})
    assert inspect.signature(module.f).return_annotation is str
    sys.modules["written"] = module
    try:
        module.Child.__module__ = "written"
        assert hints.of_class(module.Child) == {"x": int, "y": str}
    finally:
        del sys.modules["written"]
    assert annotations_of(module.Child) == {"y": str}


class Pair(NamedTuple):
    first: Part
    second: int


@dataclass
class Part:
    name: str


def test_a_named_tuple_is_made_of_the_same() -> None:
    assert hints.of_class(Pair) == {"first": Part, "second": int}
    assert typing.get_type_hints(Pair.__new__)["first"] is Part
