"""tornado's HTTP/1 connections, where more of them is used than is documented: the one module that knows.

Seen to hold from 6.5 to 6.6.1; tests/canaries/test_tornado.py fails first where a release changes one of these.

- `HTTP1Connection` and `HTTP1ServerConnection` have their socket's `IOStream` as `stream`.
- Closing the stream ends a write that somebody awaits, once the request has been read, and the next write raises
  `StreamClosedError`; the connection's own `close` would forget the write.
- `finish` of a reply before the whole body of its request was read closes the connection.
- What is no HTTP is answered with `BARE_REFUSAL`, written while the `HTTPInputError` is being handled, and the stream
  is closed. Headers, or a line with the size of a chunk, that are too long close it with an `UnsatisfiableReadError`.
- `parse_multipart_form_data` says `application/unknown` of a part that does not say what it is.
- `HTTPHeaders.get` raises and catches a KeyError for a header that is not there; `in` is cheap.
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
DRAIN = 1024 * 1024  # bytes that a client may still send after its last reply, so that it gets to read that
DRAIN_TIME = 2.0  # seconds
PARTINGS = 64  # that many clients at once are given that time

_partings: set[asyncio.Task[None]] = set()


class Stream(IOStream):
    """A client's socket. Where tornado would hang up without a word, or nearly so, `refusal` says what to tell.

    It gets None where a line is too long, and returns the bytes of a reply; none where there is nothing to say.
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
        """Say the last word on a hold of our own on the socket: a close with bytes still on their way is a reset, which
        may take the word with it.
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
    """Close a connection at once, whatever is under way on it."""
    connection.stream.close()


def is_quiet(connection: HTTP1ServerConnection, *, begun: bool) -> bool:
    """Whether a connection is open and nothing has come on it that nobody has seen; `begun`: tornado reads from it."""
    stream = connection.stream
    if stream.closed() or (begun and not stream.reading()):  # what was read is on its way to the exchange
        return False
    try:
        return not stream.socket.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:  # reset: it is about to be closed
        return True


def send_at_once(connection: HTTP1Connection) -> None:
    """Have what is written go out without waiting for more (TCP_NODELAY)."""
    connection.stream.set_nodelay(True)
