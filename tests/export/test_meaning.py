"""A slice does what the notebook did: random notebooks are run, and what is left of them is run again."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from nbcompose._export.cells import Cell, Looked
from nbcompose._export.slice import Slice
from nbcompose._notebook.history import Looking
from nbcompose.errors import ExportRefused
from tests.export.notebooks import sliced

NAMES = st.sampled_from("abcd")
FUNCTIONS = st.sampled_from("fg")

STATEMENTS = [
    "{x} = [{n}]",
    "{x} = {y}",
    "{x} = {y} + {z}",
    "{x} = [e for e in {y}]",
    "{x} = {y} or {z}",
    "{x}, {y} = {y}, {x}",
    "{x}, {y} = [{n}], {x}",
    "({x} := {y} + [{n}])",
    "{x} = {y} = [{n}]",
    "{x} += [{n}]",
    "{x}.append({n})",
    "{x}[:1] = [{n}]",
    "{x}[:] = {y}",
    "del {x}",
    "del {x}[:1]",
    "print({x})",
    "for i in list({x}): {y}.append(i)",
    "for {x} in ([{n}], {y}): {z} = {x} + [i for i in {y}]",
    "if len({x}) > 1: {y} = {z}",
    "if len({x}) > 1: {y} = {z}\nelse: {y} = [{n}]",
    "try: {x} = {y} + {z}\nexcept NameError: {x} = [{n}]",
    "holder = [{x}]\nholder[0].append({n})",
    "def {f}(): return {x} + {y}",
    "def {f}(v={x}):\n    return v + {y}",
    "def {f}():\n    global {x}\n    {x} = {y} + [{n}]\n    return {x} + {z}",
    "def {f}():\n    {x}.append({n})\n    return {y} + []",
    "def {f}(): return {g}() + {x}",
    "def {f}(): return [i for i in {x} if i not in {y}]",
    "{x} = {f}()",
    "{x} = [*map(lambda i: len({y}) + i, {z})]",
    "{f}()",
    "{x} = {y} + {f}()",
    "class K:\n    k = {x} + []\n    def m(self): return {y} + self.k",
    "class K:\n    k = {x} + []\n    def __init__(self, v): self.v = v\n    def m(self): return {y} + self.k + self.v",
    "{x} = K().m()",
    "{x} = K({y}).m()",
    "def put(v): v.append({n})",
    "put({x})",
    "def look(v): return len(v)",
    "look({x})",
    "import sys\nsys.limit = {n}",
    # calls whose results are used, chained, or made through a class
    "{x}.append({n}) or {y}.append({n})",
    "{z} = [{x}.append({n})]",
    "{y} = [{x}.pop()] if {x} else []",
    "list.append({x}, {n})",
    "[{x}.append(i) for i in {y}[:2]]",
    "[e.append({n}) for e in [{x}, {y}]]",
    "{z} = [*map({x}.append, {y}[:2])]",
    "{z} = sorted({y}, key={x}.append) if len({x}) < 9 else []",
    "box = Box({x})",
    "box.put({n}).put({n})",
    "{z} = box.put({n}).items",
    "Box.put(box, {n})",
    "{z} = [*box.look()]",
    "Box({x}).put({n})",
    "box.items = {x}",
    "with box as held: held.append({n})",
    "{x} = Box.shared",
    "box.share({n})",
    # what a class, a function or an object is
    "setattr(Box, 'look', lambda self: [{n}, *{x}])",
    "Box.look = lambda self: self.items[:{n}]",
    "setattr(box, 'items', {x})",
    "box.__dict__.update(items=[{n}])",
    "vars(box)['items'] = {x}",
    "box.__dict__['items'].append({n})",
    "{f}.calls = {x}",
    "class Sub(Base): n = {n}",
    "class Sub(Base):\n    def __init__(self): {x}.append({n})",
    "@register\ndef {f}(): return {x} + []",
    "@patch\nclass Other: n = {n}",
    # the notebook's own namespace
    "globals()['{x}'] = [{n}]",
    "globals()['{x}'].append({n})",
    "globals().update({x}=[{n}])",
    "vars()['{x}'] += [{n}]",
    "for key in '{x}{y}': globals()[key] = [{n}, *globals()[key]]",
    "exec('{x} = {y} + [{n}]')",
    "if __name__ == '__main__': {x}.append({n})",
    "if '{x}' not in globals(): {x} = [{n}]",
    "del globals()['{x}']",
    # in place, through other names
    "{z} = {x}\n{z} += [{n}]",
    "def {f}(v={x}):\n    v += [{n}]\n    return v",
    "operator.iadd({x}, [{n}])",
    "{x}.__iadd__([{n}])",
    "{x}.__setitem__(slice(0, 1), [{n}])",
    "held = {x}.append\nheld({n})",
    "{f} = functools.partial(list.append, {x}, {n})",
    "{f} = functools.partial({x}.append, {n})",
    "first, *rest = [{x}, {y}]\nfirst.append({n})",
    "holder = list([{x}, {y}])\nholder[0].append({n})",
    "holder = dict(k={x})\nholder.get('k').append({n})",
    "holder = {{}}\nholder.setdefault('k', {x}).append({n})",
    "{z} = ({x} or {y}).append({n})",
    "def grow(v):\n    def more():\n        v.append({n})\n        return v\n    return more",
    "more = grow({x})",
    "{z} = [*more()]",
    "more()",
    "it = iter({x})",
    "{z} = [next(it, {n})]",
    "{z} = list(it)",
    "math.tau = {n}",
    "setattr(math, 'e', {n})",
    "{x} = [int(math.tau), int(math.e)]",
    "import math as m2\nm2.tau = {n}",
    "{x} = [len(registry), len(Base.kinds)]",
    "apply = lambda g, v: g(v)\napply({x}.append, {n})",
    "match {x}:\n    case [*_]: {x}.append({n})",
    "try: {x}.append({n} / 0)\nexcept ZeroDivisionError: {x}.append({n})",
    "while len({x}) < 3: {x}.append({n})",
]  # fmt: skip


@st.composite
def sources(draw: st.DrawFn) -> str:
    names = {"x": draw(NAMES), "y": draw(NAMES), "z": draw(NAMES), "f": draw(FUNCTIONS), "g": draw(FUNCTIONS)}
    return draw(st.sampled_from(STATEMENTS)).format(**names, n=draw(st.integers(0, 9)))


FIRST = [
    "from nbcompose import api",
    "import functools, math, operator",
    *[f"{name} = [{n}, {n}]" for n, name in enumerate("abcd")],
    "def f(): return a + b",
    "def g(): return c",
    """class Box:
    shared = [0]
    def __init__(self, items): self.items = items
    def put(self, n):
        self.items.append(n)
        return self
    def share(self, n): self.shared.append(n)
    def look(self): return self.items[:1]
    def __enter__(self): return self.items
    def __exit__(self, *_): self.items.append(0)""",
    "box = Box([1])",
    "registry = {}",
    "def register(f):\n    registry[f.__name__] = f\n    return f",
    """class Base:
    kinds = []
    def __init_subclass__(cls): Base.kinds.append(cls.__name__)""",
    "def patch(c):\n    Box.look = lambda self: [c.n]\n    return c",
    "def grow(v): return lambda: v.append(1)",
    "more = grow(d)",
    "it = iter([])",
]

SERVICE = "%%service\nclass A:\n    k = {x} + []\n    @api\n    def f(self): return [{y}, {z}, self.k]"
CALLING = "%%service\nclass A:\n    @api\n    def f(self): return [{y}, f()]"
OBJECTS = (
    "%%service\nclass A:\n    @api\n    def f(self): return [{x}, box.items, box.look(), Box([5]).look(), Box.shared]"
)
OTHERS = (
    "%%service\nclass A:\n    @api\n    def f(self): return [{x}, sorted(registry), Base.kinds, math.tau, list(it)]"
)
SERVICES = st.builds(str.format, st.sampled_from([SERVICE, CALLING, OBJECTS, OTHERS]), x=NAMES, y=NAMES, z=NAMES)

DECORATOR = """def keep(value):
    def decorate(decorated):
        decorated.kept = value
        return decorated
    return decorate"""


def run(texts: Sequence[str], name: str = "__main__") -> tuple[int | None, Any]:
    """The index of the first that fails, and what the service answers."""
    namespace: dict[str, Any] = {"__name__": name}
    vars(math).update(tau=6, e=3)
    for index, text in enumerate(texts):
        try:
            exec(text.removeprefix("%%service"), namespace)
        except Exception:
            return index, None
    try:
        return None, copy.deepcopy(namespace["A"]().f())
    except Exception:
        return len(texts), None


def running(texts: list[str]) -> tuple[list[str], Any]:
    """The notebook without the cells that fail, and what its service answers."""
    while True:
        failed, answer = run(texts)
        if failed is None:
            return texts, answer
        assume(failed < len(texts) and "class A" not in texts[failed])
        texts = texts[:failed] + texts[failed + 1 :]


def script(cells: Sequence[Cell]) -> Slice | None:
    try:
        return sliced(cells)
    except ExportRefused as refused:
        event(refused.reasons[0].partition("needs")[2][:40])
        return None


ANY = given(st.lists(sources(), min_size=2, max_size=12), SERVICES, st.integers(0, 12))
LOOKED_AT = given(
    st.lists(st.lists(sources(), min_size=1, max_size=3).map("\n".join), min_size=1, max_size=6), SERVICES, st.data()
)
AGAIN = given(st.lists(sources(), min_size=2, max_size=8), SERVICES, st.data())


@settings(max_examples=40, derandomize=True)
@ANY
def test_what_the_notebook_answers_its_script_answers(cells: list[str], service: str, at: int) -> None:
    texts, answer = running([*FIRST, *cells[:at], service, *cells[at:]])
    found = script([Cell(f"k{n}", f"In [{n}]", text) for n, text in enumerate(texts)])
    if found is not None:
        event("exported")
        again = [s.text for s in found.statements]
        assert run(again, "app") == (None, answer), "\n".join(again)
        assert len(again) <= sum(t.count("\n") + 1 for t in texts)


def watched(texts: Sequence[str]) -> tuple[int | None, Any, list[Looked]]:
    """As `run`, and what was seen of each cell."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    vars(math).update(tau=6, e=3)
    looking = Looking(SimpleNamespace(user_ns=namespace, user_ns_hidden={"__name__", "__builtins__"}))
    looking.start()
    seen: list[Any] = []
    for index, text in enumerate(texts):
        try:
            exec(text.removeprefix("%%service"), namespace)
        except Exception:
            return index, None, seen
        seen.append(looking.after(5.0))
    try:
        return None, copy.deepcopy(namespace["A"]().f()), seen
    except Exception:
        return len(texts), None, seen


