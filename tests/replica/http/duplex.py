"""A client that sends a body and reads the answer at once, over a socket or to an ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, Protocol

from tests.patience import PATIENCE
from tests.replica.http.asgi_client import App, Request


class Duplex(Protocol):
    """One request under way. `status` is known once an answer has begun."""

    async def send(self, data: bytes) -> None: ...

    async def end(self) -> None: ...

    async def status(self) -> int: ...

    async def read(self) -> bytes:
        """The next bytes of the answer; b"" at its end."""
        ...

    async def leave(self) -> None: ...


async def lines(answer: Duplex) -> AsyncIterator[Any]:
    """The JSON of each line of an answer, as it comes."""
    rest = b""
    while chunk := await answer.read():
        *found, rest = (rest + chunk).split(b"\n")
        for line in found:
            yield json.loads(line)
    assert not rest


class SocketDuplex:
    """Over a socket, with a chunked body."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._headers: dict[str, str] | None = None
        self._status = 0

    @classmethod
    async def open(cls, url: str, content_type: str, token: str | None = None, **headers: str) -> SocketDuplex:
        host, _, path = url.removeprefix("http://").partition("/")
        name, _, port = host.partition(":")
        reader, writer = await asyncio.open_connection(name, int(port))
        lines = [f"POST /{path} HTTP/1.1", f"Host: {host}", "Transfer-Encoding: chunked"]
        lines += [f"Content-Type: {content_type}", *([f"Authorization: Bearer {token}"] if token else [])]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        return cls(reader, writer)

    async def send(self, data: bytes) -> None:
        self._writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await asyncio.wait_for(self._writer.drain(), PATIENCE)

    async def end(self) -> None:
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    async def status(self) -> int:
        if self._headers is None:
            head = (await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), PATIENCE)).decode()
            first, *rest = head.strip().split("\r\n")
            self._status = int(first.split()[1])
            self._headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in rest)}
        return self._status

    async def read(self) -> bytes:
        await self.status()
        assert self._headers is not None
        if "content-length" in self._headers:
            left = int(self._headers.pop("content-length"))
            self._headers["content-length"] = "0"
            return await asyncio.wait_for(self._reader.readexactly(left), PATIENCE)
        size = int(await asyncio.wait_for(self._reader.readline(), PATIENCE), 16)
        data = await asyncio.wait_for(self._reader.readexactly(size + 2), PATIENCE)
        return data[:-2]

    async def leave(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class AsgiDuplex:
    """To an ASGI application, as a server passes a request on."""

    def __init__(self, app: App, path: str, content_type: str, query: str = "") -> None:
        headers = (("host", "127.0.0.1"), ("content-type", content_type))
        self._request = Request(app, path, headers, query=query.encode())
        self._status = 0

    async def send(self, data: bytes) -> None:
        self._request.send(data, more=True)

    async def end(self) -> None:
        self._request.send()

    async def status(self) -> int:
        if not self._status:
            start = await self._request.next()
            assert start is not None
            self._status = start["status"]
        return self._status

    async def read(self) -> bytes:
        await self.status()
        while (message := await self._request.next()) is not None:
            if message["body"]:
                return bytes(message["body"])
        return b""

    async def leave(self) -> None:
        self._request.disconnect()
        await asyncio.wait([self._request.task], timeout=PATIENCE)
