"""A real server on a loopback socket, of one instance of a class, with a small runtime below it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import socket
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator
from typing import Any, TypeVar

import httpx
from prometheus_client.core import GaugeMetricFamily, Metric

from nbcompose._replica.http.access import Access
from nbcompose._replica.http.exchange import Limits
from nbcompose._replica.http.server import HttpServer
from nbcompose._schema.api import ApiSchema
from nbcompose._service.introspect import declare
from nbcompose._spec import ApiSpec, Http, ServiceSpec
from nbcompose._tracing.spans import CallContext, Parent
from nbcompose.errors import CallCancelled
from tests.patience import PATIENCE

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
        self.timeouts: list[float | None] = []
        self.reasons: list[str] = []
        self.answers: Counter[tuple[str, int]] = Counter()
        self.refusals: list[tuple[str, str]] = []

    def context(self, parent: Parent | None, timeout: float | None) -> CallContext:
        self.timeouts.append(timeout)
        self.contexts.append(CallContext(None, *(parent or ())))
        return self.contexts[-1]

    async def invoke(self, spec: ApiSpec, arguments: dict[str, Any], context: CallContext) -> Any:
        with cancelled_with(context):
            return self.schemas[spec.name].check_result(await self._call(spec, arguments))

    async def stream(self, spec: ApiSpec, arguments: dict[str, Any], context: CallContext) -> AsyncGenerator[Any, None]:
        async with contextlib.aclosing(self._call(spec, arguments)) as items:
            while True:
                with cancelled_with(context):
                    try:
                        item = await anext(items)
                    except StopAsyncIteration:
                        return
                yield item

    def _call(self, spec: ApiSpec, arguments: dict[str, Any]) -> Any:
        args, kwargs = self.schemas[spec.name].call_arguments(arguments)
        return getattr(self.instance, spec.method)(*args, **kwargs)

    def refused(self, api: ApiSpec, error: Exception) -> None:
        self.refusals.append((api.name, type(error).__name__))

    def answered(self, route: str, status: int) -> None:
        self.answers[route, status] += 1

    async def ready(self) -> list[str]:
        return self.reasons

    async def metric_families(self) -> list[Metric]:
        gauge = GaugeMetricFamily("nbcompose_test", "For the test.", labels=["replica"])
        gauge.add_metric(["0"], 7)
        return [gauge]


@contextlib.contextmanager
def cancelled_with(context: CallContext) -> Iterator[None]:
    task = asyncio.current_task()
    assert task is not None
    context.on_cancel(task.cancel)
    try:
        yield
    except asyncio.CancelledError:
        raise CallCancelled("the client has gone") from None
    finally:
        context.forget(task.cancel)


class Served:
    """A server that runs, its address, and what is behind it."""

    def __init__(self, server: HttpServer, runtime: Runtime, port: int) -> None:
        self.server = server
        self.runtime = runtime
        self.instance = runtime.instance
        self.port = port
        self.host = f"127.0.0.1:{port}"
        # Without `verify`: reading certificates, of which there are none, would take most of a test's time.
        self.http = httpx.AsyncClient(base_url=f"http://{self.host}", timeout=PATIENCE, verify=False)

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


@contextlib.asynccontextmanager
async def serving(
    service: type,
    http: Http | None = None,
    limits: Limits | None = None,
    token: str | None = None,
    loopback: bool = True,
) -> AsyncIterator[Served]:
    spec = dataclasses.replace(declared(service)[0], http=http or Http())
    runtime = Runtime(spec)
    access = dataclasses.replace(Access.of(spec.http, token), loopback=loopback)
    server = HttpServer(runtime, access, limits)
    sock = listening_socket()
    served = Served(server, runtime, sock.getsockname()[1])
    server.listen(sock)
    try:
        yield served
    finally:
        await served.http.aclose()
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
