"""The last places before the line: whatever describing or writing an error meets, an answer goes out."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import pytest
from raising_services import OWN, made

from nbcompose import api, service
from nbcompose._replica.http import responses
from nbcompose._replica.http.endpoints import Site
from nbcompose._replica.http.exchange import Exchange
from nbcompose._rpc.blocking import LoopThread
from nbcompose._rpc.codec import Encoder
from nbcompose._rpc.connection import Connection, adopt
from nbcompose._rpc.remote_errors import RemoteErrorDetail
from nbcompose._rpc.server_calls import IncomingCall
from nbcompose._tracing.spans import CallContext
from nbcompose.errors import CallError, RemoteError, ReplicaDied
from tests.patience import until
from tests.replica.http.http_server import Face, error_of, serving, soon

faces = pytest.mark.parametrize("face", ["tornado", "asgi"])


class Service:
    @api
    async def fail(self, kind: str) -> int:
        raise made({"kind": kind})

    @api
    async def items(self, kind: str) -> AsyncIterator[int]:
        yield 1
        raise made({"kind": kind})

    @api
    async def fine(self) -> int:
        return 1


class Refusing(Exception):
    pass


def refuse(*_: Any, **__: Any) -> Any:
    raise Refusing("it cannot be told")


# -- HTTP


@pytest.mark.parametrize("kind", OWN)
@faces
async def test_every_odd_error_is_answered_over_http(face: Face, kind: str) -> None:
    async with serving(Service, face=face) as served:
        response = await soon(served.http.post("/fail", json=kind))
        assert response.status_code in (422, 499, 500)  # a CancelledError: this runtime takes it for the client's
        assert response.json()["error"].keys() >= {"type", "message", "id"}
        response = await soon(served.http.post("/items", json=kind))
        assert response.status_code == 200
        assert response.text.splitlines()[0] == "1"
        assert '"error"' in response.text.splitlines()[1]
        assert (await soon(served.http.post("/fine"))).json() == 1


@pytest.mark.parametrize("trusted", [True, False])
@faces
async def test_an_error_that_cannot_be_written_is_a_plain_one(
    face: Face, trusted: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(responses, "error_document", refuse)
    async with serving(Service, face=face, loopback=trusted) as served:
        error = error_of(
            await soon(served.http.post("/fail", json="ValueError")), 500, "ValueError" if trusted else "InternalError"
        )
    assert ("Refusing" in error["message"]) is trusted
    assert error["id"] in caplog.text


@faces
async def test_headers_that_cannot_be_written_leave_room_for_an_error(
    face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Exchange._headers

    def once(self: Exchange, media_type: str, more: dict[str, str]) -> Any:
        monkeypatch.setattr(Exchange, "_headers", write)
        return write(self, media_type, {"X-Odd": "a\r\nb"})

    monkeypatch.setattr(Exchange, "_headers", once)
    async with serving(Service, face=face) as served:
        error_of(await soon(served.http.post("/fine")), 500, "ValueError")


async def test_where_nothing_can_be_written_the_connection_is_closed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(Service) as served:
        monkeypatch.setattr(Exchange, "_headers", refuse)
        reader, writer = await served.raw(served.post("/fine", b""))
        assert await soon(reader.read()) == b""
        writer.close()
    assert "an error of /fine cannot be told" in caplog.text


@faces
async def test_a_path_that_cannot_be_looked_up_is_answered(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(Service, face=face) as served:
        monkeypatch.setattr(Site, "admit", refuse)
        error_of(await soon(served.http.post("/fine")), 500, "Refusing")


@pytest.mark.parametrize("status", [99, 101, 200, 204, 304, 420, 600, "bad", [], None, 418.0, True])
async def test_a_status_that_is_none_of_an_error_is_a_500(status: Any) -> None:
    class Odd(CallError):
        pass

    Odd.status = status
    assert responses.error_reply(Odd("odd"), trusted=True).status == 500
    assert responses.error_reply(Odd("odd").from_below(), trusted=True).status == 500


# -- the wire


class Failing:
    """Answers calls with an error, as a runtime does."""

    def on_call(self, call: IncomingCall) -> None:
        self.task = asyncio.get_running_loop().create_task(call.fail_aside(ValueError("on purpose"), "Failing.fail"))

    def on_note(self, topic: str, value: Any) -> None: ...


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[Connection]:
    ours, theirs = socket.socketpair()
    answering, calling = await adopt(theirs, "the caller", Failing()), await adopt(ours, "the peer")
    yield calling
    for connection in (calling, answering):
        connection.close()
    await until(lambda: calling.closed and answering.closed)


@pytest.mark.parametrize("always", [False, True])
async def test_an_error_that_cannot_be_sent_is_a_plain_one_or_the_end_of_the_connection(
    always: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    encode = Encoder.encode

    def refusing(self: Encoder, obj: Any, *role: Any) -> Any:
        if isinstance(obj, RemoteErrorDetail) and (always or obj.message == "on purpose"):
            raise MemoryError
        return encode(self, obj, *role)

    monkeypatch.setattr(Encoder, "encode", refusing)
    async with connected() as connection:
        with pytest.raises(ReplicaDied if always else RemoteError) as caught:
            await soon(connection.call("fail", ((), {}), CallContext()))
    if not always:
        assert str(caught.value) == "ValueError: it cannot be sent: MemoryError"
    assert "an error of fail cannot be sent to the caller" in caplog.text


class Exits:
    def __reduce__(self) -> Any:
        return sys.exit, (3,)


async def test_arguments_that_exit_where_they_are_rebuilt_end_only_their_call() -> None:
    async with connected() as connection:
        for _ in range(2):
            with pytest.raises(CallError, match="SystemExit: 3"):
                await soon(connection.call("fail", ((Exits(),), {}), CallContext()))
        connection.note("topic", Exits())
        with pytest.raises(ValueError, match="on purpose"):
            await soon(connection.call("fail", ((), {}), CallContext()))


# -- in one process


@service
class Near:
    @api
    def plain(self, kind: str) -> int:
        raise made({"kind": kind, "arguments": "text"})

    @api
    async def coroutine(self, kind: str) -> int:
        raise made({"kind": kind, "arguments": "text"})

    @api
    def items(self, kind: str) -> Iterator[int]:
        yield 1
        raise made({"kind": kind, "arguments": "text"})

    @api
    async def async_items(self, kind: str) -> AsyncIterator[int]:
        yield 1
        raise made({"kind": kind, "arguments": "text"})


CONTAINED = [
    "SystemExit",
    "GeneratorExit",
    "CancelledError",
    "StopAsyncIteration",
    "BaseException",
    "Own",
    "BothCancelled",
]


@pytest.mark.parametrize("kind", CONTAINED)
@pytest.mark.parametrize("api_name", ["plain", "coroutine", "items", "async_items"])
async def test_what_ends_more_than_a_call_is_contained_in_one_process_too(api_name: str, kind: str) -> None:
    call = getattr(Near(), api_name)(kind) if api_name != "plain" else None
    with pytest.raises(RuntimeError, match=f"{kind}") as caught:  # noqa: PT012
        if call is None:
            Near().plain(kind)
        elif api_name == "coroutine":
            await call
        elif api_name == "items":
            list(call)
        else:
            [item async for item in call]
    assert caught.value.__cause__ is not None


def test_an_interrupt_stays_one_in_one_process() -> None:
    with pytest.raises(KeyboardInterrupt):
        Near().plain("KeyboardInterrupt")


class Pause:
    def __await__(self) -> Generator[None, None, None]:
        yield


def test_a_coroutine_that_is_thrown_away_is_just_that() -> None:
    class Waiting:
        @api
        async def wait(self) -> None:
            await Pause()

    call = service(Waiting)().wait()
    call.send(None)
    call.close()


def test_an_exit_in_a_task_ends_no_background_loop() -> None:
    portal = LoopThread("test")
    portal.start()

    async def leave() -> None:
        sys.exit(3)

    async def one() -> int:
        return 1

    with pytest.raises(SystemExit):
        portal.run(leave())
    portal.loop.call_soon_threadsafe(sys.exit, 4)
    assert portal.run(one()) == 1
    portal.stop()
    assert not portal._worker.is_alive()
