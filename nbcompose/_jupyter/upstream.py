"""Connections from the Jupyter server to services: one request at a time on each, both directions at once.

tornado's HTTP clients, and others, send a whole request before they read the answer; its connection layer need not.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Protocol

from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine
from tornado.iostream import IOStream, StreamClosedError
from tornado.tcpclient import TCPClient

MOST_KEPT = 64  # connections without a request, to one service; four times as many in all
# seconds; less than the 75 that a replica waits for the next request, so that it is not the one to close
KEPT_FOR = 30.0
CONNECT_WITHIN = 5.0
NO_LIMIT = 2**63  # bytes of a body: nothing is collected here
PARAMETERS = HTTP1ConnectionParameters(max_body_size=NO_LIMIT)

Address = tuple[str, int]


class Receiver(Protocol):
    """Who takes an answer. What `take_data` returns is awaited before more is read. Neither raises."""

    def take_head(self, status: int, reason: str, headers: HTTPHeaders) -> None: ...

    def take_data(self, chunk: bytes) -> Awaitable[None] | None: ...


class Gone(Exception):
    """The service has closed the connection, or what it says is not HTTP. `begun`: the answer had begun."""

    def __init__(self, *, begun: bool) -> None:
        super().__init__("the connection ended before the answer did")
        self.begun = begun


class Upstream:
    """One request to a service. `is_fresh`: the connection was made for it, and not kept from an earlier one."""

    def __init__(self, connections: Connections, address: Address, stream: IOStream, *, is_fresh: bool) -> None:
        self.is_fresh = is_fresh
        self._connections = connections
        self._address = address
        self._stream = stream
        self._connection = HTTP1Connection(stream, is_client=True, params=PARAMETERS)
        self._loop = asyncio.get_running_loop()
        self._over = self._loop.create_future()  # the answer is complete, or the connection lost
        self._head: tuple[RequestStartLine, HTTPHeaders] | None = None  # not sent yet
        self._left: int | None = None  # bytes of the body that have not been sent, where its length is known
        self._has_head_only = False  # of the answer to a HEAD
        self._ended = False  # the request is complete
        self._is_kept = False  # the connection serves another request afterwards

    def begin(self, method: str, path: str, headers: HTTPHeaders) -> None:
        """Send the head of the request, together with what of the body has come too."""
        self._has_head_only = method == "HEAD"
        length = headers.get("Content-Length")
        self._left = None if length is None else int(length)
        self._head = RequestStartLine(method, path, ""), headers
        if self._left == 0:
            self._send_head()
        else:
            # What of the body came with the head is known one turn of the loop later: one message instead of two.
            self._loop.call_soon(lambda: self._loop.call_soon(self._send_head))

    def _send_head(self, chunk: bytes | None = None) -> asyncio.Future[None] | None:
        if self._head is None:
            return None
        head, self._head = self._head, None
        written = self._connection.write_headers(*head, chunk)
        _unawaited(written)
        return written

    def send(self, chunk: bytes) -> Awaitable[None] | None:
        """Send some of the body. What is returned ends when there is room for more, or nobody who would read it."""
        if self._over.done():
            return None
        written = self._send_head(chunk)
        if written is None:
            written = self._connection.write(chunk)
            _unawaited(written)
        if self._left is not None:
            self._left -= len(chunk)
        if written.done():
            if self._left == 0:
                self.end()  # as the service sees it, whose answer may be there before anybody says so here
            return None
        # The connection forgets the future of a write when it finds itself closed while it reads.
        return _first(written, self._over)

    def end(self) -> None:
        """The request is complete."""
        if self._ended:
            return
        self._send_head()
        self._ended = True
        # Also where the answer is complete already: tornado ends the reading of it not before that.
        if not self._stream.closed():
            self._connection.finish()

    async def receive(self, receiver: Receiver) -> None:
        """Have the answer taken by `receiver`, while the request may still be sent. Raises `Gone`.

        The connection is to be released afterwards.
        """
        answer = _Answer(receiver, self._come, has_body=not self._has_head_only)
        try:
            is_open = False
            with contextlib.suppress(StreamClosedError):
                is_open = await self._connection.read_response(answer)
            if not answer.is_complete:
                raise Gone(begun=answer.begun)
            self._is_kept = is_open and self._ended and answer.is_kept
        finally:
            if not answer.is_complete:
                self.close()
            self._finish()

    def release(self) -> None:
        """Keep the connection for another request, if it can be."""
        if self._is_kept:
            self._connections.keep(self._address, self._stream)
        else:
            self.close()

    def close(self) -> None:
        """Close the connection, which cancels the call there."""
        self._stream.close()

    def _come(self) -> None:
        """The answer is complete. The reading of it would end with the request, which may be a long time later."""
        self._finish()
        if not self._ended:
            self.close()

    def _finish(self) -> None:
        if not self._over.done():
            self._over.set_result(None)


class _Answer(HTTPMessageDelegate):
    def __init__(self, receiver: Receiver, come: Callable[[], None], *, has_body: bool) -> None:
        self.begun = self.is_complete = self.is_kept = False
        self._has_body = has_body
        self._receiver = receiver
        self._come = come

    def headers_received(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> None:
        assert isinstance(start_line, ResponseStartLine)  # a client reads no requests
        if start_line.code < 200:
            return  # of no use to the client, which has heard of none: the answer follows
        self.begun = True
        # Otherwise the answer ends with the connection.
        ends = "Content-Length" in headers or "Transfer-Encoding" in headers or start_line.code in (204, 304)
        closes = headers.get("Connection", "").lower() == "close"
        self.is_kept = start_line.version == "HTTP/1.1" and (ends or not self._has_body) and not closes
        self._receiver.take_head(start_line.code, start_line.reason, headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return self._receiver.take_data(chunk)

    def finish(self) -> None:
        self.is_complete = True
        self._come()


class Connections:
    """Opens connections, and keeps those that are free for a while. Used on one event loop."""

    def __init__(self, kept_for: float = KEPT_FOR) -> None:
        self._kept_for = kept_for
        self._client = TCPClient()
        self._free: dict[Address, dict[IOStream, asyncio.TimerHandle]] = {}

    async def open(self, address: Address, *, fresh: bool = False) -> Upstream:
        """Return a connection for a request; `fresh`: not one that was kept. Raises `OSError` where nobody answers."""
        while free := None if fresh else self._free.get(address):
            stream, timer = free.popitem()  # the last one: of several, those that are not needed grow old
            timer.cancel()
            if not free:
                del self._free[address]
            stream.set_close_callback(None)
            if not stream.closed():
                return Upstream(self, address, stream, is_fresh=False)
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                stream = await self._client.connect(*address)
        except StreamClosedError as error:
            raise ConnectionRefusedError(f"{address[0]}:{address[1]} cannot be reached") from error
        stream.set_nodelay(True)  # what a client sends in pieces goes on in pieces
        return Upstream(self, address, stream, is_fresh=True)

    def keep(self, address: Address, stream: IOStream) -> None:
        """Keep a connection whose answer has been read, for `kept_for` seconds."""
        free = self._free.setdefault(address, {})
        if stream.closed() or len(free) >= MOST_KEPT or self.count >= 4 * MOST_KEPT:
            stream.close()
            if not free:
                del self._free[address]
            return
        free[stream] = asyncio.get_running_loop().call_later(self._kept_for, stream.close)
        # Also what makes tornado notice that the service has closed it.
        stream.set_close_callback(lambda: self._drop(address, stream))

    @property
    def count(self) -> int:
        """The number of connections that are kept."""
        return sum(map(len, self._free.values()))

    def close(self) -> None:
        """Close those that are kept."""
        for free in list(self._free.values()):
            for stream in list(free):
                stream.close()
        self._client.close()

    def _drop(self, address: Address, stream: IOStream) -> None:
        free = self._free.get(address, {})
        if timer := free.pop(stream, None):
            timer.cancel()
        if not free:
            self._free.pop(address, None)


async def _first(*futures: asyncio.Future[None]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


def _unawaited(future: asyncio.Future[None]) -> None:
    """Take note of an error that `receive` tells of too."""
    future.add_done_callback(lambda written: written.cancelled() or written.exception())
