"""Calls that are kept, to be made again: which ones, how many, and that the caller can change nothing in them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import numpy as np
import pytest
from chain_services import Leaf
from stream_argument_services import Refiner, Writer

from nbcompose._export.check.recording import RecordedCall, RecordedTransport, Recording, encode, recorded
from nbcompose._rpc.codec import loads
from nbcompose._rpc.flow import WINDOW
from nbcompose._rpc.pickling import Draft
from nbcompose._rpc.proxy import Proxy
from nbcompose.errors import CallCancelled, DeadlineExceeded, ReplicaDied
from tests.conftest import Running


def keep(recording: Recording, api: str, *args: Any, **kwargs: Any) -> None:
    with recorded(recording, "Answer", api, args, kwargs):
        pass


def kept(recording: Recording) -> list[tuple[str, Any]]:
    return [(c.api, loads(c.arguments)) for c in recording.calls()]


def test_the_last_calls_of_each_api_are_kept() -> None:
    recording = Recording(calls=2)
    for n in range(4):
        keep(recording, "ask", n)
    keep(recording, "find", "x", count=1)
    assert kept(recording) == [("ask", ((2,), {})), ("ask", ((3,), {})), ("find", (("x",), {"count": 1}))]


def test_the_same_call_again_is_the_last_one_and_counts_once() -> None:
    recording = Recording(calls=2)
    for n in (1, 2, 1):
        keep(recording, "ask", n)
    assert kept(recording) == [("ask", ((2,), {})), ("ask", ((1,), {}))]


def test_the_oldest_go_when_there_are_too_many_bytes() -> None:
    recording = Recording(size=25_000)
    for n in range(3):
        keep(recording, "ask", bytes([n]) * 10_000)
    assert [args[0][0] for _, args in kept(recording)] == [b"\1" * 10_000, b"\2" * 10_000]


@pytest.mark.parametrize(
    "value", [np.zeros(2**20), "x" * 2**21, [0.5] * 2**20, bytes(2**21)], ids=lambda v: type(v).__name__
)
def test_a_large_call_is_not_kept(value: Any) -> None:
    recording = Recording(largest=2**20)
    keep(recording, "ask", value)
    assert recording.calls() == []
    assert recording.large() == [("Answer", "ask")]
    recording.clear()
    assert recording.large() == []


@pytest.mark.parametrize(
    "value", [np.zeros(2**17), np.zeros(3), ["a", {"b": 1.5}], None], ids=lambda v: type(v).__name__
)
def test_what_is_encoded_is_read_back(value: Any) -> None:
    data = encode(value, 2**21)
    assert data is not None
    np.testing.assert_equal(loads(data), value)


def test_a_class_of_the_notebook_is_pickled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """That takes longer than most calls."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(
        "from dataclasses import dataclass\n@dataclass\nclass Word:\n    text: str\n"
        "@dataclass\nclass Pair:\n    word: Word\n    rest: Word",
        space,
    )
    word, pair = space["Word"]("a"), space["Pair"]
    defined: list[type] = []
    define = Draft.define

    def noted(draft: Draft, cls: type) -> Any:
        defined.append(cls)
        return define(draft, cls)

    monkeypatch.setattr(Draft, "define", noted)
    recording = Recording()
    for n in range(3):
        keep(recording, "ask", n, word)
        keep(recording, "find", n, pair(word, word))
    assert defined.count(pair) == 1
    assert kept(recording)[-1][1][0][1] == pair(word, word)


def test_what_cannot_be_sent_is_not_kept_and_is_no_error() -> None:
    recording = Recording()
    keep(recording, "ask", open)
    keep(recording, "ask", (n for n in range(3)))
    assert [args for _, args in kept(recording)] == [((open,), {})]


def test_arguments_are_those_of_the_call_however_they_change_later() -> None:
    recording, words = Recording(), ["a"]
    with recorded(recording, "Answer", "ask", (words,), {}):
        words.append("b")
    assert kept(recording) == [("ask", ((["a"],), {}))]


