"""Streams as arguments of calls, between real replicas: by reference and relayed, their ends, errors and limits."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from stream_argument_services import Passing, Pipeline, Refiner, Tally, Writer

import nbcompose
from nbcompose._rpc.blocking import background
from nbcompose._rpc.flow import WINDOW
from nbcompose.errors import CallError, InvalidArgument, RemoteTraceback, ReplicaDied, StreamTaken
from tests.conftest import Running, alive
from tests.handles import handle
from tests.patience import PATIENCE, wait_until
from tests.replica.http.duplex import SocketDuplex, lines

pytestmark = pytest.mark.system


@pytest.fixture
def pipeline(running: Running) -> Any:
    return running.up(Pipeline, Passing, Refiner, Writer)


@pytest.fixture
def refiner(running: Running, pipeline: Any) -> Any:
    return running.registry.proxy("Refiner")


@pytest.fixture
def writer(running: Running, pipeline: Any) -> Any:
    return running.registry.proxy("Writer")


def background_result(coroutine: Any) -> Any:
    return asyncio.run_coroutine_threadsafe(coroutine, background().loop).result(PATIENCE)


WORDS = ["WORD 0", "WORD 1", "WORD 2"]


@pytest.mark.parametrize("api", ["run", "run_far", "run_from_sync", "run_by_sync"])
def test_a_stream_of_one_service_is_the_argument_of_another(pipeline: Any, api: str) -> None:
    assert list(getattr(pipeline, api)(3)) == WORDS


def test_both_run_at_once(pipeline: Any) -> None:
    """The first item has passed through both before the second is made."""
    items = pipeline.run_gated()
    assert next(items) == "WORD 0"
    assert pipeline.made() == 1
    pipeline.open_gate()
    assert list(items) == ["WORD 1"]


async def awaited() -> AsyncIterator[str]:
    for letter in "ab":
        yield letter


@pytest.mark.parametrize(
    "given",
    [
        ["a", "b"],
        ("a", "b"),
        "ab",
        iter(["a", "b"]),
        (piece for piece in "ab"),
        {"a": 1, "b": 2}.keys(),
        awaited(),
        nbcompose.streams.tee(awaited())[1],
        nbcompose.streams.map(str, nbcompose.streams.tee(awaited())[0]),
    ],
    ids=["list", "tuple", "text", "iterator", "generator", "iterable", "async generator", "branch", "mapped"],
)
def test_what_is_passed_from_a_cell(refiner: Any, given: Any) -> None:
    assert "".join(refiner.refine(given)) == "AB"


def test_streams_from_a_cell(refiner: Any, writer: Any) -> None:
    assert list(refiner.refine(writer.write(3))) == WORDS
    assert list(refiner.refine(text=writer.write_sync(3), style="lower")) == [w.lower() for w in WORDS]
    assert list(refiner.refine_sync(writer.write(3))) == WORDS
    assert refiner.count_sync(writer.write_sync(100)) == 100
    assert refiner.both(range(5), iter([1, 2])) == (10, 3)
    assert refiner.maybe() == refiner.maybe(None) == "none"
    assert refiner.maybe(["a"]) == "a"


def test_streams_from_async_code(refiner: Any, writer: Any) -> None:
    async def letters() -> AsyncIterator[str]:
        for letter in "ab":
            await asyncio.sleep(0)
            yield letter

    async def main() -> list[Any]:
        return [
            await refiner.to_async.count(letters()),
            await refiner.to_async.count(iter("abc")),
            await refiner.to_async.count(writer.to_async.write(4)),
            [piece async for piece in refiner.to_async.refine(letters())],
        ]

    assert background_result(main()) == [2, 3, 4, ["A", "B"]]
    assert asyncio.run(main()) == [2, 3, 4, ["A", "B"]]


def test_a_generator_of_this_thread_runs_in_it(refiner: Any) -> None:
    """What it has set for its thread holds, and so does what an iterator needs that is bound to one."""
    threads = []

    def letters() -> Iterator[str]:
        try:
            for letter in "abc":
                threads.append(threading.get_ident())
                yield letter
        finally:
            threads.append(threading.get_ident())

    assert refiner.count(letters()) == 3
    assert list(refiner.refine(letters())) == ["A", "B", "C"]
    assert set(threads) == {threading.get_ident()}


def test_items_go_from_the_producer_to_the_consumer(running: Running, pipeline: Any, writer: Any) -> None:
    """No byte of an item passes through those in between: 1,000 items of 1,000 bytes, two services away."""
    assert pipeline.count_far(1) == 1
    before = pipeline.received()
    assert pipeline.count_far(1000) == 1000
    assert pipeline.received() - before < 100_000
    reader = running.until("Refiner", lambda status: status.reads == ("Writer",))
    assert reader.traffic["Writer"].received > 1_000_000
    assert running.registry.status("Passing").reads == ()


def test_a_trace_shows_who_reads_whom_and_the_time_waited(running: Running, refiner: Any, writer: Any) -> None:
    """The call that makes the stream is the consumer's, also where the cell has written it."""
    assert list(refiner.refine(writer.slow(3, 0.05))) == WORDS

    def spans() -> list[Any]:
        found = running.registry.collect_traces().latest()[-1]
        return sorted(found, key=lambda span: span.start)

    wait_until(lambda: len(spans()) == 2, "both calls are known")
    reader, made = spans()
    assert (reader.api, made.api, made.parent_id) == ("refine", "slow", reader.span_id)
    assert 0.1 <= reader.input_wait <= reader.duration
    assert made.input_wait == 0


