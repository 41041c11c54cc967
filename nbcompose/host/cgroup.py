"""What the control groups of this process allow: CPU cores and memory. Who asks for how much is left to others.

Reads both versions of the kernel's interface (https://docs.kernel.org/admin-guide/cgroup-v2.html and
https://docs.kernel.org/admin-guide/cgroup-v1/memory.html). A limit of a parent group counts as much as one's own, so
every level up to the mount is looked at. Where there are no control groups (macOS), nothing is limited.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")

# Version 1 says "no limit" with the largest multiple of a page; nothing real comes near.
_NO_LIMIT = 1 << 62


def cpu_quota(proc: Path = _PROC, mount: Path = _MOUNT) -> float | None:
    """CPU cores that this process may keep busy; None: no quota."""
    quotas = [q for folder in _folders("cpu", proc, mount) if (q := _cores(folder)) is not None]
    return min(quotas, default=None)


def memory_left(proc: Path = _PROC, mount: Path = _MOUNT) -> int | None:
    """Bytes until the nearest memory limit, possibly negative; None: no limit.

    File pages that the kernel can drop at once (`inactive_file`) count as free: after reading a model from disk they
    are most of what a group "uses".
    """
    rooms = [r for folder in _folders("memory", proc, mount) if (r := _room(folder)) is not None]
    return min(rooms, default=None)


def _folders(controller: str, proc: Path, mount: Path) -> Iterator[Path]:
    """The folders of this process's group and of the groups above it, in every hierarchy that has `controller`."""
    for line in _read(proc).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = mount / controller if controllers else mount
        # In a container the path may name the host's tree ("/../.."), of which only the mount is visible.
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
