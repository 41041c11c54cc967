"""The clock of deadlines: the system's, until it stands."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from nbcompose._tracing import CallContext, clock


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = clock.monotonic, clock.behind
    yield
    clock.monotonic, clock.behind = before


def test_it_costs_nothing_until_it_stands() -> None:
    assert clock.monotonic is time.monotonic


def test_it_stands_until_all_let_it_go() -> None:
    clock.hold("a")
    clock.hold("b")
    now = clock.monotonic()
    assert clock.stands()
    clock.release("a")
    clock.release("a")
    clock.release("unknown")
    assert clock.stands()
    assert clock.monotonic() == now
    clock.release("b")
    assert not clock.stands()
    assert now <= clock.monotonic() < time.monotonic()


def test_it_stands_a_second_time_from_where_it_was() -> None:
    for _ in range(2):
        clock.hold("a")
        now = clock.monotonic()
        clock.release("a")
        assert clock.monotonic() >= now
    assert time.monotonic() - clock.monotonic() == pytest.approx(clock.behind, abs=0.1)


def test_a_deadline_is_put_off() -> None:
    context = CallContext(clock.monotonic() + 10)
    clock.hold("a")
    left = context.remaining()
    assert left is not None
    assert left == context.remaining()
    assert context.limited(5) == clock.monotonic() + 5
    clock.release("a")
