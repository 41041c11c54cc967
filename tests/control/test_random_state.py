"""A forked replica draws random numbers like a process that has imported everything itself."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from typing import Any

import pytest
from born_services import Draws, Loads, Seeded, Variables

from nbcompose import service
from nbcompose._host.random_state import is_chosen
from tests.conftest import SERVICES, Running
from tests.handles import handle
from tests.patience import PATIENCE, wait_until

Drawn = tuple[dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    return {"NBCOMPOSE_PRELOAD": "numpy,torch,unheard_of", "PYTHONPATH": str(SERVICES)}


def by_replica(running: Running, service: Any) -> dict[int, Drawn]:
    """What each replica of `service` has drawn first."""
    status = running.registry.status(service.name)
    assert [r.cold for r in status.replicas] == [""] * status.wanted
    drawn: dict[int, Drawn] = {}
    proxy = running.registry.proxy(service.name)

    def all_have_drawn() -> bool:
        pid, free, fixed = proxy.all()
        drawn.setdefault(pid, (free, fixed))
        return len(drawn) == status.wanted

    wait_until(all_have_drawn, "each replica has answered")
    return drawn


@pytest.fixture(scope="module")
def alone() -> Drawn:
    """What a process draws that has imported everything by itself."""
    code = """
import ctypes, json, unheard_of
from tests.handles import handle
print(json.dumps([unheard_of.free(), {**unheard_of.fixed(), "C": ctypes.CDLL(None).rand()}]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=SERVICES, capture_output=True, check=True, timeout=PATIENCE)
    free, fixed = json.loads(done.stdout)
    return free, fixed


@pytest.mark.system
def test_each_replica_draws_for_itself_as_if_it_had_imported_all(running: Running, alone: Drawn) -> None:
    running.up(Draws, service(name="Other")(handle(Draws).inner))
    running.registry.scale("Draws", 3)
    drawn = by_replica(running, Draws)
    drawn |= by_replica(running, service(name="Other")(handle(Draws).inner))
    running.registry.restart("Draws")
    assert running.registry.wait("Draws").state == "ready"
    again = by_replica(running, Draws)
    assert not drawn.keys() & again.keys()

    free = [alone[0], *(d[0] for d in (drawn | again).values())]
    assert len(free) == 8
    for kind in free[1]:
        values = [each[kind] for each in free if kind in each]
        assert len(set(values)) == len(values), f"{kind}: {values}"
    for _, fixed in (drawn | again).values():
        assert fixed == alone[1]


@pytest.mark.system
def test_a_seed_that_init_sets_holds(running: Running) -> None:
    seeded = running.up(Seeded)
    first = seeded.draw()
    running.registry.restart("Seeded")
    assert running.registry.wait("Seeded").state == "ready"
    assert seeded.draw() == first
    assert first[0] == random.Random(1).random()


@pytest.mark.system
def test_worker_processes_of_a_data_loader_are_no_trouble(running: Running) -> None:
    loads = running.up(Loads)
    for _ in range(2):
        assert loads.load() == list(range(8))
    assert running.registry.status("Loads").restarts == 0


@pytest.mark.system
@pytest.mark.parametrize(
    ("name", "cold"),
    [
        ("OPENAI_API_KEY", ""),
        ("KMP_INIT_AT_FORK", ""),  # which scikit-learn sets
        ("TORCH_LOGS", "the environment differs: TORCH_LOGS, which torch"),
        ("TORCH_CPP_LOG_LEVEL", "the environment differs: TORCH_CPP_LOG_LEVEL, which libc10.so may have read"),
    ],
)
def test_what_the_preloaded_torch_has_read(
    running: Running, monkeypatch: pytest.MonkeyPatch, name: str, cold: str
) -> None:
    monkeypatch.setenv(name, "")
    assert running.up(Variables).read(name) == ("", "")
    found = running.registry.status("Variables").replicas[0].cold
    assert found.startswith(cold)
    assert bool(found) == bool(cold)


@pytest.mark.parametrize(
    ("seed", "chosen"),
    [
        (0, True),
        (-5, True),
        (42, True),
        (2**31, True),
        ("a text", True),
        ([1, 2], True),
        ((1, 2**70), False),
        (2**32, False),
        (None, False),
        (b"bytes", False),
        pytest.param(time.time(), False, id="now"),
        pytest.param(int(time.time()), False, id="this second"),
        pytest.param(time.time_ns(), False, id="this nanosecond"),
        (0.5, False),
    ],
)
def test_which_seeds_count_as_chosen(seed: object, chosen: bool) -> None:
    assert is_chosen(seed) is chosen
