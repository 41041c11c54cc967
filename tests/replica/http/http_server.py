"""A real server on a loopback socket, or an ASGI application, of one instance of a class; a small runtime below it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import socket
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, Literal, TypeVar

import httpx
from prometheus_client.core import GaugeMetricFamily, Metric

from nbcompose._replica.chat import Completions
from nbcompose._replica.chat_api import COMPLETIONS
from nbcompose._replica.http.access import Access
from nbcompose._replica.http.asgi import AsgiApp
from nbcompose._replica.http.exchange import Limits
from nbcompose._replica.http.server import HttpServer
from nbcompose._replica.local_stream import LocalStream
from nbcompose._rpc import background
from nbcompose._schema.api import ApiSchema
from nbcompose._service.introspect import declare
from nbcompose._spec import ApiSpec, Http, ServiceSpec
from nbcompose._tracing.spans import CallContext
from tests.patience import PATIENCE
from tests.replica.http.asgi_client import StreamingTransport

T = TypeVar("T")


@functools.cache  # most tests of a file are of one class
def declared(cls: type[Any]) -> tuple[ServiceSpec, dict[str, ApiSchema]]:
    spec = declare(cls, {})
    return spec, {a.name: ApiSchema.of(cls, a) for a in spec.apis}


class Runtime:
    """Calls the methods of one instance, as a replica's runtime does, and remembers the contexts."""

    def __init__(self, spec: ServiceSpec) -> None:
        self.spec = spec
        self.schemas = declared(spec.cls)[1]  # type: ignore[arg-type]  # a class has a hash
        if spec.http.max_values != Http().max_values:
            self.schemas = {a.name: ApiSchema.of(spec.cls, a, spec.http.max_values) for a in spec.apis}
        self.instance: Any = spec.cls()
        self.contexts: list[CallContext] = []
        self.reasons: list[str] = []
        self.answers: Counter[tuple[str, int]] = Counter()
        self.refusals: list[tuple[str, str]] = []

    async def invoke(
        self, spec: ApiSpec, arguments: dict[str, Any], context: CallContext, encode: Callable[[Any], Any] | None = None
    ) -> Any:
        result = self.schemas[spec.name].check_result(await self._call(spec, arguments, context))
        return result if encode is None else encode(result)

    async def stream(self, spec: ApiSpec, arguments: dict[str, Any], context: CallContext) -> AsyncGenerator[Any, None]:
        async with contextlib.aclosing(self._call(spec, arguments, context)) as items:
            async for item in items:
                yield item

    def _call(self, spec: ApiSpec, arguments: dict[str, Any], context: CallContext) -> Any:
        self.contexts.append(context)
        if spec is COMPLETIONS:
            return Completions(self.spec.name, self.instance).complete(**arguments)
        given = {name: arguments.get(name) for name in spec.stream_params}
        lists = {n: LocalStream(n, None, v, background()) for n, v in given.items() if isinstance(v, list)}
        arguments = {**arguments, **lists}
        args, kwargs = self.schemas[spec.name].call_arguments(arguments)
        return getattr(self.instance, spec.method)(*args, **kwargs)

    def refused(self, api: str, error_type: str) -> None:
        self.refusals.append((api, error_type))

    def answered(self, route: str, status: int) -> None:
        self.answers[route, status] += 1

    async def language_models(self) -> list[str]:
        return list(Completions(self.spec.name, self.instance).models())

    async def ready(self) -> list[str]:
        return self.reasons

    async def metric_families(self) -> list[Metric]:
        gauge = GaugeMetricFamily("nbcompose_test", "For the test.", labels=["replica"])
        gauge.add_metric(["0"], 7)
        return [gauge]


class Served:
    """A service that is served, its address, and what is behind it. `server` and `raw` are the tornado face's only."""

    def __init__(self, runtime: Runtime, port: int, http: httpx.AsyncClient, server: HttpServer | None = None) -> None:
        self.runtime = runtime
        self.instance = runtime.instance
        self.port = port
        self.host = f"127.0.0.1:{port}"
        self.http = http
        self._server = server

    @property
    def server(self) -> HttpServer:
        assert self._server is not None
        return self._server

    async def raw(self, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        await writer.drain()
        return reader, writer

    def post(self, route: str, body: bytes, *headers: str) -> bytes:
        head = [f"POST {route} HTTP/1.1", f"Host: {self.host}", f"Content-Length: {len(body)}", *headers]
        return "\r\n".join([*head, "", ""]).encode() + body


def listening_socket() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


async def nothing() -> None: ...


Face = Literal["tornado", "asgi"]


@contextlib.asynccontextmanager
async def serving(
    service: type,
    http: Http | None = None,
    limits: Limits | None = None,
    token: str | None = None,
    loopback: bool = True,
    face: Face = "tornado",
    openai: bool = False,
) -> AsyncIterator[Served]:
    spec = dataclasses.replace(declared(service)[0], http=http or Http(), openai=openai)
    runtime = Runtime(spec)
    access = dataclasses.replace(Access.of(spec.http, token), loopback=loopback)
    if face == "asgi":
        names = frozenset() if loopback else frozenset({"127.0.0.1"})
        app = AsgiApp(runtime, dataclasses.replace(access, allowed_hosts=names), nothing, nothing, limits)
        transport = StreamingTransport(app, ("127.0.0.1" if loopback else "10.0.0.1", 8000))
        async with httpx.AsyncClient(base_url="http://127.0.0.1:8000", transport=transport) as client:
            yield Served(runtime, 8000, client)
        return
    server = HttpServer(runtime, access, limits)
    sock = listening_socket()
    port = sock.getsockname()[1]
    server.listen(sock)
    try:
        # Without `verify`: reading certificates, of which there are none, would take most of a test's time.
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, verify=False) as client:
            yield Served(runtime, port, client, server)
    finally:
        await server.stop(0)


async def soon(awaitable: Awaitable[T]) -> T:
    """Its result; a failure instead of a test that hangs."""
    return await asyncio.wait_for(awaitable, PATIENCE)


async def read_response(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """One reply with a length, and not a byte more."""
    head = (await soon(reader.readuntil(b"\r\n\r\n"))).decode()
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return int(first.split()[1]), headers, body


def error_of(response: httpx.Response, status: int, type_name: str) -> dict[str, Any]:
    """The error of a reply, which has the one shape."""
    assert response.status_code == status, response.text
    document = response.json()
    assert document.keys() == {"error"}
    error: dict[str, Any] = document["error"]
    assert error.keys() - {"problems"} == {"type", "message", "id"}
    assert error["type"] == type_name
    return error
