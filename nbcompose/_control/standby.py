"""Standby and stuck replicas: keeps the previous version for a rollback, and replaces replicas that are stuck.

A replica is stuck when it reports so itself (a held worker) or the system has stopped its process. Missing responses
are no criterion: a long call in C, a busy machine or a debugger cause them as well. Used on the supervisor's loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence

from nbcompose._code import Deployment
from nbcompose._control.generation import Generation
from nbcompose._control.replica_handle import ReplicaHandle
from nbcompose._host import devices, memory
from nbcompose._units import human_duration

ROOM = 2**30  # bytes that must remain free for whatever is started next
GPU_ROOM = 0.25  # of each GPU's memory


class Standby:
    """Keeps one suspended version for `seconds`; then `drain` stops it. 0: keeps none."""

    def __init__(self, seconds: float, drain: Callable[[Generation], object]) -> None:
        self.suspended: Generation | None = None
        self._seconds = seconds
        self._drain = drain
        self._staying: asyncio.Task[None] | None = None

    def put(self, old: Generation, new: Generation) -> bool:
        """Suspend `old`, which `new` has replaced, where memory allows, and drain the version kept before. Returns
        whether it is kept.
        """
        self.clear()
        if not self._seconds or not _may_stay(old, new):
            return False
        self.suspended = old
        self._staying = asyncio.ensure_future(self._stay(old))
        return True

    def take(self, deployment: Deployment | None) -> Generation | None:
        """Return the suspended version of this deployment if it is still kept; the caller resumes its replicas."""
        suspended = self.suspended
        if suspended is None or suspended.deployment is not deployment:
            return None
        self._forget()
        return suspended

    def clear(self) -> None:
        suspended = self.suspended
        self._forget()
        if suspended is not None:
            self._drain(suspended)

    def _forget(self) -> None:
        self.suspended = None
        if self._staying is not None:
            self._staying.cancel()
            self._staying = None

    async def _stay(self, old: Generation) -> None:
        await old.suspend(old.patience)
        await asyncio.sleep(self._seconds)
        self.clear()


def _may_stay(old: Generation, new: Generation) -> bool:
    """Whether there is enough free memory for another version like this one, and both use the same HTTP settings."""
    if old.failed or old.spec.http != new.spec.http:
        return False
    return room_for(list(old.members.values()))


def room_for(members: Sequence[ReplicaHandle]) -> bool:
    """Whether as much memory is free as these replicas use, for others like them."""
    pids = [m.process.pid for m in members if m.process is not None]
    if memory.available() < max(ROOM, sum(map(memory.usage, pids))):
        return False
    on_gpu = any(m.device.startswith("cuda") for m in members)
    return not on_gpu or all(d.free >= GPU_ROOM * d.total for d in devices.discover())


# Replacing replicas does not help a service whose replicas are stuck again and again: the next one is replaced after
# `LOADS` times the seconds that it took to load, and `ONCE_IN` at the latest.
LOADS, ONCE_IN = 20, 600.0


class StuckReplicas:
    """The stuck replicas of one service. `notes` says why a replica that has been stuck for long is not replaced; what
    does it is not in them, since that depends on where they are read (see `Status.trouble`).
    """

    def __init__(self) -> None:
        self.notes: tuple[str, ...] = ()
        self._replaced: float | None = None

    def see_to(self, generation: Generation, *, stop_first: bool) -> None:
        """Replace a replica that has been stuck for too long, one after another (see `LOADS`).

        Without `stop_first` the new one loads beside the old one, if there is memory for both.
        """
        notes = []
        for member, why in _stuck(generation):
            now = time.monotonic()
            left = 0.0 if self._replaced is None else self._replaced + min(ONCE_IN, LOADS * member.loaded_in) - now
            if self._replaced is not None and left > 0:
                ago, more = human_duration(now - self._replaced, 2), human_duration(left, 2)
                notes.append(f"{why}: not replaced for another {more}, since one was {ago} ago")
            elif not stop_first and not room_for([member]):
                notes.append(f"{why}: not replaced, since there is no room for two beside what else runs")
            else:
                self._replaced = now
                generation.replace(member, why, stop_first=stop_first)
        self.notes = tuple(notes)


def _stuck(generation: Generation) -> Iterator[tuple[ReplicaHandle, str]]:
    after, now = generation.spec.traffic.replace_after, time.time()
    for member in list(generation.members.values()):
        since, why = _trouble(member)
        if after and since is not None and now - since >= after and not generation.is_replaced(member):
            yield member, f"replica {member.index} is stuck ({why})"


def _trouble(member: ReplicaHandle) -> tuple[float | None, str]:
    """Return since when (Unix time) a replica has been stuck, and why; None where it is not."""
    if member.state != "up" or member.stopped_at:
        return None, ""
    if member.halted is not None:
        return member.halted, "its process was stopped, by SIGSTOP or the like"
    work = member.stats.work if member.stats is not None else None
    if work is None or work.held_since is None:
        return None, ""
    return work.held_since, f"{', '.join(sorted({h.api for h in work.held if h.abandoned}))} runs on for nobody"
