"""Services whose class is renamed, and whose cell is deleted, in a real kernel that is told which cell runs."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import Any

import pytest

from tests.patience import PATIENCE

pytestmark = pytest.mark.system

Kernel = Any  # of conftest.py

CELL = """
%%service
class Echo:
    @api
    def say(self, x: int) -> int:
        return x
"""
WAY = "A %%service cell that defines Echo takes it over; %services stop Echo ends it"


def run(kernel: Kernel, cell: str, source: str, deleted: Sequence[str] = ()) -> Any:
    """Run a cell as JupyterLab does."""
    return kernel.finished(send(kernel, cell, source, deleted))


def send(kernel: Kernel, cell: str, source: str, deleted: Sequence[str] = ()) -> str:
    """Send a cell, as `run` does; returns the id of its run."""
    message = kernel.client.session.msg(
        "execute_request",
        {
            "code": textwrap.dedent(source).strip("\n"),
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": False,
        },
        metadata={"cellId": cell, "deletedCells": list(deleted)},
    )
    kernel.client.shell_channel.send(message)
    return str(message["header"]["msg_id"])


@pytest.mark.parametrize("again", [CELL.replace("Echo", "Other"), "x = 1"], ids=["renamed", "no class"])
def test_a_cell_that_no_longer_defines_a_service_says_so_once(kernel: Kernel, again: str) -> None:
    run(kernel, "one", CELL)
    assert run(kernel, "two", "x = 1").displays == []
    lines = run(kernel, "one", again).displays[-1]["text/plain"].splitlines()
    assert lines == ["This cell no longer defines Echo; the service Echo runs on with its code", WAY]
    assert "Echo" not in run(kernel, "one", again).plain
    assert run(kernel, "two", "Echo.say(3)").result == "3"
    run(kernel, "one", CELL)
    assert "no longer defines Echo" in run(kernel, "one", again).plain


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (
            CELL.replace("class Echo", "clas Echo"),
            "This cell has started nothing: the version of Echo before serves on\n"
            "Run it again, once it is mended, to replace that version; %services stop Echo ends it",
        ),
        *(
            (
                CELL.replace("class Echo:", first_line),
                "This cell has started nothing: Echo, of an earlier text of this cell, serves on; "
                "%services stop Echo ends it",
            )
            for first_line in ("class Other:\n    x = unknown", "clas Other:")
        ),
    ],
)
def test_a_broken_cell_says_what_an_earlier_run_of_it_has_started(kernel: Kernel, broken: str, said: str) -> None:
    """Also where its text no longer names it."""
    run(kernel, "one", CELL)
    ran = run(kernel, "one", broken)
    assert "Error" in ran.error
    assert ran.plain == said
    assert run(kernel, "two", broken).displays == []


def test_a_cell_that_comes_back_with_a_comment_and_another_name(kernel: Kernel) -> None:
    run(kernel, "one", CELL)
    assert "Echo is a plain class now" in run(kernel, "one", CELL.replace("%%service", "# a comment")).plain
    ran = run(kernel, "one", "# a comment\n" + CELL.strip("\n").replace("Echo", "Other"))
    assert "Other is ready" in ran.plain
    assert "This cell no longer defines Echo" not in ran.plain  # its name is a plain class, which has been said


def test_a_cell_that_gives_its_service_another_name(kernel: Kernel) -> None:
    run(kernel, "one", CELL)
    ran = run(kernel, "one", CELL.replace("%%service", "%%service --name Other"))
    assert "This cell no longer defines Echo; the service Echo runs on" in ran.displays[-1]["text/plain"]
    assert run(kernel, "two", "x = 1").displays == []


def test_a_service_that_another_cell_defines_too_has_its_cell_there(kernel: Kernel) -> None:
    run(kernel, "one", CELL)
    run(kernel, "two", CELL)
    assert run(kernel, "one", "x = 1").displays == []
    assert "no longer defines Echo" in run(kernel, "two", "x = 1").plain


def test_a_cell_within_the_cell_has_ended_before_it(kernel: Kernel) -> None:
    captured = f"%%capture\n{CELL.strip()}"  # which runs the rest as a cell
    assert run(kernel, "one", captured).displays == []
    assert run(kernel, "one", captured).displays == []
    assert "no longer defines Echo" in run(kernel, "one", "x = 1").plain


def test_a_cell_that_fails_has_not_lost_its_service(kernel: Kernel) -> None:
    run(kernel, "one", CELL)
    assert run(kernel, "one", "1 / 0").displays == []
    assert "no longer defines" not in run(kernel, "one", CELL.replace("class Echo:", "class Echo")).plain


def test_a_deleted_cell_is_said_once_under_the_next_one(kernel: Kernel) -> None:
    run(kernel, "one", CELL)
    ran = run(kernel, "two", "x = 1", deleted=["one"])
    assert ran.plain == f"The cell of Echo was deleted; the service Echo runs on with its code\n{WAY}"
    assert run(kernel, "two", "x = 1").displays == []
    assert "deleted" not in run(kernel, "three", CELL).plain
    assert run(kernel, "two", "x = 1", deleted=["nine"]).displays == []


def test_what_a_cell_says_of_stale_services_holds_until_they_are_fresh(kernel: Kernel) -> None:
    run(kernel, "one", CELL.replace("return x", "return helper(x)"))
    changing, calling = send(kernel, "two", "def helper(x):\n    return x + 1"), send(kernel, "three", "Echo.say(1)")
    assert "name 'helper' is not defined" in kernel.finished(calling).error
    assert kernel.shown(changing).plain.startswith("helper is defined now: Echo was started without\n")
    assert kernel.shown(calling).plain.startswith("Echo is stale: helper was defined after it had started\n")
    run(kernel, "four", "%services refresh")
    assert kernel.shown(changing).plain == "Echo was brought up to date"
    assert "⚠" not in kernel.shown(changing).html
    # What was called then was stale, whatever it is now.
    assert kernel.shown(calling).plain == "Echo was stale: helper was defined after it had started"
    assert run(kernel, "three", "Echo.say(1)").result == "2"


@pytest.mark.parametrize("stop", ["%services stop Echo", "registry.remove('Echo')"], ids=["magic", "elsewhere"])
def test_notices_and_cards_say_that_a_service_was_stopped(kernel: Kernel, stop: str) -> None:
    """By whatever: the notice of a cell that no longer defines it, that of one that has failed, and all its cards."""
    kernel.ok("registry = get_ipython().meta['nbcompose'].registry")
    first = send(kernel, "one", CELL)
    again = send(kernel, "two", "%services restart Echo")
    kernel.finished(again)
    assert kernel.shown(first).plain == "Echo was changed or restarted by a later cell"
    lost = send(kernel, "three", "Echo = 5")
    failed = send(kernel, "four", CELL.replace("class Echo:", "class Echo:\n    x = unknown"))
    kernel.finished(failed)
    assert "the service Echo runs on with its code" in kernel.shown(lost).plain
    assert "the version of Echo before serves on" in kernel.shown(failed).plain
    assert "⚠" in kernel.shown(lost).html
    run(kernel, "five", stop)
    for cell in (first, again, lost, failed):
        assert kernel.shown(cell).plain == "Echo was stopped"
        assert "⚠" not in kernel.shown(cell).html
    run(kernel, "six", CELL)
    assert kernel.shown(first).plain == kernel.shown(again).plain == "Echo was changed or restarted by a later cell"


def test_a_notice_ends_where_another_cell_defines_the_service(kernel: Kernel) -> None:
    run(kernel, "one", CELL)
    lost = send(kernel, "one", "x = 1")
    assert "no longer defines Echo" in kernel.finished(lost).plain
    run(kernel, "two", CELL)
    assert kernel.shown(lost).plain == "Echo was defined by a later cell"


def test_a_card_of_a_version_that_could_not_replace_another_says_that_this_was_stopped(kernel: Kernel) -> None:
    run(kernel, "one", CELL)
    failing = send(kernel, "two", CELL.replace("    @api", "    def __init__(self):\n        1 / 0\n    @api", 1))
    assert kernel.finished(failing).plain == "Echo could not be replaced: the version before serves on"
    run(kernel, "three", "%services stop Echo")
    assert kernel.shown(failing).plain == "Echo could not be replaced; the version before was stopped later"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("    x = (", r"SyntaxError: .*, Cell In\[\d+\], line 9"),
        ("    x = unknown", "NameError: name 'unknown' is not defined"),
        ("    def __init__(self):\n        1 / 0", r"Echo could not start \(__init__\)"),
    ],
    ids=["no Python", "the cell failed", "its service did"],
)
def test_an_api_that_only_the_failed_version_has_is_told_of_as_such(kernel: Kernel, line: str, why: str) -> None:
    run(kernel, "one", CELL)
    assert run(kernel, "two", "Echo.new(1)").error.startswith("UnknownApi: Echo has no api 'new'; it has: say\n")
    new = "    @api\n    def new(self, x: int) -> int:\n        return x\n"
    run(kernel, "one", f"{CELL}{new}{line}")
    said = "UnknownApi: Echo has no api 'new'; it has: say. That is the previous version, which serves on, since "
    for call in ("Echo.new(1)", "Echo.to_async.new(1)"):
        told = run(kernel, "two", call).error.partition("\n")[0]
        assert told.startswith(f"{said}the last run of its cell failed: ")
        assert re.search(f"{why}. Mend the cell, and run it again$", told)
    assert run(kernel, "two", "Echo.say(1)").result == "1"
    run(kernel, "one", f"{CELL}{new}")
    assert run(kernel, "two", "Echo.new(1)").result == "1"


def test_the_version_that_serves_on_is_called_by_its_apis(kernel: Kernel) -> None:
    """Those that it alone has too, though the cell has another class now."""
    both = "    @api\n    def both(self) -> str:\n        return {!r}\n"
    run(kernel, "one", CELL + both.format("old"))
    ran = run(
        kernel, "one", CELL.replace("say", "tell") + both.format("new") + "    def __init__(self):\n        1 / 0"
    )
    assert ran.plain.startswith("Echo could not be replaced: the version before serves on")
    assert run(kernel, "two", "Echo.say(1), Echo.both()").result == "(1, 'old')"
    told = run(kernel, "two", "Echo.tell(1)").error
    assert told.startswith("UnknownApi: Echo has no api 'tell'; it has: say, both. That is the previous version")
    told = run(kernel, "two", "Echo.nothing(1)").error
    assert told.startswith("UnknownApi: Echo has no api 'nothing'; it has: say, both. That is the previous version")
    run(kernel, "one", CELL.replace("say", "tell"))
    assert run(kernel, "two", "Echo.tell(1)").result == "1"
    assert run(kernel, "two", "Echo.say(1)").error.startswith("UnknownApi: Echo has no api 'say'; it has: tell\n")


def test_a_service_that_only_waits_does_not_serve_on(kernel: Kernel) -> None:
    cell = (
        CELL
        + """
