"""Whatever a client sends, it gets an answer, and no answer says that the service is at fault."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import BaseModel

from nbcompose._service.decorators import api
from tests.replica.http.http_server import Served, serving


class Point(BaseModel):
    x: float
    name: str = ""


class Service:
    """Takes one of each."""

    @api
    async def text(self, text: str) -> str:
        return text

    @api
    async def file(self, file: Path) -> int:
        return file.stat().st_size  # noqa: ASYNC240

    @api
    async def raw(self, raw: bytes) -> bytes:
        return raw

    @api
    async def image(self, image: Image.Image) -> Image.Image:
        return image

    @api
    async def array(self, array: np.ndarray) -> int:
        return array.size

    @api
    async def table(self, table: pd.DataFrame | None = None) -> int:
        return 0 if table is None else len(table)

    @api
    async def mixed(
        self, f: list[Path], tags: list[str], p: Point | None = None, n: int = 1, a: Any = None, on: bool = False
    ) -> list[Any]:
        return [len(f), tags, n, a, on]

    @api
    async def tell(self, text: str) -> AsyncIterator[str]:
        yield text


ROUTES = ["/text", "/file", "/raw", "/image", "/array", "/table", "/mixed", "/tell"]
NAMES = ["text", "file", "raw", "image", "array", "table", "f", "tags", "p", "n", "a", "on", "x", ""]
TYPES = [
    "application/json",
    "application/json; charset=latin-1",
    "multipart/form-data; boundary=b",
    'multipart/form-data; boundary="b"',
    "multipart/form-data; boundary*=utf-8''b",
    "multipart/form-data; boundary*=no''b",
    "multipart/form-data",
    "application/x-www-form-urlencoded",
    "text/plain; charset=utf-16",
    "text/plain; charset=idna",
    "text/plain; charset*=utf-8''utf-8",
    "application/x-npy",
    "image/png",
    "application/octet-stream",
]
CODINGS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}

# Header values as a client may put them on the line.
values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30).map(str.strip)
# What such bodies are made of; a space stands between two.
PIECES = rb"""--b --b-- \r\n \n : ; = & % + " { } [ ] null 1e999 NaN "\ud800" ;name="f" ;name="tags" ;filename="a"
    Content-Disposition:form-data Content-Type:application/json Content-Type:text/plain;charset=rot13
    ;filename*=utf-8''%ff""".split()
LINES = {rb"\r\n": b"\r\n", rb"\n": b"\n"}
BYTES = [b"\x93NUMPY\x01\x00", b"\x89PNG", b"\xff", b"\xed\xa0\x80", b"\x00"]
pieces = st.sampled_from([*(LINES.get(piece, piece) for piece in PIECES), *BYTES])
FILES = ["", ';filename=""', ';filename="a.json"', ";filename*=utf-8''%E9", ";filename*=x"]


@st.composite
def forms(draw: st.DrawFn) -> bytes:
    """A form, more or less."""
    parts = []
    for _ in range(draw(st.integers(0, 4))):
        name, file = draw(st.sampled_from(NAMES)), draw(st.sampled_from(FILES))
        kind = draw(st.one_of(st.just(""), st.sampled_from(TYPES).map(lambda t: f"\r\nContent-Type: {t}")))
        head = f'--b\r\nContent-Disposition: form-data; name="{name}"{file}{kind}\r\n\r\n'
        parts.append(head.encode() + draw(st.one_of(st.binary(max_size=40), pieces)) + b"\r\n")
    return b"".join(parts) + draw(st.sampled_from([b"--b--\r\n", b"--b--", b"", b"--b\r\n"]))


bodies = st.one_of(st.binary(max_size=200), st.lists(pieces, max_size=12).map(b"".join), forms())
requests = st.tuples(
    st.sampled_from(ROUTES),
    st.one_of(st.none(), st.sampled_from(TYPES), values),
    st.one_of(st.none(), st.sampled_from(["gzip", "deflate", "br", "gzip, deflate"]), values),
    st.one_of(st.none(), st.sampled_from(["*/*", "application/json", "image/*;q=0.5", "text/plain"]), values),
    bodies,
    st.booleans(),
)


@pytest.fixture(scope="module")
def runner() -> Any:
    """A server for all examples, and the loop that it is on."""
    with asyncio.Runner() as it:
        stack = AsyncExitStack()
        served: Served = it.run(stack.enter_async_context(serving(Service)))
        yield it, served
        it.run(stack.aclose())


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(requests)
@example(("/text", "application/json", None, None, b'{"text": "\\ud800"}', False))
@example(("/text", "text/plain; charset=utf-16", None, None, b"\x00\xd8", False))
@example(("/tell", "application/json", None, "text/plain", b'"a"', False))
@example(("/mixed", "multipart/form-data; boundary=b", None, None, b"--b--", False))
@example(("/table", "application/json", None, None, b'{"table": {"a": [1], "b": []}}', False))
@example(("/image", "image/png", "gzip", "image/*", b"\x89PNG", True))
@example(("/array", "application/x-npy", None, None, b"\x93NUMPY\x01\x00", False))
def test_whatever_comes_is_answered(
    runner: tuple[asyncio.Runner, Served], given_: tuple[str, str | None, str | None, str | None, bytes, bool]
) -> None:
    loop, served = runner
    route, media_type, coding, accept, body, packed = given_
    if packed and coding in CODINGS:
        body = CODINGS[coding](body)
    headers = {"Content-Type": media_type, "Content-Encoding": coding, "Accept": accept}
    sent = {name: value for name, value in headers.items() if value is not None}
    response = loop.run(_post(served, route, body, sent))
    assert response.status_code < 500, (route, sent, body, response.text)
    if response.status_code >= 400:
        assert response.json()["error"].keys() - {"problems"} == {"type", "message", "id"}


async def _post(served: Served, route: str, body: bytes, headers: dict[str, str]) -> httpx.Response:
    return await served.http.post(route, content=body, headers=headers)
