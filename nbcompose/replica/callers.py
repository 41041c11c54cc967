"""Where a replica answers other processes: its private socket, and who is connected to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

from nbcompose.replica.runtime import Runtime
from nbcompose.wire import address
from nbcompose.wire.call import Connection, serve

LINGER = 1.0  # seconds that a caller who asks nothing has to hang up


class Callers:
    """Hands their calls to `runtime`. Used on the replica's loop."""

    def __init__(self, runtime: Runtime) -> None:
        self.on_call = runtime.on_call
        self._runtime = runtime
        self._connections: set[Connection] = set()
        self._empty = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def listen(self) -> str:
        """Begin to answer; returns the address."""
        where = address.fresh(f"nbcompose.call.{os.getpid()}")
        self._server = await serve(address.listen(where), "a caller", self, self._opened, self._closed)
        return where

    async def left(self) -> None:
        """Wait until every caller has hung up, which it does when it hears of a route without this replica.

        Calls are answered meanwhile: none is lost that was on its way. One who stays on and asks nothing is not waited
        for.
        """
        while True:
            await self._runtime.idle()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER):
                    while self._connections:
                        self._empty.clear()
                        await self._empty.wait()
            if self._runtime.in_flight == 0:
                return

    def on_note(self, topic: str, value: Any) -> None:
        """Callers send no notes."""

    def _opened(self, connection: Connection) -> None:
        self._connections.add(connection)

    def _closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()
