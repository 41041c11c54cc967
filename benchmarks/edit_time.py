"""From an edit in the notebook to a new answer: the seconds, of each repetition. The graph's four models are loaded."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks import edit_graph
from benchmarks.edit_graph import EDITED, Answer, Version
from benchmarks.kernel import REPLACED, SWAPPED, Kernel, kernel


@dataclass(slots=True)
class Times:
    """Seconds: from sending the edited cell to the answer, of edits of the method and of `__init__`.

    `cells` are the edited cells of `methods` alone, `calls` are calls without an edit, one beside each of `methods`.
    `loading` is what `__init__` took to load the model, after each edit of it.
    """

    methods: list[float] = field(default_factory=list)
    cells: list[float] = field(default_factory=list)
    calls: list[float] = field(default_factory=list)
    inits: list[float] = field(default_factory=list)
    loading: list[float] = field(default_factory=list)


class Notebook:
    """The graph in a notebook. Its edits raise `RuntimeError` where they did not do what they are measured for."""

    def __init__(self, running: Kernel, times: Times) -> None:
        self._running = running
        self._times = times
        self._version = Version()
        for cell in edit_graph.cells(self._version).values():
            running.run(cell)
        self._loading = self._ask().loading

    def edit_method(self) -> None:
        cell, seconds, answer = self._edit(self._version.next_method, SWAPPED)
        if answer.loading != self._loading:
            raise RuntimeError("a method was edited, and the model was loaded again")
        self._times.cells.append(cell)
        self._times.methods.append(seconds)

    def edit_init(self) -> None:
        _, seconds, answer = self._edit(self._version.next_init, REPLACED)
        self._loading = answer.loading
        self._times.inits.append(seconds)
        self._times.loading.append(answer.loading)

    def call(self) -> None:
        begin = time.perf_counter()
        self._ask()
        self._times.calls.append(time.perf_counter() - begin)

    def _edit(self, version: Version, outcome: str) -> tuple[float, float, Answer]:
        """Run the edited cell, then call: the seconds of the cell, and of both."""
        cell = edit_graph.cells(version)[EDITED]
        begin = time.perf_counter()
        self._running.edit(cell, outcome)
        middle = time.perf_counter()
        answer = self._ask()
        end = time.perf_counter()
        if answer.version != version:
            raise RuntimeError(f"{version} was wanted, and {answer.version} answered")
        self._version = version
        return middle - begin, end - begin, answer

    def _ask(self) -> Answer:
        return edit_graph.read(self._running.run(edit_graph.ASK, "answer").value)


@contextmanager
def notebook(times: Times) -> Iterator[Notebook]:
    with kernel() as running:
        yield Notebook(running, times)
