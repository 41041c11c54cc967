from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcompose.llms.pieces import Pieces


def decode(ids: list[int]) -> str:
    """Each token is one byte."""
    return bytes(ids).decode(errors="replace")


def pieces_of(text: str, *stop: str, at_once: int = 1) -> tuple[list[str], Pieces]:
    pieces = Pieces(decode, stop)
    data = list(text.encode())
    found = [pieces.put(data[i : i + at_once]) for i in range(0, len(data), at_once)]
    return [*found, pieces.end()], pieces


def test_a_character_comes_whole() -> None:
    found, _ = pieces_of("aé🦊")
    assert found == ["a", "", "é", "", "", "", "🦊", ""]


@given(st.text(), st.integers(1, 5))
def test_no_text_is_lost(text: str, at_once: int) -> None:
    found, pieces = pieces_of(text, at_once=at_once)
    assert "".join(found) == text
    assert not pieces.is_stopped


@given(st.text("ab.", max_size=20), st.lists(st.text("ab.", min_size=1, max_size=4), max_size=3), st.integers(1, 5))
def test_an_answer_ends_before_the_first_stop_text(text: str, stop: list[str], at_once: int) -> None:
    found, pieces = pieces_of(text, *stop, at_once=1)
    # The first that is whole ends the answer; of those that are whole at the same place, the one that begins first.
    ends = [(text.find(s) + len(s), text.find(s)) for s in stop if s in text]
    assert "".join(found) == (text[: min(ends)[1]] if ends else text)
    assert pieces.is_stopped == bool(ends)
    coarse, _ = pieces_of(text, *stop, at_once=at_once)
    assert text.startswith("".join(coarse))
    assert not [s for s in stop if s in "".join(coarse)]


@pytest.mark.parametrize(("text", "held"), [("abc<", "<"), ("abc<e", "<e"), ("abc<x", ""), ("<<e", "<e")])
def test_what_may_begin_a_stop_text_waits(text: str, held: str) -> None:
    pieces = Pieces(decode, ["<end>"])
    assert pieces.put(list(text.encode())) == text.removesuffix(held)
    assert pieces.end() == held


def test_half_a_character_at_the_end_is_shown_as_such() -> None:
    pieces = Pieces(decode, ())
    assert pieces.put([*b"a", 0xF0]) == ""
    assert pieces.end() == "a\N{REPLACEMENT CHARACTER}"
