"""A Jupyter server as people start it, and a program that serves, each a process of its own."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.jupyter.started import TOKEN, started
from tests.patience import PATIENCE
from tests.replica.http.duplex import SocketDuplex, lines
from tests.serve_process import Served, serving

pytestmark = pytest.mark.system

SECRET = "the-services-token"
SIZE = 200_000_000
SERVICE = f"""
from collections.abc import AsyncIterator

from nbcompose import api, service

@service(http={{"max_body": {SIZE + 1_000_000}}})
class Store:
    @api
    def size(self, data: bytes) -> int:
        return len(data)

    @api
    async def upper(self, text: AsyncIterator[str]) -> AsyncIterator[str]:
        async for piece in text:
            yield piece.upper()
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """The address of a server below a base_url, and its pid."""
    with started(tmp_path_factory.mktemp("jupyter")) as server:
        yield server


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("store")
    (folder / "store.py").write_text(SERVICE)
    with serving("store.py", cwd=folder, NBCOMPOSE_TOKEN=SECRET) as served:
        yield served


def most_memory(pid: int) -> int:
    """The bytes that a process has held at most."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


async def parts(size: int) -> AsyncIterator[bytes]:
    piece = b"x" * 1_000_000
    yield b'--b\r\nContent-Disposition: form-data; name="data"; filename="d"\r\n\r\n'
    for _ in range(size // len(piece)):
        yield piece
    yield b"\r\n--b--\r\n"


async def test_an_upload_goes_up_in_constant_memory(base: tuple[str, int], store: Served) -> None:
    url, pid = base
    address = f"{url}nbcompose/at/serve-{store.process.pid}/Store/size"
    headers = {"Authorization": f"token {TOKEN}", "Content-Type": "multipart/form-data; boundary=b"}
    async with httpx.AsyncClient(timeout=PATIENCE, verify=False, headers=headers) as http:
        first = await http.post(address, content=parts(1_000_000))
        assert (first.status_code, first.json()) == (200, 1_000_000), first.text
        before = most_memory(pid)
        answer = await http.post(address, content=parts(SIZE))
        assert (answer.status_code, answer.json()) == (200, SIZE), answer.text
        assert most_memory(pid) - before < 32_000_000


async def test_a_refused_upload_takes_no_memory_and_reaches_no_service(base: tuple[str, int], store: Served) -> None:
    url, pid = base
    address = f"{url}nbcompose/at/serve-{store.process.pid}/Store/size"
    async with httpx.AsyncClient(timeout=PATIENCE, verify=False) as http:
        await http.get(f"{url}login")
        login = await http.post(f"{url}login", data={"password": TOKEN, "_xsrf": http.cookies["_xsrf"]})
        assert login.status_code == 302
        before, calls = most_memory(pid), await calls_of_store(http, url)
        # As from a page of this user that does not know the XSRF cookie: the connection is closed while it sends.
        with contextlib.suppress(httpx.WriteError, httpx.ReadError):
            headers = {"Content-Type": "multipart/form-data; boundary=b"}
            answer = await http.post(address, content=parts(SIZE), headers=headers)
            assert answer.status_code == 403, answer.text
        assert most_memory(pid) - before < 32_000_000
        assert await calls_of_store(http, url) == calls


async def calls_of_store(http: httpx.AsyncClient, url: str) -> list[tuple[int, int]]:
    """Of the services called so: how often they were called, and failed."""
    listed = (await http.get(f"{url}nbcompose/api/services")).json()["runtimes"]
    services = [service for runtime in listed for service in runtime["services"] if service["name"] == "Store"]
    assert services
    return [(service["calls"], service["errors"]) for service in services]


async def test_a_stream_goes_in_while_another_comes_out(base: tuple[str, int], store: Served) -> None:
    address = f"{base[0]}nbcompose/at/serve-{store.process.pid}/Store/upper"
    client = await SocketDuplex.open(address, "application/x-ndjson", TOKEN, Accept="application/x-ndjson")
    answer = lines(client)
    for word in ("one", "two"):  # the next is sent when the answer to the one before is there
        await client.send(f'{{"text": "{word}"}}\n'.encode())
        assert await client.status() == 200
        assert await anext(answer) == word.upper()
    await client.end()
    assert [item async for item in answer] == []
    await client.leave()


async def test_the_service_itself_wants_its_token(base: tuple[str, int], store: Served) -> None:
    async with httpx.AsyncClient(timeout=PATIENCE, verify=False) as http:
        assert (await http.get(f"{store.url}/openapi.json")).status_code == 401
        listed = await http.get(f"{base[0]}nbcompose/api/services", headers={"Authorization": f"token {TOKEN}"})
        links = [service["link"] for runtime in listed.json()["runtimes"] for service in runtime["services"]]
        link = next(link for link in links if f"serve-{store.process.pid}" in link)
        origin = base[0].removesuffix("/user/name/")
        document = await http.get(f"{origin}{link}openapi.json", headers={"Authorization": f"token {TOKEN}"})
        assert document.json()["info"]["title"] == "Store"
        assert SECRET not in listed.text + document.text