# -- ends


def ended(writer: Any) -> int:
    return int(writer.counts()[1])


def test_a_consumer_that_leaves_closes_the_producer(refiner: Any, writer: Any) -> None:
    assert refiner.first(writer.write(10**6)) == "word 0"
    wait_until(lambda: ended(writer) == 1, "1 producers have ended")
    items = refiner.refine(writer.write(10**6))
    assert next(items) == "WORD 0"
    items.close()
    wait_until(lambda: ended(writer) == 2, "2 producers have ended")
    with pytest.raises(ZeroDivisionError):
        refiner.fails(writer.write(10**6))
    wait_until(lambda: ended(writer) == 3, "3 producers have ended")
    assert writer.counts()[0] < 10 * WINDOW


def test_so_does_one_that_is_cancelled(running: Running, refiner: Any, writer: Any) -> None:
    call = asyncio.run_coroutine_threadsafe(refiner.to_async.waits(writer.to_async.write_for_ever()), background().loop)
    wait_until(lambda: writer.counts()[0] > 0, "it has begun")
    call.cancel()
    wait_until(lambda: ended(writer) == 1, "1 producers have ended")


def test_so_does_a_task_that_reads_on_when_its_call_has_ended(refiner: Any, writer: Any) -> None:
    assert refiner.leaves_a_task(writer.gated()) == "word 0"
    assert refiner.what_became_of_it() == "cancelled"


def test_a_task_that_is_cancelled_while_it_waits_loses_no_item(refiner: Any, writer: Any) -> None:
    items = refiner.interrupted(writer.gated())
    assert [next(items) for _ in range(3)] == ["interrupted", "word 0", "interrupted"]
    writer.open_gate()
    assert list(items) == ["word 1"]


@pytest.mark.parametrize("api", ["first", "fails"])
def test_the_local_generator_is_closed(refiner: Any, api: str) -> None:
    closed = []

    def letters() -> Iterator[str]:
        try:
            while True:
                yield "a"
        finally:
            closed.append(True)

    if api == "first":
        assert refiner.first(letters()) == "a"
    else:
        with pytest.raises(ZeroDivisionError):
            refiner.fails(letters())
    assert closed == [True]


def test_a_stream_that_nobody_reads_is_not_begun(refiner: Any, writer: Any) -> None:
    begun = []

    def letters() -> Iterator[str]:
        begun.append(True)
        yield "a"

    assert refiner.ignores(writer.write(5)) == refiner.ignores(letters()) == "ignored"
    assert (writer.counts(), begun) == ((0, 0), [])


# -- errors


def test_a_call_whose_replica_died_is_made_again_where_nothing_is_lost(
    running: Running, refiner: Any, writer: Any, tmp_path: Path
) -> None:
    """A stream of a service is made again with it; the caller's own iterator cannot be."""
    again = refiner.kills(writer.write(3), str(tmp_path / "one"))
    assert again == "word 0word 1word 2"
    assert refiner.kills(["a", "b"], str(tmp_path / "two")) == "ab"
    with pytest.raises(ReplicaDied, match="went away while it worked on this call"):
        refiner.kills(iter(["a", "b"]), str(tmp_path / "three"))


