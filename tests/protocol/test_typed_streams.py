"""Streams that are typed while their call runs: items go in and answers come out of one process, over its socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest
from stream_argument_services import Refiner

from nbcompose import api, service
from nbcompose._protocol import Client, address, messages
from nbcompose._rpc import WINDOW
from nbcompose.errors import DeadlineExceeded, InvalidArgument
from tests.conftest import Running
from tests.patience import PATIENCE

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
