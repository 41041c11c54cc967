"""What is relied on of tornado's connections by nbcompose/_replica/http/tornado_adapter.py and _jupyter/upstream.py.

One that fails means: look there before anything else.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import tornado
from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters, HTTP1ServerConnection
from tornado.httputil import (
    HTTPHeaders,
    HTTPInputError,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
    parse_multipart_form_data,
)
from tornado.iostream import IOStream, StreamClosedError
from tornado.tcpclient import TCPClient
from tornado.testing import bind_unused_port

from nbcompose._replica.http.tornado_adapter import Stream, hang_up, is_quiet, send_at_once
from tests.patience import PATIENCE


class Answering(HTTPServerConnectionDelegate, HTTPMessageDelegate):
    """Hands the connection of its one request over, as soon as the headers are there, and says when the body is."""

    def __init__(self) -> None:
        self.connection: asyncio.Future[HTTP1Connection] = asyncio.get_running_loop().create_future()
        self.read = asyncio.Event()
        self.server: Any = None

    def start_request(self, server_conn: Any, request_conn: Any) -> HTTPMessageDelegate:
        self.server, self._request = server_conn, request_conn
        return self

    def headers_received(self, start_line: Any, headers: HTTPHeaders) -> None:
        self.connection.set_result(self._request)

    def finish(self) -> None:
        self.read.set()


@contextlib.asynccontextmanager
async def request(
    text: bytes, refusal: Callable[[HTTPInputError | None], bytes] = lambda _: b""
) -> AsyncIterator[tuple[Answering, asyncio.StreamReader]]:
    """A server that was sent this, and the client's end."""
    answering = Answering()

    sock, port = bind_unused_port()
    with sock:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        accepted, _ = sock.accept()
    stream = Stream(accepted)
    stream.refusal = refusal
    HTTP1ServerConnection(stream, HTTP1ConnectionParameters()).start_serving(answering)
    writer.write(text)
    try:
        yield answering, reader
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        await asyncio.wait_for(_closed(answering), PATIENCE)


async def _closed(answering: Answering) -> None:
    with contextlib.suppress(Exception):
        await answering.server.close()


REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
HEAD = ResponseStartLine("HTTP/1.1", 200, "OK")


async def test_connections_have_their_stream_and_closing_it_ends_a_write_that_is_awaited() -> None:
    async with request(REQUEST + b"abcd") as (answering, _):
        connection = await asyncio.wait_for(answering.connection, PATIENCE)
        await asyncio.wait_for(answering.read.wait(), PATIENCE)
        assert isinstance(connection.stream, IOStream)
        assert answering.server.stream is connection.stream
        assert not is_quiet(answering.server, begun=True)
        assert is_quiet(answering.server, begun=False)
        send_at_once(connection)
        writing = connection.write_headers(HEAD, HTTPHeaders(), b"x" * 2**26)  # more than the system takes
        hang_up(connection)
        await asyncio.wait_for(writing, PATIENCE)
        with pytest.raises(StreamClosedError):
            await asyncio.wait_for(connection.write(b"x"), PATIENCE)


async def test_a_reply_that_ends_before_its_request_does_closes_the_connection() -> None:
    async with request(REQUEST + b"ab") as (answering, reader):
        connection = await asyncio.wait_for(answering.connection, PATIENCE)
        connection.write_headers(HEAD, HTTPHeaders({"Content-Length": "2"}), b"ok")
        connection.finish()
        assert (await asyncio.wait_for(reader.read(), PATIENCE)).endswith(b"ok"), "the connection stays open"


