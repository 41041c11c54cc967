"""History of the notebook for `%export`: the cells that ran, and what each run did to the values.

Limited in time: a value that takes too long, or cannot be compared, counts as unknown, and the export then relies on
the code.

A run counts as its cell's present one until the cell runs with another source, or is deleted. Front ends say which cell
a run belongs to (`cellId`) and which ones are deleted (`deletedCells`). Where they do not, runs of the same source
belong to one cell, and every source is a present one.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from time import perf_counter as clock
from time import thread_time
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult, InteractiveShell

from nbcompose._code import Budget, Digester
from nbcompose._export import Cell, Looked, service_line
from nbcompose._ipython_adapter import cell_numbers, request_of
from nbcompose._notebook.cell import number_of
from nbcompose._rpc import is_notebooks
from nbcompose._service import Service

LEAST = 0.1  # seconds that the comparison may take after a cell,
SHARE = 0.05  # or this share of the cell's duration, where that is more

_HISTORY = re.compile(r"_+|_i+|_i?\d+|_ih|_oh|_dh")


class Looking:
    """Compares the values of a shell's names after every cell. Used on the main thread."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._digests: dict[str, str | None] = {}  # None: unknown
        self._costs: dict[str, float] = {}  # seconds of each name's last digest
        # names whose value took too long: id of the value, seconds that it had
        self._failed: dict[str, tuple[int, float]] = {}
        self._restless: dict[str, int] = {}  # names whose value has another digest each time: id of the value
        self._last = Looked()

    def start(self) -> None:
        """Take the first digests."""
        self._digests = self._look(LEAST)

    def after(self, seconds: float) -> Looked:
        """Return what has changed since the last call; the cell that has run took `seconds`."""
        before, self._digests = self._digests, self._look(max(LEAST, SHARE * seconds))
        changed, unknown = set[str](), set[str]()
        for name, now in self._digests.items():
            if now is None or before.get(name, "") is None:
                unknown.add(name)
            elif before.get(name) != now:
                changed.add(name)
        for name in sorted(changed & before.keys()):
            again = self._digest(name, self._shell.user_ns[name], self._classes(), Budget(LEAST))
            if again != self._digests[name]:  # its pickle differs each time
                self._restless[name] = id(self._shell.user_ns[name])
                self._digests[name] = None
                changed.discard(name)
                unknown.add(name)
        found = Looked(frozenset(changed), frozenset(unknown))
        self._last = Looked(found.changed, self._last.unknown) if found.unknown == self._last.unknown else found
        return self._last

    def _look(self, seconds: float) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        budget, classes = Budget(seconds), self._classes()
        names = dict(self._names())
        for name in sorted(names, key=lambda n: self._costs.get(n, 0.0)):
            found[name] = None if self._is_hopeless(name, names[name], seconds) else self._timed(
                name, names[name], classes, budget, seconds
            )  # fmt: skip
        for known in (self._costs, self._failed, self._restless):
            for gone in known.keys() - names.keys():
                del known[gone]
        return found

    def _timed(self, name: str, value: Any, classes: Mapping[str, type], budget: Budget, seconds: float) -> str | None:
        begun = thread_time()
        digest = self._digest(name, value, classes, budget)
        self._costs[name] = thread_time() - begun
        if digest is None and self._costs[name] > seconds / 2:
            self._failed[name] = id(value), seconds
        return digest

    def _is_hopeless(self, name: str, value: Any, seconds: float) -> bool:
        """Whether the value was tried before with at least half as much time, or never has a stable digest."""
        which, had = self._failed.get(name, (0, 0.0))
        return self._restless.get(name) == id(value) or (which == id(value) and seconds < 2 * had)

    def _digest(self, name: str, value: Any, classes: Mapping[str, type], budget: Budget) -> str | None:
        if _is_from_outside(value):
            return None
        others = tuple(cls for cls in classes.values() if cls is not value)  # these have digests of their own
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Digester(itself=others, budget=budget, exact=True).told(value, flat=True)

    def _names(self) -> Iterator[tuple[str, Any]]:
        hidden = self._shell.user_ns_hidden
        for name, value in list(self._shell.user_ns.items()):
            if name not in hidden and not _HISTORY.fullmatch(name):
                yield name, value

    def _classes(self) -> dict[str, type]:
        return {n: v for n, v in self._names() if isinstance(v, type) and is_notebooks(v)}


def _is_from_outside(value: Any) -> bool:
    """Whether pickle knows the value by name only: modules and what they define. A service depends on its cell only."""
    if isinstance(value, type | FunctionType):
        return not is_notebooks(value)
    return isinstance(value, ModuleType | BuiltinFunctionType | Service)


MOST_RUNS = 10_000
MOST_CHARACTERS = 16 * 2**20  # of all sources together


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a cell. `number`: as in `In [7]`; `cell`: the front end's id of the cell, "" where it gives none.

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
    """The runs of one shell, in order. `start` registers its callbacks, `stop` removes them."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._runs: list[Run] = []
        self._files: dict[str, Run] = {}  # by the file name that IPython gives to a cell's code
        self._known_files = 0
        self._deleted: set[str] = set()
        self._running: tuple[ExecutionInfo, float] | None = None  # and the time of its start
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
        """Callback before a cell runs."""
        self._known_files = len(cell_numbers(self._shell))
        gone = self._metadata(info).get("deletedCells")
        if isinstance(gone, list):
            self._deleted.update(map(str, gone))
        if not info.silent:
            self._running, self._lap = (info, clock()), None

    def lap(self) -> None:
        """Note that the cell's own code has run: the time that it waits from now on is not counted."""
        self._lap = clock()

    def after(self, result: ExecutionResult) -> None:
        """Callback after a cell has run."""
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
        """Return every run, oldest first; the last one may be in progress."""
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

    @property
    def deleted(self) -> frozenset[str]:
        """The front end's ids of the cells that it has deleted."""
        return frozenset(self._deleted)

    def run_of(self, file: str) -> Run | None:
        """Return the last run whose code has this file name."""
        return self._files.get(file)

    def _stopped(self, result: ExecutionResult, info: ExecutionInfo) -> int | None:
        """Return the line of the cell at which it failed; 0 where it has not started, None where that is not known."""
        if result.error_before_exec is not None:
            return 0
        source = str(info.raw_cell)
        if result.error_in_exec is None or source.lstrip().startswith("%%") or service_line(source.splitlines()):
            return None
        frames = result.error_in_exec.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename not in cell_numbers(self._shell):
            frames = frames.tb_next
        above = len(source) - len(source.lstrip("\n"))  # leading empty lines, which IPython drops
        return None if frames is None else frames.tb_lineno + above

    def _add(self, run: Run) -> Run:
        last = self._runs[-1] if self._runs else None
        if (
            last is not None
            and not last.cell
            and (last.number, last.source.strip()) == (run.number, run.source.strip())
        ):
            self._runs.pop()  # the cell with `%load_ext` in it, which was in IPython's history already
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
        """Return the front end's metadata of the run."""
        told = getattr(info, "cell_meta", None)  # since IPython 9
        if not told:
            told = request_of(self._shell).get("metadata")
        return told if isinstance(told, Mapping) else {}


def _earlier(shell: InteractiveShell) -> list[Run]:
    """Return the runs before `%load_ext nbcompose`, without metadata of front ends."""
    sources = list(shell.history_manager.input_hist_raw) if shell.history_manager is not None else []
    present = shell.execution_count
    return [Run(n, "", source) for n, source in enumerate(sources) if source.strip() and n < present]