class Front:
    nobody = depends("Nobody")
    @api
    def ask(self) -> int:
        return 1
"""
    )
    run(kernel, "one", cell)
    ran = run(kernel, "one", f"{cell}    x = unknown")
    assert ran.plain.splitlines()[0] == (
        "This cell has started nothing: the version of Echo before serves on and "
        "the version of Front before is waiting for Nobody"
    )
    table = run(kernel, "two", "%services").result
    assert "ready, previous version" in table
    assert "waiting for Nobody, previous version" in table


def test_depends_offers_no_service_that_is_stopped_and_that_no_cell_defines_any_more(kernel: Kernel) -> None:
    run(kernel, "eleven", CELL.replace("Echo", "First"))
    run(kernel, "eleven", CELL.replace("Echo", "Second"))
    run(kernel, "twelve", CELL.replace("Echo", "Third"))

    def offered() -> list[str]:
        text = "%%service\nclass A:\n    a = depends("
        content = kernel.client.complete(text, reply=True, timeout=PATIENCE)["content"]
        return [name for name in content["matches"] if name in ("First", "Second", "Third")]

    assert sorted(offered()) == ["First", "Second", "Third"]
    run(kernel, "thirteen", "%services stop First Second")
    assert offered() == ["Third", "Second"]  # those that run first; a run of its cell starts Second again
