"""`GET nbcompose/api/services`: who may ask, and that asking is no activity."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError

from nbcompose._jupyter.app import EVENT
from nbcompose._jupyter.finding import Runtimes
from tests.jupyter.conftest import NO_ONE, Refusing, closing
from tests.patience import PATIENCE


async def test_it_answers_with_the_list(runtimes: Runtimes, jp_fetch: Any) -> None:
    answer = await jp_fetch("nbcompose", "api", "services", request_timeout=60)
    assert answer.code == 200
    assert answer.headers["Content-Type"].startswith("application/json")
    found = json.loads(answer.body)
    assert list(found) == ["runtimes"]
    assert isinstance(found["runtimes"], list)


async def test_it_needs_a_login(runtimes: Runtimes, jp_fetch: Any) -> None:
    with pytest.raises(HTTPClientError) as refused:
        await jp_fetch("nbcompose", "api", "services", headers=NO_ONE)
    assert refused.value.code == 403


async def test_an_authorizer_may_refuse(refusing: type[Refusing], runtimes: Runtimes, jp_fetch: Any) -> None:
    with pytest.raises(HTTPClientError) as refused:
        await jp_fetch("nbcompose", "api", "services")
    assert refused.value.code == 403
    assert refusing.asked == [("execute", "nbcompose")]


async def test_it_is_no_activity(runtimes: Runtimes, jp_serverapp: Any, jp_fetch: Any) -> None:
    before = jp_serverapp.web_app.last_activity()
    await jp_fetch("nbcompose", "api", "services", request_timeout=60)
    assert jp_serverapp.web_app.last_activity() == before
    await jp_fetch("api", "me")
    assert jp_serverapp.web_app.last_activity() > before


@pytest.mark.system
async def test_coming_and_going_is_on_the_event_bus(
    runtimes: Runtimes, jp_serverapp: Any, jp_ws_fetch: Any, notebook: Any
) -> None:
    runtime = await runtimes.find(notebook.kernel)
    async with closing(await jp_ws_fetch("api", "events", "subscribe")) as bus:

        async def until(action: str) -> None:
            async with asyncio.timeout(PATIENCE):
                while True:
                    event = json.loads(await bus.read_message())
                    if (event["schema_id"], event["action"], event["runtime"]) == (EVENT, action, runtime.id):
                        return

        await notebook.run("%services stop Table")
        await until("changed")
        await notebook.run("%unload_ext nbcompose")
        await until("ended")
        await notebook.run("%load_ext nbcompose")
        await until("started")
