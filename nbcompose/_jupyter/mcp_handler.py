"""`nbcompose/mcp`: requests of the Model Context Protocol under Jupyter's authentication, handed to `mcp.py` by ASGI.

The SDK takes long to import, and is an extra: it is imported by the first request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web
from tornado.iostream import StreamClosedError

from nbcompose._jupyter.api import RESOURCE
from nbcompose._jupyter.finding import Runtimes

if TYPE_CHECKING:
    from nbcompose._jupyter.mcp import ToolServer

NONE_ALLOWED = (
    "no api is a tool: name services, or apis as Service.api, in the setting NbcomposeExtension.tools of the Jupyter "
    "server"
)
NOT_INSTALLED = "the package mcp is missing in the environment of the Jupyter server: pip install 'nbcompose[mcp]'"


class Tools:
    """The tool server, from the first request on. `allowed`: the setting."""

    def __init__(self, runtimes: Runtimes, allowed: Sequence[str]) -> None:
        self.allowed = allowed
        self._runtimes = runtimes
        self._lock = asyncio.Lock()
        self._server: ToolServer | None = None

    async def server(self) -> ToolServer:
        """Return it. Raises `ImportError` where the SDK is missing."""
        async with self._lock:
            if self._server is None:
                self._server = (await asyncio.to_thread(_tool_server))(self._runtimes, self.allowed)
                await self._server.start()
            return self._server

    async def stop(self) -> None:
        async with self._lock:  # a first request may be starting it
            if self._server is not None:
                await self._server.stop()
                self._server = None


def _tool_server() -> type[ToolServer]:
    from nbcompose._jupyter.mcp import ToolServer

    return ToolServer


class McpHandler(APIHandler):
    """One request of the protocol. There are no sessions and no streams of the server's own: only POST."""

    auth_resource = RESOURCE

    def initialize(self, tools: Tools) -> None:
        self._tools = tools
        self._answering: asyncio.Future[None] | None = None
        self._gone = asyncio.Event()
        self._content_type = "application/json"

    @web.authenticated
    @authorized("execute", resource=RESOURCE)  # type: ignore[untyped-decorator]
    async def post(self) -> None:
        if not self._tools.allowed:
            raise web.HTTPError(404, NONE_ALLOWED, reason="No tools")
        try:
            server = await self._tools.server()
        except ImportError as error:
            raise web.HTTPError(501, NOT_INSTALLED, reason="Not installed") from error
        self._answering = asyncio.ensure_future(server.app(self._scope(), self._receive(), self._send))
        try:
            await self._answering
        except (asyncio.CancelledError, StreamClosedError):
            if not self._gone.is_set():
                raise

    def on_connection_close(self) -> None:
        """The client has gone: what it has called is cancelled."""
        super().on_connection_close()
        self._gone.set()
        if self._answering is not None:
            self._answering.cancel()

    def _scope(self) -> dict[str, Any]:
        """The request for ASGI, without what Jupyter knows its users by."""
        secret = {"authorization", "cookie", "x-xsrftoken"}
        headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in self.request.headers.get_all()
            if name.lower() not in secret
        ]
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": self.request.protocol,
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": (self.request.remote_ip, 0),
            "server": None,
            "state": {},
        }

    def _receive(self) -> Callable[[], Awaitable[dict[str, Any]]]:
        body: list[dict[str, Any]] = [{"type": "http.request", "body": self.request.body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if body:
                return body.pop()
            await self._gone.wait()
            return {"type": "http.disconnect"}

        return receive

    async def _send(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.set_status(message["status"])
            for name, value in message.get("headers", ()):
                field, text = name.decode("latin-1").lower(), value.decode("latin-1")
                if field == "content-type":
                    self._content_type = text
                elif field != "content-length":
                    self.add_header(field, text)
        elif message["type"] == "http.response.body":
            self.write(message.get("body", b""))
            if not message.get("more_body"):
                await self.finish(set_content_type=self._content_type)
