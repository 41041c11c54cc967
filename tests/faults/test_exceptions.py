"""Whatever an api raises, there is an answer, over both transports, and the replica lives on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from raising_services import AROUND, BUILT_IN, OWN, SLOW, Above, Hooks, Raising, made

import nbcompose
from nbcompose import api, service
from nbcompose.errors import DeadlineExceeded
from tests.conftest import Running
from tests.handles import handle
from tests.patience import PATIENCE

pytestmark = pytest.mark.system

APIS = ("plain", "coroutine", "items", "async_items", "batch", "async_batch")
STREAMS = ("items", "async_items")
OURS = str(Path(nbcompose.__file__).parent)
recipes = st.fixed_dictionaries({
    "kind": st.sampled_from([*BUILT_IN, *OWN]),
    "arguments": st.sampled_from(["none", "text", "surrogate", "unprintable", "function", "long", "wide", "number"]),
    "around": st.sampled_from(AROUND),
})  # fmt: skip


class Raiser:
    """Both services, called over the wire and over HTTP; and which processes they have to be."""

    def __init__(self, running: Running) -> None:
        above = handle(Above).name
        self._proxies = {handle(Raising).name: running.up(Raising, Above), above: running.registry.proxy(above)}
        self._urls = {name: running.registry.url(name) for name in self._proxies}
        self.http = httpx.Client(timeout=PATIENCE)
        self._pids = self.pids()

    def pids(self) -> list[int]:
        return [proxy.pid() for proxy in self._proxies.values()]

    def lives(self) -> bool:
        return self.pids() == self._pids

    def over_the_wire(self, service: str, api: str, **arguments: Any) -> Exception:
        """The error that a call ends in."""
        with pytest.raises(Exception) as caught:  # noqa: PT011, PT012  any
            answer = getattr(self._proxies[service], api)(**arguments)
            if api in STREAMS:
                list(answer)
        assert not isinstance(caught.value, DeadlineExceeded)
        assert len(str(caught.value.__cause__)) < 1_000_000
        return caught.value

    def over_http(self, service: str, api: str, timeout: float = 0.0, **arguments: Any) -> tuple[int, dict[str, Any]]:
        """The status of the answer, and the error that it, or its last line, tells of."""
        headers = {"X-Request-Timeout": str(timeout)} if timeout else {}
        response = self.http.post(f"{self._urls[service]}/{api}", json=arguments, headers=headers)
        assert len(response.content) < 1_000_000
        error: dict[str, Any] = json.loads(response.text.splitlines()[-1])["error"]
        assert {"type", "message", "id"} <= error.keys()
        return response.status_code, error


@pytest.fixture(scope="module")
def raiser(running_registry: Running) -> Iterator[Raiser]:
    made = Raiser(running_registry)
    yield made
    made.http.close()


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["Raising", "Above"]), st.sampled_from(APIS), st.booleans(), st.integers(0, 1), recipes)
@example("Raising", "coroutine", True, 0, {"kind": "CancelledError", "arguments": "none", "around": "nothing"})
@example("Raising", "async_items", True, 1, {"kind": "CancelledError", "arguments": "none", "around": "nothing"})
@example("Raising", "plain", True, 0, {"kind": "ValueError", "arguments": "surrogate", "around": "nothing"})
@example("Raising", "plain", True, 0, {"kind": "TextRaises", "arguments": "none", "around": "nothing"})
@example("Raising", "coroutine", True, 0, {"kind": "GeneratorExit", "arguments": "none", "around": "nothing"})
@example("Raising", "coroutine", False, 0, {"kind": "SystemExit", "arguments": "none", "around": "nothing"})
@example("Raising", "coroutine", False, 0, {"kind": "ValueError", "arguments": "long", "around": "causes"})
@example("Above", "coroutine", False, 0, {"kind": "RevivalInterrupts", "arguments": "none", "around": "nothing"})
def test_whatever_is_raised_there_is_an_answer(
    raiser: Raiser, service: str, api: str, is_http: bool, after: int, recipe: dict[str, Any]
) -> None:
    if "batch" in api:
        service = "Raising"
    arguments: dict[str, Any] = {"recipe": recipe}
    if api in STREAMS:
        arguments["after"] = after
    if "batch" in api:
        arguments["xs"] = [1, 2]
    if is_http:
        status, _ = raiser.over_http(service, api, **arguments)
        assert status == (200 if after and api in STREAMS else status)
        assert status < 500 or status == 500
    else:
        raiser.over_the_wire(service, api, **arguments)
    assert raiser.lives()


@pytest.mark.parametrize(
    "api", ["plain", *(pytest.param(api, marks=pytest.mark.slow) for api in ("coroutine", "async_items"))]
)
@pytest.mark.parametrize("kind", [*SLOW, "ValueError"])
def test_an_error_that_is_never_told_is_said_to_be_one(raiser: Raiser, api: str, kind: str) -> None:
    recipe = {"kind": kind, "arguments": "ends" if kind == "ValueError" else "none"}
    assert kind in str(raiser.over_the_wire("Raising", api, recipe=recipe))
    status, error = raiser.over_http("Raising", api, recipe=recipe)
    assert status == 500
    assert error["type"] == kind
    assert raiser.lives()


@pytest.mark.parametrize(
    ("api", "told"),
    [
        ("awaits_what_is_cancelled", "it raised CancelledError"),
        ("cancels_itself", "it raised CancelledError"),
        ("exits_in_a_task", "it raised SystemExit: 3"),
    ],
)
def test_what_ends_a_task_or_a_loop_is_an_error_of_its_call(raiser: Raiser, api: str, told: str) -> None:
    error = raiser.over_the_wire("Raising", api)
    assert type(error) is RuntimeError
    assert str(error) == told
    assert OURS not in str(error.__cause__)
    status, detail = raiser.over_http("Raising", api)
    assert (status, detail["type"], detail["message"]) == (500, "RuntimeError", told)
    assert raiser.lives()


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("kind", ["KeyboardInterrupt", "StopIteration", "ValueError"])
def test_the_frames_are_those_of_users(raiser: Raiser, api: str, kind: str) -> None:
    given: dict[str, Any] = {"xs": [1]} if "batch" in api else {}
    recipe = {"kind": kind, "arguments": "none", "around": "nothing"}
    error = raiser.over_the_wire("Raising", api, recipe=recipe, **given)
    assert "raising_services.py" in str(error.__cause__)
    assert OURS not in str(error.__cause__)


def test_a_callback_that_exits_ends_nothing(raiser: Raiser) -> None:
    assert raiser._proxies["Raising"].exits_in_a_callback() == 1
    assert raiser.lives()


@pytest.mark.parametrize(("api", "status"), [("goes_on", 504)])
def test_a_call_that_refuses_to_end_is_answered_at_its_deadline(raiser: Raiser, api: str, status: int) -> None:
    got, error = raiser.over_http("Raising", api, timeout=0.2)
    assert (got, error["type"]) == (status, "DeadlineExceeded")


def test_a_stream_that_refuses_to_end_is_cut_at_its_deadline(raiser: Raiser) -> None:
    url = f"{raiser._urls['Raising']}/yields_and_goes_on"
    headers = {"X-Request-Timeout": "0.2", "Accept": "application/x-ndjson"}
    lines: list[str] = []
    request = raiser.http.stream("POST", url, json={}, headers=headers)
    with request as response, pytest.raises(httpx.RemoteProtocolError):
        lines.extend(response.iter_lines())
    assert lines in ([], ["1"])
    assert raiser.lives()


async def test_calls_go_on_while_an_error_is_told(raiser: Raiser) -> None:
    """The loop is nobody's own: another call is answered while the text of an error never comes."""
    slow = asyncio.create_task(raiser._proxies["Raising"].to_async.coroutine(recipe={"kind": "TextNeverEnds"}))
    await raiser._proxies["Raising"].to_async.pid()
    assert not slow.done()
    with pytest.raises(Exception, match="TextNeverEnds"):
        await slow


