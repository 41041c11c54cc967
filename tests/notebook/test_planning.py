"""What a run of a cell would do, told from its text, against what the run then does: in a real shell, real replicas."""

from __future__ import annotations

import re
import textwrap
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbcompose._control import RuntimeContext
from nbcompose._notebook import staleness
from nbcompose._notebook.planning import plan
from nbcompose._notebook.sources import KEPT, MOST_STOPPED, Sources, text_hash

pytestmark = pytest.mark.system

Notebook = Any  # of conftest.py

CELL = '''
%%service
import math
from functools import lru_cache

LIMIT = 3

def loud(text, end="!"):
    "Makes it loud."
    return text.upper() + end

@lru_cache(maxsize=4)
def kept(text):
    return loud(text)

def load():
    return [SIZE, "weights"]

class Answer:
    """Says it again."""
    greeting = {"en": "hello there", "de": ["hallo", "servus"]}
    count: int = 2 * 3

    def __init__(self):
        self.weights = load()

    @api
    def say(self, text: str = "a b", count: int = 2) -> list[str]:
        """Says it."""
        return [kept(text)] * (count + LIMIT) + self._inner(text)

    def _inner(self, text):
        return [helper(text), math.floor(1.5)]

    @property
    def length(self):
        return len(self.weights)

    @staticmethod
    def fixed(x: int | None = None):
        return x
'''


def edited(cell: str, *edits: tuple[str, str]) -> str:
    for old, new in edits:
        assert old in cell
        cell = cell.replace(old, new, 1)
    return cell


def session_of(notebook: Notebook) -> Any:
    return notebook.shell.meta["nbcompose"]


def planned(notebook: Notebook, cell: str) -> dict[str, tuple[str, str]]:
    """What the plan says of each service, and why."""
    return {p["service"]: (p["outcome"], p["why"]) for p in plan(session_of(notebook), cell.strip("\n"))}


def running(notebook: Notebook) -> dict[str, tuple[int, list[int]]]:
    """Version and processes of each service."""
    statuses = session_of(notebook).registry.statuses()
    return {s.name: (s.version, sorted(r.pid for r in s.replicas)) for s in statuses}


def done(notebook: Notebook, cell: str, *, may_fail: bool = False) -> dict[str, str]:
    """What a run of the cell does with each service that runs then; nothing is said where it fails."""
    before = running(notebook)
    ran = notebook.run(cell)
    assert may_fail or ran.exception is None, ran.error
    if ran.exception is not None:
        return {}
    after = running(notebook)
    found = {}
    for name, (version, pids) in after.items():
        if name not in before:
            found[name] = "start"
        elif before[name] == (version, pids):
            found[name] = "nothing"
        else:
            found[name] = "swap" if before[name][1] == pids else "replace"
    return found


@pytest.fixture
def ready(clean: Notebook) -> Notebook:
    clean.ok("from nbcompose import on_startup\nSIZE = 4\nVALUES = [1, 2]\ndef helper(text):\n    return text + '.'")
    clean.ok(CELL)
    return clean


