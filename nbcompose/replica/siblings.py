"""The other replicas of the same service, as one replica sees them: who is less busy, what they have counted.

Used on the replica's loop. How routes get here is client.py's.
"""

from __future__ import annotations

import asyncio
import time

from prometheus_client.core import Metric

from nbcompose.calling.client import Client, ReplicaRoute
from nbcompose.tracing import CallContext
from nbcompose.wire.call import Connection

METRICS = "__metrics__"  # a call that replicas make of one another
METRICS_WAIT = 2.0  # seconds


class Siblings:
    """Of replica `index` of `service`."""

    def __init__(self, service: str, index: int, client: Client) -> None:
        self._service = service
        self._index = index
        self._client = client

    def _others(self) -> list[ReplicaRoute]:
        route = self._client.route(self._service)
        return [r for r in route.replicas if r.index != self._index] if route is not None else []

    async def less_busy(self, load: int) -> Connection | None:
        """One with less than this `load` (see the load board); None when there is none, or it has just gone.

        Kernels give all requests of a kept connection to one process.
        """
        if load == 0:
            return None
        best = min(self._others(), key=self._client.load, default=None)
        if best is None or self._client.load(best) >= load:
            return None
        try:
            return await self._connect(best)
        except OSError:
            return None

    async def metrics(self) -> list[list[Metric]]:
        """What each has counted; one that does not answer in time is left out."""
        answers = await asyncio.gather(*map(self._ask_metrics, self._others()), return_exceptions=True)
        return [a for a in answers if not isinstance(a, BaseException)]

    async def _ask_metrics(self, replica: ReplicaRoute) -> list[Metric]:
        connection = await self._connect(replica)
        deadline = time.monotonic() + METRICS_WAIT
        families: list[Metric] = await connection.call(METRICS, ((), {}), CallContext(), deadline)
        return families

    async def _connect(self, replica: ReplicaRoute) -> Connection:
        return await self._client.replica(replica, f"{self._service}, replica {replica.index}")
