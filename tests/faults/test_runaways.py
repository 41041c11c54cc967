"""Calls that run on after their callers have gone: they are shown, routed round, ended; or the replica is replaced."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from held_services import Over, Runaway

import nbcompose
from nbcompose._code.packing import deployment_of
from nbcompose._control import publisher, standby, supervisor
from nbcompose._control.snapshot import snapshot
from nbcompose._host import memory
from nbcompose._notebook.display import ServicesTable
from nbcompose._rpc.blocking import background
from nbcompose._tracing.spans import CallContext, Span, current_call
from nbcompose.errors import DeadlineExceeded, NotBegun
from tests.conftest import Running, wait_for_end
from tests.handles import handle
from tests.patience import PATIENCE, wait_until

pytestmark = pytest.mark.system


def runaway(**options: Any) -> nbcompose.Service:
    traffic = {"timeout": 600, "interrupt_after": 0, "replace_after": 0, **options.pop("traffic", {})}
    return handle(nbcompose.service(traffic=traffic, **options)(handle(Runaway).inner))


def by_deadline(running: Running, api: str, *arguments: Any) -> None:
    """Make a call whose time is up while it runs."""
    call = getattr(running.registry.proxy("Runaway"), api)
    token = current_call.set(CallContext(time.monotonic() + 0.5))
    with pytest.raises(DeadlineExceeded):
        list(call(*arguments)) if api == "yields" else call(*arguments)
    current_call.reset(token)


def by_interrupt(running: Running, api: str, *arguments: Any) -> None:
    proxy = running.registry.proxy("Runaway")
    call = asyncio.run_coroutine_threadsafe(getattr(proxy.to_async, api)(*arguments), background().loop)
    running.until("Runaway", lambda s: any(r.threads_busy for r in s.replicas))
    call.cancel()


def by_http(running: Running, api: str) -> None:
    url = f"{running.registry.url('Runaway')}/{api}"
    body = {"values": [1]} if api == "batched" else {}
    with contextlib.suppress(httpx.TransportError):
        response = httpx.post(url, json=body, headers={"X-Request-Timeout": "0.5"})
        assert response.status_code == 504 or "DeadlineExceeded" in response.text


def abandoned(running: Running) -> Any:
    """The status once a worker is held by a call whose caller has gone."""
    return running.until("Runaway", lambda s: any(h.abandoned for r in s.replicas for h in r.work.held))


@pytest.mark.parametrize(("leave", "api"), [
    (by_deadline, "loop"), (by_interrupt, "loop"), (by_http, "loop"), (by_deadline, "yields"), (by_http, "yields"),
    (by_http, "batched"),
])  # fmt: skip
def test_a_call_that_runs_on_is_ended(running: Running, leave: Callable[..., None], api: str) -> None:
    proxy = running.up(runaway(traffic={"interrupt_after": 0.2}))
    before = proxy.pid()
    leave(running, api)
    assert proxy.ok() == before
    if api == "loop":
        assert proxy.ends() == ["CallInterrupted"]
    running.until("Runaway", lambda s: all(not r.work.held and r.threads_busy == 0 for r in s.replicas))
    assert running.registry.status("Runaway").restarts == 0


def test_not_one_that_must_not_be(running: Running, tmp_path: Path) -> None:
    proxy = running.up(runaway(traffic={"interrupt_after": 0.1}, threads=2))
    by_deadline(running, "spared", str(tmp_path / "go"))
    abandoned(running)
    by_deadline(running, "loop")
    wait_until(lambda: proxy.ends() == ["CallInterrupted"], "the other one has been interrupted")
    running.until("Runaway", lambda s: [h.api for h in s.replicas[0].work.held] == ["spared"])
    (tmp_path / "go").touch()


def test_not_where_it_is_turned_off_and_not_one_that_is_waited_for(running: Running) -> None:
    proxy = running.up(runaway(traffic={"interrupt_after": 0.1}, threads=2))
    waited_for = running.in_thread(proxy.loop)
    by_deadline(running, "loop")
    wait_until(lambda: proxy.ends() == ["CallInterrupted"], "the one that nobody waits for has been interrupted")
    assert not waited_for.done()


def test_what_holds_a_worker_is_shown(running: Running) -> None:
    proxy = running.up(runaway())
    by_deadline(running, "loop")
    status = abandoned(running)
    assert "; loop holds a worker for" in repr(ServicesTable([status]))
    [shown] = snapshot([status], {})["services"]
    assert any("loop holds a worker for" in note for note in shown["notes"])
    said = r"in the queue for 1 worker thread, behind loop \(for [\d.]+ s, its caller has gone\): --threads"
    token = current_call.set(CallContext(time.monotonic() + 4))
    with pytest.raises(DeadlineExceeded, match=said):
        proxy.ok()
    current_call.reset(token)


@pytest.mark.parametrize("held", [1, 2])
def test_calls_go_to_replicas_that_have_a_free_worker(running: Running, held: int) -> None:
    proxy = running.up(runaway(replicas=held + 1))
    for n in range(1, held + 1):
        by_deadline(running, "loop")
        running.until("Runaway", lambda s: sum(any(h.abandoned for h in r.work.held) for r in s.replicas) == n)  # noqa: B023
    free = {proxy.ok() for _ in range(40)}
    url = f"{running.registry.url('Runaway')}/ok"
    free |= {httpx.post(url, json={}).json() for _ in range(20)}
    calls = [running.in_thread(proxy.ok) for _ in range(40)]
    free |= {call.result(PATIENCE) for call in calls}
    assert len(free) == 1


# -- what cannot be interrupted


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner looks often."""
    monkeypatch.setattr(publisher, "LOOK", 0.05)


