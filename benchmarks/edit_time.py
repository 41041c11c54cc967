"""From an edit in the notebook to a new answer: the seconds, of each repetition. The graph's four models are loaded."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from benchmarks import edit_graph
from benchmarks.edit_graph import EDITED, Answer, Version
from benchmarks.edit_kernel import REPLACED, SWAPPED, Kernel, kernel


@dataclass(slots=True)
class Times:
    """Seconds: from sending the edited cell to the answer, of edits of the method and of `__init__`.

    `cells` are the edited cells of `methods` alone, `calls` are calls without an edit. `loading` is what `__init__`
    took to load the model, after each edit of it.
    """

    methods: list[float] = field(default_factory=list)
    cells: list[float] = field(default_factory=list)
    calls: list[float] = field(default_factory=list)
    inits: list[float] = field(default_factory=list)
    loading: list[float] = field(default_factory=list)


def run(methods: int, inits: int) -> Times:
    """Raises `RuntimeError` where an edit did not do what it is measured for."""
    times = Times()
    with kernel() as running:
        for cell in edit_graph.cells(Version()).values():
            running.run(cell)
        first = _ask(running)
        for n in range(1, methods + 1):
            cell, seconds, answer = _edit(running, Version(0, n), SWAPPED)
            if answer.loading != first.loading:
                raise RuntimeError("a method was edited, and the model was loaded again")
            times.cells.append(cell)
            times.methods.append(seconds)
            times.calls.append(_call(running))
        for n in range(1, inits + 1):
            _, seconds, answer = _edit(running, Version(n, methods), REPLACED)
            times.inits.append(seconds)
            times.loading.append(answer.loading)
    return times


def _edit(running: Kernel, version: Version, outcome: str) -> tuple[float, float, Answer]:
    """Run the edited cell, then call: the seconds of the cell, and of both."""
    cell = edit_graph.cells(version)[EDITED]
    begin = time.perf_counter()
    running.edit(cell, outcome)
    middle = time.perf_counter()
    answer = _ask(running)
    end = time.perf_counter()
    if answer.version != version:
        raise RuntimeError(f"{version} was wanted, and {answer.version} answered")
    return middle - begin, end - begin, answer


def _call(running: Kernel) -> float:
    begin = time.perf_counter()
    _ask(running)
    return time.perf_counter() - begin


def _ask(running: Kernel) -> Answer:
    return edit_graph.read(running.run(edit_graph.ASK, "answer").value)
