"""What one client may cost the others: connections, files, bodies, headers. Each limit is met, and is passed by one."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import json
import logging
import math
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import httpx
import numpy as np
import numpy.typing as npt
import pydantic
import pytest
import tornado
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import BaseModel, BeforeValidator, Field
from typing_extensions import TypedDict

from nbcompose._replica.http import requests
from nbcompose._replica.http.exchange import Limits
from nbcompose._schema import json_values, tempfiles
from nbcompose._service.decorators import api
from nbcompose._spec import Http
from nbcompose.errors import PayloadTooLarge
from tests.conftest import wait_for_end
from tests.patience import PATIENCE, wait_until
from tests.replica.http.http_server import Served, error_of, read_response, serving, soon
from tests.serve_process import NBCOMPOSE, run
from tests.serve_process import serving as serving_process

# -- connections and files, in a process that has few


@contextlib.contextmanager
def with_files(count: int | str, target: str, **environment: Any) -> Iterator[Any]:
    """`nbcompose serve` of a target where so many files may be open; what `ulimit -n` takes."""
    command = ("bash", "-c", f'ulimit -{count} && exec "$0" "$@"', NBCOMPOSE, "serve")
    with serving_process(target, "--port", "0", command=command, **environment) as served:
        yield served


def connected(url: str) -> socket.socket:
    parts = httpx.URL(url)
    return socket.create_connection((parts.host, parts.port))


@pytest.mark.system
def test_a_service_takes_as_many_files_as_it_may() -> None:
    with with_files("Sn 200", "limited_services:Limited") as served:
        soft, hard = httpx.post(f"{served.url}/limit").json()
        assert soft == min(hard, 65_536)
        assert soft > 200


@pytest.mark.system
def test_idle_connections_do_not_keep_others_out() -> None:
    with with_files("n 128", "limited_services:Limited") as served, contextlib.ExitStack() as stack:
        kept = stack.enter_context(httpx.Client(base_url=served.url))
        assert kept.post("/add", json=1).json() == 2
        idle = [stack.enter_context(connected(served.url)) for _ in range(300)]
        for number in range(50):
            assert kept.post("/add", json=number).json() == number + 1
        for one in idle[::30]:
            one.send(b"POST /add HTTP/1.1\r\nX-Slow: ")  # or nearly idle
        assert httpx.post(f"{served.url}/add", json=1).json() == 2
        with httpx.Client(base_url=served.url) as new:
            for number in range(50):
                assert kept.post("/add", json=number).json() == number + 1
                assert new.post("/add", json=number).json() == number + 1
        said = run("logs", "Limited", "--pid", str(served.process.pid)).stdout
        assert said.count("connections of clients") == 1, said
        assert "of 128 files that may be open" in said


@pytest.mark.system
def test_a_service_that_has_used_all_its_files_goes_on_once_it_has_some() -> None:
    with with_files("n 128", "limited_services:Limited") as served, contextlib.ExitStack() as stack:
        kept = stack.enter_context(httpx.Client(base_url=served.url))
        assert kept.post("/take_all").json() > 10
        waiting = connected(served.url)
        stack.enter_context(waiting)
        waiting.sendall(b"POST /pid HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        pid = kept.post("/pid").json()  # those who are connected are answered
        wait_until(
            lambda: "Too many open files" in run("logs", "Limited", "--pid", str(served.process.pid)).stdout,
            "it says that there are no files",
        )
        kept.post("/let_go")
        waiting.settimeout(PATIENCE)
        with waiting.makefile("rb") as answer:
            assert str(pid).encode() in answer.read()
        said = run("logs", "Limited", "--pid", str(served.process.pid)).stdout
        assert said.count("connections of clients") == 1, said


# -- connections, of a server that takes few


class Item(BaseModel):
    x: float
    near: float = math.inf


class Row(BaseModel):
    items: list[Item]


class Wide(BaseModel):
    model_config = pydantic.ConfigDict(allow_inf_nan=True)
    x: float


class Decimals(BaseModel):
    """Its own way to read a number comes first."""

    x: float

    @pydantic.field_validator("x", mode="before")
    @classmethod
    def _comma(cls, value: Any) -> Any:
        return value.replace(",", ".") if isinstance(value, str) else value


@dataclass
class Point:
    x: float
    y: float = math.inf


class Pair(NamedTuple):
    x: float


class Named(TypedDict):
    x: float


readers: list[int] = []  # threads


def _note(value: Any) -> Any:
    readers.append(threading.get_ident())
    return value


Noted = Annotated[Any, BeforeValidator(_note)]


class Service:
    """Takes whatever there are limits on."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.reached = asyncio.Semaphore(0)

    @api
    async def wait(self) -> str:
        self.reached.release()
        await self.release.wait()
        return "waited"

    @api
    async def any(self, v: Noted) -> str:
        return type(v).__name__

    @api
    async def text(self, text: str) -> int:
        return len(text)

    @api
    async def raw(self, raw: bytes) -> int:
        return len(raw)

    @api
    async def many(self, a: list[Any], b: list[Any] | None = None) -> int:
        return len(a)

    @api
    async def tags(self, tags: list[str]) -> int:
        return len(tags)

    @api
    async def image(self, image: Annotated[Image.Image, BeforeValidator(_note)]) -> int:
        return image.width

    @api
    async def real(self, x: float) -> str:
        return str(x)

    @api
    async def wide(self, x: Annotated[float, Field(allow_inf_nan=True)]) -> str:
        return str(x)

    @api
    async def reals(self, x: list[float]) -> str:
        return str(x)

    @api
    async def maybe(self, x: float | None = None) -> str:
        return str(x)

    @api
    async def either(self, x: float | str) -> str:
        return str(x)

    @api
    async def item(self, x: Item) -> str:
        return str(x)

    @api
    async def row(self, x: Row) -> str:
        return str(x)

    @api
    async def own(self, x: Wide) -> str:
        return str(x)

    @api
    async def decimals(self, x: Decimals) -> float:
        return x.x

    @api
    async def point(self, x: Point) -> str:
        return str(x)

    @api
    async def pair(self, x: Pair) -> str:
        return str(x)

    @api
    async def named(self, x: Named) -> str:
        return str(x)

    @api
    async def array(self, x: np.ndarray) -> int:
        return x.size

    @api
    async def floats(self, x: npt.NDArray[np.float32]) -> int:
        return x.size

    @api
    async def scalar(self, x: np.float64) -> float:
        return float(x)

    @api
    async def keyed(self, x: dict[str, float]) -> str:
        return str(x)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving(Service) as it:
        yield it


HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
FEW = Limits(connections=4)


async def test_connections_without_a_request_make_room_the_oldest_first(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(Service, limits=FEW) as served:
        kept, kept_writer = await served.raw(HEALTHZ)
        assert (await read_response(kept))[0] == 200
        idle = [await served.raw(b"GET /healthz HTTP/1.1\r\nX-Slow: "[: 30 * (i % 2)]) for i in range(20)]
        for reader, _ in idle[:17]:
            assert await soon(reader.read()) == b""
        for number, (reader, writer) in enumerate(idle[17:]):
            writer.write(b"x\r\nHost: localhost\r\n\r\n" if (17 + number) % 2 else HEALTHZ)
            assert (await read_response(reader))[0] == 200
        kept_writer.write(HEALTHZ)
        assert (await read_response(kept))[0] == 200
        for _, writer in [*idle, (kept, kept_writer)]:
            writer.close()
    (record,) = (r for r in caplog.records if r.name == "nbcompose.http")
    assert "at most 4 are kept" in record.getMessage()
    assert record.levelno == logging.WARNING


async def test_kept_connections_make_room_only_where_all_have_had_a_request() -> None:
    async with serving(Service, limits=FEW) as served:
        kept = []
        for _ in range(6):
            kept.append(await served.raw(HEALTHZ))
            assert (await read_response(kept[-1][0]))[0] == 200
        for reader, _ in kept[:2]:
            assert await soon(reader.read()) == b""
        for reader, writer in kept[2:]:
            writer.write(HEALTHZ)
            assert (await read_response(reader))[0] == 200
        for _, writer in kept:
            writer.close()


async def test_a_request_that_was_refused_before_its_body_came_makes_room() -> None:
    async with serving(Service, limits=FEW, token="secret") as served:
        refused = []
        for _ in range(4):
            refused.append(await served.raw(served.post("/text", b"x" * 99)[:-98]))
            assert (await read_response(refused[-1][0]))[0] == 401
        assert (await served.http.get("/healthz")).status_code == 200
        assert await soon(refused[0][0].read()) == b""
        for _, writer in refused:
            writer.close()


async def test_a_body_that_does_not_come_makes_room() -> None:
    async with serving(Service, limits=Limits(connections=4, pause=0.0)) as served:
        slow = [await served.raw(served.post("/text", b"x" * 99)[:-98]) for _ in range(4)]
        assert (await served.http.get("/healthz")).status_code == 200
        assert await soon(slow[0][0].read()) == b""
        for _, writer in slow:
            writer.close()


async def test_where_all_have_a_request_new_ones_wait() -> None:
    async with serving(Service, limits=FEW) as served:
        busy = [await served.raw(served.post("/wait", b"")) for _ in range(5)]
        for _ in busy:  # one more than the limit is let in, to see whether there is room
            await soon(served.instance.reached.acquire())
        new, writer = await served.raw(HEALTHZ)
        served.instance.release.set()
        for reader, _ in busy:
            assert (await read_response(reader))[2] == b'"waited"'
        busy[0][1].close()
        assert (await read_response(new))[0] == 200
        for _, each in [*busy, (new, writer)]:
            each.close()


# -- what is no request


def long_headers(size: int) -> bytes:
    head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: "
    return head + b"x" * (size - len(head) - 4) + b"\r\n\r\n"


CHUNKED = b"POST /text HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "status", "type_name", "message"),
    [
        pytest.param(long_headers(65_537), 431, "HeadersTooLarge", "65,536 bytes", id="headers"),
        pytest.param(long_headers(2_000_000), 431, "HeadersTooLarge", "65,536 bytes", id="endless headers"),
        pytest.param(b"GET /" + b"x" * 70_000, 431, "HeadersTooLarge", "65,536 bytes", id="target"),
        pytest.param(b"nonsense\r\n\r\n", 400, "BadRequest", "request line", id="no request"),
        pytest.param(b"GET / HTTP/2.0\r\n\r\n", 400, "BadRequest", "HTTP/2.0", id="version"),
        pytest.param(b"GET / HTTP/1.1\r\nnonsense\r\n\r\n", 400, "BadRequest", "colon", id="header"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n", 400, "BadRequest", "HTTP/1.1", id="null"),
        pytest.param(
            b"POST /text HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400, "BadRequest", "integer",
            id="length",
        ),
        pytest.param(
            b"POST /text HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 400,
            "BadRequest", "Content-Length", id="two lengths",
        ),
        pytest.param(
            b"POST /text HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n", 400, "BadRequest", "gzip",
            id="coding",
        ),
        pytest.param(CHUNKED + b"nonsense\r\n", 400, "BadRequest", "chunk size", id="chunk size"),
        pytest.param(CHUNKED + b"f" * 20 + b"\r\n", 400, "BadRequest", "too large", id="absurd chunk size"),
        pytest.param(CHUNKED + b"1" * 100, 400, "BadRequest", "more than a line", id="endless chunk size"),
        pytest.param(
            CHUNKED + b"1\r\nxyz\r\n", 400, "BadRequest", "terminated", id="chunk that does not end",
            marks=pytest.mark.skipif(tornado.version_info < (6, 6), reason="tornado closes the connection itself"),
        ),
    ],
)  # fmt: skip
async def test_what_is_no_request_is_told_so(
    served: Served, sent: bytes, status: int, type_name: str, message: str
) -> None:
    reader, writer = await served.raw(sent)
    told, headers, body = await read_response(reader)
    error = json.loads(body)["error"]
    assert (told, error["type"], headers["connection"]) == (status, type_name, "close")
    assert message in error["message"]
    assert error.keys() == {"type", "message", "id"}
    assert await soon(reader.read()) == b""
    writer.close()
    assert sum(n for (_, s), n in served.runtime.answers.items() if s == status) == 1
    assert (await served.http.get("/healthz")).status_code == 200


async def test_headers_at_the_limit_are_read(served: Served) -> None:
    reader, writer = await served.raw(long_headers(65_536))
    assert (await read_response(reader))[0] == 200
    writer.close()


async def test_a_reply_is_not_followed_by_another_one() -> None:
    async with serving(Service, http=Http(max_body=10)) as served:
        reader, writer = await served.raw(CHUNKED + b"20\r\n" + b"x" * 32 + b"\r\n")
        assert (await read_response(reader))[0] == 413
        writer.write(b"nonsense\r\n")
        assert await soon(reader.read()) == b""
        writer.close()


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://{host}/healthz", "{host}", 200),
        ("HTTP://localhost/healthz", "{host}", 200),
        ("http://{host}/healthz?x=1", "elsewhere.example", 403),
        ("http://elsewhere.example/healthz", "{host}", 403),
        ("https://127.0.0.1/healthz", "localhost", 200),
        ("http://{host}", "{host}", 302),
        ("http://{host}?x", "{host}", 302),
        ("http://me@{host}/healthz", "{host}", 400),
        ("ftp://{host}/healthz", "{host}", 404),
        ("http:///healthz", "{host}", 400),
    ],
)
async def test_a_whole_url_is_served_as_its_path(served: Served, target: str, host: str, status: int) -> None:
    head = f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".replace("{host}", served.host)
    reader, writer = await served.raw(head.encode())
    assert (await read_response(reader))[0] == status
    writer.close()


