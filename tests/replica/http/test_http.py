"""Both faces, driven with httpx: a real server on a loopback socket, and an ASGI application; only the runtime below
them is small. What is about connections is of the server only, driven with raw sockets.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import io
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openapi_spec_validator
import pytest
from prometheus_client.parser import text_string_to_metric_families

from nbcompose._replica.http.access import Access
from nbcompose._replica.http.exchange import Limits
from nbcompose._replica.http.server import HttpServer
from nbcompose._schema import json_values
from nbcompose._service.decorators import api
from nbcompose._service.introspect import declare
from nbcompose._spec import Http
from nbcompose._tracing.spans import format_traceparent, parse_traceparent
from nbcompose.errors import InvalidArgument, Overloaded, RemoteError
from tests.replica.http.http_server import (
    Face,
    Runtime,
    Served,
    error_of,
    listening_socket,
    read_response,
    serving,
    soon,
)


class Service:
    """Answers, in all the ways that a server must know."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.ended = asyncio.Event()
        self.release = asyncio.Event()
        self.made = 0

    @api
    async def greet(self, name: str, times: int = 1) -> str:
        """Greets."""
        return " ".join(["hello", *[name] * times])

    @api
    async def nothing(self) -> None:
        return None

    @api
    async def double(self, array: np.ndarray) -> np.ndarray:
        return array * 2

    @api
    async def scale(self, array: np.ndarray, by: float, note: str = "") -> dict[str, Any]:
        return {"sum": float(array.sum()) * by, "note": note}

    @api
    async def measure(self, file: Path) -> dict[str, Any]:
        self.path = file
        return {"name": file.name, "size": file.stat().st_size}  # noqa: ASYNC240

    @api
    async def reverse(self, data: bytes) -> bytes:
        return data[::-1]

    @api
    async def fail(self, kind: str) -> str:
        raise {
            "value": ValueError("what the author said"),
            "full": Overloaded("too much"),
            "remote": RemoteError("far away", "package.module.Distant"),
        }[kind]

    @api
    async def wait(self) -> str:
        self.reached.set()
        try:
            await self.release.wait()
        finally:
            self.ended.set()
        return "waited"

    @api
    async def count(self, n: int, fail_at: int = -1) -> AsyncIterator[int]:
        for i in range(n):
            if i == fail_at:
                raise ValueError(f"no {i}")
            yield i

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
    async def hesitate(self) -> AsyncIterator[str]:
        await self.release.wait()
        yield "at last"

    @api
    async def flood(self) -> AsyncIterator[str]:
        try:
            while True:
                self.made += 1
                yield "x" * 100_000
        finally:
            self.ended.set()


@pytest.fixture
async def served(face: Face) -> AsyncIterator[Served]:
    async with serving(Service, face=face) as it:
        yield it


@pytest.fixture
async def listening() -> AsyncIterator[Served]:
    async with serving(Service) as it:
        yield it


# -- calls


async def test_a_call_in_json(served: Served) -> None:
    response = await served.http.post("/greet", json={"name": "Ada", "times": 2})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.content == b'"hello Ada Ada"'


async def test_a_byte_order_mark_is_passed_over(served: Served) -> None:
    for size in (0, json_values.SMALL):
        body = codecs.BOM_UTF8 + b'{"name": "Ada"}' + b" " * size
        response = await served.http.post("/greet", content=body, headers={"Content-Type": "application/json"})
        assert response.json() == "hello Ada"


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "application/json; charset=utf-8"}])
async def test_json_is_what_is_meant_without_a_content_type(served: Served, headers: dict[str, str]) -> None:
    response = await served.http.post("/greet", content=b'{"name": "Ada"}', headers=headers)
    assert response.json() == "hello Ada"


async def test_a_bare_value_fills_the_one_required_parameter(served: Served) -> None:
    assert (await served.http.post("/greet", json="Ada")).json() == "hello Ada"


