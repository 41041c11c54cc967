"""What stands under a cell that leaves services behind, and under one that calls them: each thing once."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.system

Notebook = Any  # of conftest.py

CELL = """
%%service
class Writer:
    @api
    def write(self, x: int) -> int:
        return tidy(x)
class Front:
    writer = depends(Writer)
    @api
    def ask(self, x: int) -> int:
        return self.writer.write(x)
"""

WAYS = "%services refresh brings it up to date; %config NbcomposeMagics.auto_refresh = True does so after every cell"


@pytest.fixture
def graph(clean: Notebook) -> Notebook:
    clean.ok("def tidy(x):\n    return x")
    clean.ok(CELL)
    return clean


def change(notebook: Notebook, by: int) -> Any:
    return notebook.ok(f"def tidy(x):\n    return x + {by}")


def notes(notebook: Notebook) -> list[str]:
    """The names that the card of `Writer` says are not defined."""
    card = notebook.shell.meta["nbcompose"].cards["Writer"]._bundle()["text/plain"]
    return [line.split()[1] for line in card.splitlines() if "is not defined" in line]


# -- names that nothing defines


def test_a_name_that_nothing_defines_is_on_the_card_until_a_cell_defines_it(clean: Notebook) -> None:
    for name in ("asyncio", "limit"):  # of other tests
        clean.shell.user_ns.pop(name, None)
    ran = clean.ok("""
        %%service
        class Writer:
            @api
            async def write(self, x: int) -> int:
                await asyncio.sleep(0)
                x += limit
                return x + limit
    """)
    assert "note: asyncio is not defined, and Writer.write uses it (Cell In[" in ran.plain
    assert "], line 5): run a cell with import asyncio, then %services refresh Writer" in ran.plain
    assert "line 6 and 1 more): run a cell that imports or defines it, then %services refresh Writer" in ran.plain
    assert "⚠ asyncio is not defined" in ran.html
    assert "name 'asyncio' is not defined" in clean.run("Writer.write(1)").error
    ran = clean.ok("import asyncio")
    assert ran.plain == f"asyncio is defined now: Writer was started without\n{WAYS}"
    assert notes(clean) == ["limit"]
    ran = clean.run("Writer.write(1)")
    assert ran.plain == f"Writer is stale: asyncio was defined after it had started\n{WAYS}"
    clean.ok("limit = 2")
    assert "is not defined" not in clean.ok("%services refresh").plain
    assert clean.ok("Writer.write(1)").result == 5


def test_a_name_that_only_ipython_has_is_on_the_card(clean: Notebook) -> None:
    ran = clean.ok("""
        %%service
        class Writer:
            @api
            def write(self, x: int) -> int:
                display(x)
    """)
    assert "note: display is not defined, and Writer.write uses it" in ran.plain
    assert "a replica has no IPython. Return the value instead, and show it here" in ran.plain


def test_an_api_whose_first_parameter_may_be_an_argument_has_a_note(clean: Notebook) -> None:
    ran = clean.ok("""
        %%service
        class Odd:
            factor = 2
            @api
            def twice(x):
                return x * 2
            @api
            def used(owner, x: int) -> int:
                return x * owner.factor
            @api
            def unused(this) -> int:
                return 1
    """)
    [note] = [line for line in ran.plain.splitlines() if "note:" in line]
    assert note == "  note: twice takes x as the instance: if it is an argument, write def twice(self, x)"


def test_an_api_without_self_is_refused_with_its_line(clean: Notebook) -> None:
    ran = clean.run("%%service\nclass Odd:\n    @api\n    def twice(x: int) -> int:\n        return x * 2")
    assert "], line 3: @api twice takes no `self`: the instance would be x: int. Put `self` before it" in ran.error
    assert "Traceback" not in ran.error


def test_code_that_works_has_no_note(graph: Notebook) -> None:
    assert notes(graph) == []


# -- cells that make services stale


def test_a_cell_that_makes_a_service_stale_says_so_once(graph: Notebook) -> None:
    ran = change(graph, 1)
    assert ran.plain == f"tidy has changed: Writer uses the old one\n{WAYS}"
    assert "<code>%services refresh</code>" in ran.html
    assert graph.ok("x = 1").displays == []
    assert graph.ok("%services").displays == []
    assert "tidy has changed" in change(graph, 2).plain
    assert change(graph, 2).displays == []  # the same again
    graph.ok("%services refresh")
    assert change(graph, 3).plain == f"tidy has changed: Writer uses the old one\n{WAYS}"


def test_services_and_names_that_go_together_are_one_line(graph: Notebook) -> None:
    graph.ok("limit = 1")
    graph.ok("""
        %%service
        class A:
            @api
            def get(self) -> int:
                return tidy(limit)
        class B:
            @api
            def get(self) -> int:
                return tidy(limit)
    """)
    ran = graph.ok("limit = 2\ndef tidy(x):\n    return x + 5")
    assert ran.plain.splitlines() == [
        "tidy has changed: Writer uses the old one",
        "limit and tidy have changed: A and B use the old ones",
        WAYS.replace("it up", "them up"),
    ]


def test_a_name_that_is_gone_is_a_change(graph: Notebook) -> None:
    assert graph.ok("del tidy").plain == f"tidy has changed: Writer uses the old one\n{WAYS}"


def test_what_only_another_cell_brings_up_to_date(clean: Notebook) -> None:
    clean.ok("class Base:\n    def f(self):\n        return 1")
    clean.ok("%%service\nclass Loud(Base):\n    @api\n    def get(self) -> int:\n        return self.f()")
    ran = clean.ok("class Base:\n    def f(self):\n        return 2")
    assert ran.plain == "Base has changed: Loud uses the old one\nRun the cell of Loud again"
    ran = clean.ok("Loud.get()")
    assert ran.plain == "Loud is stale: it uses Base as it was before\nRun the cell of Loud again"


def test_a_cell_that_refreshes_by_itself_says_no_more(graph: Notebook) -> None:
    graph.ok("%config NbcomposeMagics.auto_refresh = True")
    try:
        ran = change(graph, 7)
        assert "code swapped, weights kept: tidy changed" in ran.plain
        assert "auto_refresh" not in ran.plain
        ran = graph.ok("Front.ask(1)")
        assert (ran.displays, ran.result) == ([], 8)
    finally:
        graph.ok("%config NbcomposeMagics.auto_refresh = False")


def test_a_cell_that_gives_a_service_the_new_code_itself_says_nothing(graph: Notebook) -> None:
    ran = graph.ok(CELL.replace("%%service", "%%service\ndef tidy(x):\n    return x * 2"))
    assert "has changed" not in ran.plain
    assert graph.ok("Front.ask(2)").displays == []


# -- calls of stale services


@pytest.mark.parametrize("call", ["Writer.write(1)", "await Writer.to_async.write(1)"])
def test_a_call_of_a_stale_service_says_so_once(graph: Notebook, call: str) -> None:
    change(graph, 1)
    ran = graph.ok(call)
    assert (ran.plain, ran.result) == (f"Writer is stale: it uses tidy as it was before\n{WAYS}", 1)
    assert graph.ok(call).displays == []
    change(graph, 2)
    assert "Writer is stale" in graph.ok(f"{call}; {call}").plain
    graph.ok("%services refresh")
    ran = graph.ok(call)
    assert (ran.displays, ran.result) == ([], 3)


@pytest.mark.parametrize("call", ["Front.ask(1)", "await Front.to_async.ask(1)"])
def test_a_call_of_a_service_above_a_stale_one_names_that(graph: Notebook, call: str) -> None:
    change(graph, 1)
    expected = f"Front depends on Writer, which is stale: it uses tidy as it was before\n{WAYS}"
    assert graph.ok(call).plain == expected
    assert graph.ok(call).displays == []
    assert "Writer is stale" in graph.ok("Writer.write(1)").plain


def test_a_call_after_a_refresh_in_the_same_cell_says_nothing(graph: Notebook) -> None:
    change(graph, 1)
    ran = graph.ok("%services refresh\nresult = Writer.write(1)")
    assert "is stale" not in ran.plain
    assert graph.ok("Writer.write(1)").displays == []


# -- services without a name or a cell


PLAIN = CELL.replace("%%service\n", "")


def test_a_class_that_has_lost_its_magic_is_said_once_until_it_has_it_again(graph: Notebook) -> None:
    ran = graph.ok(PLAIN.partition("class Front")[0])
    assert ran.plain.splitlines() == [
        "Writer is a plain class now, since its cell ran without %%service; the service Writer runs on with its code, "
        "and Front depends on it",
        "With %%service in its first line, the cell gives it the new code; %services stop Writer ends it",
    ]
    assert graph.ok("1").displays == []
    assert graph.ok(PLAIN.partition("class Front")[0]).displays == []
    assert "plain class" not in graph.ok(CELL).plain
    assert graph.ok("Front.ask(1)").result == 1
    assert "Front is a plain class now" in graph.ok(PLAIN.replace("depends(Writer)", "None")).plain


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("Front = 5", "Front stands for something else now"),
        ("del Front", "Front stands for nothing now"),
        ("@service\n" + "class Front" + CELL.partition("class Front")[2], "Front was declared again without %%service"),
    ],
)
def test_a_name_that_no_longer_stands_for_the_service_is_said_once(graph: Notebook, cell: str, said: str) -> None:
    ran = graph.ok(cell)
    assert ran.plain.startswith(f"{said}; the service Front runs on with its code\n")
    assert ran.plain.endswith("%services stop Front ends it")
    assert graph.ok("1").displays == []
    graph.ok("%services stop Front")
    assert graph.ok("1").displays == []


def test_a_cell_that_fails_leaves_the_names_to_their_services(graph: Notebook) -> None:
    [notice] = graph.run(f"{CELL}\n1 / 0").displays
    assert notice["text/plain"].splitlines() == [
        "This cell has started nothing: the versions of Writer and Front before serve on",
        "Run it again, once it is mended, to replace those versions; %services stop Writer Front ends them",
    ]
    assert graph.ok("1").displays == []


def test_stopping_a_service_says_who_depends_on_it(graph: Notebook) -> None:
    assert graph.ok("%services stop Writer").stdout == (
        "Writer was stopped; Front depends on it, and its calls to Writer fail until it runs again\n"
    )
    assert "Writer does not run" in graph.run("Front.ask(1)").error
    graph.ok(CELL)
    assert graph.ok("Front.ask(1)").result == 1
    graph.ok(
        "%%service\nclass Over:\n    front = depends(Front)\n    @api\n    def ask(self) -> int:\n        return 1"
    )
    assert "; Front depends on it (and Over on that), and its calls to" in graph.ok("%services stop Writer").stdout
    graph.ok(CELL)
    stopped = "Over was stopped\nFront was stopped\nWriter was stopped\n"
    assert graph.ok("%services stop Over Front Writer").stdout == stopped


# -- `%%service` below comments


@pytest.mark.parametrize("above", ["# a comment\n", "\n\n# one\n\n# two\n", "\n", "   # indented\n"])
def test_comments_and_empty_lines_may_stand_above_the_magic(clean: Notebook, above: str) -> None:
    cell = (
        f"{above}%%service --name Other\nclass Echo:\n    @api\n    def say(self, x: int) -> int:\n        return x / 0"
    )
    ran = clean.run(cell)
    assert ran.exception is None, ran.error
    error = clean.run("Echo.say(1)").error
    line = len(cell.lstrip("\n").splitlines())  # IPython drops empty lines before it counts
    assert f", line {line}, in say" in error


def test_code_above_the_magic_says_what_to_do(clean: Notebook) -> None:
    ran = clean.run("x = 1\n%%service\nclass Echo:\n    pass")
    assert "%%service comes first in its cell" in ran.error
    assert "Traceback" not in ran.error


def test_other_magics_below_comments_are_left_to_ipython(clean: Notebook) -> None:
    assert clean.run("# a comment\n%%timeit\n1").exception is not None


# -- help and mistakes


@pytest.mark.parametrize(
    ("line", "begin"),
    [
        ("%services --help", "%services [-h] [--live] [--apis] ACTION ..."),
        ("%services stop --help", "%services stop [-h] [--all] [NAME ...]"),
        ("%%service --help\n", "%%service [-h] [--device DEVICE]"),
        ("%%service -h\nx = 1", "%%service [-h] [--device DEVICE]"),
        ("%graph --help", "%graph [-h] [--live] [NAME]"),
        ("%export --help", "%export [-h] [--entry NAME]"),
    ],
)
def test_help_is_printed_in_the_cell(clean: Notebook, line: str, begin: str) -> None:
    ran = clean.ok(line)
    assert ran.stdout.startswith(begin)
    assert "show this" in ran.stdout
    assert ran.displays == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("%services stopp X", "(did you mean stop?)\nusage: %services [-h] [--live] [--apis] ACTION ..."),
        ("%services stop --al", "unrecognized arguments: --al (did you mean --all?)\nusage: %services stop"),
        ("%graph --life", "unrecognized arguments: --life (did you mean --live?)\nusage: %graph [-h] [--live] [NAME]"),
        ("%%service --repilcas 2\nx", "--repilcas 2 (did you mean --replicas?)\n%%service --help lists the options"),
        ("%export app.py --chekc", "unrecognized arguments: --chekc (did you mean --check?)\nusage: %export"),
    ],
)
def test_a_mistake_says_what_was_meant_and_the_usage(clean: Notebook, line: str, said: str) -> None:
    ran = clean.run(line)
    assert said in ran.error
    assert len(ran.error.strip().splitlines()) == 2
