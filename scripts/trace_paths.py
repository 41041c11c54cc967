"""Counts the functions and files of nbcompose that common operations pass through, and prints them as a table.

    python scripts/trace_paths.py [--functions "an HTTP"]     also lists the functions of that one

Counted are the functions of this package that `sys.setprofile` sees, each once, on every thread of this process.
Both ends of a call run here, on one event loop, joined by the real socket. Each operation is done once before, so that
what happens only once in a process is left out; but for the first run of a cell.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

PACKAGE = Path(__file__).parents[1] / "nbcompose"
CELL = "%%service\nclass Echo:\n    @api\n    def say(self, text: str) -> str:\n        return text\n"


class Passage(NamedTuple):
    """What an operation passed through: functions, each after its file, in the order of their first call."""

    what: str
    functions: list[str]

    @property
    def files(self) -> int:
        return len({name.partition(":")[0] for name in self.functions})


class Trace:
    """The functions of the package that have run since `start`."""

    def __init__(self) -> None:
        self.codes: dict[CodeType, None] = {}
        self._on = False

    def install(self) -> None:
        """On this thread, and those that are started from here on."""
        threading.setprofile(self._see)
        sys.setprofile(self._see)

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        self.codes.clear()
        self._on = True
        try:
            yield
        finally:
            self._on = False

    def _see(self, frame: FrameType, event: str, _: Any) -> None:
        if self._on and event == "call":
            code = frame.f_code
            # "<module>", "<lambda>", "<listcomp>": parts of the function around them.
            if not code.co_name.startswith("<") and code.co_filename.startswith(f"{PACKAGE}/"):
                self.codes[code] = None

    def passage(self, what: str) -> Passage:
        names = [f"{Path(c.co_filename).relative_to(PACKAGE)}:{c.co_qualname}" for c in self.codes]
        return Passage(what, names)


def trace_calls(trace: Trace) -> Iterator[Passage]:
    """A call between services, from an async api and over HTTP."""
    from nbcompose import api
    from nbcompose._replica.http.access import Access
    from nbcompose._replica.http.backend import HttpBackend
    from nbcompose._replica.http.server import HttpServer
    from nbcompose._replica.instance import Runtime
    from nbcompose._replica.main import Callers
    from nbcompose._rpc.blocking import Portal
    from nbcompose._rpc.client import Client, ReplicaRoute, ServiceRoute
    from nbcompose._rpc.load_table import LoadTable
    from nbcompose._rpc.proxy import DeclaredProxy
    from nbcompose._rpc.transport import SocketTransport
    from nbcompose._service.introspect import declare
    from nbcompose._tracing.spans import CallContext, current_call

    class Leaf:
        @api
        async def add(self, a: int, b: int) -> int:
            return a + b

    async def run() -> list[Passage]:
        spec, board = declare(Leaf, {}), LoadTable.create()
        runtime = Runtime(spec, 0, 0, board)
        await runtime.start()
        where = await Callers(runtime).listen()
        client = Client(board)
        client.update(ServiceRoute(spec.name, spec.apis, 60.0, (ReplicaRoute(0, where, 0),), ready=True))
        leaf = DeclaredProxy(
            SocketTransport(spec.name, client, Portal(asyncio.get_running_loop(), threading.get_ident())), ""
        )
        context = CallContext()
        context.on_loop = True
        current_call.set(context)
        found = []
        for _ in range(2):
            with trace.recording():
                assert await leaf.add(1, 2) == 3
        found.append(trace.passage("an async call between services, both ends"))

        sock = socket.create_server(("127.0.0.1", 0))
        server = HttpServer(HttpBackend(runtime, client), Access.of(spec.http, None, ()))
        server.listen(sock)
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        for _ in range(2):
            with trace.recording():
                writer.write(b"POST /add HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 14\r\n"
                             b"Content-Type: application/json\r\n\r\n" + b'{"a":1,"b":2}\n')  # fmt: skip
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                assert await reader.readexactly(length) == b"3", head
        found.append(trace.passage("an HTTP request"))
        writer.close()
        await server.stop(0.0)
        client.close()
        return found

    yield from asyncio.run(run())


def trace_notebook(trace: Trace) -> Iterator[Passage]:
    """The owner's side of a cell and of an export."""
    os.environ["NBCOMPOSE_PRELOAD"] = ""
    from IPython.core.interactiveshell import InteractiveShell

    from nbcompose._protocol import address

    address.PREFIX = "nbcompose.traced"  # or a Jupyter server that happens to run would ask for what goes on here

    shell = InteractiveShell.instance()

    def run(source: str) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            shell.run_cell(source).raise_error()

    run("%load_ext nbcompose\nfrom nbcompose import api")
    with trace.recording():
        run(CELL)
    yield trace.passage("the first run of a cell, its owner's side")
    run("assert Echo.say('ready') == 'ready'")  # what its start still does is no part of the export
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            with trace.recording():
                run(f"%export {folder}/app.py --force")
    yield trace.passage("an export")
    run("%services stop --all\n%unload_ext nbcompose")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--functions", metavar="PATH", default="", help="list its functions, in the order of their first call"
    )
    wanted = parser.parse_args().functions
    trace = Trace()
    trace.install()
    print("| | functions | files |\n| --- | --- | --- |")
    for trace_some in (trace_calls, trace_notebook):
        for passage in trace_some(trace):
            print(f"| {passage.what} | {len(passage.functions)} | {passage.files} |", flush=True)
            if wanted and passage.what.startswith(wanted):
                print(*(f"    {name}" for name in passage.functions), sep="\n")


if __name__ == "__main__":
    main()
