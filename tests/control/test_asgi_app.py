"""`Answer.asgi()` over real replicas, without sockets: who starts and stops the graph, and how calls get there."""

from __future__ import annotations

import asyncio
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import psutil
import pytest
from pydantic import AfterValidator

import nbcompose
from nbcompose import Service, api, depends, service
from nbcompose.errors import LaunchError, NbcomposeError, Overloaded
from tests.patience import PATIENCE, wait_until
from tests.replica.http.asgi_client import App, Request, StreamingTransport

pytestmark = pytest.mark.system


@service
class Leaf:
    @api
    def full(self) -> None:
        raise Overloaded("no room")

    @api
    async def add(self, x: int) -> int:
        return x + 1

    @api
    async def wait(self, file: str) -> None:
        path = Path(file)
        path.write_text("reached")  # noqa: ASYNC240
        try:
            await asyncio.Event().wait()
        finally:
            path.write_text("cancelled")  # noqa: ASYNC240


@service(threads=2)
class Top:
    leaf = depends(Leaf)

    @api
    async def times(self, x: int) -> int:
        return int(await self.leaf.add(x)) * 10

    @api
    async def mark(self, text: Annotated[str, AfterValidator(lambda text: f"{text}!")]) -> str:
        return text

    @api
    async def marks(self, text: Annotated[str, AfterValidator(lambda text: f"{text}!")]) -> AsyncIterator[str]:
        yield text

    @api
    def measure(self, file: Path) -> dict[str, Any]:
        return {"name": file.name, "size": file.stat().st_size}

    @api
    def fail(self, kind: str) -> None:
        if kind == "full":
            raise Overloaded("no room")
        if kind == "below":
            self.leaf.full()
        raise ValueError("no answer")

    @api
    async def count(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i

    @api
    async def linger(self, path: str) -> None:
        await self.leaf.wait(path)


@service
class Fails:
    def __init__(self) -> None:
        raise ValueError("no weights")

    @api
    def f(self) -> None: ...


def known(cls: Any) -> Service:
    """What `@service` makes of a class, which type checkers take for the class."""
    assert isinstance(cls, Service)
    return cls


def children() -> set[int]:
    return {p.pid for p in psutil.Process().children(recursive=True)}


def client(app: App) -> httpx.AsyncClient:
    transport = StreamingTransport(app, ("127.0.0.1", 80))
    return httpx.AsyncClient(base_url="http://127.0.0.1", transport=transport, timeout=PATIENCE)


class Server:
    """The lifespan of an application, as a server drives it."""

    def __init__(self, app: App) -> None:
        self._inbox: asyncio.Queue[Any] = asyncio.Queue()
        self._outbox: asyncio.Queue[Any] = asyncio.Queue()
        self._task = asyncio.ensure_future(app({"type": "lifespan"}, self._inbox.get, self._outbox.put))

    async def tell(self, event: str) -> dict[str, Any]:
        self._inbox.put_nowait({"type": f"lifespan.{event}"})
        return await asyncio.wait_for(self._outbox.get(), PATIENCE)


def test_a_token_that_no_header_can_carry() -> None:
    with pytest.raises(NbcomposeError, match="no header can carry it"):
        known(Top).asgi(token="two words")


def test_it_is_a_plain_coroutine_function() -> None:
    """Some servers take an object with `__call__` for an application of ASGI 2."""
    assert inspect.iscoroutinefunction(known(Top).asgi())
    assert inspect.isfunction(known(Top).asgi())


async def test_the_server_starts_and_stops_the_graph() -> None:
    before = children()
    app = known(Top).asgi()
    assert children() <= before
    server = Server(app)
    assert await server.tell("startup") == {"type": "lifespan.startup.complete"}
    async with client(app) as http:
        assert (await http.get("/readyz")).json() == {"status": "ready"}
        assert (await http.post("/times", json={"x": 1})).json() == 20
    assert await known(Top).to_async.times(1) == 20  # in the same process, too
    assert await server.tell("shutdown") == {"type": "lifespan.shutdown.complete"}
    assert children() <= before
    with pytest.raises(NbcomposeError, match="Top does not run"):
        await known(Top).to_async.times(1)


async def test_a_server_is_told_that_the_graph_cannot_start() -> None:
    before = children()
    answer = await Server(known(Fails).asgi()).tell("startup")
    assert answer["type"] == "lifespan.startup.failed"
    assert "no weights" in answer["message"]
    async with client(known(Fails).asgi()) as http:
        for _ in range(2):  # each call tries again
            response = await http.post("/f")
            assert (response.status_code, response.json()["error"]["type"]) == (503, LaunchError.__name__)
        assert "no weights" in (await http.get("/readyz")).text
    assert children() <= before


async def test_the_first_calls_start_the_graph_once() -> None:
    before = children()
    app = known(Top).asgi()
    async with client(app) as http:
        assert (await http.get("/healthz")).status_code == (await http.get("/docs")).status_code == 200
        assert "/times" in (await http.get("/openapi.json")).json()["paths"]
        assert children() <= before  # none of these needs a replica
        answers = await asyncio.gather(*(http.post("/times", json={"x": x}) for x in range(12)))
        assert [a.json() for a in answers] == [10 * x + 10 for x in range(12)]
        names = [Path(p.cmdline()[0]).name for p in psutil.Process().children(recursive=True) if p.pid not in before]
        assert len(names) <= 3  # a replica of each, and what forks them
    await Server(app).tell("startup")
    server = Server(app)
    await server.tell("startup")
    await server.tell("shutdown")
    assert children() <= before


@pytest.fixture(scope="module")
def running() -> Any:
    """Under a name of its own: other tests are about services that do not run yet."""
    with nbcompose.run(service(name="Twice", replicas=2)(known(Top).inner)) as twice:
        yield twice


async def test_a_graph_that_runs_is_used_and_left_running(running: Any) -> None:
    before = children()
    app = running.asgi()
    server = Server(app)
    await server.tell("startup")
    async with client(app) as http:
        assert (await http.post("/times", json={"x": 1})).json() == 20
    await server.tell("shutdown")
    assert children() <= before
    assert await running.to_async.times(1) == 20


async def test_arguments_are_validated_once(running: Any) -> None:
    async with client(running.asgi()) as http:
        for _ in range(4):
            assert (await http.post("/mark", json="a")).json() == "a!"
            assert (await http.post("/marks", json="a")).text == '"a!"\n'


async def test_streams_and_uploads(running: Any) -> None:
    async with client(running.asgi()) as http:
        assert (await http.post("/count", json={"n": 100})).text.splitlines() == [str(i) for i in range(100)]
        response = await http.post("/measure", files={"file": ("../notes.txt", b"12345")})
        assert response.json() == {"name": "notes.txt", "size": 5}


@pytest.mark.parametrize(
    ("path", "json", "headers", "status", "type_name"),
    [
        ("/times", {"x": "many"}, {}, 422, "InvalidArgument"),
        ("/fail", "value", {}, 500, "ValueError"),
        ("/fail", "full", {}, 429, "Overloaded"),
        ("/fail", "below", {}, 503, "Overloaded"),
        ("/linger", "/dev/null", {"X-Request-Timeout": "0.05"}, 504, "DeadlineExceeded"),
        ("/nowhere", {}, {}, 404, "UnknownApi"),
    ],
)
async def test_errors(running: Any, path: str, json: Any, headers: dict[str, str], status: int, type_name: str) -> None:
    async with client(running.asgi()) as http:
        response = await http.post(path, json=json, headers=headers)
        assert (response.status_code, response.json()["error"]["type"]) == (status, type_name)


async def test_a_token_guards_it(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBCOMPOSE_TOKEN", "of-the-environment")
    for app, token in ((running.asgi(), "of-the-environment"), (running.asgi(token="secret"), "secret")):
        async with client(app) as http:
            assert (await http.post("/times", json={"x": 1})).status_code == 401
            headers = {"Authorization": f"Bearer {token}", "Host": "any.example"}
            assert (await http.post("/times", json={"x": 1}, headers=headers)).json() == 20


async def test_a_client_that_goes_away_cancels_what_is_below(running: Any, tmp_path: Path) -> None:
    app, path = running.asgi(), tmp_path / "seen"
    request = Request(app, "/linger")
    request.send(f'"{path}"'.encode())
    await asyncio.to_thread(wait_until, lambda: path.exists() and path.read_text() == "reached", "the call is there")
    request.disconnect()
    assert await request.next() is None
    await asyncio.to_thread(wait_until, lambda: path.read_text() == "cancelled", "it is cancelled")


async def test_a_trace_goes_on_and_calls_are_counted(running: Any) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with client(running.asgi()) as http:
        headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
        response = await http.post("/times", json={"x": 1}, headers=headers)
        assert response.headers["traceparent"].startswith(f"00-{trace}-")
        log = await asyncio.to_thread(running._handle()._registry.collect_traces)
        assert {span.service for span in log.trace(int(trace, 16))} == {"Twice", "Leaf"}
        metrics = (await http.get("/metrics")).text
        assert 'nbcompose_http_responses_total{replica="asgi",route="/times",service="Twice",status="200"}' in metrics
        assert re.search(r'nbcompose_calls_total{api="times",outcome="ok",replica="[01]",service="Twice"}', metrics)


APPLICATION = """
    import asyncio, sys
    from nbcompose import api, service

    @service
    class Echo:
        @api
        def say(self, text: str) -> str:
            return text

    # As an application that mounts it: without a lifespan.
    mounted = Echo.asgi()

    async def app(scope, receive, send):
        scope = {**scope, "root_path": "/echo"}
        await mounted(scope, receive, send)
"""
CALLER = """
    import asyncio, psutil
    import httpx
    from app import app

    async def main():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            print((await http.post("/echo/say", json="hello")).text, flush=True)
        print(*[p.pid for p in psutil.Process().children(recursive=True)])

    asyncio.run(main())
"""


def test_the_graph_ends_with_its_process(tmp_path: Path) -> None:
    for name, text in (("app.py", APPLICATION), ("caller.py", CALLER)):
        (tmp_path / name).write_text(textwrap.dedent(text))
    done = subprocess.run(
        [sys.executable, "caller.py"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    answer, pids = done.stdout.splitlines()
    assert answer == '"hello"'
    assert pids
    assert done.stderr == ""
    wait_until(lambda: not any(psutil.pid_exists(int(pid)) for pid in pids.split()), "what it started has ended")
