"""Answering over the socket: every line gets an answer, whatever it is; requests overlap, stream and are cancelled."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from nbcompose._protocol import Events, RuntimeServer, address, messages, server, wire
from tests.patience import PATIENCE
from tests.protocol.test_wire import JSON

NOBODY = 65534
ITEM = 65536 * "x"
MANY = 300

Said = dict[str, Any]


class Answers:
    """What a process answers in these tests. `gone` is set when a `call` was cancelled; `made`: items of `logs`."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self.made = 0

    def table(self) -> Mapping[str, server.Answer]:
        return {
            "hello": self.hello, "ps": self.ps, "call": self.call, "form": self.form, "logs": self.logs,
            "reach": self.reach, "trace": self.trace,
        }  # fmt: skip

    async def hello(self, request: messages.HelloRequest, events: Events) -> Said:
        return {"type": "hello", "protocol": 1}

    async def ps(self, request: messages.PsRequest, events: Events) -> Said:
        return {"type": "ps", "services": [], "made": self.made}

    async def call(self, request: messages.Call, events: Events) -> Said:
        self.asked.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.gone.set()
            raise
        return {"type": "end", "seconds": 0.0}

    async def form(self, request: messages.FormRequest, events: Events) -> Said:
        raise LookupError("no such form")

    async def logs(self, request: messages.LogsRequest, events: Events) -> Said:
        for i in range(MANY):
            events.send({"type": "lines", "n": i, "lines": [ITEM]})
            self.made += 1
            await events.room()
        return {"type": "end", "seconds": 0.0}

    async def trace(self, request: messages.TraceRequest, events: Events) -> Said:
        return {"type": "trace", "rows": float("nan")}

    async def reach(self, request: messages.ReachRequest, events: Events) -> Said:
        return {"type": "reach", "token": "s3cret"}


