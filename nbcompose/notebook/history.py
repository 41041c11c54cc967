"""What has run in this notebook: every run of a cell as it was written, for `%export`.

A run counts as its cell's present one until the cell runs with another source, or is deleted. Front ends say which cell
a run is of (`cellId`) and which ones are gone (`deletedCells`); where one does not, runs of the same source are of one
cell, and every source is a present one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from time import perf_counter as clock
from typing import Any

from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult, InteractiveShell

from nbcompose.export.reading.cells import Cell, Looked
from nbcompose.ipykernel_adapter import request_of
from nbcompose.ipython_adapter import cell_numbers
from nbcompose.notebook.cell import number_of
from nbcompose.notebook.looking import Looking

MOST_RUNS = 10_000
MOST_CHARACTERS = 16 * 2**20  # of all sources together


@dataclass(frozen=True, slots=True)
class Run:
    """One run. `number` is the one in `In [7]`; `cell` the front end's id of the cell, "" where it gives none.

    `stopped`: the line at which it failed, where that is known; `looked`: what it did to values.
    """

    number: int
    cell: str
    source: str
    seconds: float | None = None
    failed: bool = False
    stopped: int | None = None
    looked: Looked | None = None

    @property
    def key(self) -> str:
        return self.cell or f"source: {self.source.strip()}"

    @property
    def label(self) -> str:
        return f"In [{self.number}]"


class History:
    """The runs of one shell, in order. `start` begins to listen, `stop` ends that."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._runs: list[Run] = []
        self._files: dict[str, Run] = {}  # by the name that IPython gives to a cell's code
        self._known_files = 0
        self._deleted: set[str] = set()
        self._running: tuple[ExecutionInfo, float] | None = None  # and when it began
        self._lap: float | None = None
        self._looking = Looking(shell)

    def start(self) -> None:
        if not self._runs:
            self._runs = _earlier(self._shell)
            self._looking.start()
        self._shell.events.register("pre_run_cell", self.before)
        self._shell.events.register("post_run_cell", self.after)

    def stop(self) -> None:
        for event, callback in (("pre_run_cell", self.before), ("post_run_cell", self.after)):
            with contextlib.suppress(ValueError):  # not registered
                self._shell.events.unregister(event, callback)

    def before(self, info: ExecutionInfo) -> None:
        """A cell is about to run."""
        self._known_files = len(cell_numbers(self._shell))
        gone = self._metadata(info).get("deletedCells")
        if isinstance(gone, list):
            self._deleted.update(map(str, gone))
        if not info.silent:
            self._running, self._lap = (info, clock()), None

    def lap(self) -> None:
        """The cell's own code has run: what it waits for now does not count as the time that it takes."""
        self._lap = clock()

    def after(self, result: ExecutionResult) -> None:
        """A cell has run."""
        info = result.info
        if info is None or info.silent or not str(info.raw_cell or "").strip():
            return
        running, self._running = self._running, None
        ended, self._lap = clock() if self._lap is None else self._lap, None
        seconds = ended - running[1] if running is not None and running[0] is info else None
        number = result.execution_count or self._shell.execution_count
        looked = self._looking.after(seconds or 0.0)
        run = self._add(
            Run(
                number,
                self._cell(info),
                info.raw_cell,
                seconds,
                not result.success,
                self._stopped(result, info),
                looked,
            )
        )
        again = [name for name, before in self._files.items() if before.source == run.source]
        for name in (*again, *islice(cell_numbers(self._shell), self._known_files, None)):
            self._files[name] = run

    def cells(self) -> list[Cell]:
        """Every run, the oldest first; the last one may be under way."""
        runs = list(self._runs)
        if self._running is not None:
            info = self._running[0]
            number = max(number_of(self._shell), runs[-1].number + 1 if runs else 1)
            runs.append(Run(number, self._cell(info), info.raw_cell))
        sources = {run.key: run.source.strip() for run in runs}
        return [
            Cell(
                key=run.key,
                label=run.label,
                source=run.source,
                seconds=run.seconds,
                failed=run.failed,
                stopped=run.stopped,
                looked=run.looked,
                current=run.key not in self._deleted and sources[run.key] == run.source.strip(),
            )
            for run in runs
        ]

    def run_of(self, file: str) -> Run | None:
        """The last run whose code has this file name."""
        return self._files.get(file)

    def _stopped(self, result: ExecutionResult, info: ExecutionInfo) -> int | None:
        """The line of the cell at which it failed, 0 where it has not begun; None where nobody knows."""
        if result.error_before_exec is not None:
            return 0
        source = str(info.raw_cell)
        if result.error_in_exec is None or source.lstrip().startswith("%%"):
            return None
        frames = result.error_in_exec.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename not in cell_numbers(self._shell):
            frames = frames.tb_next
        above = len(source) - len(source.lstrip("\n"))  # empty lines, which IPython drops
        return None if frames is None else frames.tb_lineno + above

    def _add(self, run: Run) -> Run:
        last = self._runs[-1] if self._runs else None
        if (
            last is not None
            and not last.cell
            and (last.number, last.source.strip()) == (run.number, run.source.strip())
        ):
            self._runs.pop()  # the cell with `%load_ext` in it, which IPython knew of already
        elif last is not None and run.number <= last.number:  # a kernel that keeps no history does not count
            run = replace(run, number=last.number + 1)
        self._runs.append(run)
        self._deleted.discard(run.key)
        size = sum(len(r.source) for r in self._runs)
        while len(self._runs) > MOST_RUNS or (size > MOST_CHARACTERS and len(self._runs) > 1):
            size -= len(self._runs.pop(0).source)
        return run

    def _cell(self, info: ExecutionInfo) -> str:
        return str(info.cell_id or self._metadata(info).get("cellId") or "")

    def _metadata(self, info: ExecutionInfo) -> Mapping[str, Any]:
        """What the front end says about the run."""
        told = getattr(info, "cell_meta", None)  # since IPython 9
        if not told:
            told = request_of(self._shell).get("metadata")
        return told if isinstance(told, Mapping) else {}


def _earlier(shell: InteractiveShell) -> list[Run]:
    """What ran before `%load_ext nbcompose`, without what front ends said about it."""
    sources = list(shell.history_manager.input_hist_raw) if shell.history_manager is not None else []
    present = shell.execution_count
    return [Run(n, "", source) for n, source in enumerate(sources) if source.strip() and n < present]