KNOWN: dict[str, tuple[list[tuple[str, str]], str]] = {
    "unchanged": ([], "nothing"),
    "white space at its end": ([("return x\n", "return x\n\n\n")], "nothing"),
    "a comment": ([("LIMIT = 3", "# a limit\nLIMIT = 3  # three")], "nothing"),
    "comments above the magic": ([("%%service", "# first\n\n%%service")], "nothing"),
    "layout": ([("return [kept(text)]", "return [\n            kept(text)\n        ]")], "nothing"),
    "other numbers of lines": ([("import math", "\n\nimport math\n\n")], "nothing"),
    "an import more": ([("import math", "import math, re")], "nothing"),
    "a method": ([("* (count + LIMIT)", "* (count - LIMIT)")], "swap"),
    "a private method": ([("helper(text), ", "helper(text).lower(), ")], "swap"),
    "a new api": (
        [("    @property", "    @api\n    def more(self) -> int:\n        return 1\n\n    @property")],
        "swap",
    ),
    "a docstring of an api": ([('"""Says it."""', '"""Says that."""')], "swap"),
    "the docstring of the class": ([("Says it again.", "Says it.")], "swap"),
    "an annotation": ([("count: int = 2)", "count: float = 2)")], "swap"),
    "a default": ([('text: str = "a b"', 'text: str = "b"')], "swap"),
    "a function that a method uses": ([("text.upper()", "text.lower()")], "swap"),
    "a default of a function": ([('end="!"', 'end="?"')], "swap"),
    "the size of a cache": ([("maxsize=4", "maxsize=8")], "swap"),
    "a number that a method uses": ([("LIMIT = 3", "LIMIT = 4")], "swap"),
    "the same number": ([("LIMIT = 3", "LIMIT = 1 + 2")], "nothing"),
    "a static method": ([("x: int | None = None", "x: int | None = 3")], "swap"),
    "a property": ([("return len(self.weights)", "return 1 + len(self.weights)")], "swap"),
    "options of an api": ([("    @api\n    def say", "    @api(idempotent=True)\n    def say")], "swap"),
    "__init__": ([("self.weights = load()", "self.weights = [load()]")], "replace"),
    "what __init__ uses": ([('"weights"', '"other weights"')], "replace"),
    "a start-up hook": (
        [("    @property", "    @on_startup\n    def up(self):\n        pass\n\n    @property")],
        "replace",
    ),
    "an attribute": ([('"hallo"', '"hallo!"')], "replace"),
    "an attribute that is the same": ([("2 * 3", "6")], "nothing"),
    "an attribute more": ([("count: int", "other = (1, 'a')\n    count: int")], "replace"),
    "a dependency": ([("count: int", "other = depends('Other')\n    count: int")], "replace"),
    "options": ([("%%service", "%%service --threads 3")], "replace"),
    "more replicas": ([("%%service", "%%service --replicas 2")], "replace"),
    "a default option": ([("%%service", "%%service --replicas 1 --no-wait")], "nothing"),
    "values of the standard library": (
        [
            ("LIMIT = 3", "import logging\nLOG = logging.getLogger('asyncio')\nLIMIT = 3"),
            ("import math", "import math, re\nfrom pathlib import Path\nWORD = re.compile('a+')\nAT = Path('a', 'b')"),
            ("return [helper(text), ", "LOG.debug(text)\n        return [WORD.sub('b', helper(text)), str(AT), "),
        ],
        "swap",
    ),
    "another name": ([("class Answer", "class Reply")], "start"),
    "another name by option": ([("%%service", "%%service --name Reply")], "start"),
}


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_told_of_an_edit_is_what_its_run_does(ready: Notebook, name: str) -> None:
    edits, outcome = KNOWN[name]
    cell = edited(CELL, *edits)
    service = "Reply" if outcome == "start" else "Answer"
    assert {s: told for s, (told, _) in planned(ready, cell).items()} == {service: outcome}
    assert done(ready, cell.replace(" --no-wait", ""))[service] == outcome


