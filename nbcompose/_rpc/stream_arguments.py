"""Streams in the arguments of a call, as they travel to another process.

A stream of a service that nobody has begun travels as a reference (`StreamReference`): its consumer makes that call
itself, and the items go from the producer to the consumer. Any other stream is an `Outlet` at the caller's end, and an
`Inlet` at the other: its items travel on a channel of the call, from the moment at which the consumer asks for the
first. `_rpc/stream_sources.py` has where an outlet's items come from, `_rpc/remote_streams.py` what consumers get.

Frames on channel n of a call (see `_rpc/protocol.py`): ITEM, END and ERROR from the caller; CREDIT and CANCEL from the
other end, the first CREDIT with the number 0.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from nbcompose._rpc.blocking import Over, kept
from nbcompose._rpc.flow import ReceivedItems
from nbcompose._schema import ArrivedStream
from nbcompose._user_exceptions import said
from nbcompose.errors import CallError, StreamTaken

MOST_CHANNELS = 255

logger = logging.getLogger("nbcompose.rpc")


class Source(Protocol):
    """Where the items of a stream come from. Used on one event loop, by one task after the other."""

    async def next(self) -> Any:
        """Return the next item. Raises `Over` at the end, or what the stream's code raises."""
        ...

    async def close(self) -> None:
        """End the stream before its end: its code stops, as a generator that is closed."""
        ...


class ServiceStream:
    """Base of the items of an api that yields, as its caller has them."""

    __slots__ = ()

    def made_by(self) -> tuple[str, str]:
        """Return the api, as `Service.api`, and the annotation of what it returns, "" where that is not known."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class StreamReference(ArrivedStream):
    """A stream that has not begun: the call that makes it, for its consumer to make as a call of its own.

    `left`: seconds that its caller has, when it is sent. `route`: what the caller knows of the service, for a consumer
    that does not know it yet.
    """

    service: str
    api: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    left: float | None
    route: Any

    def __str__(self) -> str:
        return f"<stream of {self.service}.{self.api}>"


class Outlet:
    """A stream in the arguments of a call, of which this process sends the items. Its code runs in `context`.

    `begun`: the consumer has asked for items, so that the call cannot be made once more. `error`: what the stream's
    code has raised, with the number under which it was told.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.context = contextvars.copy_context()
        self.begun = False
        self.error: BaseException | None = None
        self.origin = 0
        self._is_closed = False

    async def close(self) -> None:
        """End the stream, unless that has been done; an error of its code is logged, as nobody waits for it."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            await self.source.close()
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError):
                logger.warning("a stream that was an argument could not be closed: %s", said(error))

    def failed(self, error: BaseException) -> int:
        """Note the error of the stream's own code; return a number by which it is known when it comes back."""
        self.error, self.origin = error, random.getrandbits(63) | 1
        return self.origin


def leave_unread(arguments: Any) -> None:
    """Close the streams in `arguments`, of a call that is not made again, that nobody has begun to read."""
    args, kwargs = arguments if isinstance(arguments, tuple) else ((), {})
    for value in (*(() if isinstance(args, str) else args), *kwargs.values()):
        if isinstance(value, Outlet) and not value.begun:
            kept(asyncio.get_running_loop().create_task(value.close(), context=value.context))


class Inlet(ArrivedStream):
    """The other end of an outlet: a `Source` of the items that the caller sends. Asks for them when it is first read.

    `send` sends a frame on its channel: CREDIT with a number, or CANCEL where there is none.
    """

    def __init__(self, channel: int) -> None:
        self.channel = channel
        self.items = ReceivedItems(self._acknowledge)
        self._send: Callable[[int | None], object] = _nothing
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begun = False

    def bind(self, loop: asyncio.AbstractEventLoop, send: Callable[[int | None], object]) -> None:
        """Set what carries the frames; called when the call that has it in its arguments arrives."""
        self._loop, self._send = loop, send

    @property
    def begun(self) -> bool:
        return self._begun

    def __str__(self) -> str:
        return "<stream>"

    async def next(self) -> Any:
        assert self._loop is not None, "it was sent in something else than the arguments of a call"
        if not self._begun:
            self._begun = True
            if not self.items.over:
                self._send(0)
        return await self.items.next(self._loop)

    async def close(self) -> None:
        """Tell the caller that no more items are wanted."""
        self._begun = True
        self.items.drop()
        if not self.items.over:
            self.items.set_result()
            self._send(None)

    def _acknowledge(self, count: int) -> None:
        self._send(count)


def _nothing(_: int | None) -> None: ...


# The inlets of the body that this thread decodes, see `Decoder.inlets`.
arriving = threading.local()


def open_inlet(channel: int) -> Inlet:
    """Make the other end of an outlet; called where the arguments of a call are decoded."""
    inlet = Inlet(channel)
    found: list[Inlet] | None = getattr(arriving, "inlets", None)
    if found is None:
        raise CallError("a stream was sent in something else than the arguments of a call")
    found.append(inlet)
    return inlet


class InletSource:
    """The items of an inlet, passed on to a further service by the one that got it."""

    def __init__(self, inlet: Inlet) -> None:
        self.next = inlet.next
        self.close = inlet.close


class ListSource:
    """The items of a list that came as the argument."""

    def __init__(self, items: list[Any]) -> None:
        self._items = iter(items)

    async def next(self) -> Any:
        for item in self._items:
            return item
        raise Over

    async def close(self) -> None:
        self._items = iter(())


def taken(what: str) -> StreamTaken:
    """Return the error for the second use of a stream."""
    return StreamTaken(
        f"{what} can be used once, and has been passed on, or read to its end: make the call again for another, or "
        "have `nbcompose.streams.tee` make several of one"
    )
