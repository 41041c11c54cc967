"""Rounds: in which order those that are compared take their turns, and what is made of the figures they gave.

The median of the rounds has a distribution-free interval: of n sorted values, the k-th smallest and the k-th largest
enclose the median of what they were drawn from with probability 1 - 2 P(X < k), X ~ Binomial(n, 1/2). That asks only
that rounds are independent and alike. Source: J.-Y. Le Boudec, Performance Evaluation of Computer and Communication
Systems, EPFL Press 2010, theorem 2.1; H. A. David and H. N. Nagaraja, Order Statistics, 3rd edition, Wiley 2003,
section 7.1.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

COVERAGE = 0.95
ROUNDS = 7  # the interval is then from the smallest to the largest: 98.4 %

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Median:
    """The median of `count` rounds, and the interval that covers the true one with probability `coverage`.

    `coverage` is the least that is not below `COVERAGE`, or where `count` is below 6 the most that there is.
    """

    value: float
    low: float
    high: float
    coverage: float
    count: int


def median(values: Sequence[float]) -> Median:
    """The median of one value for each round. Raises `ValueError` without any."""
    if not values:
        raise ValueError("no round, no median")
    ordered = sorted(values)
    rank = _rank(len(ordered))
    return Median(
        value=statistics.median(ordered),
        low=ordered[rank - 1],
        high=ordered[-rank],
        coverage=_coverage(len(ordered), rank),
        count=len(ordered),
    )


def median_ratio(over: Sequence[float], under: Sequence[float]) -> Median:
    """The median of the rounds' own ratios, which a slow minute of the machine moves less than either median.

    Raises `ValueError` where one has more rounds than the other, or none.
    """
    return median([a / b for a, b in zip(over, under, strict=True)])


def mirrored(things: Sequence[T], rounds: int) -> Iterator[tuple[T, ...]]:
    """The order of each round: A B, B A, A B, …, so that a drift of the machine favours neither.

    `things` is read anew for each round: what is removed meanwhile takes no further turn.
    """
    for number in range(rounds):
        yield tuple(things) if number % 2 == 0 else tuple(reversed(things))


def _rank(count: int) -> int:
    """The largest k whose interval still has the coverage; 1 where none has."""
    return max((k for k in range(1, (count + 1) // 2 + 1) if _coverage(count, k) >= COVERAGE), default=1)


def _coverage(count: int, rank: int) -> float:
    outside = 2 * sum(math.comb(count, i) for i in range(rank))
    return max(0.0, 1 - outside / float(2**count))