def test_an_error_of_the_producer_is_raised_in_the_consumer(pipeline: Any, refiner: Any, writer: Any) -> None:
    assert refiner.catches(writer.breaks(3)) == ["word 0", "word 1", "word 2", "LookupError: no more words"]
    with pytest.raises(LookupError, match="no more words") as raised:
        pipeline.broken()
    story = str(raised.value.__cause__)
    assert isinstance(raised.value.__cause__, RemoteTraceback)
    assert "Pipeline.broken → Refiner.refine → Writer.breaks" in story


def test_an_error_of_the_callers_own_generator_comes_back_as_it_is(refiner: Any) -> None:
    mine = ValueError("mine")

    def letters() -> Iterator[str]:
        yield "a"
        raise mine

    with pytest.raises(ValueError, match="mine") as raised:
        refiner.count(letters())
    assert raised.value is mine
    assert raised.traceback[-1].name == "letters"


def test_an_item_that_does_not_fit_is_named(refiner: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"Refiner\.both: item 1 of `a`: Input should be a valid integer"):
        refiner.both(iter([1, "x"]), [1])
    with pytest.raises(InvalidArgument, match=r"Refiner\.both: a\.1: Input should be a valid integer"):
        refiner.both([1, "x"], [1])
    with pytest.raises(InvalidArgument, match="text: Input should be a stream of texts, a list of them, or one"):
        refiner.refine(3).__next__()


def test_a_stream_is_used_once(refiner: Any, writer: Any) -> None:
    words = writer.write(3)
    assert refiner.count(words) == 3
    with pytest.raises(StreamTaken, match=r"the stream of Writer\.write can be used once"):
        refiner.count(words)
    with pytest.raises(StreamTaken):
        list(words)
    read = writer.write(3)
    assert len(list(read)) == 3
    with pytest.raises(StreamTaken):
        refiner.count(read)

    async def read_before() -> int:
        items = writer.to_async.write(3)
        assert len([item async for item in items]) == 3
        return int(await refiner.to_async.count(items))

    with pytest.raises(StreamTaken):
        background_result(read_before())
    begun = writer.write(3)
    assert next(begun) == "word 0"
    assert refiner.count(begun) == 2  # what is left of it, through this process
    assert refiner.reads_twice(writer.write(3)) == "the stream `text` can be used once"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "Tally has one: give it two"),
        ({"threads": 2, "traffic": {"max_concurrency": 1}}, "Tally takes one at once: let it take two"),
    ],
)
def test_one_thread_or_place_cannot_make_and_read(running: Running, options: dict[str, Any], says: str) -> None:
    tally = running.up(nbcompose.service(**options)(handle(Tally).inner))
    with pytest.raises(CallError, match=says):
        tally.total(tally.numbers(3))
    assert tally.total([1, 2]) == 3


# -- limits


def test_the_producer_is_a_window_ahead(refiner: Any, writer: Any) -> None:
    """Of 32 items, or of 4 MiB where they are large: however slow the consumer is."""
    items = refiner.refine_on_demand(writer.write(10_000))
    assert next(items) == "WORD 0"
    assert writer.counts()[0] <= 2 * WINDOW + 2
    items.close()


def test_large_items_are_bounded_by_their_bytes(refiner: Any, writer: Any) -> None:
    assert refiner.lengths(writer.large(64, 2**20)) == [2**20] * 64
    items = refiner.takes_one_and_waits(writer.large(64, 2**20))
    assert next(items) == 2**20
    assert writer.counts()[0] - 64 <= 4 + 2
    items.close()


def test_nothing_is_left_of_streams_that_were_abandoned(running: Running, refiner: Any, writer: Any) -> None:
    pids = [pid for pid in running.pids if alive(pid)]
    for _ in range(20):
        refiner.first(writer.write(100))
    before = refiner.resources(), writer.resources()
    for i in range(200):
        items = refiner.refine(writer.write(100) if i % 2 else (str(k) for k in range(100)))
        for _ in range(i % 40):
            next(items)
        items.close()
    wait_until(lambda: ended(writer) >= 120, "120 producers have ended")
    after = refiner.resources(), writer.resources()
    assert all(b <= a + 3 for a, b in zip(before, after, strict=True)), (before, after)
    assert all(alive(pid) for pid in pids)


# -- over HTTP, and elsewhere


def of(*objects: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in objects)


