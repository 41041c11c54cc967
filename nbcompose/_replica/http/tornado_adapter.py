"""Adapter for undocumented behaviour of tornado's HTTP/1 connections.

Only this module depends on it. It holds for 6.5 to 6.6.1; tests/canaries/test_tornado.py fails first if a release
changes one of these:

- `HTTP1Connection` and `HTTP1ServerConnection` have their socket's `IOStream` as `stream`.
- Closing the stream ends an awaited write, once the request has been read, and the next write raises
  `StreamClosedError`; the connection's own `close` would never complete the write.
- `finish` of a reply before the whole body of its request was read closes the connection.
- Data that is not HTTP is answered with `BARE_REFUSAL`, written while the `HTTPInputError` is being handled, and the
  stream is closed. Headers, or a chunk size line, that are too long close it with an `UnsatisfiableReadError`.
- `parse_multipart_form_data` sets `application/unknown` for a part without a content type.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable
from typing import Any

from tornado.http1connection import HTTP1Connection, HTTP1ServerConnection
from tornado.httputil import HTTPInputError
from tornado.iostream import IOStream, UnsatisfiableReadError

BARE_REFUSAL = b"HTTP/1.1 400 Bad Request\r\n\r\n"
DRAIN = 1024 * 1024  # bytes that a client may still send after its last reply, so that it can read the reply
DRAIN_TIME = 2.0  # seconds for that
PARTINGS = 64  # clients that get that time at once, at most

_partings: set[asyncio.Task[None]] = set()


class Stream(IOStream):
    """A client's socket. If tornado would close the connection with no or a bare reply, `refusal` gives a proper one.

    `refusal` gets the error, or None if the headers or a line are too long, and returns the bytes of a reply, which may
    be empty.
    """

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.refusal: Callable[[HTTPInputError | None], bytes] = lambda _: b""

    def write(self, data: bytes | memoryview) -> asyncio.Future[None]:
        if data == BARE_REFUSAL:
            error = sys.exception()
            self._part(error if isinstance(error, HTTPInputError) else HTTPInputError("malformed"))
            data = b""
        return super().write(data)

    def close(self, exc_info: Any = False) -> None:
        if isinstance(exc_info, UnsatisfiableReadError) and not self.closed():
            self._part(None)
        super().close(exc_info)

    def _part(self, error: HTTPInputError | None) -> None:
        """Send the last reply on a duplicate of the socket: closing while the client still sends causes a reset, which
        may discard the reply.
        """
        with contextlib.suppress(OSError):
            task = asyncio.ensure_future(_say_and_close(self.socket.dup(), self.refusal(error)))
            _partings.add(task)
            task.add_done_callback(_partings.discard)


async def _say_and_close(sock: socket.socket, word: bytes) -> None:
    loop, left = asyncio.get_running_loop(), DRAIN
    with sock, contextlib.suppress(OSError, TimeoutError):
        sock.setblocking(False)
        async with asyncio.timeout(DRAIN_TIME):
            await loop.sock_sendall(sock, word)
            sock.shutdown(socket.SHUT_WR)
            while left > 0 and len(_partings) <= PARTINGS and (piece := await loop.sock_recv(sock, 65536)):
                left -= len(piece)


def hang_up(connection: HTTP1Connection | HTTP1ServerConnection) -> None:
    """Close a connection at once, even in the middle of a request or reply."""
    connection.stream.close()


def is_quiet(connection: HTTP1ServerConnection, *, begun: bool) -> bool:
    """Whether a connection is open and has no unprocessed data; `begun`: tornado has started to read from it."""
    stream = connection.stream
    if stream.closed() or (begun and not stream.reading()):  # data has been read and is on its way to the exchange
        return False
    try:
        return not stream.socket.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:  # reset: it is about to be closed
        return True


def send_at_once(connection: HTTP1Connection) -> None:
    """Send written data without waiting for more (TCP_NODELAY)."""
    connection.stream.set_nodelay(True)
