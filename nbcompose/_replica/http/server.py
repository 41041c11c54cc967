"""HTTP server of a replica: listens, accepts connections, carries the exchanges on them.

The tornado face of exchanges. Runs on the replica's loop. tornado's HTTP/1 connection handles framing, keep-alive and
pipelining (one exchange at a time); its `Application` is not used because it costs a third more CPU time per request
(125 instead of 92 µs, measured). See `endpoints.py` for routes and handlers, `exchange.py` for limits.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import socket
import time
from asyncio import Future
from collections.abc import Callable
from email.utils import formatdate
from functools import lru_cache, partial
from itertools import islice
from typing import Any, Protocol
from urllib.parse import unquote

from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters, HTTP1ServerConnection
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPInputError,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)

from nbcompose._host import forking
from nbcompose._replica.http.access import Access
from nbcompose._replica.http.endpoints import Backend, Site
from nbcompose._replica.http.exchange import Exchange, Limits
from nbcompose._replica.http.responses import PHRASES, error_reply
from nbcompose._replica.http.tornado_adapter import Stream, hang_up, is_quiet, send_at_once
from nbcompose.errors import BadRequest, CallError, HeadersTooLarge, ServiceUnavailable


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
            self._server.site.renew()


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


class ServerExchange(Exchange, HTTPMessageDelegate):
    """An exchange on a connection of tornado's. `follows`: it is not the first one there."""

    def __init__(self, server: HttpServer, connection: HTTP1Connection, *, follows: bool = False) -> None:
        super().__init__(server.site)
        self.follows = follows
        self.busy = False
        self._server = server
        self._connection = connection

    @property
    def idle(self) -> bool:
        """Whether the connection may be closed to make room: there is no request, or it was refused before it was read,
        or its body makes no progress.
        """
        if not self.busy or self._received:
            return not self.busy
        if self.reader is not None:  # its pauses have a limit of their own
            return False
        return self.replied or time.monotonic() - self._heard > self.site.limits.pause

    # -- called by tornado, in this order ----------------------------------------------------------------------------

    def headers_received(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> None:
        self.busy = True
        assert isinstance(start_line, RequestStartLine)  # a server reads requests only
        self._heard = time.monotonic()
        self.method, target = start_line.method, start_line.path
        own = self.headers
        for name, value in headers.get_all():
            own[name] = f"{own[name]},{value}" if name in own else value
        self._drains = "Expect" not in own  # a client that waits for "100 Continue" has not started to send
        if target[:1] not in ("/", "*"):
            target = self._without_authority(target)
        if "Host" not in own and start_line.version == "HTTP/1.1":
            self._refuse(BadRequest("HTTP/1.1 wants a Host header"))
        path, _, self.query = target.partition("?")
        self.path = unquote(path) if "%" in path else path
        self.admit()

    def _without_authority(self, target: str) -> str:
        """Return the rest of a request target in absolute form, as sent to proxies. Its host takes precedence over that
        in `Host` (RFC 9112, section 3.2.2).
        """
        scheme, mark, rest = target.partition("://")
        if not mark or scheme.lower() not in ("http", "https"):
            return target
        try:
            self.site.access.check_host(self.headers.get("Host"))
        except CallError as error:
            self._refuse(error)
        self.headers["Host"] = authority = re.split(r"[/?]", rest, maxsplit=1)[0]
        path = rest[len(authority) :]
        return path if path.startswith("/") else f"/{path}"

    def finish(self) -> None:
        self._received = True
        if self.reader is None and self.replied:
            self._finish()
            return
        self._connection.set_close_callback(self.connection_lost)
        if self.reader is not None:
            self.stream_ended()
        else:
            self._task = asyncio.get_running_loop().create_task(self._answer())

    def on_connection_close(self) -> None:
        self.connection_lost()

    # -- called by the server ----------------------------------------------------------------------------------------

    def abandon(self) -> None:
        """End the exchange because the server stops: reply with an error if still possible, and cancel the call."""
        if self._received:
            self.fail(ServiceUnavailable("the service is stopping"))
        self.connection_lost()

    def refusal(self, error: CallError) -> bytes:
        """Return the bytes of a complete reply to invalid data; the connection is then closed. Empty if there was a
        reply already.
        """
        if self.closed or self.replied:
            return b""
        self.replied = True
        reply = error_reply(error, trusted=self.site.access.trusted)
        self.site.answered(self.route, reply.status)
        headers = self._headers(reply.media_type, reply.headers)
        headers |= {"Date": _date(int(time.time())), "Content-Length": str(len(reply.body)), "Connection": "close"}
        lines = [f"HTTP/1.1 {reply.status} {PHRASES[reply.status]}", *(f"{n}: {v}" for n, v in headers.items()), "", ""]
        return "\r\n".join(lines).encode("latin-1") + reply.body

    # -- the face's own ----------------------------------------------------------------------------------------------

    def _write_head(self, status: int, headers: dict[str, str], chunk: bytes) -> Future[None]:
        headers["Date"] = _date(int(time.time()))
        if self._server.stopping or not (self._received or self._drains):
            headers["Connection"] = "close"
        return self._connection.write_headers(_start_line(status), HTTPHeaders(headers), chunk)

    def begin(self, media_type: str, chunk: bytes = b"") -> Future[None]:
        send_at_once(self._connection)
        return super().begin(media_type, chunk)

    def write(self, chunk: bytes) -> Future[None]:
        return self._connection.write(chunk)

    def _finish(self) -> None:
        self._finished = True
        self.site.deadlines.remove(id(self))
        self._connection.finish()

    def hang_up(self) -> None:
        hang_up(self._connection)
        self.connection_lost()


class HttpServer(HTTPServerConnectionDelegate):
    """HTTP server of one replica. `listen` and `stop` are called on the loop that serves."""

    def __init__(self, backend: Backend, access: Access, limits: Limits | None = None) -> None:
        self.site = Site(backend, access, limits)
        self.stopping = False
        self._limits = self.site.limits
        self._lingering = True
        self._listener: Listener | None = None
        # Bodies are limited by the exchange, whose reply says why; tornado's own limit would only disconnect.
        self._parameters = HTTP1ConnectionParameters(
            max_header_size=self._limits.header_bytes, header_timeout=self._limits.idle, max_body_size=2**63
        )
        # In the order in which they started to wait for a request; None: tornado has not started to read.
        self._connections: dict[HTTP1ServerConnection, ServerExchange | None] = {}
        self._leaving: set[HTTP1ServerConnection] = set()  # closed, but `on_close` has not been called yet
        self._empty = asyncio.Event()

    def listen(self, sock: socket.socket) -> None:
        """Accept connections on a bound, listening socket, which may be shared with sibling replicas.

        The server owns the socket from now on.
        """
        self._listener = Listener(sock, self, self._limits.connections)
        self._listener.start()

    async def stop(self, grace: float) -> None:
        """Stop accepting, give requests in flight `grace` seconds, then cancel them and close all connections.

        A kept connection may have a request on its way, which is answered with `Connection: close`. One on which none
        arrives within `Limits.linger` is closed.
        """
        self.stopping = True
        if self._listener is not None:
            self._listener.stop()
        linger = min(self._limits.linger, grace)
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
        self.site.deadlines.close()

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

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> ServerExchange:
        assert isinstance(request_conn, HTTP1Connection)
        assert isinstance(server_conn, HTTP1ServerConnection)
        previous = self._connections.pop(server_conn, None)
        if previous is not None and not previous.replied:
            # The client disconnected just before tornado started to watch for that.
            previous.connection_lost()
        exchange = ServerExchange(self, request_conn, follows=previous is not None)
        self._connections[server_conn] = exchange
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
        most = self._limits.header_bytes
        return exchange.refusal(HeadersTooLarge(f"the headers are larger than the {most:,} bytes that are read"))


@lru_cache(maxsize=64)
def _start_line(status: int) -> ResponseStartLine:
    return ResponseStartLine("HTTP/1.1", status, PHRASES[status])


@lru_cache(maxsize=2)
def _date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)