async def test_no_body_is_no_arguments(served: Served) -> None:
    response = await served.http.post("/nothing")
    assert (response.status_code, response.content) == (200, b"null")
    error = error_of(await served.http.post("/greet"), 422, "InvalidArgument")
    assert "name" in error["message"]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b'{"name": ', "line 1 column 9"),
        (b'{"name":\n"Ada",}', "line 2 column 7"),
        (b'{"name": NaN}', "line 1 column 10"),
    ],
)
async def test_invalid_json_says_where(served: Served, body: bytes, where: str) -> None:
    error = error_of(await served.http.post("/greet", content=body), 400, "BadRequest")
    assert where in error["message"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [({"name": "Ada", "tmes": 2}, "tmes"), ({"times": 2}, "name"), ({"name": "Ada", "times": "often"}, "times")],
)
async def test_arguments_that_do_not_fit(served: Served, arguments: dict[str, Any], named: str) -> None:
    error = error_of(await served.http.post("/greet", json=arguments), 422, "InvalidArgument")
    assert named in error["message"]
    assert any(named in problem["loc"] for problem in error["problems"])


async def test_a_content_type_that_is_not_known_lists_those_that_are(served: Served) -> None:
    response = await served.http.post("/double", content=b"x", headers={"Content-Type": "application/xml"})
    message = error_of(response, 415, "UnsupportedMediaType")["message"]
    for known in ("application/json", "multipart/form-data", "application/x-npy"):
        assert known in message


async def test_the_content_type_that_curl_sends_by_default_gets_a_hint(served: Served) -> None:
    response = await served.http.post(
        "/greet", content=b'{"name": "Ada"}', headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert "-H 'Content-Type: application/json'" in error_of(response, 415, "UnsupportedMediaType")["message"]


async def test_a_query_is_not_read_and_says_so(served: Served) -> None:
    error_of(await served.http.post("/greet?name=Ada", json={"name": "Ada"}), 400, "BadRequest")


# -- other forms


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


async def test_an_array_in_and_out(served: Served) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    headers = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
    response = await served.http.post("/double", content=npy(array), headers=headers)
    assert response.headers["content-type"] == "application/x-npy"
    result = np.load(io.BytesIO(response.content))
    np.testing.assert_array_equal(result, array * 2)
    assert result.dtype == np.float32
    as_json = await served.http.post("/double", content=npy(array), headers={"Content-Type": "application/x-npy"})
    assert as_json.json() == [[0, 2, 4], [6, 8, 10]]


async def test_an_array_that_is_none_is_refused(served: Served) -> None:
    headers = {"Content-Type": "application/x-npy"}
    error_of(await served.http.post("/double", content=b"no array", headers=headers), 422, "InvalidArgument")


async def test_a_form_has_a_part_for_each_parameter(served: Served) -> None:
    files: dict[str, Any] = {
        "array": ("a.npy", npy(np.ones(3)), "application/x-npy"),
        "by": (None, "2.5"),
        "note": (None, "plain text"),
    }
    response = await served.http.post("/scale", files=files)
    assert response.json() == {"sum": 7.5, "note": "plain text"}


async def test_a_form_without_an_end_is_refused(served: Served) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    body = b'--b\r\nContent-Disposition: form-data; name="by"\r\n\r\n2\r\n'
    error_of(await served.http.post("/scale", content=body, headers=headers), 400, "BadRequest")


async def test_a_form_with_a_part_too_many_names_it(served: Served) -> None:
    files: dict[str, Any] = {"array": ("a.npy", npy(np.ones(3))), "by": (None, "1"), "extra": (None, "1")}
    assert "extra" in error_of(await served.http.post("/scale", files=files), 422, "InvalidArgument")["message"]


async def test_an_uploaded_file_lives_as_long_as_the_call(served: Served) -> None:
    response = await served.http.post("/measure", files={"file": ("../../notes.txt", b"12345")})
    assert response.json() == {"name": "notes.txt", "size": 5}
    assert not served.instance.path.exists()


async def test_bytes_in_and_out(served: Served) -> None:
    headers = {"Content-Type": "application/octet-stream", "Accept": "application/octet-stream"}
    response = await served.http.post("/reverse", content=b"\xff\x00abc", headers=headers)
    assert response.content == b"cba\x00\xff"


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("text/html, */*;q=0.1", "application/json"),
        ("application/x-npy, */*", "application/x-npy"),
        ("application/json;q=0.5, application/x-npy;q=0.9", "application/x-npy"),
        ("application/x-npy;q=0, */*", "application/json"),
        ("application/json;q=0, application/*", "application/x-npy"),
        ("application/json;q=nonsense", "application/json"),
        ("", "application/json"),
    ],
)
async def test_accept_is_weighed(served: Served, accept: str, media_type: str) -> None:
    response = await served.http.post("/double", json=[1.0], headers={"Accept": accept})
    assert response.headers["content-type"] == media_type


