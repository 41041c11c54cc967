"""`make bench-compare`: its verdicts by tables of cases, and the real thing with small rows. No timing is asserted."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.revisions import verdict
from benchmarks.revisions.rows import graph, import_time
from benchmarks.revisions.trees import UnknownRevision, pair
from benchmarks.revisions.verdict import Compared, Verdict
from benchmarks.row import Unit

ROOT = Path(__file__).resolve().parents[2]
LEVEL = [1.0] * 9


def compared(ratios: list[float], unit: Unit = "s", **more: Any) -> Compared:
    return Compared("row", "what it is", unit, [1.0] * len(ratios), ratios, **more)


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        # Of nine ratios, the interval is from the second to the eighth.
        ([1.04, 1.04, 1.05, 1.05, 1.05, 1.05, 1.06, 1.06, 1.06], Verdict.SLOWER),
        ([0.90, 1.04, 1.05, 1.05, 1.05, 1.05, 1.06, 1.06, 3.00], Verdict.SLOWER),  # one noisy round at each end
        ([0.90, 1.02, 1.05, 1.05, 1.05, 1.05, 1.06, 1.06, 3.00], Verdict.UNCERTAIN),
        ([1.02, 1.02, 1.05, 1.09, 1.30, 1.30, 1.40, 1.60, 1.90], Verdict.UNCERTAIN),  # the median alone says nothing
        ([0.94, 0.94, 0.95, 0.95, 0.95, 0.95, 0.96, 0.96, 0.96], Verdict.FASTER),
        ([0.30, 0.94, 0.95, 0.95, 0.95, 0.95, 0.96, 0.96, 1.50], Verdict.FASTER),
        ([0.98, 0.98, 0.99, 1.00, 1.00, 1.00, 1.01, 1.02, 1.02], Verdict.SAME),
        ([0.60, 0.98, 0.99, 1.00, 1.00, 1.00, 1.01, 1.02, 1.70], Verdict.SAME),
        ([0.90, 0.96, 0.99, 1.00, 1.00, 1.00, 1.01, 1.02, 1.02], Verdict.UNCERTAIN),
        ([1.03] * 9, Verdict.SAME),  # the margin itself is not beyond it
        ([0.97] * 9, Verdict.SAME),
        ([1.5] * 6, Verdict.SLOWER),
        ([1.5] * 5, Verdict.TOO_FEW),
        ([1.0], Verdict.TOO_FEW),
        ([], Verdict.NOTHING),
    ],
)
def test_verdict(ratios: list[float], expected: Verdict) -> None:
    assert compared(ratios).verdict is expected


@pytest.mark.parametrize("unit", ["s", "MB"])
def test_more_is_worse(unit: Unit) -> None:
    assert compared([1.1] * 9, unit).verdict is Verdict.SLOWER
    assert compared([0.9] * 9, unit).verdict is Verdict.FASTER


@pytest.mark.parametrize("unit", ["calls/s", "items/s"])
def test_less_is_worse(unit: Unit) -> None:
    assert compared([0.9] * 9, unit).verdict is Verdict.SLOWER
    assert compared([1.1] * 9, unit).verdict is Verdict.FASTER


def test_a_row_that_failed_has_no_verdict_whatever_it_gave_before() -> None:
    assert compared([1.5] * 9, failed="new: it fell over").verdict is Verdict.NOTHING


SLOWER, SAME, MISSING = compared([1.1] * 9), compared(LEVEL), compared([], failed="base: it fell over\nlike that")


@pytest.mark.parametrize(
    ("rows", "status"), [([SAME], 0), ([SAME, SLOWER], 1), ([SAME, MISSING], 2), ([MISSING, SLOWER, SAME], 1)]
)
def test_status_can_gate(rows: list[Compared], status: int) -> None:
    assert verdict.status(rows) == status


def test_table_and_notes() -> None:
    header, _, slower, missing = (
        [c.strip() for c in line.strip("|").split("|")] for line in verdict.table([SLOWER, MISSING]).splitlines()
    )
    assert header == ["row", "base", "new", "ratio", "verdict"]
    assert slower == ["row: what it is", "1.00 s", "1.10 s", "1.100 [1.100, 1.100]", "slower"]
    assert missing == ["row: what it is", "–", "–", "–", "not measured"]
    failed, legend = verdict.notes([SLOWER, MISSING]).splitlines()
    assert failed == "- row: base: it fell over … like that"
    assert "96.1% (of 9 rounds)" in legend


# -- the real thing

PATIENCE = 300.0


class Run:
    """`python -m benchmarks.revisions` in a process of its own, whose private folder is made in `folder`."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._mark = f"TMPDIR={folder}".encode()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.revisions", *arguments],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ended(self) -> tuple[int, str, str]:
        """Its exit status, and what it said."""
        out, err = self._process.communicate(timeout=PATIENCE)
        return self._process.returncode, out, err

    def interrupt(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def close(self) -> None:
        """Where a test failed before it ended."""
        if self._process.poll() is None:
            self.interrupt(signal.SIGTERM)
            self._process.communicate(timeout=PATIENCE)

    def processes(self, command: str = "") -> list[str]:
        """Commands of all that it started, whoever their parent is by now: they inherit the name of its folder."""
        return [text for text in self._commands() if command in text]

    def until(self, command: str) -> None:
        """One of its processes has this in its command line."""
        deadline = time.monotonic() + PATIENCE
        while not self.processes(command):
            assert self._process.poll() is None, self.ended()
            assert time.monotonic() < deadline, f"no {command!r} among {self.processes()}"
            time.sleep(0.02)

    def _commands(self) -> Iterator[str]:
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                if self._mark in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0"):
                    yield " ".join(process.cmdline())


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Starts it with these arguments."""
    with contextlib.ExitStack() as stack:

        def started(*arguments: str) -> Run:
            return stack.enter_context(contextlib.closing(Run(tmp_path, *arguments)))

        yield started


@pytest.mark.slow
@pytest.mark.system
def test_compares_the_working_tree_with_a_revision(start: Callable[..., Run], tmp_path: Path) -> None:
    run = start("HEAD", "import", "memory", "--rounds", "2")
    status, out, err = run.ended()
    assert status == 0, err
    assert err.startswith("base: ")
    assert "round 2 of 2" in err
    header, _, *rows, _, legend = out.strip().splitlines()
    assert [cell.strip() for cell in header.strip("|").split("|")] == list(verdict.HEADER)
    table = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[0].partition(":")[0] for row in table] == ["memory", "import"]
    for _, base, new, ratio, found in table:
        assert base.endswith((" MB", " µs", " ms", " s"))
        assert new.endswith((" MB", " µs", " ms", " s"))
        assert re.fullmatch(r"\d+\.\d{3} \[\d+\.\d{3}, \d+\.\d{3}\]", ratio)
        assert found == Verdict.TOO_FEW.value  # so it cannot be otherwise on a busy machine
    assert "50.0% (of 2 rounds)" in legend
    assert list(tmp_path.iterdir()) == []
    assert run.processes() == []


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_behind(start: Callable[..., Run], tmp_path: Path, number: signal.Signals) -> None:
    run = start("HEAD", "hop-pinned")
    run.until("nbcompose serve")
    run.interrupt(number)
    run.interrupt(number)  # impatient
    status, out, err = run.ended()
    assert status == 130, err
    assert out == ""
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
    assert run.processes() == []


@pytest.mark.slow
@pytest.mark.system
def test_a_revision_is_run_from_its_own_copy() -> None:
    with pair("HEAD") as both:
        (both.base.root / "nbcompose" / "__init__.py").write_text("raise SystemExit('the copy of the revision')")
        with pytest.raises(subprocess.CalledProcessError) as raised:
            import_time(both.base)
        assert "the copy of the revision" in raised.value.stderr
        assert import_time(both.new) > 0
        shutil.rmtree(both.base.root / "nbcompose")  # what is installed in the environment is found instead
        with pytest.raises(RuntimeError, match="a process of base runs"):
            import_time(both.base)
        with pytest.raises(RuntimeError, match="a process of base runs"), graph(both.base):
            pass
    assert not both.base.root.exists()


def test_an_unknown_revision_is_named() -> None:
    with pytest.raises(UnknownRevision, match="no-such-revision"), pair("no-such-revision"):
        pass
