"""One connection between two processes: many calls at once, in both directions, unary and streaming.

Both ends run this class; whoever has a `handler` answers calls. It puts together a line (frames), the outgoing and the
incoming calls. What is in a body is codec.py's business; how connections come about, call.py's.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from typing import Any, NamedTuple

from nbcompose.tracing import CallContext
from nbcompose.wire.frames import Kind
from nbcompose.wire.incoming import Handler, Incoming
from nbcompose.wire.line import Line, Receiver
from nbcompose.wire.outgoing import Outgoing, Settled


class Traffic(NamedTuple):
    """The calls made over connections: so far, under way, those of them that are streams; bytes sent and received."""

    calls: int = 0
    in_flight: int = 0
    streaming: int = 0
    sent: int = 0
    received: int = 0

    def plus(self, other: Traffic) -> Traffic:
        return Traffic(*(a + b for a, b in zip(self, other, strict=True)))


class Connection(Line):
    """Both ends of a connection. `name` says who is at the other end, for messages.

    `on_closed` is called once, when the connection has gone, whichever end closed it.
    """

    def __init__(
        self, name: str, handler: Handler | None = None, on_closed: Callable[[Connection], None] | None = None
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
    def traffic(self) -> Traffic:
        """What has gone through it from this end's point of view."""
        outgoing = self._outgoing
        return Traffic(outgoing.begun, outgoing.in_flight, outgoing.streaming, self.sent, self.received)

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
