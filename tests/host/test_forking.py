from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Callable

import pytest

from nbcompose._host.forking import handling, keep_from_children, keep_numbers_from_children
from tests.patience import PATIENCE

pytestmark = pytest.mark.system


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("kept", [False, True])
def test_a_forked_child_does_not_keep_a_port_open(kept: bool) -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    address = sock.getsockname()
    if kept:
        keep_from_children(sock)
    closed = keep_from_children(socket.create_server(("127.0.0.1", 0)))
    closed.close()  # one that has been closed is no trouble
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writable, b"x")
        signal.pause()
        os._exit(0)
    try:
        assert os.read(readable, 1) == b"x"
        sock.close()
        if kept:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address, timeout=PATIENCE)
        else:  # what happens otherwise
            socket.create_connection(address, timeout=PATIENCE).close()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(readable)
        os.close(writable)


def in_child(look: Callable[[], bytes]) -> bytes:
    """What `look` returns in a forked child."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writable, look())
        os._exit(0)
    os.close(writable)
    with open(readable, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return told


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_has_neither_the_duplicates_of_a_listening_socket_nor_its_connections() -> None:
    with (
        keep_from_children(socket.create_server(("127.0.0.1", 0))) as listening,
        listening.dup() as again,
        socket.create_connection(listening.getsockname()) as other,
        listening.accept()[0] as accepted,
    ):
        fds = (listening.fileno(), again.fileno(), accepted.fileno(), other.fileno())
        told = in_child(lambda: b" ".join(b"%d" % stat.S_ISSOCK(os.fstat(fd).st_mode) for fd in fds))
    assert told == b"0 0 0 1"  # the last is somebody else's


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_number_that_has_become_another_files_is_left_alone() -> None:
    one, other = socket.socketpair()
    keep_numbers_from_children([one.fileno()])
    number = one.fileno()
    assert in_child(lambda: b"%d" % stat.S_ISSOCK(os.fstat(number).st_mode)) == b"0"
    one.close()
    os.dup2(other.fileno(), number)
    assert in_child(lambda: b"%d" % stat.S_ISSOCK(os.fstat(number).st_mode)) == b"1"
    os.close(number)
    other.close()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_has_the_handlers_from_before() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def look() -> bytes:
        return b"%d" % (signal.getsignal(signal.SIGTERM) == before)

    with handling(lambda *_: None, signal.SIGTERM):
        assert look() == b"0"
        assert in_child(look) == b"1"
    assert look() == b"1"
    usual = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the user's own, and the child's too
    assert in_child(look) == b"0"
    signal.signal(signal.SIGTERM, usual)
