"""Processes that an api starts: their signals are their own, and they hold nothing of ours."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from forking_services import Leaf, Parent, asking_over_http

from nbcompose.errors import ReplicaDied
from tests.conftest import Running, alive, wait_for_end
from tests.patience import PATIENCE, wait_until

pytestmark = pytest.mark.system

METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture(scope="module", params=["zygote", pytest.param("cold", marks=pytest.mark.slow)])
def environment(request: pytest.FixtureRequest) -> dict[str, str]:
    return {"NBCOMPOSE_ZYGOTE": "0"} if request.param == "cold" else {"NBCOMPOSE_PRELOAD": "json"}


@contextlib.contextmanager
def undisturbed(running: Running) -> Iterator[None]:
    """No replica was stopped or restarted, and all answer."""
    parent = running.up(Parent, Leaf)
    before = parent.pid()
    yield
    assert parent.pid() == before
    assert parent.ask_leaf(1) == 2
    assert [running.registry.status(name).restarts for name in ("Parent", "Leaf")] == [0, 0]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("api", ["pool", "executor", "pool_on_the_loop"])
def test_pools_do_not_stop_a_service(running: Running, api: str, method: str) -> None:
    with undisturbed(running):
        call = getattr(running.registry.proxy("Parent"), api)
        for _ in range(3):
            assert call(method) == [1, 2, 3]


def test_a_signal_for_one_of_many_children_is_never_the_parents(running: Running) -> None:
    with undisturbed(running):
        assert running.registry.proxy("Parent").stopped_by_many(50) == 50


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_that_is_ended_at_once_does_not_take_its_parent_with_it(running: Running, method: str) -> None:
    with undisturbed(running):
        count = {"fork": 200, "spawn": 5}[method]
        assert running.registry.proxy("Parent").ended_at_once(method, count) == count


def test_what_a_child_sets_up_is_its_childrens(running: Running) -> None:
    with undisturbed(running):
        assert running.registry.proxy("Parent").grandchild() == [True, [1] * 20]


@pytest.mark.parametrize("start", ["program", *METHODS])
@pytest.mark.parametrize(
    ("number", "end"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 42), (signal.SIGUSR1, -signal.SIGUSR1)]
)
def test_a_signal_for_a_child_does_what_it_does_in_a_new_process(
    running: Running, start: str, number: int, end: int
) -> None:
    with undisturbed(running):
        assert running.registry.proxy("Parent").signalled(start, number) == end


@pytest.mark.parametrize("api", ["handlers_of_child", "handlers_of_child_of_the_loop"])
def test_a_forked_child_handles_signals_as_a_new_process_does(running: Running, api: str) -> None:
    with undisturbed(running):
        parent = running.registry.proxy("Parent")
        assert parent.program() == "hello\n"  # the loop has begun to answer SIGCHLD
        assert getattr(parent, api)() == {"handled": [], "ignored": [], "wakeup": -1}


@pytest.mark.parametrize("api", ["files_of_child", "files_of_child_of_the_loop", "files_of_program"])
def test_a_child_has_no_file_of_ours(running: Running, api: str) -> None:
    with undisturbed(running):
        parent = running.registry.proxy("Parent")
        assert parent.ask_leaf(1) == 2
        connection = http(running, "Parent", "pid", keep=True)  # one that stays open
        ours = {
            name for fd, name in parent.files().items() if int(fd) > 2 and name.startswith(("socket:", "anon_inode:"))
        }
        assert len(ours) > 5
        theirs = getattr(parent, api)()
        connection.close()
        assert not ours & set(theirs.values())
        assert ("/dev/zero" in theirs.values()) == (api != "files_of_program")  # the user's own


def test_a_child_has_no_connection_to_a_service_elsewhere(running: Running) -> None:
    running.up(Leaf)
    theirs = running.up(asking_over_http(running.registry.status("Leaf").url)).ask()
    assert not [name for name in theirs.values() if name.startswith("socket:")]


def test_a_child_of_the_loop_may_have_a_loop_of_its_own(running: Running) -> None:
    with undisturbed(running):
        assert running.registry.proxy("Parent").loop_of_child() == ["no running event loop", "slept"]


@pytest.mark.parametrize("api", ["calls_of_child", "calls_of_child_of_the_loop"])
def test_a_forked_child_that_calls_a_service_is_told_that_it_cannot(running: Running, api: str) -> None:
    with undisturbed(running):
        said = getattr(running.registry.proxy("Parent"), api)()
        for text in said:
            assert text.startswith("ServiceUnavailable: this process was forked from the one that talks to services")


def test_a_child_that_tidies_up_takes_nothing_away_from_its_parent(running: Running) -> None:
    with undisturbed(running):
        parent = running.registry.proxy("Parent")
        assert parent.ask_leaf(1) == 2
        assert parent.child_that_ends_as_a_program_does() == 0


# -- what others see of a service whose child lives on


@pytest.fixture
def children() -> Iterator[list[int]]:
    """Pids of children that nobody else ends."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def http(running: Running, service: str, api: str, body: bytes = b"{}", keep: bool = False) -> socket.socket:
    """A connection over which an api has been asked."""
    url = urlsplit(running.registry.status(service).url or "")
    sock = socket.create_connection((url.hostname, url.port), timeout=PATIENCE)
    close = "" if keep else "Connection: close\r\n"
    head = f"POST /{api} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: application/json\r\n{close}"
    sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    if keep:
        assert sock.recv(4096).startswith(b"HTTP/1.1 200")
    return sock


@pytest.mark.parametrize("session", [b"false", b"true"])
def test_an_answer_ends_when_it_ends(running: Running, children: list[int], session: bytes) -> None:
    with undisturbed(running):
        with http(running, "Parent", "child", b'{"own_session": ' + session + b"}") as sock:
            answer = b""
            while part := sock.recv(4096):
                answer += part
        children.append(int(answer.rpartition(b"\r\n")[2]))
        assert alive(children[0])


def test_the_end_of_a_service_is_seen_although_its_child_lives_on(
    running: Running, children: list[int], tmp_path: Path
) -> None:
    parent = running.up(Parent, Leaf)
    leaf = running.registry.proxy("Leaf")
    children.append(leaf.child(own_session=True))
    begun = tmp_path / "begun"
    waiting = running.in_thread(parent.wait_for_leaf, str(begun))
    wait_until(begun.exists, "the call has begun")
    pid = running.registry.status("Leaf").replicas[0].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ReplicaDied):
        waiting.result(PATIENCE)
    assert alive(children[0])


def test_a_port_is_free_when_its_service_has_ended_although_its_child_lives_on(
    running: Running, children: list[int]
) -> None:
    parent = running.up(Parent, Leaf)
    url = urlsplit(running.registry.status("Parent").url or "")
    children.append(parent.child(own_session=True))
    running.registry.remove("Parent")
    assert alive(children[0])
    socket.create_server((url.hostname or "", url.port or 0)).close()


def test_children_of_the_same_session_end_with_a_replica(running: Running) -> None:
    parent = running.up(Parent, Leaf)
    child = parent.child()
    running.registry.remove("Parent")
    wait_for_end(child)
