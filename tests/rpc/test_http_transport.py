"""A service behind a url: a real replica's HTTP server on a loop of its own, called through a proxy."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import json
import socket
import threading
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbcompose import api, depends, service
from nbcompose._code.packing import deployment_of
from nbcompose._control.registry import Registry
from nbcompose._replica.bootstrap import load_module
from nbcompose._replica.http.access import Access
from nbcompose._replica.http.backend import HttpBackend
from nbcompose._replica.http.server import HttpServer
from nbcompose._replica.instance import Runtime
from nbcompose._rpc.blocking import LoopThread, background
from nbcompose._rpc.client import Client
from nbcompose._rpc.http_transport import HttpTransport
from nbcompose._rpc.load_table import LoadTable
from nbcompose._rpc.proxy import Proxy
from nbcompose._service.introspect import declare
from nbcompose._tracing.spans import CallContext, current_call
from nbcompose.errors import (
    BlockingCall,
    CallCancelled,
    DeadlineExceeded,
    Forbidden,
    InvalidArgument,
    RemoteError,
    ReplicaDied,
    ServiceUnavailable,
    Unauthorized,
    UnknownApi,
    UnknownArgumentWarning,
)
from tests.patience import PATIENCE, ever_longer

begun = threading.Event()
cancelled = threading.Event()
contexts: list[CallContext | None] = []


class Elsewhere:
    """A service of another machine."""

    @api
    def greet(self, name: str, punctuation: str = "!") -> str:
        """Greets."""
        contexts.append(current_call.get())
        return f"hello {name}{punctuation}"

    @api
    def total(self, values: np.ndarray, scale: float = 1.0) -> float:
        return float(values.sum()) * scale

    @api
    def double(self, values: np.ndarray) -> np.ndarray:
        return values * 2

    @api
    def raw(self, data: bytes) -> bytes:
        return data[::-1]

    @api
    def gather(self, first: int, /, *rest: int, **more: int) -> dict[str, Any]:
        return {"first": first, "rest": rest, "more": more}

    @api
    def optional(self, value: float | None = None) -> float | None:
        return value

    @api
    def fails(self) -> None:
        raise ArithmeticError("on purpose")

    @api
    def lines(self, n: int) -> Iterator[str]:
        for i in range(n):
            yield f"{i}\u2028\u0085 line"

    @api
    def odd(self) -> Iterator[Any]:
        yield {"error": {"type": "KeyError", "message": "only an item", "id": "1"}}
        yield None
        yield {"data": "x\n\ny"}

    @api
    def breaks(self) -> Iterator[int]:
        yield 1
        raise ArithmeticError("in mid-stream")

    @api
    async def trickle(self) -> AsyncIterator[str]:
        yield "first"
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    @api
    async def hang(self) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise


class Server:
    """A replica's HTTP side, on a loop of its own."""

    def __init__(self, cls: type, token: str | None = None) -> None:
        self._loop = LoopThread("server")
        self._loop.start()
        self._board = LoadTable.create()
        self.url = self._loop.run(self._start(cls, token))

    async def _start(self, cls: type, token: str | None) -> str:
        spec = declare(cls, {})
        self._runtime = Runtime(spec, 0, 0, self._board)
        await self._runtime.start()
        self._http = HttpServer(HttpBackend(self._runtime, Client()), Access.of(spec.http, token, ()))
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        self._http.listen(listening)
        return f"http://127.0.0.1:{listening.getsockname()[1]}"

    def stop(self) -> None:
        self._loop.run(self._stop())
        self._loop.stop()
        self._board.close()

    async def _stop(self) -> None:
        await self._http.stop(0.0)
        await self._runtime.stop()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server(Elsewhere)
    yield made
    made.stop()


@pytest.fixture
def portal() -> Iterator[LoopThread]:
    begun.clear()
    cancelled.clear()
    contexts.clear()
    thread = LoopThread("test")
    thread.start()
    yield thread
    thread.stop()


@contextlib.contextmanager
def proxy_of(url: str, portal: LoopThread, token: str | None = None) -> Iterator[Proxy]:
    caller = HttpTransport(url, token, portal)
    try:
        yield Proxy(caller)
    finally:
        portal.run(caller.aclose())


@pytest.fixture
def proxy(server: Server, portal: LoopThread) -> Iterator[Proxy]:
    with proxy_of(server.url, portal) as made:
        yield made


@contextlib.contextmanager
def in_context(context: CallContext) -> Iterator[None]:
    token = current_call.set(context)
    try:
        yield
    finally:
        current_call.reset(token)


