"""Files, forms and texts over HTTP: what a request may bring, and what an answer is, by what `Accept` asks for."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from nbcompose._service.decorators import api
from tests.replica.http.http_server import Face, Served, error_of, serving, soon

JSON = "application/json"
OCTETS = "application/octet-stream"
IMAGES = ["image/png", "image/jpeg", "image/webp"]
PICTURE = Image.new("RGB", (3, 2), (1, 2, 3))


class Service:
    """Takes and gives files."""

    def __init__(self) -> None:
        self.folder: Path | None = None

    @api
    async def size(self, f: Path) -> int:
        return f.stat().st_size  # noqa: ASYNC240

    @api
    async def sizes(self, fs: list[Path], note: str = "") -> list[Any]:
        return [*(f.stat().st_size for f in fs), note]

    @api
    async def length(self, data: bytes | None = None) -> int | None:
        return None if data is None else len(data)

    @api
    async def shape(self, image: Image.Image) -> list[int]:
        return list(image.size)

    @api
    async def up(self, file: Path, tags: list[str]) -> list[str]:
        return tags

    @api
    async def echo(self, text: str, k: int = 1, maybe: str | None = None, on: bool = False) -> list[Any]:
        return [text, k, maybe, on]

    @api
    async def text(self, of: str = "é") -> str:
        return of

    @api
    async def number(self) -> float:
        return 2.5

    @api
    async def document(self) -> dict[str, int]:
        return {"a": 1}

    @api
    async def array(self) -> np.ndarray:
        return np.arange(3)

    @api
    async def picture(self, there: bool = True) -> Image.Image | None:
        return PICTURE if there else None

    @api
    async def raw(self) -> bytes:
        return b"\xff\x00"

    @api
    async def file(self, name: str = "a.pdf") -> Path:
        assert self.folder is not None
        return self.folder / name

    @api
    async def tell(self, fail_at: int = -1) -> AsyncIterator[str]:
        for i, text in enumerate(("é", "\n", '"q"')):
            if i == fail_at:
                raise ValueError(f"no {i}")
            yield text

    @api
    async def tick(self) -> AsyncIterator[int]:
        yield 1


@pytest.fixture
async def served(face: Face, tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(Service, face=face) as it:
        it.instance.folder = tmp_path
        for name in ("a.pdf", "b.unheard-of", "c.csv", 'é "d".txt'):
            (tmp_path / name).write_bytes(b"%PDF\xff")
        yield it


# -- files that come


@pytest.mark.parametrize(
    ("name", "data", "media_type"),
    [
        ("x.json", b'"aGVsbG8="', JSON),
        ("x.json", b"{}", JSON),
        ("x.csv", b"a,b\n", "text/csv"),
        ("x.md", b"# a", "text/markdown"),
        ("x.py", b"print()", "text/x-python"),
        ("x.zip", b"PK\xff", "application/zip"),
        ("x.docx", b"PK\xff", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("x.txt", b"aGVsbG8=", "text/plain"),
        ("x", b"\r\n--b\r\n\r\n", OCTETS),
    ],
)
async def test_a_file_is_its_bytes(served: Served, name: str, data: bytes, media_type: str) -> None:
    part = (name, data, media_type)
    assert (await served.http.post("/size", files={"f": part})).json() == len(data)
    assert (await served.http.post("/length", files={"data": part})).json() == len(data)
    several = await served.http.post("/sizes", files=[("fs", part), ("fs", part)], data={"note": "2024"})
    assert several.json() == [len(data), len(data), "2024"]
    assert (await served.http.post("/sizes", files={"fs": part})).json() == [len(data), ""]
    if media_type != JSON:  # which a body as a whole is
        raw = await served.http.post("/size", content=data, headers={"Content-Type": media_type})
        assert raw.json() == len(data)


async def test_a_form_may_have_many_files(served: Served) -> None:
    response = await served.http.post("/sizes", files=[("fs", (f"{i}", b"x")) for i in range(900)])
    assert response.json() == [*[1] * 900, ""]
    response = await served.http.post("/sizes", files=[("fs", (f"{i}", b"x")) for i in range(1001)])
    assert "more than the 1,000 parts" in error_of(response, 413, "PayloadTooLarge")["message"]


async def test_a_body_of_json_has_files_in_base64(served: Served) -> None:
    text = base64.b64encode(b"hello").decode()
    assert (await served.http.post("/size", json={"f": text})).json() == 5
    assert (await served.http.post("/size", json=text)).json() == 5
    assert (await served.http.post("/size", data={"f": text})).json() == 5


async def test_an_optional_file_may_be_left_out_of_a_form(served: Served) -> None:
    assert (await served.http.post("/length", data={"data": ""})).json() is None
    assert (await served.http.post("/length")).json() is None


@pytest.mark.parametrize("media_type", ["image/png", OCTETS, "image/svg+xml", "text/html"])
async def test_an_image_is_read_whatever_it_says(served: Served, media_type: str) -> None:
    buffer = io.BytesIO()
    PICTURE.save(buffer, "PNG")
    headers = {"Content-Type": media_type}
    assert (await served.http.post("/shape", content=buffer.getvalue(), headers=headers)).json() == [3, 2]
    files = {"image": ("a", buffer.getvalue(), media_type)}
    assert (await served.http.post("/shape", files=files)).json() == [3, 2]
    error_of(await served.http.post("/shape", content=b"<svg/>", headers=headers), 422, "InvalidArgument")


# -- texts that come


@pytest.mark.parametrize("tags", [["2024", "b"], ["true", "null", "1e5", '"quoted"', "{}"], ["2024"]])
async def test_a_text_field_is_a_text(served: Served, tags: list[str]) -> None:
    response = await served.http.post("/up", data={"tags": tags}, files={"file": ("a.bin", b"x")})
    assert response.json() == tags


@pytest.mark.parametrize("text", ["2024", "true", "null", '"quoted"', "[1]", "é & = + %", "a\r\nb", ""])
@pytest.mark.parametrize("is_multipart", [True, False])
async def test_a_form_of_texts(served: Served, text: str, is_multipart: bool) -> None:
    fields = {"text": text, "k": "7", "maybe": "5", "on": "on"}
    sent: dict[str, Any] = {"files": {n: (None, v) for n, v in fields.items()}} if is_multipart else {"data": fields}
    assert (await served.http.post("/echo", **sent)).json() == [text, 7, "5", True]


@pytest.mark.parametrize("body", [b"text=%ff", b"text=\xe9", b"no field"])
async def test_a_form_that_is_none_is_refused(served: Served, body: bytes) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    message = error_of(await served.http.post("/echo", content=body, headers=headers), 400, "BadRequest")["message"]
    assert "-H 'Content-Type: application/json'" in message


@pytest.mark.parametrize("media_type", ["nonsense", "text", "/", "a/b/c", "text/", "multipart/form-data"])
async def test_a_type_that_is_none_is_refused(served: Served, media_type: str) -> None:
    error_of(await served.http.post("/size", content=b"x", headers={"Content-Type": media_type}), 400, "BadRequest")


# -- answers


@pytest.mark.parametrize(
    ("route", "accept", "media_type", "body"),
    [
        ("/text", None, JSON, '"é"'.encode()),
        ("/text", "*/*", JSON, '"é"'.encode()),
        ("/text", "text/plain", "text/plain; charset=utf-8", "é".encode()),
        ("/text", "text/*, */*;q=0.1", "text/plain; charset=utf-8", "é".encode()),
        ("/number", "*/*", JSON, b"2.5"),
        ("/document", None, JSON, b'{"a":1}'),
        ("/array", "*/*", JSON, b"[0,1,2]"),
        ("/raw", None, OCTETS, b"\xff\x00"),
        ("/raw", JSON, JSON, b'"/wA="'),
        ("/file", None, "application/pdf", b"%PDF\xff"),
        ("/file", "*/*", "application/pdf", b"%PDF\xff"),
        ("/file", "application/*", "application/pdf", b"%PDF\xff"),
        ("/file", OCTETS, OCTETS, b"%PDF\xff"),
        ("/file", f"{OCTETS};q=0.5, application/pdf;q=0.9", "application/pdf", b"%PDF\xff"),
        ("/file", "image/*;q=0.9, application/json;q=0.1", JSON, b'"JVBERv8="'),
        ("/file", JSON, JSON, b'"JVBERv8="'),
        ("/tell", None, "application/x-ndjson", '"é"\n"\\n"\n"\\"q\\""\n'.encode()),
        ("/tell", "text/plain", "text/plain; charset=utf-8", 'é\n"q"'.encode()),
        ("/tell", "text/plain;q=0.5, application/x-ndjson;q=0.2", "text/plain; charset=utf-8", 'é\n"q"'.encode()),
        ("/tick", "*/*", "application/x-ndjson", b"1\n"),
    ],
)
async def test_what_an_answer_is(served: Served, route: str, accept: str | None, media_type: str, body: bytes) -> None:
    request = served.http.build_request("POST", route)
    del request.headers["Accept"]
    if accept is not None:
        request.headers["Accept"] = accept
    response = await served.http.send(request)
    assert (response.status_code, response.headers["content-type"]) == (200, media_type)
    assert response.content == body


@pytest.mark.parametrize(
    ("accept", "format_"),
    [
        ("*/*", "PNG"),
        ("image/*", "PNG"),
        ("image/jpeg", "JPEG"),
        ("image/*;q=0.5, image/webp", "WEBP"),
        ("image/avif,image/webp,image/png;q=0.9,*/*;q=0.1", "WEBP"),
        ("text/html, */*;q=0.1", "PNG"),
    ],
)
async def test_an_image_is_an_image(served: Served, accept: str, format_: str) -> None:
    response = await served.http.post("/picture", headers={"Accept": accept})
    assert response.headers["content-type"] == f"image/{format_.lower()}"
    image = Image.open(io.BytesIO(response.content))
    assert (image.format, image.size) == (format_, (3, 2))


async def test_json_is_there_for_those_who_ask_for_it(served: Served) -> None:
    response = await served.http.post("/picture", headers={"Accept": JSON})
    assert response.json().startswith("data:image/png;base64,")


async def test_no_image_is_null_where_json_will_do(served: Served) -> None:
    response = await served.http.post("/picture", json={"there": False})
    assert (response.headers["content-type"], response.json()) == (JSON, None)
    refused = await served.http.post("/picture", json={"there": False}, headers={"Accept": "image/*"})
    assert "there is application/json" in error_of(refused, 406, "NotAcceptable")["message"]


@pytest.mark.parametrize(
    ("route", "accept", "there_is"),
    [
        ("/picture", "application/pdf", [*IMAGES, JSON]),
        ("/picture", "image/*;q=0", [*IMAGES, JSON]),
        ("/file", "image/png", ["application/pdf", OCTETS, JSON]),
        ("/file", "*/*;q=0", ["*/*", OCTETS, JSON]),
        ("/number", "text/plain", [JSON]),
        ("/tell", JSON, ["application/x-ndjson", "text/event-stream", "text/plain"]),
        ("/tick", "text/plain", ["application/x-ndjson", "text/event-stream"]),
    ],
)
async def test_what_cannot_be_had(served: Served, route: str, accept: str, there_is: list[str]) -> None:
    message = error_of(await served.http.post(route, headers={"Accept": accept}), 406, "NotAcceptable")["message"]
    assert message.rpartition("there is ")[2].split(", ") == there_is


@pytest.mark.parametrize(
    ("name", "disposition"),
    [
        ("a.pdf", 'attachment; filename="a.pdf"'),
        ('é "d".txt', "attachment; filename=\"_ _d_.txt\"; filename*=UTF-8''%C3%A9%20%22d%22.txt"),
    ],
)
async def test_a_file_has_its_name(served: Served, name: str, disposition: str) -> None:
    response = await served.http.post("/file", json={"name": name})
    assert response.headers["content-disposition"] == disposition
    as_json = await served.http.post("/file", json={"name": name}, headers={"Accept": JSON})
    assert "content-disposition" not in as_json.headers


async def test_a_file_that_is_not_there_is_the_services_fault(served: Served) -> None:
    for accept in ("*/*", OCTETS, JSON):
        response = await served.http.post("/file", json={"name": "gone"}, headers={"Accept": accept})
        error_of(response, 500, "InvalidResult")


async def test_texts_come_as_they_are_made(served: Served) -> None:
    async with served.http.stream("POST", "/tell", headers={"Accept": "text/plain"}) as response:
        assert [chunk async for chunk in response.aiter_bytes()] == ["é".encode(), b"\n", b'"q"']


async def test_texts_that_end_in_an_error_are_cut_off(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    headers = {"Accept": "text/plain"}
    seen = []
    async with served.http.stream("POST", "/tell", json={"fail_at": 2}, headers=headers) as response:
        with pytest.raises(httpx.RemoteProtocolError):  # noqa: PT012  what comes before counts
            async for chunk in response.aiter_bytes():
                seen.append(chunk)
    assert b"".join(seen) == "é\n".encode()
    assert "ValueError: no 2" in caplog.text
    error_of(await served.http.post("/tell", json={"fail_at": 0}, headers=headers), 500, "ValueError")
    assert (await soon(served.http.get("/healthz"))).status_code == 200


async def test_the_line_for_curl_keeps_a_file(served: Served) -> None:
    for route, keeps in (("/picture", True), ("/file", True), ("/text", False), ("/tell", False)):
        message = error_of(await served.http.get(route), 405, "MethodNotAllowed")["message"]
        assert (" -o answer " in message) is keeps


async def test_the_document_names_what_is_given(served: Served) -> None:
    paths = (await served.http.get("/openapi.json")).json()["paths"]

    def given(route: str) -> Iterator[str]:
        return iter(paths[route]["post"]["responses"]["200"]["content"])

    assert list(given("/picture")) == [*IMAGES, JSON]
    assert list(given("/file")) == ["*/*", OCTETS, JSON]
    assert list(given("/text")) == [JSON, "text/plain"]
    assert list(given("/tell")) == ["application/x-ndjson", "text/event-stream", "text/plain"]
    assert list(given("/tick")) == ["application/x-ndjson", "text/event-stream"]
    assert json.dumps(paths)
