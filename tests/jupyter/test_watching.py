"""The WebSocket `nbcompose/api/watch`: the list as it changes, and requests to one process, from several front ends."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError

from nbcompose._jupyter.finding import Runtimes
from tests.jupyter.conftest import LOAD, NO_ONE, Changes, Refusing, closing, log_in
from tests.patience import PATIENCE, until
from tests.serve_process import serving

CALL = {"type": "call", "service": "Table", "api": "rows"}


class FrontEnd:
    """One WebSocket."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.heard: list[dict[str, Any]] = []
        self.known: set[str] = set()

    def say(self, message: Any) -> None:
        self.connection.write_message(message if isinstance(message, str | bytes) else json.dumps(message))

    def ask(self, runtime: str, **message: Any) -> None:
        self.known.add(runtime)
        self.say({"to": runtime, "message": message})

    async def hear(self) -> dict[str, Any]:
        """The next message; not that a process is gone of which this one knows nothing: one of another test."""
        while True:
            async with asyncio.timeout(PATIENCE):
                text = await self.connection.read_message()
            assert text is not None, "the WebSocket is closed"
            message: dict[str, Any] = json.loads(text)
            if message.get("type") != "gone" or message["runtime"] in self.known:
                self.heard.append(message)
                return message

    async def until(self, wanted: Callable[[dict[str, Any]], Any]) -> Any:
        """What `wanted` makes of the first message of which it makes something."""
        while not (found := wanted(await self.hear())):
            pass
        return found

    async def answer(self, request: str) -> dict[str, Any]:
        """The message that ends a request."""
        ends = {"result", "end", "failed", "cancelled", "done", "form", "logs", "traces", "history"}
        found = await self.until(
            lambda m: (message := m.get("message")) and message["id"] == request and message["type"] in ends and message
        )
        assert isinstance(found, dict)
        return found

    async def listed(self, runtime: str, wanted: Callable[[dict[str, Any]], Any] = lambda _: True) -> dict[str, Any]:
        """A process as it is listed, once it is as wanted."""
        self.known.add(runtime)

        def in_list(message: dict[str, Any]) -> Any:
            found = [one for one in message.get("runtimes", []) if one["id"] == runtime and wanted(one)]
            return found[0] if found else None

        found = await self.until(in_list)
        assert isinstance(found, dict)
        return found


@pytest.fixture
async def connect(runtimes: Runtimes, jp_ws_fetch: Any) -> AsyncIterator[Callable[[], Awaitable[FrontEnd]]]:
    async with contextlib.AsyncExitStack() as opened:

        async def connect() -> FrontEnd:
            return FrontEnd(await opened.enter_async_context(closing(await jp_ws_fetch("nbcompose", "api", "watch"))))

        yield connect


# -- who may


async def test_it_needs_a_login(runtimes: Runtimes, jp_ws_fetch: Any) -> None:
    with pytest.raises(HTTPClientError) as refused:
        await jp_ws_fetch("nbcompose", "api", "watch", headers=NO_ONE)
    assert refused.value.code == 403


async def test_an_authorizer_may_refuse(refusing: type[Refusing], runtimes: Runtimes, jp_ws_fetch: Any) -> None:
    with pytest.raises(HTTPClientError) as refused:
        await jp_ws_fetch("nbcompose", "api", "watch")
    assert refused.value.code == 403
    assert refusing.asked == [("execute", "nbcompose")]


async def test_a_page_of_another_origin_is_refused(
    runtimes: Runtimes, jp_fetch: Any, jp_ws_fetch: Any, jp_serverapp: Any, jp_http_port: int
) -> None:
    """Where a browser sends its cookie: a token is known to no page of another origin."""
    host = f"localhost:{jp_http_port}"
    cookies = await log_in(jp_fetch, host, jp_serverapp.identity_provider.token)
    with pytest.raises(HTTPClientError) as refused:
        await jp_ws_fetch("nbcompose", "api", "watch", headers={**cookies, "Origin": "http://elsewhere.example"})
    assert refused.value.code == 403
    own = {**cookies, "Origin": f"http://{host}"}
    async with closing(await jp_ws_fetch("nbcompose", "api", "watch", headers=own)):
        pass


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("no JSON", "not JSON"),
        ("[1]", "a message is a JSON object"),
        ({"type": "look"}, "look: on is true or false"),
        ({"type": "look", "on": 1}, "look: on is true or false"),
        ({"to": "x"}, "a message is {'type': 'look'"),
        ({"to": 1, "message": {}}, "a message is {'type': 'look'"),
        (b"\xff\x00", "not UTF-8"),
    ],
)
async def test_what_is_no_message_is_said_and_the_next_one_is_heard(message: Any, said: str, connect: Any) -> None:
    front_end = await connect()
    if isinstance(message, bytes):
        front_end.connection.write_message(message, binary=True)
    else:
        front_end.say(message)
    answer = await front_end.hear()
    assert answer["type"] == "failed"
    assert answer["message"].startswith(said)
    front_end.say({"type": "look", "on": True})
    assert (await front_end.hear())["type"] == "runtimes"


