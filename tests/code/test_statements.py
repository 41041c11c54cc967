"""What a module's text says: when a value of it has changed, and what it does besides binding names."""

from __future__ import annotations

import pytest

from nbcompose._code.modules import Statements

TEXT = """
import os

LIMIT = 3


def load(name):
    return name * LIMIT


MODEL = load("a")


class Config:
    size = LIMIT
    name = "x"


@service
class Writer:
    def write(self):
        return MODEL


class Front:
    writer = depends(Writer)
"""


def read(text: str) -> Statements:
    return Statements.of(text, opaque=("Writer",))


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("LIMIT = 3", "LIMIT = 4", {"LIMIT", "load", "MODEL", "Config"}),
        ("LIMIT = 3", "LIMIT = (3)  # a remark", set()),
        ("return name * LIMIT", "return name + LIMIT", {"load", "MODEL"}),
        ('load("a")', 'load("b")', {"MODEL"}),
        ('name = "x"', 'name = "y"', {"Config"}),
        ("return MODEL", "return 1", set()),  # a service counts by its name
    ],
)
def test_a_name_has_changed_when_what_it_is_made_from_has(old: str, new: str, changed: set[str]) -> None:
    before, after = read(TEXT), read(TEXT.replace(old, new))
    names = ("LIMIT", "load", "MODEL", "Config", "Front")
    assert {n for n in names if before.digest(n) != after.digest(n)} == changed
    assert before.acts() == after.acts()


def test_attributes_of_a_class() -> None:
    before, after = read(TEXT), read(TEXT.replace("LIMIT = 3", "LIMIT = 4"))
    assert before.attribute_digest("Config", "size") != after.attribute_digest("Config", "size")
    assert before.attribute_digest("Config", "name") == after.attribute_digest("Config", "name")
    assert before.attribute_digest("Front", "writer") == after.attribute_digest("Front", "writer")
    assert before.attribute_digest("Front", "reader") is None


@pytest.mark.parametrize(
    ("more", "acts"),
    [
        ("import json", False),
        ("x: int = 1", False),
        ('"""A text."""', False),
        ("def f(): os.environ.clear()", False),
        ('if __name__ == "__main__":\n    load(1)', False),
        ("load(1)", True),
        ('os.environ["A"] = "b"', True),
        ("for i in range(3):\n    load(i)", True),
        ("try:\n    import json\nexcept ImportError:\n    json = None", True),
    ],
)
def test_what_a_module_does_besides(more: str, acts: bool) -> None:
    assert (read(TEXT).acts() != read(f"{TEXT}\n{more}\n").acts()) == acts


def test_what_an_acting_statement_uses_counts() -> None:
    text = TEXT + "\nload(1)\n"
    assert read(text).acts() != read(text.replace("LIMIT = 3", "LIMIT = 4")).acts()
