"""Notebooks as people write them: their scripts, from a file and from a live notebook, whose cells run here."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import pytest

from nbcompose._export.cells import Cell
from tests.export.notebooks import file, lines, ran, service, sliced

torch = pytest.importorskip("torch")
pandas = pytest.importorskip("pandas")


@pytest.fixture(autouse=True)
def matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots are not what this is about."""
    for name in ("matplotlib", "matplotlib.pyplot"):
        module = ModuleType(name)
        module.__getattr__ = lambda _: MagicMock()  # type: ignore[method-assign]  # whatever it is asked for
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(sys.modules["matplotlib"], "pyplot", sys.modules["matplotlib.pyplot"], raising=False)
    monkeypatch.setattr(sys.modules["matplotlib.pyplot"], "subplots", lambda: (MagicMock(), MagicMock()), raising=False)


def live(*cells: str) -> list[Cell]:
    with contextlib.redirect_stdout(io.StringIO()):
        return ran(*cells)


BOX = """class Box:
    def __init__(self): self.items = []
    def put(self, x):
        self.items.append(x)
        return self"""
LOOK = "def look(box): return len(box.items)"
USES_BOX = service("A", "return box.items")
NET = "class Net: pass"


# -- what alters what a service uses is in the script


@pytest.mark.parametrize("source", [file, live], ids=["file", "live"])
@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([NET, "setattr(Net, 'more', lambda self: 5)", service("A", "return Net().more()")],
         ["Net", "setattr(Net, 'more', lambda self: 5)", "A"]),
        ([NET, "Net.more = lambda self: 5", service("A", "return Net().more()")],
         ["Net", "Net.more = lambda self: 5", "A"]),
        ([BOX, "box = Box()", "box.put(1).put(2)", USES_BOX], ["Box", "box = Box()", "box.put(1).put(2)", "A"]),
        ([BOX, "box = Box()", "r = box.put(3)", USES_BOX], ["Box", "box = Box()", "r = box.put(3)", "A"]),
        ([BOX, "box = Box()", "r = box.put(3).items[0]", USES_BOX],
         ["Box", "box = Box()", "r = box.put(3).items[0]", "A"]),
        ([BOX, "box = Box()", "Box.put(box, 1)", USES_BOX], ["Box", "box = Box()", "Box.put(box, 1)", "A"]),
        ([BOX, "box = Box()", "vars(box)['items'] = [1]", USES_BOX],
         ["Box", "box = Box()", "vars(box)['items'] = [1]", "A"]),
        ([BOX, "box = Box()", "box.__dict__.update(items=[1])", USES_BOX],
         ["Box", "box = Box()", "box.__dict__.update(items=[1])", "A"]),
        (["x = []", "list.append(x, 1)", service("A", "return x")], ["x = []", "list.append(x, 1)", "A"]),
        (["import functools", "x = []", "add = functools.partial(list.append, x)", "add(1)", service("A", "return x")],
         ["import functools", "x = []", "add = functools.partial(list.append, x)", "add(1)", "A"]),
        (["x = []", "_ = [x.append(i) for i in range(2)]", service("A", "return x")],
         ["x = []", "_ = [x.append(i) for i in range(2)]", "A"]),
        (["import operator", "x = []", "operator.iadd(x, [1])", service("A", "return x")],
         ["import operator", "x = []", "operator.iadd(x, [1])", "A"]),
        (["x = []", "y = x", "y += [1]", service("A", "return x")], ["x = []", "y = x", "y += [1]", "A"]),
        (["x = [[]]", "y = list(x)", "y[0].append(1)", service("A", "return x")],
         ["x = [[]]", "y = list(x)", "y[0].append(1)", "A"]),
        (["def make():\n    n = []\n    def step():\n        n.append(1)\n        return len(n)\n    return step",
          "step = make()", "first = step()", service("A", "return step()")],
         ["def make():", "step = make()", "first = step()", "A"]),
        (["known = {}", "def register(f):\n    known[f.__name__] = f\n    return f", "@register\ndef one(): return 1",
          service("A", "return known['one']()")],
         ["known = {}", "def register(f):", "@register", "A"]),
        (["kinds = []", "class Base:\n    def __init_subclass__(cls): kinds.append(cls.__name__)",
          "class Sub(Base): pass",
          service("A", "return kinds")], ["kinds = []", "Base", "Sub", "A"]),
        (["import math", "math.tau = 6", service("A", "return math.tau")], ["import math", "math.tau = 6", "A"]),
        (["import math", "setattr(math, 'tau', 6)", service("A", "return math.tau")],
         ["import math", "setattr(math, 'tau', 6)", "A"]),
        (["globals()['x'] = 5", service("A", "return x")], ["globals()['x'] = 5", "A"]),
        (["x = []", "globals()['x'].append(1)", service("A", "return x")],
         ["x = []", "globals()['x'].append(1)", "A"]),
        (["x = y = 1", "for name in 'xy': globals()[name] = 2", service("A", "return x")],
         ["x = y = 1", "for name in 'xy': globals()[name] = 2", "A"]),
    ],
)  # fmt: skip
def test_what_alters_it_is_there(source: Any, cells: list[str], expected: list[str]) -> None:
    assert lines(sliced(source(*cells))) == expected


