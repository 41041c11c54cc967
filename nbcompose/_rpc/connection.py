"""Connections between processes: many concurrent calls in both directions, unary and streaming.

A `Connection` combines frames (`_rpc/protocol.py`), outgoing calls (`_rpc/client_calls.py`) and incoming calls
(`_rpc/server_calls.py`). `open_connection`, `adopt` and `serve` create one.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import uvloop

from nbcompose._host import keep_from_children
from nbcompose._protocol import address
from nbcompose._rpc.client_calls import Outgoing
from nbcompose._rpc.protocol import ChannelReceiver, FramedProtocol, Kind, Receiver
from nbcompose._rpc.server_calls import CallHandler, Incoming


class ConnectionCounts(NamedTuple):
    """Counts of the calls made over connections: in total, under way, streams under way; bytes sent and received."""

    calls: int = 0
    in_flight: int = 0
    streaming: int = 0
    sent: int = 0
    received: int = 0

    def plus(self, other: ConnectionCounts) -> ConnectionCounts:
        return ConnectionCounts(*(a + b for a, b in zip(self, other, strict=True)))


class Connection(FramedProtocol):
    """One end of a connection; both ends use this class. The end that has a `handler` answers calls.

    `name` identifies the peer in messages. `on_closed` is called once, when the connection is lost, whichever end
    closed it.
    """

    def __init__(
        self, name: str, handler: CallHandler | None = None, on_closed: Callable[[Connection], None] | None = None
    ) -> None:
        super().__init__(name)
        outgoing = self._outgoing = Outgoing(self)
        # Not methods of its own, which each call would pass through.
        self.call, self.begin, self.stream = outgoing.call, outgoing.begin, outgoing.stream
        self.abandon = outgoing.abandon
        self._incoming = Incoming(self, handler)
        self._on_closed = on_closed

    @property
    def in_flight(self) -> int:
        """Calls made from this end that have not ended."""
        return self._outgoing.in_flight

    @property
    def traffic(self) -> ConnectionCounts:
        """Counts of the calls made from this end, and of the bytes of all frames."""
        outgoing = self._outgoing
        return ConnectionCounts(outgoing.begun, outgoing.in_flight, outgoing.streaming, self.sent, self.received)

    def note(self, topic: str, value: Any) -> None:
        """Send a one-way message; no effect when the connection is closed."""
        if not self.closed:
            self.send(Kind.NOTE, 0, self.encoder.encode((topic, value)))

    def close_when_idle(self) -> None:
        """Close once the calls made from this end are done."""
        self._outgoing.close_when_idle()

    def receivers(self) -> Mapping[int, Receiver]:
        outgoing, incoming = self._outgoing, self._incoming
        return {
            **super().receivers(),
            Kind.CALL: incoming.take_call,
            Kind.RESULT: outgoing.take_result,
            Kind.ERROR: outgoing.take_error,
            Kind.DECLINE: outgoing.take_decline,
            Kind.ITEM: outgoing.take_item,
            Kind.END: outgoing.take_end,
            Kind.CREDIT: incoming.take_credit,
            Kind.CANCEL: incoming.take_cancel,
            Kind.NOTE: incoming.take_note,
        }

    def channel_receivers(self) -> Mapping[int, ChannelReceiver]:
        outgoing, incoming = self._outgoing, self._incoming
        return {
            Kind.ITEM: incoming.take_item,
            Kind.END: incoming.take_end,
            Kind.ERROR: incoming.take_error,
            Kind.CREDIT: outgoing.take_credit,
            Kind.CANCEL: outgoing.take_cancel,
        }

    def lost(self, reason: str) -> None:
        self._outgoing.lost(reason)
        self._incoming.lost()
        if self._on_closed is not None:
            self._on_closed(self)


async def open_connection(
    where: str,
    name: str,
    handler: CallHandler | None = None,
    on_closed: Callable[[Connection], None] | None = None,
) -> Connection:
    """Connect to a process of this user. Raises `ConnectionError` or `PermissionError`."""
    return await adopt(address.connect(where), name, handler, on_closed)


async def adopt(
    sock: socket.socket,
    name: str,
    handler: CallHandler | None = None,
    on_closed: Callable[[Connection], None] | None = None,
) -> Connection:
    """Return a connection over a socket that is already connected; the connection owns the socket from now on."""
    sock.setblocking(False)
    keep_from_children(sock)
    loop = asyncio.get_running_loop()
    made = await loop.create_unix_connection(lambda: Connection(name, handler, on_closed), sock=sock)
    transport, connection = made
    if transport.is_closing() and isinstance(loop, uvloop.Loop):
        # The peer has gone meanwhile. uvloop closes the file by its number, and leaves the object with that number: it
        # would close it once more, when it may be another file's.
        sock.detach()
    return connection


async def serve(
    sock: socket.socket,
    name: str,
    handler: CallHandler,
    on_opened: Callable[[Connection], None] | None = None,
    on_closed: Callable[[Connection], None] | None = None,
) -> asyncio.Server:
    """Answer calls on a listening socket. Peers of other users are refused without calling any callback."""
    keep_from_children(sock)
    loop = asyncio.get_running_loop()
    return await loop.create_unix_server(lambda: _Guarded(name, handler, on_opened, on_closed), sock=sock)


class _Guarded(Connection):
    """An accepted connection: refuses peers of other users."""

    def __init__(
        self,
        name: str,
        handler: CallHandler,
        on_opened: Callable[[Connection], None] | None,
        on_closed: Callable[[Connection], None] | None,
    ) -> None:
        super().__init__(name, handler, on_closed)
        self._on_opened = on_opened

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        try:
            address.check_transport(transport)
        except OSError:
            self.refuse(transport)
            return
        super().connection_made(transport)
        if self._on_opened is not None:
            self._on_opened(self)