async def test_a_page_that_calls_by_a_whole_url_is_of_the_origin_that_it_names(served: Served) -> None:
    for origin, status in ((f"http://{served.host}", 200), ("http://elsewhere.example", 403)):
        head = f"GET http://{served.host}/healthz HTTP/1.1\r\nHost: {served.host}\r\nOrigin: {origin}\r\n\r\n"
        reader, writer = await served.raw(head.encode())
        assert (await read_response(reader))[0] == status
        writer.close()


# -- JSON: how deep, how many values


def values_of(text: bytes) -> tuple[int, int]:
    """Values and depth, one character after another."""
    values, depth, deepest, in_text, escaped = 1, 0, 0, False, False
    for c in text.decode("latin-1"):
        if in_text:
            in_text = escaped or c != '"'
            escaped = c == "\\" and not escaped
        elif c == '"':
            in_text = True
        elif c in "[{":
            values, depth = values + 1, depth + 1
            deepest = max(deepest, depth)
        elif c in "]}":
            depth -= 1
        elif c == ",":
            values += 1
    return values, deepest


scalars = st.one_of(
    st.none(), st.integers(), st.text('a"\\[]{},:\n\x00é', max_size=9), st.sampled_from(["\\", '"', "\\\\"])
)
trees = st.recursive(scalars, lambda t: st.one_of(st.lists(t), st.dictionaries(st.text('k"\\,[', max_size=3), t)))