def hold_up(running: Running, folder: Path) -> int:
    """Have all workers of the only replica held by C code that nobody waits for; the pid."""
    pid: int = running.registry.proxy("Runaway").pid()
    by_interrupt_once(running, folder)
    abandoned(running)
    return pid


def by_interrupt_once(running: Running, folder: Path) -> None:
    proxy = running.registry.proxy("Runaway")
    call = asyncio.run_coroutine_threadsafe(proxy.to_async.stuck(str(folder / "inside")), background().loop)
    wait_until((folder / "inside").exists, "it is there")
    call.cancel()


@pytest.mark.parametrize("stop_first", [False, True])
def test_a_replica_of_which_all_workers_are_held_is_replaced(
    running: Running, tmp_path: Path, eager: None, stop_first: bool
) -> None:
    running.registry.deploy(deployment_of(runaway(traffic={"replace_after": 0.3})), stop_first=stop_first)
    assert running.registry.wait("Runaway").state == "ready"
    proxy = running.registry.proxy("Runaway")
    before = hold_up(running, tmp_path)
    status = running.until("Runaway", lambda s: s.restarts == 1 and s.state == "ready")
    assert proxy.ok() != before
    wait_for_end(before)
    assert "replaced" in status.error
    assert "stuck" in status.error
    assert running.registry.logs("Runaway")[-1] == status.error


@pytest.mark.parametrize("max_concurrency", [None, 1])
@pytest.mark.parametrize("stop_first", [False, True])
def test_calls_that_had_not_begun_go_to_the_one_that_takes_its_place(
    running: Running, tmp_path: Path, eager: None, stop_first: bool, max_concurrency: int | None
) -> None:
    begun = time.time()
    traffic = {"replace_after": 1.0, "max_concurrency": max_concurrency}
    running.registry.deploy(deployment_of(runaway(traffic=traffic)), stop_first=stop_first)
    over = running.up(Over)
    assert running.registry.wait("Runaway").state == "ready"
    proxy, url = running.registry.proxy("Runaway"), running.registry.url("Runaway")
    before = proxy.pid()
    by_interrupt_once(running, tmp_path)
    calls: list[Callable[[], Any]] = [
        proxy.ok, over.ok, over.ok_async, lambda: proxy.ok_batched([1])[0], lambda: max(proxy.ok_items()),
        lambda: asyncio.run_coroutine_threadsafe(proxy.to_async.ok(), background().loop).result(PATIENCE),
    ]  # fmt: skip
    answers = [running.in_thread(call) for call in calls]
    posted = running.in_thread(lambda: httpx.post(f"{url}/ok", json={}))
    running.until("Runaway", lambda s: s.restarts == 0 and any(r.work.waiting >= len(calls) + 1 for r in s.replicas))
    waiting = time.time()
    found = {answer.result(PATIENCE) for answer in answers}
    assert found == {proxy.ok()}
    assert before not in found
    answer = posted.result(PATIENCE)
    assert answer.status_code == 503
    assert "had not begun with this call: try again" in answer.text
    assert answer.headers["Retry-After"]
    wait_for_end(before)

    # Those that were made elsewhere have not failed; the client of the one over HTTP was told to try again.
    def spans() -> list[Span]:
        return [span for spans in running.registry.collect_traces().latest() for span in spans]

    assert [s.api for s in spans() if s.error == "NotBegun" and s.start >= begun] == ["ok"]

    # What they have waited for the one before is in their trace, which a replica writes when it has answered.
    def that_waited() -> list[Span]:
        mine = [s for s in spans() if s.service == "Runaway" and s.api.startswith("ok") and not s.error]
        return [s for s in mine if begun <= s.start <= waiting]

    wait_until(lambda: len(that_waited()) == len(calls), "they are in a trace")
    waited = that_waited()
    assert all(s.start + s.queued > waiting and s.queued <= s.duration for s in waited)
    streamed = [s for s in waited if s.api == "ok_items"]
    assert all(s.queued <= (s.first_item or 0) <= s.duration for s in streamed)


