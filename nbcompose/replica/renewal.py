"""What a supervisor may ask of a replica that runs: to take new code, or to step aside for a while.

New code is made ready first, and taken when every replica of the service has got so far. One that has stepped aside
keeps what it has loaded, in case its version is wanted back.
"""

from __future__ import annotations

from collections.abc import Mapping

from nbcompose.replica.code import Code, Swap
from nbcompose.replica.control import Operation
from nbcompose.replica.door import Door
from nbcompose.replica.runtime import Runtime


class Renewal:
    """The operations of `runtime`, whose callers from outside come through `door`."""

    def __init__(self, runtime: Runtime, door: Door) -> None:
        self._runtime = runtime
        self._door = door
        self._ready: Code | None = None

    def operations(self) -> Mapping[str, Operation]:
        return {
            "prepare": self.prepare,
            "commit": self.commit,
            "discard": self.discard,
            "park": self.park,
            "unpark": self.unpark,
        }

    async def prepare(self, swap: Swap) -> None:
        """Make the new code ready; the old one serves on. Raises `CannotSwap`, or what making it raises."""
        self._ready = await self._runtime.renewed(swap)

    async def commit(self) -> None:
        """Take it: no call that comes after this sees the old code."""
        code, self._ready = self._ready, None
        if code is not None:
            self._runtime.take(code)
            self._door.renew()

    async def discard(self) -> None:
        self._ready = None

    async def park(self, grace: float) -> None:
        """Let nobody in any more; what is in hand has `grace` seconds. Other services stay away by their routes."""
        await self._door.shut(grace)

    async def unpark(self) -> None:
        self._door.open()
