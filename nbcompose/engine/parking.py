"""Keeps the version that was replaced last for a while, with what it has loaded, in case it is wanted back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from nbcompose.engine.deployment import Deployment
from nbcompose.engine.generation import GRACE, Generation
from nbcompose.engine.member import Member
from nbcompose.host import devices, memory

ROOM = 2**30  # bytes that have to be free besides, for whatever is started next
GPU_ROOM = 0.25  # of each GPU's memory


class Parking:
    """A place for one version, for `seconds`; then `drain` ends it. 0: there is no place."""

    def __init__(self, seconds: float, drain: Callable[[Generation], None]) -> None:
        self.parked: Generation | None = None
        self._seconds = seconds
        self._drain = drain
        self._staying: asyncio.Task[None] | None = None

    def put(self, old: Generation, new: Generation) -> bool:
        """Keep `old`, which `new` has replaced, where memory allows; whoever was here before has to go."""
        self.clear()
        if not self._seconds or not _may_stay(old, new):
            return False
        self.parked = old
        self._staying = asyncio.ensure_future(self._stay(old))
        return True

    def take(self, deployment: Deployment | None) -> Generation | None:
        """The version of this deployment, if it is still here. Its replicas are to be woken up."""
        parked = self.parked
        if parked is None or parked.deployment is not deployment:
            return None
        self._forget()
        return parked

    def clear(self) -> None:
        parked = self.parked
        self._forget()
        if parked is not None:
            self._drain(parked)

    def _forget(self) -> None:
        self.parked = None
        if self._staying is not None:
            self._staying.cancel()
            self._staying = None

    async def _stay(self, old: Generation) -> None:
        await old.park(max(GRACE, old.spec.traffic.timeout))
        await asyncio.sleep(self._seconds)
        self.clear()


def _may_stay(old: Generation, new: Generation) -> bool:
    """Whether as much memory is free as the version takes, for another one. And it must not hold another port."""
    if old.failed or old.spec.http != new.spec.http:
        return False
    return room_for(list(old.members.values()))


def room_for(members: Sequence[Member]) -> bool:
    """Whether as much memory is free as these replicas take, for others like them."""
    pids = [m.process.pid for m in members if m.process is not None]
    if memory.available() < max(ROOM, sum(map(memory.usage, pids))):
        return False
    on_gpu = any(m.device.startswith("cuda") for m in members)
    return not on_gpu or all(d.free >= GPU_ROOM * d.total for d in devices.discover())
