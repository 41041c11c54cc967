"""Replicas that live and are of no use: all worker threads held by calls that nobody waits for, or the process stopped.

The one is told by the replica itself, the other by the system: never by silence, which a long call in C, a busy machine
or a debugger cause as well. Used on the supervisor's loop.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from nbcompose.engine.generation import Generation
from nbcompose.engine.member import Member
from nbcompose.engine.parking import room_for
from nbcompose.replica.queueing import seconds

ONCE_IN = 600.0  # seconds: a service whose replicas are stuck again and again is not helped by new ones


class StuckReplicas:
    """Those of one service. `notes` says why one that has been stuck for long is not replaced."""

    def __init__(self) -> None:
        self.notes: tuple[str, ...] = ()
        self._replaced: float | None = None

    def see_to(self, generation: Generation, *, stop_first: bool) -> None:
        """Have one replaced that has been stuck for too long; where it loads beside the old one, if there is room."""
        notes = []
        for member, why in _stuck(generation):
            now = time.monotonic()
            if self._replaced is not None and now - self._replaced < ONCE_IN:
                notes.append(
                    f"{why}: not replaced, since one was {seconds(now - self._replaced)} ago; %services restart "
                    f"{generation.spec.name} does it"
                )
            elif not stop_first and not room_for([member]):
                notes.append(
                    f"{why}: not replaced, since there is no room for two; %services stop something, or restart "
                    f"{generation.spec.name}"
                )
            else:
                self._replaced = now
                generation.replace(member, why, stop_first=stop_first)
        self.notes = tuple(notes)


def _stuck(generation: Generation) -> Iterator[tuple[Member, str]]:
    after, now = generation.spec.traffic.replace_after, time.time()
    for member in list(generation.members.values()):
        since, why = _trouble(member)
        if after and since is not None and now - since >= after and not generation.is_replaced(member):
            yield member, f"replica {member.index} is stuck ({why})"


def _trouble(member: Member) -> tuple[float | None, str]:
    """Since when (Unix time) a replica has been of no use, and why."""
    if member.state != "up":
        return None, ""
    if member.halted is not None:
        return member.halted, "its process was stopped, by SIGSTOP or the like"
    work = member.stats.work if member.stats is not None else None
    if work is None or work.held_since is None:
        return None, ""
    return work.held_since, f"{', '.join(sorted({h.api for h in work.held if h.abandoned}))} runs on for nobody"
