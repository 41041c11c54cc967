"""The two rows about the published inference graph, four transformers services: launch → first answer, and memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from benchmarks.rounds import ROUNDS, median_ratio, mirrored
from benchmarks.row import Aim, Figure, Row, Unit
from benchmarks.servers import BENTOML, OURS, RAY, Framework, Server, StartError, serving

LAUNCH = "four transformers services: launch → first answer"
MEMORY = "memory (PSS) of that graph"
WARM = [sys.executable, "-m", "benchmarks.warm_launch"]
FIRST_ANSWER = "first answer after "  # what `warm_launch.py` prints before the seconds
QUESTION = {"original_sentence": "I have an idea!"}


@dataclass(slots=True)
class Launches:
    """Seconds to the first answer, and MB after it, of each launch, by label."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    memory: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def warm(self) -> bool:
        """Ours from a process whose zygote is warm, as a notebook's is. Its memory is counted, zygote and all."""
        with serving(OURS, "inference", WARM) as server:
            return self._take(OURS.label, server, lambda: float(server.printed(FIRST_ANSWER)))

    def cold(self, framework: Framework) -> bool:
        """From the command line to the first answer over HTTP. Whether there was one."""
        label = "cold" if framework is OURS else framework.label

        with serving(framework, "inference") as server:

            def first_answer() -> float:
                server.first_answer("/generate_score", QUESTION)
                return server.age

            return self._take(label, server, first_answer)

    def _take(self, label: str, server: Server, first_answer: Callable[[], float]) -> bool:
        try:
            seconds = first_answer()
        except StartError as error:
            self.notes.append(f"{label}: {error}")
            return False
        self.seconds.setdefault(label, []).append(seconds)
        self.memory.setdefault(label, []).append(server.pss())
        return True


def run(frameworks: Sequence[Framework]) -> list[Row]:
    launches = Launches()
    turns: list[Callable[[], bool]] = [launches.warm]
    if BENTOML in frameworks:
        turns.append(partial(launches.cold, BENTOML))
    for order in mirrored(turns, ROUNDS):
        for launch in order:
            if not launch():
                turns.remove(launch)  # it would not come up in the next round either
    launches.cold(OURS)
    if RAY in frameworks:
        launches.cold(RAY)
    if cold := launches.seconds.pop("cold", None):
        launches.notes.append(f"`nbcompose serve` from the command line, nothing warm: {Figure.of(cold, 's')}")
    launches.memory.pop("cold", None)
    return [
        _row(LAUNCH, Aim(0.1), launches.seconds, "s", launches.notes),
        _row(MEMORY, Aim(0.4), launches.memory, "MB", []),
    ]


def _row(what: str, aim: Aim, taken: dict[str, list[float]], unit: Unit, notes: list[str]) -> Row:
    figures = {label: Figure.of(values, unit) for label, values in taken.items()}
    ours, other = taken.get(OURS.label, []), taken.get(BENTOML.label, [])
    return Row(
        what=what,
        aim=aim,
        yardstick=BENTOML.label,
        ours=figures.pop(OURS.label, None),
        other=figures.get(BENTOML.label),
        ratio=median_ratio(ours, other) if ours and len(ours) == len(other) else None,
        peers=figures,
        notes=notes,
        samples=taken,
    )
