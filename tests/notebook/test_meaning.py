"""Each case is a cell, run twice in a namespace like a notebook's."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from nbcompose.declaration import Service, api, declare, depends
from nbcompose.notebook.meaning import difference, fingerprint
from nbcompose.spec import Location

CELL = """
LIMIT = 3

def helper(text):
    return text.upper() + "."

class Base:
    def shout(self):
        return "hey there"

class Echo(Base):
    "Says it again."
    greeting = {"en": "hello there", "de": "hallo"}
    other = depends("Other")

    def __init__(self):
        self.words = {"one", "two", "three"}

    @api
    def say(self, text: str = "a b", count: int = LIMIT) -> list[str]:
        return [helper(text)] * count + notebook_list + [self.shout(), Echo.greeting["en"]]
"""


@pytest.fixture
def main() -> Iterator[dict[str, Any]]:
    """The namespace of a `__main__` that is no file."""
    before = sys.modules["__main__"]
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    vars(module).update(api=api, depends=depends, notebook_list=["x y", "z"])
    yield vars(module)
    sys.modules["__main__"] = before


def run(main: dict[str, Any], cell: str, file: str = "cell-1") -> str:
    exec(compile(cell, file, "exec"), main)
    return fingerprint(main["Echo"])


def test_the_same_again_means_the_same(main: dict[str, Any]) -> None:
    assert len({run(main, CELL) for _ in range(5)}) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 3\n", "\n\n# a comment\nLIMIT = 3\n"),
        ('"Says it again."', '"Says it again."  # and again'),
        ("    @api", "\n    @api"),
        ("    other = ", "    # why\n    other = "),
    ],
)
def test_layout_and_comments_do_not_count(main: dict[str, Any], old: str, new: str) -> None:
    assert old in CELL
    assert run(main, CELL) == run(main, CELL.replace(old, new, 1), file="cell-2")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 3", "LIMIT = 4"),  # a default value
        ('+ "."', '+ "!"'),  # a function that a method uses
        ("upper", "lower"),  # only a name differs
        ("hey there", "hey"),  # a base class
        ('"de": "hallo"', '"de": "moin"'),  # a class attribute
        ('"three"', '"four"'),  # a constant in __init__
        ("* count", "* (count + 1)"),
        ('depends("Other")', 'depends("Another")'),
        ("-> list[str]", "-> list"),
        ("Says it again", "Says it once"),
        ("@api\n", "@api(batchable=True)\n"),
    ],
)
def test_a_change_of_meaning_counts(main: dict[str, Any], old: str, new: str) -> None:
    assert old in CELL
    assert run(main, CELL) != run(main, CELL.replace(old, new, 1))


def test_values_of_the_notebook_count(main: dict[str, Any]) -> None:
    before = run(main, CELL)
    main["notebook_list"].append("more")
    after = run(main, CELL)
    assert before != after
    main["notebook_list"] = ["x y", "z", "more"]
    assert run(main, CELL) == after


def test_what_cannot_be_told_is_like_no_other(main: dict[str, Any]) -> None:
    main["notebook_list"] = (i for i in range(3))
    assert run(main, CELL) != run(main, CELL)


def test_another_service_counts_by_its_name(main: dict[str, Any]) -> None:
    cell = CELL + "\nEcho.also = lambda self: Other"
    main["Other"] = Service(declare(type("Other", (), {"say": api(lambda self, x: x)}), {}))
    before = run(main, cell)
    main["Other"] = Service(declare(type("Other", (), {"say": api(lambda self, x: [x])}), {}))
    assert run(main, cell) == before


def test_differences_in_words() -> None:
    class Echo:
        @api
        def say(self, text: str) -> str:
            return text

    spec = declare(Echo, {"replicas": 2})
    code = "its code, or a value that it uses, changed"
    assert difference((spec, "a"), (replace(spec, location=Location("elsewhere", 7)), "a")) == ""
    assert difference((spec, "a"), (spec, "b")) == code
    assert difference((spec, "a"), (replace(spec, replicas=3, device="cpu"), "a")) == "device, replicas changed"
    assert difference((spec, "a"), (replace(spec, threads=3), "b")) == f"threads changed; {code}"
    assert difference((spec, "a"), (replace(spec, apis=()), "a")) == code