# -- what leaves it as it was is not: in a file, what is known to; in a live notebook, what was seen to


@pytest.mark.parametrize(
    "statement",
    [
        "look(box)", "n = look(box)", "print(box.items, len(box.items))", "print(*sorted(box.items))",
        "json.dumps(box.items)",
        "[i for i in box.items]", "total = sum(box.items)", "plt.plot(box.items)",
        "fig, ax = plt.subplots(); ax.plot(box.items)",
        "for i in box.items: print(i)", "box", "box.items[:1]", "np.sum(box.items)", "df = pd.DataFrame(box.items)",
        "df = pd.DataFrame(box.items); df['b'] = 1; df.head()", "copied = list(box.items); copied.append(1)",
        "assert isinstance(box, Box)", "start = time.time(); print(time.time() - start, box)",
    ],
)  # fmt: skip
def test_what_is_known_to_look_only(statement: str) -> None:
    imports = "import json, time\nimport numpy as np\nimport pandas as pd\nimport matplotlib.pyplot as plt"
    cells = [imports, BOX, LOOK, "box = Box()", statement, USES_BOX]
    assert lines(sliced(file(*cells))) == ["Box", "box = Box()", "A"]
    assert lines(sliced(live(*cells))) == ["Box", "box = Box()", "A"]


@pytest.mark.parametrize(
    "statement",
    [
        "unheard(box)", "n = unheard(box)", "box.strange()", "with box: pass", "box.put(1); box.items.pop()",
        "try: box.put(1)\nfinally: box.items.clear()",
    ],
)  # fmt: skip
def test_values_say_what_no_text_can(statement: str) -> None:
    more = "    def strange(self): self.__dict__.get('x')\n    __enter__ = __exit__ = lambda self, *_: self.strange()"
    cells = ["from builtins import id as unheard", f"{BOX}\n{more}", "box = Box()", statement, USES_BOX]
    assert lines(sliced(live(*cells))) == ["Box", "box = Box()", "A"]
    found = lines(sliced(file(*cells)))
    assert statement.partition("\n")[0].partition(";")[0] in found or "strange" in statement


def test_a_cell_that_puts_back_what_it_took_counts_as_a_whole_where_a_part_of_it_is_needed() -> None:
    cells = live("x = [1, 2]", "last = x.pop()\nprint(last)\nx.append(last)", service("A", "return x, last"))
    assert lines(sliced(cells)) == ["x = [1, 2]", "last = x.pop()", "x.append(last)", "A"]
    cells = live("x = [1, 2]", "last = x.pop()\nprint(last)\nx.append(last)", service("A", "return x"))
    assert lines(sliced(cells)) == ["x = [1, 2]", "A"]


def test_what_cannot_be_looked_at_is_judged_by_its_text() -> None:
    cells = live("x = (i for i in [1, 2])", "head = next(x)", "print(x)", service("A", "return list(x)"))
    assert cells[2].looked is not None
    assert "x" in cells[2].looked.unknown
    assert lines(sliced(cells)) == ["x = (i for i in [1, 2])", "head = next(x)", "A"]


def test_a_change_that_no_text_shows_is_of_the_statements_that_do_something() -> None:
    """A library that keeps what it is handed, and alters it later."""
    space: dict[str, Any] = {}
    kept: list[list[int]] = []
    space |= {"keep": kept.append, "later": lambda: kept[0].append(1)}
    cells = ran("x = []", "keep(x)", "y = 1\nlater()", service("A", "return x"), namespace=space)
    found = sliced([*cells[:1], Cell("k", "In [1]", "keep = later = print"), *cells[1:]])
    assert "later()" in lines(found)


