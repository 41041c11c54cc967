"""Running a cell again in a real kernel: cards that change, ■, and what a kernel's own loop has to do with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.patience import wait_until

pytestmark = pytest.mark.system

Kernel = Any  # of conftest.py

CELL = """
%%service
import time
class Writer:
    def __init__(self):
        self.weights = time.perf_counter()
    @api
    def write(self, text: str) -> list:
        return [shape(text), self.weights]
"""


@pytest.fixture
def writer(kernel: Kernel) -> Kernel:
    kernel.ok("def shape(text):\n    return text")
    kernel.ok(CELL)
    return kernel


def test_a_changed_method_is_swapped_and_the_weights_are_kept(writer: Kernel) -> None:
    weights = writer.ok("weights = Writer.write('a')[1]\nweights").result
    ran = writer.ok(CELL.replace("[shape(text),", "[shape(text).upper(),"))
    assert "code swapped, weights kept: Writer.write changed" in ran.displays[-1]["text/plain"]
    assert writer.ok("Writer.write('a')").result == f"['A', {weights}]"


def test_the_card_of_the_service_s_cell_says_that_it_is_stale_until_it_is_not(writer: Kernel) -> None:
    cell = writer.send(CELL.replace("self.weights]", "self.weights]  # again"))
    writer.finished(cell)
    changing = writer.send("def shape(text):\n    return text * 2")
    writer.finished(changing)
    stale = "stale: shape changed in the notebook since (%services refresh Writer brings it up to date)"
    assert stale in writer.shown(cell).displays[-1]["text/plain"]
    assert writer.shown(changing).plain.startswith("shape has changed: Writer uses the old one\n")
    writer.ok("def shape(text):\n    return text")
    assert "stale" not in writer.shown(cell).displays[-1]["text/plain"]


def test_a_rollback_to_what_is_stale_says_so_once(writer: Kernel) -> None:
    writer.ok("def shape(text):\n    return text * 5")
    writer.ok("%services refresh Writer")
    ran = writer.ok("%services rollback Writer")
    assert "stale: shape changed in the notebook since" in ran.displays[-1]["text/plain"]
    assert "shape has changed" not in ran.plain
    writer.ok("%services refresh Writer")


def test_a_card_that_a_later_cell_has_overtaken_says_so_and_is_stale_no_more(writer: Kernel) -> None:
    cell = writer.send(CELL.replace("self.weights]", "self.weights]  # once more"))
    writer.finished(cell)
    writer.ok("def shape(text):\n    return text * 3")
    assert "stale: shape" in writer.shown(cell).displays[-1]["text/plain"]
    refreshed = writer.ok("%services refresh Writer")
    assert "code swapped, weights kept: shape changed" in refreshed.displays[-1]["text/plain"]
    card = writer.shown(cell).displays[-1]["text/plain"]
    assert card == "Writer was changed or restarted by a later cell"


def test_a_card_is_looked_at_again_where_the_cell_that_overtook_it_failed(writer: Kernel) -> None:
    cell = writer.send(CELL.replace("self.weights]", "self.weights]  # and again"))
    writer.finished(cell)
    failing = CELL.replace("self.weights = time.perf_counter()", "raise OSError('no weights')")
    assert "OSError: no weights" in writer.run(failing).error
    writer.ok("def shape(text):\n    return text * 4")
    card = writer.shown(cell).displays[-1]["text/plain"]
    assert "stale: shape" in card
    assert "a later cell" not in card


def test_refreshing_by_itself_shows_its_card_under_the_cell_that_made_it_stale(writer: Kernel) -> None:
    writer.ok("%config NbcomposeMagics.auto_refresh = True")
    try:
        ran = writer.ok("def shape(text):\n    return text + '!'")
        assert "code swapped, weights kept: shape changed" in ran.displays[-1]["text/plain"]
        assert writer.ok("Writer.write('a')[0]").result == "'a!'"
    finally:
        writer.ok("%config NbcomposeMagics.auto_refresh = False")


@pytest.mark.parametrize("option", ["", " --replace stop-first"])
def test_an_interrupted_replacement_leaves_the_version_before(kernel: Kernel, tmp_path: Path, option: str) -> None:
    began = tmp_path / "began"
    cell = f"""
        %%service{option}
        import pathlib, time
        class Slow:
            def __init__(self):
                self.version = 1
            @api
            def get(self) -> int:
                return self.version
    """
    kernel.ok(cell)
    slow = cell.replace("self.version = 1", f"self.version = 2; pathlib.Path({str(began)!r}).touch(); time.sleep(3600)")
    running = kernel.send(slow)
    wait_until(began.exists, "__init__ has begun")
    kernel.manager.interrupt_kernel()
    ran = kernel.finished(running)
    assert "KeyboardInterrupt" in ran.error
    assert ran.displays[-1]["text/plain"] == (
        "Slow was not replaced, because the cell was interrupted: the version before serves on"
    )
    assert kernel.ok("Slow.get()").result == "1"
    assert "ready" in kernel.ok("%services").result


def test_edits_in_a_row_are_each_there_when_their_cell_ends(writer: Kernel) -> None:
    for number in range(10):
        writer.ok(CELL.replace("[shape(text),", f"[{number},"))
        assert writer.ok("Writer.write('a')[0]").result == str(number)


def test_a_card_says_that_its_service_was_stopped(kernel: Kernel) -> None:
    cell = kernel.send(CELL)
    assert kernel.finished(cell).displays[-1]["text/plain"].startswith("Writer is ready")
    kernel.ok("%services stop --all")
    assert kernel.shown(cell).displays[-1]["text/plain"] == "Writer was stopped"
    assert "as saved" not in kernel.shown(cell).displays[-1]["text/html"]


def test_a_card_follows_its_service_until_it_fails(kernel: Kernel, tmp_path: Path) -> None:
    """Its replica ends, and cannot start again: the file that its `__init__` reads is gone."""
    weights = tmp_path / "weights"
    weights.write_text("1.0")
    kernel.ok("from nbcompose._control import generation\ngeneration.BACKOFF = (0.0, 0.1)")  # not for a minute
    cell = kernel.send(f"""
        %%service
        import os
        class Reader:
            def __init__(self):
                self.weights = open({str(weights)!r}).read()
            @api
            def leave(self) -> None:
                os._exit(3)
        """)
    assert kernel.finished(cell).displays[-1]["text/plain"].startswith("Reader is ready")
    weights.unlink()
    assert "ReplicaDied" in kernel.run("Reader.leave()").error
    kernel.until(lambda m: kernel.parent(m) == cell and "Reader failed" in str(m["content"].get("data")))
    card = kernel.shown(cell).displays[-1]["text/plain"]
    assert card.startswith("Reader failed\n  it failed: ")
    assert "try:" not in card


def test_a_scaled_service_is_shown_with_its_replicas(kernel: Kernel) -> None:
    cell = kernel.send(CELL)
    kernel.finished(cell)
    kernel.ok("%services scale Writer 2")
    kernel.until(lambda m: kernel.parent(m) == cell and "on cpu, 2 replicas" in str(m["content"].get("data")))


def test_a_card_that_waited_follows_its_service_too(kernel: Kernel) -> None:
    cell = kernel.send("""
        %%service
        class Front:
            writer = depends("Writer")
            @api
            def ask(self) -> str:
                return self.writer.write("a")[0]
        """)
    assert kernel.finished(cell).displays[-1]["text/plain"].startswith("Front is waiting for Writer")
    kernel.ok("def shape(text):\n    return text")
    kernel.ok(CELL)
    kernel.until(lambda m: kernel.parent(m) == cell and "Front is ready" in str(m["content"].get("data")))
    seen = len(kernel.messages)
    kernel.ok("%services stop Writer")
    again = "Front is waiting for Writer"
    kernel.until(lambda m: kernel.parent(m) == cell and again in str(m["content"].get("data")), since=seen)
    kernel.ok("%services stop Front")
    assert kernel.shown(cell).displays[-1]["text/plain"] == "Front was stopped"


def test_a_kernel_that_ends_says_so_on_its_cards(own_kernel: Kernel) -> None:
    cell = own_kernel.send(CELL)
    own_kernel.finished(cell)
    own_kernel.client.shutdown()
    update = {"text/plain": "Writer was stopped"}
    found = own_kernel.until(lambda m: own_kernel.parent(m) == cell and "was stopped" in str(m["content"].get("data")))
    assert found["content"]["data"].items() >= update.items()