async def test_what_cannot_be_had_lists_what_can(served: Served) -> None:
    response = await served.http.post("/double", json=[1.0], headers={"Accept": "text/csv"})
    message = error_of(response, 406, "NotAcceptable")["message"]
    assert "application/json" in message
    assert "application/x-npy" in message


# -- streams


async def test_a_stream_is_ndjson(served: Served) -> None:
    response = await served.http.post("/count", json={"n": 3})
    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.text == "0\n1\n2\n"


async def test_a_stream_is_events_where_they_are_asked_for(served: Served) -> None:
    response = await served.http.post("/count", json={"n": 2}, headers={"Accept": "text/event-stream"})
    assert response.headers["content-type"] == "text/event-stream"
    assert response.text == "data: 0\n\ndata: 1\n\nevent: end\ndata: {}\n\n"


@pytest.mark.parametrize(("accept", "end"), [("*/*", ""), ("text/event-stream", "event: end\ndata: {}\n\n")])
async def test_a_stream_may_be_empty(served: Served, accept: str, end: str) -> None:
    response = await served.http.post("/count", json={"n": 0}, headers={"Accept": accept})
    assert (response.status_code, response.text) == (200, end)


async def test_items_come_one_by_one(served: Served) -> None:
    async with served.http.stream("POST", "/drip") as response:
        lines = response.aiter_lines()
        assert await anext(lines) == '"first"'
        await soon(served.instance.reached.wait())
        served.instance.release.set()
        assert [line async for line in lines] == ['"last"']


async def test_an_error_in_mid_stream_is_the_last_line(served: Served) -> None:
    response = await served.http.post("/count", json={"n": 3, "fail_at": 1})
    first, last = response.text.splitlines()
    assert first == "0"
    assert json.loads(last)["error"]["type"] == "ValueError"
    assert json.loads(last)["error"]["message"] == "no 1"


async def test_an_error_in_mid_stream_is_an_event(served: Served) -> None:
    response = await served.http.post("/count", json={"n": 3, "fail_at": 1}, headers={"Accept": "text/event-stream"})
    first, last = response.text.split("\n\n", 1)
    assert first == "data: 0"
    name, _, data = last.partition("\n")
    assert name == "event: error"
    assert json.loads(data.removeprefix("data: "))["error"]["message"] == "no 1"


async def test_an_error_before_the_first_item_has_its_status(served: Served) -> None:
    error_of(await served.http.post("/count", json={"n": 3, "fail_at": 0}), 500, "ValueError")


async def test_a_quiet_stream_of_events_says_that_it_is_alive(face: Face) -> None:
    async with (
        serving(Service, face=face, limits=Limits(heartbeat=0.01)) as served,
        served.http.stream("POST", "/hesitate", headers={"Accept": "text/event-stream"}) as response,
    ):
        lines = response.aiter_lines()
        assert [await anext(lines) for _ in range(4)] == [": still here", ""] * 2
        served.instance.release.set()
        rest = [line async for line in lines]
        assert 'data: "at last"' in rest
        assert "event: end" in rest


async def test_a_quiet_stream_of_lines_has_nothing_but_its_items(face: Face) -> None:
    async with (
        serving(Service, face=face, limits=Limits(heartbeat=0.01)) as served,
        # The head of the reply comes before the first item, which shows that the heartbeat went out.
        served.http.stream("POST", "/hesitate") as response,
    ):
        served.instance.release.set()
        assert [line async for line in response.aiter_lines()] == ['"at last"']