# -- training, accumulators, tables


LOOP = """for epoch in range(3):
    c = random.choice(cats)
    out = train(to_tensor(c))"""
READING = [
    "import random\nimport torch", "letters = 'abc'; n_letters = len(letters)", "cats = ['x', 'y']",
    "def to_tensor(s): return torch.zeros(n_letters) + len(s)", "rnn = torch.nn.Linear(n_letters, 2)",
    "def train(t): return rnn(t)", LOOP, service("A", "return cats[int(rnn(to_tensor('a')).argmax())]"),
]  # fmt: skip


@pytest.mark.parametrize("source", [file, live], ids=["file", "live"])
def test_a_loop_that_only_reads_is_left_out(source: Any) -> None:
    made = ["import torch", "letters = 'abc'", "n_letters = len(letters)", "cats = ['x', 'y']",
            "def to_tensor(s): return torch.zeros(n_letters) + len(s)"]  # fmt: skip
    cells = source(*READING)
    assert lines(sliced(cells)) == [*made, "rnn = torch.nn.Linear(n_letters, 2)", "A"]
    assert lines(sliced(cells, freeze=["rnn"])) == [*made, "A"]


RNN = """class RNN(nn.Module):
    def __init__(self, size, hidden, out):
        super().__init__()
        self.hidden_size = hidden
        self.i2h = nn.Linear(size + hidden, hidden)
        self.i2o = nn.Linear(hidden, out)
        self.softmax = nn.LogSoftmax(dim=1)
    def forward(self, line, hidden):
        hidden = torch.tanh(self.i2h(torch.cat((line, hidden), 1)))
        return self.softmax(self.i2o(hidden)), hidden
    def start(self):
        return torch.zeros(1, self.hidden_size)"""
NAMES = [
    "import math\nimport random\nimport time\n\nimport torch\nfrom torch import nn",
    "lines_of = {'x': ['ab', 'ba'], 'y': ['cc', 'c']}\nkinds = list(lines_of)\nn_kinds = len(kinds)",
    "letters = 'abc'\nn_letters = len(letters)",
    """def to_tensor(line):
    tensor = torch.zeros(len(line), 1, n_letters)
    for place, letter in enumerate(line):
        tensor[place][0][letters.find(letter)] = 1
    return tensor""",
    "print(to_tensor('ab').size())",
    RNN,
    "rnn = RNN(n_letters, 8, n_kinds)",
    "hidden = rnn.start()\noutput, hidden = rnn(to_tensor('abc')[0], hidden)\nprint(output)",
    "def kind_of(output):\n    values, places = output.topk(1)\n    return kinds[places[0].item()]",
    """def example():
    kind = random.choice(kinds)
    line = random.choice(lines_of[kind])
    return kind, line, torch.tensor([kinds.index(kind)]), to_tensor(line)

for _ in range(3):
    kind, line, _, _ = example()
    print(kind, line)""",
    "criterion = nn.NLLLoss()\nrate = 0.05",
    """def train(wanted, line):
    hidden = rnn.start()
    rnn.zero_grad()
    for i in range(line.size()[0]):
        output, hidden = rnn(line[i], hidden)
    loss = criterion(output, wanted)
    loss.backward()
    for p in rnn.parameters():
        p.data.add_(p.grad.data, alpha=-rate)
    return output, loss.item()""",
    """def since(begun):
    seconds = time.time() - begun
    return f'{math.floor(seconds / 60)}m {seconds % 60:.0f}s'

begun = time.time()
total, losses = 0, []
for step in range(1, 41):
    kind, line, wanted, tensor = example()
    output, loss = train(wanted, tensor)
    total += loss
    if step % 10 == 0:
        print(step, since(begun), loss, line, kind_of(output) == kind)
        losses.append(total / 10)
        total = 0""",
    "import matplotlib.pyplot as plt\nplt.figure()\nplt.plot(losses)",
    """def evaluate(line):
    hidden = rnn.start()
    for i in range(line.size()[0]):
        output, hidden = rnn(line[i], hidden)
    return output

confusion = torch.zeros(n_kinds, n_kinds)
for _ in range(20):
    kind, line, wanted, tensor = example()
    confusion[kinds.index(kind)][kinds.index(kind_of(evaluate(tensor)))] += 1
for i in range(n_kinds):
    confusion[i] = confusion[i] / confusion[i].sum()
fig = plt.figure()
ax = fig.add_subplot(111)
cax = ax.matshow(confusion.numpy())
fig.colorbar(cax)
ax.set_xticks(range(n_kinds), labels=kinds, rotation=90)
plt.show()""",
    """def predict(line):
    print('>', line)
    with torch.no_grad():
        print(kind_of(evaluate(to_tensor(line))))

predict('ab')""",
    service("A", "return kind_of(evaluate(to_tensor('ab')))"),
]
SHARED = ["lines_of = {'x': ['ab', 'ba'], 'y': ['cc', 'c']}", "kinds = list(lines_of)"]
ALPHABET = ["letters = 'abc'", "n_letters = len(letters)", "def to_tensor(line):"]


