"""Convert numpy's datetime64 and timedelta64, of any unit, to and from ISO 8601 texts. Pure functions.

Texts are those of `datetime` and `timedelta`, with more digits if the unit is finer: `2026-01-02`,
`2026-01-02T03:04:05.500000`, `P1DT2H`, `-PT0.000000001S`. NaT is None.
"""

from __future__ import annotations

import datetime
import functools
import re
import warnings
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["M", "m"]  # of a dtype: datetime64, timedelta64

_NAT = np.iinfo(np.int64).min
_DAY = 86400
_SECONDS = {"W": 7 * _DAY, "D": _DAY, "h": 3600, "m": 60, "s": 1}
_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9, "ps": 12, "fs": 15, "as": 18}  # after the decimal point
_WRITTEN_IN = dict.fromkeys("YMWD", "D") | dict.fromkeys("hm", "s")  # else other parsers reject the texts

_MOMENT = re.compile(r"[+-]?\d{4,}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,18})?)?(Z|[+-]\d\d:?\d\d)?)?", re.ASCII)
_DURATION = re.compile(
    r"(?P<sign>[+-]?)P(?=[\dT])((?P<Y>\d+)Y)?((?P<M>\d+)M)?((?P<W>\d+)W)?((?P<D>\d+)D)?"
    r"(T(?=\d)((?P<h>\d+)H)?((?P<m>\d+)M)?((?P<s>\d+)([.,](?P<digits>\d{1,18}))?S)?)?",
    re.ASCII,
)
_DAYS = {"Y": 365, "M": 30, "W": 7, "D": 1}  # the same as in pydantic


def kind_of(scalars: tuple[type, ...]) -> Kind | None:
    """Return the kind of these scalar types if all have the same; None if they are neither."""
    for cls, kind in ((np.datetime64, "M"), (np.timedelta64, "m")):
        if scalars and all(issubclass(s, cls) for s in scalars):
            return kind  # type: ignore[return-value]
    return None


def to_texts(array: npt.NDArray[Any]) -> Any:
    """Return nested lists of texts; of numbers, if durations have no unit."""
    flat = array.reshape(-1)
    unit, count = np.datetime_data(array.dtype)
    if array.dtype.kind == "M":
        written_in: Any = None if unit == "generic" else _WRITTEN_IN.get(unit, unit)
        texts = np.datetime_as_string(flat, unit=written_in)
        found = [None if text == "NaT" else _with_digits(text) for text in texts.tolist()]
    else:
        numbers = flat.astype(np.int64).tolist()
        found = [None if n == _NAT else _duration(n * count, unit) for n in numbers]
    cells = np.empty(flat.size, object)
    cells[:] = found
    return cells.reshape(array.shape).tolist()


def from_texts(value: Any, kind: Kind) -> npt.NDArray[Any]:
    """Make an array of (nested lists of) texts, None, and Python's own dates or durations, in a unit that represents
    them all.

    Times with an offset are converted to UTC, as numpy has no time zones. Raises ValueError for other values.
    """
    try:
        cells = np.array(value, dtype=object)
        flat: list[Any] = cells.reshape(-1).tolist()
        if kind == "m":
            return _durations(flat).reshape(cells.shape)
        for cell in flat:
            if not (isinstance(cell, datetime.date | np.datetime64 | None) or _is(cell, _MOMENT)):
                raise ValueError(f"{cell!r} is no ISO 8601 date or time")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about an offset, in numpy
            found = np.array(flat, dtype="M8")
            # numpy does not report an overflow of a unit whose range is too small.
            days = np.datetime_as_string(found, unit="D", casting="unsafe")
            if not np.array_equal(days, np.datetime_as_string(np.array(flat, "M8[D]"))):
                raise ValueError(
                    f"times that no one unit holds: {np.datetime_data(found.dtype)[0]} is the finest of them"
                )
        return found.reshape(cells.shape)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"not a regular array of ISO 8601 texts: {error}") from None


def _is(cell: Any, form: re.Pattern[str]) -> bool:
    return isinstance(cell, str) and form.fullmatch(cell) is not None


def _with_digits(text: str) -> str:
    whole, _, digits = text.partition(".")
    return whole + _fraction(digits)


def _fraction(digits: str) -> str:
    """Format the digits after the decimal point: none, six, nine, ..."""
    digits = digits.rstrip("0")
    return "." + digits.ljust(max(6, -(-len(digits) // 3) * 3), "0") if digits else ""


def _duration(number: int, unit: str) -> Any:
    if unit == "generic":
        return number
    sign, number = ("-" if number < 0 else ""), abs(number)
    if unit in "YM":
        return f"{sign}P{number}{unit}"
    scale = _DIGITS.get(unit, 0)
    seconds, rest = divmod(number * _SECONDS.get(unit, 1), 10**scale)
    days, seconds = divmod(seconds, _DAY)
    hours, minutes, seconds = seconds // 3600, seconds // 60 % 60, seconds % 60
    digits = _fraction(f"{rest:0{scale}d}") if rest else ""
    second = f"{seconds}{digits}S" if seconds or digits or not (days or hours or minutes) else ""
    clock = (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes else "") + second
    return f"{sign}P{f'{days}D' if days else ''}{f'T{clock}' if clock else ''}"


def _durations(cells: list[Any]) -> npt.NDArray[Any]:
    """Return the durations in the coarsest unit that represents them all."""
    own = [np.timedelta64(c) for c in cells if isinstance(c, datetime.timedelta | np.timedelta64)]
    texts = [_read_duration(c) for c in cells if not isinstance(c, datetime.timedelta | np.timedelta64 | None)]
    places = max((len(digits) for _, _, digits in texts), default=0)
    unit = next(u for u, digits in _DIGITS.items() if digits >= places)
    numbers = (
        sign * (seconds * 10 ** _DIGITS[unit] + int(digits.ljust(_DIGITS[unit], "0") or 0))
        for sign, seconds, digits in texts
    )
    read = iter(np.array(list(numbers), np.int64).view(f"m8[{unit}]"))
    given = iter(own)
    missing = np.array("NaT", f"m8[{unit}]")[()]
    found = [missing if c is None else next(read) if isinstance(c, str) else next(given) for c in cells]
    common = functools.reduce(np.promote_types, {cell.dtype for cell in found}) if own else np.dtype(f"m8[{unit}]")
    # One by one: numpy 1 turns a NaT into 0 when it converts it to the unit of others.
    brought = [cell.astype(common) for cell in found]
    # numpy does not report an overflow of a unit whose range is too small.
    if any(cell != new.astype(cell.dtype) and not np.isnat(cell) for cell, new in zip(found, brought, strict=True)):
        raise ValueError(f"durations that no one unit holds: {np.datetime_data(common)[0]} is the finest of them")
    return np.array(brought, dtype=common)


def _read_duration(text: Any) -> tuple[int, int, str]:
    """Parse a duration into its sign, whole seconds, and the digits of the fraction."""
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is no ISO 8601 duration")
    days = sum(int(match[unit] or 0) * days for unit, days in _DAYS.items())
    seconds = sum(int(match[unit] or 0) * _SECONDS[unit] for unit in "hms")
    return -1 if match["sign"] == "-" else 1, days * _DAY + seconds, (match["digits"] or "").rstrip("0")
