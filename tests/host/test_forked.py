from __future__ import annotations

import os
import signal
import socket

import pytest

from nbcompose.host.forked import keep_from_children
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
