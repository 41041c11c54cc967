"""One timer ends whatever is late on a connection. Time passes when a test says so."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nbcompose._rpc.client_calls import Deadlines
from nbcompose._tracing import clock


class Timer:
    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self.when = when
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Watch:
    """Deadlines, and the clock and the loop that they live by; `late` has those whose time was up, in their order."""

    AHEAD = 1000.0  # the loop's clock began at another time

    def __init__(self) -> None:
        self.now = 50.0
        self.timers: list[Timer] = []
        self.late: list[int] = []
        self.deadlines = Deadlines(self)  # type: ignore[arg-type]

    def time(self) -> float:
        return self.now + self.AHEAD

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        return self.call_at(self.time() + seconds, callback)

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        self.timers.append(Timer(when, callback))
        return self.timers[-1]

    def add(self, key: int, seconds: float) -> None:
        self.deadlines.add(key, self.now + seconds, lambda: self.late.append(key))

    def pass_(self, seconds: float, *, ahead: float = 0.0) -> list[int]:
        """Who is late after that time. `ahead`: the loop calls its timers that much too early."""
        self.now += seconds - ahead
        for timer in list(self.timers):
            if not timer.is_cancelled and timer.when <= self.time() + ahead + 1e-9:
                timer.cancel()
                timer.callback()
        self.now += ahead
        late, self.late = self.late, []
        return late


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch = Watch()
    monkeypatch.setattr(clock, "monotonic", lambda: watch.now)
    return watch


def test_each_is_ended_at_its_deadline_and_not_before(watch: Watch) -> None:
    watch.add(2, 60)
    watch.add(1, 20)  # an earlier one: the timer has to be moved
    watch.add(3, 90)
    assert watch.pass_(19) == []
    assert watch.pass_(1) == [1]
    assert watch.pass_(39) == []
    assert watch.pass_(1) == [2]
    assert watch.pass_(29, ahead=0.001) == []
    assert watch.pass_(1, ahead=0.001) == [3]


def test_all_that_are_late_are_ended_at_once(watch: Watch) -> None:
    for key in range(3):
        watch.add(key, 10 + key)
    assert watch.pass_(11) == [0, 1]
    assert watch.pass_(100) == [2]


def test_what_was_removed_is_not_ended(watch: Watch) -> None:
    watch.add(1, 10)
    watch.add(2, 20)
    watch.deadlines.remove(1)
    assert watch.pass_(10) == []
    assert watch.pass_(10) == [2]
    watch.deadlines.remove(2)  # of one that has gone


def test_a_timer_that_found_nothing_is_set_anew_by_the_next(watch: Watch) -> None:
    for key in range(3):
        watch.add(key, 5)
        assert watch.pass_(5) == [key]
        watch.add(9, 5)
        watch.deadlines.remove(9)
        assert watch.pass_(5) == []


def test_calls_of_one_timeout_share_a_timer(watch: Watch) -> None:
    for key in range(100):
        watch.add(key, 60)
        watch.deadlines.remove(key)
        watch.now += 0.001
    assert len(watch.timers) == 1
    watch.deadlines.close()
    assert watch.timers[0].is_cancelled


def test_ending_one_may_close_them_all(watch: Watch) -> None:
    watch.deadlines.add(1, watch.now, watch.deadlines.close)
    watch.add(2, 0)
    watch.add(3, 10)
    assert watch.pass_(0) == []
    assert watch.pass_(100) == []


def test_nothing_is_late_while_the_clock_stands(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    watch.add(1, 2.0)
    monkeypatch.setattr(clock, "_holders", {"a debugger"})
    stood_at = watch.now
    monkeypatch.setattr(clock, "monotonic", lambda: stood_at)
    assert watch.pass_(3.0) == []
    assert watch.pass_(60.0) == []
    monkeypatch.setattr(clock, "_holders", set())
    monkeypatch.setattr(clock, "behind", watch.now - stood_at)
    monkeypatch.setattr(clock, "monotonic", lambda: watch.now - clock.behind)
    assert watch.pass_(1.0) == []
    assert watch.pass_(1.5) == [1]