class Raw:
    """One end of a connection, without the client's help."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def write(self, *lines: bytes | Said) -> None:
        for line in lines:
            self.writer.write(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")

    async def read(self) -> Said:
        async with asyncio.timeout(PATIENCE):
            said: Said = json.loads(await wire.read_line(self.reader))
        return said

    async def until(self, key: str) -> list[Said]:
        """What comes up to the end of a request."""
        heard = []
        while True:
            heard.append(await self.read())
            if heard[-1]["id"] == key and heard[-1]["type"] not in wire.by_type(messages.Event):
                return heard


@asynccontextmanager
async def serving(answers: Answers) -> AsyncIterator[RuntimeServer]:
    running = RuntimeServer(answers.table())
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


@asynccontextmanager
async def connected(where: RuntimeServer, *, greet: bool = True) -> AsyncIterator[Raw]:
    sock = address.connect(where.address)
    raw = Raw(*await asyncio.open_unix_connection(sock=sock, limit=wire.CHUNK))
    try:
        if greet:
            raw.write({"type": "hello", "id": "0", "protocol": 1, "version": "0"})
            assert (await raw.read())["type"] == "hello"
        yield raw
    finally:
        raw.writer.close()
        await raw.writer.wait_closed()


async def test_the_first_message_is_hello() -> None:
    async with serving(Answers()) as running, connected(running, greet=False) as raw:
        raw.write({"type": "ps", "id": "1"})
        refused = await raw.read()
        assert (refused["id"], refused["type"], refused["name"]) == ("1", "failed", "ProtocolError")
        assert "the first message is hello" in refused["message"]
        raw.write({"type": "hello", "id": "2", "protocol": 1, "version": "0"}, {"type": "ps", "id": "3"})
        assert [(await raw.read())["type"] for _ in range(2)] == ["hello", "ps"]


async def test_a_newer_protocol_is_refused_with_what_to_do() -> None:
    async with serving(Answers()) as running, connected(running, greet=False) as raw:
        raw.write({"type": "hello", "id": "0", "protocol": 2, "version": "9.0", "something": "new"})
        refused = await raw.read()
        assert refused["name"] == "ProtocolError"
        assert "speaks version 1 of the runtime protocol and not 2, as 9.0 does: update nbcompose" in refused["message"]
        raw.write({"type": "ps", "id": "1"})  # still not greeted
        assert (await raw.read())["type"] == "failed"
        raw.write({"type": "hello", "id": "2", "protocol": 1, "version": "9.0"})  # it speaks the older one too
        assert (await raw.read())["type"] == "hello"


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"type": "explode", "id": "1"}, "knows no request 'explode'; it knows: call, cancel, form, hello, logs, ps,"),
        ({"type": "explode\x1b[2J" + 99 * "!", "id": "1"}, "knows no request 'explode?[2J"),
        ({"type": 3, "id": "1"}, "a request has a type, one of call, cancel,"),
        ({"id": "1"}, "a request has a type"),
        ({"type": "ps"}, "id is missing"),
        ({"type": "ps", "id": 1}, "id is a whole number, not a text"),
        ({"type": "logs", "id": "1"}, "service is missing"),
        ({"type": "ps", "id": "1", "sevrice": "A"}, "there is no field sevrice"),
        (b"\n\n \n{]\n", "not JSON"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_answered_and_the_connection_goes_on(request_: Any, said: str) -> None:
    async with serving(Answers()) as running, connected(running) as raw:
        raw.write(request_, {"type": "ps", "id": "after"})
        [failed, ps] = await raw.until("after")
        assert failed["type"] == "failed"
        assert said in failed["message"]
        assert ps["services"] == []


async def test_a_line_that_is_too_long_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_MESSAGE", 200_000)
    async with serving(Answers()) as running, connected(running) as raw:
        raw.write(1_000_000 * b"x" + b"\n", {"type": "ps", "id": "after"})
        [failed, _] = await raw.until("after")
        assert failed["message"] == "a line of 1,000,001 bytes; a message has at most 200,000"


async def test_requests_overlap_and_ids_are_their_own() -> None:
    async with serving(answers := Answers()) as running, connected(running) as raw:
        raw.write({"type": "call", "id": "long", "service": "A", "api": "f"}, {"type": "ps", "id": "1"})
        assert (await raw.read())["id"] == "1"
        raw.write({"type": "ps", "id": "long"})
        assert "a request with the id 'long' is under way" in (await raw.read())["message"]
        answers.go.set()
        assert (await raw.read())["type"] == "end"
        raw.write({"type": "ps", "id": "long"})  # it may be used again
        assert (await raw.read())["type"] == "ps"


async def test_a_request_is_cancelled_also_before_it_has_begun() -> None:
    async with serving(answers := Answers()) as running, connected(running) as raw:
        for _ in range(2):
            raw.write({"type": "call", "id": "1", "service": "A", "api": "f"}, {"type": "cancel", "id": "1"})
            assert (await raw.read())["type"] == "cancelled"
        raw.write({"type": "call", "id": "1", "service": "A", "api": "f"})
        await answers.asked.wait()
        raw.write({"type": "cancel", "id": "1"}, {"type": "cancel", "id": "of nothing"})
        assert (await raw.read())["type"] == "cancelled"
        assert answers.gone.is_set()


async def test_a_client_that_goes_cancels_what_it_asked_for() -> None:
    async with serving(answers := Answers()) as running:
        async with connected(running) as raw:
            raw.write({"type": "call", "id": "1", "service": "A", "api": "f"})
            await answers.asked.wait()
        async with asyncio.timeout(PATIENCE):
            await answers.gone.wait()


async def test_a_server_that_stops_says_so() -> None:
    async with serving(answers := Answers()) as running, connected(running) as raw:
        raw.write({"type": "call", "id": "1", "service": "A", "api": "f"})
        await answers.asked.wait()
        await running.stop()
        assert (await raw.read())["type"] == "cancelled"
        assert await raw.reader.read() == b""
        with pytest.raises(ConnectionError):
            address.connect(running.address)


async def test_what_ends_while_the_server_stops_has_its_answer() -> None:
    """As `stop` of the last service of a program, which then ends."""
    async with serving(answers := Answers()) as running, connected(running) as raw:
        raw.write({"type": "call", "id": "1", "service": "A", "api": "f"})
        await answers.asked.wait()
        stopping = asyncio.ensure_future(running.stop())
        await asyncio.sleep(0)
        answers.go.set()
        assert (await raw.read())["type"] == "end"
        await stopping


async def test_a_slow_reader_slows_down_the_answer_and_loses_nothing() -> None:
    async with serving(Answers()) as running, connected(running) as slow, connected(running) as other:
        slow.write({"type": "logs", "id": "1", "service": "A"})
        assert (await slow.read())["n"] == 0
        other.write({"type": "ps", "id": "1"})
        assert (await other.read())["made"] < MANY / 2  # what is not read is not made
        heard = await slow.until("1")
        assert [said.get("n") for said in heard] == [*range(1, MANY), None]
        assert heard[-1]["type"] == "end"


async def test_an_error_of_an_answer_is_told() -> None:
    async with serving(Answers()) as running, connected(running) as raw:
        raw.write({"type": "form", "id": "1", "service": "A", "api": "f"})
        failed = await raw.read()
        assert (failed["name"], failed["message"], failed["action"]) == ("LookupError", "no such form", "form")
        assert (failed["service"], failed["api"]) == ("A", "f")
        raw.write({"type": "trace", "id": "2", "trace": "0"})
        assert "what was to be sent is not JSON" in (await raw.read())["message"]


async def test_a_client_has_so_many_requests_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_REQUESTS", 2)
    async with serving(Answers()) as running, connected(running) as raw:
        raw.write(*({"type": "call", "id": str(i), "service": "A", "api": "f"} for i in range(3)))
        assert "2 requests are under way" in (await raw.read())["message"]
        raw.write({"type": "cancel", "id": "0"})
        assert (await raw.read())["type"] == "cancelled"


# -- whatever comes


# On the loop that processes have: asyncio's own loses a connection that it has accepted when it is closed, such as that
# of a Jupyter server which has noticed this one.
@given(st.binary(max_size=300), st.booleans())
@settings(max_examples=200)
def test_any_bytes_are_answered_line_by_line(data: bytes, greet: bool) -> None:
    async def run() -> None:
        async with serving(Answers()) as running, connected(running, greet=greet) as raw:
            raw.write(data + b"\n", {"type": "hello", "id": "end", "protocol": 1, "version": "0"})
            *heard, last = await raw.until("end")
            assert last["type"] == "hello"
            assert {said["type"] for said in heard} <= {"failed"}
            assert len(heard) == len([line for line in data.split(b"\n") if line.strip()])

    uvloop.run(run())


KINDS = [*wire.by_type(messages.RuntimeRequest)]
FIELDS = sorted({field for cls in wire.by_type(messages.RuntimeRequest).values() for field in wire.fields_of(cls)})


@given(
    st.lists(
        st.fixed_dictionaries(
            {}, optional={f: JSON for f in FIELDS if f != "type"} | {"type": st.sampled_from(KINDS) | JSON}
        ),
        max_size=3,
    )
)
def test_any_objects_are_answered(sent: list[Said]) -> None:
    async def run() -> None:
        async with serving(answers := Answers()) as running, connected(running) as raw:
            answers.go.set()
            raw.write(*sent, {"type": "ps", "id": "the end"})
            assert (await raw.until("the end"))[-1]["type"] == "ps"

    uvloop.run(run())


# -- where there are no abstract sockets


@pytest.fixture
def runtime_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A system without abstract sockets. (The path is short: that of a socket has a limit.)"""
    with tempfile.TemporaryDirectory(prefix="nbc") as folder:
        monkeypatch.setattr(address, "ABSTRACT", False)
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield


