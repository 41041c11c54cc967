"""Request bodies that stream, by both faces: formats, both directions at once, limits, mistakes, clients that leave."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from nbcompose._replica.http.access import Access
from nbcompose._replica.http.asgi import AsgiApp
from nbcompose._replica.http.exchange import Limits
from nbcompose._replica.http.stream_bodies import BodyReader
from nbcompose._rpc.flow import WINDOW
from nbcompose._service.decorators import api
from nbcompose._spec import Http
from tests.patience import PATIENCE, until
from tests.replica.http.duplex import AsgiDuplex, Duplex, SocketDuplex, lines
from tests.replica.http.http_server import Runtime, declared, nothing, serving


class Refiner:
    def __init__(self) -> None:
        self.taken = 0
        self.ended = 0
        self.gate = asyncio.Event()

    @api
    async def refine(self, text: AsyncIterator[str], style: str = "upper") -> AsyncIterator[str]:
        try:
            async for piece in text:
                self.taken += 1
                yield piece.upper() if style == "upper" else piece
        finally:
            self.ended += 1

    @api
    async def count(self, text: AsyncIterator[str]) -> int:
        return len([piece async for piece in text])

    @api
    async def first(self, text: AsyncIterator[str]) -> str:
        return await anext(text)

    @api
    async def interrupted(self, text: AsyncIterator[str]) -> list[str]:
        """A task that waits for the second item is cancelled."""
        first = await anext(text)
        waiting = asyncio.ensure_future(anext(text))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        self.gate.set()
        return [first] + [piece async for piece in text]

    @api
    async def slow(self, text: AsyncIterator[str]) -> int:
        await anext(text)
        await self.gate.wait()
        return 1 + len([piece async for piece in text])

    @api
    async def both(self, a: AsyncIterator[int], b: AsyncIterator[int], scale: int = 1) -> list[int]:
        async def total(items: AsyncIterator[int]) -> int:
            return scale * sum([i async for i in items])

        return list(await asyncio.gather(total(a), total(b)))

    @api
    async def one_by_one(self, a: AsyncIterator[int], b: AsyncIterator[int]) -> int:
        return sum([i async for i in b]) + sum([i async for i in a])


NDJSON = "application/x-ndjson"
Open = Callable[..., AbstractAsyncContextManager[Duplex]]


@pytest.fixture(params=["tornado", "asgi"])
async def opened(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Open, Refiner]]:
    """What opens a request, and the instance that answers it."""
    limits = Limits(body_pause=PATIENCE)
    http = Http(max_body=100_000)
    if request.param == "asgi":
        runtime = Runtime(declared(Refiner)[0])
        runtime.spec = dataclasses.replace(runtime.spec, http=http)
        app = AsgiApp(runtime, Access(), nothing, nothing, limits)

        @contextlib.asynccontextmanager
        async def to_app(path: str, kind: str = NDJSON) -> AsyncIterator[Duplex]:
            where, _, query = path.partition("?")
            made = AsgiDuplex(app, where, kind, query)
            try:
                yield made
            finally:
                await made.leave()

        yield to_app, runtime.instance
        return
    async with serving(Refiner, http, limits) as served:

        @contextlib.asynccontextmanager
        async def to_socket(path: str, kind: str = NDJSON) -> AsyncIterator[Duplex]:
            made = await SocketDuplex.open(f"http://{served.host}{path}", kind)
            try:
                yield made
            finally:
                await made.leave()

        yield to_socket, served.instance


def of(*objects: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in objects)


async def answer(request: Duplex) -> Any:
    """Status, and the JSON of a complete answer."""
    status, body = await request.status(), b""
    while chunk := await request.read():
        body += chunk
    return status, json.loads(body)


async def test_items_go_in_while_items_come_out(opened: tuple[Open, Refiner]) -> None:
    open_, _ = opened
    async with open_("/refine") as request:
        await request.send(of({"style": "upper"}, {"text": "one"}))
        found = lines(request)
        assert await anext(found) == "ONE"  # and the body has not ended
        await request.send(of({"text": "two"}))
        assert await anext(found) == "TWO"
        await request.end()
        assert [item async for item in found] == []


async def test_lines_are_cut_anywhere(opened: tuple[Open, Refiner]) -> None:
    open_, _ = opened
    body = of({"style": "lower"}, {"text": "Ä b"}, {"text": "c"}) + b'\n\n{"text": "last"}'
    async with open_("/refine") as request:
        for i in range(len(body)):
            await request.send(body[i : i + 1])
        await request.end()
        assert [item async for item in lines(request)] == ["Ä b", "c", "last"]


@pytest.mark.parametrize(
    ("kind", "one", "rest"),
    [
        (NDJSON, b'{"text": "one"}\n', b'{"text": "two"}\n'),
        ("text/plain", b"one", b"two"),
        ("text/event-stream", b'data: "one"\n\n', b'data: "two"\r\n\r\nevent: end\ndata:\n\n'),
    ],
)
async def test_a_task_that_is_cancelled_loses_no_item(
    opened: tuple[Open, Refiner], kind: str, one: bytes, rest: bytes
) -> None:
    open_, refiner = opened
    async with open_("/interrupted", kind) as request:
        await request.send(one)
        await asyncio.wait_for(refiner.gate.wait(), PATIENCE)
        await request.send(rest)
        await request.end()
        assert await answer(request) == (200, ["one", "two"])


async def test_several_streams(opened: tuple[Open, Refiner]) -> None:
    open_, _ = opened
    async with open_("/both") as request:
        await request.send(of({"scale": 2}, {"a": 1, "b": 10}, *({"a": 1} for _ in range(100)), {"b": "5"}))
        await request.end()
        assert await answer(request) == (200, [202, 30])


async def test_pieces_of_text(opened: tuple[Open, Refiner]) -> None:
    open_, _ = opened
    async with open_("/refine?style=lower", "text/plain") as request:
        found = lines(request)
        await request.send("zwölf".encode()[:3])
        assert await anext(found) == "zw"  # not half a character
        await request.send("zwölf".encode()[3:])
        assert await anext(found) == "ölf"
        await request.end()
        assert [item async for item in found] == []


async def test_what_another_service_sends_as_events(opened: tuple[Open, Refiner]) -> None:
    open_, _ = opened
    async with open_("/refine", "text/event-stream") as request:
        await request.send(b'\xef\xbb\xbfdata: "one"\n\n: still here\n\ndata: "two"\r\n\r\nevent: end\ndata: {}\n\n')
        await request.end()
        assert [item async for item in lines(request)] == ["ONE", "TWO"]


@pytest.mark.parametrize(
    ("path", "kind", "body", "status", "says"),
    [
        ("/count", NDJSON, b'{"text": 1}\n', 422, "item 0 of `text`: Input should be a valid string"),
        ("/count", NDJSON, b"[1]\n", 400, "each line of the body is an object of parameters, not list"),
        ("/count", NDJSON, b"{no}\n", 400, "a line of the body is not JSON"),
        ("/count", NDJSON, b'{"tex": "a"}\n', 422, "tex: is not known"),
        ("/count?text=1", NDJSON, b"", 400, "in the lines of the body, not in the address"),
        ("/both", NDJSON, b'{"a": 1}\n{"scale": 2}\n', 400, "`scale` came after the first item"),
        ("/both", "text/plain", b"1", 415, "takes 2 streams: send them as application/x-ndjson"),
        ("/count", "text/plain; charset=klingon", b"1", 415, "the charset klingon is not known"),
        ("/count", "text/plain; charset=zlib", b"1", 415, "the charset zlib is not known"),
        ("/count", "text/plain; charset=unicode_escape", b"1", 415, "the charset unicode_escape is not known"),
        ("/count", "text/plain", b"\xff", 400, "the body is not utf-8"),
        ("/count", "text/event-stream", b'data: "a"\n\n', 400, "was cut: it ends without `event: end`"),
        (
            "/count",
            "text/event-stream",
            b'event: error\ndata: {"error": {"type": "ValueError", "message": "no"}}\n\n',
            500,
            "the stream in the body has failed: ValueError: no",
        ),
        (
            "/count",
            "text/event-stream",
            b"data: " + b"x" * 50_000 + b"\ndata: " + b"x" * 60_000,
            413,
            "an event of the body is larger than the 100,000 bytes",
        ),
        ("/count", NDJSON, b'{"text": "' + b"x" * 200_000, 413, "a line of the body is larger than the 100,000 bytes"),
    ],
)
async def test_mistakes(
    opened: tuple[Open, Refiner], path: str, kind: str, body: bytes, status: int, says: str
) -> None:
    open_, _ = opened
    async with open_(path, kind) as request:
        await request.send(body)
        await request.end()
        got, document = await answer(request)
        assert (got, says in document["error"]["message"]) == (status, True), document


async def test_a_body_may_be_larger_than_one_that_is_read_whole(opened: tuple[Open, Refiner]) -> None:
    open_, _ = opened
    async with open_("/count") as request:
        for _ in range(100):
            await request.send(of(*({"text": "x" * 1000} for _ in range(10))))
        await request.end()
        assert await answer(request) == (200, 1000)


async def test_an_api_that_does_not_read_holds_the_sender_back(opened: tuple[Open, Refiner]) -> None:
    open_, instance = opened
    async with open_("/slow") as request:
        if isinstance(request, AsgiDuplex):
            pytest.skip("the server of an application holds its client back")
        sent = 0

        async def send() -> None:
            nonlocal sent
            for _ in range(2000):
                await request.send(of({"text": "x" * 10_000}))
                sent += 1
            await request.end()

        sending = asyncio.ensure_future(send())
        await until(lambda: any(type(found) is BodyReader and found.waits for found in gc.get_objects()))
        assert sent < 2000  # of 20 MB some are in the buffers of sockets
        instance.gate.set()
        assert await answer(request) == (200, 2000)
        await sending


async def test_an_api_that_has_enough_answers_before_the_end(opened: tuple[Open, Refiner]) -> None:
    open_, _ = opened
    async with open_("/first") as request:
        await request.send(of({"text": "a"}, {"text": "b"}))
        assert await answer(request) == (200, "a")


async def test_streams_that_wait_for_one_another_are_told(opened: tuple[Open, Refiner]) -> None:
    open_, _ = opened
    async with open_("/one_by_one") as request:
        await request.send(of(*({"a": 1} for _ in range(2 * WINDOW)), {"b": 1}))
        await request.end()
        status, document = await answer(request)
        assert status == 500
        assert "more items of `a` than are kept while the api waits for one of `b`" in document["error"]["message"]


async def test_a_client_that_leaves_ends_the_call(opened: tuple[Open, Refiner]) -> None:
    open_, instance = opened
    async with open_("/refine") as request:
        await request.send(of({"text": "one"}))
        assert await anext(lines(request)) == "ONE"
    await until(lambda: instance.ended == 1)


async def test_a_body_that_pauses_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(Refiner, limits=Limits(body_pause=0.2)) as served:
        request = await SocketDuplex.open(f"http://{served.host}/count", NDJSON)
        await request.send(of({"text": "a"}))
        status, document = await answer(request)
        assert (status, document["error"]["message"]) == (408, "nothing of the body has come for 0.2 s")
        await request.leave()


async def test_the_document_of_openapi_3_2_says_what_the_items_are() -> None:
    async with serving(Refiner) as served:
        old, new, wrong = [
            await served.http.get("/openapi.json", params={"version": v} if v else {}) for v in ("", "3.2", "2.0")
        ]
        assert old.json()["openapi"] == "3.1.0"
        document = new.json()
        assert document["openapi"] == "3.2.0"
        refine, both = (document["paths"][path]["post"] for path in ("/refine", "/both"))
        sent = refine["requestBody"]["content"]
        assert list(sent) == ["application/json", NDJSON, "text/plain", "text/event-stream"]
        line = document["components"]["schemas"][sent[NDJSON]["itemSchema"]["$ref"].rpartition("/")[2]]
        assert line["properties"]["text"] == {"type": "string"}
        assert "required" not in line
        assert refine["responses"]["200"]["content"][NDJSON] == {"itemSchema": {"type": "string"}}
        assert list(both["requestBody"]["content"]) == ["application/json", NDJSON]
        assert "itemSchema" not in old.text
        assert (wrong.status_code, "as 3.1 and 3.2" in wrong.text) == (400, True)


async def test_json_is_a_list_or_one_text(opened: tuple[Open, Refiner]) -> None:
    open_, _ = opened
    for given, count in ((["a", "b"], 2), ("ab", 1), ([], 0)):
        async with open_("/count", "application/json") as request:
            await request.send(json.dumps({"text": given}).encode())
            await request.end()
            assert await answer(request) == (200, count)
