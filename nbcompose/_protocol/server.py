"""Answering: the requests of one client (`Requests`), on the private socket of a process (`RuntimeServer`).

`Requests` knows no socket: the live graph's front end asks in the same way, over a comm. Everything here runs on one
event loop.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from nbcompose import __version__
from nbcompose._protocol import address, wire
from nbcompose._protocol.messages import PROTOCOL, RuntimeRequest
from nbcompose.errors import ProtocolError

MOST_REQUESTS = 256  # of one client that are under way
LINGER = 0.1  # seconds that what is under way has to end by itself when the server stops

Message = Mapping[str, Any]
Answer = Callable[[Any, "Events"], Awaitable[Message]]


async def _at_once() -> None:
    """There is always room."""


class Events:
    """What an answer says before its end. A client that reads slowly is waited for in `room`."""

    def __init__(self, send: Callable[[Message], None], room: Callable[[], Awaitable[None]] = _at_once) -> None:
        self.send = send
        self.room = room


class Requests:
    """The requests of one client: each is checked, and answered in a task of its own, until it is cancelled.

    `answers`: a function for each type of request in the union `definitions`. `send` takes what is said; `text` is
    applied to the texts of errors.
    """

    def __init__(
        self,
        answers: Mapping[str, Answer],
        definitions: Any,
        send: Callable[[Message], None],
        room: Callable[[], Awaitable[None]] = _at_once,
        text: Callable[[str], str] = str,
    ) -> None:
        self._answers = answers
        self._definitions = wire.by_type(definitions)
        self._send = send
        self._room = room
        self._text = text
        self._tasks: dict[str, asyncio.Task[Message]] = {}

    def receive(self, message: Message) -> None:
        """Take what a client has sent, whatever it is."""
        begun = time.monotonic()
        try:
            kind = self._checked(message)
        except ProtocolError as error:
            self._fail(message, error, 0.0)
            return
        request = message["id"]
        if kind == "cancel":
            if request in self._tasks:
                self._tasks[request].cancel()
            return
        events = Events(lambda event: self._send({**event, "id": request}), self._room)
        task = self._tasks[request] = asyncio.ensure_future(self._run(kind, message, events))
        # Not in the task itself: one that is cancelled before it has begun would say nothing.
        task.add_done_callback(partial(self._ended, message, begun))

    async def settle(self, within: float) -> None:
        """Wait until nothing is under way, for up to `within` seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=within)

    async def close(self) -> None:
        """Cancel what is under way, and wait for it."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _checked(self, message: Message) -> str:
        """Return the type of a request. Raises `ProtocolError`."""
        kind = message.get("type")
        known = sorted({*self._answers, "cancel"})
        if not isinstance(kind, str):
            raise ProtocolError(f"a request has a type, one of {', '.join(known)}")
        if kind not in known:
            raise ProtocolError(
                f"this process (nbcompose {__version__}) knows no request {wire.printable(kind)!r}; "
                f"it knows: {', '.join(known)}"
            )
        wire.check(message, self._definitions[kind], strict=True)
        if "id" not in message:
            raise ProtocolError("id is missing: the answer could not be told from others")
        if kind != "cancel" and message["id"] in self._tasks:
            raise ProtocolError(f"a request with the id {message['id']!r} is under way: give each its own")
        if len(self._tasks) >= MOST_REQUESTS and kind != "cancel":
            raise ProtocolError(f"{MOST_REQUESTS} requests are under way: wait for the end of some, or cancel them")
        return kind

    async def _run(self, kind: str, message: Message, events: Events) -> Message:
        return await self._answers[kind](message, events)

    def _ended(self, message: Message, begun: float, task: asyncio.Task[Message]) -> None:
        request, seconds = message["id"], time.monotonic() - begun
        self._tasks.pop(request, None)
        if task.cancelled():
            self._send({"type": "cancelled", "id": request, "seconds": seconds})
        elif error := task.exception():
            self._fail(message, error, seconds)
        else:
            try:
                self._send({**task.result(), "id": request})
            except ProtocolError as unsendable:
                self._fail(message, unsendable, seconds)

    def _fail(self, message: Message, error: BaseException, seconds: float) -> None:
        told = wire.failure(error)
        given = {name: message.get(name) for name in ("id", "type", "service", "api", "trace")}
        about = {name: value[:1000] for name, value in given.items() if isinstance(value, str)}
        about["action"] = about.pop("type", "")
        told["message"], told["traceback"] = self._text(told["message"]), self._text(told["traceback"])
        self._send({"id": None, **about, **told, "type": "failed", "seconds": seconds})


class RuntimeServer:
    """Answers other processes of this user on a socket that `find` finds. `start` and `stop` run on the same loop."""

    def __init__(self, answers: Mapping[str, Answer], text: Callable[[str], str] = str) -> None:
        self.address = ""
        self._answers = answers
        self._text = text
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, keep: Callable[[socket.socket], object] = lambda _: None) -> None:
        """Begin to answer. `keep` gets the socket, to protect it from what this process forks."""
        address.sweep()
        self.address = address.runtime_address()
        sock = address.listen(self.address)
        keep(sock)
        self._server = await asyncio.start_unix_server(self._connected, sock=sock, limit=wire.CHUNK)
        address.knock()

    async def stop(self) -> None:
        """Cancel what does not end within `LINGER`, tell the clients, and close."""
        if self._server is None:
            return
        self._server.close()
        address.remove(self.address)
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        address.knock()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            address.check_transport(writer.transport)
            await _ServerConnection(self._answers, self._text, reader, writer).run()
        except (OSError, asyncio.CancelledError):  # another user's process, or it has gone, or this one stops
            pass
        finally:
            self._connections.discard(task)
            writer.close()


class _ServerConnection:
    """One connection: `hello` first, which settles the version of the protocol, then requests."""

    def __init__(
        self,
        answers: Mapping[str, Answer],
        text: Callable[[str], str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._greeted = False
        self._requests = Requests(answers, RuntimeRequest, self._send, writer.drain, text)

    async def run(self) -> None:
        """Answer until the client goes, which cancels what it has asked for."""
        try:
            while True:
                try:
                    line = await wire.read_line(self._reader)
                    if not line:
                        return
                    if line.strip():
                        self._take(wire.decode(line))
                except ProtocolError as error:
                    self._refuse(error)
                if self._writer.transport.get_write_buffer_size() > wire.MAX_MESSAGE:
                    await self._writer.drain()  # a client that asks and does not read
        except asyncio.CancelledError:  # the server stops, perhaps because of what was asked here
            await self._requests.settle(LINGER)
            raise
        finally:
            await self._requests.close()

    def _take(self, message: dict[str, Any]) -> None:
        if not self._greeted:
            problem = greeting_problem(message)
            if problem:
                self._refuse(ProtocolError(problem), message.get("id"))
                return
            self._greeted = True
        self._requests.receive(message)

    def _refuse(self, error: ProtocolError, request: Any = None) -> None:
        named = request if isinstance(request, str) else None
        told = {"id": named, "type": "failed", "action": "", "seconds": 0.0, **wire.failure(error)}
        self._send(told)

    def _send(self, message: Message) -> None:
        if not self._writer.is_closing():
            self._writer.write(wire.encode(message))


def greeting_problem(message: Message) -> str:
    """Return what is wrong with the first message of a connection; "" for a `hello` in a version spoken here."""
    if message.get("type") != "hello":
        return f"the first message is hello: {{'type': 'hello', 'id': …, 'protocol': {PROTOCOL}, 'version': …}}"
    wanted = message.get("protocol")
    if type(wanted) is int and wanted > PROTOCOL:
        theirs = wire.printable(str(message.get("version", "another nbcompose")))
        return (
            f"this process runs nbcompose {__version__}, which speaks version {PROTOCOL} of the runtime protocol and "
            f"not {wanted}, as {theirs} does: update nbcompose in its environment and restart it, or ask with an older "
            "nbcompose"
        )
    return ""