@settings(max_examples=40)
@given(trees, st.integers(1, 40), st.booleans())
@example(["\\", '"', "\\\\", ["a\\"]], 1, False)
def test_values_are_counted_as_they_are(tree: Any, size: int, plain: bool) -> None:
    text = json.dumps(tree, ensure_ascii=plain).encode()
    values, depth = values_of(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_values, "SLICE", size)
        assert json_values.check(text, values) == values
        patch.setattr(json_values, "DEPTH", depth)
        assert json_values.check(text, values) == values
        if values > 1:
            with pytest.raises(PayloadTooLarge, match=f"more than the {values - 1:,} values"):
                json_values.check(text, values - 1)
        patch.setattr(json_values, "DEPTH", depth - 1)
        with pytest.raises(PayloadTooLarge, match="levels deep"):
            json_values.check(text, values)


def nested(depth: int, padding: int = 0) -> bytes:
    return b"[" * depth + b"0" + b" " * padding + b"]" * depth


@pytest.mark.parametrize("padding", [0, json_values.SMALL])
async def test_depth(served: Served, padding: int) -> None:
    body = b'{"v": %s}'
    response = await served.http.post("/any", content=body % nested(json_values.DEPTH - 1, padding))
    assert response.json() == "list"
    response = await served.http.post("/any", content=body % nested(json_values.DEPTH, padding))
    assert "200 levels deep" in error_of(response, 413, "PayloadTooLarge")["message"]


PAD = " " * json_values.SMALL


