"""Statements as a script gets them: their text with its comments, their lines, and the options of services."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from nbcompose._export.cells import Cell
from nbcompose._export.statements import Statement, statements_of


def read(*sources: str) -> list[Statement]:
    return statements_of([Cell(f"k{n}", f"cell {n}", source) for n, source in enumerate(sources, 1)])


@pytest.mark.parametrize(
    ("source", "texts"),
    [
        ("x = 1\ny = 2", ["x = 1", "y = 2"]),
        ("x = 1; y = 'é'; z = 3", ["x = 1", "y = 'é'", "z = 3"]),
        ("x = (1,\n  2); y = (3,\n  4)  # last", ["x = (1,\n  2)", "y = (3,\n  4)  # last"]),
        ("plt.show();", ["plt.show()"]),
        ("x = f();  # quiet", ["x = f()  # quiet"]),
        ("x = 1  # one", ["x = 1  # one"]),
        ("x = '#'  # one", ["x = '#'  # one"]),
        # comments above
        ("# a\n# b\nx = 1", ["# a\n# b\nx = 1"]),
        ("# title\n\n# a\nx = 1", ["# title\n\n# a\nx = 1"]),
        ("x = 1\n# a\ny = 2", ["x = 1", "# a\ny = 2"]),
        ("x = 1\n# of x\n\ny = 2", ["x = 1", "y = 2"]),
        ("x = 1\n# of x\n\n# of y\ny = 2", ["x = 1", "# of y\ny = 2"]),
        ("x = 1\n\n\n# far\n\n\ny = 2\n# end", ["x = 1", "# far\n\n\ny = 2"]),
        # several lines
        ("# a\n@d\n# b\ndef f():\n    # c\n    pass  # d", ["# a\n@d\n# b\ndef f():\n    # c\n    pass  # d"]),
        ('x = """\n# no comment\n"""\ny = 1', ['x = """\n# no comment\n"""', "y = 1"]),
        ("if a:\n    x = 1\nelse:\n    y = 2", ["if a:\n    x = 1\nelse:\n    y = 2"]),
        ("x = 1 + \\\n  2", ["x = 1 + \\\n  2"]),
        # ends of lines that are none for Python
        ("x = 'a\u2028b'\ny = '\x0c'\nz = 1", ["x = 'a\u2028b'", "y = '\x0c'", "z = 1"]),
        ("x = 1\r\n# a\r\ny = (2,\r\n  3)\r\n", ["x = 1", "# a\ny = (2,\n  3)"]),
        # magics
        ("%%service\n# a\nclass A: pass", ["# a\nclass A: pass"]),
        ("    x = 1\n    y = 2", ["x = 1", "y = 2"]),
        # what stands at the top of a script
        ("# /// script\n# dependencies = []\n# ///\n# a\nx = 1", ["# a\nx = 1"]),
        ("#!/usr/bin/env python\nx = 1", ["x = 1"]),
    ],
)
def test_text(source: str, texts: list[str]) -> None:
    found = read(source)
    assert [s.text for s in found] == texts
    for statement in found:
        [again] = ast.parse(statement.text).body
        assert ast.dump(again) == ast.dump(statement.node)


def test_lines_are_those_of_the_cell() -> None:
    found = read("%%service --threads 2\n\n# a\n@d\nclass A: pass\n!ls \\\n -l\nx = 1")
    assert [s.line for s in found] == [4, 6, 8]


def test_names() -> None:
    [statement] = read("def f(a=b) -> 'C':\n    d.append(a)")
    names = statement.names
    assert (names.defines, names.reads, names.later, names.soft) == ({"f"}, {"b"}, {"d"}, {"C"})
    [statement] = read("x.append(1)")
    assert ({t.name for t in statement.names.touches}, statement.names.deletes) == ({"x"}, set())


def test_annotations_are_lazy_behind_the_future_import_also_in_later_cells() -> None:
    before, _, behind = read("def f(a: A): pass", "from __future__ import annotations", "def f(a: A): pass")
    assert (before.names.reads, behind.names.reads, behind.names.soft) == ({"A"}, set(), {"A"})


@pytest.mark.parametrize(
    ("sources", "options"),
    [
        (["%%service --threads 2\nclass A:\n    @api\n    def f(self): pass"], [{"threads": 2}]),
        (["%%service\nclass A:\n    @nbcompose.api(batchable=True)\n    async def f(self): pass"], [{}]),
        (["%%service\n@service\nclass A: pass"], [{}]),
        (["%%service\nclass H: pass\nclass A:\n    @api\n    def f(self): pass"], [None, {}]),
        (["class B:\n    @api\n    def f(self): pass", "%%service\nclass A(B): pass"], [None, {}]),
        (["%%service\nclass A(imported.Base): pass"], [{}]),
        (["%%service\nclass A: pass"], [None]),
        (["class A:\n    @api\n    def f(self): pass"], [None]),
        (["%%service\ndef f(): pass"], [None]),
    ],
)
def test_options_are_those_of_services(sources: list[str], options: list[Any]) -> None:
    assert [s.options for s in read(*sources)] == options


@pytest.mark.parametrize(
    ("source", "magic", "defines"),
    [
        ("!ls", "!ls", ""),
        ("files = !ls", "!ls", "files"),
        ("x = %who_ls", "%who_ls", "x"),
        ("%%capture out\nx = 1", "%%capture out", "out"),
        ("%%bash\nls", "%%bash", ""),
        ("x = (", "x = ( ('(' was never closed)", ""),
    ],
)
def test_magics(source: str, magic: str, defines: str) -> None:
    first = read(source)[0]
    assert (first.magic, first.names.defines) == (magic, set(defines.split()))


def test_a_cell_with_magics_that_is_no_python_says_what_python_says() -> None:
    [unread] = read("    !ls \\\nx = 1\n  b")
    assert unread.magic is not None
    assert unread.magic.startswith("!ls \\\nx = 1\n  b (un")  # which indentation it is about depends on IPython
    assert "indent" in unread.magic


def test_cells_without_statements() -> None:
    assert read("", "# only a comment", "\n\n") == []
