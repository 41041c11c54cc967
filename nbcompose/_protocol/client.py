"""Asking other processes of this user that run services: one of them (`Client`), or all that there are (`listings`)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from nbcompose import __version__
from nbcompose._protocol import address, wire
from nbcompose._protocol.address import RunningProcess
from nbcompose._protocol.messages import PROTOCOL, Event, Failed, Hello, ListedService, Ps, RuntimeReply, RuntimeRequest
from nbcompose.errors import CallCancelled, DeadlineExceeded, NbcomposeError, ProtocolError

ANSWER_WITHIN = 30.0  # seconds; a stop lets calls in flight finish
# seconds; long enough for a process that is busy starting services, short enough not to wait for one that hangs
LIST_WITHIN = 10.0

R = TypeVar("R")
Received = dict[str, Any]

_EVENTS = wire.by_type(Event)
_REPLIES = wire.by_type(RuntimeReply)


class Client:
    """A connection to a process that runs services, for any number of requests: `async with Client(process) as client`.

    Used on one event loop. When it is entered it raises `ConnectionError` where the process has gone, `PermissionError`
    where it belongs to another user, `ProtocolError` where it speaks another version of the protocol, and
    `DeadlineExceeded` after `within` seconds, unless it is `patient`. `hello`: what it said of itself.
    """

    hello: Hello

    def __init__(self, process: RunningProcess, within: float = ANSWER_WITHIN, *, patient: bool = False) -> None:
        self.process = process
        self._within = within
        self._greeted_within = None if patient else within
        self._ids = map(str, itertools.count(1))
        self._waiting: dict[str, asyncio.Future[Received]] = {}
        self._lost: Exception | None = None
        self._connection = RuntimeConnection(process)
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.hello = await self._connection.open(self._greeted_within)
        self._reading = asyncio.ensure_future(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._reading is not None:
            self._reading.cancel()
        await self._connection.close()  # which cancels what is under way there

    async def lost(self) -> None:
        """Return when the connection is lost, which it is when the process ends."""
        if self._reading is not None:
            await asyncio.wait([self._reading])

    async def ask(self, request: RuntimeRequest, answer: type[R], within: float | None = None) -> R:
        """Send a request, and return its answer, which is of the type `answer`. Requests may overlap.

        Raises what the process says that went wrong, `CallCancelled` where it has cancelled the request,
        `ProtocolError` for what cannot be understood, `ConnectionError` when the process goes, and `DeadlineExceeded`
        after `within` seconds, which cancels the request.
        """
        if self._lost is not None:
            raise self._lost
        within = self._within if within is None else within
        key = next(self._ids)
        future = self._waiting[key] = asyncio.get_running_loop().create_future()
        try:
            self._connection.send({**request, "id": key})
            async with asyncio.timeout(within):
                said = await future
        except TimeoutError:
            self._connection.send({"type": "cancel", "id": key})
            raise _late(self.process, request["type"], within) from None
        except asyncio.CancelledError:
            self._connection.send({"type": "cancel", "id": key})
            raise
        finally:
            del self._waiting[key]
        return _understood(said, answer, self.process)

    async def stream(self, request: RuntimeRequest) -> AsyncGenerator[Received, None]:
        """Send a request, and yield its events; then its answer, unless that is only the end.

        It has a connection of its own: what is not taken here is not made there, and no other request waits for it.
        Leaving the iteration cancels it. Raises as `ask` does, but has no deadline.
        """
        connection = RuntimeConnection(self.process)
        try:
            await connection.open(self._greeted_within)
            connection.send({**request, "id": "1"})
            while True:
                said = await connection.receive()
                if said.get("type") not in _EVENTS:
                    break
                yield _understood(said, _EVENTS[said["type"]], self.process)
            last: Received = _understood(said, None, self.process)
            if last["type"] != "end":
                yield last
        finally:
            await connection.close()

    async def _read(self) -> None:
        """Hand answers to those who wait for them, until the connection is lost."""
        try:
            while True:
                said = await self._connection.receive()
                if said.get("id") is None and said.get("type") == "failed":
                    raise _failed(said, self.process)  # it has not even understood which request that was
                future = self._waiting.get(str(said.get("id")))
                if future is not None and not future.done() and said.get("type") not in _EVENTS:
                    future.set_result(said)
        except Exception as error:
            self._lost = error
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(error)


class RuntimeConnection:
    """Messages to and from a process, as they are: `open` says hello, and what is received is not checked.

    A `Client` answers requests with what they asked for; this one is for those who pass messages on.
    """

    def __init__(self, process: RunningProcess) -> None:
        self._process = process
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self, within: float | None) -> Hello:
        """Say hello, and return the answer. Raises as `Client` when it is entered; `within` None: no deadline."""
        sock = address.connect(self._process.address)
        self._reader, self._writer = await asyncio.open_unix_connection(sock=sock, limit=wire.CHUNK)
        try:
            self.send({"type": "hello", "id": "0", "protocol": PROTOCOL, "version": __version__})
            async with asyncio.timeout(within):
                said = await self.receive()
            if said.get("type") == "hello" and said.get("protocol") != PROTOCOL:
                raise ProtocolError(_other_version(self._process, said))
            return _understood(said, Hello, self._process)
        except TimeoutError:
            await self.close()
            raise _late(self._process, "hello", within or 0.0) from None
        except BaseException:
            await self.close()
            raise

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message; nothing happens where the connection is lost. Raises `ProtocolError` where it has no JSON."""
        line = wire.encode(message)
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(line)

    async def room(self) -> None:
        """Wait until the process has read what was sent, but for a little."""
        if self._writer is not None:
            with contextlib.suppress(ConnectionError):
                await self._writer.drain()

    async def receive(self) -> Received:
        """Return the next message, whatever it says. Raises `ConnectionError` at the end, and `ProtocolError`."""
        assert self._reader is not None
        try:
            line = await wire.read_line(self._reader)
        except ConnectionError:
            line = b""
        if not line:
            raise ConnectionResetError(f"process {self._process.pid} has closed the connection")
        return wire.decode(line)

    async def close(self) -> None:
        """Close the connection, which cancels what is under way there."""
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):  # as it may have been lost before
                await self._writer.wait_closed()


