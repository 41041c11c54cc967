"""The magics of a cell, taken off line by line; what is said about them."""

from __future__ import annotations

import ast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager

from nbcompose._export.magics import magic_in, note, plain, shorten


@pytest.mark.parametrize(
    ("source", "text", "options"),
    [
        ("x = 1", "x = 1\n", None),
        ("", "", None),
        ("\n\n  x = 1\n  y = 2", "\n\nx = 1\ny = 2\n", None),
        (">>> x = 1\n... y = 2", "x = 1\ny = 2\n", None),
        ("%%service\nclass A: pass", "\nclass A: pass\n", {}),
        ("%%service --device cpu --timeout 20\nx", "\nx\n", {"device": "cpu", "traffic": {"timeout": 20.0}}),
        ("%%service --env A='b c' --env D=e\nx", "\nx\n", {"envs": {"A": "b c", "D": "e"}}),
        ("%%service --openai\nx", "\nx\n", {"openai": True}),
        ("%%service --memory 4GiB --port 80 --name a\nx", "\nx\n",
         {"name": "a", "http": {"port": 80}, "resources": {"memory": "4GiB"}}),
        ("%%service --no-wait --replace stop-first\nx", "\nx\n", {}),
        ("%%time\n%%service --threads 2\nx", "\n\nx\n", {"threads": 2}),
        ("\n%%time\n\n%%capture\n%%service\nx", "\n\n\n\n\nx\n", {}),
        ("# one\n\n  # two\n%%service --threads 2\nx", "# one\n\n  # two\n\nx\n", {"threads": 2}),
        ("%%time\n# one\n%%service\nx", "\n# one\n\nx\n", {}),
        ("%%time\nx = 1", "\nx = 1\n", None),
        ("%time x = 1", "x = 1\n", None),
        ("if a:\n    %time x = 1", "if a:\n    x = 1\n", None),
        ("%%services debug Writer --post-mortem\nx", "\nx\n", None),
        ("%%capture a --no-display\nx", "a = get_ipython().run_cell_magic('capture', 'a --no-display', '')\nx\n", None),
        ("x = 1\n!ls \\\n  -l\ny = 2", "x = 1\nget_ipython().system('ls    -l')\n\ny = 2\n", None),
        ("!ls \\\n  -l \\\n  -a", "get_ipython().system('ls    -l    -a')\n\n\n", None),
        ("!ls \\", "get_ipython().system('ls \\\\')\n", None),
        ("%cd \\\n  a\n!ls", "get_ipython().run_line_magic('cd', '   a')\n\nget_ipython().system('ls')\n", None),
        ("f = !ls \\\n  -l\nx", "f = get_ipython().getoutput('ls    -l')\n\nx\n", None),
        ("f = !ls \\", "f = get_ipython().getoutput('ls \\\\')\n", None),
        ("f = %who_ls \\\n  int", "f = get_ipython().run_line_magic('who_ls', '   int')\n\n", None),
        ("%%time\n!ls \\\n  -l\nx", "\nget_ipython().system('ls    -l')\n\nx\n", None),
        ("%time !ls \\\n  -l\nx", "get_ipython().system('ls    -l')\n\nx\n", None),
        ("%time x = %time !ls", "x = get_ipython().run_line_magic('time', '!ls')\n", None),
        ("%time (\n!ls", "(\nget_ipython().system('ls')\n", None),
        ("x = 1\r\n!ls\r\ny = 2", "x = 1\r\nget_ipython().system('ls')\ny = 2\n", None),
        ("!ls \\\r\n  -l", "get_ipython().system('ls \\\\')\n  -l\n", None),  # a backslash and a CR go on nowhere
        ("(\n!ls \\\n)", "(\n!ls \\\n)\n", None),
        ('"""\n!ls \\\n"""', '"""\n!ls \\\n"""\n', None),
        ("x = \\\n%cd a", "x = \\\nget_ipython().run_line_magic('cd', 'a')\n", None),
        ("f = !ls", "f = get_ipython().getoutput('ls')\n", None),
        ("f = %who_ls int", "f = get_ipython().run_line_magic('who_ls', 'int')\n", None),
        ("f?", "get_ipython().run_line_magic('pinfo', 'f')\n", None),
        ('x = """\n%time a\n"""', 'x = """\n%time a\n"""\n', None),
    ],
)  # fmt: skip
def test_magics_are_taken_off(source: str, text: str, options: dict[str, object] | None) -> None:
    found = plain(source)
    assert (found.text, found.options, found.foreign) == (text, options, "")


