"""Streams as HTTP replies: the formats of items, errors and the end, and how one is sent on an exchange.

- NDJSON: one JSON value per line; an error in mid-stream is a last line {"error": {…}}.
- Plain text, for items that are texts: only the items; after an error the connection is closed in mid-reply, since the
  text could not be distinguished from an item.
- Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html): each item is the `data` of a
  message; a complete stream ends with `event: end`, a failed one with `event: error`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection
from dataclasses import dataclass
from typing import Any

from nbcompose._replica.http.exchange import Exchange
from nbcompose._replica.http.responses import JSON, TEXT, content_type
from nbcompose._user_exceptions import contained

NDJSON = "application/x-ndjson"
SSE = "text/event-stream"


@dataclass(frozen=True, slots=True)
class StreamForm:
    """Format of a stream: how items, errors and the end are written.

    `of`: media type of an item. `before`, `after`: bytes around an item. `before_error`: bytes before an error; None if
    errors cannot be written. `idle`: a keep-alive message that is not an item.
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
        # Browsers do not dispatch a message without data, so the end has some.
        end=b"event: end\ndata: {}\n\n",
        idle=b": still here\n\n",
    ),
    TEXT: StreamForm(content_type(TEXT), of=TEXT, before_error=None),
}


def offers(item_types: Collection[str]) -> tuple[str, ...]:
    """Return the formats of a stream whose items may be written as `item_types`, the default first."""
    return tuple(media_type for media_type, form in FORMS.items() if form.of in item_types)


class ItemStream:
    """Sends one stream on one exchange. `dump` encodes an item as the media type that the format specifies (`of`)."""

    def __init__(self, exchange: Exchange, form: StreamForm, dump: Callable[[Any], bytes]) -> None:
        self._exchange = exchange
        self._form = form
        self._dump = dump
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()  # when the current write, or the pause after the last one, started
        self._timer: asyncio.TimerHandle | None = None

    async def send(self, items: AsyncGenerator[Any, None]) -> None:
        """Send all `items` and the end, or the error that they raise; then close them, even if the client is gone.

        An error before anything was sent is raised, so that the reply can have the error's status.
        """
        form = self._form
        self._beat()
        try:
            while True:
                try:
                    item = await self._exchange.result(anext(items))
                except StopAsyncIteration:
                    break
                await self._write(form.before + self._dump(item) + form.after)
                if self._exchange.closed:
                    return
            await self._write(form.end)
            self._exchange.end()
        except BaseException as error:  # including a CancelledError raised by the api itself
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
        reply = await self._exchange.error_reply(contained(error))
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
        except OSError:
            self._exchange.connection_lost()
        finally:
            self._exchange.writing, self._since = False, self._loop.time()

    def _put(self, chunk: bytes) -> asyncio.Future[None]:
        if self._exchange.replied:
            return self._exchange.write(chunk)
        return self._exchange.begin(self._form.media_type, chunk)

    def _beat(self) -> None:
        """Send a keep-alive message after a pause without items, and disconnect a reader that takes no data."""
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
