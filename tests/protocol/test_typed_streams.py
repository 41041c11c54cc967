"""Streams in a call that a client makes: typed while it runs, where items go in and answers come out of one process,
over its socket; and of a service, whose items go to the one that is called.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest
from stream_argument_services import Refiner, Tally, Writer

from nbcompose import api, service
from nbcompose._protocol import Client, address, messages
from nbcompose._rpc import WINDOW
from nbcompose.errors import CallError, DeadlineExceeded, InvalidArgument, RemoteError
from tests.conftest import Running
from tests.patience import PATIENCE, wait_until

pytestmark = pytest.mark.system


@service(traffic={"timeout": 0.3})
class Hurried:
    @api
    async def hang(self) -> None:
        await asyncio.Event().wait()

    @api
    async def echo(self, text: AsyncIterator[str]) -> AsyncIterator[str]:
        async for piece in text:
            yield piece


@service
class Slow:
    """Takes items when it is told to."""

    def __init__(self) -> None:
        self.allowed = asyncio.Semaphore(0)
        self.left = False

    @api
    async def take(self, numbers: AsyncIterator[int]) -> AsyncIterator[int]:
        try:
            while True:
                await self.allowed.acquire()
                yield await anext(numbers)
        finally:
            self.left = True

    @api
    async def allow(self, count: int) -> None:
        for _ in range(count):
            self.allowed.release()

    @api
    async def first(self, numbers: AsyncIterator[int]) -> AsyncIterator[int]:
        async for number in numbers:
            yield number
            break
        await numbers.aclose()  # type: ignore[attr-defined]
        await asyncio.Event().wait()


def typed(stream: str, *items: Any) -> dict[str, Any]:
    return {"$typed": {"stream": stream, "items": list(items)}}


def call(api_name: str, service_name: str = "Refiner", **arguments: Any) -> messages.Call:
    return {"type": "call", "service": service_name, "api": api_name, "arguments": arguments}


@contextlib.asynccontextmanager
async def client() -> AsyncGenerator[Client, None]:
    async with Client(next(r for r in address.find() if r.pid == os.getpid()), PATIENCE) as asking:
        yield asking


async def feed(asking: Client, stream: str, item: Any) -> None:
    await asking.ask({"type": "feed", "stream": stream, "item": item}, messages.Done)


async def feed_for_ever(asking: Client, stream: str) -> None:
    while True:
        await feed(asking, stream, 8)


async def end(asking: Client, stream: str) -> None:
    await asking.ask({"type": "end_feed", "stream": stream}, messages.Done)


async def next_item(said: AsyncGenerator[Any, None]) -> Any:
    """The next item; that the call has begun is passed over."""
    async for message in said:
        if message["type"] == "item":
            return message["bundle"]["text/plain"]
    raise AssertionError("it has ended")


async def test_answers_come_while_items_are_typed(running: Running) -> None:
    await asyncio.to_thread(running.up, Refiner)
    async with client() as asking:
        said = asking.stream(call("refine", text=typed("a", "one")))
        assert await next_item(said) == "ONE"
        await feed(asking, "a", "two")
        assert await next_item(said) == "TWO"
        await end(asking, "a")
        assert [message["type"] async for message in said] == []  # only the end
        with pytest.raises(InvalidArgument, match="no call under way has that stream"):
            await feed(asking, "a", "three")


async def test_two_streams_and_a_result(running: Running) -> None:
    await asyncio.to_thread(running.up, Refiner)
    async with client() as asking:
        answer = asyncio.ensure_future(asking.ask(call("both", a=typed("a", 1), b=typed("b")), messages.Result))
        await asyncio.sleep(0)  # it is sent
        for stream, item in (("b", 10), ("a", 2), ("b", "20")):  # a text is taken for a number, as over HTTP
            await feed(asking, stream, item)
        await end(asking, "a")
        await end(asking, "b")
        assert (await answer)["bundle"]["application/json"] == [3, 30]


async def test_an_item_that_is_wrong_is_refused_and_the_stream_goes_on(running: Running) -> None:
    await asyncio.to_thread(running.up, Slow)
    async with client() as asking:
        said = asking.stream(call("take", "Slow", numbers=typed("n", 1)))
        await asking.ask(call("allow", "Slow", count=2), messages.Result)
        assert await next_item(said) == "1"
        with pytest.raises(InvalidArgument, match=r"item 1 of `numbers`.*valid integer") as raised:
            await feed(asking, "n", "many")
        assert raised.value.problems[0]["loc"] == ["numbers", 1]
        await feed(asking, "n", 2)
        assert await next_item(said) == "2"
        await said.aclose()


async def test_who_types_faster_than_the_api_reads_waits(running: Running) -> None:
    await asyncio.to_thread(running.up, Slow)
    async with client() as asking:
        said = asking.stream(call("take", "Slow", numbers=typed("n", *range(WINDOW))))
        begun = asyncio.ensure_future(anext(said))
        await begun  # {"type": "begun"}
        waiting = asyncio.ensure_future(feed(asking, "n", WINDOW))
        await asking.ask({"type": "ps"}, messages.Ps)  # it has been taken before
        assert not waiting.done()
        await asking.ask(call("allow", "Slow", count=WINDOW + 1), messages.Result)
        assert [await next_item(said) for _ in range(WINDOW + 1)] == [str(n) for n in range(WINDOW + 1)]
        await waiting
        await said.aclose()


async def test_a_call_that_ends_leaves_nothing_that_waits(running: Running) -> None:
    await asyncio.to_thread(running.up, Slow)
    async with client() as asking:
        said = asking.stream(call("take", "Slow", numbers=typed("n", *range(3 * WINDOW))))
        await anext(said)
        waiting = asyncio.ensure_future(feed(asking, "n", 1))
        await asking.ask({"type": "ps"}, messages.Ps)
        await said.aclose()  # which closes its connection
        with pytest.raises(InvalidArgument, match=r"the call has ended|no call under way|wants no more"):
            await waiting
        assert running.registry.operations._typed._open == {}


async def test_an_api_that_wants_no_more_says_so(running: Running) -> None:
    await asyncio.to_thread(running.up, Slow)
    async with client() as asking:
        said = asking.stream(call("first", "Slow", numbers=typed("n", 7)))
        assert await next_item(said) == "7"
        with pytest.raises(InvalidArgument, match="takes no more items: the api wants no more"):
            await feed_for_ever(asking, "n")
        await said.aclose()


async def test_who_types_has_time(running: Running) -> None:
    await asyncio.to_thread(running.up, Hurried)
    async with client() as asking:
        said = asking.stream(call("echo", "Hurried", text=typed("a", "one")))
        assert await next_item(said) == "one"
        with pytest.raises(DeadlineExceeded):  # a call that began later
            await asking.ask(call("hang", "Hurried"), messages.Result)
        await feed(asking, "a", "two")
        assert await next_item(said) == "two"
        await said.aclose()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"text": {"$typed": {}}}, "text: a stream that is typed has an id"),
        ({"text": {"$typed": {"stream": "x" * 65}}}, "text: a stream that is typed has an id"),
        ({"text": {"$typed": {"stream": "x", "items": "a"}}}, "and a list of items"),
        ({"text": {"$typed": 1}}, "Input should be a stream of texts"),
        ({"text": typed("x"), "style": typed("x")}, "style: a call under way has a stream with the id 'x'"),
        ({"text": typed("x"), "style": typed("y")}, "style: it takes no stream"),
        ({"text": typed("x"), "more": typed("y")}, "more: it takes no stream"),
        ({"text": typed("x", "a", 1)}, "item 1 of `text`.*valid string"),
    ],
)
async def test_what_is_no_stream_is_refused(running: Running, arguments: dict[str, Any], text: str) -> None:
    await asyncio.to_thread(running.up, Refiner)
    async with client() as asking:
        with pytest.raises(InvalidArgument, match=text):
            await asking.ask(call("count", **arguments), messages.Result)
    assert running.registry.operations._typed._open == {}


# -- of a service


def of(api_name: str, service_name: str = "Writer", **arguments: Any) -> dict[str, Any]:
    return {"$stream": {"service": service_name, "api": api_name, "arguments": arguments}}


async def items(asking: Client, request: messages.Call) -> list[str]:
    said = [m async for m in asking.stream(request)]
    return [m["bundle"]["text/plain"] for m in said if m["type"] == "item"]


async def test_the_stream_of_a_service_goes_to_the_one_that_is_called(running: Running) -> None:
    await asyncio.to_thread(running.up, Writer, Refiner, Tally)
    async with client() as asking:
        assert await items(asking, call("refine", text=of("write", count=2))) == ["WORD 0", "WORD 1"]
        reader = await asyncio.to_thread(running.until, "Refiner", lambda status: status.reads == ("Writer",))
        assert reader.traffic["Writer"].calls == 1
        spans = (await asyncio.to_thread(running.registry.collect_traces)).latest()[-1]
        assert {(s.service, s.api) for s in spans} == {("Refiner", "refine"), ("Writer", "write")}
        # By sync code, from sync code, and through a service between.
        assert await items(asking, call("refine_sync", text=of("write", count=1))) == ["WORD 0"]
        assert await items(asking, call("refine", text=of("write_sync", count=1))) == ["WORD 0"]
        chain = of("refine", "Refiner", text=of("write", count=1), style="as it is")
        assert await items(asking, call("refine_sync", text=chain)) == ["WORD 0"]
        with pytest.raises(CallError, match="needs a thread too"):  # which it would wait for
            await asking.ask(call("total", "Tally", numbers=of("numbers", "Tally", count=4)), messages.Result)


async def test_several_streams_one_of_them_typed(running: Running) -> None:
    await asyncio.to_thread(running.up, Refiner, Tally)
    numbers = of("numbers", "Tally", count=4)
    async with client() as asking:
        both = await asking.ask(call("both", a=numbers, b=numbers), messages.Result)
        assert both["bundle"]["application/json"] == [6, 6]
        answer = asyncio.ensure_future(asking.ask(call("both", a=numbers, b=typed("b", 1)), messages.Result))
        await asyncio.sleep(0)  # it is sent
        await end(asking, "b")
        assert (await answer)["bundle"]["application/json"] == [6, 1]


async def test_a_call_that_is_cancelled_ends_the_service_s_stream(running: Running) -> None:
    writer = await asyncio.to_thread(running.up, Writer, Refiner)
    async with client() as asking:
        said = asking.stream(call("refine", text=of("write_for_ever")))
        assert await next_item(said) == "WORD"
        await said.aclose()
    await asyncio.to_thread(wait_until, lambda: writer.counts()[1] == 1, "its generator has ended")


async def test_an_error_of_the_producer_says_through_what_it_came(running: Running) -> None:
    await asyncio.to_thread(running.up, Writer, Refiner)
    async with client() as asking:
        said = asking.stream(call("refine", text=of("breaks", count=1)))
        assert await next_item(said) == "WORD 0"
        with pytest.raises(RemoteError, match="no more words") as raised:
            await next_item(said)
        assert raised.value.type_name == "LookupError"
        assert "Writer.breaks" in str(raised.value.__cause__)
        assert "Refiner.refine" in str(raised.value.__cause__)


REFUSED: list[tuple[dict[str, Any], str, list[Any]]] = [
    ({"text": {"$stream": 1}}, r"text: the stream of a service is \{", ["text"]),
    ({"text": {"$stream": {"service": "Writer"}}}, "text: the stream of a service is", ["text"]),
    ({"text": {"$stream": {"service": "W", "api": 1}}}, "text: service and api are names", ["text"]),
    ({"text": of("write", "Wrtr")}, "text: no service is called 'Wrtr'; there are: .*: start it, or", ["text"]),
    ({"text": of("wrt")}, "text: Writer has no api 'wrt'; it has: .*, or choose another stream", ["text"]),
    ({"text": of("counts")}, "text: Writer.counts gives one value and no stream: .* yield: write, slow", ["text"]),
    ({"text": of("write", "http://h:1")}, "text: the stream of a service at a URL is passed in code", ["text"]),
    ({"text": of("write")}, "text: Writer.write: count: is missing", ["text", "$stream", "arguments", "count"]),
    (
        {"text": of("refine", "Refiner", text=of("write", count="x"))},
        "text: Refiner.refine: text: Writer.write: count: .*valid integer",
        ["text", "$stream", "arguments", "text", "$stream", "arguments", "count"],
    ),
    ({"text": of("numbers", "Tally", count=1)}, "item 0 of `text`.*valid string", ["text", 0]),
    ({"text": [of("write", count=1)]}, r"text\.0: .*valid string", ["text", 0]),  # a value like others
    ({"text": "a", "style": of("write", count=1)}, "style: .*valid string", ["style"]),
]


async def test_a_stream_that_no_service_makes_is_refused(running: Running) -> None:
    await asyncio.to_thread(running.up, Refiner, Writer, Tally)
    async with client() as asking:
        for arguments, text, loc in REFUSED:
            with pytest.raises(InvalidArgument, match=text) as raised:
                await items(asking, call("refine", **arguments))
            assert raised.value.problems[0]["loc"] == loc
        deep: Any = "a"
        for _ in range(9):
            deep = of("refine", "Refiner", text=deep)
        with pytest.raises(InvalidArgument, match="more than 8 streams"):
            await items(asking, call("refine", text=deep))
        assert await items(asking, call("refine", text=deep["$stream"]["arguments"]["text"])) == ["A"]
