"""Calls of a real replica: deadlines, cancellation, streams, limits, batches, over the wire and over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from chain_services import Front, Leaf, Mid
from faulty_services import Faulty
from stream_services import Batches, Between, Impatient, Narrow, Sleeper, Words
from whole_services import Whole

import nbcompose
from nbcompose._control import publisher
from nbcompose._replica.instance import Runtime
from nbcompose._rpc.blocking import background
from nbcompose._rpc.codec import Chunks
from nbcompose._rpc.load_table import LoadTable
from nbcompose._rpc.protocol import FramedProtocol, Kind
from nbcompose._rpc.server_calls import IncomingCall
from nbcompose._service.introspect import declare
from nbcompose._tracing.spans import CANCELLED, CallContext, current_call
from nbcompose.errors import DeadlineExceeded, InvalidResult, Overloaded, UnknownApi
from tests.conftest import Running
from tests.handles import handle
from tests.patience import PATIENCE, ever_longer, wait_until

pytestmark = pytest.mark.system


def test_a_deadline_travels_down_the_tree(running: Running) -> None:
    front = running.up(nbcompose.service(traffic={"timeout": 55})(handle(Front).inner), Mid, Leaf)
    assert 0 < front.left() <= 55  # and not Leaf's own 60


@pytest.mark.parametrize("api", ["sync", "coroutine"])
def test_a_deadline_cancels_everything_below(running: Running, api: str) -> None:
    running.up(Sleeper, Words)
    for seconds in ever_longer(0.2):
        between = running.up(nbcompose.service(traffic={"timeout": seconds}, threads=2)(handle(Between).inner))
        with pytest.raises(DeadlineExceeded):
            getattr(between, api)()
        # Where messages are slow, the caller's cancel comes well before Between's own deadline, and is no error of it.
        late = running.until("Between", lambda s: s.calls == 1).total.failed == 1
        if late and running.registry.proxy("Sleeper").reached():
            break
        running.registry.remove("Between")
    assert set(running.registry.proxy("Sleeper").cancelled()) == {{"sync": "sync", "coroutine": "async"}[api]}


@pytest.mark.parametrize("api", ["sync", "coroutine"])
def test_a_caller_that_gives_up_cancels_everything_below(running: Running, api: str) -> None:
    between = running.up(Between, Sleeper, Words)

    call = asyncio.run_coroutine_threadsafe(getattr(between.to_async, api)(), background().loop)
    running.until("Sleeper", lambda s: any(r.in_flight for r in s.replicas))
    call.cancel()

    assert running.registry.proxy("Sleeper").cancelled() == [{"sync": "sync", "coroutine": "async"}[api]]
    # Nothing went wrong: spans say so, and it counts as no error.
    running.until("Between", lambda s: s.calls == 1)
    assert running.registry.status("Between").total.failed == 0
    spans = [span for trace in running.registry.collect_traces().latest() for span in trace]
    assert max((s for s in spans if s.service == "Between"), key=lambda s: s.start).error == CANCELLED


@pytest.mark.parametrize("api", ["sync", "coroutine"])
def test_an_http_client_that_goes_away_cancels_everything_below(running: Running, api: str) -> None:
    running.up(Between, Sleeper, Words)

    async def ask_and_go() -> None:
        async with httpx.AsyncClient() as client:
            call = asyncio.create_task(client.post(f"{running.registry.url('Between')}/{api}", json={}))
            await asyncio.to_thread(running.until, "Sleeper", lambda s: any(r.in_flight for r in s.replicas))
            call.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await call

    asyncio.run(ask_and_go())
    assert running.registry.proxy("Sleeper").cancelled() == [{"sync": "sync", "coroutine": "async"}[api]]


@pytest.mark.parametrize("service", [Words, Between])
def test_a_sync_generator_that_is_left_stops_at_its_next_item(running: Running, service: nbcompose.Service) -> None:
    proxy = running.up(service, Words, Sleeper)
    items = proxy.slow()
    assert next(items) == 0
    items.close()

    assert running.registry.proxy("Words").outcome() == "cancelled=True"
    running.until("Words", lambda s: all(r.threads_busy == 0 for r in s.replicas))


def test_a_sync_generator_over_http_stops_when_its_client_leaves(running: Running) -> None:
    words = running.up(Words)
    url = f"{running.registry.url('Words')}/slow"
    with httpx.stream("POST", url, json={}, headers={"Accept": "application/x-ndjson"}) as response:
        assert next(response.iter_lines()) == "0"
    assert words.outcome() == "cancelled=True"


def test_calls_beyond_the_limit_wait_and_those_beyond_the_queue_are_refused(running: Running) -> None:
    narrow = running.up(Narrow)
    url = f"{running.registry.url('Narrow')}/hold"
    first, second = running.in_thread(narrow.hold), running.in_thread(narrow.hold)
    running.until("Narrow", lambda s: sum(r.in_flight for r in s.replicas) == 2)

    with pytest.raises(Overloaded, match=r"1 calls run \(max_concurrency=1\) and 1 wait \(max_queue=1\)"):
        narrow.hold()
    response = httpx.post(url, json={})
    assert response.status_code == 429
    assert "Retry-After" in response.headers
    assert not first.done()
    assert not second.done()


def test_the_place_of_a_call_that_ran_out_of_time_is_taken_until_its_thread_ends(
    running: Running, tmp_path: Path
) -> None:
    impatient = running.up(Impatient)
    for seconds in ever_longer():
        token = current_call.set(CallContext(time.monotonic() + seconds))
        with pytest.raises(DeadlineExceeded):
            impatient.stubborn(str(tmp_path / "go"))
        current_call.reset(token)
        if (tmp_path / "go.inside").exists():
            break
    running.until("Impatient", lambda s: any(r.threads_busy and not r.in_flight for r in s.replicas))
    (tmp_path / "go").touch()
    running.until("Impatient", lambda s: all(r.threads_busy == 0 for r in s.replicas))
    assert impatient.stubborn(str(tmp_path)) == 1  # never two at once


@pytest.mark.parametrize("replicas", [1, 2])  # with two, one may hand the call to the other
def test_an_http_call_that_runs_out_of_time(running: Running, tmp_path: Path, replicas: int) -> None:
    limits = {"timeout": 0.2, "max_concurrency": 1}
    running.up(nbcompose.service(replicas=replicas, traffic=limits)(handle(Impatient).inner))
    url = f"{running.registry.url('Impatient')}/stubborn"

    with httpx.Client() as client:  # its one connection stays with one replica
        for asked, allowed in (("", "0.2"), ("0.05", "0.05"), ("9", "0.2")):
            headers = {"X-Request-Timeout": asked} if asked else {}
            call = {"json": {"until": str(tmp_path / "go")}, "headers": headers}
            posts = [running.in_thread(post, url, **call) for post in (client.post, httpx.post)]
            for response in [post.result(PATIENCE) for post in posts]:
                assert response.status_code == 504
                told = response.json()["error"]["message"]
                # One runs; others wait for its place, also when its caller has gone, and say so.
                waited = (
                    "Impatient.stubborn: waited ",
                    " in the queue for 1 place (max_concurrency=1), behind stubborn (for ",
                )
                assert told == f"Impatient.stubborn took longer than the {allowed} s that it had" or (
                    told.startswith(waited[0]) and waited[1] in told
                )
    (tmp_path / "go").touch()


def test_concurrent_calls_are_joined_and_a_bad_item_fails_alone(running: Running) -> None:
    batches = running.up(Batches)

    async def many() -> list[object]:
        calls = [batches.to_async.double([v]) for v in range(40)]
        return await asyncio.gather(*calls, return_exceptions=True)

    results = asyncio.run_coroutine_threadsafe(many(), background().loop).result(PATIENCE)

    assert [r for i, r in enumerate(results) if i != 13] == [[2 * v] for v in range(40) if v != 13]
    assert isinstance(results[13], ValueError)
    sizes = batches.batch_sizes()
    assert sum(sizes) == 40
    assert max(sizes) == 8
    assert batches.double(list(range(20, 40))) == list(range(40, 80, 2))  # more than a batch: split


def test_an_unknown_api_lists_those_there_are(running: Running) -> None:
    words = running.up(Words)
    with pytest.raises(UnknownApi, match="Words has no api 'shout'; it has: count, acount, breaks, slow, outcome"):
        words.shout()


def test_a_call_whose_answer_cannot_be_sent_has_failed(running: Running) -> None:
    class Unsent:
        @nbcompose.api
        def give(self) -> Any:
            import threading

            return threading.Lock()

        @nbcompose.api
        async def agive(self) -> Any:
            return self.give()

        @nbcompose.api
        def items(self) -> Iterator[Any]:
            yield 1
            yield self.give()

    unsent = running.up(nbcompose.service(Unsent))
    for name, call in (("give", unsent.give), ("agive", unsent.agive), ("items", lambda: list(unsent.items()))):
        with pytest.raises(
            InvalidResult, match=rf"^Unsent\.{name}: (result|item) holds a _thread\.lock, which"
        ) as caught:
            call()
        [note] = caught.value.__notes__
        assert re.fullmatch(rf"{name} is at {re.escape(__file__)}:\d+", note)
    answer = httpx.post(f"{running.registry.url('Unsent')}/give", json={})
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "InvalidResult")
    spans = [span for spans in running.registry.collect_traces().latest() for span in spans if span.service == "Unsent"]
    assert sorted((span.api, span.error) for span in spans) == [
        ("agive", "InvalidResult"),
        ("give", "InvalidResult"),
        ("give", "InvalidResult"),
        ("items", "InvalidResult"),
    ]
    total = running.until("Unsent", lambda status: status.total.calls == 4).total
    assert total.failed == 4


class Answers:
    @nbcompose.api
    async def give(self) -> int:
        return 1

    @nbcompose.api
    def count(self) -> Iterator[int]:
        yield from range(3)

    @nbcompose.api
    def fail(self) -> None:
        raise ValueError("no")


@pytest.mark.parametrize("api", ["give", "count", "fail"])
async def test_a_call_has_ended_here_before_its_caller_knows(api: str) -> None:
    """Else the caller's next call would find this replica busier than another that is."""
    board = LoadTable.create()
    runtime = Runtime(declare(Answers, {}), 0, 0, board)
    await runtime.start()
    under_way: dict[Kind, int] = {}
    ended = asyncio.Event()

    class Line(FramedProtocol):
        def send(self, kind: Kind, call_id: int, chunks: Chunks, channel: int = 0) -> None:
            under_way[kind] = runtime.under_way.number
            if kind is not Kind.ITEM:
                ended.set()

    call = IncomingCall({}, Line("caller"), 1, api, CallContext())
    call.arguments = ((), {})
    runtime.on_call(call)
    await asyncio.wait_for(ended.wait(), PATIENCE)
    last = {"give": Kind.RESULT, "count": Kind.END, "fail": Kind.ERROR}[api]
    assert under_way == ({Kind.ITEM: 1} if api == "count" else {}) | {last: 0}
    await runtime.stop()
    board.close()