async def test_values() -> None:
    async with serving(Service, http=Http(max_values=1000)) as served:
        post = served.http.post
        # The object, its one field, the list and its items.
        assert (await post("/any", content=f'{{"v": [{PAD}{",".join("0" * 998)}]}}')).json() == "list"
        response = await post("/any", content=f'{{"v": [{PAD}{",".join("0" * 999)}]}}')
        error = error_of(response, 413, "PayloadTooLarge")["message"]
        assert "more than the 1,000 values" in error
        assert 'http={"max_values": ...}' in error
        # What is no JSON, or no structure, is not counted.
        assert (await post("/text", json={"text": "[," * json_values.SMALL})).json() == 2 * json_values.SMALL
        assert (
            await post("/raw", content=b"[," * json_values.SMALL, headers={"Content-Type": "application/x"})
        ).json() > 0
        assert (await post("/text", files={"text": (None, "[," * json_values.SMALL)})).json() == 2 * json_values.SMALL


async def test_bytes_of_json(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_values, "MOST_BYTES", 100_000)
    headers = {"Content-Type": "application/octet-stream"}
    for size, status in ((100_000, 200), (100_001, 413)):
        response = await served.http.post("/any", content=b'{"v":1%s}' % (b" " * (size - 7)))
        assert response.status_code == status
        assert (await served.http.post("/raw", content=bytes(size), headers=headers)).json() == size
    assert "100,000 bytes" in error_of(response, 413, "PayloadTooLarge")["message"]


@pytest.mark.parametrize("api", ["reals", "keyed"])
async def test_of_many_the_first_that_is_wrong_is_told(served: Served, api: str) -> None:
    for count, told in ((3, 3), (json_values.SMALL, 1)):
        wrong = ["a"] * count if api == "reals" else {str(i): "a" for i in range(count)}
        response = await served.http.post(f"/{api}", json={"x": wrong})
        assert len(error_of(response, 422, "InvalidArgument")["problems"]) == told


async def test_values_of_all_fields_of_a_form_are_counted_together() -> None:
    async with serving(Service, http=Http(max_values=1000)) as served:
        half = f"[{PAD}{','.join('0' * 498)}]"
        response = await served.http.post("/many", files={"a": (None, half), "b": (None, half)})
        assert response.json() == 498
        response = await served.http.post("/many", files={"a": (None, half), "b": (None, half[:-1] + ",0,0,0]")})
        assert "more than the 1,000 values" in error_of(response, 413, "PayloadTooLarge")["message"]


@pytest.mark.parametrize(
    ("body", "kind", "aside"),
    [
        (b'{"v": 1}', "application/json", False),
        (b'{"v": 1%s}' % PAD.encode(), "application/json", True),
        (b'{"v": 1%s}' % PAD.encode(), "Application/JSON; charset=utf-8", True),
        (b"v=1%s" % (b"+" * json_values.SMALL), "application/x-www-form-urlencoded", True),
    ],
)
async def test_a_large_body_is_read_aside(served: Served, body: bytes, kind: str, aside: bool) -> None:
    readers.clear()
    assert (await served.http.post("/any", content=body, headers={"Content-Type": kind})).status_code == 200
    assert readers
    assert (threading.get_ident() not in readers) is aside


async def test_an_image_is_decoded_aside_however_small_its_file_is(served: Served) -> None:
    file = io.BytesIO()
    Image.new("L", (900, 10)).save(file, "PNG")
    readers.clear()
    for request in ({"content": file.getvalue(), "headers": {"Content-Type": "image/png"}}, {"files": {"image": file}}):
        file.seek(0)
        assert (await served.http.post("/image", **request)).json() == 900
    assert readers
    assert threading.get_ident() not in readers


# -- bodies and forms


async def test_bytes_of_a_body() -> None:
    async with serving(Service, http=Http(max_body=1000)) as served:
        headers = {"Content-Type": "application/octet-stream"}
        for packed in ({}, {"Content-Encoding": "gzip"}):
            for size, status in ((1000, 200), (1001, 413)):
                content = gzip.compress(bytes(size)) if packed else bytes(size)
                response = await served.http.post("/raw", content=content, headers=headers | packed)
                assert response.status_code == status
            message = error_of(response, 413, "PayloadTooLarge")["message"]
            assert "1,000 bytes" in message
            assert ("unpacked" in message) is bool(packed)


