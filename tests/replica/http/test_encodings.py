"""Compressed bodies: read, bounded, or refused with what is read."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcompose._replica.http.requests import MAX_MEMBERS, decoded
from nbcompose._service.decorators import api
from nbcompose._spec import Http
from nbcompose.errors import BadRequest, CallError, PayloadTooLarge, UnsupportedMediaType
from tests.replica.http.http_server import Face, Served, error_of, serving

gzipped = partial(gzip.compress, mtime=0)  # without the time in it, which would be in names of cases


def bare_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzipped,
    "x-gzip": gzipped,
    "GZip": gzipped,
    "deflate": zlib.compress,
    " deflate ": bare_deflate,
    "identity": bytes,
    "identity, gzip": gzipped,
    "deflate, gzip": lambda data: gzipped(zlib.compress(data)),
    "": bytes,
}


@pytest.mark.parametrize("coding", FORMS)
@pytest.mark.parametrize("data", [b"", b"x", b"hello " * 100_000, bytes(range(256)) * 1000])
async def test_what_was_packed_is_unpacked(coding: str, data: bytes) -> None:
    assert await decoded(FORMS[coding](data), coding, len(data) + 100) == data


async def test_a_gzip_file_may_have_several_members() -> None:
    parts = [b"a", b"", b"b" * 200_000, b"c"]
    assert await decoded(b"".join(map(gzipped, parts)), "gzip", 10**6) == b"".join(parts)
    with pytest.raises(BadRequest, match="something follows its end"):
        await decoded(gzipped(b"") * (MAX_MEMBERS + 1), "gzip", 10)


@pytest.mark.parametrize(
    ("coding", "body", "error", "told"),
    [
        ("br", b"x", UnsupportedMediaType, "Content-Encoding: br is not read; there is gzip, deflate"),
        ("zstd", b"x", UnsupportedMediaType, "there is gzip, deflate"),
        ("gzip, br", b"x", UnsupportedMediaType, "there is gzip, deflate"),
        ("gzip, gzip, gzip", b"x", UnsupportedMediaType, "there is gzip, deflate"),
        ("gzip", b"not at all", BadRequest, "the body is not gzip: .*header"),
        ("gzip", zlib.compress(b"x"), BadRequest, "the body is not gzip"),
        ("gzip", gzipped(b"x" * 1000)[:-9], BadRequest, "the body is not gzip: it ends too early"),
        ("gzip", gzipped(b"x") + b"rest", BadRequest, "the body is not gzip"),
        ("deflate", zlib.compress(b"x") + b"rest", BadRequest, "something follows its end"),
        ("deflate", b"\x78\x9c\xff\xff", BadRequest, "the body is not deflate"),
        ("deflate", b"x", BadRequest, "the body is not deflate"),
        ("gzip", gzipped(bytes(1001)), PayloadTooLarge, "larger than the 1,000 bytes .* unpacked"),
        ("gzip", gzipped(bytes(10**8)), PayloadTooLarge, "larger than the 1,000 bytes"),
        ("gzip, gzip", gzipped(gzipped(bytes(10**8))), PayloadTooLarge, "larger than the 1,000 bytes"),
    ],
)
async def test_what_is_refused(coding: str, body: bytes, error: type[CallError], told: str) -> None:
    with pytest.raises(error, match=told):
        await decoded(body, coding, 1000)


@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate"]), st.integers(0, 5))
async def test_whatever_comes_has_an_answer(data: bytes, coding: str, cut: int) -> None:
    packed = FORMS[coding](data)
    for body in (data, packed[: len(packed) - cut], packed + data):
        try:
            assert len(await decoded(body, coding, 200)) <= 200
        except CallError as error:
            assert error.status in (400, 413)  # noqa: PT017


class Service:
    @api
    async def size(self, text: str) -> int:
        return len(text)


@pytest.fixture
async def served(face: Face) -> AsyncIterator[Served]:
    async with serving(Service, http=Http(max_body=10_000), face=face) as it:
        yield it


@pytest.mark.parametrize("media_type", ["application/json", "text/plain"])
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_compressed_body_is_read(served: Served, coding: str, media_type: str) -> None:
    data = b'{"text": "abc"}' if media_type == "application/json" else b"abc"
    headers = {"Content-Type": media_type, "Content-Encoding": coding}
    assert (await served.http.post("/size", content=FORMS[coding](data), headers=headers)).json() == 3


@pytest.mark.parametrize(
    ("coding", "body", "status", "type_name"),
    [
        ("br", b"{}", 415, "UnsupportedMediaType"),
        ("zstd", b"{}", 415, "UnsupportedMediaType"),
        ("gzip", b"{}", 400, "BadRequest"),
        ("gzip", gzipped(bytes(10**7)), 413, "PayloadTooLarge"),
    ],
)
async def test_one_that_is_not_is_told_why(
    served: Served, coding: str, body: bytes, status: int, type_name: str
) -> None:
    response = await served.http.post("/size", content=body, headers={"Content-Encoding": coding})
    error: dict[str, Any] = error_of(response, status, type_name)
    assert status != 415 or "gzip, deflate" in error["message"]
    assert response.headers["accept-encoding"] == "gzip, deflate"
    assert served.runtime.refusals == [("size", type_name)]
    assert served.runtime.answers == {("/size", status): 1}