def test_calls_go_to_the_less_busy_replica(running: Running) -> None:
    faulty = running.up(nbcompose.service(replicas=2, threads=4)(handle(Faulty).inner))
    held = running.in_thread(faulty.hold)
    status = running.until("Faulty", lambda s: any(r.in_flight for r in s.replicas))
    busy = next(r.pid for r in status.replicas if r.in_flight)

    assert busy not in {faulty.pid() for _ in range(50)}
    assert not held.done()


def test_a_busy_replica_hands_http_requests_to_an_idle_one(running: Running) -> None:
    class Held:
        def __init__(self) -> None:
            import threading

            self.event = threading.Event()

        @nbcompose.api
        def hold(self) -> None:
            self.event.wait()

        @nbcompose.api
        async def pid(self) -> int:
            import os

            return os.getpid()

    running.up(nbcompose.service(replicas=2, threads=2)(Held))
    url = running.registry.url("Held")

    async def ask() -> set[int]:
        async with httpx.AsyncClient() as others, httpx.AsyncClient() as client:
            holds = [asyncio.create_task(others.post(f"{url}/hold", json={})) for _ in range(3)]
            await asyncio.to_thread(running.until, "Held", lambda s: sum(r.in_flight for r in s.replicas) == 3)
            pids = {(await client.post(f"{url}/pid", json={})).json() for _ in range(20)}
            for hold in holds:
                hold.cancel()
            await asyncio.gather(*holds, return_exceptions=True)
        return pids

    pids = asyncio.run(ask())
    assert len(pids) == 1  # that of the one with fewer calls in hand, whichever accepted the connection