# -- calls


def test_apis_are_learned_at_the_first_call(proxy: Proxy) -> None:
    assert dir(proxy) == ["to_async", "to_sync"]
    assert proxy.greet("Ada") == "hello Ada!"
    assert "greet" in dir(proxy)
    assert "greet(name: str, punctuation: str = '!')" in repr(proxy.greet)
    assert (proxy.greet.__doc__ or "").startswith("Greets.")
    with pytest.raises(UnknownApi, match="has no api 'gret'; it has: greet, total"):
        proxy.gret("x")


def test_an_unknown_api_before_anything_is_known(proxy: Proxy) -> None:
    with pytest.raises(UnknownApi, match="has no api 'gret'; it has: greet, total"):
        proxy.gret("x")


def test_streams_and_apis_are_no_arguments(proxy: Proxy) -> None:
    for stream in (proxy.lines(2), proxy.to_async.lines(2)):
        with pytest.raises(InvalidArgument, match=r"`name` takes no stream, and got the stream of .*\.lines: annotate"):
            proxy.greet(stream)
    with pytest.raises(InvalidArgument, match=r"`name` is the api .*\.lines itself, .* did you mean .*\.lines\(…\)\?$"):
        proxy.greet(proxy.lines)


def test_arguments_by_position_and_by_name(proxy: Proxy) -> None:
    assert proxy.greet("Ada", "?") == "hello Ada?"
    assert proxy.greet(punctuation=".", name="Ada") == "hello Ada."
    assert proxy.gather(1, 2, 3, a=4) == {"first": 1, "rest": [2, 3], "more": {"a": 4}}
    assert proxy.gather(1) == {"first": 1, "rest": [], "more": {}}


def test_values_that_json_has_a_form_for(proxy: Proxy) -> None:
    assert proxy.total(np.arange(4.0)) == 6.0
    assert proxy.total([1, 2], scale=np.float64(2)) == 6.0
    assert proxy.double(np.ones((2, 2))) == [[2.0, 2.0], [2.0, 2.0]]
    assert proxy.optional(float("nan")) is None
    assert base64.b64decode(proxy.raw(b"\xff\x00ab")) == b"ba\x00\xff"


def test_values_that_json_has_no_form_for(proxy: Proxy) -> None:
    with pytest.raises(InvalidArgument, match=r"greet: an argument has no JSON form: .*lock"):
        proxy.greet(threading.Lock())


@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), (("a", "b", "c"), {}), (("a",), {"name": "b"})], ids=["missing", "many", "twice"]
)
def test_arguments_that_do_not_fit_are_refused_before_anything_is_sent(
    proxy: Proxy, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArgument, match="greet"):
        proxy.greet(*args, **kwargs)
    assert not contexts


def test_arguments_of_a_wrong_type_name_the_problem(proxy: Proxy) -> None:
    with pytest.raises(InvalidArgument) as caught:
        proxy.total("x")
    assert caught.value.problems
    assert caught.value.problems[0]["loc"] == ["values"]


def test_unknown_arguments_are_ignored_with_a_warning(proxy: Proxy) -> None:
    with pytest.warns(UnknownArgumentWarning, match="max_length") as caught:
        assert proxy.greet("Ada", max_length=5) == "hello Ada!"  # learned by this very call
    assert caught[0].filename == __file__


def test_an_error_of_the_api(proxy: Proxy) -> None:
    with pytest.raises(RemoteError, match=r"ArithmeticError: .*on purpose"):
        proxy.fails()


def test_trace_and_deadline_travel(proxy: Proxy) -> None:
    deadline = time.monotonic() + 30
    with in_context(CallContext(deadline, trace_id=5, span_id=7, trace_flags=0, trace_state="a=b,c=d")):
        proxy.greet("Ada")
    (context,) = contexts
    assert context is not None
    assert (context.trace_id, context.trace_flags, context.trace_state) == (5, 0, "a=b,c=d")
    assert context.deadline == pytest.approx(deadline, abs=25)  # and not the 60 s of the service


async def test_awaited_from_another_loop(proxy: Proxy) -> None:
    assert await asyncio.gather(*(proxy.to_async.greet(str(i)) for i in range(32))) == [
        f"hello {i}!" for i in range(32)
    ]
    assert await proxy.to_async.greet("x") == "hello x!"
    assert [i async for i in proxy.to_async.lines(2)] == ["0\u2028\u0085 line", "1\u2028\u0085 line"]


