"""The items of a stream over HTTP, as they come: NDJSON, or what else `Accept` asks for.

NDJSON: one JSON value a line; an error in mid-stream is a last line {"error": {…}}.
Plain text, of items that are texts: nothing but they; after an error the connection is closed in mid-reply, since no
text could tell of one.
Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html): each item is the `data` of a
message; `event: end` is the last one of a complete stream, `event: error` of one that failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection
from dataclasses import dataclass
from typing import Any

from tornado.iostream import StreamClosedError

from nbcompose.raised import contained
from nbcompose.replica.exchange import Exchange
from nbcompose.replica.replies import JSON, TEXT, content_type, reply_aside

NDJSON = "application/x-ndjson"
SSE = "text/event-stream"


@dataclass(frozen=True, slots=True)
class StreamForm:
    """How items, errors and the end look on the line.

    `of`: what an item itself is written as. `before_error`: None where an error cannot be told. `idle`: what says
    "still here" without being an item.
    """

    media_type: str
    of: str = JSON
    before: bytes = b""
    after: bytes = b""
    before_error: bytes | None = b""
    end: bytes = b""
    idle: bytes = b""


FORMS = {
    NDJSON: StreamForm(NDJSON, after=b"\n"),
    SSE: StreamForm(
        SSE,
        before=b"data: ",
        after=b"\n\n",
        before_error=b"event: error\ndata: ",
        # A message without data is not dispatched by browsers, so the end has some.
        end=b"event: end\ndata: {}\n\n",
        idle=b": still here\n\n",
    ),
    TEXT: StreamForm(content_type(TEXT), of=TEXT, before_error=None),
}


def offers(item_types: Collection[str]) -> tuple[str, ...]:
    """The forms of a stream whose items may be written as `item_types`, the default first."""
    return tuple(media_type for media_type, form in FORMS.items() if form.of in item_types)


class ItemStream:
    """Sends one stream on one exchange. `dump` makes bytes of an item, as what the form says an item is."""

    def __init__(self, exchange: Exchange, form: StreamForm, dump: Callable[[Any], bytes]) -> None:
        self._exchange = exchange
        self._form = form
        self._dump = dump
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()  # when a flush, or the quiet after the last one, began
        self._timer: asyncio.TimerHandle | None = None

    async def send(self, items: AsyncGenerator[Any, None]) -> None:
        """Send all of `items` and the end, or the error that they end in; then close them, also when nobody listens.

        An error before anything was sent is raised, for a reply with a status of its own.
        """
        form = self._form
        self._beat()
        try:
            async for item in items:
                await self._write(form.before + self._dump(item) + form.after)
                if self._exchange.closed:
                    return
            await self._write(form.end)
            self._exchange.end()
        except BaseException as error:  # a CancelledError of the api's own too
            if not self._exchange.replied:
                raise
            await self._tell(error)
        finally:
            if self._timer is not None:
                self._timer.cancel()
            await items.aclose()

    async def _tell(self, error: BaseException) -> None:
        if self._exchange.closed:
            return
        reply = await reply_aside(contained(error), trusted=self._exchange.site.access.trusted)
        if self._form.before_error is None:
            self._exchange.hang_up()
            return
        await self._write(self._form.before_error + reply.body + self._form.after)
        self._exchange.end()

    async def _write(self, chunk: bytes) -> None:
        if self._exchange.closed:
            return
        self._exchange.writing, self._since = True, self._loop.time()
        try:
            await self._put(chunk)
        except StreamClosedError:
            self._exchange.connection_lost()
        finally:
            self._exchange.writing, self._since = False, self._loop.time()

    def _put(self, chunk: bytes) -> asyncio.Future[None]:
        if self._exchange.replied:
            return self._exchange.write(chunk)
        return self._exchange.begin(self._form.media_type, chunk)

    def _beat(self) -> None:
        """Say "still here" after a quiet while, and hang up on a reader that takes nothing."""
        limits = self._exchange.site.limits
        quiet = self._loop.time() - self._since
        delay = limits.heartbeat
        if self._exchange.closed:
            return
        if self._exchange.writing:
            if quiet >= limits.stall:
                self._exchange.hang_up()
                return
            delay = limits.stall - quiet
        elif quiet < limits.heartbeat:
            delay = limits.heartbeat - quiet
        else:
            self._put(self._form.idle)
            self._since = self._loop.time()
        self._timer = self._loop.call_later(delay, self._beat)