def test_metrics_show_every_replica(running: Running) -> None:
    faulty = running.up(nbcompose.service(replicas=2, threads=4)(handle(Faulty).inner))
    for _ in range(40):
        faulty.pid()

    text = httpx.get(f"{running.registry.url('Faulty')}/metrics").text
    counted = re.findall(r'nbcompose_\w*calls\w*_total\{[^}]*api="pid"[^}]*replica="(\d)"[^}]*\} ([\d.]+)', text)
    assert {replica for replica, _ in counted} == {"0", "1"}
    assert sum(float(count) for _, count in counted) == 40


def test_http_errors_have_one_shape_and_name_what_is_wrong(running: Running) -> None:
    running.up(Faulty)
    url = running.registry.url("Faulty")

    assert httpx.post(f"{url}/raises", json={}).status_code == 422
    assert httpx.post(f"{url}/raises", json={"text": "x", "loud": True}).status_code == 422
    assert httpx.post(f"{url}/raises", content=b"{", headers={"Content-Type": "application/json"}).status_code == 400
    assert httpx.post(f"{url}/shout", json={}).status_code == 404
    failed = httpx.post(f"{url}/raises", json={"text": "x"})
    assert failed.status_code == 500
    assert failed.json()["error"]["type"] == "OwnError"


def test_a_sync_call_in_an_async_hook_says_so_instead_of_waiting_for_ever(running: Running) -> None:
    class Eager:
        leaf = nbcompose.depends("Leaf")

        @nbcompose.on_startup
        async def ask(self) -> None:
            self.leaf.add(1)

        @nbcompose.api
        def f(self) -> int:
            return 1

    running.up(Leaf)
    running.deploy(nbcompose.service(Eager))
    status = running.registry.wait("Eager")
    assert "BlockingCall" in status.error
    assert "to_async.add" in status.error