async def test_a_reader_that_takes_nothing_holds_the_producer_and_is_hung_up_on() -> None:
    async with serving(Service, limits=Limits(heartbeat=0.05, stall=0.2)) as served:
        _, writer = await served.raw(served.post("/flood", b""))
        transport: Any = writer.transport
        transport.pause_reading()
        await soon(served.instance.ended.wait())
        # What the sockets' buffers hold, not what could be made in the time.
        assert served.instance.made < 200
        assert served.runtime.contexts[0].cancelled
        transport.abort()


# -- clients that go away


@pytest.mark.parametrize("route", ["/wait", "/drip"])
async def test_a_client_that_goes_away_cancels_its_call(listening: Served, route: str) -> None:
    _, writer = await listening.raw(listening.post(route, b""))
    await soon(listening.instance.reached.wait())
    writer.close()
    await soon(listening.instance.ended.wait())
    assert listening.runtime.contexts[0].cancelled
    assert (await listening.http.get("/healthz")).status_code == 200


async def test_a_client_that_goes_away_before_its_body_is_there_makes_no_call(listening: Served) -> None:
    _, writer = await listening.raw(listening.post("/wait", b"{}")[:-1])
    writer.close()
    assert (await listening.http.get("/healthz")).status_code == 200
    assert listening.runtime.contexts == []


# -- paths and methods


async def test_an_unknown_path_lists_the_apis(served: Served) -> None:
    message = error_of(await served.http.post("/gret", json={}), 404, "UnknownApi")["message"]
    assert "POST /greet  greet(name: str, times: int = 1) -> str" in message


async def test_reading_an_api_shows_how_to_call_it(served: Served) -> None:
    response = await served.http.get("/greet")
    message = error_of(response, 405, "MethodNotAllowed")["message"]
    assert response.headers["allow"] == "POST, OPTIONS"
    assert f"curl http://{served.host}/greet -H 'Content-Type: application/json' -d '{{\"name\": \"\"}}'" in message


async def test_the_curl_line_has_the_token_that_the_service_wants(face: Face) -> None:
    async with serving(Service, face=face, token="secret") as served:
        response = await served.http.get("/greet", headers={"Authorization": "Bearer secret"})
        message = error_of(response, 405, "MethodNotAllowed")["message"]
        assert '-H "Authorization: Bearer $NBCOMPOSE_TOKEN"' in message
        assert message.endswith("NBCOMPOSE_TOKEN is the token; set it by: read -rs NBCOMPOSE_TOKEN")
        assert "secret" not in message


async def test_a_browser_without_the_token_gets_a_page_that_says_where_it_is(face: Face) -> None:
    async with serving(Service, face=face, token="secret") as served:
        for path in ("/openapi.json", "/greet", "/nowhere"):
            response = await served.http.get(path, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
            assert response.status_code == 401
            assert response.headers["content-type"] == "text/html; charset=utf-8"
            assert response.headers["www-authenticate"] == "Bearer"
            assert "default-src 'none'" in response.headers["content-security-policy"]
            assert "in the file ~/.nbcompose/run/SERVICE/token" in response.text
            assert "secret" not in response.text
        assert error_of(await served.http.get("/greet"), 401, "Unauthorized")["message"].startswith(
            "this service wants"
        )


async def test_what_is_read_is_not_posted_to(served: Served) -> None:
    response = await served.http.post("/healthz")
    error_of(response, 405, "MethodNotAllowed")
    assert response.headers["allow"] == "GET, HEAD, OPTIONS"


async def test_head_is_get_without_the_body(served: Served) -> None:
    response = await served.http.head("/healthz")
    assert (response.status_code, response.content) == (200, b"")
    assert int(response.headers["content-length"]) == len((await served.http.get("/healthz")).content)


async def test_the_root_leads_to_the_docs(served: Served) -> None:
    response = await served.http.get("/", follow_redirects=True)
    assert response.url.path == "/docs"
    assert "<!doctype html>" in response.text


async def test_a_path_may_be_percent_encoded(served: Served) -> None:
    assert (await served.http.post("/%67reet", json="Ada")).json() == "hello Ada"


# -- what is known about the service


async def test_ready_or_why_not(served: Served) -> None:
    assert (await served.http.get("/readyz")).json() == {"status": "ready"}
    served.runtime.reasons.append("Embedder: starting")
    response = await served.http.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"status": "not ready", "reasons": ["Embedder: starting"]}
    assert (await served.http.get("/healthz")).json() == {"status": "ok"}


