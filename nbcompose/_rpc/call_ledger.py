"""Ledger of a replica's calls: those under way, and those that have ended and were not reported yet.

It is in memory that the owner shares (`_rpc/load_table.py`), so that the owner can still read it when the replica has
died: calls that died with it are counted and traced, wherever they came from. The replica writes it, on its loop
(`CallsUnderWay` in `_replica/metrics.py`); the owner reads it when the process has ended.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

ENTRIES = 256  # calls at a time that are known; further ones are not in the ledger

# State, trace flags, the api's number; seconds and seconds in the queue (of ended calls); start (Unix time); trace id
# (high, low), span id, parent's span id; the error's type.
ENTRY = struct.Struct("=BBIffdQQQQ42s")
TIMES = struct.Struct("=ff")
TIMES_AT, ERROR_AT = 6, 54  # offsets in an entry, whose state is its first byte
LEDGER_SIZE: int = ENTRIES * ENTRY.size
FREE, OPEN, ENDED = range(3)
LOW = 2**64 - 1  # the bits of a trace id that are in its second half


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
