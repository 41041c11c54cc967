"""Server side of a connection: decodes incoming calls, passes them to a `CallHandler`, sends its answers.

See `_rpc/client_calls.py` for the calls made from this end.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from typing import Any, Literal, Protocol

from nbcompose._rpc.codec import Chunks, CodecError
from nbcompose._rpc.flow import ReceivedItems, SendWindow
from nbcompose._rpc.protocol import Body, FramedProtocol, Kind, ProtocolError
from nbcompose._rpc.remote_errors import RemoteErrorDetail, describe, describe_aside, nameless, rebuild
from nbcompose._rpc.stream_arguments import Inlet
from nbcompose._tracing import CallContext, clock
from nbcompose._user_exceptions import contained, name_of, text_of
from nbcompose.errors import CallCancelled, CallError, PayloadTooLarge

# Header of a call: seconds left (negative: no limit), seconds that it has waited to be sent, trace id (high, low),
# parent span id, trace flags, lengths of the api's name and of the trace state, which follow.
CALL_HEAD = struct.Struct("<ddQQQBHH")
COUNT = struct.Struct("<I")

logger = logging.getLogger("nbcompose.rpc")


class IncomingCall:
    """One call to answer: exactly one of `reply`, `fail`, `decline` or `end` ends it; `send` sends an item of a stream.

    `encode` and `reply_encoded` are the halves of `reply`: in between the call is counted, as failed where its result
    cannot be sent, and else before its caller can know that it has ended.

    `done`: it has been answered, or the caller cancelled it; answers are ignored from then on.
    """

    __slots__ = ("_line", "_open", "_window", "api", "arguments", "call_id", "context", "done", "inlets")

    def __init__(
        self, unanswered: dict[int, IncomingCall], line: FramedProtocol, call_id: int, api: str, context: CallContext
    ) -> None:
        self._open = unanswered
        self._line = line
        self.call_id = call_id
        self.api = api
        self.arguments: Any = None
        self.context = context
        self.done = False
        self.inlets: dict[int, Inlet] | None = None  # by channel: the streams among the arguments
        self._window: SendWindow | None = None  # of the stream that it answers with

    def reply(self, value: Any) -> None:
        """Send the result. Raises `InvalidResult` or `PayloadTooLarge` if it cannot be sent."""
        self.reply_encoded(self.encode(value))

    def encode(self, value: Any, role: Literal["result", "item"] = "result") -> Chunks:
        """Return the result as it is sent. Raises `InvalidResult` or `PayloadTooLarge` if it cannot be sent."""
        if self.done:
            return []
        try:
            return self._line.encoder.encode(value, role)
        except PayloadTooLarge as error:
            raise error.from_below()  # noqa: B904  it is the same error; user code did not raise it

    def reply_encoded(self, chunks: Chunks) -> None:
        """Send the result that `encode` has returned."""
        if not self.done:
            self._line.send(Kind.RESULT, self.call_id, chunks)
            self._finish()

    def fail(self, error: BaseException, hop: str = "") -> None:
        """Send the error. `hop` is how this call appears in the chain of a remote traceback. Never raises."""
        if not self.done:
            self._send_error(describe(error, hop=hop or self.api), error)

    async def fail_aside(self, error: BaseException, hop: str) -> None:
        """As `fail`, for an error of user code: code that describes it (e.g. `__str__`) runs in a thread."""
        if self.done:
            return
        self._send_error(await describe_aside(error, hop=hop), error)

    def _send_error(self, detail: RemoteErrorDetail, error: BaseException) -> None:
        """Send an error; if even a minimal description cannot be sent, close the connection so the caller notices."""
        if self.done:
            return
        line = self._line
        try:
            line.send(Kind.ERROR, self.call_id, line.encoder.encode(detail, "result"))
        except BaseException as failure:
            logger.exception("an error of %s cannot be sent to %s", self.api, line.name)
            try:
                detail = nameless(error, self.api, f"it cannot be sent: {name_of(type(failure))}")
                line.send(Kind.ERROR, self.call_id, line.encoder.encode(detail, "result"))
            except BaseException:
                line.close()
        self._finish()

    def decline(self) -> None:
        """Reject a call that has not started; its caller retries it on another replica."""
        if not self.done:
            self._line.send(Kind.DECLINE, self.call_id, [b""])
            self._finish()

    def end(self) -> None:
        """Report that the stream is complete."""
        if not self.done:
            self._line.send(Kind.END, self.call_id, [b""])
            self._finish()

    async def send(self, item: Any) -> None:
        """Send an item of a stream; wait until the consumer has room.

        Raises `CallCancelled` when the consumer is gone, `InvalidResult` or `PayloadTooLarge` if the item cannot be
        sent.
        """
        line, window = self._line, self._window
        if window is None:
            window = self._window = SendWindow()
        if not window.has_room:
            await window.room(line.loop)
        if self.done:
            raise CallCancelled(f"{self.api}: the consumer of the stream has gone")
        before = line.encoder.shared
        chunks = self.encode(item, "item")
        window.sent(sum(map(len, chunks)) + line.encoder.shared - before)
        line.send(Kind.ITEM, self.call_id, chunks)
        await line.drained()

    def acknowledged(self, count: int) -> None:
        """The consumer has taken items of the stream."""
        if self._window is not None:
            self._window.acknowledged(count)

    def take_streams(self, inlets: list[Inlet]) -> None:
        """Connect the streams that the arguments have with their channels."""
        self.inlets = {inlet.channel: inlet for inlet in inlets}
        line, call_id = self._line, self.call_id

        def sender(channel: int) -> Callable[[int | None], object]:
            def send(count: int | None) -> None:
                if self.done:
                    return
                if count is None:
                    line.send(Kind.CANCEL, call_id, [b""], channel)
                else:
                    line.send(Kind.CREDIT, call_id, [COUNT.pack(count)], channel)

            return send

        for inlet in inlets:
            inlet.bind(line.loop, sender(inlet.channel))

    def cancel(self) -> None:
        """Cancel the call: its caller cancelled it, or the connection is lost."""
        self.done = True
        self.context.cancel()
        if self._window is not None:
            self._window.close()
        for inlet in self.inlets.values() if self.inlets is not None else ():
            if not inlet.items.over:
                inlet.items.set_exception(CallCancelled(f"{self.api}: its caller has gone, who sent the stream"))

    def _finish(self) -> None:
        self.done = True
        self._open.pop(self.call_id, None)


class CallHandler(Protocol):
    """Handles the calls and notes of a connection. Both methods are called on the loop and must return at once."""

    def on_call(self, call: IncomingCall) -> None: ...

    def on_note(self, topic: str, value: Any) -> None: ...


class Incoming:
    """The unanswered calls of the peer."""

    def __init__(self, line: FramedProtocol, handler: CallHandler | None) -> None:
        self._line = line
        self._handler = handler
        self._open: dict[int, IncomingCall] = {}

    def take_call(self, call_id: int, body: Body) -> None:
        left, waited, high, low, span_id, flags, length, state_length = CALL_HEAD.unpack_from(body)
        named = CALL_HEAD.size + length
        start = named + state_length
        api = bytes(body[CALL_HEAD.size : named]).decode()
        state = bytes(body[named:start]).decode() if state_length else ""
        if call_id in self._open or len(body) < start:
            raise ProtocolError(f"{self._line.name} sent a call that is malformed, or has the id of another")
        deadline = None if left < 0 else clock.monotonic() + left
        context = CallContext(deadline, high << 64 | low, span_id, flags, state)
        if waited > 0:
            context.waited = waited
        call = self._open[call_id] = IncomingCall(self._open, self._line, call_id, api, context)
        arguments = memoryview(body)[start:]
        if self._handler is None:
            self._line.decoder.discard(arguments)
            call.fail(CallError(f"{api}: this end of the connection answers no calls"))
            return
        try:
            decoder = self._line.decoder
            call.arguments = decoder.decode(arguments)
            if decoder.inlets:
                call.take_streams(decoder.taken_inlets())
            self._handler.on_call(call)
        except BaseException as error:  # user code in the received value's classes may raise anything
            call.fail(unreadable(self._line.name, error) if type(error) is CodecError else contained(error))

    def take_credit(self, call_id: int, body: Body) -> None:
        call = self._open.get(call_id)
        if call is not None:
            call.acknowledged(COUNT.unpack_from(body)[0])

    def take_cancel(self, call_id: int, _: Body) -> None:
        call = self._open.pop(call_id, None)
        if call is not None:
            call.cancel()

    # -- the streams among the arguments of a call

    def take_item(self, call_id: int, channel: int, body: Body) -> None:
        items, decoder = self._items(call_id, channel), self._line.decoder
        if items is None:
            decoder.discard(body)
            return
        before = decoder.shared
        try:
            item = decoder.decode(body)
        except BaseException as error:  # user code in the received value's classes may raise anything
            items.set_exception(unreadable(self._line.name, error))
            return
        items.add(item, len(body) + decoder.shared - before)

    def take_end(self, call_id: int, channel: int, _: Body) -> None:
        items = self._items(call_id, channel)
        if items is not None:
            items.set_result()

    def take_error(self, call_id: int, channel: int, body: Body) -> None:
        items, decoder = self._items(call_id, channel), self._line.decoder
        if items is None:
            decoder.discard(body)
            return
        try:
            items.set_exception(rebuild(decoder.decode(body)))
        except BaseException as error:
            items.set_exception(unreadable(self._line.name, error))

    def _items(self, call_id: int, channel: int) -> ReceivedItems | None:
        """Return where the items of a channel go; None: nobody wants them any more."""
        call = self._open.get(call_id)
        inlet = call.inlets.get(channel) if call is not None and call.inlets is not None else None
        return inlet.items if inlet is not None and not inlet.items.over else None

    def take_note(self, _: int, body: Body) -> None:
        if self._handler is None:
            self._line.decoder.discard(body)
            return
        try:
            topic, value = self._line.decoder.decode(body)
            self._handler.on_note(topic, value)
        except BaseException:  # a note has no answer, and the calls on this connection must go on
            logger.exception("a note from %s was not understood", self._line.name)

    def lost(self) -> None:
        """Cancel all calls: the peer is gone."""
        calls = list(self._open.values())
        self._open.clear()
        for call in calls:
            call.cancel()


def unreadable(name: str, error: BaseException) -> CallError:
    """Return the error for a received value that cannot be rebuilt in this process."""
    if isinstance(error, CallError):
        return error
    failure = CallError(f"what {name} sent cannot be read here: {text_of(error)}")
    failure.__cause__ = error
    return failure
