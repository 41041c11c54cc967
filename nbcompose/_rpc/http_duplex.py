"""A request over HTTP whose body is sent while its answer is read (`Duplex`), for streams as arguments.

httpx, and tornado's own clients, send a whole body before they read; tornado's connections need not.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Mapping
from urllib.parse import urlsplit

import httpx
from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters
from tornado.httputil import HTTPHeaders, HTTPInputError, HTTPMessageDelegate, RequestStartLine, ResponseStartLine
from tornado.iostream import IOStream, StreamClosedError
from tornado.tcpclient import TCPClient

from nbcompose._host import keep_numbers_from_children

AHEAD = 256 * 1024  # bytes of an answer that are read before they are wanted
HEADERS = 64 * 1024  # bytes


@functools.cache
def authorities() -> ssl.SSLContext:
    """Return who may vouch for a server of `https`: read once for all clients, as it takes tens of milliseconds."""
    return httpx.create_ssl_context()


class Gone(Exception):
    """The server has closed the connection, or what it says is not HTTP."""


class Duplex(HTTPMessageDelegate):
    """One request, on a connection of its own. One task sends, another one reads."""

    def __init__(self, stream: IOStream) -> None:
        self._loop = asyncio.get_running_loop()
        self._stream = stream
        parameters = HTTP1ConnectionParameters(no_keep_alive=True, max_body_size=2**63, max_header_size=HEADERS)
        self._connection = HTTP1Connection(stream, is_client=True, params=parameters)
        self._head: asyncio.Future[tuple[int, HTTPHeaders]] = self._loop.create_future()
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._over = False
        self._error: BaseException | None = None
        self._come: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, url: str, headers: Mapping[str, str]) -> Duplex:
        """Connect, and send the head of a POST request. Raises `OSError` where nobody answers."""
        parts = urlsplit(url)
        is_secure = parts.scheme == "https"
        port = parts.port or (443 if is_secure else 80)
        try:
            stream = await TCPClient().connect(
                parts.hostname or "", port, ssl_options=authorities() if is_secure else None
            )
        except StreamClosedError as error:
            raise ConnectionRefusedError(str(error.real_error or error)) from None
        keep_numbers_from_children([stream.socket.fileno()])
        stream.set_nodelay(True)
        duplex = cls(stream)
        host = parts.netloc.rpartition("@")[2]
        sent = HTTPHeaders({"Host": host, **headers, "Transfer-Encoding": "chunked"})
        await duplex._connection.write_headers(RequestStartLine("POST", parts.path or "/", ""), sent)
        duplex._reading = duplex._loop.create_task(duplex._read())
        return duplex

    # -- the request

    async def send(self, chunk: bytes) -> None:
        """Send some of the body; wait until there is room for more. Raises `Gone`."""
        if self._over or self._stream.closed():
            raise Gone("the connection ended while the body was sent")
        try:
            await self._connection.write(chunk)
        except StreamClosedError:
            raise Gone("the connection ended while the body was sent") from None

    def end(self) -> None:
        """The request is complete."""
        if not self._stream.closed():
            self._connection.finish()

    def fail(self, error: BaseException) -> None:
        """The body cannot be completed: who reads the answer gets this error."""
        if self._error is None:
            self._error = error
        self._end()
        self.close()

    # -- the answer

    async def head(self) -> tuple[int, HTTPHeaders]:
        """Return status and headers. Raises `Gone`, or what `fail` was called with."""
        return await asyncio.shield(self._head)

    async def body(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it comes. Raises as `head`."""
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                self._size -= len(chunk)
                if self._size < AHEAD:
                    _wake(self._room)
                yield chunk
            if self._over:
                if self._error is not None:
                    raise self._error
                return
            self._come = self._loop.create_future()
            await self._come

    def close(self) -> None:
        """Close the connection, which cancels the call there where it has not ended."""
        self._stream.close()
        if self._reading is not None:
            self._reading.cancel()
        if not self._head.done():
            self._head.cancel()

    async def _read(self) -> None:
        try:
            await self._connection.read_response(self)
        except (StreamClosedError, HTTPInputError, OSError) as error:
            self._lose(str(error))
        else:
            if not self._over:
                self._lose("the connection ended before the answer did")

    def _lose(self, why: str) -> None:
        if not self._over and self._error is None:
            self._error = Gone(why)
        self._end()

    def _end(self) -> None:
        self._over = True
        if not self._head.done():
            self._head.set_exception(self._error or Gone("the connection ended before the answer began"))
            self._head.exception()  # whether or not somebody waits for it
        _wake(self._come)
        _wake(self._room)

    # -- called by tornado

    def headers_received(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> None:
        assert isinstance(start_line, ResponseStartLine)  # a client reads no requests
        if start_line.code >= 200 and not self._head.done():
            self._head.set_result((start_line.code, headers))

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        self._chunks.append(chunk)
        self._size += len(chunk)
        _wake(self._come)
        if self._size < AHEAD or self._over:
            return None
        self._room = self._loop.create_future()
        return self._room

    def finish(self) -> None:
        self._end()

    def on_connection_close(self) -> None:
        self._lose("the connection ended before the answer did")


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)
