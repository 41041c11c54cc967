"""How much memory is free, how much a process uses, and whether a service fits. Watching is left to the supervisor."""

from __future__ import annotations

import re

import psutil

from nbcompose.errors import MemoryShortage
from nbcompose.host import cgroup
from nbcompose.spec import ServiceSpec

# Kubernetes' and BentoML's meaning: "Gi" is 1024 to a power, "G" is 1000.
_FACTORS = {
    "": 1,
    **{unit: 1000**power for power, unit in enumerate("kmgt", 1)},
    **{f"{unit}i": 1024**power for power, unit in enumerate("kmgt", 1)},
}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt]i?)b?|b)?\s*", re.IGNORECASE)


def parse(size: str | int) -> int:
    """Bytes of a size such as "4GiB", "4Gi", "512MB", "2G" or a plain number of bytes.

    Raises ValueError, with the accepted forms, for anything else and for zero.
    """
    count = 0
    if isinstance(size, int) and not isinstance(size, bool):
        count = size
    elif isinstance(size, str) and (match := _SIZE.fullmatch(size)):
        count = int(float(match[1]) * _FACTORS[(match[2] or "").lower()])
    if count <= 0:
        raise ValueError(
            f"{size!r} is not an amount of memory: write a number of bytes, or a number with KiB, MiB, GiB, TiB "
            "(1024 to a power; Ki, Mi, Gi, Ti mean the same) or KB, MB, GB, TB (1000 to a power; or K, M, G, T), "
            'for example "4GiB"'
        )
    return count


def human(count: int) -> str:
    """A number of bytes as people read it: "512 B", "80.0 MiB", "5.1 GiB"."""
    if abs(count) < 1024:
        return f"{count} B"
    size = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if abs(size) < 1023.95:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} TiB"


def available() -> int:
    """Bytes that a new process of ours may use: what the machine has free, within the control group's limit."""
    free = int(psutil.virtual_memory().available)
    room = cgroup.memory_left()
    return free if room is None else max(0, min(free, room))


def check(spec: ServiceSpec) -> str | None:
    """A warning when one replica of `spec` asks for more memory than is free; None when it fits or asks for none.

    Raises MemoryShortage instead when the service is strict.
    """
    asked = spec.resources.memory
    if asked is None or asked <= (free := available()):
        return None
    shortage = f"asks for {human(asked)}, {human(free)} is free"
    if spec.strict:
        raise MemoryShortage(
            f"{spec.name} {shortage}. Stop a service that is not needed (%services stop NAME), ask for less memory, "
            "or leave out --strict to start it all the same"
        )
    return shortage


def usage(pid: int) -> int:
    """Bytes of memory that process `pid` accounts for; 0 when it is gone.

    Its proportional share (PSS) where that may be read, so that pages shared with the zygote are counted once;
    otherwise its resident set.
    """
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux, or not ours to read
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
