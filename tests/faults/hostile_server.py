"""A server that answers each path with whatever bytes it is told to, and notes what it was sent."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Answer = bytes | Callable[[], Iterable[bytes]]


class Hostile:
    """On loopback, in threads; hangs up after each answer. `requests`: what came, heads and bodies."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self.answers = answers
        self.requests: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.url = f"http://{self.host}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            request = connection.recv(65536)
            if not request:
                return
            self.requests.append(request)
            path = request.split(b" ", 2)[1].decode(errors="replace")
            answer = self.answers.get(path, response(b"nothing here", "404 Not Found"))
            for piece in [answer] if isinstance(answer, bytes) else answer():
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass

    def stop(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def head(status: str = "200 OK", kind: str = "application/json", *more: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", "Connection: close", *more]
    return "\r\n".join([*lines, "", ""]).encode()


def response(body: bytes, status: str = "200 OK", kind: str = "application/json", *more: str) -> bytes:
    return head(status, kind, f"Content-Length: {len(body)}", *more) + body


def endless(start: bytes, piece: bytes) -> Callable[[], Iterable[bytes]]:
    """`start`, and then the same again and again, until the reader hangs up."""

    def pieces() -> Iterable[bytes]:
        yield start
        while True:
            yield piece

    return pieces


def operation(name: Any = "ask", **more: Any) -> dict[str, Any]:
    """An api as our documents describe it, without parameters."""
    return {"operationId": name, "x-nbcompose-params": [], "x-nbcompose-stream": False, **more}


def document(route: str = "/ask", **more: Any) -> bytes:
    stream = operation("stream", **{"x-nbcompose-stream": True})
    return json.dumps({"paths": {route: {"post": operation(**more)}, "/stream": {"post": stream}}}).encode()


DOCUMENT = {"/openapi.json": response(document())}
