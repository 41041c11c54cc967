"""`depends(url=)` of a server that is not what it says: nothing of it is believed, and the error says who it was."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import threading
import time
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcompose._replica.http.responses import error_reply
from nbcompose._rpc import http_transport, remote_service
from nbcompose._rpc.blocking import LoopThread
from nbcompose._rpc.http_transport import HttpTransport
from nbcompose._rpc.proxy import Proxy
from nbcompose._rpc.remote_service import events
from nbcompose._tracing.spans import CallContext, current_call
from nbcompose.errors import (
    CallError,
    DeadlineExceeded,
    InvalidArgument,
    PayloadTooLarge,
    RemoteError,
    ReplicaDied,
    ServiceUnavailable,
)
from tests.faults.hostile_server import DOCUMENT, Answer, Hostile, document, endless, head, operation, response
from tests.patience import ever_longer

EVENTS = "text/event-stream"


@pytest.fixture
def portal() -> Iterator[LoopThread]:
    thread = LoopThread("test")
    thread.start()
    yield thread
    thread.stop()


@contextlib.contextmanager
def hostile(portal: LoopThread, answers: Mapping[str, Answer]) -> Iterator[tuple[Proxy, Hostile]]:
    server = Hostile(answers)
    caller = HttpTransport(server.url, "secret", portal)
    try:
        yield Proxy(caller), server
    finally:
        portal.run(caller.aclose())
        server.stop()


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    token = current_call.set(CallContext(time.monotonic() + seconds))
    try:
        yield
    finally:
        current_call.reset(token)


def ask(proxy: Proxy, api: str = "ask") -> Any:
    found = getattr(proxy, api)()
    return list(found) if api == "stream" else found


def zipped(body: bytes) -> bytes:
    return gzip.compress(body, mtime=0)  # names of cases have no times in them


# -- where a call goes


@pytest.mark.parametrize(
    "route",
    [
        "@{thief}/steal", ":80@{thief}/steal", "//{thief}/steal", "http://{thief}/steal", "\\\\{thief}\\steal",
        "/\\{thief}/steal", ".{thief}/steal", "", "steal", "/a\r\nHost: {thief}", "/a b", "/a\tb", "/a\0", "/a\x7f",
        "/../steal", "/a/%2e%2E/steal", "/.", "/a?b", "/a#b", "/\ud800",
    ],
    ids=ascii,
)  # fmt: skip
def test_a_route_that_leads_elsewhere_is_refused(portal: LoopThread, route: str) -> None:
    thief = Hostile({})
    route = route.replace("{thief}", thief.host)
    with hostile(portal, {"/openapi.json": response(document(route))}) as (proxy, server):
        with pytest.raises(ServiceUnavailable) as caught:
            ask(proxy)
        told = str(caught.value)
        assert told.startswith(f"{server.url} answers, but not as an nbcompose service: /openapi.json gave a document")
        assert "ask is to be called at" in told
        assert told.isprintable()
        assert len(server.requests) == 1
    assert thief.requests == []
    thief.stop()


@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent"])
@pytest.mark.parametrize("path", ["/openapi.json", "/ask", "/stream"])
def test_a_redirect_is_not_followed(portal: LoopThread, status: str, path: str) -> None:
    thief = Hostile(DOCUMENT)
    away = response(b"", status, "application/json", f"Location: {thief.url}{path}")
    with hostile(portal, {**DOCUMENT, path: away}) as (proxy, server), pytest.raises(ServiceUnavailable) as caught:
        ask(proxy, "stream" if path == "/stream" else "ask")
    assert str(caught.value).startswith(f"{server.url} answered with status {status[:3]}")
    assert thief.requests == []
    thief.stop()


def test_cookies_are_not_kept(portal: LoopThread) -> None:
    answers = {**DOCUMENT, "/ask": response(b"1", "200 OK", "application/json", "Set-Cookie: a=b")}
    with hostile(portal, answers) as (proxy, server):
        assert [ask(proxy), ask(proxy)] == [1, 1]
        assert not any(b"ookie" in request for request in server.requests)


def test_a_password_in_the_url_is_not_shown(portal: LoopThread) -> None:
    server = Hostile({})
    caller = HttpTransport(f"http://user:hunter2@{server.host}/base/", None, portal)
    with pytest.raises(ServiceUnavailable, match=f"http://{server.host}/base answered with status 404") as caught:
        Proxy(caller).ask()
    assert "hunter2" not in str(caught.value)
    assert b"Authorization: Basic" in server.requests[0]
    portal.run(caller.aclose())
    server.stop()


# -- what its document says


def of(post: Any, route: str = "/ask") -> bytes:
    return json.dumps({"paths": {route: {"post": post}}}).encode()


PARAM = {"name": "n", "kind": "keyword_only", "required": True, "text": "n"}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "what is no JSON"),
        (b"<html>", "what is no JSON (Expecting value: line 1 column 1 (char 0)): '<html>'"),
        (b"\xff\xfe\0", "what is no JSON"),
        (b"[" * 100_000, "what is no JSON (it is too deep)"),
        (b"[]", "names no api"),
        (b'{"paths": 1}', "names no api"),
        (b'{"paths": {"/x": 1, "/y": {"post": []}, "/z": {"post": {}}}}', "names no api"),
        (of({"x-nbcompose-params": []}), "an api that is called None"),
        (of(operation(5)), "an api that is called 5"),
        (of(operation("__class__")), "an api that is called '__class__'"),
        (of(operation("a b")), "an api that is called 'a b'"),
        (of(operation("a" * 1000)), "an api that is called 'aaa"),
        (of({**operation(), "x-nbcompose-params": 1}), "has 1 for its parameters"),
        (of({**operation(), "x-nbcompose-params": [1]}), "has 1 for a parameter"),
        (of({**operation(), "x-nbcompose-params": [{"name": "x"}]}), "for a parameter"),
        (of({**operation(), "x-nbcompose-params": [PARAM | {"kind": "odd"}]}), "for a parameter"),
        (of({**operation(), "x-nbcompose-params": [PARAM | {"kind": []}]}), "for a parameter"),
        (of({**operation(), "x-nbcompose-params": [PARAM | {"required": "yes"}]}), "for a parameter"),
        (of({**operation(), "x-nbcompose-params": [PARAM | {"text": None}]}), "for a parameter"),
        (json.dumps({"paths": {f"/{i}": {"post": operation(f"a{i}")} for i in range(10_001)}}).encode(), "10,000 apis"),
    ],
    ids=range(20),
)
def test_a_document_of_another_shape(portal: LoopThread, body: bytes, told: str) -> None:
    with hostile(portal, {"/openapi.json": response(body)}) as (proxy, server):
        with pytest.raises(ServiceUnavailable, match=re.escape(told)) as caught:
            ask(proxy)
        assert str(caught.value).startswith(f"{server.url} answers, but not as an nbcompose service")
        assert len(str(caught.value)) < 1000


def test_what_documents_say_of_an_api_is_bounded_text(portal: LoopThread) -> None:
    odd = of({**operation(), "summary": ["x"], "description": "d" * 100_000, "x-nbcompose-params": [PARAM]})
    with hostile(portal, {"/openapi.json": response(odd), "/ask": response(b"7")}) as (proxy, _):
        assert proxy.ask(n=1) == 7
        (api,) = proxy._caller.apis() or ()
        assert len(api.doc) < 11_000


# -- what it answers


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (response(b""), "/ask gave what is no JSON"),
        (response(b"{'a': 1}"), "/ask gave what is no JSON"),
        (response(b'"\xff"'), "/ask gave what is no JSON"),
        (response(b"[" * 100_000), "it is too deep"),
        (
            response(b"<p>Hello", kind="text/html; charset=utf-8"),
            "/ask gave 'text/html; charset=utf-8', not application",
        ),
        (response(b"1", kind="application/jsonx"), "'application/jsonx', not application/json"),
        (response(b"1", "200 OK", "application/json", "Content-Encoding: br"), "Content-Encoding: 'br'"),
        (response(b"[1, 2]", "200 OK", "application/json", "Content-Encoding: gzip"), "a body that is not gzip"),
        (
            response(zipped(b"1")[:-1], "200 OK", "application/json", "Content-Encoding: gzip"),
            "a body that ends before its gzip does",
        ),
        (
            response(zipped(b"1") + b"more", "200 OK", "application/json", "Content-Encoding: gzip"),
            "a body that goes on where its gzip has ended",
        ),
    ],
)
def test_an_answer_that_is_none(portal: LoopThread, answer: bytes, told: str) -> None:
    with hostile(portal, {**DOCUMENT, "/ask": answer}) as (proxy, server):
        with pytest.raises(ServiceUnavailable, match=re.escape(told)) as caught:
            ask(proxy)
        assert str(caught.value).startswith(server.url)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", zipped(b"[1]")),
        ("deflate", zlib.compress(b"[1]")),
        ("identity", b"[1]"),
        ("GZIP", zipped(b"[1]")),
    ],
)
def test_a_compressed_answer(portal: LoopThread, coding: str, body: bytes) -> None:
    answer = response(body, "200 OK", "Application/JSON; charset=utf-8", f"Content-Encoding: {coding}")
    with hostile(portal, {**DOCUMENT, "/ask": answer}) as (proxy, _):
        assert ask(proxy) == [1]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"null", b'{"error": null}', b'{"error": "x"}', b'{"error": {"type": 5, "message": {}}}',
        b'{"error": {"type": "Sequence", "message": "m"}}', b'{"error": {"type": "RemoteError"}}',
        b'{"error": {"type": "a b", "message": "m"}}', b'{"error": {"type": "InvalidArgument", "problems": 7}}',
        b'{"error": {"type": "InvalidArgument", "problems": [1, {"loc": []}]}}', b"[" * 100_000,
        b'{"error": {"type": "\\ud800", "message": "\\ud800"}}',
        b'{"error": {"type": "CallError", "message": "' + b"x" * 100_000 + b'"}}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("api", ["ask", "stream", "in mid-stream"])
def test_an_error_of_any_shape_is_one(portal: LoopThread, body: bytes, api: str) -> None:
    failed: Answer = response(body, "500 Internal Server Error")
    if api == "in mid-stream":
        failed = response(b"event: error\ndata: " + body + b"\n\n", kind=EVENTS)
    answers = {**DOCUMENT, "/ask": failed, "/stream": failed}
    with hostile(portal, answers) as (proxy, server), pytest.raises(CallError) as caught:
        ask(proxy, "ask" if api == "ask" else "stream")
    assert (
        isinstance(caught.value, RemoteError | ServiceUnavailable | InvalidArgument) or type(caught.value) is CallError
    )
    assert server.host in str(caught.value)
    assert len(str(caught.value)) < 30_000
    reply = error_reply(caught.value, trusted=True)  # of a service that has called it
    assert reply.status in (500, 503)
    assert json.loads(reply.body)["error"]["message"].encode()


# -- how much


LIMIT = 50_000


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MAX_DOCUMENT", "MAX_ANSWER", "MAX_ERROR"):
        monkeypatch.setattr(http_transport, name, LIMIT)
    monkeypatch.setattr(remote_service, "MAX_ITEM", LIMIT)


def compressed(status: str = "200 OK") -> bytes:
    """A hundred times the limit, from a hundredth of it."""
    return response(gzip.compress(b" " * LIMIT * 100), status, "application/json", "Content-Encoding: gzip")


SPACES = b" " * 5000
ENDLESS: list[tuple[str, Answer]] = [
    ("/openapi.json", endless(head(), SPACES)),
    ("/openapi.json", compressed()),
    ("/ask", endless(head(), SPACES)),
    ("/ask", endless(head("500 Internal Server Error"), SPACES)),
    ("/ask", endless(head("200 OK", "application/json", "Content-Length: 1000000000000"), SPACES)),
    ("/ask", compressed()),
    ("/ask", compressed("404 Not Found")),
    ("/stream", endless(head(kind=EVENTS), b"x" * 5000)),
    ("/stream", endless(head(kind=EVENTS) + b"data: ", SPACES)),
    ("/stream", endless(head(kind=EVENTS), b"data: 1\n")),
    ("/stream", endless(head(kind=EVENTS), b": " + SPACES + b"\n")),
    ("/stream", endless(head(kind=EVENTS), b"event: " + SPACES + b"\r")),
]


@pytest.mark.parametrize(("path", "answer"), ENDLESS, ids=range(len(ENDLESS)))
def test_what_has_no_end_is_cut_off(small: None, portal: LoopThread, path: str, answer: Answer) -> None:
    with hostile(portal, {**DOCUMENT, path: answer}) as (proxy, server):
        with pytest.raises(
            PayloadTooLarge, match=f"^{server.url}{path} sent an? .* of more than the 50,000 bytes"
        ) as caught:
            ask(proxy, "stream" if path == "/stream" else "ask")
        assert caught.value.internal


@pytest.mark.parametrize("over", [0, 1])
def test_the_limit_itself_is_not_too_much(small: None, portal: LoopThread, over: int) -> None:
    text = json.dumps("x" * (LIMIT - 2)).encode() + b" " * over
    event = b"data: " + json.dumps("x" * (LIMIT - 8)).encode() + b" " * over + b"\n\nevent: end\ndata: {}\n\n"
    answers = {**DOCUMENT, "/ask": response(text), "/stream": response(event, kind=EVENTS)}
    with hostile(portal, answers) as (proxy, _):
        for api in ("ask", "stream"):
            if over:
                with pytest.raises(PayloadTooLarge):
                    ask(proxy, api)
            else:
                assert len("".join(ask(proxy, api))) >= LIMIT - 8


PADDED = b"[" + b" " * 70_000  # so much that it is looked at before it is decoded


@pytest.mark.parametrize(("values", "is_read"), [(1000, True), (1001, False)])
@pytest.mark.parametrize("api", ["ask", "stream"])
def test_values_are_counted_before_they_are_decoded(
    monkeypatch: pytest.MonkeyPatch, portal: LoopThread, api: str, values: int, is_read: bool
) -> None:
    monkeypatch.setattr(remote_service, "MAX_VALUES", 1000)
    body = PADDED + b",".join([b"0"] * (values - 1)) + b"]"
    event = b"data: " + body + b"\n\nevent: end\ndata: {}\n\n"
    answers = {**DOCUMENT, "/ask": response(body), "/stream": response(event, kind=EVENTS)}
    with hostile(portal, answers) as (proxy, server):
        if is_read:
            assert ask(proxy, api) in ([0] * (values - 1), [[0] * (values - 1)])
            return
        with pytest.raises(PayloadTooLarge, match=f"^{server.url}/{api} sent an .* more than the 1,000 values"):
            ask(proxy, api)


def test_what_is_large_is_decoded_beside_the_loop(monkeypatch: pytest.MonkeyPatch, portal: LoopThread) -> None:
    threads = []
    decode = remote_service.value_of

    def noted(body: bytes) -> Any:
        threads.append(threading.current_thread())
        return decode(body)

    monkeypatch.setattr(remote_service, "value_of", noted)
    for body, aside in ((b"[0]", False), (PADDED + b"0]", True)):
        threads.clear()
        with hostile(portal, {**DOCUMENT, "/ask": response(body)}) as (proxy, _):
            assert ask(proxy) == [0]
        loop = portal.run(_thread())
        assert (threads[-1] is not loop) is aside


async def _thread() -> threading.Thread:
    return threading.current_thread()


def test_headers_without_end(portal: LoopThread) -> None:
    answers: dict[str, Answer] = {**DOCUMENT, "/ask": endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 100)}
    with hostile(portal, answers) as (proxy, server), pytest.raises(ReplicaDied) as caught:
        ask(proxy)
    assert str(caught.value).startswith(f"{server.url} went away")


# -- how long


SLOW: list[tuple[str, bytes, bytes]] = [
    ("/openapi.json", b"", b"HTTP"[:1]),
    ("/openapi.json", head(), b" "),
    ("/ask", b"HTTP/1.1 200 OK\r\n", b"X"),
    ("/ask", head(), b" "),
    ("/ask", head("500 Internal Server Error"), b" "),
    ("/stream", head(kind=EVENTS), b":\n\n"),
    ("/stream", head(kind=EVENTS) + b"data: 1\n\n", b"d"),
]


@pytest.mark.parametrize(("path", "start", "piece"), SLOW, ids=range(len(SLOW)))
def test_what_trickles_in_is_under_the_deadline(portal: LoopThread, path: str, start: bytes, piece: bytes) -> None:
    def trickle() -> Iterator[bytes]:
        yield start
        while True:
            time.sleep(0.005)
            yield piece

    api = "stream" if path == "/stream" else "ask"
    for seconds in ever_longer():
        with hostile(portal, {**DOCUMENT, path: trickle}) as (proxy, server):
            with within(seconds), pytest.raises(DeadlineExceeded) as caught:
                ask(proxy, api)
            if any(path.encode() in request for request in server.requests):
                assert str(caught.value) == f"{server.url}{path} did not answer in time"
                return


# -- server-sent events


async def parsed(*chunks: bytes) -> list[tuple[str, bytes]]:
    async def feed() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return [event async for event in events(feed())]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: 1\n\n", [("message", b"1")]),
        (b"data: 1\r\n\r\n", [("message", b"1")]),
        (b"data: 1\r\r", [("message", b"1")]),
        (b"data: 1\r\n\n", [("message", b"1")]),
        (b"data:1\n\n", [("message", b"1")]),
        (b"data:  1\n\n", [("message", b" 1")]),
        (b"data: [1,\ndata: 2]\n\n", [("message", b"[1,\n2]")]),
        (b"data\n\n", [("message", b"")]),
        (b"\xef\xbb\xbfdata: 1\n\n", [("message", b"1")]),
        (b"data: 1\n\n\xef\xbb\xbfdata: 2\n\n", [("message", b"1")]),
        (b": comment\n\ndata: 1\n: comment\n\n", [("message", b"1")]),
        (b"id: 7\nretry: 1\nother\ndata: 1\n\n", [("message", b"1")]),
        (b"event: end\ndata: {}\n\ndata: 2\n\n", [("end", b"{}"), ("message", b"2")]),
        (b"event: end\n\ndata: 2\n\n", [("message", b"2")]),
        (b"event: a\nevent: b\ndata: 1\n\n", [("b", b"1")]),
        (b"data: 1\n\ndata: 2", [("message", b"1")]),
        (b"data: 1\n", []),
        (b"data: \xe2\x80\xa8\x0b\x0c\x1c\xc2\x85\n\n", [("message", b"\xe2\x80\xa8\x0b\x0c\x1c\xc2\x85")]),
        (b"", []),
    ],
    ids=ascii,
)
async def test_events_as_the_standard_has_them(stream: bytes, expected: list[tuple[str, bytes]]) -> None:
    assert await parsed(stream) == expected
    assert await parsed(*(stream[i : i + 1] for i in range(len(stream)))) == expected


async def test_a_line_end_after_a_line_that_came_in_two_parts() -> None:
    stream = b"data: 1\n\n\rdatax\ndata: 1\n\n"
    assert await parsed(stream[:15], stream[15:]) == await parsed(stream) == [("message", b"1")] * 2


PARTS = [b"data: 1", b"\n", b"\r", b"\r\n", b": c", b"event: e", b"data", b"\xef\xbb\xbf", b"x"]


@given(st.lists(st.sampled_from(PARTS)), st.data())
async def test_it_does_not_matter_how_events_are_cut(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert await parsed(*chunks) == await parsed(stream)


def test_items_with_other_line_ends(portal: LoopThread) -> None:
    stream = response(b'data: "a"\r\n\r\n: c\r\rdata: [1,\r\ndata: 2]\r\n\r\nevent: end\rdata: {}\r\r', kind=EVENTS)
    with hostile(portal, {**DOCUMENT, "/stream": stream}) as (proxy, _):
        assert ask(proxy, "stream") == ["a", [1, 2]]