def _understood(said: Received, answer: type[R] | None, process: RunningProcess) -> R:
    """Return what a process said as an answer of that type; None: of any. Raises what went wrong."""
    kind = said.get("type")
    if kind == "failed":
        raise _failed(said, process)
    if kind == "cancelled":
        raise CallCancelled(f"process {process.pid} has cancelled the request")
    wanted: Any = answer if answer is not None else _REPLIES.get(str(kind))
    if wanted is None:
        raise ProtocolError(
            f"process {process.pid} says {wire.printable(str(kind))!r}, which nbcompose {__version__} does not know"
        )
    try:
        wire.check(said, wanted, strict=False)
    except ProtocolError as error:
        raise ProtocolError(
            f"process {process.pid} gave no answer that nbcompose {__version__} understands: {error}"
        ) from None
    return cast(R, said)


def _failed(said: Received, process: RunningProcess) -> NbcomposeError:
    try:
        wire.check(said, Failed, strict=False)
    except ProtocolError as error:
        return ProtocolError(f"process {process.pid} failed, and does not say why: {error}")
    return wire.rebuilt(cast(Failed, said))


def _late(process: RunningProcess, what: str, within: float) -> DeadlineExceeded:
    return DeadlineExceeded(f"process {process.pid} has not answered {what!r} within {within:g} s")


def _other_version(process: RunningProcess, said: Received) -> str:
    version, protocol = (wire.printable(str(said.get(name))) for name in ("version", "protocol"))
    return (
        f"process {process.pid} runs nbcompose {version}, which speaks version {protocol} of the runtime protocol; "
        f"nbcompose {__version__} speaks {PROTOCOL}: use the same version in both environments"
    )


# -- all processes


@dataclass(frozen=True, slots=True)
class Listing:
    """A process, its display name, and its services; where these are None, `trouble` says why."""

    process: RunningProcess
    title: str
    services: list[ListedService] | None
    trouble: str = ""


async def listings() -> list[Listing]:
    """Query every process of this user, for up to `LIST_WITHIN` seconds; processes that end meanwhile are left out."""
    found = await asyncio.gather(*map(_listing, address.find()))
    return [listing for listing in found if listing is not None]


async def _listing(process: RunningProcess) -> Listing | None:
    try:
        async with Client(process, LIST_WITHIN) as client:
            ps = await client.ask({"type": "ps"}, Ps)
            return Listing(process, wire.printable(wire.masked(client.hello["title"][:1000])), ps["services"])
    except DeadlineExceeded:
        return Listing(process, "?", None, "does not answer")
    except ProtocolError as error:
        return Listing(process, "?", None, wire.printable(str(error), 300))
    except PermissionError:
        return None  # another user's, under a name like ours
    except ConnectionError:
        if process not in address.find():
            return None
        return Listing(process, "?", None, "does not speak the runtime protocol: does it run an older nbcompose?")
    except NbcomposeError as error:
        return Listing(process, "?", None, wire.printable(str(error), 300))
