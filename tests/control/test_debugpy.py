"""VS Code's side of debugpy, over its real protocol (DAP): attach, a breakpoint, detach; then the port is closed."""

from __future__ import annotations

import inspect
import json
import socket
from typing import Any

import debugged_services as services
import httpx
import pytest

from nbcompose.errors import NbcomposeError, PortInUse
from tests.conftest import Running
from tests.patience import PATIENCE

pytestmark = pytest.mark.system
pytest.importorskip("debugpy")

LINE = inspect.getsource(services).splitlines().index('        return loud + "!"') + 1


class Editor:
    """A client of the Debug Adapter Protocol."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._file = self._socket.makefile("rb")
        self._sent = 0

    def send(self, command: str, **arguments: Any) -> int:
        self._sent += 1
        message = {"seq": self._sent, "type": "request", "command": command, "arguments": arguments}
        body = json.dumps(message).encode()
        self._socket.sendall(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        return self._sent

    def until(self, **wanted: Any) -> dict[str, Any]:
        """The next message that has these fields."""
        while True:
            length = 0
            while line := self._file.readline().strip():
                length = int(line.split(b":")[1])
            assert length, "the adapter has closed the connection"
            message: dict[str, Any] = json.loads(self._file.read(length))
            if wanted.items() <= message.items():
                return message

    def attach(self, line: int) -> None:
        self.send("initialize", adapterID="test", clientID="test")
        self.send("attach", justMyCode=False)
        self.until(event="initialized")
        asked = self.send("setBreakpoints", source={"path": services.__file__}, breakpoints=[{"line": line}])
        assert self.until(type="response", request_seq=asked)["body"]["breakpoints"][0]["verified"]
        done = self.send("configurationDone")
        self.until(type="response", request_seq=done)

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def open_port(running: Running, port: int = 0) -> int:
    told = running.registry.portal.run(running.registry.debugpy("Leaf", port, None, "say so"))
    assert "any user of this machine could attach there, and run code as you" in told
    assert '"request": "attach"' in told
    found: int = json.loads(told.splitlines()[-1])["connect"]["port"]
    return found


def is_closed(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


def detach(running: Running) -> bool:
    return running.registry.portal.run(running.registry.detach_debugpy("Leaf"))


def test_an_editor_attaches_stops_and_is_detached(running: Running) -> None:
    leaf = running.up(services.Leaf, services.Beside)
    port = open_port(running)
    assert running.registry.status("Leaf").replicas[0].stopped_at == f"debugpy, 127.0.0.1:{port}"
    editor = Editor(port)
    editor.attach(LINE)
    call = running.in_thread(leaf.sync.options(timeout=1.0), "abc")
    thread = editor.until(event="stopped")["body"]["threadId"]
    url = f"{running.registry.url('Beside')}/hang"
    assert httpx.post(url, json={}, headers={"X-Request-Timeout": "1"}).status_code == 504
    asked = editor.send("stackTrace", threadId=thread)
    frame = editor.until(type="response", request_seq=asked)["body"]["stackFrames"][0]
    assert (frame["line"], frame["name"]) == (LINE, "sync")
    assert detach(running), "while it is at the breakpoint"
    assert call.result(PATIENCE) == "ABC!"
    assert is_closed(port)
    editor.close()
    assert leaf.later("b") == "B!"
    assert not running.registry.client.routes["Leaf"].held
    assert not detach(running)
    with pytest.raises(NbcomposeError, match=r"once in the life of a process.*%services restart Leaf"):
        open_port(running)
    for _ in range(2):
        running.registry.restart("Leaf")
        running.until("Leaf", lambda s: s.state == "ready" and not s.replacing)
        assert not is_closed(open_port(running)), "another process, after a restart that has closed the last port"


def test_the_port_is_loopback_s_and_must_be_free(running: Running) -> None:
    running.up(services.Leaf)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PortInUse, match=r"debugpy cannot listen on 127\.0\.0\.1:"):
            open_port(running, taken.getsockname()[1])
    port = open_port(running)
    with pytest.raises(NbcomposeError, match="debugpy listens for Leaf already: say so ends that"):
        open_port(running)
    running.registry.remove("Leaf")
    assert is_closed(port)