@pytest.mark.parametrize("kind", ["TextExits", "TextNeverEnds", "AttributesRaise", "SystemExit"])
def test_a_service_that_fails_to_start_says_so_whatever_it_raises(running_registry: Running, kind: str) -> None:
    class Stillborn:
        def __init__(self) -> None:
            raise made({"kind": kind})

        @api
        def f(self) -> None: ...

    running_registry.deploy(service(Stillborn))
    status = running_registry.registry.wait("Stillborn")
    assert status.state == "failed"
    assert kind in status.error
    running_registry.registry.remove("Stillborn")


# -- hooks


ENDS = ["SystemExit", "KeyboardInterrupt", "GeneratorExit", "CancelledError", "StopIteration", "Own", "TextExits"]


@pytest.mark.parametrize(
    ("where", "kind"), [*(("startup", kind) for kind in ENDS), ("startup, as it waits", "CancelledError")]
)
def test_what_a_start_up_hook_raises_is_why_it_failed(running_registry: Running, where: str, kind: str) -> None:
    running_registry.deploy(service(envs={"WHERE": where, "RAISED": kind, "NOTES": ""})(Hooks))
    status = running_registry.registry.wait("Hooks")
    assert status.state == "failed"
    assert kind in str(status.error)
    assert ("self._raise(" if where == "startup" else "await future") in str(status.error)
    assert "exit status" not in f"{status.reason} {status.error}"
    running_registry.registry.remove("Hooks")


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        (where, kind)
        for where in ("shutdown", "shutdown, in a task", "shutdown, in a thread")
        for kind in ENDS
        if (where, kind) != ("shutdown, in a task", "GeneratorExit")  # closes whatever coroutine awaits that task
    ],
)
def test_a_shutdown_hook_does_not_take_the_next_one_with_it(
    running_registry: Running, tmp_path: Path, where: str, kind: str
) -> None:
    notes = tmp_path / "notes"
    running_registry.up(service(envs={"WHERE": where, "RAISED": kind, "NOTES": str(notes)})(Hooks))
    running_registry.registry.remove("Hooks")
    assert notes.read_text() == "closed"
