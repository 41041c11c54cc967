"""HTTP server of a replica: listens, accepts connections, routes requests.

Runs on the replica's loop. tornado's HTTP/1 connection implements the protocol; its `Application` is not used because
it costs a third more CPU time per request (125 instead of 92 µs, measured). See `exchange.py` for limits, `access.py`
for access control, `endpoints.py` for the handlers.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Protocol
from urllib.parse import unquote

from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters, HTTP1ServerConnection
from tornado.httputil import HTTPConnection, HTTPInputError, HTTPServerConnectionDelegate

from nbcompose._host import forking
from nbcompose._replica.http.access import Access, header
from nbcompose._replica.http.docs import ASSETS, curl_line
from nbcompose._replica.http.endpoints import ApiEndpoint, RuntimeLike, ServiceEndpoints
from nbcompose._replica.http.exchange import Exchange, Handler, Limits
from nbcompose._replica.http.responses import Reply
from nbcompose._replica.http.tornado_adapter import Stream, hang_up, is_quiet
from nbcompose._rpc import Deadlines
from nbcompose._spec import ApiSpec
from nbcompose.errors import BadRequest, HeadersTooLarge, MethodNotAllowed, UnknownApi


class HttpDoor:
    """Opens and closes the HTTP server of a replica.

    `sock`: a listening socket; None: the replica is not exposed over HTTP. `make` creates a server.
    """

    def __init__(self, sock: socket.socket | None, make: Callable[[], HttpServer]) -> None:
        self._sock = sock
        self._make = make
        self._server: HttpServer | None = None

    def open(self) -> None:
        if self._sock is not None and self._server is None:
            self._server = self._make()
            self._server.listen(self._sock.dup())

    async def shut(self, grace: float) -> None:
        """Stop accepting; requests in flight have `grace` seconds."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace)

    def renew(self) -> None:
        """Use the service's new code."""
        if self._server is not None:
            self._server.renew()


AT_ONCE = 128  # connections accepted in one event loop callback
RETRY = 1.0  # seconds until the next attempt to accept, if no connection is closed before
COUNTING = 1.0  # seconds for which the count of open files other than connections is reused

logger = logging.getLogger("nbcompose.http")


class Connections(Protocol):
    """Accepted connections, as a listener uses them."""

    @property
    def count(self) -> int:
        """Number of open connections."""

    def connected(self, sock: socket.socket, address: Any) -> None:
        """Add an accepted connection, as the newest."""

    def make_room(self) -> bool:
        """Close a connection without a request, other than the newest; return whether there was one."""


class Listener:
    """Accepts connections on `sock`, which is bound, listens, and is owned by the listener from now on.

    `most` limits the number of connections. A client that is not accepted waits in the system's queue, from which a
    sibling that shares the socket may accept it.
    """

    def __init__(self, sock: socket.socket, connections: Connections, most: int) -> None:
        self._sock = sock
        self._connections = connections
        self._most = most
        self._others = 0  # open files that are not connections
        self._counted = -math.inf  # when they were counted, on the loop's clock
        self._loop = asyncio.get_running_loop()
        self._accepting = False
        self._retry: asyncio.TimerHandle | None = None
        self._short = False  # there is no room, and that has been logged

    def start(self) -> None:
        self._sock.setblocking(False)
        self._resume()

    def stop(self) -> None:
        self._pause()
        self._forget_retry()
        self._sock.close()

    def closed(self) -> None:
        """Accept again after a connection has been closed, since there may be room."""
        if not self._accepting and self._sock.fileno() != -1:
            self._resume()

    def _accept(self) -> None:
        bound = self._bound()
        for _ in range(AT_ONCE):
            try:
                sock, address = self._sock.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:  # no free files in this process or on the machine; or no memory
                self._tell(str(error))
                self._counted = -math.inf
                if not self._connections.make_room():
                    self._wait()
                    return
                continue
            self._connections.connected(sock, address)
            if self._connections.count <= bound:
                # Not as soon as one is closed: a service at its limit would fill the log.
                self._short = self._short and self._connections.count > 0.75 * bound
                continue
            self._tell(f"at most {bound:,} are kept")
            if not self._connections.make_room():
                self._wait()
                return

    def _bound(self) -> int:
        """Return how many connections are currently allowed."""
        now = self._loop.time()
        if now >= self._counted + COUNTING:
            self._others, self._counted = forking.count() - self._connections.count, now
        return max(1, min(self._most, forking.limit() - forking.reserve() - self._others))

    def _tell(self, why: str) -> None:
        if not self._short:
            self._short = True
            logger.warning(
                "%d connections of clients: %s (of %d files that may be open, ulimit -n, %d are kept free). Those "
                "without a request are closed, the oldest first; new ones wait.",
                self._connections.count, why, forking.limit(), forking.reserve(),
            )  # fmt: skip

    def _wait(self) -> None:
        self._pause()
        if self._retry is None:
            self._retry = self._loop.call_later(RETRY, self.closed)

    def _resume(self) -> None:
        self._forget_retry()
        self._accepting = True
        self._loop.add_reader(self._sock, self._accept)

    def _pause(self) -> None:
        if self._accepting:
            self._accepting = False
            self._loop.remove_reader(self._sock)

    def _forget_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None