def test_the_traces_of_a_call_reach_the_registry(running: Running) -> None:
    front = running.up(Front, Mid, Leaf)
    front.ask(1)
    for name in ("Front", "Mid", "Leaf"):
        running.registry.remove(name)  # what was not told yet is told in the end

    trace = next(t for t in running.registry.traces.latest() if any(s.api == "ask" for s in t))
    assert Counter((s.service, s.api) for s in trace) == {
        ("Front", "ask"): 1,
        ("Mid", "twice"): 1,
        ("Leaf", "add"): 3,
    }
    root = next(s for s in trace if s.service == "Front")
    assert {s.parent_id for s in trace if s.service == "Mid"} == {root.span_id}


@pytest.mark.parametrize("api", ["count", "acount"])
def test_the_span_of_a_stream_knows_its_first_and_last_item(running: Running, api: str) -> None:
    words = running.up(Words)
    items = getattr(words, api)(2)
    assert next(items) == 0
    between = time.time()
    assert list(items) == [1]

    (span,) = running.registry.collect_traces().latest()[-1]
    assert span.api == api
    assert span.first_item is not None
    assert span.last_item is not None
    assert span.queued <= span.first_item < span.last_item <= span.duration
    assert span.start + span.first_item < between


def test_a_call_that_yields_nothing_has_no_first_item(running: Running) -> None:
    words = running.up(Words)
    assert list(words.count(0)) == []
    with pytest.raises(ValueError, match="the well is dry"):
        list(words.breaks(0))
    batches = running.up(Batches)
    batches.double([1])

    spans = {s.api: s for t in running.registry.collect_traces().latest() for s in t}
    for api in ("count", "breaks", "double"):
        assert (spans[api].first_item, spans[api].last_item) == (None, None)


def test_a_replica_that_does_not_answer_holds_up_no_traces(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stuck:
        @nbcompose.api
        async def read(self, path: str) -> str:
            return self.wait_for(path)

        def wait_for(self, path: str) -> str:
            with open(path) as file:
                return file.read()

    stuck, words = running.up(nbcompose.service(Stuck)), running.up(Words)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    held = running.in_thread(stuck.read, str(pipe))
    with pipe.open("w") as end:  # once it reads, and by that stops its loop
        began = time.time()
        assert list(words.count(1)) == [0]
        monkeypatch.setattr(publisher, "COLLECT_WAIT", 0.2)
        wait_until(lambda: running.registry.collect_traces().latest()[-1][0].start >= began, "the call is in a trace")
        assert not held.done()
        end.write("done")
    assert held.result(PATIENCE) == "done"


def test_forked_replicas_do_not_share_their_random_numbers(running: Running) -> None:
    class Dice:
        @nbcompose.api
        def throw(self) -> list[int]:
            import os
            import random

            import numpy

            return [os.getpid(), int(numpy.random.randint(2**31)), random.getrandbits(64)]

    dice = running.up(nbcompose.service(replicas=3)(Dice))
    found: dict[int, tuple[int, int]] = {}

    def all_have_thrown() -> bool:
        pid, numpys, pythons = dice.throw()
        found.setdefault(pid, (numpys, pythons))
        return len(found) == 3

    wait_until(all_have_thrown, "each replica has thrown")
    assert len({n for n, _ in found.values()}) == 3
    assert len({p for _, p in found.values()}) == 3


def test_a_service_may_be_made_in_another_whose_module_has_its_class(running: Running) -> None:
    assert running.up(Whole).add_two(1) == 3


def test_a_service_cannot_be_made_where_only_its_name_has_come_along(running: Running) -> None:
    class Cell:  # goes by value, as those of a notebook do
        def __init__(self) -> None:
            self.leaf = Leaf()

        @nbcompose.api
        def add_two(self, a: int) -> int:
            return self.leaf.add(a, 2)

    running.deploy(nbcompose.service(Cell))
    status = running.registry.wait("Cell")
    assert status.state == "failed"
    assert "the class of Leaf is not in this process" in str(status.error)
    assert "Write `leaf = depends(Leaf)`" in str(status.error)
