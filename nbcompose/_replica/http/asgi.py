"""ASGI 3 application of a service (https://asgi.readthedocs.io): the ASGI face of exchanges.

Connections, framing and headers are the ASGI server's business; so `Limits` that are about these do not apply here.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import Future
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import replace
from typing import Any

from nbcompose._replica.http.access import Access, is_loopback
from nbcompose._replica.http.endpoints import Backend, Site
from nbcompose._replica.http.exchange import OVERTIME, Exchange, Limits
from nbcompose._tracing import clock

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class AsgiApp:
    """Serves what `backend` answers to any number of event loops.

    `start` and `stop` are awaited when the server that runs this application starts and stops; an application in which
    this one is mounted need not pass that on. Whether a request came over loopback, which `access` has rules for, is
    looked up for each: the server may listen anywhere.
    """

    def __init__(
        self,
        backend: Backend,
        access: Access,
        start: Callable[[], Awaitable[object]],
        stop: Callable[[], Awaitable[object]],
        limits: Limits | None = None,
    ) -> None:
        self._backend = backend
        self._access = {local: replace(access, loopback=local, named=True) for local in (True, False)}
        self._start = start
        self._stop = stop
        self._limits = limits
        self._sites: dict[tuple[asyncio.AbstractEventLoop, bool], Site] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            await AsgiExchange(self._site(scope), scope).run(receive, send)
        elif kind == "lifespan":
            await self._live(receive, send)
        elif kind == "websocket":
            await send({"type": "websocket.close"})  # the handshake is answered with 403
        else:
            raise ValueError(f"scopes of type {kind!r} are not served")

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._start()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        try:
            await self._stop()
        except Exception as error:
            await send({"type": "lifespan.shutdown.failed", "message": str(error)})
            return
        await send({"type": "lifespan.shutdown.complete"})

    def _site(self, scope: Scope) -> Site:
        server = scope.get("server")
        loop, local = asyncio.get_running_loop(), server is not None and is_loopback(server[0])
        site = self._sites.get((loop, local))
        if site is None:
            self._sites = {key: known for key, known in self._sites.items() if not key[0].is_closed()}
            site = self._sites[loop, local] = Site(self._backend, self._access[local], self._limits)
        elif site.spec is not self._backend.spec:
            site.renew()
        return site


# Handlers that are about to end, or go on after their requests were answered: the loop itself keeps only weak
# references to its tasks.
_left: set[asyncio.Task[None]] = set()


class AsgiExchange(Exchange):
    """An exchange in an ASGI application, whose `run` is the application's call.

    What is to be sent is queued, because `send` may be awaited in one task only. None ends the queue.
    """

    def __init__(self, site: Site, scope: Scope) -> None:
        super().__init__(site)
        self._drains = False  # reading on is the server's business
        self._outbox: asyncio.Queue[tuple[Message, Future[None]] | None] = asyncio.Queue()
        self._last: Message | None = None  # what was queued last, if it is not being sent yet
        self._sending = asyncio.timeout(None)
        self._cut = False
        self._broken: Exception | None = None
        self.method = scope["method"]
        self.query = scope.get("query_string", b"").decode("latin-1")
        self.prefix = prefix = scope.get("root_path", "").rstrip("/")
        path = scope["path"]
        if prefix and (path == prefix or path.startswith(f"{prefix}/")):  # older servers and frameworks take it off
            path = path[len(prefix) :]
        if not path:  # the very place where it is mounted, without a slash
            path, self.relative = "/", f"{prefix.rpartition('/')[2]}/"
        self.path = path
        own = self.headers
        for raw, value in scope["headers"]:
            name, text = raw.decode("latin-1").title(), value.decode("latin-1")
            own[name] = f"{own[name]},{text}" if name in own else text

    async def run(self, receive: Receive, send: Send) -> None:
        """Answer the request; return when the reply has been sent, or the client is gone.

        Raises ConnectionAbortedError when the reply cannot be completed: an ASGI application has no other way to have
        the connection closed in the middle of one.
        """
        listening = asyncio.get_running_loop().create_task(self._listen(receive))
        try:
            with contextlib.suppress(TimeoutError):  # only by `connection_lost`
                async with self._sending:
                    await self._send_all(send)
        finally:
            listening.cancel()
            self.connection_lost()
            while not self._outbox.empty():
                _settle(self._outbox.get_nowait())
            if self._task is not None:
                _left.add(self._task)
                self._task.add_done_callback(_left.discard)
                await asyncio.wait([self._task], timeout=OVERTIME)
        if self._broken is not None:
            raise self._broken
        if self._cut:
            raise ConnectionAbortedError(f"the reply of {self.path} ended in the middle: see the log of nbcompose.http")

    async def _listen(self, receive: Receive) -> None:
        due = clock.monotonic() + self.site.limits.body_seconds
        try:
            self.admit()
            while (message := await receive())["type"] != "http.disconnect":
                if self._received or (self.replied and self.reader is None):
                    continue
                waits = self.data_received(message.get("body", b""))
                if self.replied and self.reader is None:  # it is too large
                    continue
                if waits is not None:
                    await waits
                self._received = not message.get("more_body", False)
                if self.reader is not None:
                    if self._received:
                        self.stream_ended()
                elif self._received:
                    self._task = asyncio.get_running_loop().create_task(self._answer())
                else:  # not every protocol says beforehand that there is a body
                    self.site.deadlines.add(id(self), due, self._too_slow)
        except Exception as error:
            self._broken = error
        finally:
            self.connection_lost()

    async def _send_all(self, send: Send) -> None:
        while (queued := await self._outbox.get()) is not None:
            self._last = self._last if self._last is not queued[0] else None
            try:
                if not self.closed:
                    await send(queued[0])
            except OSError:  # what some servers raise when the client is gone
                self.connection_lost()
            finally:
                _settle(queued)

    def connection_lost(self) -> None:
        if not self.closed:
            super().connection_lost()
            self._outbox.put_nowait(None)
            with contextlib.suppress(RuntimeError):  # it has ended, or no message is being sent
                self._sending.reschedule(asyncio.get_running_loop().time())

    # -- the face's own ----------------------------------------------------------------------------------------------

    def _write_head(self, status: int, headers: dict[str, str], chunk: bytes) -> Future[None]:
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        if any(b"\r" in value or b"\n" in value for _, value in raw):  # not every server looks
            raise ValueError("a header has an end of line")
        self._put({"type": "http.response.start", "status": status, "headers": raw})
        return self.write(chunk)

    def write(self, chunk: bytes) -> Future[None]:
        return self._put({"type": "http.response.body", "body": chunk, "more_body": True})

    def _finish(self) -> None:
        self._finished = True
        self.site.deadlines.remove(id(self))
        if self._last is None:
            self.write(b"")
        assert self._last is not None
        self._last["more_body"] = False
        self._outbox.put_nowait(None)

    def hang_up(self) -> None:
        self._cut = not self.closed
        self.connection_lost()

    def _put(self, message: Message) -> Future[None]:
        sent: Future[None] = asyncio.get_running_loop().create_future()
        if self.closed:
            sent.set_result(None)
        else:
            self._last = message
            self._outbox.put_nowait((message, sent))
        return sent


def _settle(queued: tuple[Message, Future[None]] | None) -> None:
    if queued is not None and not queued[1].done():
        queued[1].set_result(None)