async def test_a_boundary(served: Served) -> None:
    for length, status in ((requests.MAX_BOUNDARY, 200), (requests.MAX_BOUNDARY + 1, 400)):
        boundary = "b" * length
        form = f'--{boundary}\r\nContent-Disposition: form-data; name="text"\r\n\r\nabc\r\n--{boundary}--\r\n'
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        response = await served.http.post("/text", content=form.encode(), headers=headers)
        assert response.status_code == status
    assert "more than 70 characters" in error_of(response, 400, "BadRequest")["message"]


@pytest.mark.parametrize("form", ["multipart", "urlencoded"])
async def test_parts_of_a_form(served: Served, form: str) -> None:
    for count, status in ((requests.MAX_FIELDS, 200), (requests.MAX_FIELDS + 1, 413)):
        tags = ["a"] * count
        sent: dict[str, Any] = (
            {"files": [("tags", (None, t)) for t in tags]} if form == "multipart" else {"data": {"tags": tags}}
        )
        response = await served.http.post("/tags", **sent)
        assert response.status_code == status, response.text
    assert "more than the 1,000" in error_of(response, 413, "PayloadTooLarge")["message"]


async def test_bytes_of_an_urlencoded_form(served: Served) -> None:
    for size, status in ((requests.MAX_URLENCODED, 200), (requests.MAX_URLENCODED + 1, 413)):
        body = b"text=" + b"x" * (size - 5)
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        response = await served.http.post("/text", content=body, headers=headers)
        assert response.status_code == status
    assert "multipart/form-data" in error_of(response, 413, "PayloadTooLarge")["message"]


async def test_members_of_a_gzip_file(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "MAX_MEMBERS", 10)
    headers = {"Content-Type": "application/octet-stream", "Content-Encoding": "gzip"}
    for count, status in ((10, 200), (11, 400)):
        response = await served.http.post("/raw", content=gzip.compress(b"a") * count, headers=headers)
        assert response.status_code == status


# -- numbers of JSON are finite

LITERALS = ["NaN", "Infinity", "-Infinity"]
TEXTS = ['"NaN"', '"nan"', '"inf"', '"-inf"', '"Infinity"', '" nan "', "1e999", "-1e999", "1" * 400 + ".0"]


@pytest.mark.parametrize("number", [*LITERALS, *TEXTS])
@pytest.mark.parametrize(
    "route",
    ["/real", "/reals [%s]", "/maybe", '/item {"x": %s}', '/row {"items": [{"x": %s}]}', '/point {"x": %s}',
     "/pair [%s]", '/named {"x": %s}', '/keyed {"a": %s}', "/array [1, %s]", "/floats [[%s]]", "/scalar",
     '/decimals {"x": %s}'],
)  # fmt: skip
async def test_numbers_are_finite(served: Served, route: str, number: str) -> None:
    route, _, shape = route.partition(" ")
    text = f'{{"x": {(shape or "%s") % number}}}'
    response = await served.http.post(route, content=text, headers={"Content-Type": "application/json"})
    assert response.status_code == (400 if number in LITERALS else 422), response.text
    if shape == "" and number not in LITERALS:
        response = await served.http.post(route, files={"x": (None, number.strip('"'))})
        assert response.status_code == 422, response.text


@pytest.mark.parametrize(
    ("route", "sent", "got"),
    [
        ("/real", '{"x": "1.5"}', "1.5"),
        ("/real", '{"x": 1e308}', "1e+308"),
        ("/wide", '{"x": "inf"}', "inf"),
        ("/either", '{"x": "NaN"}', "NaN"),
        ("/item", '{"x": {"x": 1}}', "x=1.0 near=inf"),
        ("/own", '{"x": {"x": "nan"}}', "x=nan"),
        ("/point", '{"x": {"x": 1}}', "Point(x=1.0, y=inf)"),
        ("/any", '{"v": 1e999}', "float"),
        ("/any", '{"v": "NaN"}', "str"),
        ("/decimals", '{"x": {"x": "1,5"}}', 1.5),
    ],
)
async def test_what_is_finite_or_may_be_otherwise_is_read(served: Served, route: str, sent: str, got: Any) -> None:
    response = await served.http.post(route, content=sent)
    assert response.json() == got


# -- uploads of processes that were killed


