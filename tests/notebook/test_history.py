"""What has run in a notebook, as `%export` sees it: real cells in a real shell, and what front ends say about them."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import signature

import pytest
from IPython.core.interactiveshell import InteractiveShell

from nbcompose._notebook import history
from nbcompose._notebook.history import History
from tests.notebook.conftest import Kernel, Notebook
from tests.optional import needs

Seen = list[tuple[str, str, bool]]


@pytest.fixture
def shell(bare: Notebook) -> InteractiveShell:
    return bare.shell


@pytest.fixture
def kept(shell: InteractiveShell) -> Iterator[History]:
    found = History(shell)
    found.start()
    yield found
    found.stop()


def run(shell: InteractiveShell, source: str, cell: str | None = None, deleted: list[str] | None = None) -> None:
    """As a front end does: with the cell's id, and those that were deleted since it last ran one."""
    told = {} if deleted is None else {"cell_meta": {"deletedCells": deleted}}
    if told and "cell_meta" not in signature(shell.run_cell).parameters:
        pytest.skip("this IPython does not hand on what a front end says of a cell")
    shell.run_cell(source, store_history=True, cell_id=cell, **told)


def seen(kept: History) -> Seen:
    return [(c.label, c.source, c.current) for c in kept.cells()]


def test_runs_are_there_in_order_as_they_were_written(shell: InteractiveShell, kept: History) -> None:
    run(shell, "a = 1", "one")
    run(shell, "%%time\n# why\nb = a", "two")
    assert seen(kept) == [("In [1]", "a = 1", True), ("In [2]", "%%time\n# why\nb = a", True)]
    assert [c.key for c in kept.cells()] == ["one", "two"]
    assert all(c.seconds is not None and c.seconds >= 0 for c in kept.cells())


def test_a_cell_that_ran_again_with_another_source_has_overtaken_itself(shell: InteractiveShell, kept: History) -> None:
    for source in ("a = 1", "a = 2", "a = 1 "):
        run(shell, source, "one")
    assert seen(kept) == [("In [1]", "a = 1", True), ("In [2]", "a = 2", False), ("In [3]", "a = 1 ", True)]


def test_what_ran_in_a_cell_that_is_deleted_is_not_current(shell: InteractiveShell, kept: History) -> None:
    run(shell, "a = 1", "one")
    run(shell, "b = 1", "two", deleted=["one"])
    assert seen(kept) == [("In [1]", "a = 1", False), ("In [2]", "b = 1", True)]
    run(shell, "a = 1", "one")  # its deletion was undone
    assert [current for _, _, current in seen(kept)] == [True, True, True]


def test_without_ids_the_same_source_is_the_same_cell(shell: InteractiveShell, kept: History) -> None:
    for source in ("a = 1", "b = 1", "a = 1"):
        run(shell, source)
    first, other, again = kept.cells()
    assert first.key == again.key != other.key
    assert [c.current for c in kept.cells()] == [True, True, True]


def test_a_cell_that_raised_has_failed(shell: InteractiveShell, kept: History) -> None:
    for source in ("a = 1; 1 / 0", "a =", "a = 2"):
        run(shell, source)
    assert [c.failed for c in kept.cells()] == [True, True, False]