@settings(max_examples=25, derandomize=True)
@LOOKED_AT
def test_a_live_notebook_whose_values_were_looked_at(cells: list[str], service: str, data: st.DataObject) -> None:
    """Cells of several statements, some of which run again."""
    runs = data.draw(st.lists(st.sampled_from(cells), min_size=1, max_size=8))
    texts = [*FIRST, *runs, service]
    while True:
        failed, answer, seen = watched(texts)
        if failed is None:
            break
        assume(failed < len(texts) and "class A" not in texts[failed])
        texts = texts[:failed] + texts[failed + 1 :]
    keys = {text: f"k{n}" for n, text in enumerate(dict.fromkeys(texts))}
    found = script([Cell(keys[t], f"In [{n}]", t, looked=s) for n, (t, s) in enumerate(zip(texts, seen, strict=True))])
    if found is not None:
        event("exported")
        again = [s.text for s in found.statements]
        assert run(again, "app") == (None, answer), "\n".join(again)


@settings(max_examples=40, derandomize=True)
@AGAIN
def test_cells_that_run_again(cells: list[str], service: str, data: st.DataObject) -> None:
    """Runs of a few cells, some again and again; a script of them answers what the last state answers."""
    runs = data.draw(st.lists(st.sampled_from(cells), min_size=2, max_size=8))
    texts, answer = running([*FIRST, *runs, service])
    keys = {text: f"k{n}" for n, text in enumerate(dict.fromkeys(texts))}
    found = script([Cell(keys[text], f"In [{n}]", text) for n, text in enumerate(texts)])
    if found is not None:
        event("exported")
        again = [s.text for s in found.statements]
        assert run(again, "app") == (None, answer), "\n".join(again)


