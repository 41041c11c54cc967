"""A Jupyter server in the test's own loop that passes requests on, and what stands behind it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import httpx
from jupyter_server.auth import Authorizer
from jupyter_server.serverapp import ServerApp
from tornado.httpserver import HTTPServer

from nbcompose._jupyter.finding import UnknownRuntime
from nbcompose._jupyter.proxy import PATHS, ProxyHandler
from nbcompose._jupyter.reaching import Services
from nbcompose._jupyter.upstream import Connections
from nbcompose.errors import UnknownService
from tests.patience import PATIENCE

BASE_URL = "/user/name/"
TOKEN = "jupyters-own-token"
SECRET = "the-services-token"
KERNEL = "0f8fad5b-d9cb-469f-a165-70867728950e"
AT = f"{BASE_URL}nbcompose/at/{KERNEL}"


class Client:
    """In place of the connection to a process: says where services answer. `asked` counts."""

    def __init__(self, ports: dict[str, int], token: str | None = SECRET) -> None:
        self.ports = ports
        self.token = token
        self.asked = 0
        self.error: Exception | None = None
        self.answering = asyncio.Event()
        self.answering.set()

    async def ask(self, request: Any, answer: Any, within: float | None = None) -> dict[str, Any]:
        self.asked += 1
        await self.answering.wait()
        if self.error is not None:
            raise self.error
        if request["service"] not in self.ports:
            raise UnknownService.among(request["service"], self.ports)
        port = self.ports[request["service"]]
        return {"type": "reach", "id": "1", **request, "host": "127.0.0.1", "port": port, "token": self.token}


class Runtimes:
    """One process, a kernel."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.names = {KERNEL, "folder/a notebook.ipynb"}

    async def find(self, where: str) -> Any:
        if where not in self.names:
            raise UnknownRuntime(f"no process that runs services is called {where!r}")
        return SimpleNamespace(client=self.client)


class Jupyter:
    """`http` sends Jupyter's token; `app` is the server."""

    def __init__(self, app: ServerApp, port: int, client: Client, connections: Connections) -> None:
        self.app = app
        self.port = port
        self.client = client
        self.connections = connections
        self.origin = f"http://127.0.0.1:{port}"
        self.http = self.browser(Authorization=f"token {TOKEN}")

    def browser(self, **headers: str) -> httpx.AsyncClient:
        """A client without Jupyter's token."""
        return httpx.AsyncClient(base_url=self.origin, headers=headers, timeout=PATIENCE, verify=False)

    @contextlib.asynccontextmanager
    async def logged_in(self) -> AsyncIterator[httpx.AsyncClient]:
        """A browser with the cookies of a login."""
        async with self.browser() as browser:
            await browser.get(f"{BASE_URL}login")
            form = {"password": TOKEN, "_xsrf": browser.cookies["_xsrf"]}
            answer = await browser.post(f"{BASE_URL}login", data=form)
            assert answer.status_code == 302
            yield browser

    async def raw(self, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        return reader, writer

    def head(self, method: str, path: str, *headers: str) -> bytes:
        """The head of a request that has Jupyter's token."""
        lines = [f"{method} {AT}/{path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", f"Authorization: token {TOKEN}"]
        return "\r\n".join([*lines, *headers, "", ""]).encode()


class App(ServerApp):
    """Leaves the signals to the tests."""

    def init_signal(self) -> None:
        pass


@contextlib.asynccontextmanager
async def jupyter(
    ports: dict[str, int],
    *,
    authorizer: type[Authorizer] | None = None,
    token: str | None = SECRET,
    counts: bool = True,
    kept_for: float = 30.0,
    **traits: Any,
) -> AsyncIterator[Jupyter]:
    """A server as on a hub. `ports`: of the services."""
    app = App(base_url=BASE_URL, open_browser=False, **traits)
    app.config.IdentityProvider.token = TOKEN
    if authorizer is not None:
        app.config.ServerApp.authorizer_class = authorizer
    app.initialize([], find_extensions=False, new_httpserver=False)
    client = Client(ports, token)
    connections = Connections(kept_for)
    services = Services(Runtimes(client), connections)
    handler = (BASE_URL.rstrip("/") + PATHS, ProxyHandler, {"services": services, "counts": counts})
    app.web_app.add_handlers(".*$", [handler])
    server = HTTPServer(app.web_app)
    sock = socket.create_server(("127.0.0.1", 0))
    server.add_sockets([sock])
    sock.setblocking(False)
    running = Jupyter(app, sock.getsockname()[1], client, connections)
    try:
        async with running.http:
            yield running
    finally:
        services.close()
        server.stop()
        await server.close_all_connections()
        app.session_manager.close()


Answers = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Stand:
    """A service that is a script of the test. `heads`: of the requests that have come, `connections`: how many came."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self.heads: list[str] = []

    async def head(self, reader: asyncio.StreamReader) -> str:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        self.heads.append(head)
        return head

    def headers(self, n: int = -1) -> dict[str, str]:
        lines = self.heads[n].strip().split("\r\n")[1:]
        return {name: value for name, _, value in (line.partition(": ") for line in lines)}


@contextlib.asynccontextmanager
async def stand(
    answers: Callable[[Stand, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[Stand]:
    """Each connection is answered by `answers`, and closed when that returns."""
    made = Stand()
    tasks = set[asyncio.Task[Any]]()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        made.connections += 1
        try:
            await answers(made, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def saying(reply: bytes) -> Callable[[Stand, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """The same answer to each request without a body."""

    async def answers(made: Stand, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await made.head(reader)
            writer.write(reply)

    return answers