@pytest.mark.system
@pytest.mark.usefixtures("runtime_folder")
async def test_sockets_are_files_elsewhere_and_are_swept() -> None:
    ended = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await ended.wait()
    folder = address.socket_folder()
    left = folder / f"{address.PREFIX}.{os.getuid()}.{ended.pid}.0123"
    left.touch()
    async with serving(Answers()) as running, connected(running):
        assert not left.exists()
        assert [found.pid for found in address.find()] == [os.getpid()]
        assert running.address.startswith(str(folder))
    assert list(folder.iterdir()) == []


# -- who may ask


@pytest.mark.skipif(os.getuid() != 0 or sys.platform != "linux", reason="only root can become somebody else")
@pytest.mark.system
async def test_a_process_of_another_user_hears_nothing() -> None:
    async with serving(Answers()) as running:
        code = (
            "import socket\n"
            "s = socket.socket(socket.AF_UNIX)\n"
            f"s.connect('\\0' + {running.address[1:]!r})\n"
            "try:\n"
            '    s.sendall(b\'{"type": "hello", "id": "0", "protocol": 1, "version": "0"}\\n\')\n'
            "    print(s.recv(100))\n"
            "except (ConnectionResetError, BrokenPipeError):\n    print(b'')"
        )
        process = await asyncio.create_subprocess_exec(
            python(), "-I", "-S", "-c", code, stdout=subprocess.PIPE, user=NOBODY, group=NOBODY, cwd="/"
        )
        out, _ = await process.communicate()
        assert (process.returncode, out.strip()) == (0, b"b''")
        async with connected(running) as mine:  # this user is served
            mine.write({"type": "ps", "id": "1"})
            assert (await mine.read())["type"] == "ps"


def python() -> str:
    """An interpreter that any user may run: a virtual environment may lie in a private folder."""
    return next(p for p in ("/usr/bin/python3", "/usr/local/bin/python3", sys.executable) if os.access(p, os.X_OK))
