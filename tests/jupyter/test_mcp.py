"""Apis as tools of the Model Context Protocol: the SDK's own client, over HTTP, against a real server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError

from nbcompose._jupyter.finding import Runtimes
from tests.jupyter.conftest import LOAD, NO_ONE, TABLE, Changes, Refusing, log_in
from tests.patience import PATIENCE

HELLO = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}  # fmt: skip
JSON = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
# Tools have names of their own where no other process of this user has such a service: a test beside this one, say.
UNIQUE = secrets.token_hex(3)
TABLE_NAME, PEOPLE_NAME = f"Table{UNIQUE}", f"People{UNIQUE}"
PEOPLE = f"""
%%service
class {PEOPLE_NAME}:
    @api
    def oldest(self, people: dict[str, int], /) -> str:
        return max(people, key=people.get)

    @api
    def ages(self, n: int) -> Iterator[int]:
        yield from range(n)

    @api
    async def wait(self) -> None:
        import asyncio

        await asyncio.Event().wait()

    @api
    def born(self, name: str, year: int = 2000) -> dict[str, int]:
        "When somebody was born."
        return {{name: year}}
""".strip()


@pytest.fixture
def allowed() -> list[str]:
    return [f"{TABLE_NAME}.rows", PEOPLE_NAME]


@pytest.fixture
def jp_server_config(jp_server_config: dict[str, Any], allowed: list[str]) -> dict[str, Any]:
    return {**jp_server_config, "NbcomposeExtension": {"tools": allowed}}


@pytest.fixture
def refusing(jp_server_config: dict[str, Any]) -> type[Refusing]:
    Refusing.asked = []
    jp_server_config["ServerApp"]["authorizer_class"] = Refusing
    return Refusing


@pytest.fixture
def connect(runtimes: Runtimes, http_server_client: Any, jp_base_url: str, jp_auth_header: dict[str, str]) -> Any:
    """The SDK's client, with Jupyter's token."""
    import httpx2
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    @contextlib.asynccontextmanager
    async def connect() -> AsyncIterator[Client]:
        url = http_server_client.get_url(f"{jp_base_url}nbcompose/mcp")
        async with (
            httpx2.AsyncClient(headers=jp_auth_header, timeout=PATIENCE) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            yield client

    return connect


@pytest.fixture
async def notebook(notebook: Any) -> Any:
    """With services that no other process has."""
    await notebook.run("%services stop --all")
    await notebook.run(TABLE.replace("Table", TABLE_NAME))
    return notebook


async def post(fetch: Any, message: Any, **headers: str) -> Any:
    return await post_text(fetch, json.dumps(message), **headers)


async def post_text(fetch: Any, body: str, **headers: str) -> Any:
    # The first request imports the SDK.
    options = {"headers": {**JSON, **headers}, "request_timeout": PATIENCE}
    return await fetch("nbcompose", "mcp", method="POST", body=body, **options)


# -- who may


async def test_it_needs_a_login(runtimes: Runtimes, jp_fetch: Any) -> None:
    with pytest.raises(HTTPClientError) as refused:
        await post(jp_fetch, HELLO, **NO_ONE)
    assert refused.value.code == 403


async def test_an_authorizer_may_refuse(refusing: type[Refusing], runtimes: Runtimes, jp_fetch: Any) -> None:
    with pytest.raises(HTTPClientError) as refused:
        await post(jp_fetch, HELLO)
    assert refused.value.code == 403
    assert refusing.asked == [("execute", "nbcompose")]


async def test_a_browser_needs_its_cookie_against_forgery(
    runtimes: Runtimes, jp_fetch: Any, jp_serverapp: Any, jp_http_port: int
) -> None:
    host = f"127.0.0.1:{jp_http_port}"
    cookies = await log_in(jp_fetch, host, jp_serverapp.identity_provider.token)
    with pytest.raises(HTTPClientError) as refused:
        await post(jp_fetch, HELLO, **cookies, Host=host)
    assert refused.value.code == 403
    xsrf = cookies["Cookie"].partition("_xsrf=")[2].partition(";")[0]
    answer = await post(jp_fetch, HELLO, **cookies, Host=host, **{"X-XSRFToken": xsrf})
    assert json.loads(answer.body)["result"]["serverInfo"]["name"] == "nbcompose"


async def test_other_methods_are_refused(runtimes: Runtimes, jp_fetch: Any) -> None:
    """There is no session to end and no stream of the server's own."""
    for method in ("GET", "DELETE"):
        with pytest.raises(HTTPClientError) as refused:
            await jp_fetch("nbcompose", "mcp", method=method)
        assert refused.value.code == 405


@pytest.mark.parametrize("allowed", [[]])
async def test_without_the_setting_there_are_no_tools(runtimes: Runtimes, jp_fetch: Any) -> None:
    with pytest.raises(HTTPClientError) as refused:
        await post(jp_fetch, HELLO)
    assert refused.value.code == 404
    assert "in the setting NbcomposeExtension.tools" in message_of(refused.value)