@pytest.mark.slow
@pytest.mark.system  # a minute in all
@pytest.mark.parametrize(
    ("notebooks", "test"),
    [
        (ANY, test_what_the_notebook_answers_its_script_answers),
        (LOOKED_AT, test_a_live_notebook_whose_values_were_looked_at),
        (AGAIN, test_cells_that_run_again),
    ],
    ids=["any", "looked at", "again"],
)
def test_many_notebooks(notebooks: Callable[..., Any], test: Any) -> None:
    settings(max_examples=500, derandomize=True, database=None)(notebooks(test.hypothesis.inner_test))()


@pytest.mark.parametrize(
    ("cell", "keeps", "call"),
    [
        pytest.param("c = [0]", "d = c", "d.append(1)", id="another name"),
        pytest.param("c = [0]", "d = (c,)", "d[0].append(1)", id="a tuple"),
        pytest.param("c = [0]", "d = c.append", "d(1)", id="a bound method"),
        pytest.param("c = [0]", "from functools import partial\nd = partial(list.append, c)", "d(1)", id="a partial"),
        pytest.param("c = [0]", "d = lambda v=c: v.append(1)", "d()", id="a lambda's default"),
        pytest.param("c = [0]", "def d(v=c): v.append(1)", "d()", id="a default"),
        pytest.param("c = [0]", "async def d(*, v=c): v", "d.__kwdefaults__['v'].append(1)", id="a keyword's default"),
        pytest.param(
            "c = [0]", "def outer(w):\n    def d(v=w): v.append(1)\n    return d\nd = outer(c)", "d()", id="closure"
        ),
        pytest.param("c = [0]", "class D: x = c", "D.x.append(1)", id="an attribute of a class"),
        pytest.param("c = [0]", "class D:\n    class E: x = c", "D.E.x.append(1)", id="a class within"),
        pytest.param("c = [0]", "class D:\n    def m(self, v=c): v.append(1)", "D().m()", id="a method's default"),
        pytest.param(
            "c = [0]", f"{DECORATOR}\n@keep(c)\ndef d(): pass", "d.kept.append(1)", id="a decorator of a function"
        ),
        pytest.param(
            "c = [0]", f"{DECORATOR}\n@keep(c)\nclass D: pass", "D.kept.append(1)", id="a decorator of a class"
        ),
        pytest.param("class c: x = [0]", "d = c()", "d.x.append(1), c.x", id="an object of a class"),
        pytest.param("def c(v=[0]):\n    v.append(1)\n    return v", "d = c", "d(), c()", id="a function"),
    ],
)
@pytest.mark.parametrize("looked", [True, False], ids=["live", "file"])
def test_what_keeps_a_value_does_not_get_the_one_of_a_later_run(cell: str, keeps: str, call: str, looked: bool) -> None:
    """A cell runs again, and one that keeps what it had made does not."""
    service = f"%%service\nclass A:\n    @api\n    def f(self): return [{call}, c if isinstance(c, list) else 0]"
    texts = [*FIRST, cell, keeps, cell, service]
    failed, answer, seen = watched(texts)
    assert failed is None
    keys = {text: f"k{n}" for n, text in enumerate(dict.fromkeys(texts))}
    looks = seen if looked else [None] * len(texts)
    found = script([Cell(keys[t], f"In [{n}]", t, looked=s) for n, (t, s) in enumerate(zip(texts, looks, strict=True))])
    assert found is not None
    assert run([s.text for s in found.statements], "app") == (None, answer)


