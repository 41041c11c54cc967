"""JSON from outside, read within bounds: what is too long, too deep, or has too many values, is not decoded.

A text of two bytes for each value becomes forty times as much memory, and whoever makes that holds the interpreter's
lock. So the values of a large text are counted first, in slices between which other threads have their turn. The bounds
are such that to decode what is let in takes less than a tenth of a second.
"""

from __future__ import annotations

import contextlib
import gc
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import Any

import numpy as np
from pydantic_core import from_json

from nbcompose.errors import PayloadTooLarge
from nbcompose.spec import Http

SMALL = 64 * 1024  # bytes: a text up to here is read at once, in a millisecond
MOST_VALUES = Http().max_values
MOST_BYTES = 128 * 1024 * 1024
DEPTH = 200  # arrays and objects inside one another: what the parser reads
SLICE = 256 * 1024  # bytes

_QUOTE, _COMMA = ord('"'), ord(",")
_STEPS = np.zeros(256, np.int8)
_STEPS[list(b"[{")], _STEPS[list(b"]}")] = 1, -1


def read(text: bytes | str, most: int = MOST_VALUES) -> Any:
    """What a text says. Raises ValueError where it is no JSON, PayloadTooLarge."""
    if isinstance(text, bytes) and text.startswith(BOM_UTF8):  # as some programs write; RFC 8259 lets us pass it over
        text = text[len(BOM_UTF8) :]
    if len(text) > SMALL:
        check(text, most)
        return _decoded(text)
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError:
        check(text, max(most, 2 * SMALL))  # the parser bounds the depth too, and calls it bad JSON
        raise


class Reader:
    """Reads the texts of one form, which together may have so many values."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._left = most
        self._unseen = SMALL

    def read(self, text: str | bytes) -> Any:
        """See `read`."""
        self._unseen -= len(text)
        if self._unseen < 0:
            self._left -= check(text, self._most, self._left)
        return read(text, self._most) if len(text) <= SMALL else _decoded(text)


def _decoded(text: bytes | str) -> Any:
    return from_json(text, allow_inf_nan=False, cache_strings="none")  # to look for them costs more than to make them


def check(text: bytes | str, most: int, left: int | None = None) -> int:
    """How many values there are: commas and opening brackets, and one more. Raises PayloadTooLarge.

    `left`: how many there may be, where not `most`, because others have come before.
    """
    if len(text) > MOST_BYTES:
        raise PayloadTooLarge(
            f"JSON may have {MOST_BYTES:,} bytes: send what is larger as a file, in a form or as the body"
        )
    limit = most if left is None else left
    values, depth = measured(text.encode(errors="replace") if isinstance(text, str) else text, limit)
    if depth > DEPTH:
        raise PayloadTooLarge(f"the JSON is nested more than {DEPTH} levels deep")
    if values > limit:
        raise PayloadTooLarge(
            f'the JSON has more than the {most:,} values that this service takes (http={{"max_values": ...}}): '
            "send an array as application/x-npy, or in parts"
        )
    return values


def measured(data: bytes, most: int) -> tuple[int, int]:
    """How many values there are, see `check`, and how deep they lie; of what goes beyond `most` or `DEPTH` so much as
    is needed to know.
    """
    values, depth, deepest, inside, rest = 1, 0, 0, 0, b""
    for start in range(0, len(data), SLICE):
        piece = rest + data[start : start + SLICE]
        whole = len(piece) - (len(piece) - len(piece.rstrip(b"\\"))) % 2  # an escape is not cut in two
        piece, rest = piece[:whole], piece[whole:]
        if inside and b'"' not in piece:  # in the middle of a long text
            continue
        symbols = np.frombuffer(piece.replace(b"\\\\", b"").replace(b'\\"', b""), np.uint8)
        in_text = np.cumsum(symbols == _QUOTE, dtype=np.uint8) + np.uint8(inside) & 1
        inside = in_text[-1] if in_text.size else inside
        symbols = symbols[in_text == 0]
        steps = _STEPS[symbols]
        levels = np.cumsum(steps, dtype=np.int32)
        values += int(np.count_nonzero(steps == 1) + np.count_nonzero(symbols == _COMMA))
        deepest = max(deepest, depth + int(levels.max(initial=0)))
        if deepest > DEPTH or values > most:
            break
        depth += int(levels[-1]) if levels.size else 0
    return values, deepest


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Without the garbage collector, which would go through all that is being made, again and again."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
