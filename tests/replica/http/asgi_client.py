"""Requests to an ASGI application without a socket, as a server makes them: by hand, and as a transport of httpx.

httpx's own `ASGITransport` gives a response only when it is complete, and knows no client that goes away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import httpx

from tests.patience import PATIENCE

Message = MutableMapping[str, Any]
App = Callable[[Any, Any, Any], Awaitable[None]]


class Request:
    """One request. What the application sends waits until it is taken (`next`)."""

    def __init__(
        self,
        app: App,
        path: str,
        headers: Iterable[tuple[str, str]] = (("host", "127.0.0.1"),),
        method: str = "POST",
        *,
        query: bytes = b"",
        root_path: str = "",
        server: tuple[str, int | None] | None = ("127.0.0.1", 8000),
    ) -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query,
            "root_path": root_path,
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers],
            "client": ("127.0.0.1", 4000),
            "server": server,
        }
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._outbox: asyncio.Queue[Message] = asyncio.Queue(1)
        self.task = asyncio.ensure_future(app(scope, self._inbox.get, self._outbox.put))

    def send(self, body: bytes = b"", *, more: bool = False) -> None:
        self._inbox.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def disconnect(self) -> None:
        self._inbox.put_nowait({"type": "http.disconnect"})

    async def next(self) -> Message | None:
        """The next message of the application; None once it has returned. Raises what it raises."""
        getting = asyncio.ensure_future(self._outbox.get())
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait([getting, self.task], return_when=asyncio.FIRST_COMPLETED)
        if getting.done():
            return getting.result()
        getting.cancel()
        self.task.result()
        return None if self._outbox.empty() else self._outbox.get_nowait()

    async def response(self) -> httpx.Response:
        """The complete response."""
        start, body = await self.next(), b""
        assert start is not None
        while (message := await self.next()) is not None:
            body += message["body"]
        return httpx.Response(start["status"], headers=start["headers"], content=body)


class StreamingTransport(httpx.AsyncBaseTransport):
    """Gives responses as they come. Closing one that is not complete disconnects its client."""

    def __init__(self, app: App, server: tuple[str, int | None]) -> None:
        self._app = app
        self._server = server

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw]
        url = request.url
        made = Request(self._app, url.path, headers, request.method, query=url.query, server=self._server)
        assert isinstance(request.stream, httpx.AsyncByteStream)
        async for chunk in request.stream:
            made.send(chunk, more=True)
        made.send()
        start = await made.next()
        assert start is not None
        return httpx.Response(start["status"], headers=start["headers"], stream=_Body(made))


class _Body(httpx.AsyncByteStream):
    def __init__(self, request: Request) -> None:
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while (message := await self._request.next()) is not None:
                yield message["body"]
        except ConnectionAbortedError as error:
            raise httpx.RemoteProtocolError(str(error)) from error

    async def aclose(self) -> None:
        self._request.disconnect()
        await asyncio.wait([self._request.task], timeout=PATIENCE)
