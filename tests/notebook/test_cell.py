from __future__ import annotations

import re
from typing import Any

import pytest
from IPython.core.error import UsageError

from nbcompose._notebook.cell import CellSyntaxError, run
from nbcompose._service.handle import Service

Notebook = Any  # of conftest.py

IMPORTS = "from nbcompose import api, service\n"


def names(notebook: Notebook, body: str) -> list[str]:
    return [d.variable for d in run(notebook.shell, "", body)]


def test_the_classes_with_an_api_are_found_in_order(bare: Notebook) -> None:
    body = IMPORTS + (
        "from collections import OrderedDict\n"
        "class Second:\n    @api\n    def f(self): ...\n"
        "class Helper:\n    def f(self): ...\n"
        "@service(name='first')\nclass First:\n    @api\n    def f(self): ...\n"
        "class Inherits(Second): pass\n"
        "Alias = Second\n"
        "def make():\n    class Hidden:\n        @api\n        def f(self): ...\n    return Hidden\n"
        "Made = make()\n"
    )
    found = run(bare.shell, "", body)
    assert [d.variable for d in found] == ["Second", "First", "Inherits"]
    assert [type(d.value) for d in found] == [type, Service, type]
    assert bare.shell.user_ns["Helper"]


def test_other_classes_may_hold_anything(bare: Notebook) -> None:
    body = IMPORTS + (
        "import pydantic\n"
        "class Model(pydantic.BaseModel):\n    name: str\n"
        "class Raises:\n    def __getattr__(self, name): raise RuntimeError(name)\n"
        "class Holder:\n    raises = Raises()\n    slots = object()\n"
        "class Answer:\n    raises = Raises()\n    @api\n    def f(self): ...\n"
    )
    assert names(bare, body) == ["Answer"]


def test_classes_in_blocks_are_found(bare: Notebook) -> None:
    body = IMPORTS + (
        "try:\n    import no_such_module\nexcept ImportError:\n"
        "    class A:\n        @api\n        def f(self): ...\n"
        "if True:\n    class B:\n        @api\n        def f(self): ...\n"
        "else:\n    class C:\n        @api\n        def f(self): ...\n"
        "with open('/dev/null'):\n    class D:\n        @api\n        def f(self): ...\n"
    )
    assert names(bare, body) == ["A", "B", "D"]


def test_a_class_of_an_earlier_cell_is_left_alone(bare: Notebook) -> None:
    one = IMPORTS + "class A:\n    @api\n    def f(self): ...\n"
    assert names(bare, one) == ["A"]
    assert names(bare, one.replace("A", "B") + "A\n") == ["B"]
    # Defined in a branch that is not taken this time.
    assert names(bare, "if False:\n    class A: ...\n" + one.replace("A", "C")) == ["C"]


def test_the_body_runs_as_a_cell_does(bare: Notebook) -> None:
    body = IMPORTS + "x = 1\n!true\ny = %pwd\nclass A:\n    @api\n    def f(self): ...\nx + 1\n"
    assert names(bare, body) == ["A"]
    assert bare.shell.user_ns["x"] == 1
    assert isinstance(bare.shell.user_ns["y"], str)


@pytest.mark.parametrize("above", ["", "\n", "\n   \n\n", "# a comment\n\n"])
def test_lines_are_counted_from_the_magics(bare: Notebook, above: str) -> None:
    body = above + IMPORTS + "class A:\n    @api\n    def f(self): ...\n"
    [found] = run(bare.shell, "", body)
    line = 1 + body.splitlines().index("    @api") + 1
    assert isinstance(found.value, type)
    assert vars(found.value)["f"].__code__.co_firstlineno == line


def test_a_cell_without_a_service_says_what_to_write(bare: Notebook) -> None:
    with pytest.raises(UsageError, match=r"defines no service.*@api") as caught:
        run(bare.shell, "", "class A:\n    def f(self): ...\n")
    assert "class Echo" in str(caught.value)


def test_a_name_twice_is_an_error(bare: Notebook) -> None:
    body = IMPORTS + "class A:\n    @api\n    def f(self): ...\n" * 2
    with pytest.raises(UsageError, match="defines A twice"):
        run(bare.shell, "", body)


@pytest.mark.parametrize(
    "line",
    ["await something()", "x = [i async for i in y]", "async with x:\n    pass", "async for i in x:\n    pass"],
)
def test_a_top_level_await_gets_a_clear_message(bare: Notebook, line: str) -> None:
    with pytest.raises(UsageError, match=r"cannot `await` outside of a method"):
        run(bare.shell, "", f"{IMPORTS}{line}\n")


@pytest.mark.parametrize(
    "body", ["class A\n", "x = (\n", "  x = 1\n y = 2\n", "return 1\n", "break\n", "await await\n"]
)
def test_a_syntax_error_is_one(bare: Notebook, body: str) -> None:
    with pytest.raises(CellSyntaxError) as caught:
        run(bare.shell, "", body)
    shown = "\n".join(caught.value.__dict__["_render_traceback_"]())
    assert "Error: " in shown
    assert "nbcompose" not in shown
    assert re.search(r"^\w+Error: .+, Cell In\[\d+\], line \d+$", str(caught.value))


def test_an_error_of_the_body_keeps_its_own_frames(bare: Notebook) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        run(bare.shell, "", "def f():\n    return 1 / 0\nf()\n")
    shown = "\n".join(caught.value.__dict__["_render_traceback_"]())
    assert "Cell In[" in shown
    assert "line 4" in shown
    assert "----> 3     return 1 / 0" in shown
    assert "cell.py" not in shown
