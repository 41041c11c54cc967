"""HTTP below the `openai` package: what is sent to a server, and how much of what it answers is read.

The package reads variables of its own (organization, project, headers of any name), follows redirects with the key, and
reads errors and lines of any length. Here a request has only the headers that the interface needs, the key goes to the
server whose address was given and to no other, and what comes is bounded.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2

from nbcompose._user_exceptions import clipped
from nbcompose.errors import CallError, ServiceUnavailable

MAX_LINE = 4 * 1024 * 1024  # bytes of one message of a stream, or of one line of it
MAX_DOCUMENT = 16 * 1024 * 1024  # bytes of an answer that does not stream
MAX_ERROR = 256 * 1024  # bytes of an error
SHOWN = 200  # characters of what a server says, in an error of ours
EVENTS = "text/event-stream"
JSON = "application/json"

_SENT = ("Accept", "Content-Length", "Content-Type", "Host", "Transfer-Encoding", "User-Agent")


class Bounded(httpx2.AsyncBaseTransport):
    """Sends requests to one server, called `shown` in errors. `key` gives the key, or None, when a request is sent."""

    def __init__(self, shown: str, key: Callable[[], str | None], inner: httpx2.AsyncBaseTransport) -> None:
        self._shown = shown
        self._key = key
        self._inner = inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        headers = {name: request.headers[name] for name in _SENT if name in request.headers}
        # An answer that is packed could be a thousand times as large as what is read of it.
        headers["Accept-Encoding"] = "identity"
        key = self._key()
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        plain = httpx2.Request(
            request.method, request.url, headers=headers, stream=request.stream, extensions=request.extensions
        )
        response = await self._inner.handle_async_request(plain)
        try:
            limit, by_line = self._limit(response)
        except CallError:
            await response.aclose()
            raise
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Pieces(response.stream, self._shown, limit, by_line)
        return response

    def _limit(self, response: httpx2.Response) -> tuple[int, bool]:
        """Return how many bytes are read, of each line or of all. Raises `ServiceUnavailable` for what is not read."""
        status, kind = response.status_code, response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if 300 <= status < 400:
            place = clipped(response.headers.get("Location", "nowhere"), SHOWN)
            told = f"{self._shown} redirects to {place}: give that address, if it is to get the requests and the key"
            raise ServiceUnavailable(told).from_below()
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise unlike(self._shown, f"an answer that is packed ({clipped(kind, SHOWN)}), which was not asked for")
        if status >= 400:
            return MAX_ERROR, False
        if kind not in (EVENTS, JSON):
            raise unlike(self._shown, f"an answer of the type {clipped(kind, SHOWN) or 'none'}")
        return (MAX_LINE, True) if kind == EVENTS else (MAX_DOCUMENT, False)

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Pieces(httpx2.AsyncByteStream):
    """A body of which no more than `limit` bytes are read, or none of whose messages is longer."""

    def __init__(self, inner: httpx2.AsyncByteStream, shown: str, limit: int, by_line: bool) -> None:
        self._inner = inner
        self._shown = shown
        self._limit = limit
        self._by_line = by_line

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for piece in self._inner:
            size += len(piece)
            if self._by_line and (end := _end_of_message(piece)) >= 0:
                size = len(piece) - end
            if size > self._limit:
                raise unlike(self._shown, f"more than {self._limit:,} bytes where a message was to end")
            yield piece

    async def aclose(self) -> None:
        await self._inner.aclose()


def _end_of_message(piece: bytes) -> int:
    """Return where the last line that is empty begins; -1 if there is none. Lines end in any of three ways."""
    return max(piece.rfind(end) for end in (b"\n\n", b"\r\r", b"\r\n\r\n"))


def unlike(shown: str, what: Any) -> ServiceUnavailable:
    """Return the error of a server that is no OpenAI-compatible one, or not at this address."""
    return ServiceUnavailable(
        f"{shown} answers, but not as an OpenAI-compatible server: it gave {what}. Is the address right?"
    ).from_below()
