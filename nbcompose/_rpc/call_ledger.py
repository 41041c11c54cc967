"""Ledger of a replica's calls: those under way, and those that have ended and were not reported yet.

It is in memory that the owner shares (`_rpc/load_table.py`), so that the owner can still read it when the replica has
died: calls that died with it are counted and traced, wherever they came from. Written by the replica, on its loop; read
by the owner when the process has ended.
"""

from __future__ import annotations

import struct
import zlib
from collections import deque
from typing import NamedTuple

from nbcompose._tracing import CallContext

ENTRIES = 256  # calls at a time that are known; further ones are not in the ledger

# State, trace flags, the api's number; seconds and seconds in the queue (of ended calls); start (Unix time); trace id
# (high, low), span id, parent's span id; the error's type.
ENTRY = struct.Struct("=BBIffdQQQQ42s")
TIMES = struct.Struct("=ff")
TIMES_AT, ERROR_AT = 6, 54  # offsets in an entry
LEDGER_SIZE: int = ENTRIES * ENTRY.size
FREE, OPEN, ENDED = range(3)
LOW = 2**64 - 1


class LedgerEntry(NamedTuple):
    """A call that was not reported. `api`: see `api_number`. `over`: it had ended, after `seconds`."""

    api: int
    over: bool
    trace_id: int
    span_id: int
    parent_id: int
    trace_flags: int
    start: float
    seconds: float
    queued: float
    error: str


def api_number(name: str) -> int:
    """Return the number by which an api's name stands in a ledger."""
    return zlib.crc32(name.encode())


class CallLedger:
    """The ledger of the replica that has `slot`, in the memory of all ledgers."""

    def __init__(self, ledgers: memoryview, slot: int) -> None:
        self._memory = ledgers
        begin = slot * LEDGER_SIZE
        self._free = list(range(begin, begin + LEDGER_SIZE, ENTRY.size))
        self._ended: deque[int] = deque()

    def begin(self, api: int, context: CallContext, parent: int, start: float) -> int:
        """Enter a call; return its place, for `end`. -1: there is no room."""
        if self._free:
            place = self._free.pop()
        elif self._ended:
            place = self._ended.popleft()
        else:
            return -1
        trace = context.trace_id
        ENTRY.pack_into(
            self._memory, place, OPEN, context.trace_flags, api, 0.0, 0.0, start, trace >> 64, trace & LOW,
            context.span_id, parent, b"",
        )  # fmt: skip
        return place

    def end(self, place: int, seconds: float, queued: float, error: str) -> None:
        """Note that a call has ended. It stays until `reported`, or until its place is needed."""
        if place < 0:
            return
        memory = self._memory
        TIMES.pack_into(memory, place + TIMES_AT, seconds, queued)
        if error:
            name = error.encode(errors="replace")[: ENTRY.size - ERROR_AT]
            memory[place + ERROR_AT : place + ERROR_AT + len(name)] = name
        memory[place] = ENDED
        self._ended.append(place)

    def reported(self) -> None:
        """Forget the calls that have ended."""
        for place in self._ended:
            self._memory[place] = FREE
        self._free.extend(self._ended)
        self._ended.clear()


def unreported(ledgers: memoryview, slot: int) -> list[LedgerEntry]:
    """Return the calls in the ledger of a replica that has ended, by their start."""
    found = []
    begin = slot * LEDGER_SIZE
    for entry in ENTRY.iter_unpack(bytes(ledgers[begin : begin + LEDGER_SIZE])):
        state, flags, api, seconds, queued, start, high, low, span, parent, error = entry
        if state != FREE:
            name = error.rstrip(b"\0").decode(errors="ignore")
            trace = high << 64 | low
            found.append(LedgerEntry(api, state == ENDED, trace, span, parent, flags, start, seconds, queued, name))
    return sorted(found, key=lambda entry: entry.start)