def test_what_a_service_cell_waits_for_is_not_its_codes_time(
    shell: InteractiveShell, kept: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([0.0, 2.0, 10.0, 100.0, 103.0])
    monkeypatch.setattr(history, "clock", lambda: next(times))
    shell.user_ns["lap"] = kept.lap
    run(shell, "lap(); lap_again = 1")
    next(times)  # nobody asks when it ended
    run(shell, "a = 1")
    assert [c.seconds for c in kept.cells()] == [2.0, 3.0]


def test_what_runs_silently_and_what_is_empty_is_left_out(shell: InteractiveShell, kept: History) -> None:
    shell.run_cell("a = 1", silent=True)
    run(shell, "  \n")
    assert kept.cells() == []


def test_the_oldest_runs_are_forgotten(shell: InteractiveShell, kept: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOST_RUNS", 2)
    for n in range(4):
        run(shell, f"a = {n}")
    assert [c.source for c in kept.cells()] == ["a = 2", "a = 3"]
    monkeypatch.setattr(history, "MOST_CHARACTERS", 100)
    run(shell, f"a = '{'x' * 200}'")
    assert len(kept.cells()) == 1


def test_what_ran_before_is_known_and_the_cell_that_starts_is_there_once(shell: InteractiveShell) -> None:
    shell.run_cell("a = 1", store_history=True)
    kept = History(shell)
    shell.user_ns["kept"] = kept
    shell.run_cell("kept.start(); b = 1", store_history=True)
    run(shell, "c = 1")
    kept.stop()
    run(shell, "d = 1")
    assert [(c.label, c.source) for c in kept.cells()] == [
        ("In [1]", "a = 1"),
        ("In [2]", "kept.start(); b = 1"),
        ("In [3]", "c = 1"),
    ]


@pytest.mark.system
def test_a_kernel_is_told_which_cell_runs(own_kernel: Kernel) -> None:
    """What JupyterLab sends with each run, through a real kernel."""

    def send(source: str, cell: str, deleted: list[str]) -> None:
        message = own_kernel.client.session.msg(
            "execute_request",
            {"code": source, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False},
            metadata={"cellId": cell, "deletedCells": deleted},
        )
        own_kernel.client.shell_channel.send(message)
        assert own_kernel.finished(message["header"]["msg_id"]).error == ""

    send("a = 1", "one", [])
    send("a = 2", "one", [])
    send("await __import__('asyncio').sleep(0)", "three", [])
    send("b = 1", "two", [])
    send("c = 1", "four", ["two"])
    shown = own_kernel.ok(
        "cells = get_ipython().meta['nbcompose'].history.cells()\n"
        "[(c.key, c.label, c.current, c.seconds is None) for c in cells[-5:]] == [\n"
        "    ('one', 'In [3]', True, False), ('three', 'In [4]', True, False), ('two', 'In [5]', False, False),\n"
        "    ('four', 'In [6]', True, False), (cells[-1].key, 'In [7]', True, True)]"  # the last one runs
    )
    assert shown.result == "True"


def test_runs_are_told_apart_where_the_kernel_does_not_count_them(shell: InteractiveShell, kept: History) -> None:
    for source in ("def f(): return 1", "g = f\ndef f(): return 2"):
        shell.run_cell(source, store_history=False)
    labels = [c.label for c in kept.cells()]
    assert len(set(labels)) == 2
    runs = [kept.run_of(shell.user_ns[name].__code__.co_filename) for name in ("g", "f")]
    assert [run.label for run in runs if run is not None] == labels


# What runs did to values


def test_what_a_run_did_to_values(shell: InteractiveShell, kept: History) -> None:
    for source in ("a, b = [1], [2]", "len(a)", "a.append(1)", "b = [2]", "import json\nc = (i for i in a)", "c"):
        run(shell, source)
    looked = [c.looked for c in kept.cells()]
    assert [sorted(one.changed) for one in looked if one is not None] == [["a", "b"], [], ["a"], [], [], []]
    assert looked[-1] is not None
    assert looked[-1].left("a")
    assert looked[-1].unknown >= {"c", "json"}


@pytest.mark.parametrize(
    ("make", "change"),
    [
        ("a = {'b': [1]}", "a['b'].append(2)"),
        ("class A: pass", "A.b = 1"),
        ("class A: pass\na = A()", "a.b = 1"),
        ("def make():\n    b = []\n    return lambda: b.append(1)\na = make()", "a()"),
        ("def a(): pass", "a.b = 1"),
        ("import numpy as np\na = np.zeros(3)", "a[0] = 1"),
        pytest.param("import torch\na = torch.nn.Linear(1, 1)", "a(torch.ones(1)).backward()", marks=needs("torch")),
        pytest.param("import torch\na = torch.nn.Linear(1, 1)", "a.eval()", marks=needs("torch")),
        ("import pandas\na = pandas.DataFrame({'b': [1.0, None]})", "a.fillna(0, inplace=True)"),
        ("import random\na = random.Random(0)", "a.random()"),
    ],
)
def test_changes_in_place_are_seen(shell: InteractiveShell, kept: History, make: str, change: str) -> None:
    for source in (make, "1", change):
        run(shell, source)
    _, before, after = [c.looked for c in kept.cells()]
    assert before is not None
    assert before.changed == set()
    assert after is not None
    assert after.changed <= {"A", "a"}
    assert after.changed


def test_looking_is_bounded(shell: InteractiveShell, kept: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbcompose._notebook.history.LEAST", 0.0)
    monkeypatch.setattr("nbcompose._notebook.history.SHARE", 0.0)
    run(shell, "a = 1")
    [cell] = kept.cells()
    assert cell.looked is not None
    assert "a" in cell.looked.unknown


def test_a_value_that_never_looks_the_same_is_unknown(shell: InteractiveShell, kept: History) -> None:
    run(shell, "import time\nclass A:\n    def __getstate__(self): return time.perf_counter_ns()\na = A()")
    run(shell, "1")
    run(shell, "2")
    last = kept.cells()[-1].looked
    assert last is not None
    assert "a" in last.unknown


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("a = 1\n1 / 0\nb = 2", 2),
        ("\n\na = 1\n1 / 0", 4),
        ("def f():\n    1 / 0\n\nf()", 4),
        ("a = (", 0),
        ("%%time\n1 / 0", None),
        ("a = 1", None),
    ],
)
def test_the_line_at_which_a_run_failed(
    shell: InteractiveShell, kept: History, source: str, line: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    run(shell, source)
    assert kept.cells()[-1].stopped == line