@pytest.mark.parametrize("replicas", [1, 3])
async def test_a_body_streams_while_the_answer_does(running: Running, replicas: int) -> None:
    """By the replica that has the connection, and by another one that it hands the call over to."""
    await asyncio.to_thread(running.up, nbcompose.service(replicas=replicas)(handle(Refiner).inner), Writer)
    url = running.registry.url("Refiner")
    requests = [await SocketDuplex.open(f"{url}/refine", "application/x-ndjson") for _ in range(2 * replicas)]
    found = [lines(request) for request in requests]
    for request in requests:
        await request.send(of({"style": "upper"}, {"text": "one"}))
    assert [await anext(answer) for answer in found] == ["ONE"] * len(requests)
    for request in requests:
        await request.send(of({"text": "two"}))
    assert [await anext(answer) for answer in found] == ["TWO"] * len(requests)
    for request in requests:
        await request.end()
    for answer in found:
        assert [item async for item in answer] == []
    for request in requests:
        await request.leave()


async def test_a_hundred_thousand_lines_both_ways(running: Running) -> None:
    await asyncio.to_thread(running.up, Refiner, Writer)
    request = await SocketDuplex.open(f"{running.registry.url('Refiner')}/refine", "application/x-ndjson")

    async def send() -> None:
        for i in range(0, 100_000, 1000):
            await request.send(of(*({"text": f"word {k}"} for k in range(i, i + 1000))))
        await request.end()

    sending = asyncio.ensure_future(send())
    count = 0
    async for item in lines(request):
        assert item == f"WORD {count}"
        count += 1
    await sending
    await request.leave()
    assert count == 100_000


async def test_a_client_that_leaves_closes_the_call(running: Running) -> None:
    refiner = await asyncio.to_thread(running.up, Refiner, Writer)
    request = await SocketDuplex.open(f"{running.registry.url('Refiner')}/waits", "application/x-ndjson")
    await request.send(of({"text": "one"}))
    await asyncio.to_thread(running.until, "Refiner", lambda s: any(r.in_flight for r in s.replicas))
    await request.leave()
    await asyncio.to_thread(running.until, "Refiner", lambda s: not any(r.in_flight for r in s.replicas))
    assert refiner is not None


def test_a_service_elsewhere_takes_streams(running: Running, pipeline: Any, writer: Any) -> None:
    """Its url says what it takes; items go up while the answer comes."""
    url = running.registry.url("Refiner")

    @nbcompose.service(name="Far")
    class Far:
        refiner = nbcompose.depends(url=url)
        writer = nbcompose.depends("Writer")

        @nbcompose.api
        async def run(self, count: int) -> AsyncIterator[str]:
            async for piece in self.refiner.refine(self.writer.write(count)):
                yield piece

        @nbcompose.api
        def run_sync(self, count: int) -> int:
            return int(self.refiner.to_sync.count(str(i) for i in range(count)))

        @nbcompose.api
        async def gated(self) -> AsyncIterator[str]:
            async for piece in self.refiner.refine(text=self.writer.gated(), style="lower"):
                yield piece

        @nbcompose.api
        async def both(self) -> list[int]:
            async def numbers() -> AsyncIterator[int]:
                for i in range(100):
                    yield i

            return list(await self.refiner.both(numbers(), [1, 2]))

        @nbcompose.api
        async def first(self) -> str:
            return str(await self.refiner.first(self.writer.write(10**6)))

        @nbcompose.api
        async def broken(self) -> int:
            return int(await self.refiner.count(self.writer.breaks(3)))

        @nbcompose.api
        async def wrong(self) -> int:
            return int(await self.refiner.count(iter([1])))

    far = running.up(Far)
    assert list(far.run(3)) == WORDS
    assert far.run_sync(4) == 4
    assert far.both() == [4950, 3]
    items = far.gated()
    assert next(items) == "word 0"
    writer.open_gate()
    assert list(items) == ["word 1"]
    assert far.first() == "word 0"
    wait_until(lambda: ended(writer) >= 2, "the producer of a stream that was left has ended")
    with pytest.raises(LookupError, match="no more words"):
        far.broken()
    with pytest.raises(InvalidArgument, match="item 0 of `text`: Input should be a valid string"):
        far.wrong()


