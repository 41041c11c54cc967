"""A row beside its aim: by the median, and whether the interval is on both sides of it."""

from __future__ import annotations

import pytest

from benchmarks.edit_loop import NoFailures
from benchmarks.report import notes, table
from benchmarks.rounds import median
from benchmarks.row import Aim, Figure, Row, named

AT_MOST, AT_LEAST = Aim(2.0), Aim(2.0, "least")


@pytest.mark.parametrize(
    ("aim", "rounds", "met", "straddled"),
    [
        (AT_MOST, [1.7, 1.8, 1.9], True, False),
        (AT_MOST, [1.7, 1.8, 2.1], True, True),
        (AT_MOST, [1.8, 2.1, 2.2], False, True),
        (AT_MOST, [2.1, 2.2, 2.3], False, False),
        (AT_MOST, [1.8, 1.9, 2.0], True, False),  # the aim itself is within
        (AT_MOST, [2.0, 2.1, 2.2], False, True),
        (AT_LEAST, [1.7, 1.8, 1.9], False, False),
        (AT_LEAST, [1.8, 1.9, 2.0], False, True),
        (AT_LEAST, [1.9, 2.1, 2.2], True, True),
        (AT_LEAST, [2.0, 2.1, 2.2], True, False),
    ],
)
def test_aim(aim: Aim, rounds: list[float], met: bool, straddled: bool) -> None:
    ours, ratio = Figure.of([1.0], "s"), median(rounds)
    row = Row("what", aim, "yardstick", ours=ours, ratio=ratio)
    assert (row.met, row.straddled) == (met, straddled)
    of_value = Aim(aim.limit, aim.at, of="value")
    row = Row("what", of_value, "–", ours=Figure.of(rounds, "s"))
    assert (row.met, row.straddled) == (met, straddled)


@pytest.mark.parametrize(("failures", "met"), [(0, True), (1, False)])
def test_aim_without_failures(failures: int, met: bool) -> None:
    aim = Aim(2.0, no_failures=True)
    row = Row("what", aim, "yardstick", ours=Figure.of([1.0], "s"), ratio=median([1.0]), failures=failures)
    assert row.met is met


@pytest.mark.parametrize(("failures", "met"), [(0, True), (1, False)])
def test_aim_of_no_failures_alone(failures: int, met: bool) -> None:
    row = Row("swaps", NoFailures(0), "–", ours=Figure.of([386.0], "calls/s"), failures=failures)
    assert (row.met, row.straddled) == (met, False)
    assert Row("swaps", NoFailures(0), "–").met is None


def test_what_was_not_measured_meets_nothing_and_misses_nothing() -> None:
    assert Row("what", AT_MOST, "yardstick").met is None
    assert Row("what", AT_MOST, "yardstick", ours=Figure.of([1.0], "s")).met is None
    assert not Row("what", AT_MOST, "yardstick").straddled


def test_table_shows_intervals_and_says_when_one_straddles_the_aim() -> None:
    rounds = [1.7, 1.8, 1.8, 1.9, 1.9, 1.9, 2.1]
    ours = Figure.of([50e-6] * 7, "s")
    row = Row("call", AT_MOST, "raw", ours=ours, other=Figure.of([27e-6], "s", "more"), ratio=median(rounds))
    cell = Row("cell", Aim(0.3, of="value"), "–", ours=Figure.of([0.02, 0.031, 0.04], "s"))
    header, _, first, second = table([row, cell], ()).splitlines()
    assert [c.strip() for c in header.strip("|").split("|")] == [
        "what",
        "nbcompose",
        "yardstick",
        "ratio",
        "aim",
        "met",
    ]
    assert [c.strip() for c in first.strip("|").split("|")] == [
        "call",
        "50.0 µs",
        "raw: 27.0 µs, more",
        "1.9 × [1.7, 2.1]",
        "≤ 2 ×",
        "yes, but the interval straddles the aim",
    ]
    assert [c.strip() for c in second.strip("|").split("|")][1:] == [
        "31.0 ms [20.0 ms, 40.0 ms]",
        "–",
        "–",
        "≤ 0.3 s",
        "yes",
    ]
    assert "98.4% (of 7 rounds)" in notes([row, cell])


@pytest.mark.parametrize(
    ("wanted", "found"),
    [([], ["hop", "hop-sync", "http"]), (["hop"], ["hop", "hop-sync"]), (["http", "hop-"], ["hop-sync", "http"])],
)
def test_rows_by_the_beginning_of_their_names(wanted: list[str], found: list[str]) -> None:
    assert named(wanted, ["hop", "hop-sync", "http"]) == found


def test_an_unknown_row_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'hip'; rows: hop, http"):
        named(["hop", "hip"], ["hop", "http"])