def test_a_cell_that_leaves_all_as_it_was_runs_again() -> None:
    """Its second run changes a list and makes it anew: in the end it is as before, and in between it is not."""
    cell = "a.append(0) or b.append(0)\na = [b.pop()] if b else []"
    texts = [*FIRST, cell, cell, SERVICE.format(x="a", y="a", z="a")]
    failed, answer, seen = watched(texts)
    assert failed is None
    assert not seen[-2].changed
    keys = {text: f"k{n}" for n, text in enumerate(dict.fromkeys(texts))}
    found = script([Cell(keys[t], f"In [{n}]", t, looked=s) for n, (t, s) in enumerate(zip(texts, seen, strict=True))])
    assert found is not None
    assert run([s.text for s in found.statements], "app") == (None, answer)


@pytest.mark.parametrize("between", ["d = len(c)", "def d(): return c", "d = 1"])
def test_a_value_that_nobody_keeps_is_made_once(between: str) -> None:
    texts = [*FIRST, "c = [0]", between, "c = [0]", SERVICE.format(x="c", y="d", z="c")]
    keys = {text: f"k{n}" for n, text in enumerate(dict.fromkeys(texts))}
    found = script([Cell(keys[text], f"In [{n}]", text) for n, text in enumerate(texts)])
    assert found is not None
    assert [s.text for s in found.statements].count("c = [0]") == 1