@pytest.mark.parametrize("kind", ["reach", "debug", "hello", "ps", "look", "x", ["call"], None])
async def test_what_is_not_for_browsers_is_refused(kind: Any, connect: Any) -> None:
    front_end = await connect()
    front_end.ask("serve-1", type=kind, id="1", service="Table")
    failed = await front_end.answer("1")
    assert (failed["name"], failed["service"]) == ("ProtocolError", "Table")
    assert failed["message"].startswith("type is none of call, cancel, ")


async def test_a_request_to_a_process_that_there_is_not_fails(connect: Any) -> None:
    front_end = await connect()
    for request in ("1", "2"):
        front_end.ask("serve-1", **CALL, id=request)
    failed = await front_end.answer("1")
    assert (failed["name"], failed["action"], failed["service"]) == ("UnknownRuntime", "call", "Table")
    assert failed["message"].startswith("no process that runs services is called 'serve-1'")
    await front_end.answer("2")
    assert await front_end.hear() == {"type": "gone", "runtime": "serve-1"}


# -- the list


async def test_there_are_at_most_four_lists_a_second(
    runtimes: Runtimes, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[float] = []
    told = asyncio.Event()

    async def watched() -> list[Any]:
        """Ever another list, which has changed again as soon as it is there."""
        made.append(time.monotonic())
        for listener in list(runtimes._listeners):
            asyncio.get_running_loop().call_soon(listener, "numbers", None)  # type: ignore[arg-type]
        told.set()
        return [len(made)]

    monkeypatch.setattr(runtimes, "watched", watched)
    front_end = await connect()
    front_end.say({"type": "look", "on": True})
    for n in range(1, 5):
        assert await front_end.hear() == {"type": "runtimes", "runtimes": [n]}
    assert min(later - earlier for earlier, later in itertools.pairwise(made)) >= 0.24

    front_end.say({"type": "look", "on": False})
    front_end.say({"to": 1})  # the answer comes when it looks no more
    await front_end.until(lambda m: m["type"] == "failed")
    told.clear()
    for listener in list(runtimes._listeners):
        listener("numbers", None)  # type: ignore[arg-type]
    front_end.say({"to": 1})
    assert (await front_end.hear())["type"] == "failed"
    assert not told.is_set()


@pytest.mark.system
async def test_the_list_says_what_changes_while_somebody_looks(
    notebook: Any, runtimes: Runtimes, connect: Any, jp_serverapp: Any
) -> None:
    kernel = notebook.kernel
    runtime = await runtimes.find(kernel)
    activity = jp_serverapp.web_app.settings.get("api_last_activity")
    one, other = await connect(), await connect()
    one.say({"type": "look", "on": True})
    listed = await one.listed(kernel)
    [table] = listed["services"]
    assert (listed["path"], table["name"], table["state"]) == ("notes/tables.ipynb", "Table", "ready")
    assert table["link"].endswith(f"/nbcompose/at/{kernel}/Table/")
    other.say({"type": "look", "on": True})
    await other.listed(kernel)

    other.ask(kernel, **CALL, id="1", arguments={"n": 3})
    assert (await other.answer("1"))["bundle"]["application/json"] == [0, 1, 2]
    await one.listed(kernel, lambda now: now["services"][0]["calls"] == 1)

    one.say({"type": "look", "on": False})
    other.connection.close()
    await until(lambda: runtime._watching is None)
    assert runtime.services is None
    assert jp_serverapp.web_app.settings.get("api_last_activity") == activity  # nothing of it is activity

    one.say({"type": "look", "on": True})
    await one.listed(kernel)
    await notebook.run("%unload_ext nbcompose")
    await one.until(lambda m: m == {"type": "gone", "runtime": kernel})
    await one.until(lambda m: "runtimes" in m and kernel not in [r["id"] for r in m["runtimes"]])
    await notebook.run(LOAD)
    assert (await one.listed(kernel))["services"] == []


@pytest.mark.system
async def test_a_service_that_answers_within_its_process_only_has_no_link(
    runtimes: Runtimes, changes: Changes, connect: Any
) -> None:
    with serving("chain_services:Mid", "--port", "0") as served:
        name = f"serve-{served.process.pid}"
        await changes.until("started", lambda runtime: runtime.id == name)
        front_end = await connect()
        front_end.say({"type": "look", "on": True})
        one = await front_end.listed(name, lambda now: {s["link"] for s in now["services"]} >= {""})
        links = {service["name"]: service["link"] for service in one["services"]}
        assert links == {"Mid": f"/a%40b/nbcompose/at/{name}/Mid/", "Leaf": ""}


# -- requests


@pytest.mark.system
async def test_requests_of_a_front_end_are_its_own_and_end_with_it(
    notebook: Any, runtimes: Runtimes, connect: Any
) -> None:
    kernel = notebook.kernel
    one, other = await connect(), await connect()
    for front_end, n in ((one, 2), (other, 3)):  # with the same id
        front_end.ask(kernel, **CALL, id="1", arguments={"n": n})
    assert (await one.answer("1"))["bundle"]["application/json"] == [0, 1]
    assert (await other.answer("1"))["bundle"]["application/json"] == [0, 1, 2]
    one.ask(kernel, **CALL, id="2", arguments={"n": 10})
    failed = await one.answer("2")
    assert (failed["name"], failed["message"]) == ("LookupError", "too many")
    one.ask(kernel, type="form", id="3", service="Table", api="rows")
    assert (await one.answer("3"))["params"][0]["name"] == "n"
    one.ask(kernel, type="scale", id="4", service="Table")  # the process says what is wrong with it
    assert (await one.answer("4"))["message"] == "replicas is missing"
    one.ask(kernel, type="call", id="5", service="Table", api="words", arguments={"n": 3})
    assert (await one.answer("5"))["type"] == "end"
    items = [m["message"]["bundle"]["text/plain"] for m in one.heard if m.get("message", {}).get("type") == "item"]
    assert items == ["word 0 ", "word 1 ", "word 2 "]
    one.ask(kernel, type="plan", id="6", cells=[])  # known here, and to some processes
    await one.until(lambda m: m.get("message", {}).get("id") == "6")

    one.ask(kernel, type="stop", id="7", service="Table")
    assert (await one.answer("7"))["type"] == "done"


@pytest.mark.system
async def test_a_websocket_that_closes_cancels_what_it_has_asked_for(
    notebook: Any, runtimes: Runtimes, connect: Any
) -> None:
    kernel = notebook.kernel
    front_end, watcher = await connect(), await connect()
    await notebook.run("%services stop --all")
    await notebook.run(
        "%%service\nclass Long:\n    @api\n    async def wait(self) -> None:\n"
        "        import asyncio\n        await asyncio.Event().wait()"
    )
    watcher.say({"type": "look", "on": True})
    front_end.ask(kernel, type="call", id="1", service="Long", api="wait")
    await watcher.listed(kernel, lambda now: now["services"] and now["services"][0]["in_flight"] == 1)
    front_end.connection.close()
    await watcher.listed(kernel, lambda now: now["services"][0]["in_flight"] == 0)


@pytest.mark.system
async def test_a_kernel_that_is_killed_is_gone_for_who_has_asked_it(
    notebook: Any, runtimes: Runtimes, changes: Changes, connect: Any
) -> None:
    kernel = notebook.kernel
    front_end = await connect()
    front_end.ask(kernel, **CALL, id="1", arguments={"n": 1})
    await front_end.answer("1")
    notebook.process.kill()
    await front_end.until(lambda m: m == {"type": "gone", "runtime": kernel})
    await changes.until("ended", lambda runtime: runtime.id == kernel)
    front_end.ask(kernel, **CALL, id="2", arguments={"n": 1})
    assert (await front_end.answer("2"))["name"] in ("UnknownRuntime", "UnknownService")
