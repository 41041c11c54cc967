"""A replica's HTTP side as something to open and shut: the server, and the socket that it shares with its siblings."""

from __future__ import annotations

import socket
from collections.abc import Callable

from nbcompose.replica.http import HttpServer


class Door:
    """Where callers from outside come in. `sock` listens; `make` makes a server. None of both: nobody comes."""

    def __init__(self, sock: socket.socket | None, make: Callable[[], HttpServer]) -> None:
        self._sock = sock
        self._make = make
        self._server: HttpServer | None = None

    def open(self) -> None:
        if self._sock is not None and self._server is None:
            self._server = self._make()
            self._server.listen(self._sock.dup())

    async def shut(self, grace: float) -> None:
        """Accept no more; requests in flight have `grace` seconds."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace)

    def renew(self) -> None:
        """The service has new code."""
        if self._server is not None:
            self._server.renew()
