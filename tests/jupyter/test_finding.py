"""What `Runtimes` makes of processes that do not behave, played here by sockets of this process."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

import nbcompose
from nbcompose._jupyter import finding
from nbcompose._jupyter.finding import Listed, Runtimes, UnknownRuntime
from nbcompose._protocol import RunningProcess, address, wire
from nbcompose.errors import ServiceUnavailable
from tests.jupyter.conftest import Changes
from tests.patience import until

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Sessions:
    """Of a Jupyter server: which kernel each open notebook has."""

    def __init__(self) -> None:
        self.open: list[dict[str, Any]] = []

    async def list_sessions(self) -> list[dict[str, Any]]:
        return self.open

    def add(self, path: str, kernel: str, kind: str = "notebook") -> None:
        self.open.append({"path": path, "type": kind, "kernel": {"id": kernel}})


class Process:
    """One that is found, and behaves as a function says. The name of its socket has this process's id."""

    def __init__(self, behave: Behaviour) -> None:
        self.address = address.runtime_address()
        self.connections = 0
        self._behave = behave
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._connected, sock=address.listen(self.address))
        address.knock()

    def end(self, knock: bool = False) -> None:
        """As if it were killed, which tells nobody, or as it ends in order."""
        self._server.close()
        address.remove(self.address)
        self.cut()
        if knock:
            address.knock()

    def cut(self) -> None:
        """Close the connections."""
        for task in self._tasks:
            task.cancel()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await self._behave(reader, writer)
        except (asyncio.CancelledError, ConnectionError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()


def hello(**other: Any) -> dict[str, Any]:
    return {
        "id": "0", "type": "hello", "protocol": 1, "version": nbcompose.__version__, "pid": os.getpid(),
        "kernel": "", "session": "", "title": "a program", "messages": ["ps"], **other,
    }  # fmt: skip


def says(greeting: dict[str, Any], listens: asyncio.Event | None = None) -> Behaviour:
    """It says hello, after `listens` is set, and that it has no services."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await (listens.wait() if listens is not None else asyncio.sleep(0))
        writer.write(await _answer(reader, greeting))
        while True:
            writer.write(await _answer(reader, {"type": "ps", "services": []}))

    async def _answer(reader: asyncio.StreamReader, answer: dict[str, Any]) -> bytes:
        line = await reader.readline()
        if not line:
            raise ConnectionResetError
        return wire.encode({**answer, "id": wire.decode(line)["id"]})

    return behave


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """It does not know what it is to do with a hello."""


async def babbles(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x00\x01 no JSON\n")
    await reader.read()


@pytest.fixture
def sessions() -> Sessions:
    return Sessions()


@pytest.fixture
async def alone(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Runtimes]:
    """Finds what this test plays, and no other process of this machine."""
    name = f"nbcompose.test.{secrets.token_hex(4)}"
    monkeypatch.setattr(address, "PREFIX", f"{name}.runtime".replace(".", "-", 2))
    monkeypatch.setattr(address, "LISTENER_PREFIX", f"{name}.server".replace(".", "-", 2))
    monkeypatch.setattr(finding, "ANSWER_WITHIN", 0.05)
    runtimes = Runtimes(sessions, "/user/me/", logging.getLogger("test"))
    await runtimes.start()
    yield runtimes
    await runtimes.stop()


@pytest.fixture
async def play() -> AsyncIterator[Callable[[Behaviour], Awaitable[Process]]]:
    processes = []

    async def start(behave: Behaviour) -> Process:
        process = Process(behave)
        await process.start()
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.end()


async def only(runtimes: Runtimes) -> Listed:
    [listed] = await runtimes.ask()
    return listed


async def test_a_process_that_begins_is_found_by_its_knock_and_ends_with_its_connection(
    alone: Runtimes, play: Any
) -> None:
    changes = Changes(alone)
    assert await alone.ask() == []
    process = await play(says(hello()))
    runtime = await changes.until("started", lambda _: True)
    assert (runtime.id, runtime.kind, runtime.process.address) == (f"serve-{os.getpid()}", "serve", process.address)
    assert await only(alone) == {
        "id": f"serve-{os.getpid()}", "kind": "serve", "pid": os.getpid(), "title": "a program", "path": "",
        "kernel": "", "version": nbcompose.__version__, "trouble": "", "services": [], "stopped": [],
    }  # fmt: skip
    assert process.connections == 2  # for all that was asked, and for what changes
    process.end()
    assert await changes.until("ended", lambda _: True) is runtime
    assert await alone.ask() == []


async def test_a_process_whose_sockets_are_closed_one_after_the_other_is_no_longer_listed(
    alone: Runtimes, play: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = Changes(alone)
    process = await play(says(hello()))
    await changes.until("started", lambda _: True)
    found: list[bool] = []

    def find() -> list[RunningProcess]:
        found.append(process.address in [one.address for one in finds()])
        return finds()

    finds = address.find
    monkeypatch.setattr(address, "find", find)
    process.cut()
    await until(lambda: any(found))  # it was still there when the connection had ended
    process.end()
    await changes.until("ended", lambda _: True)
    assert await alone.ask() == []


async def test_a_process_that_says_nothing_is_listed_and_is_heard_when_it_answers_after_all(
    alone: Runtimes, play: Any
) -> None:
    listens = asyncio.Event()
    await play(says(hello(title="slow"), listens))
    changes = Changes(alone)
    listed = await only(alone)
    assert (listed["trouble"], listed["title"], listed["services"]) == ("does not answer", "?", [])
    with pytest.raises(ServiceUnavailable, match=f"process {os.getpid()} does not answer"):
        await alone.find(f"serve-{os.getpid()}")
    listens.set()
    await changes.until("started", lambda _: True)
    listed = await only(alone)
    assert (listed["trouble"], listed["title"]) == ("", "slow")


async def test_one_that_hangs_keeps_nobody_from_the_others(alone: Runtimes, play: Any) -> None:
    await play(silent)
    await play(says(hello(kernel="k1")))
    changes = Changes(alone)
    await alone.look()
    await changes.until("started", lambda runtime: runtime.id == "k1")  # while the other one is waited for
    assert (await alone.find("k1")).kind == "kernel"
    assert sorted(listed["trouble"] for listed in await alone.ask()) == ["", "does not answer"]


@pytest.mark.parametrize(
    ("behave", "trouble"),
    [
        (says(hello(protocol=2, version="9.0")), "process {pid} runs nbcompose 9.0, which speaks version 2"),
        (says({"type": "failed", "action": "hello", "seconds": 0.0, "name": "ProtocolError", "traceback": "",
               "problems": [], "message": "which speaks version 1"}), "which speaks version 1"),
        (closes, "does not speak the runtime protocol: does it run an older nbcompose?"),
        (babbles, "not "),
    ],
    ids=["newer", "older", "closes", "babbles"],
)  # fmt: skip
async def test_what_is_not_understood_is_listed_with_the_reason_until_it_ends(
    behave: Behaviour, trouble: str, alone: Runtimes, play: Any
) -> None:
    changes = Changes(alone)
    process = await play(behave)
    listed = await only(alone)
    assert listed["trouble"].startswith(trouble.format(pid=os.getpid()))
    with pytest.raises(ServiceUnavailable):
        await alone.find(f"serve-{os.getpid()}")
    process.end(knock=True)
    await changes.until("ended", lambda _: True)
    assert await alone.ask() == []
    assert process.connections <= 4  # it was not asked again and again


async def test_a_process_of_another_user_is_not_listed(
    alone: Runtimes, play: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(where: str) -> None:
        raise PermissionError("a process of user 65534 is at the other end of this socket: refused")

    process = await play(silent)
    monkeypatch.setattr(address, "connect", refuse)
    changes = Changes(alone)
    assert await alone.ask() == []
    with pytest.raises(UnknownRuntime):
        await alone.find(f"serve-{os.getpid()}")
    process.end()
    await alone.look()
    assert changes.seen == []


async def test_names_of_processes_and_what_is_said_where_there_is_none(
    alone: Runtimes, play: Any, sessions: Sessions
) -> None:
    await play(says(hello(kernel="k1", title="first.ipynb")))
    await play(says(hello(kernel="k2", title="second.ipynb")))
    sessions.add("a/first.ipynb", "k1")
    sessions.add("a/first.ipynb-console-1", "k1", "console")
    assert (await alone.find("k1")).id == "k1"
    assert (await alone.find("a/first.ipynb")).id == "k1"
    assert (await alone.find("/a/first.ipynb")).id == "k1"
    listed = {listed["id"]: (listed["path"], listed["title"]) for listed in await alone.ask()}
    assert listed == {"k1": ("a/first.ipynb", "first.ipynb"), "k2": ("", "second.ipynb")}
    with pytest.raises(UnknownRuntime, match=r"'second\.ipynb': run %load_ext nbcompose .*; there are: k. \("):
        await alone.find("second.ipynb")  # its session is not open
    sessions.open[0].update(path="b/new.ipynb", kernel={"id": "k2"})
    assert (await alone.find("b/new.ipynb")).id == "k2"


async def test_of_two_with_one_name_the_newer_one_is_meant(alone: Runtimes, play: Any) -> None:
    """A kernel that was restarted, whose process has not ended yet."""
    changes = Changes(alone)
    old = await play(says(hello(kernel="k1")))
    await changes.until("started", lambda _: True)
    new = await play(says(hello(kernel="k1")))
    await changes.until("started", lambda runtime: runtime.process.address == new.address)
    assert (await alone.find("k1")).process.address == new.address
    old.end()
    await changes.until("ended", lambda runtime: runtime.process.address == old.address)
    assert (await alone.find("k1")).process.address == new.address


async def test_what_is_strange_in_a_title_or_a_name_is_made_harmless(alone: Runtimes, play: Any) -> None:
    await play(says(hello(title="run --token abc\x1b[31m", kernel="../k?1")))
    listed = await only(alone)
    assert listed["title"] == "run --token ***"
    runtime = await alone.find("../k?1")
    assert alone._link(runtime, "http://x") == "/user/me/nbcompose/at/..%2Fk%3F1/http%3A%2F%2Fx/"


async def test_a_service_that_has_started_since_it_was_asked_has_a_link(alone: Runtimes, play: Any) -> None:
    await play(says(hello(kernel="k1")))
    runtime = await alone.find("k1")
    told: Any = {
        "services": [{"name": "In", "url": "", "state": "ready"}, {"name": "Up", "url": "", "state": "starting"}]
    }
    runtime._take_addresses(told)
    assert [bool(alone._link(runtime, name)) for name in ("In", "Up", "New")] == [False, True, True]


async def test_many_knocks_are_few_looks(alone: Runtimes, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    find = address.find

    def counted() -> list[RunningProcess]:
        nonlocal looks
        looks += 1
        return find()

    monkeypatch.setattr(address, "find", counted)
    await asyncio.gather(*(alone.look() for _ in range(50)))
    assert looks <= 2
    for _ in range(50):
        address.knock()
    before = looks
    await until(lambda: looks > before)
    await alone.look()
    assert looks < 30


async def test_a_server_that_has_stopped_leaves_no_socket_and_no_connection(alone: Runtimes, play: Any) -> None:
    process = await play(says(hello()))
    changes = Changes(alone)
    await changes.until("started", lambda _: True)
    assert len(address._addresses(address.LISTENER_PREFIX)) == 1
    await alone.stop()
    assert address._addresses(address.LISTENER_PREFIX) == []
    await until(lambda: not process._tasks)
    await alone.start()  # as a server does that is started again
    assert len(await alone.ask()) == 1


async def test_a_server_that_stops_while_it_starts_leaves_no_socket_and_no_connection(
    alone: Runtimes, play: Any
) -> None:
    await alone.stop()
    process = await play(says(hello()))
    for turns in range(1, 8):  # of the loop, after the first of which it has begun
        starting = asyncio.ensure_future(alone.start())
        for _ in range(turns):
            await asyncio.sleep(0)
        await alone.stop()
        await asyncio.gather(starting, return_exceptions=True)
        assert address._addresses(address.LISTENER_PREFIX) == []
        assert not alone._held
    await until(lambda: not process._tasks)


async def test_a_server_that_has_stopped_does_not_look(alone: Runtimes, play: Any) -> None:
    await alone.stop()
    process = await play(says(hello()))
    alone.look_soon()  # as when a kernel starts or ends
    assert await alone.ask() == []
    assert not process.connections
