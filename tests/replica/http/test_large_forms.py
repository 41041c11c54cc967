"""What is large in a form is cut out before tornado reads it; the form is the same as if it had not been."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tornado import httputil

from nbcompose._replica.http import requests
from nbcompose._service.decorators import api
from nbcompose.errors import BadRequest, PayloadTooLarge
from tests.replica.http.http_server import serving

HEAD = b'Content-Disposition: form-data; name="%s"; filename="f"\r\n\r\n'


def form(boundary: bytes, *texts: bytes) -> bytes:
    parts = (b"--%s\r\n%s%s\r\n" % (boundary, HEAD % b"n%d" % n, text) for n, text in enumerate(texts))
    return b"".join((*parts, b"--%s--\r\n" % boundary))


@st.composite
def forms(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A boundary, and a body that may be a form: texts hold what looks like delimiters."""
    boundary = draw(st.sampled_from([b"x" * 40, b"-----", b"a", b"-", b"ab-ab"]))
    looks = [b"--%s--", b"--%s", b"--%s\r\n", b"%s"]
    bits = st.sampled_from([look % boundary for look in looks] + [b"\r\n", b"\r\n\r\n", b"--", b"-", b"q", b"abc" * 9])
    text = st.lists(bits, max_size=12).map(b"".join)
    body = draw(st.sampled_from([b"", b"preamble"])) + form(boundary, *draw(st.lists(text, max_size=5)))
    return boundary, draw(st.sampled_from([body, body + draw(text), body[: draw(st.integers(0, len(body)))]]))


def parts_of(boundary: bytes, body: bytes) -> Any:
    try:
        return list(requests._parts(boundary, body))
    except (BadRequest, PayloadTooLarge) as error:
        return repr(error)


@settings(max_examples=300)
@given(forms(), st.sampled_from([0, 4, 20]), st.sampled_from([7, 50, 1000]))
def test_it_reads_what_tornado_reads(given_form: tuple[bytes, bytes], large: int, piece: int) -> None:
    expected = parts_of(*given_form)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests, "LARGE", large)
        patch.setattr(requests, "PIECE", piece)
        assert parts_of(*given_form) == expected


class Service:
    @api
    async def ends(self, files: list[bytes], note: str) -> list[str]:
        return [note, *(f"{len(data)} {data[:2]!r} {data[-2:]!r}" for data in files)]


async def test_tornado_gets_what_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    read = httputil.parse_multipart_form_data
    sizes: list[int] = []

    def noted(boundary: bytes, data: bytes, *args: Any, **kwargs: Any) -> None:
        sizes.append(len(data))
        read(boundary, data, *args, **kwargs)

    monkeypatch.setattr(requests, "parse_multipart_form_data", noted)
    large, larger = b"ab" + bytes(requests.LARGE) + b"yz", b"cd" + bytes(3 * requests.LARGE) + b"wx"
    async with serving(Service) as served:
        answer = await served.http.post(
            "/ends", files=[("files", large), ("note", (None, "n")), ("files", b"small"), ("files", larger)]
        )
    assert answer.json() == [
        "n", f"{len(large)} b'ab' b'yz'", "5 b'sm' b'll'", f"{len(larger)} b'cd' b'wx'",
    ]  # fmt: skip
    assert sizes[0] < 2000