async def test_metrics(served: Served) -> None:
    response = await served.http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    (family,) = text_string_to_metric_families(response.text)
    assert (family.name, family.samples[0].value) == ("nbcompose_test", 7)
    response = await served.http.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert response.text.endswith("# EOF\n")


async def test_the_openapi_document_is_valid(served: Served) -> None:
    document = (await served.http.get("/openapi.json")).json()
    openapi_spec_validator.validate(document)
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) >= {"/greet", "/count"}


# -- access


async def test_a_token_guards_all_but_health_and_the_page(face: Face) -> None:
    async with serving(Service, face=face, token="secret") as served:
        for path in ("/healthz", "/readyz", "/docs", "/docs/docs.js"):
            assert (await served.http.get(path)).status_code == 200, path
        for path in ("/metrics", "/openapi.json", "/nowhere"):
            response = await served.http.get(path)
            error_of(response, 401, "Unauthorized")
            assert response.headers["www-authenticate"] == "Bearer"
        error_of(await served.http.post("/greet", json="Ada"), 401, "Unauthorized")
        response = await served.http.post("/greet", json="Ada", headers={"Authorization": "Bearer secret"})
        assert response.json() == "hello Ada"


async def test_a_foreign_host_is_refused(served: Served) -> None:
    error_of(await served.http.get("/healthz", headers={"Host": "evil.example"}), 403, "Forbidden")


async def test_a_foreign_page_is_refused_before_its_body_is_read(listening: Served) -> None:
    request = listening.post("/greet", b'"Ada"', "Origin: https://evil.example")
    reader, writer = await listening.raw(request[:-5])
    status, _, body = await read_response(reader)
    assert (status, json.loads(body)["error"]["type"]) == (403, "Forbidden")
    writer.close()


async def test_pages_of_allowed_origins_may_call(face: Face) -> None:
    origin = {"Origin": "https://app.example"}
    async with serving(Service, face=face, http=Http(cors_origins=("https://app.example",)), token="secret") as served:
        preflight = await served.http.options("/greet", headers=origin | {"Access-Control-Request-Method": "POST"})
        assert (preflight.status_code, preflight.content) == (204, b"")
        assert preflight.headers["access-control-allow-origin"] == "https://app.example"
        assert preflight.headers["access-control-allow-methods"] == "POST, OPTIONS"
        refused = await served.http.post("/greet", json="Ada", headers=origin)
        error_of(refused, 401, "Unauthorized")
        # A page may read why it was refused.
        assert refused.headers["access-control-allow-origin"] == "https://app.example"
        answered = await served.http.post("/greet", json="Ada", headers=origin | {"Authorization": "Bearer secret"})
        assert answered.headers["access-control-allow-origin"] == "https://app.example"
        assert answered.headers["vary"] == "Origin"
        error_of(await served.http.options("/greet", headers={"Origin": "https://evil.example"}), 403, "Forbidden")


# -- limits


async def test_a_body_that_says_it_is_too_large_is_refused_unread() -> None:
    async with serving(Service, http=Http(max_body=100)) as served:
        reader, writer = await served.raw(served.post("/greet", b"x" * 101)[:-101])
        status, _, body = await read_response(reader)
        assert (status, json.loads(body)["error"]["type"]) == (413, "PayloadTooLarge")
        assert "100 bytes" in json.loads(body)["error"]["message"]
        # The client sends the rest all the same; the connection stays good for the next request.
        writer.write(b"x" * 101 + served.post("/greet", b'"Ada"'))
        assert (await read_response(reader))[2] == b'"hello Ada"'
        writer.close()


async def test_a_body_without_a_length_is_counted_as_it_comes(face: Face) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 10

    async with serving(Service, face=face, http=Http(max_body=100)) as served:
        error_of(await served.http.post("/greet", content=chunks()), 413, "PayloadTooLarge")
        assert (await served.http.post("/greet", json="Ada")).json() == "hello Ada"


