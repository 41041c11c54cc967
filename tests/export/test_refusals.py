"""What cannot be exported: the exact words, which name the cell, the line and the way out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from nbcompose._export.cells import Cell
from nbcompose.errors import ExportRefused
from tests.export.notebooks import file, lines, live, service, sliced

A = service("A", "return x")
FIRST = "a script of these services would not do what the notebook does:"


def refused(cells: Sequence[Cell], entries: Sequence[str] | None = None, **options: Any) -> ExportRefused:
    with pytest.raises(ExportRefused) as error:
        sliced(cells, entries, **options)
    return error.value


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        # names that nothing explains
        ([A], "cell 2, line 2: A needs `x`, which no cell sets: set it in one"),
        (
            ["y = 1", "def g(): return z", "x = g()", A],
            "cell 3, line 1: g needs `z`, which no cell sets: set it in one",
        ),
        (["x = y", A], "cell 2, line 1: the statement in cell 2, line 1 needs `y`, which no cell sets: set it in one"),
        (
            ["from os import *", "from os.path import *", A],
            "cell 4, line 2: A needs `x`, which no cell sets by name. If it is from an import of `*`, write "
            "`from os import x` in cell 2, line 1 or `from os.path import x` in cell 3, line 1",
        ),
        # out of order
        (
            ["x = y", "y = 1", A],
            "cell 2, line 1: the statement in cell 2, line 1 uses `y` before it is defined, in cell 3, line 1: "
            "move the one cell above the other",
        ),
        (
            [service("A", top="n = size"), "size = 1"],
            "cell 2, line 2: A uses `size` before it is defined, in cell 3, line 1: move the one cell above the other",
        ),
        # deleted
        (
            ["x = 1", A, "del x"],
            "cell 4, line 1: `del x`, but A needs it: take that line out, and run the cell that sets x",
        ),
        # magics
        (
            ["x = !ls", A],
            "cell 2, line 1: `x`, which A needs, is the result of `!ls`, which only a notebook has: use "
            "subprocess.run, or store its value: --freeze x",
        ),
        (
            ["\nx = %who_ls int", A],
            "cell 2, line 2: `x`, which A needs, is the result of `%who_ls int`, which only a notebook has: write it "
            "in Python, or store its value: --freeze x",
        ),
        (
            ["%%capture x\n1", A],
            "cell 2, line 1: `x`, which A needs, is the result of `%%capture x`, which only a notebook has: write it "
            "in Python, or store its value: --freeze x",
        ),
        (["def x():\n    !ls", A], "cell 2, line 1: x has `!ls`, which only a notebook has: take it out"),
        (
            ["if True:\n    %cd a\n    x = 1", A],
            "cell 2, line 1: the statement in cell 2, line 1 has `%cd a`, which only a notebook has: take it out",
        ),
        # what only a notebook has
        (
            ["from IPython.display import display", service("A", "display(1)")],
            "cell 2, line 1: the statement in cell 2, line 1 has `from IPython.display import display`, which only a "
            "notebook has: take it out",
        ),
        (
            [service("A", "import ipywidgets")],
            "cell 2, line 2: A has `import ipywidgets`, which only a notebook has: take it out",
        ),
        (
            ["from tqdm.notebook import tqdm", "x = list(tqdm([1]))", A],
            "cell 2, line 1: the statement in cell 2, line 1 has `from tqdm.notebook import tqdm`, which only a "
            "notebook has: use tqdm.auto, which is the same here",
        ),
        (
            ["import tqdm.notebook as t", "x = list(t.tqdm([1]))", A],
            "cell 2, line 1: the statement in cell 2, line 1 has `import tqdm.notebook as t`, which only a "
            "notebook has: use tqdm.auto, which is the same here",
        ),
        # names of other files, and cells that are no Python
        (
            ["%run helpers.py", A],
            "cell 3, line 2: A needs `x`, which no cell sets: set it in one. If it is from `%run helpers.py` in "
            "cell 2, line 1, import it from that file",
        ),
        (
            ["def x(:\n    pass", A],
            "cell 3, line 2: A needs `x`, which no cell sets: set it in one. It is in cell 2, which is no Python "
            "(invalid syntax)",
        ),
        (
            [service("A", "display(1)")],
            "cell 2, line 2: A needs `display`, which only a notebook has: take it out",
        ),
        (
            [service("A", "get_ipython().user_ns")],
            "cell 2, line 2: A needs `get_ipython`, which only a notebook has: take it out",
        ),
        (
            [service("A", "return Out[3]")],
            "cell 2, line 2: A needs `Out`, the notebook's own history: give the value a name of its own, in a cell",
        ),
        (
            ["x = _ + 1", A],
            "cell 2, line 1: the statement in cell 2, line 1 needs `_`, the notebook's own history: give the value a "
            "name of its own, in a cell",
        ),
        (
            ["async def g(): return 1", "x = await g()", A],
            "cell 3, line 1: `x`, which A needs, is awaited outside of a function, which only a notebook can: use "
            "asyncio.run(...), or store its value: --freeze x",
        ),
        # services
        (
            ["%%service\nif True:\n    class A:\n        @api\n        def f(self): pass", service("B", "return A")],
            "cell 2, line 2: the service A is defined inside another statement: move it to the top level of its cell",
        ),
    ],
)
def test_in_a_file(cells: list[str], reason: str) -> None:
    error = refused(file(*cells))
    assert error.reasons == (reason,)
    assert str(error) == f"{FIRST}\n  {reason}"


@pytest.mark.parametrize(
    ("runs", "reason"),
    [
        # overtaken
        (
            [("x", "x = 1"), ("A", A), ("x", "y = 2")],
            "In [2], line 1: `x`, which A needs, was set by a cell that was edited or deleted since: run the cells "
            "that make it again, or store its value: --freeze x",
        ),
        (
            [("x", "x = []"), ("y", "x.append(1)"), ("A", A), ("y", "1")],
            "In [3], line 1: `x`, which A needs, was changed by a cell that was edited or deleted since: run the cells "
            "that make it again, or store its value: --freeze x",
        ),
        (
            [("x", "def x(): pass"), ("A", A), ("x", "1")],
            "In [2], line 1: `x`, which A needs, is from a cell that was edited or deleted since: run it again in a "
            "cell that is there, then the cell of In [3], line 2",
        ),
        (
            [("i", "import json"), ("x", "x = json.loads('1')"), ("A", A), ("i", "import json as j")],
            "In [2], line 1: `json`, which the statement in In [3], line 1 needs, is from a cell that was edited or "
            "deleted since: run it again in a cell that is there, then the cell of In [3], line 1",
        ),
        (  # made by a function that has another text now
            [("g", "def g(): return 1"), ("x", "x = g()"), ("g", "def g(): return 2"), ("A", A)],
            "In [2], line 1: `g`, which the statement in In [3], line 1 needs, is from a cell that was edited or "
            "deleted since: run it again in a cell that is there, then the cell of In [3], line 1",
        ),
        (
            [("x", "x = 1", {"current": False}), ("A", A)],
            "In [2], line 1: `x`, which A needs, was set by a cell that was edited or deleted since: run the cells "
            "that make it again, or store its value: --freeze x",
        ),
        # failed
        (
            [("x", "x = 1\n1 / 0", {"failed": True}), ("A", A)],
            "In [2], line 1: `x`, which A needs, was set by a cell that failed: run it again without the error, or "
            "store its value: --freeze x",
        ),
        (
            [("x", "def x(): pass\n1 / 0", {"failed": True}), ("A", A)],
            "In [2], line 1: `x`, which A needs, was set by a cell that failed: run it again without the error",
        ),
        # costly
        (
            [("g", "def g(): pass"), ("x", "x = g()", {"seconds": 61.0}), ("A", A)],
            "In [3], line 1: `x`, which A needs, is from a cell that ran for 61 s: store its value: --freeze x, or let "
            "each start of the script work it out again: --recompute x",
        ),
        (
            [("x", "x = []"), ("y", "x.append(1)", {"seconds": 3600.0}), ("A", A)],
            "In [3], line 1: `x`, which A needs, is from a cell that ran for 60 min: store its value: --freeze x, or "
            "let each start of the script work it out again: --recompute x",
        ),
        # run several times
        (
            [("x", "x = 0"), ("y", "x += 1"), ("y", "x += 1"), ("y", "x += 1"), ("A", A)],
            "In [3], line 1: `x` was changed 3 times, by a cell that ran 3 times: restart the kernel and run each cell "
            "once, or store its value: --freeze x",
        ),
        (
            [("x", "x = 1"), ("y", "x = x + 1"), ("y", "x = x + 1"), ("A", A)],
            "In [3], line 1: `x` was changed 2 times, by a cell that ran 2 times: restart the kernel and run each cell "
            "once, or store its value: --freeze x",
        ),
        (
            [("g", "def g():\n    global x\n    x = x + 1"), ("x", "x = 1"), ("y", "g()"), ("y", "g()"), ("A", A)],
            "In [4], line 1: `x` was changed 2 times, by a cell that ran 2 times: restart the kernel and run each cell "
            "once, or store its value: --freeze x",
        ),
        (
            [("x", "x = []"), ("y", "x.append(1)"), ("y", "x.append(1)"), ("A", A)],
            "In [3], line 1: `x` was changed 2 times, by a cell that ran 2 times: restart the kernel and run each cell "
            "once, or store its value: --freeze x",
        ),
    ],
)
def test_in_a_live_notebook(runs: list[Any], reason: str) -> None:
    assert refused(live(*runs)).reasons == (reason,)


@pytest.mark.parametrize(
    ("cells", "kept"),
    [
        (["import torch\ntorch.manual_seed(0)\n1 / 0", "x = torch.rand(1)"],
         ["import torch", "torch.manual_seed(0)", "x = torch.rand(1)", "A"]),
        (["import json\n1 / 0", "x = json.loads('1')"], ["import json", "x = json.loads('1')", "A"]),
    ],
)  # fmt: skip
def test_imports_and_seeds_of_a_cell_that_failed_block_nothing(cells: list[str], kept: list[str]) -> None:
    runs: list[Any] = [("f", cells[0], {"failed": True}), ("x", cells[1]), ("A", A)]
    assert lines(sliced(live(*runs))) == kept


def test_what_ran_before_the_line_that_failed_did_run_and_nothing_after_it_did() -> None:
    failed = {"failed": True, "stopped": 2}
    assert lines(sliced(live(("x", "x = 1\n1 / 0\nx = 2", failed), ("A", A)))) == ["x = 1", "A"]
    error = refused(live(("x", "x = 1\nx = 1 / 0\nx = 2", failed), ("A", A)))
    assert error.reasons[0].startswith("In [2], line 2: `x`, which A needs, was set by a cell that failed: ")


def test_what_is_the_same_of_several_names_of_a_cell_is_told_once() -> None:
    cells = live(("c", "x = []\ny = []", {"failed": True}), ("A", service("A", "return x, y")))
    assert refused(cells).reasons == (
        "In [2]: `x` and `y`, which A needs, were set by a cell that failed: run it again without the error, or "
        "store their values: --freeze x --freeze y",
    )


def test_an_argument_of_a_frozen_values_method_is_not_changed() -> None:
    model = "import torch\nmodel = torch.nn.Linear(2, 2)\ndevice = torch.device('cpu')\nmodel.to(device)"
    cells = live(("m", model), ("A", service("A", "return model, device")))
    assert lines(sliced(cells, freeze=["model"])) == ["import torch", "device = torch.device('cpu')", "A"]
    cells = live(
        ("m", "import lib\nmodel, data = lib.a(), lib.b()\nmodel.learn(data)"),
        ("A", service("A", "return model, data")),
    )
    assert refused(cells, freeze=["model"]).reasons == (
        "In [2], line 2: sets `model`, which is to be frozen, and `data`, which is not: --freeze data too",
    )


def test_what_is_to_be_frozen_beside_itself_is_no_reason() -> None:
    cells = live(
        ("c", "coeffs, other = [], []\nfor i in range(2):\n    coeffs.append(i)\n    other.append(i)"),
        ("A", service("A", "return coeffs, other")),
    )
    assert refused(cells, freeze=["coeffs"]).reasons == (
        "In [2], line 1: sets `coeffs`, which is to be frozen, and `other`, which is not: --freeze other too",
        "In [2], line 2: sets `coeffs`, which is to be frozen, and `other`, which is not: --freeze other too",
    )
    assert lines(sliced(cells, freeze=["coeffs", "other"])) == ["A"]


def test_what_runs_only_in_the_main_module_is_refused_where_it_is_needed() -> None:
    guard = "if __name__ == '__main__': x.append(1)"
    assert refused(file("x = []", guard, A)).reasons == (
        'cell 3, line 1: the statement in cell 3, line 1 runs only where `__name__` is "__main__", which it is not '
        "where services run: take what they need out of the `if`",
    )
    assert lines(sliced(file("x = []", guard.replace("x.append(1)", "print(x)"), A))) == ["x = []", "A"]


def test_a_name_that_something_else_than_a_cell_set() -> None:
    assert refused(live(("A", A)), known=["x"]).reasons == (
        "In [2], line 2: A needs `x`, which was set by something else than a cell: set it in one, or store its value: "
        "--freeze x",
    )
    assert refused(live(("A", A)), known=["y"]).reasons == (
        "In [2], line 2: A needs `x`, which no cell sets: set it in one",
    )


def test_a_name_that_has_several_values_in_turn() -> None:
    runs = [("n", "n = 1"), ("b", "class B: size = n"), ("m", "n = 2"), ("c", "class C(B): size = n"), ("n", "n = 1")]
    cells = live(*runs, ("A", service("A", "return B, C, n")))
    assert lines(sliced(cells)) == ["n = 1", "B", "n = 2", "C", "n = 1", "A"]


def test_values_that_no_order_gives() -> None:
    """`m` must come before `x`, and with it the second `n`, which is then not the last."""
    cells = file(
        "def make(): return m", "x = make()", "n = 1", "y = n", "n = 2", "m = n", service("A", "return x, y, n")
    )
    assert refused(cells).reasons == (
        "cell 8, line 2: A needs `n` as it was before a later cell set it anew: give the two values different names, "
        "or set it up in one cell",
    )


def test_all_reasons_are_told_at_once_in_the_order_of_the_cells() -> None:
    error = refused(file("a = !ls", service("A", "return z, a, b"), "import g\nb = await g()"))
    assert [r.partition(":")[0] for r in error.reasons] == ["cell 2, line 1", "cell 3, line 2", "cell 4, line 2"]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            ["x = 1"],
            "there is no service to export: a service is a class with an @api method, in a cell that begins with "
            "%%service",
        ),
        (
            ["%%service\nif True:\n    class A:\n        @api\n        def f(self): pass"],
            "there is no service to export:\n  cell 2, line 2: the service A is defined inside another statement: move "
            "it to the top level of its cell",
        ),
        (
            ["%%service --devce cpu\nclass A: pass"],
            "these cells do not run:\n  cell 2: %%service --devce cpu (unrecognized arguments: --devce cpu)",
        ),
        (
            [service("A", top="b = depends('B')"), service("B", top="a = depends('A')")],
            "A, B depend on one another: name the one to be served with --entry NAME",
        ),
    ],
)
def test_no_entry(cells: list[str], message: str) -> None:
    assert str(refused(file(*cells))) == message


def test_an_unknown_entry() -> None:
    assert str(refused(file(service("A"), service("B")), ["C"])) == "no service is called 'C'; there are: A, B"


@pytest.mark.parametrize(
    ("freeze", "recompute", "reason"),
    [
        (["z"], [], "--freeze z: no service needs it; they need: x, y"),
        ([], ["z"], "--recompute z: no service needs it; they need: x, y"),
        (["g"], [], "--freeze g: it is a class or a function (cell 2, line 1): only values can be stored"),
        (["json"], [], "--freeze json: it is an import (cell 2, line 2): only values can be stored"),
        (["x"], [], "cell 3, line 1: sets `x`, which is to be frozen, and `y`, which is not: --freeze y too"),
    ],
)
def test_options(freeze: list[str], recompute: list[str], reason: str) -> None:
    cells = file("def g(): return [], []\nimport json", "x, y = g()", service("A", "return x, y, json, g"))
    assert refused(cells, freeze=freeze, recompute=recompute).reasons == (reason,)


def test_options_where_no_value_is_needed() -> None:
    error = refused(file(service("A")), freeze=["x"])
    assert error.reasons == ("--freeze x: no service needs it; they need: no value",)
