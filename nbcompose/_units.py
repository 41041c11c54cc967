"""How amounts are written for people: durations and sizes, in one set of units and with three significant digits; and
which word was probably meant.

The front end writes them alike (`_replica/http/static/words.js`); `frontend/tests/units.json` holds both to the same
cases.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")


def human_duration(seconds: float, digits: int = 3) -> str:
    """Format a duration: "0 s", "7.59 µs", "12.3 ms", "4.2 s", "40 s", "12 min", "30 h".

    `digits`: how many are significant, at most; two for times that go on, which would change all the time.
    """
    if seconds < 1e-9:
        return "0 s"
    for unit, factor in (("µs", 1e6), ("ms", 1e3)):
        if seconds * factor < 999.5:
            return f"{_rounded(seconds * factor, digits)} {unit}"
    if seconds < 599.5:
        return f"{_rounded(seconds, digits)} s"
    return f"{seconds / 60:.0f} min" if seconds < 36_000 else f"{seconds / 3600:.0f} h"


def human_size(count: int) -> str:
    """Format a number of bytes: "512 B", "80 MiB", "5.1 GiB"."""
    amount = float(count)
    for unit in _SIZES[:-1]:
        if abs(amount) < 999.5:
            return f"{_rounded(amount, 3)} {unit}"
        amount /= 1024
    return f"{_rounded(amount, 3)} {_SIZES[-1]}"


def with_article(noun: str) -> str:
    """Return a noun, as the name of a type, with its article: "an int", "a str"."""
    return f"{'an' if noun[:1] in 'aeioAEIO' else 'a'} {noun}"  # a uint8, a union: with u the article is mostly a


def _rounded(number: float, digits: int) -> str:
    text = f"{number:.{digits}g}"
    return text if "e" not in text else f"{number:.0f}"


def with_previous(state: str) -> str:
    """Return the state of a service of which the previous version serves (or waits), since a newer one could not
    start: "ready, previous version". The front end says it alike.
    """
    return f"{state}, previous version"


def near_word(word: str, known: Iterable[str]) -> str:
    """Return the word of `known` that was probably meant; "" if none is near."""
    near = difflib.get_close_matches(word, list(known), 1)
    return near[0] if near else ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a hint at the word of `known` that was probably meant, e.g. " (did you mean Kettle?)", or ""."""
    near = near_word(word, known)
    return f" (did you mean {near}?)" if near else ""
