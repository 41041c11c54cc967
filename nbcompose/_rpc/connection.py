"""A connection between two processes: many calls at once, in both directions, unary and streaming. `connect`, `adopt`,
`serve`.

Both ends run this class; whoever has a `handler` answers calls. It puts together a line (frames), the outgoing and the
incoming calls. What is in a body is codec.py's business; how connections come about, connection.py's.

What a connection does is connection.py's; where processes answer, address.py's.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from typing import Any, NamedTuple

from nbcompose._host import keep_from_children
from nbcompose._rpc import address
from nbcompose._rpc.client_calls import Outgoing, Settled
from nbcompose._rpc.framing import Kind
from nbcompose._rpc.protocol import FramedProtocol, Receiver
from nbcompose._rpc.server_calls import CallHandler, Incoming
from nbcompose._tracing import CallContext


class ConnectionCounts(NamedTuple):
    """The calls made over connections: so far, under way, those of them that are streams; bytes sent and received."""

    calls: int = 0
    in_flight: int = 0
    streaming: int = 0
    sent: int = 0
    received: int = 0

    def plus(self, other: ConnectionCounts) -> ConnectionCounts:
        return ConnectionCounts(*(a + b for a, b in zip(self, other, strict=True)))


class Connection(FramedProtocol):
    """Both ends of a connection. `name` says who is at the other end, for messages.

    `on_closed` is called once, when the connection has gone, whichever end closed it.
    """

    def __init__(
        self, name: str, handler: CallHandler | None = None, on_closed: Callable[[Connection], None] | None = None
    ) -> None:
        super().__init__(name)
        self._outgoing = Outgoing(self, self._idle)
        self._incoming = Incoming(self, handler)
        self._on_closed = on_closed
        self._is_leaving = False

    @property
    def in_flight(self) -> int:
        """Calls made from this end that have not ended."""
        return self._outgoing.in_flight

    @property
    def traffic(self) -> ConnectionCounts:
        """What has gone through it from this end's point of view."""
        outgoing = self._outgoing
        return ConnectionCounts(outgoing.begun, outgoing.in_flight, outgoing.streaming, self.sent, self.received)

    def call(
        self, api: str, arguments: Any, context: CallContext, deadline: float | None = None
    ) -> Coroutine[Any, Any, Any]:
        """Call `api` at the other end and wait for its result.

        `deadline` is on `time.monotonic()`'s clock. Raises `ConnectionClosed` when the call was never sent, `Declined`
        when the peer had not begun with it and goes, `ReplicaDied` when the connection was lost while it was under way,
        `DeadlineExceeded`, or the remote error.
        Cancelling the task that waits cancels the call.
        """
        return self._outgoing.call(api, arguments, context, deadline)

    def begin(self, api: str, arguments: Any, context: CallContext, deadline: float | None, result: Settled) -> int:
        """As `call`, without a task that waits: `result` takes what comes. Returns the call's id, for `abandon`.

        Raises what is wrong before the call is sent; what goes wrong later is set in `result`.
        """
        return self._outgoing.begin(api, arguments, context, deadline, result)

    def abandon(self, call_id: int) -> None:
        """Cancel a call that was begun, if it is still under way; nothing more is set in its result."""
        self._outgoing.abandon(call_id)

    def stream(
        self, api: str, arguments: Any, context: CallContext, deadline: float | None = None
    ) -> AsyncGenerator[Any, None]:
        """Call `api` and yield its items as they come; closing the generator cancels the call.

        Raises as `call` does; an error in mid-stream is raised after the items that came before it.
        """
        return self._outgoing.stream(api, arguments, context, deadline)

    def note(self, topic: str, value: Any) -> None:
        """Send a one-way message; nothing happens when the connection has been closed."""
        if not self.closed:
            self.send(Kind.NOTE, 0, self.encoder.encode((topic, value)))

    def close_when_idle(self) -> None:
        """Close once the calls made from this end are done."""
        self._is_leaving = True
        if self.in_flight == 0:
            self.close()

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

    def lost(self, reason: str) -> None:
        self._outgoing.lost(reason)
        self._incoming.lost()
        if self._on_closed is not None:
            self._on_closed(self)

    def _idle(self) -> None:
        if self._is_leaving:
            self.close()


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
    """A connection over a socket that is connected already, and is the connection's from now on."""
    sock.setblocking(False)
    keep_from_children(sock)
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_unix_connection(lambda: Connection(name, handler, on_closed), sock=sock)
    return connection


async def serve(
    sock: socket.socket,
    name: str,
    handler: CallHandler,
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
        handler: CallHandler,
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
