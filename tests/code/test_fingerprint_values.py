"""Values of the notebook that a service uses: changed in place, bound anew, large, or not to be told."""

from __future__ import annotations

import threading
import types

import numpy as np
import pytest

from nbcompose._code import fingerprint
from nbcompose._code.diff import compare
from tests.code.conftest import F, Notebook, answer, check

VALUE = answer("self.x = 1", F, "def g(self):\n    return DATA")


def test_an_array(notebook: Notebook) -> None:
    notebook.run("DATA = np.arange(6)")
    before = notebook.serve(VALUE)
    notebook.run("DATA = np.arange(6)")
    check(compare(before, notebook.version()), "nothing", "")
    notebook.run("DATA[2] = 7")
    check(compare(before, notebook.version()), "swap", "DATA changed")
    notebook.run("DATA[2] = 2")
    check(compare(before, notebook.version()), "nothing", "")
    notebook.run("DATA = DATA.reshape(2, 3)")
    check(compare(before, notebook.version()), "swap", "DATA changed")


def test_a_table(notebook: Notebook) -> None:
    pytest.importorskip("pandas")
    notebook.run("import pandas\nDATA = pandas.DataFrame({'a': [1, 2], 'b': ['x', 'y']})")
    before = notebook.serve(VALUE)
    notebook.run("DATA.describe(), DATA['a'].sum(), DATA.loc[0]")
    check(compare(before, notebook.version()), "nothing", "")
    notebook.run("DATA.loc[0, 'a'] = 5")
    check(compare(before, notebook.version()), "swap", "DATA changed")


def test_a_tensor(notebook: Notebook) -> None:
    pytest.importorskip("torch")
    notebook.run("import torch\nDATA = [torch.arange(6.0)]")
    before = notebook.serve(VALUE)
    notebook.run("OLD, DATA = DATA, [torch.arange(6.0)]")
    check(compare(before, notebook.version()), "nothing", "")
    notebook.run("DATA[0][1] = 5")
    check(compare(before, notebook.version()), "swap", "DATA changed")