async def test_without_the_sdk_it_is_said_what_to_install(
    runtimes: Runtimes, jp_fetch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in sys.modules if n == "nbcompose._jupyter.mcp" or n.partition(".")[0] == "mcp"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(HTTPClientError) as refused:
        await post(jp_fetch, HELLO)
    assert refused.value.code == 501
    assert "pip install 'nbcompose[mcp]'" in message_of(refused.value)


async def test_what_is_no_message_is_refused_by_the_sdk(runtimes: Runtimes, jp_fetch: Any) -> None:
    with pytest.raises(HTTPClientError) as refused:
        await post_text(jp_fetch, "no JSON")
    assert refused.value.code == 400


# -- tools


@pytest.mark.system
async def test_the_apis_of_the_setting_are_tools(notebook: Any, connect: Any) -> None:
    await notebook.run(PEOPLE)
    async with connect() as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        own = [f"{PEOPLE_NAME}-{api}" for api in ("ages", "born", "oldest", "wait")]
        assert sorted(tools) == [*own, f"{TABLE_NAME}-rows"]
        born = tools[f"{PEOPLE_NAME}-born"]
        assert born.title == f"{PEOPLE_NAME}.born"
        assert born.description == "When somebody was born.\n\nborn(name: str, year: int = 2000) -> dict[str, int]"
        assert born.input_schema["type"] == "object"
        assert born.input_schema["required"] == ["name"]
        assert born.input_schema["properties"]["year"]["default"] == 2000

        answer = await client.call_tool(f"{PEOPLE_NAME}-born", {"name": "Ada", "year": 1815})
        assert (text(answer), answer.structured_content, answer.is_error) == ('{"Ada": 1815}', {"Ada": 1815}, False)
        assert text(await client.call_tool(f"{TABLE_NAME}-rows", {"n": 3})) == "[0, 1, 2]"
        assert text(await client.call_tool(f"{PEOPLE_NAME}-oldest", {"people": {"Ada": 36, "Alan": 41}})) == "Alan"
        assert text(await client.call_tool(f"{PEOPLE_NAME}-ages", {"n": 3})) == "[0, 1, 2]"  # a stream of numbers

        for arguments, said in (({"n": 10}, "LookupError: too many"), ({"n": "x"}, "InvalidArgument: ")):
            answer = await client.call_tool(f"{TABLE_NAME}-rows", arguments)
            assert answer.is_error
            assert text(answer).startswith(said)
        for name in (f"{TABLE_NAME}-words", "Nobody-asks"):  # one that is not allowed, and one that there is not
            with pytest.raises(
                Exception, match=f"no tool is called '{name}'; there are: {TABLE_NAME}-rows, {PEOPLE_NAME}-o"
            ):
                await client.call_tool(name, {"n": 1})


@pytest.mark.system
@pytest.mark.parametrize("allowed", [[TABLE_NAME]])
async def test_texts_of_a_stream_are_one_text(notebook: Any, connect: Any) -> None:
    async with connect() as client:
        assert text(await client.call_tool(f"{TABLE_NAME}-words", {"n": 3})) == "word 0 word 1 word 2 "


@pytest.mark.system
async def test_what_a_client_asks_for_is_cancelled_when_it_goes(
    notebook: Any, runtimes: Runtimes, connect: Any, changes: Changes
) -> None:
    await notebook.run(PEOPLE)
    in_flight = await flying(runtimes, changes, notebook.kernel)
    async with connect() as client:
        call = asyncio.ensure_future(client.call_tool(f"{PEOPLE_NAME}-wait", {}))
        begun = asyncio.ensure_future(in_flight(1))
        await asyncio.wait([call, begun], return_when=asyncio.FIRST_COMPLETED)
        assert not call.done(), call.result()
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
    await in_flight(0)


async def flying(runtimes: Runtimes, changes: Changes, kernel: str) -> Callable[[int], Any]:
    """A function that waits until so many calls of People are in flight."""
    runtimes.watch()

    def now(runtime: Any) -> Any:
        services = runtime.services or ()
        return next((s["in_flight"] for s in services if s["name"] == PEOPLE_NAME), None)

    async def until(wanted: int) -> None:
        while now(await runtimes.find(kernel)) != wanted:
            changes.seen.clear()
            await changes.until("numbers", lambda runtime: runtime.id == kernel)

    return until


@pytest.mark.system
async def test_of_two_processes_with_such_a_tool_each_has_a_name_of_its_own(
    notebook: Any, open_notebook: Any, connect: Any
) -> None:
    other = await open_notebook("other.ipynb")
    await other.run(LOAD)
    await other.run("from collections.abc import Iterator")
    await other.run(TABLE.replace("Table", TABLE_NAME).replace("list(range(n))", "[-1]"))
    async with connect() as client:
        names = sorted(tool.name for tool in (await client.list_tools()).tools)
        assert names == sorted(f"{kernel[:8]}-{TABLE_NAME}-rows" for kernel in (notebook.kernel, other.kernel))
        assert text(await client.call_tool(f"{other.kernel[:8]}-{TABLE_NAME}-rows", {"n": 1})) == "[-1]"
        await other.run("%unload_ext nbcompose")
        assert [tool.name for tool in (await client.list_tools()).tools] == [f"{TABLE_NAME}-rows"]


def message_of(error: HTTPClientError) -> str:
    assert error.response is not None
    return str(json.loads(error.response.body)["message"])


def text(answer: Any) -> str:
    [content] = answer.content
    return str(content.text)
