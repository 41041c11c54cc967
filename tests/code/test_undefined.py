"""Names that a service uses and nothing defines: those that would fail, and none in code that works."""

from __future__ import annotations

import builtins
import textwrap
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from IPython.core.display_functions import display

from nbcompose._code.undefined import Undefined
from tests.code.conftest import Notebook

HEAD = """
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING
import sys, typing
HAS_IT, IS_THERE, HERE = False, True, 1
"""


def found(notebook: Notebook, cell: str) -> list[Undefined]:
    notebook.run(HEAD)
    return list(notebook.serve(cell)[1].undefined)


def in_an_api(body: str) -> str:
    return f"class Answer:\n    @api\n    def say(self, x: int = 1):\n{textwrap.indent(textwrap.dedent(body), ' ' * 8)}"


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("return missing", 4),
        ("y = x\nreturn missing.sleep(y)", 5),
        ("if x > 3:\n    missing()\nreturn 1", 5),
        ("return [missing for i in range(x)]", 4),
        ("return (lambda: missing)()", 4),
        ("def inner():\n    return missing\nreturn inner()", 5),
        ("class Inner:\n    y = missing\nreturn Inner", 5),
        ("try:\n    return missing\nexcept ValueError:\n    return 1", 5),
        ("try:\n    return missing\nexcept (KeyError, OSError):\n    return 1", 5),
        ("try:\n    return missing\nfinally:\n    print(x)", 5),
        ("try:\n    pass\nexcept Exception:\n    return missing", 7),
        ("with nullcontext():\n    return missing", 5),
        ("try:\n    return HERE\nexcept NameError:\n    return missing", 7),
        ("list(type(x).mro())\nmodules = x\nx.modules()\nreturn missing", 7),
        ("if not HAS_IT:\n    return missing", 5),
        ("if HAS_IT:\n    return 1\nreturn missing", 6),
        ("if HAS_IT or x:\n    return missing", 5),
        ("for i in range(x):\n    if i:\n        continue\n    missing()", 7),
        ("return f'{missing}'", 4),
        ("missing += 1", 0),  # a variable of the function
        ("import missing\nreturn missing", 0),
    ],
)
def test_where_a_name_is_used(notebook: Notebook, body: str, line: int) -> None:
    names = found(notebook, in_an_api(body))
    assert [(u.name, u.user, u.where.line) for u in names] == ([("missing", "Answer.say", line)] if line else [])


@pytest.mark.parametrize(
    "body",
    [
        "return HERE + x + len('a') + len(__name__)",
        "try:\n    return missing\nexcept NameError:\n    return 1",
        "try:\n    return missing\nexcept Exception:\n    return 1",
        "def inner():\n    return missing\ntry:\n    return inner()\nexcept NameError:\n    return 1",
        "with suppress(NameError):\n    return missing",
        "def inner():\n    return missing\nwith suppress(NameError):\n    return inner()",
        "sys.modules['__main__'].missing = 1\nreturn missing",
        "try:\n    return missing\nexcept:\n    return 1",
        "try:\n    return missing\nexcept (KeyError, Exception):\n    return 1",
        "try:\n    missing()\nfinally:\n    return 1",
        "with suppress(Exception):\n    return missing",
        "if TYPE_CHECKING:\n    missing()",
        "if typing.TYPE_CHECKING:\n    missing()",
        "if HAS_IT:\n    missing()",
        "if not HAS_IT:\n    return 1\nreturn missing",
        "if IS_THERE:\n    return 1\nelse:\n    return missing",
        "assert HAS_IT\nreturn missing",
        "return missing if HAS_IT else 1",
        "return HAS_IT and missing",
        "return IS_THERE or missing",
        "if sys.platform == 'nowhere' and x:\n    return missing",
        "if sys.version_info < (3, 5):\n    return missing",
        "if sys.platform[:3] == 'win':\n    return missing",
        "if sys.platform not in ('darwin', 'linux'):\n    return missing",
        "if sys.version_info[0] == 2:\n    return missing",
        "if 'missing' in globals():\n    return missing",
        "exec('missing = 1', globals())\nreturn missing",
        "global missing\nmissing = 1\nreturn missing",
        "return 1\nmissing()",
        "if 0:\n    missing()",
        "class Inner:\n    missing = 1\n    y = missing\nreturn Inner",
        "for missing in 'ab':\n    pass\nreturn missing",
    ],
)
def test_code_that_works(notebook: Notebook, body: str) -> None:
    assert found(notebook, in_an_api(body)) == []


def test_an_api_that_catches_a_name_error_says_nothing_of_the_others(notebook: Notebook) -> None:
    careful = in_an_api("try:\n    return missing\nexcept NameError:\n    return 1")
    other = "\n    @api\n    def other(self) -> int:\n        return lacking"
    assert [(u.name, u.user) for u in found(notebook, careful + other)] == [("lacking", "Answer.other")]


def test_what_a_service_reaches_by_helpers_classes_and_bases(notebook: Notebook) -> None:
    notebook.run(
        "def helper(x):\n    return inner(x)\ndef inner(x):\n    return first\ndef other():\n    return unused"
    )
    notebook.run("class Tool:\n    def used(self):\n        return second\n    def spare(self):\n        return unused")
    notebook.run(
        "class Base:\n    def started(self):\n        return third\n    def spare(self):\n        return unused"
    )
    names = found(
        notebook,
        """
        class Answer(Base):
            def __init__(self):
                self.x = fourth
            @api
            def say(self):
                return helper(self.started()), Tool().used()
            @on_shutdown
            def end(self):
                return fifth
            def never(self):
                return unused
        """,
    )
    assert {(u.name, u.user) for u in names} == {
        ("first", "inner"),
        ("second", "Tool.used"),
        ("third", "Base.started"),
        ("fourth", "Answer.__init__"),
        ("fifth", "Answer.end"),
    }


