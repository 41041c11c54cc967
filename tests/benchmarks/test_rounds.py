"""The median of rounds and its interval, against values worked out by hand and a simulation of the coverage."""

from __future__ import annotations

import random
from typing import Any

import pytest

from benchmarks.rounds import Median, median, median_ratio, mirrored


@pytest.mark.parametrize(
    ("count", "rank", "coverage"),
    [
        # The binomial sums, worked out by hand: 1 - 2 (C(n, 0) + … + C(n, k - 1)) / 2^n. Textbooks have the same table.
        (1, 1, 0.0),
        (2, 1, 1 - 2 / 4),
        (5, 1, 1 - 2 / 32),  # the most there is, and not enough
        (6, 1, 1 - 2 / 64),
        (7, 1, 1 - 2 / 128),
        (8, 1, 1 - 2 / 256),
        (9, 2, 1 - 2 * (1 + 9) / 512),
        (11, 2, 1 - 2 * (1 + 11) / 2048),
        (12, 3, 1 - 2 * (1 + 12 + 66) / 4096),
        (15, 4, 1 - 2 * (1 + 15 + 105 + 455) / 32768),
        (17, 5, 1 - 2 * (1 + 17 + 136 + 680 + 2380) / 131072),
        (20, 6, 1 - 2 * (1 + 20 + 190 + 1140 + 4845 + 15504) / 1048576),
    ],
)
def test_interval_is_between_the_values_of_a_rank(count: int, rank: int, coverage: float) -> None:
    values = [float(v) for v in range(1, count + 1)]
    random.Random(count).shuffle(values)
    found = median(values)
    expected: Any = pytest.approx(coverage)
    assert found == Median((count + 1) / 2, rank, count + 1 - rank, expected, count)


@pytest.mark.parametrize("count", [6, 7, 9, 12, 20])
def test_interval_covers_the_true_median_as_often_as_it_says(count: int) -> None:
    """Of a skewed distribution, as times are: the median of exp(N(0, 1)) is 1."""
    chance = random.Random(7)
    draws = 5000
    covered = 0
    for _ in range(draws):
        found = median([chance.lognormvariate(0, 1) for _ in range(count)])
        covered += found.low <= 1 <= found.high
    standard_error = (found.coverage * (1 - found.coverage) / draws) ** 0.5
    assert covered / draws == pytest.approx(found.coverage, abs=4 * standard_error)


def test_one_outlier_of_nine_moves_neither_median_nor_interval_far() -> None:
    usual = [1.00, 1.01, 0.99, 1.02, 0.98, 1.00, 1.01, 0.99]
    coverage: Any = pytest.approx(0.9609375)
    assert median([*usual, 50.0]) == Median(1.00, 0.99, 1.02, coverage, 9)


def test_without_rounds_there_is_no_median() -> None:
    with pytest.raises(ValueError, match="no round"):
        median([])


@pytest.mark.parametrize(
    ("over", "under", "value"),
    [
        ([2.0, 4.0, 6.0], [1.0, 2.0, 3.0], 2.0),  # the machine got slower, the ratio did not
        ([1.0, 10.0, 3.0], [1.0, 2.0, 2.0], 1.5),  # not 3 / 2, of the medians: of 1, 5 and 1.5
        ([1.0, 10.0, 12.0], [1.0, 1.0, 10.0], 1.2),  # not 10 / 1, of the medians
    ],
)
def test_ratio_is_of_the_rounds(over: list[float], under: list[float], value: float) -> None:
    assert median_ratio(over, under).value == pytest.approx(value)


def test_ratio_of_different_rounds_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        median_ratio([1.0, 2.0], [1.0])


def test_order_is_mirrored_from_round_to_round() -> None:
    assert list(mirrored("ab", 4)) == [("a", "b"), ("b", "a"), ("a", "b"), ("b", "a")]


def test_what_has_failed_takes_no_further_turn() -> None:
    turns = ["a", "b", "c"]
    orders = []
    for order in mirrored(turns, 3):
        orders.append("".join(order))
        if "b" in turns:
            turns.remove("b")
    assert orders == ["abc", "ca", "ac"]
