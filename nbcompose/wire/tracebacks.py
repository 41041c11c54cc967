"""Which frames of a traceback say something to users: their own, and those of the libraries that they call."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import cloudpickle

MAX_WALK = 10_000  # causes, or frames, that are counted at all

_STDLIB = Path(sysconfig.get_path("stdlib"))
# Frames that say how a call was carried, not what was called.
_MACHINERY = (
    f"{Path(__file__).parents[1]}/",
    f"{Path(cloudpickle.__file__).parent}/",
    *(f"{_STDLIB / name}" for name in ("asyncio", "concurrent", "threading.py", "contextlib.py", "functools.py")),
)


def walk(tb: TracebackType | None) -> Iterator[TracebackType]:
    for _ in range(MAX_WALK):
        if tb is None:
            return
        yield tb
        tb = tb.tb_next


def users_frames(tb: TracebackType | None) -> Iterator[TracebackType]:
    return (t for t in walk(tb) if not t.tb_frame.f_code.co_filename.startswith(_MACHINERY))