def test_a_part_that_does_not_say_what_it_is() -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\ndata\r\n--b--\r\n'
    files: dict[str, list[Any]] = {}
    parse_multipart_form_data(b"b", body, {}, files)
    assert files["f"][0].content_type == "application/unknown"


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        pytest.param(b"nonsense\r\n\r\n", HTTPInputError, id="request"),
        pytest.param(REQUEST.replace(b": 4", b": four"), HTTPInputError, id="length"),
        pytest.param(b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000, None, id="headers"),
        pytest.param(CHUNKED + b"nonsense\r\n", HTTPInputError, id="chunk"),
        pytest.param(CHUNKED + b"1" * 100, None, id="chunk's size"),
    ],
)
async def test_what_is_no_http_closes_the_stream_and_says_why(sent: bytes, told: type[Exception] | None) -> None:
    found: list[Any] = []

    def refusal(error: HTTPInputError | None) -> bytes:
        found.append(error)
        return b"a word"

    async with request(sent, refusal) as (_, reader):
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b"a word", "more than that, or nothing, is sent"
    (error,) = found
    assert error is None if told is None else isinstance(error, told) and str(error) != "malformed"


# -- nbcompose/_jupyter/upstream.py and proxy.py: connections as a client


class Taking(HTTPMessageDelegate):
    """Notes what it is told of an answer."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.body = asyncio.Event()

    def headers_received(self, start_line: Any, headers: HTTPHeaders) -> None:
        self.told.append(start_line.code)

    def data_received(self, chunk: bytes) -> None:
        self.told.append(chunk)
        self.body.set()

    def finish(self) -> None:
        self.told.append("finish")


@contextlib.asynccontextmanager
async def client() -> AsyncIterator[tuple[HTTP1Connection, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection as a client, and the server's end."""
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=theirs)
    stream = IOStream(ours)
    try:
        yield HTTP1Connection(stream, is_client=True, params=HTTP1ConnectionParameters()), reader, writer
    finally:
        stream.close()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_connections_as_a_client_have_what_the_proxy_uses() -> None:
    async with client() as (connection, _, _):
        used: dict[str, tuple[object, tuple[str, ...]]] = {
            "http1connection.HTTP1Connection": (
                connection,
                ("write_headers", "write", "finish", "read_response", "set_max_body_size", "stream"),
            ),
            "iostream.IOStream": (
                connection.stream,
                ("set_nodelay", "closed", "close", "set_close_callback", "socket"),
            ),
            "http1connection.HTTP1ConnectionParameters": (HTTP1ConnectionParameters(), ("max_body_size",)),
            "httputil.HTTPMessageDelegate": (
                HTTPMessageDelegate(),
                ("headers_received", "data_received", "finish", "on_connection_close"),
            ),
            "tcpclient.TCPClient": (TCPClient, ("connect", "close")),
        }
        missing = [f"{of}.{name}" for of, (thing, names) in used.items() for name in names if not hasattr(thing, name)]
        arguments = inspect.signature(HTTP1Connection).parameters
        missing += [
            f"the argument {name} of HTTP1Connection" for name in ("is_client", "params") if name not in arguments
        ]
    assert not missing, (
        f"tornado {tornado.version} has no {', no '.join(missing)}, which nbcompose/_jupyter/upstream.py and proxy.py "
        "use: find in tornado's release notes what has come in its place and use that; until then, hold tornado below "
        f"{tornado.version} in pyproject.toml"
    )


async def test_an_answer_is_read_while_its_request_is_written_and_interim_ones_are_not_the_answer() -> None:
    async with asyncio.timeout(PATIENCE), client() as (connection, reader, writer):
        connection.write_headers(RequestStartLine("POST", "/", ""), HTTPHeaders({"Content-Length": "4"}))
        taking = Taking()
        reading = asyncio.ensure_future(connection.read_response(taking))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await taking.body.wait()
        assert taking.told[:3] == [103, 200, b"ok"]
        connection.write(b"abcd")
        assert await reader.readexactly(4) == b"abcd"
        assert not reading.done(), "the end of reading is that of the request too"
        connection.finish()
        assert await reading is True, "the connection serves another request"
        assert taking.told == [103, 200, b"ok", "finish"]
