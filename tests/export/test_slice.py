"""Which statements services need, and in which order."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbcompose._export.cells import read_cells
from nbcompose._export.slice import needed
from nbcompose._export.statements import statements_of
from tests.export.notebooks import file, lines, live, service, sliced

A = service("A", "return x")


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        # values
        (["x = 1", "y = 2", A], ["x = 1", "A"]),
        (["y = 2", "x = y", A], ["y = 2", "x = y", "A"]),
        (["x = 1", "x = 2", A], ["x = 2", "A"]),
        (["n = 1", service("A", "return n", top="size = n"), "n = 2"], ["n = 1", "A", "n = 2"]),
        (["x = 1", A, "x = 2"], ["x = 2", "A"]),  # the method reads it when it is called: the last counts
        (["x = 1", "x = x + 1", A], ["x = 1", "x = x + 1", "A"]),
        (["def f(): return 1, 2", "x, y = f()", A], ["def f(): return 1, 2", "x, y = f()", "A"]),
        (["x = 1; y = 2", A], ["x = 1", "A"]),
        (["with open('p') as p: x = p.read()", A], ["with open('p') as p: x = p.read()", "A"]),
        (["[x := i for i in (1, 2)]", A], ["[x := i for i in (1, 2)]", "A"]),
        (["for x in 1, 2: pass", A], ["for x in 1, 2: pass", "A"]),
        (["x: int = 1", A], ["x: int = 1", "A"]),
        # at once: the nearest above
        (["n = 1", "x = n", "n = 2", A], ["n = 1", "x = n", "A"]),
        (["n = 1", "x = n", "n = 2", service("A", "return x, n")], ["n = 1", "x = n", "n = 2", "A"]),
        (["n = 1", service("A", top="size = n"), "n = 2"], ["n = 1", "A"]),
        (["n = 1", "%%service\nclass A:\n    @api\n    def f(self, a=n): pass", "n = 2"], ["n = 1", "A"]),
        # what is altered
        (["x = []", "x.append(1)", A], ["x = []", "x.append(1)", "A"]),
        (["x = []", A, "x.append(1)"], ["x = []", "x.append(1)", "A"]),
        (["x = []; x.append(1); x.append(1)", A], ["x = []", "x.append(1)", "x.append(1)", "A"]),
        (["x = [0]", "x[0] = 1", "del x[0]", A], ["x = [0]", "x[0] = 1", "del x[0]", "A"]),
        (["x = 0", "x += 1", A], ["x = 0", "x += 1", "A"]),
        (["def f(): return 1", "x = f()", "x.a.b = 1", A], ["def f(): return 1", "x = f()", "x.a.b = 1", "A"]),
        (["x = []", "x.append(1)", "x = [2]", A], ["x = [2]", "A"]),
        (["x = []", "y = x", "y.append(1)", A], ["x = []", "y = x", "y.append(1)", "A"]),
        (["x = y = []", "y.append(1)", A], ["x = y = []", "y.append(1)", "A"]),
        (["x = [[]]", "for i in x: i.append(1)", A], ["x = [[]]", "for i in x: i.append(1)", "A"]),
        (["import random", "x = [1, 2]", "random.shuffle(x)", A],
         ["import random", "x = [1, 2]", "random.shuffle(x)", "A"]),
        (["x = []", "def g(v): v.append(1)", "g(x)", A], ["x = []", "def g(v): v.append(1)", "g(x)", "A"]),
        (["x = []", "def g(): x.append(1)", "g()", A], ["x = []", "def g(): x.append(1)", "g()", "A"]),
        (["x = []", "def g(): h()", "def h(): x.append(1)", "y = g()", A],
         ["x = []", "def g(): h()", "def h(): x.append(1)", "y = g()", "A"]),
        (["def g():\n    global x\n    x = 1", "g()", A], ["def g():", "g()", "A"]),
        # what is altered by a call whose result is used
        (["import numpy as np\nrng = np.random.default_rng(0)", "y = rng.normal()", "x = rng.normal()", A],
         ["import numpy as np", "rng = np.random.default_rng(0)", "y = rng.normal()", "x = rng.normal()", "A"]),
        (["def make(): pass", "x = make()", "y = x.fit_transform([1])", A],
         ["def make(): pass", "x = make()", "y = x.fit_transform([1])", "A"]),
        (["import csv", "x = csv.reader(open('p'))", "head = next(x)", A],
         ["import csv", "x = csv.reader(open('p'))", "head = next(x)", "A"]),
        (["x = open('p')", "head = x.readline()", A], ["x = open('p')", "head = x.readline()", "A"]),
        (["def make(): pass", "x = make()", "x.read('settings.ini')", A],
         ["def make(): pass", "x = make()", "x.read('settings.ini')", "A"]),
        (["import heapq", "x = [1, 2]", "y = heapq.heappop(x)", A],
         ["import heapq", "x = [1, 2]", "y = heapq.heappop(x)", "A"]),
        (["import numpy as np", "x = np.zeros(1)", "np.add(x, 1, out=x)", A],
         ["import numpy as np", "x = np.zeros(1)", "np.add(x, 1, out=x)", "A"]),
        (["x = []", "def g(v): v.append(1)", "y = g(x)", A], ["x = []", "def g(v): v.append(1)", "y = g(x)", "A"]),
        (["x = []", "def h(v): v.append(1)", "def g(v): return h(v)", "y = g(x)", A],
         ["x = []", "def h(v): v.append(1)", "def g(v): return h(v)", "y = g(x)", "A"]),
        (["x = []", "def h(v): v.append(1)", "def g(): return h(x)", "for i in 1, 2: y = g()", A],
         ["x = []", "def h(v): v.append(1)", "def g(): return h(x)", "for i in 1, 2: y = g()", "A"]),
        (["x = [1]", "def g(v): return len(v)", "y = g(x)", A], ["x = [1]", "A"]),
        (["x = [1]", "def g(v):\n    v = v.copy()\n    v.append(1)", "y = g(x)", A], ["x = [1]", "A"]),
        (["x = [1]", "def g(v):\n    v.eval()\n    return v", "y = g(x)", A], ["x = [1]", "A"]),
        (["x = [1]", "def g(v):\n    v = v.to('cpu')\n    v.append(1)", "y = g(x)", A],
         ["x = [1]", "def g(v):", "y = g(x)", "A"]),
        # an optimizer has the parameters of the model that it was made for
        (["import torch", "x = torch.nn.Linear(1, 1)", "o = torch.optim.SGD(x.parameters(), lr=1)",
          "for i in range(2):\n    x(i).backward()\n    o.step()", A],
         ["import torch", "x = torch.nn.Linear(1, 1)", "o = torch.optim.SGD(x.parameters(), lr=1)",
          "for i in range(2):", "A"]),
        (["import torch", "x = torch.nn.Linear(1, 1)", "o = torch.optim.SGD([p for p in x.parameters() if p])",
          "o.step()", A],
         ["import torch", "x = torch.nn.Linear(1, 1)", "o = torch.optim.SGD([p for p in x.parameters() if p])",
          "o.step()", "A"]),
        (["import torch", "x = torch.nn.Linear(1, 1)", "o = torch.optim.SGD(x.parameters())", "x = x.to('cpu')",
          "o.step()", A],
         ["import torch", "x = torch.nn.Linear(1, 1)", "o = torch.optim.SGD(x.parameters())", "x = x.to('cpu')",
          "o.step()", "A"]),
        # what only looks
        (["x = [1]", "print(x)", "x.count(1)", "len(x)", "x", A], ["x = [1]", "A"]),
        (["x = [1]", "def show(v): print(v)", "show(x)", A], ["x = [1]", "A"]),
        (["import pandas", "x = pandas.DataFrame()", "x.sort_values('a')", "x.drop(columns=['a'], inplace=True)", A],
         ["import pandas", "x = pandas.DataFrame()", "x.drop(columns=['a'], inplace=True)", "A"]),
        (["x = [1]", A, "A.f(x)", "A.to_async.f(x)", "y = A.f(x)"], ["x = [1]", "A"]),
        (["x = 'text'", "def g(v): v.append(1)", "g(x)", A], ["x = 'text'", "A"]),  # nothing alters a text
        (["import nbcompose", "x = [1]", "nbcompose.serve(x)", A], ["x = [1]", "A"]),
        # modules: seeds and settings, not what is looked at
        (["import numpy as x", "x.random.seed(0)", "x.mean([1])", A], ["import numpy as x", "x.random.seed(0)", "A"]),
        (["import x", "x.limit = 3", "x.set_limit(3)", A], ["import x", "x.limit = 3", "x.set_limit(3)", "A"]),
        (["import logging", "x = logging.getLogger()", "x.setLevel(3)", "x.info('a')", A],
         ["import logging", "x = logging.getLogger()", "x.setLevel(3)", "A"]),
        (["import logging", "logger = logging.getLogger()", "logger.setLevel(3)", "logger.info('a')",
          service("A", "logger")],
         ["import logging", "logger = logging.getLogger()", "logger.setLevel(3)", "A"]),
        # environment variables are those of the services
        (["import os", "os.environ['A'] = 'b'", service()], ["import os", "os.environ['A'] = 'b'", "A"]),
        (["import os", "print(os.environ['A'])", service()], ["A"]),
        # branches
        (["x = 1", "y = 3", "if y: x = 2", A], ["x = 1", "y = 3", "if y: x = 2", "A"]),
        (["x = 1", "y = 3", "if y: x = 2\nelse: x = 4", A], ["y = 3", "if y: x = 2", "A"]),
        (["try: import x\nexcept ImportError: x = None", A], ["try: import x", "A"]),
        (["if True:\n    def x(): pass\nelse:\n    def x(): return 1", A], ["if True:", "A"]),
        (["y = 1", "for i in 1, 2:\n    if i: x = y", A], ["y = 1", "for i in 1, 2:", "A"]),
        # functions
        (["def x(): return y", "y = 1", A], ["def x(): return y", "y = 1", "A"]),
        (["def x(): return x()", A], ["def x(): return x()", "A"]),
        (["def x(): return y()", "def y(): return x()", A], ["def x(): return y()", "def y(): return x()", "A"]),
        (["def make(): return helper()", "def helper(): return 1", "x = make()", A],
         ["def make(): return helper()", "def helper(): return 1", "x = make()", "A"]),
        (["def helper(): return 1", "def make(): return helper()", "x = make()", "def helper(): return 2", A],
         ["def helper(): return 1", "def make(): return helper()", "x = make()", "def helper(): return 2", "A"]),
        (["w = {1: 2}", "x = sorted([1], key=lambda i: w[i])", A],
         ["w = {1: 2}", "x = sorted([1], key=lambda i: w[i])", "A"]),
        (["def d(f): return f", "@d\ndef x(): pass", A], ["def d(f): return f", "@d", "A"]),
        (["n = 1", "def x(a=n): pass", A], ["n = 1", "def x(a=n): pass", "A"]),
        (["n = 1", "x = lambda a=n: a", A], ["n = 1", "x = lambda a=n: a", "A"]),
        # shadowed builtins
        (["len = 3", service("A", "return len")], ["len = 3", "A"]),
        (["x = len([])", "len = 3", A], ["x = len([])", "A"]),
        # imports come first, wherever they are
        (["x = 1", "import json", service("A", "return json, x")], ["import json", "x = 1", "A"]),
        (["import a.b", "import a.c", "import d.e", service("A", "return a.b, a.c")],
         ["import a.b", "import a.c", "A"]),
        (["import json as j", "from a import b as c", service("A", "return j, c")],
         ["import json as j", "from a import b as c", "A"]),
        # annotations: the linter wants their names
        (["class T: pass", "def x(a: 'T'): pass", A], ["T", "def x(a: 'T'): pass", "A"]),
        (["def x(a: 'Unknown'): pass", A], ["def x(a: 'Unknown'): pass", "A"]),
        (["class T: pass", service("A", "v: T = 1")], ["T", "A"]),
        # deleted names that nobody needs, and names set anew
        (["x = 1", "y = 2", "del y", A], ["x = 1", "A"]),
        (["x = 1", "del x", "x = 2", A], ["x = 2", "A"]),
        # classes
        (["class B: pass", "x = B()", A], ["B", "x = B()", "A"]),
        (["class B:\n    def m(self): return y", "y = 1", "x = B()", A], ["B", "y = 1", "x = B()", "A"]),
    ],
)  # fmt: skip
def test_what_is_needed(cells: list[str], expected: list[str]) -> None:
    assert lines(sliced(file(*cells))) == expected


def test_what_is_called_at_once_comes_before_though_it_stands_below() -> None:
    """The cells ran in another order than they stand in: a file is read from the top."""
    cells = file("def make(): return helper()", "x = make()", "def helper(): return 1", A)
    assert lines(sliced(cells)) == ["def make(): return helper()", "def helper(): return 1", "x = make()", "A"]


def test_comments_and_docstrings_stay() -> None:
    [_, statement] = sliced(file("# what it is\nx = 1  # one", A)).statements[:2]
    assert statement.text == "# what it is\nx = 1  # one"


def test_the_future_import_is_needed_where_it_was_in_force() -> None:
    future = "from __future__ import annotations"
    assert lines(sliced(file(future, A.replace("return x", "return 1")))) == [future, "A"]
    assert lines(sliced(file("x = 1", A, future))) == ["x = 1", "A"]


# Services


def test_services_come_in_dependency_order() -> None:
    cells = file(service("B"), service("C", top="b = depends(B)"), service("A", top="b = depends(B); c = depends('C')"))
    found = sliced(cells)
    assert found.services == ("B", "C", "A")
    assert found.entries == ("A",)


def test_cells_of_services_may_come_in_any_order() -> None:
    cells = file(service("A", top="b = depends('B')"), "x = 1", service("B", "return x"))
    found = sliced(cells)
    assert found.services == ("B", "A")
    assert lines(found) == ["x = 1", "B", "A"]


def test_a_service_that_runs_again_counts_as_its_last_version_for_dependents_above_too() -> None:
    cells = file(service("B", "return 1"), service("A", top="b = depends(B)"), service("B", "return 2"))
    found = sliced(cells)
    assert found.services == ("B", "A")
    assert "return 2" in found.statements[1].text


def test_registered_names() -> None:
    cells = file(
        service("B", line="--name writer"),
        service("C").replace("class", "@service(name='reader')\nclass"),
        service("A", top="b = depends('writer'); c = depends('reader')"),
        "from nbcompose import service",
    )
    cells = [cells[0], cells[4], *cells[1:4]]
    assert sliced(cells).services == ("B", "C", "A")
    assert sliced(cells, ["writer"]).entries == ("B",)
    assert sliced(cells, ["reader"]).services == ("C",)


def test_dependencies_of_bases_and_helpers() -> None:
    base = "class Base:\n    b = depends(B)"
    found = sliced(file(service("B"), base, service("A", base="(Base)")))
    assert (found.services, found.entries) == (("B", "A"), ("A",))


def test_entries() -> None:
    cells = file(service("A"), service("B"), service("C", top="a = depends(A)"))
    assert sliced(cells).entries == ("B", "C")
    assert sliced(cells, ["C", "B"]).entries == ("C", "B")
    assert sliced(cells, ["A"]).services == ("A",)


def test_only_classes_with_an_api_are_services() -> None:
    found = sliced(file("%%service\nclass H: pass\n" + service("A", "return H()").partition("\n")[2]))
    assert found.services == ("A",)
    assert lines(found) == ["H", "A"]


def test_other_names_for_the_decorators() -> None:
    imports = "from nbcompose import api as endpoint, service as served"
    a = service("A", top="b = depends('B')").replace("@api", "@endpoint")
    b = "@served\nclass B:\n    @endpoint\n    def f(self): pass"
    found = sliced(file(imports, b, a))
    assert (found.services, found.entries) == (("B", "A"), ("A",))


def test_a_script_gives_the_same() -> None:
    text = (
        "# /// script\n# dependencies = []\n# ///\n"
        '"""From a notebook."""\n\nimport nbcompose\nfrom nbcompose import api, depends, service\n\nx = 1\n\n\n'
        "@service\nclass A:\n    @api\n    def f(self): return x\n\n\n"
        'if __name__ == "__main__":\n    nbcompose.serve(A)\n'
    )
    found = sliced(file(text)[1:])
    assert lines(found)[-2:] == ["x = 1", "A"]
    assert [s.options for s in found.statements if s.names.defines == {"A"}] == [None]
    assert found.entries == ("A",)


# Runs of a live notebook


def test_a_cell_that_ran_again_counts_once() -> None:
    cells = live(
        ("i", "import json"), ("x", "x = [json]"), ("i", "import json"), ("x", "x = [json]"), ("A", A), ("A", A)
    )
    assert lines(sliced(cells)) == ["import json", "x = [json]", "A"]


def test_a_cell_that_ran_again_with_another_source() -> None:
    assert lines(sliced(live(("x", "x = 1"), ("A", A), ("x", "x = 2")))) == ["x = 2", "A"]


def test_the_same_import_in_a_cell_that_was_edited_is_the_same() -> None:
    cells = live(("i", "import json"), ("x", "x = json.loads('1')"), ("i", "import json\nimport os"), ("A", A))
    assert lines(sliced(cells)) == ["import json", "x = json.loads('1')", "A"]


def test_values_are_made_anew_by_a_run_that_starts_over() -> None:
    cells = live(("x", "x = []"), ("y", "x.append(1)"), ("x", "x = []"), ("y", "x.append(1)"), ("A", A))
    assert lines(sliced(cells)) == ["x = []", "x.append(1)", "A"]


def test_a_column_that_was_made_again() -> None:
    cells = live(("x", "x = dict(a=1)"), *[("y", "x['b'] = x['a'] * 2")] * 2, ("A", A))
    assert lines(sliced(cells)) == ["x = dict(a=1)", "x['b'] = x['a'] * 2", "A"]


@pytest.mark.parametrize("call", ["g(x)", "y = g(x)"])
def test_a_function_that_makes_a_column_was_called_again(call: str) -> None:
    g = "def g(t):\n    t['b'] = t['a'] * 2\n    return t"
    cells = live(("x", "x = dict(a=1)"), ("g", g), ("y", call), ("y", call), ("A", A))
    assert lines(sliced(cells)) == ["x = dict(a=1)", "def g(t):", call, "A"]


def test_doing_again_what_makes_no_difference() -> None:
    cells = live(("x", "x = {}"), *[("y", "x['a'] = 1")] * 2, *[("z", "x.update(b=2)")] * 2, ("A", A))
    assert lines(sliced(cells)) == ["x = {}", "x['a'] = 1", "x.update(b=2)", "A"]


def test_the_version_that_serves() -> None:
    cells = live(("A", service("A", "return 1")), ("A", service("A", "return 2")))
    assert "return 2" in sliced(cells).statements[-1].text
    found = sliced(cells, versions={"A": "In [2]"})
    assert "return 1" in found.statements[-1].text
    assert found.notes == ("A: the script has the version that serves, of In [2]; In [3] has another",)
    assert sliced(cells, versions={"A": "In [3]", "B": "In [9]"}).notes == ()


def test_a_version_that_failed_does_not_serve() -> None:
    cells = live(("A", service("A", "return 1")), ("A", service("A", "return 2"), {"failed": True}))
    assert "return 1" in sliced(cells).statements[-1].text


def test_a_rollback_in_a_file() -> None:
    cells = file(service("A", "return 1"), service("A", "return 2"), "%services rollback A")
    found = sliced(cells)
    assert "return 1" in found.statements[-1].text
    assert found.notes == ("cell 4: `%services rollback A`: the script has the version of cell 2",)
    later = sliced(
        file(service("A", "return 1"), service("A", "return 2"), "%services rollback A", service("A", "return 3"))
    )
    assert "return 3" in later.statements[-1].text


# Options, notes


def test_frozen_names_are_not_followed() -> None:
    found = sliced(file("y = 1", "x = [y]", "x.append(2)", A), freeze=["x"])
    assert lines(found) == ["A"]
    assert found.frozen == ("x",)


def test_a_name_that_no_cell_sets_can_be_frozen() -> None:
    assert sliced(file(A), freeze=["x"]).frozen == ("x",)


def test_costly_values_can_be_worked_out_again() -> None:
    cells = live(("f", "def f(): pass"), ("x", "x = f()", {"seconds": 61.0}), ("A", A))
    assert lines(sliced(cells, recompute=["x"])) == ["def f(): pass", "x = f()", "A"]


@pytest.mark.parametrize("source", ["def x(): pass", "class x: pass", "import x", "x = 1"])
def test_what_costs_nothing_may_be_in_a_cell_that_took_long(source: str) -> None:
    assert lines(sliced(live(("x", source, {"seconds": 3600.0}), ("A", A))))[-1] == "A"


def test_dropped_magics_are_told_once() -> None:
    cells = live(("p", "!pip install x"), ("p", "!pip install x"), ("m", "%matplotlib inline"), ("b", "%%bash\nls"),
                 ("A", service()), ("f", "!false", {"failed": True}), ("e", "!old"), ("e", "1"))  # fmt: skip
    assert sliced(cells).notes == (
        "In [2]: `!pip install x` is not part of the script",
        "In [3]: `!pip install x` is not part of the script",
        "In [5]: `%%bash` is not part of the script",
    )


def test_settings_of_nobody_knows_what_are_told() -> None:
    cells = file("from transformers import set_seed\n# again\nset_seed(1)", "def set_up(): pass\nset_up()", service())
    assert sliced(file("import sys; sys.path.insert(0, '..')", service())).notes == (
        "cell 2, line 1: `sys.path.insert(0, '..')` is not part of the script: no service needs what it sets",
    )
    assert sliced(cells).notes == (
        "cell 2, line 3: `set_seed(1)` is not part of the script: no service needs what it sets",
    )


@pytest.mark.parametrize(
    ("cells", "name"),
    [
        (["import numpy as np\nnp.random.seed(0)", "y = np.random.rand()", "x = np.random.rand()"], "np"),
        (["import random\nrandom.seed(0)", "y = random.choice([1])", "x = random.choice([1])"], "random"),
        (["import torch\ntorch.manual_seed(0)", "y = torch.randn(1)", "x = torch.randn(1)"], "torch"),
        (["import numpy as np\nnp.random.seed(0)", "x = np.random.rand()", "y = np.random.rand()"], ""),
        (["import numpy as np\nnp.random.seed(0)", "y = np.zeros(1)", "x = np.random.rand()"], ""),
        (["import numpy as np", "y = np.random.rand()", "x = np.random.rand()"], ""),
    ],
)
def test_random_numbers_that_are_drawn_only_in_the_notebook_are_told(cells: list[str], name: str) -> None:
    note = (
        f"cell 3, line 1 draws random numbers from `{name}`, and the script does not: those that it draws are others "
        "than here; --freeze NAME keeps a value as it is"
    )
    assert sliced(file(*cells, A)).notes == ((note,) if name else ())


# The project's notebooks


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("quickstart", ["import json", "from collections.abc import AsyncIterator, Iterator",
                        "from pathlib import Path",
                        "import numpy as np", "from nbcompose.llms import TextGenerator",
                        "from nbcompose.models import HuggingFaceModel", "passages", "Embedder", "Writer", "Answer"]),
        ("sequential", ["from typing import Any, Dict", "import nbcompose as bentoml",
                        "from nbcompose.models import HuggingFaceModel", "from transformers import pipeline",
                        "PreprocessingService", "InferenceService"]),
        ("concurrent", ["import asyncio", "from typing import Any, Dict, List", "import nbcompose as bentoml",
                        "from nbcompose.models import HuggingFaceModel", "from transformers import pipeline",
                        "ModelAService", "ModelBService", "EnsembleService"]),
        ("several_models", ["from typing import List", "import nbcompose as bentoml",
                            "from nbcompose.models import HuggingFaceModel", "from transformers import pipeline",
                            "MultiModelService"]),
        ("inference_graph", ["import asyncio", "import typing as t", "import nbcompose as bentoml",
                             "import transformers",
                             "MAX_LENGTH", "NUM_RETURN_SEQUENCE", "GPT2", "DistilGPT2", "BertBaseUncased",
                             "InferenceGraph"]),
        ("streams", ["from collections.abc import AsyncIterator, Iterator",
                     "from nbcompose import api, depends, streams", "from nbcompose.llms import TextGenerator",
                     "from nbcompose.models import HuggingFaceModel", "Writer", "Rewriter", "Pipeline"]),
    ],
)  # fmt: skip
def test_notebooks(name: str, expected: list[str]) -> None:
    path = Path(__file__).parents[2] / "notebooks" / f"{name}.ipynb"
    found = needed(statements_of(read_cells(path)))
    own, imports = "from nbcompose import api, depends", ("import", "from")
    kept = [s for s in found.statements if s.text != own]
    found_lines = [s.text if s.text.startswith(imports) else min(s.names.defines) for s in kept]
    assert found_lines == expected
    assert found.entries == (expected[-1],)


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (["import torch", "x = torch.nn.Linear(1, 1)"], True),
        (["import torch", "torch.manual_seed(0)", "x = torch.nn.Linear(1, 1)"], False),
        (["import torch", "from transformers import set_seed", "set_seed(0)\nx = torch.rand(1)"], True),  # not in it
        (["import random", "def pick(): return random.choice([1, 2])", "x = pick()"], True),
        (["import numpy as np", "x = np.random.normal()"], True),
        (["import numpy as np", "np.random.seed(1)", "x = np.random.normal()"], False),
        (["import numpy as np", "x = np.random.default_rng(1)"], False),
        (["import numpy as np", "x = np.random.default_rng()"], True),
        (["import torch.nn as nn", "class Net(nn.Module):\n    def __init__(self): self.layer = nn.Linear(1, 1)",
          "x = Net()"], True),
        (["import torch", "x = torch.nn.ReLU()"], False),
        (["x = 1"], False),
    ],
)  # fmt: skip
def test_random_numbers_that_nothing_has_seeded(cells: list[str], told: bool) -> None:
    number = next(i for i, text in enumerate(cells, 2) if text.rpartition("\n")[2].startswith("x ="))
    line = cells[number - 2].count("\n") + 1
    expected = (
        f"cell {number}, line {line} draws random numbers that nothing has seeded: `x` may be different each time: "
        "--freeze x keeps what is here"
    )
    assert sliced(file(*cells, A)).unseeded == ((expected,) if told else ())
