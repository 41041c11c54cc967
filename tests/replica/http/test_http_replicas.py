"""Files, texts, metrics and traces over HTTP with real replicas: one, and three."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from counting_services import Above, Counting
from prometheus_client.parser import text_string_to_metric_families

import nbcompose
from nbcompose import depends
from nbcompose.errors import InvalidArgument
from tests.conftest import Running
from tests.handles import handle

pytestmark = pytest.mark.system

UNSAMPLED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
STATE = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"


@pytest.fixture(scope="module", params=[1, 3])
def graph(request: pytest.FixtureRequest, running_registry: Running) -> Iterator[Running]:
    def scaled(cls: type) -> Any:
        return nbcompose.service(replicas=request.param, threads=4)(cls)

    running_registry.up(scaled(handle(Above).inner), scaled(handle(Counting).inner))
    url = running_registry.registry.url("Counting")

    class Far:
        counting = depends(url=url)

        @nbcompose.api
        def trace(self) -> list[Any]:
            return self.counting.trace()

        @nbcompose.api
        def file(self, name: str) -> str:
            return self.counting.file(name)

        @nbcompose.api
        def words(self, text: str) -> list[str]:
            return list(self.counting.words(text))

    running_registry.up(scaled(Far))
    yield running_registry
    running_registry.clear()


def url(graph: Running, service: str, route: str) -> str:
    return f"{graph.registry.url(service)}/{route}"


def metrics(graph: Running, service: str) -> Counter[tuple[str, ...]]:
    """Of all replicas together: (sample, the labels that tell) → value."""
    found: Counter[tuple[str, ...]] = Counter()
    for family in text_string_to_metric_families(httpx.get(url(graph, service, "metrics")).text):
        for sample in family.samples:
            told = {k: v for k, v in sample.labels.items() if k not in ("service", "replica")}
            found[sample.name, *told.values()] += int(sample.value)
    return found


def test_files_and_texts(graph: Running, tmp_path: Path) -> None:
    for service in ("Counting", "Above"):
        response = httpx.post(url(graph, service, "hit"), files={"f": ("x.json", b'"aGVsbG8="', "application/json")})
        assert response.json() == 10
        raw = httpx.post(url(graph, service, "hit"), content=b"a,b\n", headers={"Content-Type": "text/csv"})
        assert raw.json() == 4
    tags = httpx.post(url(graph, "Counting", "ahit"), data={"tags": ["2024", "b"]})
    assert tags.json() == ["2024", "b"]
    path = tmp_path / "a.pdf"
    path.write_bytes(b"%PDF\xff")
    response = httpx.post(url(graph, "Counting", "file"), json={"name": str(path)})
    assert (response.headers["content-type"], response.content) == ("application/pdf", b"%PDF\xff")
    text = httpx.post(url(graph, "Counting", "words"), json={"text": "é\n"}, headers={"Accept": "text/plain"})
    assert text.text == "é\n"


def test_a_service_elsewhere_is_asked_for_json(graph: Running, tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(b"hello")
    assert httpx.post(url(graph, "Far", "file"), json={"name": str(path)}).json() == "aGVsbG8="
    assert httpx.post(url(graph, "Far", "words"), json={"text": "ab"}).json() == ["a", "b"]


def test_what_is_refused_is_counted_and_what_the_service_counts(graph: Running) -> None:
    before = metrics(graph, "Counting")
    calls: list[tuple[str, int, dict[str, Any]]] = [
        ("hit", 200, {"content": b"x", "headers": {"Content-Type": "text/csv"}}),
        ("hit", 422, {"json": {}}),
        ("ahit", 200, {"json": {"tags": []}}),
        ("ahit", 415, {"content": b"x", "headers": {"Content-Type": "text/csv"}}),
        ("ahit", 415, {"content": b"x", "headers": {"Content-Encoding": "br"}}),
        ("ahit", 406, {"json": {"tags": []}, "headers": {"Accept": "image/png"}}),
        ("nowhere", 404, {"json": {}}),
    ]
    for route, status, request in calls:
        for _ in range(3):
            assert httpx.post(url(graph, "Counting", route), **request).status_code == status
    with pytest.raises(InvalidArgument):
        graph.registry.proxy("Counting").ahit(5)
    assert httpx.post(url(graph, "Above", "wrong"), json={}).status_code == 500
    counted = metrics(graph, "Counting") - before
    assert {key: n for key, n in counted.items() if key[0] == "hits_total"} == {
        ("hits_total", "hit"): 3,
        ("hits_total", "ahit"): 3,
    }
    answers = {key[1:]: n for key, n in counted.items() if key[0] == "nbcompose_http_responses_total"}
    answers.pop(("/metrics", "200"))
    expected: Counter[tuple[str, ...]] = Counter()
    for route, status, _ in calls:
        expected["" if status == 404 else f"/{route}", str(status)] += 3
    assert answers == expected
    outcomes = {key[1:]: n for key, n in counted.items() if key[0] == "nbcompose_calls_total"}
    assert outcomes == {
        ("hit", "ok"): 3,
        ("hit", "InvalidArgument"): 3,
        ("ahit", "ok"): 3,
        ("ahit", "UnsupportedMediaType"): 6,
        ("ahit", "NotAcceptable"): 3,
        ("ahit", "InvalidArgument"): 2,  # of the kernel, and of another service
    }


@pytest.mark.parametrize(
    ("service", "route"),
    [("Counting", "trace"), ("Above", "trace"), ("Above", "atrace"), ("Above", "traces"), ("Far", "trace")],
)
def test_an_unsampled_trace_stays_one_all_the_way(graph: Running, service: str, route: str) -> None:
    headers = {"traceparent": UNSAMPLED, "tracestate": STATE}
    with contextlib.closing(httpx.Client()) as client:
        response = client.post(url(graph, service, route), json={}, headers=headers)
        assert response.json() in ([0, STATE], [[0, STATE]])
        assert response.headers["traceparent"].endswith("-00")
        plain = client.post(url(graph, service, route), json={})
        assert plain.json() in ([1, ""], [[1, ""]])
