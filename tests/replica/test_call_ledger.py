"""The ledger of a replica's calls, as its owner reads it when the replica has died."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nbcompose._replica.metrics import CallsUnderWay
from nbcompose._rpc.call_ledger import ENTRIES, api_number, unreported
from nbcompose._rpc.load_table import SLOTS, LoadTable
from nbcompose._tracing.spans import CallContext

ASK = api_number("ask")


@pytest.fixture
def board() -> Iterator[LoadTable]:
    board = LoadTable.create()
    yield board
    board.close()


@pytest.mark.parametrize("slot", [0, 3, SLOTS - 1])
def test_open_and_ended_calls_are_read_until_they_are_reported(board: LoadTable, slot: int) -> None:
    ledger = CallsUnderWay(board, slot)
    one, two = CallContext(trace_id=2**127 + 5, span_id=7), CallContext(trace_id=3, span_id=2**64 - 1, trace_flags=0)
    first = ledger.begin(ASK, one, 4, 100.5)
    second = ledger.begin(api_number("größe"), two, 0, 99.0)
    ledger.end(second, 0.25, 0.125, "ValueError")
    later, earlier = reversed(unreported(board.ledgers, slot))
    assert (earlier.api, earlier.over, earlier.trace_id, earlier.span_id) == (api_number("größe"), True, 3, 2**64 - 1)
    assert (earlier.seconds, earlier.queued, earlier.error, earlier.trace_flags) == (0.25, 0.125, "ValueError", 0)
    assert (later.api, later.over, later.trace_id, later.parent_id) == (ASK, False, 2**127 + 5, 4)
    assert (later.start, later.error) == (100.5, "")
    ledger.reported()
    assert [e.trace_id for e in unreported(board.ledgers, slot)] == [one.trace_id]
    ledger.end(first, 1.0, 0.0, "")
    ledger.reported()
    assert unreported(board.ledgers, slot) == []


def test_it_is_bounded_and_those_under_way_have_the_places(board: LoadTable) -> None:
    ledger, context = CallsUnderWay(board, 1), CallContext(span_id=1)
    places = [ledger.begin(ASK, context, 0, float(i)) for i in range(ENTRIES + 2)]
    assert places[-2:] == [-1, -1]
    for place in [*places[:10], -1]:
        ledger.end(place, 0.1, 0.0, "E" * 1000 + "é")
    again = [ledger.begin(ASK, context, 0, 1000.0) for _ in range(12)]
    assert again == [*places[:10], -1, -1]
    found = unreported(board.ledgers, 1)
    assert len(found) == ENTRIES
    assert not any(e.over or e.error for e in found)


def test_slots_do_not_touch(board: LoadTable) -> None:
    ledgers = [CallsUnderWay(board, slot) for slot in range(3)]
    for ledger in ledgers:
        for i in range(ENTRIES):
            ledger.begin(ASK, CallContext(span_id=1), 0, float(i))
    board.clear(1)
    assert [len(unreported(board.ledgers, slot)) for slot in range(3)] == [ENTRIES, 0, ENTRIES]
    assert [board.loads[slot] for slot in range(3)] == [ENTRIES, 0, ENTRIES]
