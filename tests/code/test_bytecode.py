"""Instructions as each version of Python writes them, in one form."""

from __future__ import annotations

import dis
from types import SimpleNamespace
from typing import Any

import pytest

from nbcompose._code.bytecode import instructions_of


def test_a_function() -> None:
    def f(x: Any, y: Any) -> Any:
        while x.a:
            y = dis, y, x
        return y

    found = [(i.name, i.kind, i.value) for i in instructions_of(f.__code__) if i.kind in ("local", "name", "attribute")]
    loop = [("LOAD_GLOBAL", "name", "dis"), ("LOAD_FAST", "local", "y"), ("LOAD_FAST", "local", "x")]
    start = [("LOAD_FAST", "local", "x"), ("LOAD_ATTR", "attribute", "a")]
    assert found[:6] == [*start, *loop, ("STORE_FAST", "local", "y")]
    assert found[-1] == ("LOAD_FAST", "local", "y")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("LOAD_FAST", "a", [("LOAD_FAST", "a")]),
        ("LOAD_FAST_CHECK", "a", [("LOAD_FAST", "a")]),
        ("LOAD_FAST_BORROW", "a", [("LOAD_FAST", "a")]),
        ("LOAD_FAST_AND_CLEAR", "a", [("LOAD_FAST_AND_CLEAR", "a")]),
        ("LOAD_FAST_LOAD_FAST", ("a", "b"), [("LOAD_FAST", "a"), ("LOAD_FAST", "b")]),
        ("LOAD_FAST_BORROW_LOAD_FAST_BORROW", ("a", "b"), [("LOAD_FAST", "a"), ("LOAD_FAST", "b")]),
        ("STORE_FAST_LOAD_FAST", ("a", "b"), [("STORE_FAST", "a"), ("LOAD_FAST", "b")]),
        ("STORE_FAST_STORE_FAST", ("a", "b"), [("STORE_FAST", "a"), ("STORE_FAST", "b")]),
        ("LOAD_FAST_OF_TOMORROW", ("a", "b"), [("LOAD_FAST_OF_TOMORROW", ("a", "b"))]),
        ("RETURN_CONST", 1, [("LOAD_CONST", 1), ("RETURN_VALUE", None)]),
        ("NOT_TAKEN", None, []),
        ("NOP", None, []),
    ],
)
def test_what_versions_join(name: str, value: Any, expected: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them is written by every version."""
    opcode = dis.opmap.get(name, -1)
    written = SimpleNamespace(opname=name, opcode=opcode, argval=value, argrepr="", arg=0, offset=0)
    monkeypatch.setattr(dis, "get_instructions", lambda code: [written])
    assert [(i.name, i.value) for i in instructions_of(test_a_function.__code__)] == expected
