"""A connection from Jupyter's server to a service, before a script that stands in for the service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from tornado.httputil import HTTPHeaders

from nbcompose._jupyter.upstream import Connections, Upstream
from tests.jupyter.proxied import Stand, stand
from tests.patience import PATIENCE

LENGTH = 2


class Ending:
    """Takes an answer; the request ends when all of that has come, and before anybody else hears of it."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self.said = b""

    def take_head(self, status: int, reason: str, headers: HTTPHeaders) -> None:
        assert status == 200

    def take_data(self, chunk: bytes) -> Awaitable[None] | None:
        self.said += chunk
        asyncio.get_running_loop().call_soon(self._upstream.end)
        return None


async def answers(made: Stand, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await made.head(reader)
        await reader.readexactly(LENGTH)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


async def test_an_answer_that_comes_before_the_end_of_the_request_was_noted_is_complete() -> None:
    connections = Connections()
    async with stand(answers) as made, asyncio.timeout(PATIENCE):
        for fresh in (True, False):
            upstream = await connections.open(("127.0.0.1", made.port))
            assert upstream.is_fresh is fresh
            upstream.begin("POST", "/ask", HTTPHeaders({"Host": "service", "Content-Length": str(LENGTH)}))
            upstream.send(b"{}")
            receiver = Ending(upstream)
            await upstream.receive(receiver)
            upstream.release()
            assert receiver.said == b"hello"
            assert connections.count == 1  # it is kept
        connections.close()


async def test_what_of_the_body_has_come_with_the_head_goes_with_it() -> None:
    """And a head whose body is still to be made goes alone: who waits for the answer to begin would wait for ever."""
    read: list[bytes] = []

    async def reads(made: Stand, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        read.append(await reader.read(65536))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    connections = Connections()
    async with stand(reads) as made, asyncio.timeout(PATIENCE):
        for begun in (b"{}", b""):
            upstream = await connections.open(("127.0.0.1", made.port))
            upstream.begin("POST", "/ask", HTTPHeaders({"Host": "service", "Content-Length": str(LENGTH)}))
            if begun:
                upstream.send(begun)
            await upstream.receive(Ending(upstream))
            assert read.pop().partition(b"\r\n\r\n")[2] == begun
            upstream.close()
        connections.close()