def upload(url: str) -> threading.Thread:
    """A call that holds its file until its server ends."""

    def call() -> None:
        with contextlib.suppress(httpx.HTTPError):
            httpx.post(f"{url}/keep", files={"file": ("a.txt", b"12345")})

    thread = threading.Thread(target=call)
    thread.start()
    return thread


@pytest.mark.system
def test_uploads_of_a_replica_that_was_killed_are_removed(tmp_path: Path) -> None:
    where, place = tmp_path / "where", tmp_path / "tmp"
    place.mkdir()
    with serving_process("limited_services:Limited", "--port", "0", TMPDIR=str(place), WHERE=str(where)) as served:
        thread = upload(served.url)
        wait_until(where.exists, "the file is there")
        wait_until(where.read_text, "it says where")
        file = Path(where.read_text())
        assert file.read_bytes() == b"12345"
        assert place in file.parents
        os.kill(httpx.post(f"{served.url}/pid").json(), signal.SIGKILL)
        wait_until(lambda: not list(place.glob("nbcompose-uploads*")), "the folder is removed")
        thread.join(PATIENCE)
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(PATIENCE) == 0
    assert not list(place.glob("nbcompose-uploads*"))


@pytest.mark.system
def test_uploads_of_an_owner_that_was_killed_are_removed_by_the_next_and_those_in_use_stay(tmp_path: Path) -> None:
    place = tmp_path / "tmp"
    place.mkdir()

    @contextlib.contextmanager
    def holding(name: str) -> Iterator[tuple[Any, Path]]:
        where = tmp_path / name
        with serving_process("limited_services:Limited", "--port", "0", TMPDIR=str(place), WHERE=str(where)) as served:
            thread = upload(served.url)
            wait_until(lambda: where.exists() and where.read_text(), "the file is there")
            try:
                yield served, Path(where.read_text())
            finally:
                served.process.kill()
                thread.join(PATIENCE)

    with holding("first") as (living, kept):
        with holding("second") as (killed, left):
            pid = httpx.post(f"{killed.url}/pid").json()
            os.kill(pid, signal.SIGSTOP)  # else it may see the owner's end in time to remove it itself
            killed.process.kill()
            os.kill(pid, signal.SIGKILL)
            wait_for_end(pid)
            assert left.exists()
        with serving_process("limited_services:Below", "--port", "0", TMPDIR=str(place)):
            wait_until(lambda: not left.exists(), "the next owner removes it")
        assert kept.read_bytes() == b"12345"
        assert httpx.post(f"{living.url}/release").status_code == 200
        wait_until(lambda: not kept.exists(), "the call has ended")


def test_only_folders_of_uploads_that_nobody_locks_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    left = tmp_path / "nbcompose-uploads.abcdefgh"
    left.mkdir()
    (left / "link").symlink_to(outside)
    (tmp_path / "nbcompose-uploads.linkedto").symlink_to(outside)
    others = ["nbcompose-uploads.abcdefgh.bak", "nbcompose-uploads.ABCDEFGH", "nbcompose-upload-abcdefgh", "a"]
    for name in others:
        (tmp_path / name).mkdir()
    (tmp_path / "nbcompose-uploads.filefile").touch()
    with tempfiles.TempFiles() as ours:
        path = ours.write(b"a")
        tempfiles.sweep(str(tmp_path), str(tmp_path / "nowhere"))
        assert path.read_bytes() == b"a"
    assert not left.exists()
    assert (outside / "file").exists()
    found = {p.name for p in tmp_path.iterdir()}
    assert found == {*others, "outside", "nbcompose-uploads.filefile", "nbcompose-uploads.linkedto"}


def test_a_folder_that_is_swept_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    real = tempfiles._lock
    lost: list[Any] = []

    def swept_first(path: str) -> int | None:
        if len(lost) < 2:
            lost.append(path)
            fd = real(path)  # before, or after it was removed
            os.rmdir(path)
            if len(lost) == 2:
                return fd
            assert fd is not None
            os.close(fd)
            return real(path)
        return real(path)

    monkeypatch.setattr(tempfiles, "_lock", swept_first)
    with tempfiles.TempFiles() as ours:
        assert ours.write(b"a").read_bytes() == b"a"
    assert len(lost) == 2
    assert list(tmp_path.iterdir()) == []