def test_on_the_portal_s_own_loop(proxy: Proxy, portal: LoopThread) -> None:
    async def use() -> Any:
        items = [i async for i in proxy.to_async.lines(1)]
        with pytest.raises(BlockingCall):
            proxy.greet("x")
        return await proxy.to_async.greet("x"), items

    assert portal.run(use()) == ("hello x!", ["0\u2028\u0085 line"])


# -- streams


def test_items_as_they_are_whatever_they_hold(proxy: Proxy) -> None:
    assert list(proxy.lines(100)) == [f"{i}\u2028\u0085 line" for i in range(100)]
    assert list(proxy.lines(0)) == []
    assert list(proxy.odd()) == [
        {"error": {"type": "KeyError", "message": "only an item", "id": "1"}},
        None,
        {"data": "x\n\ny"},
    ]


def test_an_error_in_mid_stream(proxy: Proxy) -> None:
    items = proxy.breaks()
    assert next(items) == 1
    with pytest.raises(RemoteError, match="in mid-stream"):
        next(items)


def test_an_error_before_the_first_item(proxy: Proxy) -> None:
    with pytest.raises(InvalidArgument, match="lines"):
        list(proxy.lines("many"))


def test_leaving_a_stream_early_cancels_it_there(proxy: Proxy) -> None:
    items = proxy.trickle()
    assert next(items) == "first"
    items.close()
    assert cancelled.wait(PATIENCE)


def test_a_deadline_in_mid_stream(proxy: Proxy) -> None:
    for seconds in ever_longer():
        got: list[str] = []
        with in_context(CallContext(time.monotonic() + seconds)), pytest.raises(DeadlineExceeded):
            got.extend(proxy.trickle())  # what came before the error stays
        if got == ["first"] and begun.is_set():
            break
    assert cancelled.wait(PATIENCE)


# -- giving up


def test_a_deadline(proxy: Proxy) -> None:
    for seconds in ever_longer():
        with in_context(CallContext(time.monotonic() + seconds)), pytest.raises(DeadlineExceeded):
            proxy.hang()
        if begun.is_set():
            break
    assert cancelled.wait(PATIENCE)


async def test_cancelling_who_awaits_cancels_the_call_there(proxy: Proxy) -> None:
    task = asyncio.create_task(proxy.to_async.hang())
    assert await asyncio.to_thread(begun.wait, PATIENCE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(cancelled.wait, PATIENCE)


def test_cancelling_the_api_that_waits(proxy: Proxy, portal: LoopThread) -> None:
    context = CallContext()

    def cancel() -> None:
        assert begun.wait(PATIENCE)
        portal.loop.call_soon_threadsafe(context.cancel)

    threading.Thread(target=cancel).start()
    with in_context(context), pytest.raises(CallCancelled):
        proxy.hang()
    assert cancelled.wait(PATIENCE)


# -- servers that are not there, not ours, or not for us


def test_nobody_listens(portal: LoopThread) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with proxy_of(f"http://127.0.0.1:{port}", portal) as nobody:
        with pytest.raises(ServiceUnavailable, match=f"http://127.0.0.1:{port} cannot be reached") as caught:
            nobody.greet("x")
        assert caught.value.__cause__ is None  # forty frames of the HTTP client, which say no more
        with pytest.raises(ServiceUnavailable, match="cannot be reached"):
            list(nobody.lines(3))


def test_a_token(portal: LoopThread) -> None:
    server = Server(Elsewhere, token="secret")
    try:
        with proxy_of(server.url, portal, "secret") as allowed:
            assert allowed.greet("Ada") == "hello Ada!"
        for token, said in (
            (None, "it wants a token, and none was given"),
            ("guess", "the token that was given is wrong"),
        ):
            way_out = rf"{said}: depends\(url=…, token=…\)"
            with proxy_of(server.url, portal, token) as stranger, pytest.raises(Unauthorized, match=way_out):
                stranger.greet("Ada")
    finally:
        server.stop()


class Canned:
    """A server that answers everything with the same bytes, and hangs up."""

    def __init__(self, *answers: bytes) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._answers = answers
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        for answer in self._answers:
            with contextlib.suppress(OSError):
                connection, _ = self._socket.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

    def stop(self) -> None:
        self._thread.join(PATIENCE)
        self._socket.close()


def response(body: bytes, status: str = "200 OK", headers: str = "Content-Type: application/json") -> bytes:
    head = f"HTTP/1.1 {status}\r\n{headers}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (response(b"<html>"), ServiceUnavailable, "not as an nbcompose service"),
        (response(b"[]"), ServiceUnavailable, "not as an nbcompose service"),
        (response(b'{"paths": {"/x": {"post": {}}}}'), ServiceUnavailable, "names no api"),
        (response(b'{"paths": {"/x": {"post": {"x-nbcompose-params": [1]}}}}'), ServiceUnavailable, "is called None"),
        (response(b"gone", "404 Not Found"), ServiceUnavailable, "answered with status 404"),
        (
            response(rb'{"error": {"type": "Forbidden", "message": "\u001b[31mred"}}', "403 No"),
            Forbidden,
            r": \ufffd\[31mred",
        ),
        (response(b"", "302 Found", "Location: /login"), ServiceUnavailable, "answered with status 302"),
        (b"SSH-2.0-OpenSSH\r\n", ReplicaDied, "went away"),
        (response(b"12345")[:-2], ReplicaDied, "went away"),
    ],
)
def test_a_server_of_another_kind(portal: LoopThread, answer: bytes, error: type[Exception], message: str) -> None:
    other = Canned(answer)
    with proxy_of(other.url, portal) as proxy, pytest.raises(error, match=message) as caught:
        proxy.greet("x")
    assert caught.value.__cause__ is None
    other.stop()


