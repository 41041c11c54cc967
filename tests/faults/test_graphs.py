"""Graphs of many services: what they cost follows from what changes, not from how many ways lead through them."""

from __future__ import annotations

import os
import signal
from collections import Counter
from typing import Any

import pytest
from many_services import LAYERS, Bottom, Looks, Middle

from nbcompose._control.status import Overview
from tests.conftest import Running

pytestmark = pytest.mark.system

SERVICES = [service for layer in LAYERS for service in layer]
EDGES = sum(len(service.spec.dependencies) for service in SERVICES)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the state of a service is worked out."""
    found: Counter[str] = Counter()
    state = Overview.state

    def counted(overview: Overview, supervisor: Any) -> Any:
        found["looks"] += 1
        return state(overview, supervisor)

    monkeypatch.setattr(Overview, "state", counted)
    return found


def test_full_layers_start_fail_and_stop(running: Running, looks: Counter[str]) -> None:
    running.up(*SERVICES)
    # Each replica tells of some steps of its start, and each edge is followed once when its end becomes ready.
    assert looks["looks"] < 40 * (len(SERVICES) + EDGES)

    bottom = LAYERS[-1][0].name
    pid = running.registry.status(bottom).replicas[0].pid
    assert pid is not None
    top = LAYERS[0][0].name
    looks.clear()
    os.kill(pid, signal.SIGKILL)
    running.until(top, lambda s: s.state == "waiting" and LAYERS[1][0].name in s.reason)
    running.until(top, lambda s: s.state == "ready")
    assert looks["looks"] < 40 * (len(SERVICES) + EDGES)

    looks.clear()
    for service in SERVICES:
        running.registry.remove(service.name, grace=0.0)
    assert looks["looks"] < 40 * (len(SERVICES) + EDGES)


def test_a_replica_reads_classes_when_it_asks(running: Running) -> None:
    running.up(Bottom, Middle)
    looks = running.up(Looks)
    assert looks.read() == [[], ["Bottom"]]
    assert looks.bases() == ["type"]
