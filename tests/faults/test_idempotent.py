"""A replica dies with a call in hand: what may be made twice is sent again, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from idempotent_services import Above, Mortal

from nbcompose.errors import ReplicaDied
from tests.conftest import Running

pytestmark = pytest.mark.system


def first(items: Any) -> Any:
    return next(iter(items))


@pytest.mark.parametrize("api", ["plain", "on_loop", "items", "items_on_loop", "batch"])
def test_it_is_sent_again(running: Running, tmp_path: Path, api: str) -> None:
    mortal = running.up(Mortal)
    before = running.registry.status("Mortal").replicas[0].pid
    found = getattr(mortal, api)([str(tmp_path)] if api == "batch" else str(tmp_path))
    answered = found if api in ("plain", "on_loop") else first(found)
    assert answered != before
    assert running.registry.status("Mortal").restarts == 1


@pytest.mark.parametrize("api", ["plain", "on_loop", "items"])
def test_it_is_sent_again_by_a_service(running: Running, tmp_path: Path, api: str) -> None:
    above = running.up(Above, Mortal)
    found = getattr(above, api)(str(tmp_path))
    answered = first(found) if api == "items" else found
    assert answered == running.registry.status("Mortal").replicas[0].pid
    assert running.registry.status("Above").restarts == 0


def test_what_may_not_be_made_twice_is_not(running: Running, tmp_path: Path) -> None:
    above = running.up(Above, Mortal)
    with pytest.raises(ReplicaDied, match="Mortal, replica 0 "):
        above.once(str(tmp_path))
    running.until("Mortal", lambda s: s.state == "ready" and s.restarts == 1)


def test_a_stream_that_has_begun_does_not_begin_anew(running: Running, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "read")
    items = iter(running.up(Mortal).late(str(tmp_path)))
    assert next(items) == 1
    (tmp_path / "read").write_bytes(b".")
    with pytest.raises(ReplicaDied, match="Mortal, replica 0 "):
        next(items)


def test_the_counts_of_a_replica_outlive_it(running: Running, tmp_path: Path) -> None:
    mortal = running.up(Mortal)
    mortal.calm()
    mortal.calm()
    running.until("Mortal", lambda s: s.total.answered == 2)
    with pytest.raises(ReplicaDied):
        mortal.once(str(tmp_path))
    running.until("Mortal", lambda s: s.state == "ready" and s.restarts == 1)
    mortal.calm()
    assert running.until("Mortal", lambda s: s.counts["calm"].answered > 2).counts["calm"].answered == 3


def test_a_call_that_ends_its_replica_is_given_up(running: Running) -> None:
    mortal = running.up(Mortal)
    with pytest.raises(ReplicaDied):
        mortal.always()
    assert 2 <= running.until("Mortal", lambda s: s.state == "ready" and s.restarts > 1).restarts <= 4