OPENAPI = json.dumps({
    "paths": {
        "/lines": {
            "post": {
                "operationId": "lines",
                "x-nbcompose-stream": True,
                "x-nbcompose-params": [{"name": "n", "kind": "positional_or_keyword", "required": True, "text": "n"}],
            }
        }
    }
}).encode()  # fmt: skip


def test_a_stream_that_is_cut_is_not_taken_for_a_complete_one(portal: LoopThread) -> None:
    events = b'data: "first"\n\n: still here\n\ndata: "sec'
    cut = Canned(response(OPENAPI), response(events, headers="Content-Type: text/event-stream"))
    with proxy_of(cut.url, portal) as proxy:
        items = proxy.lines(3)
        assert next(items) == "first"
        with pytest.raises(ReplicaDied, match="went away in the middle of a stream"):
            next(items)
    cut.stop()


# -- as a dependency


def test_an_in_process_instance_calls_it_too(server: Server) -> None:
    @service
    class Near:
        far = depends(url=server.url)

        @api
        def ask(self, name: str) -> str:
            return str(self.far.greet(name))

        @api
        async def ask_async(self, name: str) -> str:
            return str(await self.far.to_async.greet(name))

    near = Near()
    assert near.ask("Ada") == "hello Ada!"
    assert asyncio.run(near.ask_async("Bob")) == "hello Bob!"
    client = weakref.ref(near.far._caller._client)
    assert client() is not None
    del near
    for _ in range(20):
        gc.collect()
        background().run(asyncio.sleep(0))
        if client() is None:
            return  # closed, and forgotten
    raise AssertionError("its connections outlive an instance")


FAR = """
from nbcompose import api, service

@service
class Far:
    @api
    def greet(self, name: str) -> str:
        return f"hello {name}"

    @api
    def letters(self, name: str):
        yield from name
"""

NEAR = """
from nbcompose import api, depends, service

@service
class Near:
    far = depends(url=%r, token=%r)

    @api
    def ask(self, name: str) -> list:
        return [self.far.greet(name), *self.far.letters(name)]

    @api
    async def ask_async(self, name: str) -> list:
        return [await self.far.to_async.greet(name), *[c async for c in self.far.to_async.letters(name)]]
"""


@pytest.mark.system
def test_from_a_replica_to_another_graph_s_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBCOMPOSE_PRELOAD", "json")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry()
    registry.start()
    try:
        (tmp_path / "far_services.py").write_text(FAR)
        far = load_module("far_services", str(tmp_path / "far_services.py")).Far
        registry.deploy(deployment_of(far, token="secret"))
        assert registry.wait("Far").state == "ready"
        (tmp_path / "near_services.py").write_text(NEAR % (registry.url("Far"), "secret"))
        near = load_module("near_services", str(tmp_path / "near_services.py")).Near
        registry.deploy(deployment_of(near))
        assert registry.wait("Near").state == "ready"
        assert registry.proxy("Near").ask("Ada") == ["hello Ada", "A", "d", "a"]
        assert registry.proxy("Near").ask_async("Ada") == ["hello Ada", "A", "d", "a"]
    finally:
        registry.stop()