@dataclass(frozen=True, slots=True)
class HttpRoute:
    """Handler of a path. `open`: needs no token; `page`: a link on another site may open it."""

    path: str
    handler: Handler
    method: str = "GET"
    open: bool = False
    page: bool = False
    api: ApiSpec | None = None

    @property
    def methods(self) -> str:
        return "GET, HEAD, OPTIONS" if self.method == "GET" else f"{self.method}, OPTIONS"

    def takes(self, method: str) -> bool:
        return method == self.method or (method == "HEAD" and self.method == "GET")


class HttpServer(HTTPServerConnectionDelegate):
    """HTTP server of one replica. `listen` and `stop` are called on the loop that serves."""

    def __init__(self, runtime: RuntimeLike, access: Access, limits: Limits | None = None) -> None:
        self.access = access
        self.limits = limits or Limits()
        self.max_body = runtime.spec.http.max_body
        self.stopping = False
        self.reading = asyncio.Lock()
        self._lingering = True
        self._runtime = runtime
        self._routes = _routes(runtime, access)
        self._listener: Listener | None = None
        # Bodies are limited by the exchange, whose reply says why; tornado's own limit would only disconnect.
        self.answered = runtime.answered
        self._parameters = HTTP1ConnectionParameters(
            max_header_size=self.limits.header_bytes, header_timeout=self.limits.idle, max_body_size=2**63
        )
        self.deadlines = Deadlines(asyncio.get_running_loop())
        # In the order in which they started to wait for a request; None: tornado has not started to read.
        self._connections: dict[HTTP1ServerConnection, Exchange | None] = {}
        self._leaving: set[HTTP1ServerConnection] = set()  # closed, but `on_close` has not been called yet
        self._empty = asyncio.Event()

    def listen(self, sock: socket.socket) -> None:
        """Accept connections on a bound, listening socket, which may be shared with sibling replicas.

        The server owns the socket from now on.
        """
        self._listener = Listener(sock, self, self.limits.connections)
        self._listener.start()

    def renew(self) -> None:
        """Rebuild the routes for the service's new code, whose apis may differ."""
        self._routes = _routes(self._runtime, self.access)

    async def stop(self, grace: float) -> None:
        """Stop accepting, give requests in flight `grace` seconds, then cancel them and close all connections.

        A kept connection may have a request on its way, which is answered with `Connection: close`. One on which none
        arrives within `Limits.linger` is closed.
        """
        self.stopping = True
        if self._listener is not None:
            self._listener.stop()
        linger = min(self.limits.linger, grace)
        if not await self._drained(linger):
            self._lingering = False
            for connection, exchange in list(self._connections.items()):
                if exchange is None or not exchange.busy:
                    hang_up(connection)
            if not await self._drained(grace - linger):
                for connection, exchange in list(self._connections.items()):
                    if exchange is not None:
                        exchange.abandon()
                    hang_up(connection)
                await self._drained(None)
        self.deadlines.close()

    async def _drained(self, within: float | None) -> bool:
        """Wait up to `within` seconds until all connections are closed; return whether they are."""
        try:
            async with asyncio.timeout(within):
                while self._connections:
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            return False
        return True

    # -- connections -------------------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """Number of open connections."""
        return len(self._connections) - len(self._leaving)

    def connected(self, sock: socket.socket, address: Any) -> None:
        stream = Stream(sock)
        connection = HTTP1ServerConnection(stream, self._parameters, context=address)
        stream.refusal = partial(self._refusal, connection)
        self._connections[connection] = None
        connection.start_serving(self)

    def make_room(self) -> bool:
        """Close the connection that has been without a request for longest, preferably one that never had a request.

        Never the newest: if only that is idle, it could not be used at all. Returns whether a connection was closed.
        """
        found = None
        for connection, exchange in islice(self._connections.items(), len(self._connections) - 1):
            follows = exchange is not None and exchange.follows
            is_idle = exchange is None or exchange.idle
            if is_idle and not (follows and found) and is_quiet(connection, begun=exchange is not None):
                found = connection
                if not follows:
                    break
        if found is not None:
            self._leaving.add(found)
            hang_up(found)
        return found is not None

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> Exchange:
        assert isinstance(request_conn, HTTP1Connection)
        assert isinstance(server_conn, HTTP1ServerConnection)
        previous = self._connections.pop(server_conn, None)
        if previous is not None and not previous.replied:
            # The client disconnected just before tornado started to watch for that.
            previous.connection_lost()
        exchange = self._connections[server_conn] = Exchange(self, request_conn, follows=previous is not None)
        if self.stopping and not self._lingering:
            hang_up(server_conn)
        return exchange

    def on_close(self, server_conn: object) -> None:
        assert isinstance(server_conn, HTTP1ServerConnection)
        exchange = self._connections.pop(server_conn)
        self._leaving.discard(server_conn)
        if exchange is not None:
            exchange.connection_lost()
        if not self._connections:
            self._empty.set()
        if self._listener is not None:
            self._listener.closed()

    def _refusal(self, connection: HTTP1ServerConnection, error: HTTPInputError | None) -> bytes:
        """Return the reply to a client that sent an invalid request; see `Stream`."""
        exchange = self._connections.get(connection)
        if exchange is None:
            return b""
        if error is not None:
            return exchange.refusal(BadRequest(f"this is not HTTP/1.1: {error}"))
        if exchange.busy:
            return exchange.refusal(BadRequest("the size of a chunk of the body takes more than a line"))
        most = self.limits.header_bytes
        return exchange.refusal(HeadersTooLarge(f"the headers are larger than the {most:,} bytes that are read"))

    # -- requests ----------------------------------------------------------------------------------------------------

    def admit(self, exchange: Exchange) -> Handler:
        """Return the handler of a request whose body has not been read. Raises CallError if it is not allowed."""
        headers, method = exchange.headers, exchange.method
        if self.access.cors_origins:
            exchange.reply_headers.update(self.access.cors_headers(headers.get("Origin")))
        if "Host" not in headers and exchange.version == "HTTP/1.1":
            raise BadRequest("HTTP/1.1 wants a Host header")
        if exchange.authority is not None:  # it takes precedence over Host (RFC 9112, section 3.2.2)
            self.access.check_host(header(headers, "Host"))
            headers["Host"] = exchange.authority
        route = self._find(exchange.path)
        if route is not None:
            exchange.route = route.path
        if method == "OPTIONS":
            allowed = self.access.preflight_headers(headers, route.methods if route else "OPTIONS")
            exchange.reply_headers.update(allowed)
            return _nothing
        self.access.check(headers, token=route is None or not route.open, page=route is not None and route.page)
        if route is None:
            raise UnknownApi(self._unknown(exchange.path))
        if not route.takes(method):
            exchange.reply_headers["Allow"] = route.methods
            raise MethodNotAllowed(self._wrong_method(exchange, route))
        return route.handler

    def _find(self, path: str) -> HttpRoute | None:
        route = self._routes.get(path)
        return self._routes.get(unquote(path)) if route is None and "%" in path else route

    def _unknown(self, path: str) -> str:
        spec = self._runtime.spec
        apis = "\n".join(f"  POST {api.route}  {api.signature}" for api in spec.apis)
        return f"{spec.name} has nothing at {path}; its apis:\n{apis}"

    def _wrong_method(self, exchange: Exchange, route: HttpRoute) -> str:
        if route.api is None:
            return f"{exchange.path} is read with GET, not {exchange.method}"
        schema = self._runtime.schemas[route.api.name]
        url = f"http://{exchange.headers.get('Host', '127.0.0.1')}{route.api.route}"
        needs_token, saves = self.access.token is not None, schema.gives_file
        example = curl_line(url, schema.body_schema, needs_token=needs_token, saves=saves)
        return f"{route.api.name} is called with POST, not {exchange.method}:\n  {example}"


def _routes(runtime: RuntimeLike, access: Access) -> dict[str, HttpRoute]:
    about = ServiceEndpoints(runtime, needs_token=access.token is not None)
    routes = [
        HttpRoute("/", about.root, open=True, page=True),
        *(HttpRoute(api.route, ApiEndpoint(runtime, api), "POST", api=api) for api in runtime.spec.apis),
        HttpRoute("/healthz", about.healthz, open=True),
        HttpRoute("/readyz", about.readyz, open=True),
        HttpRoute("/metrics", about.metrics),
        HttpRoute("/openapi.json", about.openapi),
        *(HttpRoute(path, about.docs, open=True, page=True) for path in ASSETS),
    ]
    return {route.path: route for route in routes}  # built-in routes are last, so that no api can replace them


async def _nothing(exchange: Exchange) -> None:
    exchange.send(Reply(204, media_type=""))
