"""Durations and sizes as people read them; the front end is held to the same cases (frontend/tests/words.test.js)."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcompose._units import human_duration, human_size, with_article

CASES = json.loads((Path(__file__).parents[1] / "frontend/tests/units.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("seconds", "text"), CASES["durations"])
def test_durations(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), CASES["sizes"])
def test_sizes(count: int, text: str) -> None:
    assert human_size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0459, "46 ms"), (4.23, "4.2 s"), (40.4, "40 s"), (123.4, "123 s"), (720, "12 min")]
)
def test_a_duration_that_goes_on_has_fewer_digits(seconds: float, text: str) -> None:
    assert human_duration(seconds, 2) == text


def value_of(text: str, units: dict[str, float]) -> float:
    number, unit = text.split(" ")
    return float(number) * units[unit]


@pytest.mark.parametrize("text", ["an int", "a str", "an object"])
def test_a_noun_has_its_article(text: str) -> None:
    noun = text.split()[1]
    assert with_article(noun) == text


@given(st.floats(1e-9, 1e7))
def test_a_duration_has_at_most_three_digits_and_is_near_the_truth(seconds: float) -> None:
    text = human_duration(seconds)
    assert re.fullmatch(r"\d{1,4}|\d+(\.\d+)?", text.split(" ")[0])
    assert len(text.split(" ")[0].replace(".", "").lstrip("0")) <= 3 or text.endswith(" h")
    units = {"µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
    assert value_of(text, units) == pytest.approx(seconds, rel=0.06)


@given(st.integers(0, 2**50))
def test_a_size_has_at_most_three_digits_and_is_near_the_truth(count: int) -> None:
    text = human_size(count)
    assert len(text.split(" ")[0].replace(".", "").lstrip("0")) <= 4
    units = {unit: 1024.0**power for power, unit in enumerate(("B", "KiB", "MiB", "GiB", "TiB"))}
    assert value_of(text, units) == pytest.approx(count, rel=0.006)