def test_code_that_takes_streams_since_a_swap_reaches_their_producers(running: Running) -> None:
    """Also one that has been replaced since, of which the reference says nothing."""

    def made(taking: Callable[..., Any]) -> Any:
        class Late:
            take = nbcompose.api(taking)

        Late.__qualname__ = "made.<locals>.Late"
        return nbcompose.service(name="Late")(Late)

    async def plain(self: Any, text: str) -> str:
        return text

    async def stream(self: Any, text: AsyncIterator[str]) -> str:
        return "".join([piece async for piece in text])

    stream.__name__ = plain.__name__ = "take"
    late = running.up(made(plain), compare=True)
    running.up(Writer)
    pid = running.registry.status("Late").replicas[0].pid
    assert late.take("a") == "a"
    running.deploy(made(stream), compare=True)
    assert running.registry.wait("Late").replicas[0].pid == pid  # a swap
    writer = running.registry.proxy("Writer")
    assert late.take(writer.write(2)) == "word 0word 1"
    running.registry.restart("Writer")
    running.registry.wait("Writer")
    assert late.take(writer.write(2)) == "word 0word 1"


def test_a_stream_for_a_parameter_that_takes_none_says_which_and_the_way_out(refiner: Any, writer: Any) -> None:
    takes_none = "Refiner.count_list: `text` takes no stream, and got "
    annotate = ": annotate it as `text: AsyncIterator[str]`, or pass the list of its items, "
    awaited = "`[item async for item in …]`"

    async def letters() -> AsyncIterator[str]:
        yield "a"

    for given, called, way in (
        (writer.write(2), "the stream of Writer.write", "`list(…)`"),
        (writer.to_async.write(2), "the stream of Writer.write", awaited),
        ((piece for piece in "ab"), "a stream (generator)", "`list(…)`"),
        (letters(), "a stream (async_generator)", awaited),
        (nbcompose.streams.tee(letters())[0], "a stream (Branch)", "`list(…)`"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            refiner.count_list(given)
        assert str(caught.value) == f"{takes_none}{called}{annotate}{way}"
        assert caught.value.__cause__ is None
        assert "unsendable" not in vars(caught.value)
    with pytest.raises(InvalidArgument, match=r"`weights` takes no stream.*`weights: AsyncIterator\[…\]`"):
        refiner.count_list([], weights=(piece for piece in "ab"))
    with pytest.raises(InvalidArgument, match=r"^Refiner\.count: `text`\[0\] is .*a stream is an argument by itself"):
        refiner.count([writer.write(2)])
    with pytest.raises(InvalidArgument, match=r"Refiner\.count_list: `text` takes no stream"):
        asyncio.run(refiner.to_async.count_list(writer.to_async.write(2)))
    with pytest.raises(InvalidArgument, match=r"`text` takes no stream, and got the stream of Writer\.write"):
        asyncio.run(Refiner().count_list(Pipeline().writer.to_async.write(2)))


def test_an_api_that_was_not_called_is_no_argument(refiner: Any, writer: Any) -> None:
    not_called = "is the api Writer.write itself, which was not called: did you mean "
    for api in (refiner.count_list, refiner.count, refiner.maybe):
        with pytest.raises(InvalidArgument) as caught:
            api(writer.write)
        assert str(caught.value) == f"Refiner.{api.__name__}: `text` {not_called}Writer.write(…)?"
        assert caught.value.__cause__ is None
    with pytest.raises(InvalidArgument, match=r"`text`\[0\] is the api Writer\.counts.*`await Writer\.to_async\.c"):
        refiner.count_list([writer.to_async.counts])
    with pytest.raises(InvalidArgument, match="`text` is the service Writer itself: did you mean a call of one of its"):
        refiner.count(writer)
    with pytest.raises(InvalidArgument, match=r"got the service Writer itself: did you mean .*such as Writer\.write"):
        refiner.count(Writer)
    with pytest.raises(InvalidArgument, match=r"got the api Tally.total itself, which was not called"):
        refiner.count(Tally.total)  # of a service that does not run


def test_what_a_client_sends_wrongly_is_its_fault_and_one_line_at_most(running: Running, refiner: Any) -> None:
    url = running.registry.url("Refiner")
    for path in ("count", "refine"):
        for kind, body, status, name in (
            ("text/event-stream", b'data: "a"\n\n', 400, "BadRequest"),
            ("application/x-ndjson", b'{"text": "a"}\n{"text": 1}\n', 422, "InvalidArgument"),
            ("application/x-ndjson", b'{"text": "a"}\n{"style": "x"}\n', 400, "BadRequest"),
        ):
            answer = httpx.post(f"{url}/{path}", content=body, headers={"Content-Type": kind})
            assert answer.status_code == (status if path == "count" else 200)
            assert f'"type":"{name}"' in answer.text
    assert not [line for line in running.registry.logs("Refiner") if "Traceback" in line or "error" in line.lower()]