@pytest.mark.parametrize("source", [file, live], ids=["file", "live"])
def test_names_that_a_network_learns(source: Any) -> None:
    """The classic tutorial, in short: its plots, tries and confusion are not the service's."""
    cells = source(*NAMES)
    assert lines(sliced(cells)) == [
        "import math", "import random", "import time", "import torch", "from torch import nn",
        *SHARED, "n_kinds = len(kinds)", *ALPHABET, "RNN", "rnn = RNN(n_letters, 8, n_kinds)", "def kind_of(output):",
        "def example():", "criterion = nn.NLLLoss()", "rate = 0.05", "def train(wanted, line):", "def since(begun):",
        "begun = time.time()", "total, losses = 0, []", "for step in range(1, 41):", "def evaluate(line):", "A",
    ]  # fmt: skip
    assert lines(sliced(cells, freeze=["rnn"])) == [
        "import torch", *SHARED, *ALPHABET, "def kind_of(output):", "def evaluate(line):", "A",
    ]  # fmt: skip


USES_MODEL = service("A", "return model(torch.ones(1))")
MODEL = "model = torch.nn.Linear(1, 1)"


@pytest.mark.parametrize("source", [file, live], ids=["file", "live"])
@pytest.mark.parametrize(
    ("cells", "kept", "frozen"),
    [
        (["device = torch.device('cpu')\nmodel.to(device, torch.float64)"],
         ["device = torch.device('cpu')", "model.to(device, torch.float64)"], []),
        (["for p in model.parameters(): p.requires_grad_(False)"],
         ["for p in model.parameters(): p.requires_grad_(False)"], []),
        (["model.requires_grad_(False)"], ["model.requires_grad_(False)"], []),
        (["opt = torch.optim.SGD(model.parameters(), lr=0.1)", "losses = []",
          "for _ in range(2):\n    loss = model(torch.ones(1)).sum()\n    opt.zero_grad()\n    loss.backward()\n    "
          "opt.step()\n    losses.append(loss.item())", "print(losses)"],
         ["opt = torch.optim.SGD(model.parameters(), lr=0.1)", "losses = []", "for _ in range(2):"], []),
        (["loss = model(torch.ones(1)).sum()", "loss.backward()",
          "with torch.no_grad(): model.weight -= model.weight.grad"],
         ["loss = model(torch.ones(1)).sum()", "loss.backward()",
          "with torch.no_grad(): model.weight -= model.weight.grad"], []),
        (["model.load_state_dict(model.state_dict())", "model.eval()"], None, []),
    ],
)  # fmt: skip
def test_training(source: Any, cells: list[str], kept: Sequence[str] | None, frozen: Sequence[str]) -> None:
    notebook = source("import torch", MODEL, *cells, USES_MODEL)
    if kept is not None:
        assert lines(sliced(notebook)) == ["import torch", MODEL, *kept, "A"]
    assert lines(sliced(notebook, freeze=["model"])) == ["import torch", *frozen, "A"]


@pytest.mark.parametrize("source", [file, live], ids=["file", "live"])
@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ("df.fillna(0, inplace=True)", True), ("df['b'] = df['a'] * 2", True), ("df = df.fillna(0)", True),
        ("df.fillna(0)", False), ("df.head()", False), ("df.describe()", False), ("print(df.shape)", False),
        ("means = df.mean()", False), ("small = df.dropna(); small['c'] = 1", False),
    ],
)  # fmt: skip
def test_tables(source: Any, change: str, kept: bool) -> None:
    cells = source("import pandas as pd", "df = pd.DataFrame({'a': [1.0, None]})", change, service("A", "return df"))
    found = lines(sliced(cells))
    assert (change in found) is kept
    assert lines(sliced(cells, freeze=["df"])) == ["A"]
