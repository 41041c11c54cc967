"""Arguments and answers of calls of real replicas, asked for afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from recorded_services import Caller, Kinds, User

import nbcompose
from nbcompose._protocol import Client, RunningProcess, address, messages
from nbcompose._rpc import background
from nbcompose._tracing import CANCELLED, RecordedCall
from nbcompose.errors import RemoteError, UnknownService
from tests.conftest import Running
from tests.handles import handle
from tests.patience import PATIENCE
from tests.serve_process import serving

pytestmark = pytest.mark.system


@pytest.fixture
def recording(running: Running) -> Iterator[Running]:
    running.registry.record(True)
    yield running
    running.registry.record(False)


def last(running: Running, service: str = "") -> RecordedCall:
    """The call that began last, of any service or of one."""
    spans = [span for spans in running.registry.collect_traces().latest() for span in spans]
    span = max((s for s in spans if service in ("", s.service)), key=lambda s: s.start)
    return running.registry.recorded([span])[span.span_id]


# -- kinds of apis


def test_a_call_and_one_below_it(recording: Running) -> None:
    recording.up(Kinds)
    caller = recording.up(Caller)
    assert caller.ask("where?") == "WHERE?"
    [trace] = [t for t in recording.registry.collect_traces().latest() if t[0].api == "ask"][-1:]
    calls = recording.registry.recorded(trace)
    assert {s.api: (calls[s.span_id].arguments, calls[s.span_id].answer) for s in trace} == {
        "ask": ((("question", "'where?'"),), "'WHERE?'"),
        "plain": ((("question", "'where?'"),), "{'answer': 'WHERE?', 'token': •••}"),
    }


def test_an_async_api_and_a_secret_in_a_dataclass(recording: Running) -> None:
    recording.up(Kinds).later(User("ada", "sekret"))
    assert last(recording).arguments == (("user", "User(name='ada', password=•••)"),)
    assert last(recording).answer == "[1, 2, 3]"


def test_an_error(recording: Running) -> None:
    kinds = recording.up(Kinds)
    with pytest.raises(ValueError, match="sk-1234"):
        kinds.plain("bad", api_key="sk-1234")
    assert last(recording) == replace_of(
        last(recording), arguments=(("question", "'bad'"), ("api_key", "•••")), error="ValueError: ••• is not good"
    )


def replace_of(call: RecordedCall, **values: Any) -> RecordedCall:
    return RecordedCall(call.span_id, **values)


@pytest.mark.parametrize("api", ["letters", "numbers"])
def test_a_stream(recording: Running, api: str) -> None:
    assert len(list(getattr(recording.up(Kinds), api)(100))) == 100
    call = last(recording)
    assert (call.items, call.first, call.last) == (100, ("0", "1", "2"), ("97", "98", "99"))


def test_a_stream_that_fails_has_its_items_and_the_error(recording: Running) -> None:
    kinds = recording.up(Kinds)
    with pytest.raises(LookupError):
        list(kinds.letters(5))
    call = last(recording)
    assert (call.items, call.first, call.last) == (5, ("0", "1", "2"), ("3", "4"))
    assert call.error == "LookupError: no more"


def test_a_batch_is_told_call_by_call(recording: Running) -> None:
    kinds = recording.up(Kinds)
    assert kinds.batch(["a", "bb"]) == [1, 2]
    assert (last(recording).arguments, last(recording).answer) == ((("texts", "['a', 'bb']"),), "[1, 2]")


def test_a_call_that_was_given_up(recording: Running) -> None:
    kinds = recording.up(Kinds)
    call = asyncio.run_coroutine_threadsafe(kinds.to_async.wait(), background().loop)
    recording.until("Kinds", lambda s: any(r.in_flight for r in s.replicas))
    call.cancel()
    recording.until("Kinds", lambda s: s.counts.get("wait") is not None and s.counts["wait"].cancelled == 1)
    assert last(recording).error == CANCELLED


def test_a_call_over_http(recording: Running) -> None:
    recording.up(Kinds)
    url = recording.registry.url("Kinds")
    answer = httpx.post(f"{url}/plain", json={"question": "tea", "api_key": "sekret"}, timeout=PATIENCE)
    assert answer.json()["answer"] == "TEA"
    assert last(recording).arguments == (("question", "'tea'"), ("api_key", "•••"))


def test_an_api_that_must_not_be_recorded(recording: Running) -> None:
    recording.up(Kinds).private("dear diary")
    assert last(recording) == replace_of(last(recording), why_not="not recorded: @api(record=False)")
    assert recording.registry.search("dear diary") == set()


# -- shared memory


@pytest.mark.parametrize("api", ["array", "hold"])
def test_the_segment_of_a_large_array_returns_to_the_pool(recording: Running, api: str) -> None:
    kinds = recording.up(Kinds)
    for _ in range(3):
        getattr(kinds, api)(np.ones(1_000_000))
    assert last(recording).arguments == (("values", "<array 1000000 float64: 1, 1, 1, 1, 1, 1, …>"),)
    assert kinds.reads() is False


def test_nor_is_one_kept_that_a_service_below_has_lent(recording: Running) -> None:
    recording.up(Kinds)
    caller = recording.up(Caller)
    assert caller.take(1_000_000) == 999_999
    assert caller.reads() is False


# -- which replica, and whether it is still there


def test_of_three_replicas_the_one_that_answered_is_asked(recording: Running) -> None:
    kinds = recording.up(nbcompose.service(replicas=3)(handle(Kinds).inner))
    for n in range(30):
        kinds.plain(f"number {n}")
    spans = [s for t in recording.registry.collect_traces().latest() for s in t if s.service == "Kinds"][-30:]
    assert len({s.replica for s in spans}) > 1
    answers = [c.answer for s in spans for c in recording.registry.recorded([s]).values()]
    assert {f"{{'answer': 'NUMBER {n}', 'token': •••}}" for n in range(30)} == set(answers)
    assert len(recording.registry.search("number 7")) == 1


def test_a_replica_that_has_gone_keeps_nothing(recording: Running) -> None:
    recording.up(Kinds).plain("tea")
    assert last(recording).answer
    [replica] = recording.registry.status("Kinds").replicas
    assert replica.pid is not None
    os.kill(replica.pid, signal.SIGKILL)
    recording.until("Kinds", lambda s: s.restarts == 1 and s.state == "ready")
    assert last(recording) == replace_of(last(recording), why_not="not kept any more")


def test_a_version_that_was_replaced_keeps_nothing_once_it_has_gone(recording: Running) -> None:
    recording.up(Kinds).plain("tea")
    [before] = recording.registry.status("Kinds").replicas
    recording.up(Kinds)  # replaces it
    recording.until("Kinds", lambda s: s.state == "ready" and [r.pid for r in s.replicas] != [before.pid])
    assert last(recording).why_not in ("", "not kept any more")  # it may be about to leave
    recording.up(Kinds).plain("coffee")
    assert last(recording).answer == "{'answer': 'COFFEE', 'token': •••}"


def test_new_code_in_a_replica_leaves_what_was_recorded(recording: Running) -> None:
    def version(tag: str) -> Any:
        class Swapped:
            @nbcompose.api
            def ask(self, x: int) -> str:
                return tag

        return nbcompose.service(name="Swapped")(Swapped)

    recording.up(version("one"), compare=True).ask(1)
    first = last(recording)
    recording.deploy(version("two"), compare=True)
    assert recording.registry.wait("Swapped").swapped
    assert recording.registry.proxy("Swapped").ask(2) == "two"
    spans = [s for t in recording.registry.collect_traces().latest() for s in t if s.service == "Swapped"]
    told = recording.registry.recorded(spans)
    assert sorted((c.arguments, c.answer) for c in told.values()) == [
        ((("x", "1"),), "'one'"),
        ((("x", "2"),), "'two'"),
    ]
    assert first in told.values()


# -- switching it on and off


def test_nothing_is_recorded_unless_it_is_wanted(running: Running) -> None:
    kinds = running.up(Kinds)
    kinds.plain("before")
    spans = running.registry.collect_traces().latest()[-1]
    assert running.registry.recorded(spans) == {}
    running.registry.record(True)
    try:
        assert last(running).why_not == "not kept any more"
        kinds.plain("meanwhile")
        assert last(running).answer
        running.registry.forget("Kinds")
        assert last(running).why_not == "not kept any more"
        kinds.plain("again")
        assert last(running).answer
    finally:
        running.registry.record(False)
    assert running.registry.search("again") == set()


# -- other processes


def us() -> RunningProcess:
    return next(r for r in address.find() if r.pid == os.getpid())


async def test_the_runtime_protocol_carries_it(recording: Running) -> None:
    await asyncio.to_thread(recording.up, Kinds)
    kinds = recording.registry.proxy("Kinds")
    begun = time.time()
    await kinds.to_async.plain("tea")
    with pytest.raises(ValueError, match="not good"):
        await kinds.to_async.plain("bad")
    async with Client(us()) as client:

        async def listed(**wanted: Any) -> list[str]:
            request: messages.TracesRequest = {"type": "traces", **wanted}  # type: ignore[typeddict-item]
            return [t["root"] for t in (await client.ask(request, messages.Traces))["traces"]]

        assert await listed(service="Kinds", text="TEA") == ["Kinds.plain"]
        assert await listed(text="nowhere in them") == []
        failed = await listed(service="Kinds", api="plain", state="failed", since=begun)
        assert failed == ["Kinds.plain"]
        assert await listed(since=4e9) == []

        request: messages.TracesRequest = {"type": "traces", "text": "tea", "since": begun}
        [trace] = (await client.ask(request, messages.Traces))["traces"]
        recorded = await client.ask({"type": "recorded", "trace": trace["trace"]}, messages.Recorded)
        [call] = recorded["calls"]
        assert call["arguments"] == [{"name": "question", "text": "'tea'"}]
        assert (call["answer"], call["why_not"]) == ("{'answer': 'TEA', 'token': •••}", "")

        await client.ask({"type": "forget", "service": "Kinds"}, messages.Done)
        [call] = (await client.ask({"type": "recorded", "trace": trace["trace"]}, messages.Recorded))["calls"]
        assert call["why_not"] == "not kept any more"
        with pytest.raises((UnknownService, RemoteError)):
            await client.ask({"type": "forget", "service": "Nobody"}, messages.Done)

        history = await client.ask({"type": "history", "service": "Kinds"}, messages.History)
        assert len(history["steps"]) * history["step"] == 600
        assert sum(step["failed"] for step in history["steps"]) >= 1


@pytest.mark.parametrize("option", [(), ("--record-arguments",)])
def test_a_server_records_only_where_it_is_told_to(option: tuple[str, ...]) -> None:
    with serving("recorded_services:Kinds", "--port", "0", *option) as served:
        httpx.post(f"{served.url}/plain", json={"question": "tea"}, timeout=PATIENCE).raise_for_status()

        async def recorded() -> messages.Recorded:
            process = next(r for r in address.find() if r.pid == served.process.pid)
            async with Client(process) as client:
                [trace] = (await client.ask({"type": "traces"}, messages.Traces))["traces"]
                return await client.ask({"type": "recorded", "trace": trace["trace"]}, messages.Recorded)

        calls = asyncio.run(recorded())["calls"]
        assert [c["answer"] for c in calls] == (["{'answer': 'TEA', 'token': •••}"] if option else [])
