"""A slice does what the notebook did: random notebooks are run, and what is left of them is run again."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from nbcompose.errors import ExportRefused
from nbcompose.export.reading.cells import Cell
from nbcompose.export.slicing.slice import Slice
from tests.export.notebooks import sliced

NAMES = st.sampled_from("abcd")
FUNCTIONS = st.sampled_from("fg")
HEAD = "from nbcompose import api"

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
]  # fmt: skip


@st.composite
def sources(draw: st.DrawFn) -> str:
    names = {"x": draw(NAMES), "y": draw(NAMES), "z": draw(NAMES), "f": draw(FUNCTIONS), "g": draw(FUNCTIONS)}
    return draw(st.sampled_from(STATEMENTS)).format(**names, n=draw(st.integers(0, 9)))


SERVICE = "%%service\nclass A:\n    k = {x} + []\n    @api\n    def f(self): return [{y}, {z}, self.k]"
CALLING = "%%service\nclass A:\n    @api\n    def f(self): return [{y}, f()]"
SERVICES = st.builds(str.format, st.sampled_from([SERVICE, CALLING]), x=NAMES, y=NAMES, z=NAMES)


def run(texts: Sequence[str]) -> tuple[int | None, Any]:
    """The index of the first that fails, and what the service answers."""
    namespace: dict[str, Any] = {}
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


@settings(max_examples=400, derandomize=True)
@given(st.lists(sources(), min_size=2, max_size=12), SERVICES, st.integers(0, 12))
def test_what_the_notebook_answers_its_script_answers(cells: list[str], service: str, at: int) -> None:
    first = [
        HEAD,
        *[f"{name} = [{n}, {n}]" for n, name in enumerate("abcd")],
        "def f(): return a + b",
        "def g(): return c",
    ]
    texts, answer = running([*first, *cells[:at], service, *cells[at:]])
    found = script([Cell(f"k{n}", f"In [{n}]", text) for n, text in enumerate(texts)])
    if found is not None:
        event("exported")
        again = [s.text for s in found.statements]
        assert run(again) == (None, answer), "\n".join(again)
        assert len(again) <= sum(t.count("\n") + 1 for t in texts)


@settings(max_examples=300, derandomize=True)
@given(st.lists(sources(), min_size=2, max_size=8), SERVICES, st.data())
def test_cells_that_run_again(cells: list[str], service: str, data: st.DataObject) -> None:
    """Runs of a few cells, some again and again; a script of them answers what the last state answers."""
    first = [
        HEAD,
        *[f"{name} = [{n}, {n}]" for n, name in enumerate("abcd")],
        "def f(): return a + b",
        "def g(): return c",
    ]
    runs = data.draw(st.lists(st.sampled_from(cells), min_size=2, max_size=8))
    texts, answer = running([*first, *runs, service])
    keys = {text: f"k{n}" for n, text in enumerate(dict.fromkeys(texts))}
    found = script([Cell(keys[text], f"In [{n}]", text) for n, text in enumerate(texts)])
    if found is not None:
        event("exported")
        again = [s.text for s in found.statements]
        assert run(again) == (None, answer), "\n".join(again)