async def test_an_endless_body_is_cut_off() -> None:
    async with serving(Service, http=Http(max_body=100), limits=Limits(drain=1000)) as served:
        head = served.post("/greet", b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        reader, writer = await served.raw(head)
        with contextlib.suppress(ConnectionError):
            for _ in range(100_000):
                if reader.at_eof():
                    break
                writer.write(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
                await writer.drain()
                await asyncio.sleep(0)
            else:
                pytest.fail("the server read 100 MB of a body that may have 100 bytes")
        writer.transport.abort()
        assert (await served.http.get("/healthz")).status_code == 200


async def test_a_length_beyond_all_numbers_is_too_large(listening: Served) -> None:
    head = listening.post("/greet", b"").replace(b"Content-Length: 0", b"Content-Length: " + b"9" * 5000)
    reader, writer = await listening.raw(head)
    assert (await read_response(reader))[0] == 413
    writer.close()


async def test_a_client_that_asks_first_is_not_told_to_go_on() -> None:
    async with serving(Service, http=Http(max_body=100)) as served:
        request = served.post("/greet", b"x" * 101, "Expect: 100-continue")[:-101]
        reader, writer = await served.raw(request)
        status, headers, _ = await read_response(reader)
        assert (status, headers["connection"]) == (413, "close")
        assert await soon(reader.read()) == b""
        writer.close()


async def test_a_client_that_asks_first_may_go_on(listening: Served) -> None:
    request = listening.post("/greet", b'"Ada"', "Expect: 100-continue")
    reader, writer = await listening.raw(request[:-5])
    assert (await soon(reader.readuntil(b"\r\n\r\n"))).startswith(b"HTTP/1.1 100")
    writer.write(request[-5:])
    assert (await read_response(reader))[2] == b'"hello Ada"'
    writer.close()


async def test_headers_that_do_not_come_end_the_connection() -> None:
    async with serving(Service, limits=Limits(idle=0.1)) as served:
        reader, writer = await served.raw(b"POST /greet HTTP/1.1\r\nHost: ")
        with contextlib.suppress(ConnectionError):  # it may have ended before that came
            assert await soon(reader.read()) == b""
        writer.close()


async def test_a_body_that_does_not_come_is_a_408() -> None:
    async with serving(Service, limits=Limits(body_seconds=0.1)) as served:
        reader, writer = await served.raw(served.post("/greet", b'"Ada"')[:-3])
        status, _, body = await read_response(reader)
        assert (status, json.loads(body)["error"]["type"]) == (408, "SlowRequest")
        assert await soon(reader.read()) == b""
        writer.close()


async def test_headers_without_end_are_cut_off() -> None:
    async with serving(Service, limits=Limits(header_bytes=1000)) as served:
        reader, writer = await served.raw(b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 2000)
        assert (await read_response(reader))[0] == 431
        assert await soon(reader.read()) == b""
        writer.close()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"POST /greet HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /greet HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"POST /greet HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /greet HTTP/1.1\r\nHost: a@localhost\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_refused(listening: Served, request_bytes: bytes) -> None:
    reader, writer = await listening.raw(request_bytes)
    assert (await soon(reader.readline())).startswith(b"HTTP/1.1 400 ")
    writer.close()
    assert (await listening.http.get("/healthz")).status_code == 200


# -- connections


async def test_requests_may_be_sent_ahead(listening: Served) -> None:
    names = [f"n{i}" for i in range(20)]
    reader, writer = await listening.raw(b"".join(listening.post("/greet", json.dumps(n).encode()) for n in names))
    assert [(await read_response(reader))[2] for _ in names] == [f'"hello {n}"'.encode() for n in names]
    writer.close()


async def test_a_stream_and_a_call_on_one_connection(listening: Served) -> None:
    body = b'{"n": 2}'
    reader, writer = await listening.raw(listening.post("/count", body) + listening.post("/greet", b'"Ada"'))
    head = await soon(reader.readuntil(b"\r\n\r\n"))
    assert b"Transfer-Encoding: chunked" in head
    assert await soon(reader.readuntil(b"0\r\n\r\n")) == b"2\r\n0\n\r\n2\r\n1\n\r\n0\r\n\r\n"
    assert (await read_response(reader))[2] == b'"hello Ada"'
    writer.close()


async def test_two_servers_may_share_a_socket() -> None:
    sock = listening_socket()
    spec = declare(Service, {})
    servers = [HttpServer(Runtime(spec), Access()) for _ in range(2)]
    for server in servers:
        server.listen(sock.dup())
    port = sock.getsockname()[1]
    sock.close()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        assert (await http.get("/healthz")).status_code == 200
    await servers[0].stop(0)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        assert (await http.get("/healthz")).status_code == 200
    await servers[1].stop(0)


async def test_stopping_lets_calls_finish_and_closes_idle_connections(listening: Served) -> None:
    idle, idle_writer = await listening.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await read_response(idle)
    busy, busy_writer = await listening.raw(listening.post("/wait", b""))
    await soon(listening.instance.reached.wait())
    stopping = asyncio.create_task(listening.server.stop(60))
    assert await soon(idle.read()) == b""
    with pytest.raises(ConnectionError):
        await listening.raw(b"")
    assert not stopping.done()
    listening.instance.release.set()
    status, headers, body = await read_response(busy)
    assert (status, headers["connection"], body) == (200, "close", b'"waited"')
    await soon(stopping)
    assert await soon(busy.read()) == b""
    idle_writer.close()
    busy_writer.close()


async def test_stopping_does_not_wait_for_ever(listening: Served) -> None:
    reader, writer = await listening.raw(listening.post("/wait", b""))
    await soon(listening.instance.reached.wait())
    await listening.server.stop(0.01)
    status, headers, body = await read_response(reader)
    assert (status, json.loads(body)["error"]["type"]) == (503, "ServiceUnavailable")
    assert headers["retry-after"] == "1"
    await soon(listening.instance.ended.wait())
    assert listening.runtime.contexts[0].cancelled
    writer.close()


# -- errors


async def test_an_exception_of_the_api_is_told_and_its_traceback_logged(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "nbcompose.http"):
        response = await served.http.post("/fail", json="value")
    error = error_of(response, 500, "ValueError")
    assert error["message"] == "what the author said"
    assert "Traceback" not in response.text
    (record,) = (r for r in caplog.records if r.name == "nbcompose.http")
    assert error["id"] in record.getMessage()
    assert caplog.text.count("what the author said") == 1
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[0] is ValueError


async def test_strangers_do_not_see_what_went_wrong(face: Face, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(Service, face=face, loopback=False) as served:
        for kind in ("value", "remote"):
            response = await served.http.post("/fail", json=kind)
            error = error_of(response, 500, "InternalError")
            assert "author" not in response.text
            assert "Distant" not in response.text
            assert error["id"] in caplog.text
        error_of(await served.http.post("/greet", json={}), 422, "InvalidArgument")


async def test_an_exception_from_afar_keeps_its_type(served: Served) -> None:
    error_of(await served.http.post("/fail", json="remote"), 500, "Distant")


async def test_a_full_service_says_when_to_come_back(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    response = await served.http.post("/fail", json="full")
    error_of(response, 429, "Overloaded")
    assert response.headers["retry-after"] == "1"
    assert caplog.records == []


async def test_every_problem_is_listed(served: Served) -> None:
    response = await served.http.post("/greet", json={"times": "often", "x": 1})
    error = error_of(response, 422, "InvalidArgument")
    assert len(error["problems"]) >= 2
    assert all(problem.keys() >= {"loc", "msg", "type"} for problem in error["problems"])


async def test_no_token_is_ever_logged(face: Face, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(Service, face=face, token="secret") as served:
        with caplog.at_level(logging.DEBUG):
            await served.http.post("/fail", json="value", headers={"Authorization": "Bearer secret"})
            await served.http.post("/fail", json="value", headers={"Authorization": "Bearer guess"})
    assert "secret" not in caplog.text
    assert "guess" not in caplog.text
    assert InvalidArgument.__name__ not in caplog.text


# -- deadlines and traces


@pytest.mark.parametrize(("given", "passed"), [("2.5", 2.5), ("1e9", 60.0), ("0", 0.0), (None, 60.0)])
async def test_the_callers_timeout_is_the_calls(served: Served, given: str | None, passed: float) -> None:
    headers = {} if given is None else {"X-Request-Timeout": given}
    await served.http.post("/greet", json="Ada", headers=headers)
    assert [c.allowed for c in served.runtime.contexts] == [passed]


@pytest.mark.parametrize("given", ["soon", "-1", "nan", "inf", ""])
async def test_a_timeout_is_a_number(served: Served, given: str) -> None:
    response = await served.http.post("/greet", json="Ada", headers={"X-Request-Timeout": given})
    assert "X-Request-Timeout" in error_of(response, 400, "BadRequest")["message"]


async def test_a_trace_goes_on(served: Served) -> None:
    response = await served.http.post("/greet", json="Ada", headers={"traceparent": format_traceparent(5, 6)})
    assert (served.runtime.contexts[0].trace_id, served.runtime.contexts[0].span_id) == (5, 6)
    parsed = parse_traceparent(response.headers["traceparent"])
    assert parsed is not None
    assert parsed[0] == 5


@pytest.mark.parametrize("flags", ["00", "01"])
@pytest.mark.parametrize("state", ["", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"])
async def test_flags_and_state_of_a_trace_go_on(served: Served, flags: str, state: str) -> None:
    headers = {"traceparent": format_traceparent(5, 6)[:-2] + flags, "tracestate": state}
    for route, document in (("/greet", "Ada"), ("/count", {"n": 1}), ("/greet", {})):
        response = await served.http.post(route, json=document, headers=headers)
        assert response.headers["traceparent"].endswith(f"-{flags}")
    assert [(c.trace_flags, c.trace_state) for c in served.runtime.contexts] == [(int(flags), state)] * 2


async def test_a_state_without_a_trace_is_dropped(served: Served) -> None:
    await served.http.post("/greet", json="Ada", headers={"traceparent": "00-nonsense", "tracestate": "a=b"})
    assert served.runtime.contexts[0].trace_state == ""


async def test_every_answer_is_counted(face: Face) -> None:
    calls: list[tuple[str, int, dict[str, Any]]] = [
        ("/greet", 200, {"json": "Ada"}),
        ("/greet", 400, {"content": b"{", "headers": {"Content-Type": "application/json"}}),
        ("/greet", 400, {"json": "Ada", "headers": {"X-Request-Timeout": "soon"}}),
        ("/greet", 406, {"json": "Ada", "headers": {"Accept": "image/png"}}),
        ("/greet", 413, {"content": b"x" * 2000}),
        ("/greet", 415, {"content": b"x", "headers": {"Content-Type": "application/xml"}}),
        ("/greet", 422, {"json": {}}),
        ("/fail", 429, {"json": "full"}),
        ("/fail", 500, {"json": "value"}),
        ("/count", 200, {"json": {"n": 1}}),
        ("", 404, {"json": {}}),
    ]
    async with serving(Service, face=face, http=Http(max_body=1000)) as small:
        for route, status, request in calls:
            assert (await small.http.post(route or "/nowhere", **request)).status_code == status
        error_of(await small.http.get("/greet"), 405, "MethodNotAllowed")
        assert small.runtime.answers == Counter([*((route, status) for route, status, _ in calls), ("/greet", 405)])
        refused = ["BadRequest", "BadRequest", "NotAcceptable", "UnsupportedMediaType", "InvalidArgument"]
        assert small.runtime.refusals == [("greet", name) for name in refused]
    async with serving(Service, face=face, token="secret") as guarded:
        error_of(await guarded.http.post("/greet", json="Ada"), 401, "Unauthorized")
        error_of(await guarded.http.get("/nowhere"), 401, "Unauthorized")
        assert guarded.runtime.answers == {("/greet", 401): 1, ("", 401): 1}


@pytest.mark.parametrize("headers", [{}, {"traceparent": "00-nonsense"}])
async def test_a_trace_begins(served: Served, headers: dict[str, str]) -> None:
    begun = []
    for route, document in (("/greet", "Ada"), ("/fail", "value"), ("/count", {"n": 1}), ("/greet", {})):
        response = await served.http.post(route, json=document, headers=headers)
        parsed = parse_traceparent(response.headers["traceparent"])
        assert parsed is not None
        begun.append(parsed[0])
    assert begun[:3] == [c.trace_id for c in served.runtime.contexts]
