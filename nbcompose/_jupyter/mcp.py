"""Apis as tools of the Model Context Protocol, by its official Python SDK. `mcp_handler.py` imports this on first use.

No session is kept, and each answer is one JSON document: a request is answered by what runs at that moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mcp import MCPError
from mcp import types as mcp_types
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

from nbcompose import __version__
from nbcompose._jupyter import finding
from nbcompose._jupyter.finding import Runtime, Runtimes
from nbcompose._protocol import Bundle, messages, wire
from nbcompose.errors import NbcomposeError

MOST_NAME = 64  # characters that clients take
MOST_ITEMS = 10_000  # of a stream in one answer
MOST_TEXT = 10_000_000  # characters of an answer
WAYS = "tools of nbcompose: apis of services that run in this user's notebooks and programs"


@dataclass(frozen=True, slots=True)
class Tool:
    """An api of a service in a process."""

    runtime: Runtime
    service: str
    api: str

    @property
    def name(self) -> str:
        return _clean(f"{self.service}-{self.api}")

    @property
    def full_name(self) -> str:
        """Where several processes have such an api."""
        where = self.runtime.id if self.runtime.kind == "serve" else self.runtime.id[:8]
        return _clean(f"{_clean(where)}-{self.name}")


def _clean(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:MOST_NAME]


class ToolServer:
    """The tools that the setting allows, of the processes that run now. `app` is the ASGI application."""

    def __init__(self, runtimes: Runtimes, allowed: Sequence[str]) -> None:
        self._runtimes = runtimes
        self._allowed = frozenset(allowed)
        server = Server(
            "nbcompose",
            version=__version__,
            instructions=WAYS,
            on_list_tools=self._on_list,
            on_call_tool=self._on_call,
        )
        self._manager = StreamableHTTPSessionManager(
            server, json_response=True, stateless=True, max_request_body_size=wire.MAX_MESSAGE
        )
        self.app = self._manager.handle_request
        self._known: dict[str, Tool] = {}  # those that were listed last
        self._stopping = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to serve. What is under way ends with `stop`."""
        started = asyncio.get_running_loop().create_future()

        async def run() -> None:
            async with self._manager.run():
                started.set_result(None)
                await self._stopping.wait()

        self._running = asyncio.ensure_future(run())
        await started

    async def stop(self) -> None:
        self._stopping.set()
        if self._running is not None:
            await self._running

    # -- the tools

    async def tools(self) -> dict[str, Tool]:
        """Return the tools by name: that of the service and the api, and where several have it also of the process."""
        found = [
            Tool(runtime, service["name"], api["name"])
            for runtime, services in await self._runtimes.services()
            for service in services
            for api in service["apis"]
            if self._allowed & {service["name"], f"{service['name']}.{api['name']}"}
        ]
        named: dict[str, list[Tool]] = {}
        for tool in found:
            named.setdefault(tool.name, []).append(tool)
        self._known = dict(_distinct(named))
        return self._known

    async def _find(self, name: str) -> Tool:
        """Return the tool that a client means: of those that it was told of, where its process still runs."""
        tool = self._known.get(name)
        if tool is None or not tool.runtime.is_open:
            tools = await self.tools()
            tool = tools.get(name)
            if tool is None:
                there = ", ".join(tools) or "none"
                text = f"no tool is called {wire.printable(name, 200)!r}; there are: {there}"
                raise MCPError(mcp_types.INVALID_PARAMS, text)
        return tool

    async def _on_list(self, context: Any, params: Any) -> mcp_types.ListToolsResult:
        tools = await self.tools()
        described = await asyncio.gather(*(self._described(name, tool) for name, tool in tools.items()))
        return mcp_types.ListToolsResult(tools=[tool for tool in described if tool is not None])

    async def _described(self, name: str, tool: Tool) -> mcp_types.Tool | None:
        """Return what clients are told of a tool; None where its service has gone meanwhile."""
        request: messages.FormRequest = {"type": "form", "service": tool.service, "api": tool.api}
        try:
            form = await tool.runtime.client.ask(request, messages.Form, finding.ANSWER_WITHIN)
        except (NbcomposeError, ConnectionError):
            return None
        text = f"{form['doc']}\n\n{form['signature']}" if form["doc"] else form["signature"]
        schema = {"type": "object", **form["schema"]}
        return mcp_types.Tool(name=name, title=f"{tool.service}.{tool.api}", description=text, input_schema=schema)

    async def _on_call(self, context: Any, params: mcp_types.CallToolRequestParams) -> mcp_types.CallToolResult:
        tool = await self._find(params.name)
        try:
            return await _called(tool, params.arguments or {})
        except NbcomposeError as error:
            return _failed(error)
        except ConnectionError as error:
            return _failed(NbcomposeError(f"the process that runs {tool.service} has ended: {error}"))


def _distinct(named: dict[str, list[Tool]]) -> Iterator[tuple[str, Tool]]:
    for name, tools in named.items():
        if len(tools) == 1:
            yield name, tools[0]
        else:
            yield from ((tool.full_name, tool) for tool in tools)


# -- calls


async def _called(tool: Tool, arguments: dict[str, Any]) -> mcp_types.CallToolResult:
    """Call an api. Where this is cancelled, so is the call."""
    request: messages.Call = {"type": "call", "service": tool.service, "api": tool.api, "arguments": arguments}
    items: list[Bundle] = []
    characters = 0
    async with contextlib.aclosing(tool.runtime.client.stream(request)) as said:
        async for message in said:
            if message["type"] == "result":
                return _result(message["bundle"])
            if message["type"] == "item":
                items.append(message["bundle"])
                characters += len(_text(message["bundle"]))
                if len(items) > MOST_ITEMS or characters > MOST_TEXT:
                    raise NbcomposeError(
                        f"{tool.service}.{tool.api} has yielded more than {MOST_ITEMS:,} items, or {MOST_TEXT:,} "
                        "characters, and was cancelled: ask for less, or call it over HTTP"
                    )
    return _stream_result(items)


def _result(bundle: Bundle) -> mcp_types.CallToolResult:
    """The value as JSON where it has such a form, and as the notebook's text otherwise; and as a picture."""
    content: list[mcp_types.ContentBlock] = [mcp_types.TextContent(text=_text(bundle))]
    for media_type in ("image/png", "image/jpeg"):
        if picture := bundle.get(media_type):
            content.append(mcp_types.ImageContent(data=str(picture), mime_type=media_type))
    value = bundle.get("application/json")
    return mcp_types.CallToolResult(content=content, structured_content=value if isinstance(value, dict) else None)


def _stream_result(items: list[Bundle]) -> mcp_types.CallToolResult:
    """Texts are joined to one; other items are the elements of a JSON array."""
    if all(set(item) == {"text/plain"} for item in items):
        return _result({"text/plain": "".join(item["text/plain"] for item in items)})
    values = [item["application/json"] if "application/json" in item else item.get("text/plain", "") for item in items]
    return _result({"application/json": values})


def _text(bundle: Bundle) -> str:
    if "application/json" in bundle:
        return json.dumps(bundle["application/json"], ensure_ascii=False)
    return bundle.get("text/plain", "")


def _failed(error: NbcomposeError) -> mcp_types.CallToolResult:
    """An error of the call itself, which a model can read and do better."""
    failure = wire.failure(error)
    text = f"{failure['name']}: {failure['message']}" if failure["name"] != "RemoteError" else failure["message"]
    return mcp_types.CallToolResult(content=[mcp_types.TextContent(text=text)], is_error=True)