@pytest.mark.parametrize(
    ("source", "foreign"),
    [
        ("%%bash\nls", "%%bash"),
        ("%%writefile a.py\nx = 1", "%%writefile a.py"),
        ("%%time\n%%html\n<p>", "%%html"),
        ("%%service --devce cpu\nx", "%%service --devce cpu (unrecognized arguments: --devce cpu)"),
        ("%%service --replicas two\nx", "%%service --replicas two (argument --replicas: 'two' is not a whole number)"),
        ("%%service --env A\nx", "%%service --env A (argument --env: 'A' is not of the form KEY=VALUE)"),
        ("%%service --name 'a\nx", "%%service --name 'a (No closing quotation)"),
    ],
)
def test_cells_that_are_not_python(source: str, foreign: str) -> None:
    found = plain(source)
    assert (found.text, found.options, found.foreign) == ("", None, foreign)


def test_a_mistake_in_an_option_is_told() -> None:
    assert "device='gpu7'" in plain("%%service --device gpu7\nx").foreign


@pytest.mark.parametrize(
    ("source", "magic"),
    [
        ("get_ipython().system('ls -l')", "!ls -l"),
        ("get_ipython().getoutput('ls')", "!ls"),
        ("get_ipython().run_line_magic('cd', 'a b')", "%cd a b"),
        ("get_ipython().run_line_magic('cd', '')", "%cd"),
        ("get_ipython().run_cell_magic('bash', '-x', 'ls')", "%%bash -x"),
        ("get_ipython().user_ns", ""),
        ("get_ipython()", ""),
        ("get_ipython().ask_exit()", ""),
        ("a().system('ls')", ""),
    ],
)
def test_what_a_user_wrote(source: str, magic: str) -> None:
    assert magic_in(ast.parse(source, mode="eval").body) == magic


@pytest.mark.parametrize(
    "magic",
    [
        "%load_ext nbcompose", "%config A.b = 1", "%services", "%graph A", "%matplotlib inline", "%%timeit -n 1",
        "%pinfo x", "%autoreload 2", "%env", "%env HOME", "%export app.py",
    ],
)  # fmt: skip
def test_dropped_without_a_word(magic: str) -> None:
    assert note(magic) == ""


@pytest.mark.parametrize(
    ("magic", "said"),
    [
        ("!pip install x", "`!pip install x` is not part of the script"),
        ("%pip install x", "`%pip install x` is not part of the script"),
        ("%%bash", "`%%bash` is not part of the script"),
        (
            "%cd data",
            "`%cd data` is not part of the script: start it in that folder, or write paths that do not depend on one",
        ),
        ("%env A=b", "`%env A=b` is not part of the script: set A where it is started"),
        ("%env A b", "`%env A b` is not part of the script: set A where it is started"),
        ("%run a.py", "`%run a.py` is not part of the script, nor are the names that it sets"),
    ],
)
def test_dropped_with_a_note(magic: str, said: str) -> None:
    assert note(magic) == said


def test_long_magics_are_shortened() -> None:
    assert shorten("!curl " + "x" * 100) == "!curl " + "x" * 50 + " ..."
    assert shorten("!ls\n -l") == "!ls"


LINES = [
    "x = 1",
    "!ls",
    "%cd a",
    "y = !ls",
    "# a",
    "",
    "f?",
    "if a:",
    "    z = 2",
    "    !ls \\",
    "  -l",
    '"""',
    "(",
    ")",
]
LINES += ["%time x = 1", "a \\", "  b", "%cd \\", "y = !ls \\", "y = %who_ls \\", "[", "]", "x = 1\r", "!ls \\\r"]
TIME = "get_ipython().run_line_magic('time', 'x = 1')"


@given(st.lists(st.sampled_from(LINES), max_size=8))
@example([")", "(", "    !ls \\", "x = 1", "!ls"])  # what is found next depends on the lines that were made
def test_lines_stay_where_they_are(lines: list[str]) -> None:
    source = "\n".join(lines)
    try:
        expected = TransformerManager().transform_cell(source).replace(TIME, "x = 1")
    except SyntaxError:
        with pytest.raises(SyntaxError):
            plain(source)
        return
    text = plain(source).text
    assert text.count("\n") == source.count("\n") + (not source.endswith("\n") and source != "")
    assert [t for t in text.splitlines() if t.strip()] == [t for t in expected.splitlines() if t.strip()]
