"""A call that waited for a place says how long, for what, behind what, and what can be done about it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from held_services import Front, Slow, Top

import nbcompose
from nbcompose._notebook.display import ServicesTable
from nbcompose._tracing.spans import CallContext, current_call
from nbcompose.errors import DeadlineExceeded, Overloaded
from tests.conftest import Running
from tests.handles import handle
from tests.patience import PATIENCE, ever_longer, wait_until

pytestmark = pytest.mark.system

WAYS_OUT = "--threads, --replicas, --timeout"

TIME = r"([\d.]+) (m?s)"


@contextmanager
def held(running: Running, folder: Path, *services: Any, api: str = "hold") -> Iterator[Any]:
    """Services, and the only worker of Slow held by a call that somebody waits for."""
    proxy = running.up(*services)
    until = str(folder / "go")
    hold = getattr(running.registry.proxy("Slow"), api)
    call = running.in_thread(hold, [until] if api == "batched" else until)
    wait_until((folder / "go.inside").exists, "the call runs")
    try:
        yield proxy
    finally:
        (folder / "go").touch()
        call.result(PATIENCE)


def refused(call: Callable[[], Any]) -> str:
    """What a call is told whose time is up while it waits in a queue. More time, until it had come so far."""

    def in_time(seconds: float) -> str:
        token = current_call.set(CallContext(time.monotonic() + seconds))
        try:
            with pytest.raises(DeadlineExceeded) as caught:
                call()
        finally:
            current_call.reset(token)
        return str(caught.value)

    return first_that_waited(in_time)


def post(running: Running, service: str, api: str) -> str:
    """The same over HTTP."""
    url = f"{running.registry.url(service)}/{api}"

    def in_time(seconds: float) -> str:
        response = httpx.post(url, json={}, headers={"X-Request-Timeout": str(seconds)})
        if api == "items":
            return response.text
        assert response.status_code == 504
        return str(response.json()["error"]["message"])

    return first_that_waited(in_time)


def first_that_waited(in_time: Callable[[float], str]) -> str:
    for seconds in ever_longer(0.5):
        told = in_time(seconds)
        waited = re.search(rf"waited {TIME} of {TIME} in the queue", told)
        if waited is not None:
            had, allowed = (
                float(n) * (0.001 if unit == "ms" else 1) for n, unit in (waited.groups()[:2], waited.groups()[2:])
            )
            if had >= 0.8 * seconds:
                assert had <= allowed <= seconds + 0.05
                return told
    raise AssertionError("no call has waited in a queue")


def words(api: str, behind: str = r"hold \(for [\d.]+ m?s\)") -> str:
    return rf"Slow\.{api}: waited {TIME} of {TIME} in the queue for 1 worker thread, behind {behind}: {WAYS_OUT}"


@pytest.mark.parametrize("api", ["quick", "items"])
def test_a_call_for_which_there_was_no_thread(running: Running, tmp_path: Path, api: str) -> None:
    with held(running, tmp_path, Slow) as slow:
        assert re.fullmatch(words(api), refused(lambda: list(getattr(slow, api)())))
        assert re.fullmatch(
            words("quick", r"hold \(for [\d.]+ m?s\)( and \d that came .*)?"), post(running, "Slow", "quick")
        )


@pytest.mark.parametrize(("top", "api"), [(Front, "quick"), (Front, "quick_async"), (Front, "items"), (Top, "quick")])
def test_one_far_below_the_one_that_was_made(running: Running, tmp_path: Path, top: Any, api: str) -> None:
    said = r"waited [\d.]+ m?s of [\d.]+ m?s in the queue for 1 worker thread, behind hold"
    with held(running, tmp_path, top, *[s for s in (Front,) if s is not top], Slow) as proxy:
        assert re.search(said, refused(lambda: list(proxy.items()) if api == "items" else getattr(proxy, api)()))
        assert re.search(said, post(running, top.name, api))


def test_those_before_it_are_counted(running: Running, tmp_path: Path) -> None:
    with held(running, tmp_path, Slow) as slow:
        others = [running.in_thread(slow.quick) for _ in range(5)]
        running.until("Slow", lambda s: s.waiting == 5)
        assert re.fullmatch(words("quick", r"hold \(for [\d.]+ m?s\) and 5 that came .*"), refused(slow.quick))
    assert [call.result(PATIENCE) for call in others] == [1] * 5


LIMITS = {"max_concurrency": 1, "max_queue": 1, "timeout": 600}


def test_a_call_that_was_not_let_in(running: Running, tmp_path: Path) -> None:
    said = (
        r"Slow\.quick: waited [\d.]+ m?s of [\d.]+ m?s in the queue for 1 place \(max_concurrency=1\), "
        r"behind hold \(for .*\): --max-concurrency, --replicas, --timeout"
    )
    with held(running, tmp_path, nbcompose.service(threads=2, traffic=LIMITS)(handle(Slow).inner)) as slow:
        assert re.fullmatch(said, refused(slow.quick))


def test_a_call_that_was_turned_away(running: Running, tmp_path: Path) -> None:
    with held(running, tmp_path, nbcompose.service(threads=2, traffic=LIMITS)(handle(Slow).inner)) as slow:
        waiting = running.in_thread(slow.quick)
        running.until("Slow", lambda s: s.waiting == 1)
        with pytest.raises(
            Overloaded, match=r"1 wait \(max_queue=1\), behind hold \(for [\d.]+ m?s\); try again later"
        ):
            slow.quick()
    assert waiting.result(PATIENCE) == 1


def test_a_call_that_waited_for_a_batch(running: Running, tmp_path: Path) -> None:
    with held(running, tmp_path, Slow, api="batched") as slow:
        said = r"Slow\.batched: waited .* in the queue for a batch of it .*, behind batched \(for .*\)"
        assert re.match(said, refused(lambda: slow.batched(["unused"])))


def test_a_queue_is_shown_while_there_is_one(running: Running, tmp_path: Path) -> None:
    with held(running, tmp_path, Slow) as slow:
        others = [running.in_thread(slow.quick) for _ in range(3)]
        status = running.until("Slow", lambda s: s.waiting == 3)
        assert "3 calls wait for a place, the first for " in repr(ServicesTable([status]))
        [held_by] = status.replicas[0].work.held
        assert (held_by.api, held_by.abandoned) == ("hold", False)
        metrics = httpx.get(f"{running.registry.url('Slow')}/metrics").text
        assert 'nbcompose_queue_calls{replica="0",service="Slow"} 3.0' in metrics
        assert "nbcompose_queue_longest_seconds{" in metrics
    for call in others:
        call.result(PATIENCE)
    status = running.until("Slow", lambda s: s.waiting == 0)
    assert "wait" not in repr(ServicesTable([status]))


def test_many_at_once(running: Running) -> None:
    """The input of the report: 30 calls of half a second, five seconds for each."""
    slow = running.up(nbcompose.service(traffic={"timeout": 4})(Sleeps))
    calls = [running.in_thread(slow.half) for _ in range(16)]
    failures = [error for call in calls if (error := call.exception(PATIENCE)) is not None]
    assert 7 <= len(failures) < 16
    texts = [str(error) for error in failures if "in the queue for 1 worker thread, behind half (for" in str(error)]
    assert len(texts) >= len(failures) - 1  # one may be at work when its time is up
    # What it has waited for is the calls before it, though all but one of them have been answered, or have given up.
    counts = [int(found[1]) for text in texts if (found := re.search(r"and (\d+) that came before it", text))]
    assert max(counts) >= 7


class Sleeps:
    @nbcompose.api
    def half(self) -> None:
        time.sleep(0.5)
