"""The ASGI face by hand: lifespans, disconnection, back-pressure, replies that cannot be completed, prefixes, hosts."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from nbcompose._replica.http.access import Access
from nbcompose._replica.http.asgi import AsgiApp
from nbcompose._replica.http.exchange import Limits
from nbcompose._service.decorators import api
from nbcompose._spec import Http
from tests.patience import PATIENCE
from tests.replica.http.asgi_client import Request
from tests.replica.http.http_server import Runtime, declared, error_of, nothing, soon


class Service:
    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.ended = asyncio.Event()
        self.release = asyncio.Event()
        self.made = 0

    @api
    async def greet(self, name: str) -> str:
        return f"hello {name}"

    @api
    async def wait(self) -> str:
        self.reached.set()
        try:
            await self.release.wait()
        finally:
            self.ended.set()
        return "waited"

    @api
    async def insist(self) -> str:
        while not self.release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.release.wait()
        self.ended.set()
        return "at last"

    @api
    async def drip(self) -> AsyncIterator[str]:
        try:
            yield "first"
            self.reached.set()
            await self.release.wait()
            yield "last"
        finally:
            self.ended.set()

    @api
    async def flood(self) -> AsyncIterator[str]:
        try:
            while True:
                self.made += 1
                yield "x"
        finally:
            self.ended.set()

    @api
    async def words(self) -> AsyncIterator[str]:
        yield "one"
        raise ValueError("no more")


HOST = ("host", "127.0.0.1")


@pytest.fixture
def runtime() -> Runtime:
    return Runtime(declared(Service)[0])


@pytest.fixture
def app(runtime: Runtime) -> AsgiApp:
    return made(runtime)


def made(runtime: Runtime, access: Access | None = None, limits: Limits | None = None) -> AsgiApp:
    return AsgiApp(runtime, access or Access(), nothing, nothing, limits)


# -- lifespans


async def live(start: Callable[[], Any], stop: Callable[[], Any]) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> dict[str, Any]:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    await AsgiApp(Runtime(declared(Service)[0]), Access(), start, stop)({"type": "lifespan"}, receive, send)
    return sent


async def test_a_server_starts_and_stops_it() -> None:
    seen: list[str] = []

    async def start() -> None:
        seen.append("started")

    async def stop() -> None:
        seen.append("stopped")

    sent = await live(start, stop)
    assert [m["type"] for m in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert seen == ["started", "stopped"]


async def fails() -> None:
    raise ValueError("no weights")


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [(fails, nothing, ["startup.failed"]), (nothing, fails, ["startup.complete", "shutdown.failed"])],
)
async def test_a_server_is_told_what_fails(start: Any, stop: Any, expected: list[str]) -> None:
    sent = await live(start, stop)
    assert [m["type"].removeprefix("lifespan.") for m in sent] == expected
    assert sent[-1]["message"] == "no weights"


async def test_other_protocols_are_refused(app: AsgiApp) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    await app({"type": "websocket", "path": "/greet"}, receive, send)
    assert sent == [{"type": "websocket.close"}]
    with pytest.raises(ValueError, match="'mqtt'"):
        await app({"type": "mqtt"}, receive, send)


# -- bodies


async def test_a_body_may_come_in_pieces(app: AsgiApp) -> None:
    request = Request(app, "/greet")
    for piece in (b'{"na', b"", b'me": "Ada"'):
        request.send(piece, more=True)
    request.send(b"}")
    assert (await request.response()).json() == "hello Ada"


async def test_a_body_that_grows_too_large_is_answered_before_its_end() -> None:
    runtime = Runtime(dataclasses.replace(declared(Service)[0], http=Http(max_body=100)))
    request = Request(made(runtime), "/greet")
    for _ in range(3):
        request.send(b"x" * 50, more=True)
    error_of(await request.response(), 413, "PayloadTooLarge")
    assert runtime.contexts == []


async def test_a_request_that_is_refused_is_answered_before_its_body_comes(app: AsgiApp) -> None:
    request = Request(app, "/nowhere", [HOST, ("content-length", "10")])
    error_of(await request.response(), 404, "UnknownApi")


@pytest.mark.parametrize("headers", [[HOST], [HOST, ("content-length", "10")]])
async def test_a_body_that_does_not_come_is_a_408(runtime: Runtime, headers: list[tuple[str, str]]) -> None:
    request = Request(made(runtime, limits=Limits(body_seconds=0.05)), "/greet", headers)
    request.send(b'"A', more=True)
    error_of(await request.response(), 408, "SlowRequest")


async def test_a_reply_is_two_messages(app: AsgiApp) -> None:
    request = Request(app, "/greet")
    request.send(b'"Ada"')
    start, body = await request.next(), await request.next()
    assert start is not None
    assert body == {"type": "http.response.body", "body": b'"hello Ada"', "more_body": False}
    headers = dict(start["headers"])
    assert headers[b"content-length"] == b"11"
    assert headers.keys().isdisjoint({b"date", b"connection"})  # those are the server's
    assert await request.next() is None


# -- clients that go away, and servers that stop


@pytest.mark.parametrize("path", ["/wait", "/drip"])
@pytest.mark.parametrize("by", ["disconnect", "cancel"])
async def test_the_call_is_cancelled_with_its_request(runtime: Runtime, path: str, by: str) -> None:
    request = Request(made(runtime), path)
    request.send()
    if path == "/drip":
        for _ in range(2):
            assert await request.next() is not None
    await soon(runtime.instance.reached.wait())
    if by == "disconnect":
        request.disconnect()
        assert await request.next() is None
    else:
        request.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request.task
    assert runtime.instance.ended.is_set()
    assert runtime.contexts[0].cancelled


async def test_a_client_that_goes_away_before_its_body_is_there_makes_no_call(runtime: Runtime) -> None:
    request = Request(made(runtime), "/wait")
    request.send(b"{", more=True)
    request.disconnect()
    assert await request.next() is None
    assert runtime.contexts == []


async def test_a_server_whose_send_fails_ends_the_stream(runtime: Runtime) -> None:
    async def send(message: Any) -> None:
        raise OSError("the client is gone")

    inbox: asyncio.Queue[Any] = asyncio.Queue()
    inbox.put_nowait({"type": "http.request", "body": b""})
    scope = {"type": "http", "method": "POST", "path": "/flood", "headers": [], "server": ("127.0.0.1", 80)}
    async with asyncio.timeout(PATIENCE):
        await made(runtime)(scope, inbox.get, send)
    assert runtime.instance.ended.is_set()


async def test_what_the_server_s_receive_raises_goes_up(runtime: Runtime) -> None:
    async def receive() -> Any:
        raise RuntimeError("a fault of the server")

    async def send(message: Any) -> None: ...

    scope = {"type": "http", "method": "POST", "path": "/greet", "headers": [], "server": ("127.0.0.1", 80)}
    with pytest.raises(RuntimeError, match="a fault of the server"):
        await made(runtime)(scope, receive, send)


# -- replies


async def test_a_producer_waits_for_the_server(runtime: Runtime) -> None:
    request = Request(made(runtime), "/flood")
    request.send()
    for _ in range(10):
        await request.next()
    # Beside the nine items and the head that were taken: one in the server's hands, one that waits for it.
    assert runtime.instance.made <= 12
    request.disconnect()
    await soon(runtime.instance.ended.wait())


async def test_a_reader_that_takes_nothing_is_hung_up_on(runtime: Runtime) -> None:
    request = Request(made(runtime, limits=Limits(heartbeat=0.05, stall=0.1)), "/flood")
    request.send()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(ConnectionAbortedError, match="/flood"):
            await request.task
    assert runtime.instance.ended.is_set()


async def test_a_text_that_breaks_off_has_no_end(runtime: Runtime) -> None:
    request = Request(made(runtime), "/words", [HOST, ("accept", "text/plain")])
    request.send()
    assert (await request.next() or {})["status"] == 200
    assert (await request.next() or {})["body"] == b"one"
    with pytest.raises(ConnectionAbortedError):
        await request.next()


async def test_a_call_that_does_not_end_at_its_deadline_is_answered_all_the_same(runtime: Runtime) -> None:
    request = Request(made(runtime), "/insist", [HOST, ("x-request-timeout", "0.01")])
    request.send()
    error_of(await request.response(), 504, "DeadlineExceeded")
    assert not runtime.instance.ended.is_set()
    runtime.instance.release.set()
    await soon(runtime.instance.ended.wait())


def test_it_serves_any_number_of_loops(app: AsgiApp) -> None:
    async def greet() -> Any:
        requests = [Request(app, "/greet") for _ in range(3)]
        for request in requests:
            request.send(b'"Ada"')
        return [(await request.response()).json() for request in requests]

    for _ in range(3):
        assert asyncio.run(greet()) == ["hello Ada"] * 3


# -- where it is mounted


@pytest.mark.parametrize(
    ("root_path", "path", "served"),
    [
        ("", "/healthz", True),
        ("/v1/answer", "/v1/answer/healthz", True),  # as the specification says
        ("/v1/answer/", "/v1/answer/healthz", True),
        ("/v1/answer", "/healthz", True),  # as older servers and frameworks do
        ("/v1/answer", "/v1/answers/healthz", False),
        ("/v1/answer", "/v1/healthz", False),
    ],
)
async def test_paths_are_below_the_prefix(app: AsgiApp, root_path: str, path: str, served: bool) -> None:
    request = Request(app, path, method="GET", root_path=root_path)
    request.send()
    assert (await request.response()).status_code == (200 if served else 404)


@pytest.mark.parametrize(
    ("root_path", "path", "location"),
    [("", "/", "docs"), ("/v1/answer", "/v1/answer/", "docs"), ("/v1/answer", "/v1/answer", "answer/docs")],
)
async def test_the_root_leads_to_the_docs_below_the_prefix(
    app: AsgiApp, root_path: str, path: str, location: str
) -> None:
    request = Request(app, path, method="GET", root_path=root_path)
    request.send()
    response = await request.response()
    assert (response.status_code, response.headers["location"]) == (302, location)


async def test_addresses_have_the_prefix(app: AsgiApp) -> None:
    request = Request(app, "/v1/answer/openapi.json", method="GET", root_path="/v1/answer")
    request.send()
    document = (await request.response()).json()
    assert document["servers"] == [{"url": "/v1/answer"}]
    assert "/greet" in document["paths"]
    request = Request(app, "/v1/answer/greet", method="GET", root_path="/v1/answer")
    request.send()
    assert "http://127.0.0.1/v1/answer/greet" in (await request.response()).text


# -- who may call


@pytest.mark.parametrize(
    ("server", "host", "allowed", "token", "status"),
    [
        (("127.0.0.1", 80), "127.0.0.1", [], None, 200),
        (("127.0.0.1", 80), "localhost:80", [], None, 200),
        (("127.0.0.1", 80), "evil.example", [], None, 403),
        (("127.0.0.1", 80), "hub.example", ["Hub.example"], None, 200),
        (("127.0.0.1", 80), "any.example", ["*"], None, 200),
        # Beyond loopback a host of this machine's own proves nothing: whoever calls may write it.
        (("10.0.0.1", 80), "localhost", [], None, 403),
        (("10.0.0.1", 80), "10.0.0.1", [], None, 403),
        (("10.0.0.1", 80), None, [], None, 400),
        (("10.0.0.1", 80), "hub.example", ["hub.example"], None, 200),
        (("10.0.0.1", 80), "any.example", [], "secret", 200),
        (("10.0.0.1", 80), "any.example", [], "guess", 401),
        (("/run/app.sock", None), "localhost", [], None, 403),
        (None, "localhost", [], None, 403),
        (None, "hub.example", ["hub.example"], None, 200),
    ],
)
async def test_hosts(
    runtime: Runtime, server: Any, host: str | None, allowed: list[str], token: str | None, status: int
) -> None:
    access = Access.of(Http(), token and "secret", allowed)
    headers = [*([("host", host)] if host else []), *([("authorization", f"Bearer {token}")] if token else [])]
    for _ in range(2):  # the second time, what was allowed is remembered
        request = Request(made(runtime, access), "/greet", headers, server=server)
        request.send(b'"Ada"')
        assert (await request.response()).status_code == status


# -- new code


async def test_routes_follow_the_version_that_serves(runtime: Runtime, app: AsgiApp) -> None:
    class Newer:
        @api
        async def part(self, name: str) -> str:
            return f"bye {name}"

    async def ask(path: str) -> int:
        request = Request(app, path)
        request.send(b'"Ada"')
        return (await request.response()).status_code

    assert [await ask("/greet"), await ask("/part")] == [200, 404]
    runtime.spec, runtime.schemas = declared(Newer)
    runtime.instance = Newer()
    assert [await ask("/greet"), await ask("/part")] == [404, 200]
