"""The blocks of a cell's run: which lines they have, in which order, whatever the order in which they come."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from nbcompose._control import State, Written
from nbcompose._notebook.cell_output import FIRST, LAST, LONGEST, CellRun
from nbcompose._protocol import LogLine

Notebook = Any  # of conftest.py

BELOW = {"Answer": ["Editor", "Writer"], "Editor": ["Writer"]}


@pytest.fixture
def run(bare: Notebook) -> CellRun:
    return started(bare.shell)


def started(shell: InteractiveShell) -> CellRun:
    shell.display_pub = CapturingDisplayPublisher()
    return CellRun(shell, None, lambda name: BELOW.get(name, []), lambda _: "")


def written(trace: str, text: str, *, at: float = 0.0, span: str = "1", ended: bool = True) -> Written:
    state = State.ENDED if ended else State.OPEN if text else State.GONE
    return Written(LogLine(at, "", 0, "api", (trace,), text), state, f"1/{span}{trace}")


def shown(run: CellRun) -> str:
    """What stands under the cell when it has ended."""
    run.close()
    return texts(run._publisher.outputs)


def texts(outputs: list[dict[str, Any]]) -> str:
    return "\n".join(str(output["data"]["text/plain"]) for output in outputs)


LINES = [("a", "Writer", 0.3), ("a", "Answer", 0.1), ("b", "Writer", 0.2), ("a", "Editor", 0.4)]


@pytest.mark.parametrize("order", [*itertools.permutations(range(4))])
def test_blocks_and_lines_are_in_the_order_of_the_calls(bare: Notebook, order: tuple[int, ...]) -> None:
    run = started(bare.shell)
    run.begin("Answer", "a")
    run.begin("Writer", "b")
    for n in order:
        trace, service, at = LINES[n]
        run.take(service, written(trace, f"{trace} in {service}", at=at))
    run.end("b")
    run.end("a")
    assert shown(run) == "Answer:\n  a in Answer\nEditor:\n  a in Editor\nWriter:\n  a in Writer\n  b in Writer"


def test_lines_of_the_calls_below_stand_together(run: CellRun) -> None:
    run.begin("Writer", "a")
    for text, span, at in [("one", "1", 0.1), ("two", "2", 0.2), ("one more", "1", 0.3), ("two more", "2", 0.4)]:
        run.take("Writer", written("a", text, at=at, span=span))
    run.end("a")
    assert shown(run) == "Writer:\n  one\n  one more\n  two\n  two more"


def test_what_a_call_writes_after_its_end_and_what_no_call_writes_is_not_shown(run: CellRun) -> None:
    run.begin("Writer", "a")
    run.end("a")
    run.take("Writer", written("a", "late"))
    run.take("Writer", written("b", "another's"))
    assert shown(run) == ""
    assert not run.begin("Writer", "c")  # the cell has ended


def test_what_calls_wrote_that_the_cell_did_not_wait_for_is_not_shown(run: CellRun) -> None:
    run.begin("Writer", "a")
    run.begin("Writer", "b")
    run.take("Writer", written("a", "unfinished"))
    run.take("Writer", written("b", "finished"))
    run.end("b")
    assert shown(run) == "Writer:\n  finished"


def test_a_line_changes_until_it_is_complete(run: CellRun) -> None:
    run.begin("Writer", "a")
    run.take("Writer", written("a", "50%", ended=False))
    run.take("Writer", written("a", "100%"))
    run.take("Writer", written("a", "gone", ended=False))
    run.take("Writer", written("a", "", ended=False))
    run.take("Writer", written("a", "begun", ended=False))
    run.end("a")
    assert shown(run) == "Writer:\n  100%\n  begun"


@pytest.mark.parametrize("step", [1, -1])
def test_of_many_lines_the_first_and_the_last_are_shown(run: CellRun, step: int) -> None:
    count = FIRST + LAST + 1204
    traces = [f"{n:032x}" for n in range(count)]
    for trace in traces:
        run.begin("Writer", trace)
    for n in range(count)[::step]:
        run.take("Writer", written(traces[n], f"line {n}"))
    for trace in traces:
        run.end(trace)
    lines = shown(run).splitlines()
    assert lines[1] == "  line 0"
    assert lines[FIRST : FIRST + 3] == [
        f"  line {FIRST - 1}",
        "  … 1,204 more lines: %services logs Writer",
        f"  line {count - LAST}",
    ]
    assert lines[-1] == f"  line {count - 1}"
    assert len(lines) == FIRST + LAST + 2


def test_a_long_line_and_what_controls_a_terminal_are_cut(run: CellRun) -> None:
    run.begin("Writer", "a")
    run.take("Writer", written("a", "x" * 10_000))
    run.take("Writer", written("a", "\x1b[1mbold\x1b[0m"))
    run.end("a")
    assert shown(run) == f"Writer:\n  {'x' * LONGEST}…\n  bold"


def test_what_calls_write_is_captured_where_displays_are(run: CellRun) -> None:
    run.begin("Writer", "a")
    with capture_output() as captured:
        run.begin("Answer", "b")
        run.take("Answer", written("b", "captured"))
        run.draw()
        assert captured.outputs[0].data["text/plain"] == "Answer:\n  captured"
        run.take("Answer", written("b", "too"))
        run.take("Writer", written("a", "shown"))
        run.draw()
        run.begin("Answer", "c")
        run.take("Answer", written("c", "unfinished"))
    run.end("a")
    run.end("b")
    with capture_output() as without_calls:
        assert shown(run) == "Writer:\n  shown"
    assert [output.data["text/plain"] for output in captured.outputs] == ["Answer:\n  captured\n  too"]
    assert without_calls.outputs == []


def test_a_line_that_has_its_place_can_change_and_go(run: CellRun) -> None:
    run.begin("Writer", "a")
    for row, text, state, again in [
        (0, "outer 0", State.PASSED, False),
        (1, "inner 0", State.OPEN, False),
        (0, "outer 1", State.PASSED, True),
        (1, "inner 1", State.PASSED, False),
        (2, "third", State.ENDED, False),
        (0, "outer 2", State.ENDED, True),
        (1, "", State.GONE, True),
    ]:
        line = LogLine(0.0, "", 0, "api", ("a",), text)
        run.take("Writer", Written(line, state, "1/1a", row, again))
    run.end("a")
    assert shown(run) == "Writer:\n  outer 2\n  third"
