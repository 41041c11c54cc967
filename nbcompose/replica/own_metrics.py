"""The metrics that a service's own code, or a library of its, keeps with prometheus_client, for `/metrics`.

They are those of the default registry of the replica's process. Used on the replica's loop; they are collected in a
thread, since a collector may do anything.
"""

from __future__ import annotations

import asyncio
import logging

from prometheus_client import REGISTRY
from prometheus_client.core import Metric
from prometheus_client.samples import Sample

WITHIN = 1.0  # seconds; a sibling that asks waits longer

RESERVED = "nbcompose_"

logger = logging.getLogger("nbcompose.replica")


class OwnMetrics:
    """Of replica `replica` of `service`, which label every sample."""

    def __init__(self, service: str, replica: int) -> None:
        self._labels = {"service": service, "replica": str(replica)}
        self._collecting: asyncio.Future[list[Metric]] | None = None
        self._left_out: set[str] = set()

    async def families(self) -> list[Metric]:
        """What there is now; nothing of it, and a line in the log, where that fails or takes too long."""
        if self._collecting is None or self._collecting.done():  # one that hangs is not joined by more
            self._collecting = asyncio.ensure_future(asyncio.to_thread(self._collect))
        try:
            return await asyncio.wait_for(asyncio.shield(self._collecting), WITHIN)
        except TimeoutError:
            logger.warning("%s: its own metrics take more than %g s, and are left out", self._labels["service"], WITHIN)
        except Exception:
            logger.exception("%s: its own metrics cannot be collected, and are left out", self._labels["service"])
        return []

    def _collect(self) -> list[Metric]:
        families = []
        for family in REGISTRY.collect():
            if family.name.startswith(RESERVED):
                if family.name not in self._left_out:
                    logger.warning("metric %s is left out: names in %s* are taken", family.name, RESERVED)
                self._left_out.add(family.name)
                continue
            labelled = Metric(family.name, family.documentation, family.type, family.unit)
            labelled.samples = [self._labelled(sample) for sample in family.samples]
            families.append(labelled)
        return families

    def _labelled(self, sample: Sample) -> Sample:
        # Labels of these names become `exported_…`, as they do where Prometheus itself labels what it reads.
        own = {f"exported_{name}" if name in self._labels else name: value for name, value in sample.labels.items()}
        return sample._replace(labels=self._labels | own)