@pytest.mark.parametrize(
    "form", ["{}", "[1, {}]", "dict(a={})", "partial(print, {})", "Box({})", "(lambda x: lambda: x)({})"]
)
def test_a_large_array(notebook: Notebook, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """It is not looked at again while it is the same object; by `known`, which the look after each cell gives."""
    monkeypatch.setattr(fingerprint, "LIMIT", 100)
    notebook.run("class Box:\n    def __init__(self, x):\n        self.x = x")
    notebook.run(f"BIG = np.zeros(1000)\nDATA = {form.format('BIG')}")
    before = notebook.serve(VALUE)
    assert compare(before, notebook.version(before[1])).action == "nothing"
    notebook.run(f"OLD = BIG\nBIG = np.zeros(1000)\nDATA = {form.format('BIG')}")
    assert compare(before, notebook.version(before[1])).action == "nothing"
    notebook.run(f"BIG = np.ones(1000)\nDATA = {form.format('BIG')}")
    changed = notebook.version(before[1])
    check(compare(before, changed), "swap", "DATA changed")
    notebook.run(f"BIG = OLD\nBIG[3] = 5\nDATA = {form.format('BIG')}")
    assert compare(before, notebook.version(before[1])).action == "nothing"  # in place: not seen
    check(compare(before, notebook.version()), "swap", "DATA changed")  # seen by who looks at all of it


def test_a_large_array_of_the_class(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same name, another value: neither is taken for the other."""
    monkeypatch.setattr(fingerprint, "LIMIT", 100)
    notebook.run("DATA = np.zeros(1000)\nOTHER = np.ones(1000)")
    text = answer("", "DATA = OTHER\ndef g(self):\n    return DATA")
    before = notebook.serve(text)
    check(compare(before, notebook.version(before[1])), "nothing", "")
    notebook.run("DATA = np.full(1000, 2.0)")
    check(compare(before, notebook.version(before[1])), "swap", "DATA changed")
    notebook.run("OTHER = np.full(1000, 3.0)")
    check(compare(before, notebook.serve(text)), "replace", "class attribute Answer.DATA changed")


@pytest.mark.parametrize(
    "value",
    ["(i for i in range(3))", "threading.Lock()", "nested(100_000)"],
)
def test_what_cannot_be_told_is_like_no_other(notebook: Notebook, value: str) -> None:
    notebook.space["threading"] = threading
    notebook.run("def nested(n):\n    x = []\n    for _ in range(n):\n        x = [x]\n    return x")
    notebook.run(f"DATA = {value}")
    before = notebook.serve(VALUE)
    check(compare(before, notebook.version()), "swap", "DATA changed")


def test_values_that_hold_themselves(notebook: Notebook) -> None:
    notebook.run("DATA = [1]\nDATA.append(DATA)")
    before = notebook.serve(VALUE)
    check(compare(before, notebook.version()), "nothing", "")
    notebook.run("DATA.append(2)")
    check(compare(before, notebook.version()), "swap", "DATA changed")


def test_an_import_elsewhere_changes_nothing(notebook: Notebook) -> None:
    """Which modules of a package are imported is no part of what a function means."""
    notebook.run("import xml\ndef use():\n    return xml.sax\nDATA = {'a': use}")
    before = notebook.serve(VALUE)
    notebook.run("import xml.sax")
    check(compare(before, notebook.version()), "nothing", "")


def test_names_that_the_code_sets_itself(notebook: Notebook) -> None:
    text = "MODEL = None\n" + answer("global MODEL\nMODEL = load()", F, "def g(self):\n    return MODEL")
    text = "def load():\n    global COUNT\n    COUNT = 1\n" + text
    before = notebook.serve(text)
    assert before[1].stores == {"MODEL", "COUNT"}
    check(compare(before, notebook.serve(text.replace("'old'", "'new'"))), "swap", "Answer.f changed")
    check(compare(before, notebook.serve(text.replace("MODEL = None", "MODEL = 1"))), "replace", "MODEL changed, which")


def test_functions_that_call_each_other(notebook: Notebook) -> None:
    text = "def even(n):\n    return n == 0 or odd(n - 1)\ndef odd(n):\n    return n != 0 and even(n - 1)\n"
    text += "def outer():\n    def again(n):\n        return again(n - 1) if n else 2.5\n    return again\n"
    text += "AGAIN = outer()\n"
    text += answer("self.x = 1", "def f(self):\n    return even(3), AGAIN(3)")
    before = notebook.serve(text)
    check(compare(before, notebook.serve(text)), "nothing", "")
    check(compare(before, notebook.serve(text.replace("n != 0", "n > 0"))), "swap", "odd changed")
    check(compare(before, notebook.serve(text.replace("2.5", "2.6"))), "swap", "AGAIN changed")


def test_modules_and_what_is_imported(notebook: Notebook) -> None:
    text = "import json as DATA\n" + VALUE
    before = notebook.serve(text)
    check(compare(before, notebook.serve(text)), "nothing", "")
    check(compare(before, notebook.serve(text.replace("json", "math"))), "swap", "module DATA changed")
    check(compare(before, notebook.serve("from json import dumps as DATA\n" + VALUE)), "swap", "DATA changed")
    before = notebook.version()
    check(compare(before, notebook.serve("from json import loads as DATA\n" + VALUE)), "swap", "DATA changed")


def test_another_service_counts_by_its_name(notebook: Notebook) -> None:
    other = "@service\nclass DATA:\n    @api\n    def say(self) -> int:\n        return 1\n"
    notebook.run(other)
    before = notebook.serve(VALUE)
    notebook.run(other.replace("return 1", "return 2"))
    check(compare(before, notebook.version()), "nothing", "")
    notebook.run(other.replace("DATA", "More") + "DATA = More")
    check(compare(before, notebook.version()), "swap", "DATA changed")


def test_its_own_name(notebook: Notebook) -> None:
    """It stands for the class while its cell runs, and for the service ever after."""
    text = (
        answer("self.x = 1", F, "def g(self):\n    return Answer.f, helper()") + "\ndef helper():\n    return Answer\n"
    )
    before = notebook.serve(text)
    after = notebook.version()
    check(compare(before, after), "nothing", "")
    assert before[1].parts == after[1].parts


def test_without_source(notebook: Notebook) -> None:
    text = answer("self.x = 1", "exec('def f(self):\\n    return 1.5')\nother = depends('Other')")
    before = notebook.serve(text)
    check(compare(before, notebook.serve(text)), "nothing", "")
    check(compare(before, notebook.serve(text.replace("1.5", "1.6"))), "swap", "Answer.f changed")


def test_the_order_of_hooks(notebook: Notebook) -> None:
    a, b = ("@on_startup\ndef a(self):\n    self.x = 1\n", "@on_startup\ndef b(self):\n    self.x = 2\n")
    before = notebook.serve(answer("", a, b))
    check(compare(before, notebook.serve(answer("", b, a))), "replace", "what runs at start-up changed")


def test_names_of_two_modules(notebook: Notebook) -> None:
    """A decorator's own LIMIT is not the notebook's."""
    library = types.ModuleType("a_library")
    text = "LIMIT = 1\ndef keep(f):\n    def wrapper(self):\n        return f(self) + LIMIT\n    return wrapper\n"
    exec(text, vars(library))
    notebook.space["keep"] = library.keep
    cell = "LIMIT = 10\n" + answer("", "@keep\ndef f(self):\n    return LIMIT")
    before = notebook.serve(cell)
    check(compare(before, notebook.serve(cell.replace("10", "11"))), "swap", "LIMIT changed")
    vars(library)["LIMIT"] = 2
    check(compare(before, notebook.serve(cell)), "swap", "LIMIT changed")


def test_a_captured_array_of_the_kernel(notebook: Notebook) -> None:
    notebook.space["DATA"] = np.zeros(3)
    before = notebook.serve(answer("self.x = DATA", F))
    notebook.space["DATA"][0] = 1
    check(compare(before, notebook.version()), "replace", "DATA changed, which Answer.__init__ uses")