def test_a_name_that_another_method_sets_is_defined(notebook: Notebook) -> None:
    cell = """
        class Answer:
            def __init__(self):
                global model
                model = 1
            @api
            def say(self):
                return model
    """
    assert found(notebook, cell) == []


def test_what_only_ipython_has(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtins, "display", display, raising=False)
    [name] = found(notebook, in_an_api("display(x)"))
    assert (name.name, name.is_ipythons) == ("display", True)


def test_a_name_that_is_defined_later_is_something_that_differs(notebook: Notebook) -> None:
    notebook.run(HEAD)
    _, before = notebook.serve(in_an_api("return missing"))
    assert [u.name for u in before.undefined] == ["missing"]
    notebook.run("import asyncio as missing")
    after = notebook.version(before)[1]
    assert after.undefined == ()
    assert "missing" in after.parts.keys() - before.parts.keys()


# -- random code: what is found is what fails

CONDITIONS = ("coin()", "HAS_IT", "IS_THERE", "TYPE_CHECKING", "not HAS_IT", "HAS_IT and coin()", "IS_THERE or coin()")
MOST_RUNS = 2000
TOSS = """
def coin():
    return True
def toss():
    if coin():
        raise ValueError if coin() else KeyError
"""


def block(statements: list[list[str]]) -> list[str]:
    return [f"    {line}" for statement in statements for line in statement] or ["    pass"]


def compound(children: st.SearchStrategy[list[list[str]]]) -> st.SearchStrategy[list[str]]:
    test = st.sampled_from(CONDITIONS)
    caught = st.sampled_from(["except Exception:", "except:", "except ValueError:", "except (KeyError, OSError):"])
    context = st.sampled_from(["suppress(Exception)", "nullcontext()"])
    end = ["        return 0"]
    return st.one_of(
        st.builds(lambda t, a: [f"if {t}:", *block(a)], test, children),
        st.builds(lambda t, a, b: [f"if {t}:", *block(a), "else:", *block(b)], test, children, children),
        st.builds(lambda t, a: [f"if {t}:", *block(a), "    return 0"], test, children),
        st.builds(lambda t: [f"assert {t} or True"], test),
        st.builds(lambda c, a: ["try:", "    toss()", *block(a), c, "    pass"], caught, children),
        st.builds(lambda a, b: ["try:", "    toss()", *block(a), "finally:", *block(b)], children, children),
        st.builds(lambda w, a: [f"with {w}:", *block(a)], context, children),
        st.builds(lambda t, a: ["with nullcontext():", f"    if {t}:", *block([block(a)]), *end], test, children),
        st.builds(lambda a: ["for i in range(2 * coin()):", *block(a)], children),
        st.builds(lambda a: ["def inner():", *block(a), "inner()"], children),
    )


NAMES = st.sampled_from(["first", "second", "third"])
SIMPLE = st.one_of(
    st.builds(lambda n: [n], NAMES),
    st.builds(lambda n: [f"[{n} for _ in 'ab']"], NAMES),
    st.builds(lambda t, n: [f"{n} if {t} else HERE"], st.sampled_from(CONDITIONS), NAMES),
    st.builds(lambda t, n: [f"{t} and {n}"], st.sampled_from(CONDITIONS), NAMES),
    st.just(["HERE"]),
)
STATEMENT = st.recursive(SIMPLE, lambda inner: compound(st.lists(inner, min_size=1, max_size=3)), max_leaves=8)


def failing(space: dict[str, Any]) -> set[str]:
    """The names at which the api fails in some run: each coin shows both sides, after whatever came before."""
    names = set[str]()
    todo: list[tuple[bool, ...]] = [()]
    runs = 0
    while todo:
        runs += 1
        assume(runs <= MOST_RUNS)
        given_before, shown = todo.pop(), list[bool]()

        def coin(before: tuple[bool, ...] = given_before, shown: list[bool] = shown) -> bool:
            shown.append(before[len(shown)] if len(shown) < len(before) else False)
            return shown[-1]

        space["coin"] = coin
        try:
            space["Answer"].say(None)
        except NameError as error:
            names.add(str(error.name))
        except (ValueError, KeyError):
            pass
        todo += [(*shown[:i], True) for i in range(len(given_before), len(shown))]
    return names


@given(body=st.lists(STATEMENT, min_size=1, max_size=4))
def test_a_name_is_found_where_the_code_fails_and_never_where_it_works(body: list[list[str]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        notebook = scratch(patch)
        notebook.run(HEAD + TOSS)
        notebook.run(in_an_api("\n".join(line for statement in body for line in statement)))
        told = {u.name for u in notebook.version()[1].undefined}
        fails = failing(notebook.space)
        assert fails <= told
        assert bool(told) == bool(fails)


def scratch(patch: pytest.MonkeyPatch) -> Notebook:
    import sys
    import types

    module = types.ModuleType("__main__")
    patch.setitem(sys.modules, "__main__", module)
    return Notebook(vars(module))
