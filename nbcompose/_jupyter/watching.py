"""`nbcompose/api/watch`: a WebSocket for who looks at the list of all processes, and for requests to one of them.

What comes from a browser is passed on to the process that it names, on a connection of the browser's own, and what the
process says is passed back as it is: ids are the browser's, a closed WebSocket cancels all that it has asked for, and
one that reads slowly slows down what it asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from jupyter_server.auth.decorator import authorized, ws_authenticated
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from nbcompose._jupyter.api import RESOURCE
from nbcompose._jupyter.finding import Change, Listed, Runtime, Runtimes
from nbcompose._protocol import RuntimeConnection, wire
from nbcompose.errors import NbcomposeError, Overloaded, ProtocolError

PERIOD = 0.25  # seconds between two lists, at least
FIRST = 2.0  # seconds that the first list waits for processes that have not said anything yet
MOST_WAITING = 256  # requests that a process has not taken yet
OPEN_WITHIN = 10.0  # seconds
# Not `hello` and `ps`, which have nothing for a browser, nor `reach`, which has tokens, nor the debugger.
PASSED_ON = (
    *("watch", "form", "call", "feed", "end_feed", "cancel", "logs", "traces", "trace", "recorded", "forget"),
    *("history", "restart", "rollback", "stop", "scale", "profile", "plan"),
)


class WatchHandler(WebSocketMixin, WebSocketHandler, JupyterHandler):
    """One front end. It does not count as activity of the user.

    From the front end come `{"type": "look", "on": BOOL}` and `{"to": RUNTIME, "message": REQUEST}`. To it go
    `{"type": "runtimes", "runtimes": [Listed, …]}`, `{"from": RUNTIME, "message": EVENT_OR_ANSWER}`,
    `{"type": "gone", "runtime": RUNTIME}`, after which nothing more comes of what was asked there, and
    `{"type": "failed", "message": TEXT}` for what was no message.
    """

    auth_resource = RESOURCE

    def initialize(self, runtimes: Runtimes) -> None:
        self._runtimes = runtimes
        self._relays: dict[str, _Relay] = {}
        self._looking: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._unsubscribe: Callable[[], None] = lambda: None

    @property
    def max_message_size(self) -> int:
        """As long as the runtime protocol's: files go up in forms."""
        return wire.MAX_MESSAGE

    @ws_authenticated
    @authorized("execute", resource=RESOURCE)  # type: ignore[untyped-decorator]
    async def get(self, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        await super().get(*args, **kwargs)

    def open(self, *args: str, **kwargs: str) -> None:
        super().open(*args, **kwargs)
        self._unsubscribe = self._runtimes.subscribe(self._on_change)

    def on_message(self, message: str | bytes) -> None:
        try:
            said = wire.decode(message.encode() if isinstance(message, str) else message)
            if said.get("type") == "look":
                self._look(said)
            else:
                self._pass_on(said)
        except ProtocolError as error:
            self._say_soon({"type": "failed", "message": str(error)})

    def on_close(self) -> None:
        self._unsubscribe()
        if self._looking is not None:
            self._looking.cancel()
        for relay in self._relays.values():
            relay.close()

    # -- the list

    def _look(self, said: Mapping[str, Any]) -> None:
        if not isinstance(said.get("on"), bool):
            raise ProtocolError("look: on is true or false")
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        if said["on"]:
            self._looking = asyncio.ensure_future(self._list())

    async def _list(self) -> None:
        """Send the list, and again whenever it has changed, until the task is cancelled."""
        leave = self._runtimes.watch()
        last: list[Listed] | None = None
        try:
            await self._runtimes.look()
            await asyncio.wait([asyncio.ensure_future(self._runtimes.settle())], timeout=FIRST)
            while True:
                self._changed.clear()
                begun = time.monotonic()
                listed = await self._runtimes.watched()
                if listed != last:
                    last = listed
                    await self._say({"type": "runtimes", "runtimes": listed})
                await self._changed.wait()
                await asyncio.sleep(max(0.0, begun + PERIOD - time.monotonic()))
        except Exception:
            self.log.exception("nbcompose: the list of services could not be sent")
            self.close(1011, "the list could not be made")
        finally:
            leave()

    def _on_change(self, change: Change, runtime: Runtime) -> None:
        self._changed.set()
        # Where there is a connection, its end says so, after what the process has said last.
        if change == "ended" and self._looking is not None and runtime.id not in self._relays:
            self._say_soon({"type": "gone", "runtime": runtime.id})

    # -- requests

    def _pass_on(self, said: Mapping[str, Any]) -> None:
        where, message = said.get("to"), said.get("message")
        if not isinstance(where, str) or not isinstance(message, dict):
            raise ProtocolError("a message is {'type': 'look', 'on': …} or {'to': the id of a process, 'message': {…}}")
        if message.get("type") not in PASSED_ON:
            refused = ProtocolError(f"type is none of {', '.join(sorted(PASSED_ON))}")
            self._say_soon({"from": where, "message": _failed(message, refused)})
            return
        relay = self._relays.get(where)
        if relay is None:
            relay = self._relays[where] = _Relay(where, self._runtimes, self._say, self._gone)
        relay.send(message)

    def _gone(self, relay: _Relay) -> None:
        """The connection to a process is lost."""
        if self._relays.get(relay.runtime) is relay:
            del self._relays[relay.runtime]
            self._say_soon({"type": "gone", "runtime": relay.runtime})

    # -- to the front end

    async def _say(self, message: Mapping[str, Any]) -> None:
        """Send a message, and wait until there is room for the next one."""
        with contextlib.suppress(WebSocketClosedError):  # `on_close` comes, or has come
            await self.write_message(json.dumps(message, separators=(",", ":")))

    def _say_soon(self, message: Mapping[str, Any]) -> None:
        asyncio.ensure_future(self._say(message))  # noqa: RUF006  (the loop holds it until it is written)


class _Relay:
    """Passes one front end's messages to a process and back."""

    def __init__(
        self,
        runtime: str,
        runtimes: Runtimes,
        say: Callable[[Mapping[str, Any]], Any],
        gone: Callable[[_Relay], None],
    ) -> None:
        self.runtime = runtime
        self._runtimes = runtimes
        self._say = say
        self._gone = gone
        self._requests: asyncio.Queue[dict[str, Any]] = asyncio.Queue(MOST_WAITING)
        self._running = asyncio.ensure_future(self._run())

    def send(self, message: dict[str, Any]) -> None:
        """Pass a message on as soon as the process takes it."""
        try:
            self._requests.put_nowait(message)
        except asyncio.QueueFull:
            error = Overloaded(f"process {self.runtime} does not take what it is asked: {MOST_WAITING} requests wait")
            asyncio.ensure_future(self._fail(message, error))  # noqa: RUF006

    def close(self) -> None:
        self._running.cancel()

    async def _run(self) -> None:
        try:
            connection = await self._connect()
        except (NbcomposeError, OSError) as error:
            await self._refuse(error)
            return
        try:
            sending = asyncio.ensure_future(self._send(connection))
            try:
                while True:
                    await self._say({"from": self.runtime, "message": await connection.receive()})
            finally:
                sending.cancel()
        except (ConnectionError, ProtocolError):
            self._gone(self)
        finally:
            await connection.close()

    async def _connect(self) -> RuntimeConnection:
        runtime = await self._runtimes.find(self.runtime)
        connection = RuntimeConnection(runtime.process)
        await connection.open(OPEN_WITHIN)
        return connection

    async def _send(self, connection: RuntimeConnection) -> None:
        while True:
            message = await self._requests.get()
            try:
                connection.send(message)
            except ProtocolError as error:  # too long
                await self._fail(message, error)
            await connection.room()

    async def _refuse(self, error: Exception) -> None:
        """Answer all that was asked of a process that there is not; what is asked later looks for it anew."""
        while not self._requests.empty():
            await self._fail(self._requests.get_nowait(), error)
        self._gone(self)

    async def _fail(self, message: Mapping[str, Any], error: Exception) -> None:
        await self._say({"from": self.runtime, "message": _failed(message, error)})


def _failed(message: Mapping[str, Any], error: Exception) -> dict[str, Any]:
    """The answer to a request that has not come to the process."""
    given = {name: message.get(name) for name in ("id", "type", "service", "api", "trace")}
    about = {name: value[:1000] for name, value in given.items() if isinstance(value, str)}
    about["action"] = about.pop("type", "")
    return {"id": None, **about, **wire.failure(error), "type": "failed", "seconds": 0.0}