@pytest.mark.parametrize("api", ["passes_on", "passes_on_sync", "passes_on_items", "passes_on_batched"])
def test_an_api_that_raises_that_another_had_not_begun_has_begun(running: Running, api: str) -> None:
    """It is not made again, and has failed."""
    proxy = running.up(runaway())
    token = current_call.set(CallContext(time.monotonic() + 10))
    with pytest.raises(NotBegun, match="below"):
        list(getattr(proxy, api)(*[[1]] if api == "passes_on_batched" else []) or ())
    current_call.reset(token)
    assert proxy.ends() == [api]
    spans = [span for spans in running.registry.collect_traces().latest() for span in spans]
    assert [s.error for s in spans if s.api == api] == ["NotBegun"]


def test_not_again_at_once(running: Running, tmp_path: Path, eager: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standby, "LOADS", 10**6)
    running.up(runaway(traffic={"replace_after": 0.2}))
    first = hold_up(running, tmp_path)
    running.until("Runaway", lambda s: s.restarts == 1 and s.state == "ready")
    wait_for_end(first)
    running.until("Runaway", lambda s: not any(r.work.held for r in s.replicas))
    (tmp_path / "inside").unlink()
    pid = hold_up(running, tmp_path)
    status = running.until("Runaway", lambda s: any("since one was" in note for note in s.stuck))
    assert "is stuck (stuck runs on for nobody): not replaced" in status.stuck[0]
    assert f"{status.stuck[0]}; %services restart Runaway does it" in repr(ServicesTable([status]))
    [said] = status.stuck_notes(in_cell=True)
    assert said.endswith("; Restart in the graph's panel does it now, %services restart Runaway after ■")
    assert running.registry.proxy("Runaway").pid() == pid


def test_again_after_a_while_where_loading_takes_little(
    running: Running, tmp_path: Path, eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standby, "LOADS", 0.1)
    proxy = running.up(runaway(traffic={"replace_after": 0.2}))
    before = {proxy.pid()}
    for times in (1, 2):
        hold_up(running, tmp_path)
        running.until("Runaway", lambda s: s.restarts == times and s.state == "ready")  # noqa: B023
        (tmp_path / "inside").unlink()
        before.add(proxy.pid())
    assert len(before) == 3


def test_it_is_said_when_a_replica_will_be_replaced(running: Running, tmp_path: Path) -> None:
    running.up(runaway(traffic={"replace_after": 600}))
    hold_up(running, tmp_path)
    status = running.until("Runaway", lambda s: any(r.work.held_since for r in s.replicas))
    [said] = [text for text in status.trouble() if "replaced in" in text]
    assert re.fullmatch(r"replica 0 is replaced in (10 min|5\d\d s) if that does not end before", said), said


def test_not_where_there_is_no_room_for_two(
    running: Running, tmp_path: Path, eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.up(runaway(traffic={"replace_after": 0.2}))
    monkeypatch.setattr(memory, "available", lambda: 0)
    pid = hold_up(running, tmp_path)
    running.until("Runaway", lambda s: any("no room" in note for note in s.stuck))
    assert running.registry.proxy("Runaway").pid() == pid


def test_not_because_of_calls_that_are_waited_for(
    running: Running, tmp_path: Path, eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = running.up(runaway(traffic={"replace_after": 0.2}, threads=2))
    running.in_thread(proxy.stuck, str(tmp_path / "waited for"))
    pid = hold_up(running, tmp_path)
    looked = threading.Event()
    looks = itertools.count()
    look = supervisor.Supervisor.look

    def counted(self: supervisor.Supervisor) -> bool:
        if next(looks) == 20:
            looked.set()
        return look(self)

    monkeypatch.setattr(supervisor.Supervisor, "look", counted)
    assert looked.wait(PATIENCE)
    assert proxy.pid() == pid
