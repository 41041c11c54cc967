"""Free memory and CPU quota within cgroup limits, the memory usage of a process, and whether a service fits.

Supports both cgroup versions (https://docs.kernel.org/admin-guide/cgroup-v2.html and
https://docs.kernel.org/admin-guide/cgroup-v1/memory.html). A limit of a parent group applies as well, so every level up
to the mount is read. Without cgroups (macOS) nothing is limited.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from nbcompose._spec import ServiceSpec
from nbcompose._units import human_size
from nbcompose.errors import MemoryShortage

_PROC = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")
_VMSTAT = Path("/proc/vmstat")
_OOM_KILLS = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)

# Version 1 represents "no limit" as the largest multiple of a page, far above real limits.
_NO_LIMIT = 1 << 62


def cpu_quota(proc: Path = _PROC, mount: Path = _MOUNT) -> float | None:
    """Return the CPU cores that this process may keep busy; None if there is no quota."""
    quotas = [q for folder in _folders("cpu", proc, mount) if (q := _cores(folder)) is not None]
    return min(quotas, default=None)


def memory_left(proc: Path = _PROC, mount: Path = _MOUNT) -> int | None:
    """Return the bytes until the nearest memory limit, possibly negative; None if there is no limit.

    File pages that the kernel can drop at once (`inactive_file`) count as free: after a model was read from disk, they
    are most of a group's usage.
    """
    rooms = [r for folder in _folders("memory", proc, mount) if (r := _room(folder)) is not None]
    return min(rooms, default=None)


def oom_kills(proc: Path = _PROC, mount: Path = _MOUNT, vmstat: Path = _VMSTAT) -> int | None:
    """Return how many processes of this process's group the system has killed because memory had run out; of the whole
    system where groups do not say. None where it is not known.
    """
    for folder in _folders("memory", proc, mount):  # the first is the group itself
        for file in ("memory.events", "memory.oom_control"):
            if (found := _OOM_KILLS.search(_read(folder / file))) is not None:
                return int(found[1])
    found = _OOM_KILLS.search(_read(vmstat))
    return int(found[1]) if found is not None else None


def _folders(controller: str, proc: Path, mount: Path) -> Iterator[Path]:
    """Yield the folders of this process's group and of its parent groups, in every hierarchy that has `controller`."""
    for line in _read(proc).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = mount / controller if controllers else mount
        # In a container the path may refer to the host's tree ("/../.."), of which only the mount is visible.
        parts = () if ".." in path else Path(path.strip("/")).parts
        for depth in range(len(parts), -1, -1):
            yield base.joinpath(*parts[:depth])


def _cores(folder: Path) -> float | None:
    quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
    if not quota:
        quota, period = _read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip()
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return None  # "max", "-1", or no such file
    return int(quota) / int(period)


def _room(folder: Path) -> int | None:
    limit, used, droppable = "memory.max", "memory.current", "inactive_file"
    if not (folder / limit).exists():
        limit, used, droppable = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
    ceiling = _read(folder / limit).strip()
    usage = _read(folder / used).strip()
    if not ceiling.isdigit() or not usage.isdigit() or int(ceiling) >= _NO_LIMIT:
        return None
    stat = dict(line.split(" ", 1) for line in _read(folder / "memory.stat").splitlines() if " " in line)
    return int(ceiling) - int(usage) + int(stat.get(droppable, "0"))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


# As in Kubernetes and BentoML: "Gi" is a power of 1024, "G" of 1000.
_FACTORS = {
    "": 1,
    **{unit: 1000**power for power, unit in enumerate("kmgt", 1)},
    **{f"{unit}i": 1024**power for power, unit in enumerate("kmgt", 1)},
}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt]i?)b?|b)?\s*", re.IGNORECASE)


def parse(size: str | int) -> int:
    """Return the bytes of a size such as "4GiB", "4Gi", "512MB", "2G" or a plain number of bytes.

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


def available() -> int:
    """Return the bytes that a new process may use: the machine's free memory, within the cgroup's limit."""
    free = int(psutil.virtual_memory().available)
    room = memory_left()
    return free if room is None else max(0, min(free, room))


class Shortage(NamedTuple):
    """More memory is asked for than is free, in bytes."""

    asked: int
    free: int

    def __str__(self) -> str:
        return f"asks for {human_size(self.asked)}, {human_size(self.free)} is free"

    @property
    def lasting(self) -> str:
        """The text without what differs from one run to the next, for what a notebook keeps."""
        return f"asks for {human_size(self.asked)} of memory, more than is free"


def check(spec: ServiceSpec) -> Shortage | None:
    """The shortage when one replica of `spec` asks for more memory than is free; None when it fits or asks for none.

    Raises MemoryShortage instead if the service is strict.
    """
    asked = spec.resources.memory
    if asked is None or asked <= (free := available()):
        return None
    shortage = Shortage(asked, free)
    if spec.strict:
        raise MemoryShortage(
            f"{spec.name} {shortage}. Stop a service that is not needed (%services stop NAME), ask for less memory, "
            "or leave out --strict to start it all the same"
        )
    return shortage


def usage(pid: int) -> int:
    """Return the bytes of memory that process `pid` accounts for; 0 if it has ended.

    Its proportional share (PSS) if that may be read, so that pages shared with the zygote count once; otherwise its
    resident set.
    """
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux, or no permission
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
