"""Streams that are not read, slowly read, left: they hold up nobody's call, however few worker threads there are."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from held_services import Reader, Writer

import nbcompose
from nbcompose.errors import Overloaded, ServiceUnavailable
from tests.conftest import Running
from tests.handles import handle
from tests.patience import PATIENCE, wait_until

pytestmark = pytest.mark.system

MANY = [20, 33, 100, 1000]  # items: fewer than are made ahead, and more


@pytest.mark.parametrize("n", MANY)
def test_a_loop_over_a_stream_calls_the_service_that_yields(running: Running, n: int) -> None:
    writer = running.up(Writer)
    assert [writer.shout(word) for word in writer.words(n)] == [f"WORD{i}" for i in range(n)]
    assert writer.most_at_once() == 1


@pytest.mark.parametrize("api", ["loud", "aloud", "yields"])
def test_so_does_another_service(running: Running, api: str) -> None:
    reader = running.up(Reader, Writer)
    assert list(getattr(reader, api)(200)) == [f"WORD{i}" for i in range(200)]


def test_so_does_an_http_client(running: Running) -> None:
    running.up(nbcompose.service(traffic={"timeout": PATIENCE})(handle(Writer).inner))
    url = running.registry.url("Writer")
    n = 100_000  # more than the sockets between take
    with httpx.Client() as client, stream(client, f"{url}/words", n) as lines:
        for i, word in enumerate(lines):
            if i % 10_000 == 0:
                assert client.post(f"{url}/shout", json={"word": word}).json() == f"WORD{i}"
    assert i == n - 1


@contextlib.contextmanager
def stream(client: httpx.Client, url: str, n: int) -> Iterator[Iterator[str]]:
    with client.stream("POST", url, json={"n": n}, headers={"Accept": "application/x-ndjson"}) as response:
        yield map(json.loads, response.iter_lines())


def test_streams_that_nobody_reads(running: Running) -> None:
    writer = running.up(Writer)
    streams = [iter(writer.words(1000)) for _ in range(50)]
    for items in streams:
        assert next(items) == "word0"
    assert writer.shout("now") == "NOW"
    running.until("Writer", lambda s: s.replicas[0].work.paused == 50)
    assert "nbcompose_streams_paused" in httpx.get(f"{running.registry.url('Writer')}/metrics").text

    assert [sum(1 for _ in items) for items in streams] == [999] * 50
    endings = writer.endings()
    assert len(endings) == 50
    assert all(began == ended for began, ended in endings)
    running.until("Writer", lambda s: s.replicas[0].work.paused == 0 and s.replicas[0].threads_busy == 0)


def test_there_is_an_end_to_streams_that_nobody_reads(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = running.up(Writer)
    streams = [iter(writer.words(1000)) for _ in range(300)]
    begun = []

    def begin_all() -> None:
        for items in streams:
            next(items)
            begun.append(items)

    with pytest.raises(Overloaded, match="256 streams of this replica wait for their consumers"):
        begin_all()
    assert writer.shout("now") == "NOW"
    begun.pop().close()
    wait_until(lambda: next(iter(writer.words(1000))) == "word0", "another stream may begin")


def test_a_closed_stream_ends_in_its_own_thread_once_a_slot_is_free(running: Running, tmp_path: Path) -> None:
    writer = running.up(Writer)
    items = iter(writer.words(1000))
    next(items)
    running.until("Writer", lambda s: s.replicas[0].work.paused == 1)
    held = running.in_thread(writer.hold, str(tmp_path / "go"))
    wait_until((tmp_path / "go.inside").exists, "the slot is held")
    items.close()
    (tmp_path / "go").touch()

    held.result(PATIENCE)
    wait_until(writer.endings, "the stream has been closed")
    [(began, ended)] = writer.endings()
    assert began == ended


def test_the_thread_of_init_is_taken_where_it_is_free(running: Running) -> None:
    writer = running.up(Writer)
    assert writer.of_init()
    streams = [iter(writer.words(100)) for _ in range(3)]
    for items in streams:
        next(items)
    for items in reversed(streams):
        list(items)
    wait_until(writer.of_init, "the thread of __init__ is at work again")


def test_a_service_stops_while_streams_wait(running: Running) -> None:
    writer = running.up(Writer)
    items = iter(writer.words(1000))
    next(items)
    running.registry.remove("Writer", grace=0.1)
    with pytest.raises(ServiceUnavailable):
        list(items)


def test_streams_that_wait_go_on_with_the_code_that_they_began_with(running: Running) -> None:
    writer = running.up(Writer)
    items = iter(writer.words(200))
    next(items)
    running.until("Writer", lambda s: s.replicas[0].work.paused == 1)

    class Writer2(handle(Writer).inner):  # type: ignore[misc]
        @nbcompose.api
        def shout(self, word: str) -> str:
            return f"{word}!"

    Writer2.__name__ = Writer2.__qualname__ = "Writer"
    running.deploy(nbcompose.service(Writer2), compare=True)
    running.registry.wait("Writer")
    assert writer.shout("new") == "new!"
    assert sum(1 for _ in items) == 199


def test_batches_run_beside_streams_that_wait(running: Running) -> None:
    writer = running.up(Writer)
    streams = [iter(writer.words(1000)) for _ in range(3)]
    for items in streams:
        next(items)
    assert writer.lengths(["a", "bb"]) == [1, 2]


@pytest.mark.parametrize("do", [lambda w: w.shout("x"), lambda w: next(iter(w.words(3)))])
def test_a_stream_counts_among_the_calls_at_once_and_the_error_says_so(
    running: Running, do: Callable[[Any], Any]
) -> None:
    """`max_concurrency` bounds what calls hold, and a stream that waits holds it still."""
    limits = {"max_concurrency": 1, "timeout": 2}
    writer = running.up(nbcompose.service(traffic=limits)(handle(Writer).inner))
    items = iter(writer.words.options(timeout=PATIENCE)(1000))
    next(items)
    running.until("Writer", lambda s: s.replicas[0].work.paused == 1)
    with pytest.raises(
        TimeoutError, match=r"1 place \(max_concurrency=1\), behind words \(for .* waits for its consumer"
    ):
        do(writer)