UNKNOWN: dict[str, tuple[list[tuple[str, str]], str]] = {
    "a statement": ([("LIMIT = 3", "print(1)\nLIMIT = 3")], "line 5 does more than define something"),
    "a call": ([("LIMIT = 3", "LIMIT = int(3)")], "what int(3) gives is not known"),
    "a logger that is not there": (
        [("LIMIT = 3", "import logging\nLOG = logging.getLogger('of.nobody')")], "a logger of that name is made",
    ),
    "a pattern that is none": ([("LIMIT = 3", "import re\nWORD = re.compile('(')")], "compile raises"),
    "a base": ([("class Answer:", "class Answer(dict):")], "extends another class"),
    "a metaclass": ([("class Answer:", "class Answer(metaclass=type):")], "extends another class"),
    "a decorator of the class": ([("class Answer:", "@print\nclass Answer:")], "is decorated"),
    "a decorator": ([("    def _inner", "    @helper\n    def _inner")], "@helper does is not known"),
    "another magic": ([("LIMIT = 3", "%time LIMIT = 3")], "does more than define something"),
    "no Python": ([("LIMIT = 3", "LIMIT = ")], "it is not Python"),
    "a module that is not there": ([("import math", "import math, mailcap_of_mine")], "has not been imported yet"),
    "an attribute that is worked out": ([("2 * 3", "max(2, 3)")], "max(2, 3) gives is not known"),
    "texts as annotations": ([("text: str", "text: 'str'")], "annotation 'str'"),
    "a wrong option": ([("%%service", "%%service --replica 2")], "unrecognized arguments"),
    "an option from a variable": ([("%%service", "%%service --replicas {SIZE}")], "the options are not known"),
    "a mistake in the class": ([("    @api\n", "")], "defines no service"),
    "a mistake in an api": ([("def say(self, text", "def say(text")], "takes no `self`"),
    "a name that is bound twice": ([("LIMIT = 3", "LIMIT = 3\nLIMIT = 4")], "binds LIMIT twice"),
    "a value that cannot be sent": (
        [("def load", "def odd():\n    return LOCK\n\ndef load"), ("[helper", "[odd(), helper")], "cannot be compared",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_cannot_be_told_is_unknown_and_the_reason_is_given(ready: Notebook, name: str) -> None:
    ready.ok("import threading\nLOCK = threading.Lock()")
    edits, why = UNKNOWN[name]
    outcome, told = planned(ready, edited(CELL, *edits))["Answer"]
    assert outcome == "unknown"
    assert why in told


def test_a_reason_names_cells_as_the_notebook_does(ready: Notebook) -> None:
    ready.ok("""
        %%service
        class Above:
            answer = depends("Answer")

            @api
            def ask(self, text: str) -> list[str]:
                return self.answer.say(text)
    """)
    _, why = planned(ready, edited(CELL, ("def say(", "def tell(")))["Answer"]
    assert re.search(r"Above\.ask calls self\.answer\.say \(Cell In\[\d+\], line 7\)", why)


def test_the_reason_is_given_where_not_even_names_are_known(clean: Notebook) -> None:
    told = planned(clean, "%%service\nclas Answer:\n    pass")
    assert list(told) == [""]
    assert told[""][0] == "unknown"
    assert told[""][1].startswith("it is not Python: ")


def test_nothing_of_the_text_runs(ready: Notebook, tmp_path: Any) -> None:
    touch = f"__import__('pathlib').Path({str(tmp_path / 'ran')!r}).touch()"
    for edit in (
        ("LIMIT = 3", touch),
        ("LIMIT = 3", f"LIMIT = {touch}"),
        ("text: str", f"text: {touch}"),
        ("text: str", f"text: {touch!r}"),
        ('= "a b"', f"= {touch}"),
        ("2 * 3", touch),
        ("    @api\n", f"    @{touch}\n"),
        ("class Answer:", f"class Answer({touch}):"),
        ("%%service", f"%%service --name {{{touch}}}"),
        ("self.weights = load()", touch),
    ):
        planned(ready, edited(CELL, edit))
    assert not list(tmp_path.iterdir())
    assert ready.ok("LIMIT, Answer.spec.name").result == (3, "Answer")


def test_values_of_the_notebook_that_changed_since_count(ready: Notebook) -> None:
    ready.ok("def helper(text):\n    return text + '?'")
    assert planned(ready, CELL)["Answer"][0] == "swap"
    assert done(ready, CELL)["Answer"] == "swap"
    ready.ok("SIZE = 5")
    assert planned(ready, CELL)["Answer"][0] == "replace"
    assert done(ready, CELL)["Answer"] == "replace"


def test_values_that_changed_in_place_count(ready: Notebook) -> None:
    cell = edited(CELL, ("[helper(text), ", "[helper(text), VALUES, "))
    assert done(ready, cell)["Answer"] == "swap"
    assert planned(ready, cell)["Answer"][0] == "nothing"
    ready.ok("VALUES.append(3)")
    assert planned(ready, cell)["Answer"][0] == "swap"
    assert done(ready, cell)["Answer"] == "swap"


def test_an_instance_that_may_hold_its_method_is_not_promised_a_swap(ready: Notebook) -> None:
    cell = edited(CELL, ("self.weights = load()", "self.weights = load()\n        self.held = self._inner"))
    ready.ok(cell)
    outcome, why = planned(ready, edited(cell, ("+ LIMIT", "- LIMIT")))["Answer"]
    assert (outcome, "_inner" in why) == ("unknown", True)


def test_an_api_that_another_service_calls_cannot_go(ready: Notebook) -> None:
    ready.ok("%%service\nclass Front:\n    answer = depends('Answer')\n    @api\n    def ask(self) -> list:\n"
             "        return self.answer.say('a')\n")  # fmt: skip
    cell = edited(CELL, ("    @api\n    def say", "    @api(name='tell')\n    def say"))
    outcome, why = planned(ready, cell)["Answer"]
    assert (outcome, "no api 'say'" in why) == ("unknown", True)
    assert "Incompatible" in str(type(ready.run(cell).exception))


def test_several_services_of_a_cell(clean: Notebook) -> None:
    cell = """
        %%service
        class Leaf:
            @api
            def f(self) -> int:
                return 1

        class Front:
            leaf = depends(Leaf)
            @api
            def g(self) -> int:
                return self.leaf.f()
    """
    cell = textwrap.dedent(cell).strip("\n")
    assert {n: o for n, (o, _) in planned(clean, cell).items()} == {"Leaf": "start", "Front": "start"}
    assert done(clean, cell) == {"Leaf": "start", "Front": "start"}
    cell = edited(cell, ("return 1", "return 2"))
    assert {n: o for n, (o, _) in planned(clean, cell).items()} == {"Leaf": "swap", "Front": "nothing"}
    assert done(clean, cell) == {"Leaf": "swap", "Front": "nothing"}


def test_a_service_that_was_stopped_or_failed_starts(ready: Notebook) -> None:
    ready.ok("%services stop Answer")
    assert planned(ready, CELL)["Answer"][0] == "start"
    broken = edited(CELL, ("self.weights = load()", "raise ValueError"))
    assert ready.run(broken).exception is not None
    assert planned(ready, broken)["Answer"][0] == "start"


@pytest.mark.parametrize(
    "cell", ["", "x = 1", "%%time\nx = 1", "class Answer:\n    pass", "x = 1\n%%service\nclass A: pass"]
)
def test_a_cell_without_the_magic_does_nothing_with_services(ready: Notebook, cell: str) -> None:
    assert planned(ready, cell) == {}


def test_while_a_cell_runs_only_what_cannot_change_is_told(ready: Notebook) -> None:
    with_values = edited(CELL, ("[helper(text), ", "[helper(text), VALUES, "))
    ready.ok(with_values)
    told: dict[str, Any] = {}

    def ask() -> None:
        told["same"] = planned(ready, with_values)["Answer"]
        told["without"] = planned(ready, CELL)["Answer"]

    def on_another_thread() -> None:
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()

    ready.shell.user_ns["ask"] = on_another_thread
    ready.ok("ask()")
    assert told["same"] == ("unknown", "a cell runs, and may change VALUES")
    assert told["without"][0] == "swap"


@pytest.mark.parametrize("way", ["silent", "configured"])
def test_loading_the_extension_leaves_no_cell_that_runs(bare: Notebook, way: str) -> None:
    """The side panel loads it by a silent request, whose end IPython tells no `post_run_cell`."""
    bare.shell.user_ns["VALUES"] = [1, 2]
    try:
        if way == "silent":
            assert bare.shell.run_cell("%load_ext nbcompose", silent=True).success
        else:
            bare.shell.extension_manager.load_extension("nbcompose")
        told = planned(
            bare, "%%service\nfrom nbcompose import api\nclass A:\n    @api\n    def a(self):\n        return VALUES"
        )
        assert told == {"A": ("start", "no version of it serves")}
        assert not session_of(bare).cell_runs
    finally:
        bare.ok("%unload_ext nbcompose")


# -- every edit, in any combination


def with_edits(edits: list[tuple[str, str]], cell: str) -> str:
    return edited(cell, *edits) if all(old in cell for old, _ in edits) else cell


SNIPPETS: list[Callable[[str], str]] = [
    *(partial(with_edits, edits) for edits, _ in KNOWN.values()),
    lambda cell: cell.replace("    @property\n    def length", "    def length"),
    lambda cell: cell.replace("self._inner(text)", "[]"),
    lambda cell: cell.replace("load()\n", "load() + [LIMIT]\n"),
    lambda cell: cell.replace("SIZE, ", "SIZE, VALUES, "),
    lambda cell: cell.replace("helper(text), ", "VALUES, "),
    lambda cell: cell.replace("import math", "import math as maths").replace("math.floor", "maths.floor"),
    lambda cell: cell.replace("from functools import lru_cache", "from functools import lru_cache, partial"),
    lambda cell: cell.replace("def loud(", "def louder(").replace("loud(text)", "louder(text)"),
    lambda cell: cell.replace("    count: int = 2 * 3\n", ""),
    lambda cell: cell.replace("-> list[str]", "-> list"),
    lambda cell: cell.replace("    def _inner", "    async def _inner"),
]  # fmt: skip
CHANGES = ["", "SIZE = 6", "SIZE = 4", "VALUES.append(1)", "def helper(text):\n    return text", "LIMIT = 99"]


def check_edits(notebook: Notebook, examples: int) -> None:
    """Run edits one after another, each planned before; at most three of ten may be unknown."""
    count = {"all": 0, "unknown": 0}

    @settings(
        max_examples=examples,
        report_multiple_bugs=False,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        first=st.lists(st.sampled_from(SNIPPETS), max_size=4),
        then=st.lists(st.sampled_from(SNIPPETS), max_size=4),
        change=st.sampled_from(CHANGES),
    )
    def edits(first: list[Callable[[str], str]], then: list[Callable[[str], str]], change: str) -> None:
        cell = CELL
        for edit in first:
            cell = edit(cell)
        cell = cell.replace(" --no-wait", "")
        notebook.run(cell)
        if change:
            notebook.ok(change)
        for edit in then:
            cell = edit(cell)
        cell = cell.replace(" --no-wait", "")
        told = planned(notebook, cell)
        did = done(notebook, cell, may_fail=True)
        count["all"] += len(told)
        for name, (outcome, why) in told.items():
            count["unknown"] += outcome == "unknown"
            assert outcome in ("unknown", did.get(name)), (why, cell)

    edits()
    assert count["unknown"] < 0.3 * count["all"], count


def test_no_edit_is_told_wrongly(ready: Notebook) -> None:
    check_edits(ready, 40)


@pytest.mark.slow
def test_no_edit_of_many_is_told_wrongly(ready: Notebook) -> None:
    check_edits(ready, 200)


# -- the hash of a cell


def test_hashes_of_texts_are_those_of_fnv() -> None:
    assert text_hash("") == "cbf29ce484222325"
    assert text_hash("a") == "af63dc4c8601ec8c"
    assert text_hash("foobar \n\t\u00a0\ufeff") == "85944171f73967e8"
    assert text_hash("\ud800") == text_hash("\ufffd") == "6f6d661b9658624a"
    assert text_hash("%%service\nclass Ä:\n    x = '€ 𝄞'  ") == "0a6881531358b5cf"


def test_a_service_says_which_text_started_it(ready: Notebook) -> None:
    def source() -> str:
        registry = session_of(ready).registry
        return str(registry.operations.state(registry.statuses())["services"][0]["source"])

    text = CELL.strip("\n")
    assert source() == text_hash(text)
    comment = edited(text, ("LIMIT = 3", "LIMIT = 3  # three"))
    ready.ok(comment)
    assert source() == text_hash(comment)
    swapped = edited(text, ("+ LIMIT", "- LIMIT"))
    ready.ok(swapped)
    assert source() == text_hash(swapped)
    broken = edited(text, ("self.weights = load()", "raise ValueError"))
    assert ready.run(broken).exception is not None
    assert source() == text_hash(swapped)
    ready.ok("%services rollback Answer")
    assert source() == text_hash(comment)


def test_a_service_that_was_stopped_says_which_cell_started_it(
    ready: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_in(cell: str, text: str) -> None:
        monkeypatch.setattr(staleness, "cell_id", lambda _: cell)
        ready.ok(text)

    def state() -> Any:
        registry = session_of(ready).registry
        return registry.operations.state(registry.statuses())

    text = CELL.strip("\n")
    copy = f"{text}\n# a copy"
    run_in("c1", text)
    run_in("c2", copy)  # does nothing, and its card is the one that goes on
    assert [(s["cell"], s["source"]) for s in state()["services"]] == [("c2", text_hash(copy))]
    ready.ok("%services stop Answer")
    assert state()["services"] == []
    assert state()["stopped"][-1] == {"name": "Answer", "cell": "c2", "source": text_hash(copy)}
    run_in("c1", text)
    assert "Answer" not in [s["name"] for s in state()["stopped"]]
    registry = session_of(ready).registry
    registry.portal.run(registry.operations.stop({"id": "1", "type": "stop", "service": "Answer"}, None))
    assert state()["stopped"][-1] == {"name": "Answer", "cell": "c1", "source": text_hash(text)}
    assert session_of(ready).started == {}


def test_a_service_that_has_failed_to_start_says_which_text_asked_for_it(ready: Notebook) -> None:
    registry = session_of(ready).registry
    broken = edited(CELL.strip("\n"), ("class Answer", "class Broken"), ("self.weights = load()", "raise ValueError"))
    assert ready.run(broken).exception is not None
    services = {s["name"]: s for s in registry.operations.state(registry.statuses())["services"]}
    assert services["Broken"]["state"] == "failed"
    assert services["Broken"]["source"] == text_hash(broken)


def test_the_cells_of_versions_are_known_until_a_service_is_forgotten() -> None:
    sources = Sources()
    versions: list[Any] = [object() for _ in range(KEPT + 1)]
    for number, version in enumerate(versions):
        sources.note("A", version, f"text {number}", f"cell {number}")
    assert sources.cell("A", versions[-1]) == f"cell {KEPT}"
    assert sources.of("A", versions[1]) == "text 1"
    assert sources.cell("A", versions[0]) == ""  # so many are kept
    sources.note("A", versions[1], "again", "moved")
    assert (sources.of("A", versions[1]), sources.cell("A", versions[1])) == ("again", "moved")
    sources.stop("A")
    assert sources.cell("A", versions[1]) == ""


def test_the_cells_of_stopped_services_are_known_until_they_run_again() -> None:
    sources = Sources()
    version: Any = object()
    sources.note("Aside", version, "text", "")
    sources.stop("Aside")
    sources.stop("Unknown")
    assert sources.stopped() == []  # a front end without cells' ids
    for number in range(MOST_STOPPED + 1):
        sources.note(f"A{number}", version, f"text {number}", "cell")
        sources.stop(f"A{number}")
        sources.stop(f"A{number}")  # as is said once more when it is gone
    assert [s["name"] for s in sources.stopped()] == [f"A{n + 1}" for n in range(MOST_STOPPED)]
    assert sources.stopped()[-1] == {"name": f"A{MOST_STOPPED}", "cell": "cell", "source": f"text {MOST_STOPPED}"}
    sources.note("A1", version, "text", "cell")
    assert sources.stopped()[0]["name"] == "A2"


# -- as clients ask


def test_clients_ask_of_several_cells_at_once(ready: Notebook) -> None:
    registry = session_of(ready).registry
    cells = [{"cell": "a", "text": CELL.strip("\n")}, {"cell": "b", "text": "x = 1"}]
    answer = registry.portal.run(registry.operations.plan({"type": "plan", "cells": cells}, None))
    nothing = {"service": "Answer", "outcome": "nothing", "why": "it means what runs"}
    assert answer == {
        "type": "planned",
        "cells": [{"cell": "a", "services": [nothing]}, {"cell": "b", "services": []}],
    }


def test_a_process_without_a_notebook_cannot_tell() -> None:
    told = RuntimeContext().plan(CELL)
    assert [(p["service"], p["outcome"]) for p in told] == [("Answer", "unknown")]
