"""`%%service` cells in a browser: cards that change, an edit, a stale service, the ■ button; and a large graph."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from lab_page import Graph, Notebook
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

GREETER = """
%%service
from nbcompose import api

class Greeter:
    @api
    def greet(self, name: str) -> str:
        return f"{greeting}, {name}"
""".strip()
SLOW = """
%%service
import asyncio

class Slow:
    @api
    async def wait(self) -> None:
        await asyncio.Event().wait()
""".strip()
STATES = """
%%service --no-wait
import threading

class Broken:
    def __init__(self):
        raise RuntimeError("no weights")

    @api
    def ask(self) -> int: ...

class Slow:
    def __init__(self):
        threading.Event().wait()

    @api
    def ask(self) -> int: ...

class Waiting:
    slow = depends(Slow)

    @api
    def ask(self) -> int: ...
""".strip()
TWENTY = """
%%service
from nbcompose import api, depends

{classes}
""".strip()
CELLS = ["%load_ext nbcompose\ngreeting = 'Hello'", GREETER, ""]
CARD, SCRATCH = 1, 2


@pytest.fixture(scope="module")
def opened(desk: Any) -> Iterator[Notebook]:
    notebook = desk.open("lab", "cells.ipynb", CELLS)
    notebook.run(0)
    yield notebook
    notebook.shut_down()


@pytest.fixture
def notebook(opened: Notebook) -> Notebook:
    opened.run_new(CARD, GREETER)
    return opened


def test_a_card_says_what_runs_and_an_edit_what_was_done(notebook: Notebook) -> None:
    expect(notebook.output(CARD)).to_contain_text("Greeter is ready on cpu, 1 replica")
    notebook.screenshot("card")
    edited = notebook.run_new(CARD, GREETER.replace("{name}", "dear {name}"))
    expect(edited).to_contain_text("code swapped, weights kept")
    expect(notebook.run_new(SCRATCH, "Greeter.greet('Ada')")).to_contain_text("'Hello, dear Ada'")


def test_the_card_of_an_earlier_cell_says_that_its_service_is_stale(notebook: Notebook) -> None:
    changing = notebook.run_new(SCRATCH, "greeting = 'Ahoy'")
    expect(changing).to_contain_text("greeting has changed: Greeter uses the old one")
    expect(changing.locator("code").first).to_have_text("%services refresh")
    expect(notebook.output(CARD)).to_contain_text("stale")
    notebook.screenshot("stale")
    calling = notebook.run_new(SCRATCH, "Greeter.greet('Ada')")
    expect(calling).to_contain_text("Greeter is stale: it uses greeting as it was before")
    notebook.screenshot("stale-call")
    notebook.run_new(SCRATCH, "%services refresh")
    expect(notebook.output(CARD)).not_to_contain_text("stale")
    expect(notebook.run_new(SCRATCH, "Greeter.greet('Ada')")).to_contain_text("'Ahoy, Ada'")


def test_a_name_that_nothing_defines_and_a_class_that_loses_its_magic(notebook: Notebook) -> None:
    card = notebook.run_new(CARD, GREETER.replace("return f", "json.dumps(name)\n        return f"))
    expect(card).to_contain_text("json is not defined, and Greeter.greet uses it (Cell In[")
    notebook.screenshot("undefined")
    expect(notebook.run_new(SCRATCH, "import json")).to_contain_text("json is defined now: Greeter was started without")
    plain = notebook.run_new(CARD, "# a comment\n" + GREETER.removeprefix("%%service\n"))
    expect(plain).to_contain_text("Greeter is a plain class now, since its cell ran without %%service")
    notebook.screenshot("plain-class")
    expect(notebook.run_new(CARD, "# a comment\n" + GREETER)).to_contain_text("Greeter is ready")
    renamed = notebook.run_new(CARD, GREETER.replace("Greeter", "Host"))
    expect(renamed).to_contain_text("Host is ready")
    expect(renamed).to_contain_text("This cell no longer defines Greeter; the service Greeter runs on")
    notebook.screenshot("renamed")
    notebook.run_new(SCRATCH, "%services stop --all")
    expect(notebook.output(CARD)).to_contain_text("Greeter was stopped")
    expect(notebook.output(CARD)).to_contain_text("Host was stopped")
    expect(notebook.output(CARD)).not_to_contain_text("runs on")


def test_a_mistake_in_a_cell_is_shown_and_the_version_before_serves_on(notebook: Notebook) -> None:
    broken = notebook.run_new(CARD, GREETER.replace("    @api", "    @api(batchable=3)"))
    expect(broken).to_contain_text("batchable")
    expect(broken).not_to_contain_text("Traceback")
    notebook.screenshot("mistake")
    expect(notebook.run_new(SCRATCH, "Greeter.greet('Ada')")).to_contain_text("Ada'")


def test_the_stop_button_interrupts_a_call_and_not_its_service(notebook: Notebook) -> None:
    notebook.run_new(SCRATCH, SLOW)
    notebook.write(SCRATCH, "print('calling')\nSlow.wait()")
    notebook.start(SCRATCH)
    expect(notebook.output(SCRATCH)).to_contain_text("calling")
    expect(notebook.interrupt(SCRATCH)).to_contain_text("KeyboardInterrupt")
    table = notebook.run_new(SCRATCH, "%services")
    expect(table.get_by_role("row", name=re.compile("Slow ready"))).to_be_visible()


def test_a_debugger_has_its_prompt_under_the_cell(notebook: Notebook) -> None:
    notebook.write(SCRATCH, "%%services debug Greeter\nGreeter.greet('Ada')")
    notebook.start(SCRATCH)
    output = notebook.output(SCRATCH)
    prompt = output.locator(".jp-Stdin-input").last  # the one before goes a moment after it has been answered
    expect(output).to_contain_text("Greeter.greet")
    prompt.fill("p name")
    prompt.press("Enter")
    expect(output).to_contain_text("\n'Ada'")
    expect(prompt).to_be_visible()
    notebook.screenshot("debugger")
    prompt.fill("c")
    prompt.press("Enter")
    expect(output).to_contain_text(", Ada'")


def test_each_state_has_its_words_and_the_one_that_failed_its_traceback(notebook: Notebook) -> None:
    notebook.run_new(SCRATCH, "from nbcompose import api, depends\n%services stop --all")
    notebook.run(CARD)
    notebook.run_new(SCRATCH, STATES)
    notebook.run_new(SCRATCH, "greeting = 'Hi'")
    graph = Graph(notebook.run_new(SCRATCH, "%graph"))
    words = {
        "Broken": "failed",
        "Slow": "starting: loading (__init__)",
        "Waiting": "waiting for Slow",
        "Greeter": "ready, stale",
    }
    for service, said in words.items():
        expect(graph.node(service).locator(".nbc-words")).to_have_text(said)
    graph.choose("Broken")
    expect(graph.panel.locator(".nbc-traceback")).to_contain_text("Cell In[")
    notebook.screenshot("states", notebook.output(SCRATCH))
    graph.choose("Slow")
    notebook.run_new(SCRATCH, "%services stop --all")


def test_without_widgets_there_is_a_picture_that_changes(notebook: Notebook) -> None:
    without = "from nbcompose._notebook.graph import display as shown\nkept, shown.attach = shown.attach, None"
    notebook.run_new(SCRATCH, f"%services stop --all\n{without}")
    shown = notebook.run_new(SCRATCH, "%graph\nshown.attach = kept")
    expect(shown).to_contain_text("No service runs.")
    notebook.run(CARD)
    expect(shown.locator("img")).to_be_visible()
    expect(shown.get_by_role("row", name=re.compile("Greeter.*ready"))).to_be_attached()
    expect(shown.locator(".nbc-canvas")).to_have_count(0)
    notebook.screenshot("without-widgets", shown)


def test_twenty_services_can_be_read(notebook: Notebook) -> None:
    classes = [
        f"class Step{n:02}:\n"
        + "".join(f"    d{d} = depends('Step{d:02}')\n" for d in (2 * n + 1, 2 * n + 2) if d < 20)
        + "    @api\n    def run(self) -> int:\n        return 1\n"
        for n in range(20)
    ]
    notebook.run_new(SCRATCH, TWENTY.format(classes="\n".join(classes)))
    graph = Graph(notebook.run_new(SCRATCH, "%graph Step00"))
    expect(graph.canvas.locator("[data-service]")).to_have_count(20)
    heights = graph.canvas.locator(".nbc-name").evaluate_all(
        "names => names.map(n => n.getBoundingClientRect().height)"
    )
    assert min(heights) > 12  # pixels
    boxes = [node.bounding_box() for node in graph.canvas.locator(".nbc-card").all()]
    places = {(round(b["x"]), round(b["y"])) for b in boxes if b is not None}
    assert len(places) == 20
    notebook.screenshot("twenty", notebook.output(SCRATCH))
