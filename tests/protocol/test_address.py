"""Addresses of private sockets, and that only processes of the same user get through."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nbcompose._protocol import address
from nbcompose._rpc.connection import Connection, open_connection, serve
from nbcompose._rpc.server_calls import IncomingCall
from nbcompose._tracing.spans import CallContext
from tests.patience import PATIENCE

NOBODY = 65534

linux = pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets")
root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")


class Echo:
    def on_call(self, call: IncomingCall) -> None:
        call.reply(call.arguments)

    def on_note(self, topic: str, value: Any) -> None: ...


def test_addresses_are_fresh_and_begin_with_their_prefix() -> None:
    first, second = address.fresh("nbcompose.call.1"), address.fresh("nbcompose.call.1")
    assert first != second
    assert Path(first).name.lstrip("@").startswith("nbcompose.call.1.")


@linux
def test_an_abstract_socket_leaves_no_file() -> None:
    where = address.fresh("nbcompose.test")
    sock = address.listen(where)
    with open("/proc/net/unix", encoding="ascii", errors="replace") as file:
        assert where in file.read()
    sock.close()
    with open("/proc/net/unix", encoding="ascii", errors="replace") as file:
        assert where not in file.read()


@pytest.fixture(params=["abstract", "file"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return str(tmp_path / "socket")
    if sys.platform != "linux":
        pytest.skip("no abstract sockets")
    return address.fresh("nbcompose.test")


def test_connect_and_listen(where: str) -> None:
    with address.listen(where) as listening, address.connect(where) as ours:
        theirs, _ = listening.accept()
        with theirs:
            assert address.peer_uid(theirs) == address.peer_uid(ours) == os.getuid()
            assert not ours.getblocking()
            theirs.sendall(b"hello")
            assert ours.recv(5) == b"hello"
    address.remove(where)
    assert not Path(where).exists()


def test_nobody_listens(where: str) -> None:
    with pytest.raises(ConnectionRefusedError):
        address.connect(where)


def test_an_address_in_use(where: str) -> None:
    with address.listen(where), pytest.raises(OSError, match="already in use"):
        address.listen(where)


@linux
def test_connect_never_waits_for_a_full_backlog() -> None:
    where = address.fresh("nbcompose.test")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("\0" + where[1:])
        listening.listen(0)
        waiting = [address.connect(where)]
        with pytest.raises(ConnectionRefusedError, match="does not keep up"):
            waiting += [address.connect(where) for _ in range(100)]
        for sock in waiting:
            sock.close()


def test_the_folder_for_files_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = address.socket_folder()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert address.socket_folder() == folder
    folder.chmod(0o755)
    with pytest.raises(PermissionError, match="open to others"):
        address.socket_folder()


def test_the_folder_may_not_be_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    (tmp_path / f"nbcompose-{os.getuid()}").symlink_to(elsewhere)
    with pytest.raises(PermissionError):
        address.socket_folder()


async def test_serve_answers_this_user(where: str) -> None:
    server = await serve(address.listen(where), "a caller", Echo())
    connection = await open_connection(where, "the server")
    assert await connection.call("echo", "x", CallContext()) == "x"
    connection.close()
    server.close()
    await server.wait_closed()


@root
@linux
@pytest.mark.system
async def test_a_process_of_another_user_is_turned_away() -> None:
    where = address.fresh("nbcompose.test")
    opened: list[Connection] = []
    closed: list[Connection] = []
    server = await serve(address.listen(where), "a caller", Echo(), opened.append, closed.append)
    code = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        f"s.connect('\\0' + {where[1:]!r})\n"
        "try:\n    print(s.recv(100))\n"
        "except ConnectionResetError:\n    print(b'')"
    )
    process = await asyncio.create_subprocess_exec(
        _python(), "-I", "-S", "-c", code, stdout=subprocess.PIPE, user=NOBODY, group=NOBODY, cwd="/"
    )
    out, _ = await process.communicate()
    assert out.strip() == b"b''"  # not even a greeting
    assert process.returncode == 0
    assert not opened
    assert not closed
    mine = await open_connection(where, "the server")
    assert await mine.call("echo", 1, CallContext()) == 1
    assert len(opened) == 1
    mine.close()
    async with asyncio.timeout(PATIENCE):
        while closed != opened:  # noqa: ASYNC110
            await asyncio.sleep(0)
    server.close()
    await server.wait_closed()


@root
@linux
@pytest.mark.system
def test_a_server_of_another_user_is_not_trusted() -> None:
    name = address.fresh("nbcompose.test")[1:]
    code = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        f"s.bind('\\0' + {name!r})\n"
        "s.listen(5)\n"
        "print('listening', flush=True)\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [_python(), "-I", "-S", "-c", code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=NOBODY, group=NOBODY, cwd="/",
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"listening\n"
        with pytest.raises(PermissionError, match=f"user {NOBODY}"):
            address.connect(f"@{name}")


def _python() -> str:
    """An interpreter that any user may run: a virtual environment may lie in a private folder."""
    return next(p for p in ("/usr/bin/python3", "/usr/local/bin/python3", sys.executable) if os.access(p, os.X_OK))
