"""Accepts connections of clients while there are files for them: when there are none, those without a request go first.

Used on the replica's loop. What is done on a connection is http.py's.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from typing import Any, Protocol

from nbcompose.host import open_files

AT_ONCE = 128  # connections that are accepted before others have their turn
RETRY = 1.0  # seconds after which there may be files again, where no connection tells
COUNTING = 1.0  # seconds for which the number of files that are no connections is taken for what it was

logger = logging.getLogger("nbcompose.http")


class Connections(Protocol):
    """What a listener needs to know of those that it has let in."""

    @property
    def count(self) -> int:
        """How many are open."""

    def connected(self, sock: socket.socket, address: Any) -> None:
        """One more; it is the newest."""

    def make_room(self) -> bool:
        """Close one that has no request in hand, other than the newest; whether there was one."""


class Listener:
    """`sock` is bound and listens; it is this one's from here on. `most` bounds the connections.

    A client that is not let in waits in the system's queue, where a sibling that shares the socket may take it.
    """

    def __init__(self, sock: socket.socket, connections: Connections, most: int) -> None:
        self._sock = sock
        self._connections = connections
        self._most = most
        self._others = 0  # files that are no connections
        self._counted = -math.inf  # when
        self._loop = asyncio.get_running_loop()
        self._accepting = False
        self._retry: asyncio.TimerHandle | None = None
        self._short = False  # of room, which the log has been told

    def start(self) -> None:
        self._sock.setblocking(False)
        self._resume()

    def stop(self) -> None:
        self._pause()
        self._forget_retry()
        self._sock.close()

    def closed(self) -> None:
        """A connection has been closed: there may be room again."""
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
            except OSError as error:  # no files, here or on the whole machine; or no memory
                self._tell(str(error))
                self._counted = -math.inf
                if not self._connections.make_room():
                    self._wait()
                    return
                continue
            self._connections.connected(sock, address)
            if self._connections.count <= bound:
                # Not at the first that is closed: whoever is at the bound would fill the log.
                self._short = self._short and self._connections.count > 0.75 * bound
                continue
            self._tell(f"at most {bound:,} are kept")
            if not self._connections.make_room():
                self._wait()
                return

    def _bound(self) -> int:
        """How many connections there may be now."""
        now = self._loop.time()
        if now >= self._counted + COUNTING:
            self._others, self._counted = open_files.count() - self._connections.count, now
        return max(1, min(self._most, open_files.limit() - open_files.reserve() - self._others))

    def _tell(self, why: str) -> None:
        if not self._short:
            self._short = True
            logger.warning(
                "%d connections of clients: %s (of %d files that may be open, ulimit -n, %d are kept free). Those "
                "without a request are closed, the oldest first; new ones wait.",
                self._connections.count, why, open_files.limit(), open_files.reserve(),
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
