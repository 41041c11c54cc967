"""Who is to blame, over HTTP: the caller for what is wrong with its own request, the service for all that it calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from blame_services import Asking, Front, Inside, Leaf, Middle, Top

import nbcompose
from nbcompose import depends
from nbcompose.errors import BadRequest, InvalidArgument, RemoteTraceback, UnknownApi
from tests.conftest import Running
from tests.handles import handle

pytestmark = pytest.mark.system

# What goes wrong below, and the type that it has wherever it is seen.
TYPES = {
    "unknown": "UnknownApi",
    "argument": "InvalidArgument",
    "missing": "InvalidArgument",
    "item": "InvalidArgument",
    "invalid": "InvalidArgument",
    "bad": "BadRequest",
}


@pytest.fixture(scope="module", params=[1, 3])
def graph(request: pytest.FixtureRequest, running_registry: Running) -> Iterator[Running]:
    def scaled(cls: type) -> Any:
        return nbcompose.service(replicas=request.param, threads=4)(cls)

    running_registry.up(*(scaled(handle(service).inner) for service in (Front, Middle, Top, Inside, Leaf)))
    url = running_registry.registry.url("Leaf")

    class Far(Asking):
        leaf = depends(url=url)

    running_registry.up(scaled(Far))
    yield running_registry
    running_registry.clear()


def post(graph: Running, service: str, route: str, document: Any, accept: str = "*/*") -> httpx.Response:
    url = f"{graph.registry.url(service)}/{route}"
    return httpx.post(url, json=document, headers={"Accept": accept})


def check(response: httpx.Response, type_name: str, status: int = 500) -> dict[str, Any]:
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    assert error["type"] == type_name
    return error


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("route", ["sync", "coroutine", "items", "async_items", "batch", "passes_on"])
@pytest.mark.parametrize("service", ["Front", "Far"])
def test_what_is_wrong_below_is_the_services_fault(graph: Running, service: str, route: str, kind: str) -> None:
    argument = {"kinds": [kind]} if route == "batch" else {"kind": kind}
    error = check(post(graph, service, route, argument), TYPES[kind])
    assert "problems" not in error  # they are of arguments that the client did not give


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("route", ["sync", "coroutine"])
@pytest.mark.parametrize("ask", ["ask", "ask_async"])
def test_two_services_down_it_is_too(graph: Running, ask: str, route: str, kind: str) -> None:
    check(post(graph, "Top", ask, {"api": route, "kind": kind}), TYPES[kind])


@pytest.mark.parametrize("kind", ["argument", "missing", "invalid", "bad"])
def test_an_instance_in_the_process_is_below_too(graph: Running, kind: str) -> None:
    check(post(graph, "Inside", "sync", {"kind": kind}), TYPES[kind])


@pytest.mark.parametrize("service", ["Front", "Far"])
@pytest.mark.parametrize("route", ["sync", "coroutine", "items"])
def test_a_service_below_that_is_full_is_worth_another_try(graph: Running, service: str, route: str) -> None:
    response = post(graph, service, route, {"kind": "overloaded"})
    check(response, "Overloaded", 503)
    assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize("route", ["items", "async_items"])
def test_in_mid_stream_it_is_told_without_problems(graph: Running, route: str) -> None:
    document = {"kind": "argument", "after": 1}
    *_, last = post(graph, "Front", route, document).text.splitlines()
    assert json.loads(last)["error"].keys() == {"type", "message", "id"}
    *_, last, _ = post(graph, "Front", route, document, "text/event-stream").text.split("\n\n")
    assert last.startswith("event: error\n")


@pytest.mark.parametrize(
    ("kind", "type_name", "status"),
    [("invalid", "InvalidArgument", 422), ("bad", "BadRequest", 400), ("overloaded", "Overloaded", 429)],
)
def test_what_the_author_says_of_the_request_stands(graph: Running, kind: str, type_name: str, status: int) -> None:
    check(post(graph, "Front", "own", {"kind": kind}), type_name, status)


def test_a_status_that_nobody_has_heard_of_is_500(graph: Running) -> None:
    check(post(graph, "Front", "own", {"kind": "odd"}), "Odd")
    check(post(graph, "Front", "sync", {"kind": "odd"}), "Odd")


def test_an_author_may_say_whose_fault_it_is(graph: Running) -> None:
    check(post(graph, "Front", "wraps", {"kind": "argument"}), "InvalidArgument", 422)


@pytest.mark.parametrize(("route", "document"), [("nope", {}), ("sync", {}), ("sync", {"kind": [1]})])
def test_what_is_wrong_with_the_request_itself_is_the_clients_fault(graph: Running, route: str, document: Any) -> None:
    assert post(graph, "Front", route, document).status_code == (404 if route == "nope" else 422)


@pytest.mark.parametrize(("kind", "cls"), [("unknown", UnknownApi), ("argument", InvalidArgument), ("bad", BadRequest)])
@pytest.mark.parametrize("route", ["sync", "batch", "items"])
def test_to_python_it_is_what_it_was(graph: Running, route: str, kind: str, cls: type[Exception]) -> None:
    front = graph.registry.proxy("Front")
    with pytest.raises(cls) as caught:
        list(getattr(front, route)([kind] if route == "batch" else kind))
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    told = str(caught.value.__cause__)
    assert f"Front.{route}" in told
    if kind != "unknown":  # which Front itself knows
        assert "Leaf." in told