def test_calls_that_have_not_answered_are_counted_and_not_kept() -> None:
    recording = Recording()
    errors = [
        ValueError("no"), ReplicaDied("gone"), DeadlineExceeded("late"), CallCancelled("stopped"), KeyboardInterrupt(),
        asyncio.CancelledError(),
    ]  # fmt: skip
    for n, error in enumerate(errors):
        with contextlib.suppress(type(error)), recorded(recording, "Answer", "ask", (n,), {}):
            raise error
    assert recording.calls() == []
    assert recording.skipped() == {("Answer", "ask"): {"failed": 2, "past the deadline": 1, "cancelled": 3}}
    recording.clear()
    assert recording.skipped() == {}


def test_how_long_a_call_took_is_kept() -> None:
    recording, begun = Recording(), time.monotonic()
    with recorded(recording, "Answer", "ask", (), {}):
        inside = time.monotonic()
        while time.monotonic() == inside:
            pass
    [call] = recording.calls()
    assert 0 < call.seconds <= time.monotonic() - begun


def test_nothing_is_kept_while_it_is_off() -> None:
    recording = Recording()
    recording.enabled = False
    keep(recording, "ask", 1)
    recording.enabled = True
    keep(recording, "ask", 2)
    recording.clear()
    assert recording.calls() == []


@pytest.mark.system
async def test_calls_of_every_kind_are_recorded(running: Running) -> None:
    from stream_services import Words

    running.up(Words)
    running.up(Leaf)
    recording = Recording()
    registry = running.registry
    leaf = Proxy(RecordedTransport(registry.caller("Leaf"), recording))
    streams = Proxy(RecordedTransport(registry.caller("Words"), recording))
    assert await asyncio.to_thread(leaf.add, 2) == 3
    assert await leaf.to_async.add(a=3) == 4
    assert await asyncio.to_thread(lambda: list(streams.count(3))) == [0, 1, 2]

    def one() -> None:
        with contextlib.closing(streams.count(4)) as items:
            assert next(items) == 0

    await asyncio.to_thread(one)
    assert [i async for i in streams.to_async.count(2)] == [0, 1]
    assert [(c.service, c.api, loads(c.arguments), c.items) for c in recording.calls()] == [
        ("Leaf", "add", ((2,), {}), None),
        ("Leaf", "add", ((), {"a": 3}), None),
        ("Words", "count", ((3,), {}), None),
        ("Words", "count", ((4,), {}), 1),
        ("Words", "count", ((2,), {}), None),
    ]
    assert all(type(c) is RecordedCall for c in recording.calls())


@pytest.mark.system
def test_a_stream_is_kept_as_the_call_that_makes_it_or_as_its_items(running: Running) -> None:
    """Each can be made again: the first as it was, the second with a list."""
    writer, refiner = running.up(Writer, Refiner), running.registry.proxy("Refiner")
    recording = Recording(largest=100_000)
    recorded_refiner = Proxy(RecordedTransport(refiner._caller, recording))
    assert list(recorded_refiner.refine(writer.write(2))) == ["WORD 0", "WORD 1"]
    assert recorded_refiner.count(str(i) for i in range(3)) == 3
    assert recorded_refiner.count(text=["a", "b"]) == 2
    assert recorded_refiner.first(str(i) for i in range(10**6)) == "0"
    calls = [(call.api, loads(call.arguments)) for call in recording.calls()]
    [(_, ((reference,), _)), (_, (items, _)), (_, (_, by_name)), (_, ((begun,), _))] = calls
    assert (reference.service, reference.api, reference.args) == ("Writer", "write", (2,))
    assert (items, by_name) == ((["0", "1", "2"],), {"text": ["a", "b"]})
    assert begun[0] == "0"  # as far as it was read, and the window before it
    assert len(begun) <= WINDOW + 1
    assert list(refiner.refine(reference)) == ["WORD 0", "WORD 1"]
    assert recorded_refiner.count("x" * 10_000 for _ in range(100)) == 100
    assert (len(recording.calls()), recording.large()) == (4, [("Refiner", "count")])
