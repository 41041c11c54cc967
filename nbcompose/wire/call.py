"""How connections come about: connect to an address, adopt a socket, serve. Everything that callers need is here.

What a connection does is connection.py's; where processes answer, address.py's.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

from nbcompose.host.forked import keep_from_children
from nbcompose.wire import address
from nbcompose.wire.connection import Connection, Traffic
from nbcompose.wire.incoming import WINDOW, Handler, IncomingCall
from nbcompose.wire.line import segment_pool
from nbcompose.wire.outgoing import ConnectionClosed, Declined, Settled

__all__ = [
    "WINDOW",
    "Connection",
    "ConnectionClosed",
    "Declined",
    "Handler",
    "IncomingCall",
    "Settled",
    "Traffic",
    "adopt",
    "open_connection",
    "segment_pool",
    "serve",
]


async def open_connection(
    where: str,
    name: str,
    handler: Handler | None = None,
    on_closed: Callable[[Connection], None] | None = None,
) -> Connection:
    """Connect to a process of this user. Raises `ConnectionError` or `PermissionError`."""
    return await adopt(address.connect(where), name, handler, on_closed)


async def adopt(
    sock: socket.socket,
    name: str,
    handler: Handler | None = None,
    on_closed: Callable[[Connection], None] | None = None,
) -> Connection:
    """A connection over a socket that is connected already, and is the connection's from now on."""
    sock.setblocking(False)
    keep_from_children(sock)
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_unix_connection(lambda: Connection(name, handler, on_closed), sock=sock)
    return connection


async def serve(
    sock: socket.socket,
    name: str,
    handler: Handler,
    on_opened: Callable[[Connection], None] | None = None,
    on_closed: Callable[[Connection], None] | None = None,
) -> asyncio.Server:
    """Answer calls on a listening socket; peers that are not this user's are turned away, and nobody hears of them."""
    loop = asyncio.get_running_loop()
    return await loop.create_unix_server(lambda: _Guarded(name, handler, on_opened, on_closed), sock=sock)


class _Guarded(Connection):
    """A connection that somebody else has opened."""

    def __init__(
        self,
        name: str,
        handler: Handler,
        on_opened: Callable[[Connection], None] | None,
        on_closed: Callable[[Connection], None] | None,
    ) -> None:
        super().__init__(name, handler, on_closed)
        self._on_opened = on_opened

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        try:
            with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as peer:
                address.check_peer(peer)
        except OSError:
            self.refuse(transport)
            return
        super().connection_made(transport)
        if self._on_opened is not None:
            self._on_opened(self)
