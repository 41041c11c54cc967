"""What cards and graphs say when nothing is live behind them, and when something is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import nbconvert
import nbformat
import pytest
from lab_page import Graph, Notebook
from playwright.sync_api import Locator, expect

pytestmark = pytest.mark.browser

SERVICE = """
%%service
from nbcompose import api

class Greeter:
    @api
    def greet(self, name: str) -> str:
        return f"Hello, {name}"
""".strip()
CELLS = ["%load_ext nbcompose", SERVICE, "%graph", ""]
CARD, GRAPH, SCRATCH = 1, 2, 3
SAVED = re.compile("as saved, not live")
GREEN, GREY = "rgb(46, 158, 91)", "rgb(128, 128, 128)"


@pytest.fixture(scope="module", params=["lab", "notebook"])
def opened(request: pytest.FixtureRequest, desk: Any) -> Iterator[Notebook]:
    notebook = desk.open(request.param, f"saved-{request.param}.ipynb", CELLS)
    yield notebook
    notebook.shut_down()


@pytest.fixture
def notebook(opened: Notebook) -> Notebook:
    """Its service runs, and its graph is shown: its cells have just run, and nothing of an earlier test is there."""
    opened.menu("Edit", "Clear Outputs of All Cells")
    for number in range(SCRATCH):
        opened.run(number)
    return opened


def words(output: Locator) -> Locator:
    return output.get_by_text(SAVED)


def sign(output: Locator) -> Locator:
    return output.get_by_text("●")


def is_live(card: Locator) -> None:
    expect(sign(card)).to_have_css("color", GREEN)
    expect(words(card)).to_be_hidden()


def is_saved(card: Locator) -> None:
    expect(card).to_contain_text("Greeter is ready")
    expect(words(card)).to_be_visible()
    expect(sign(card)).to_have_css("color", GREY)


# Collects, at each frame until it is asked, whether the words are seen anywhere in the page.
WATCH = """() => {
    window.seen = [];
    const look = () => {
        if (!window.seen) return;
        const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        while (walker.nextNode()) {
            const {data, parentElement} = walker.currentNode;
            if (!data.includes("as saved, not live") || parentElement.closest("style, script, .cm-editor")) continue;
            if (parentElement.checkVisibility({visibilityProperty: true})) window.seen.push(parentElement.outerHTML);
        }
        requestAnimationFrame(look);
    };
    look();
}"""
WATCHED = """() => {
    const {seen} = window;
    window.seen = null;
    return seen;
}"""
# Opens a notebook beside the one that is there, and closes it with its kernel.
OPEN = "path => window.jupyterapp.commands.execute('docmanager:open', {path}).then(() => null)"
CLOSE = """async ([path, first]) => {
    const {shell, commands} = window.jupyterapp;
    const panel = [...shell.widgets('main')].find(({context}) => context?.path === path);
    await panel.sessionContext.ready;
    await panel.sessionContext.shutdown();
    panel.dispose();
    await commands.execute('docmanager:open', {path: first});
}"""


def test_the_words_are_not_seen_while_the_live_view_comes(notebook: Notebook) -> None:
    """In the first cell of a kernel too, where that takes longest."""
    notebook.restart_kernel()
    notebook.menu("Edit", "Clear Outputs of All Cells")
    notebook.page.evaluate(WATCH)
    notebook.run(0)
    notebook.run(CARD)
    is_live(notebook.output(CARD))
    notebook.run(GRAPH)
    expect(Graph(notebook.output(GRAPH)).node("Greeter")).to_be_visible()
    assert notebook.page.evaluate(WATCHED) == []


def test_a_card_is_live_while_the_kernel_says_what_it_says(notebook: Notebook, desk: Any) -> None:
    card, graph = notebook.output(CARD), notebook.output(GRAPH)
    is_live(card)
    expect(Graph(graph).node("Greeter")).to_be_visible()
    expect(words(graph)).to_be_hidden()
    notebook.screenshot(f"card-live-{notebook.front_end}")
    notebook.save()
    notebook.reload()
    is_live(card)
    expect(words(graph)).to_be_hidden()
    notebook.run_new(SCRATCH, "%services stop Greeter")
    expect(words(card)).to_be_visible()  # the page that was loaded cannot have its outputs changed


def test_a_card_shows_that_its_service_was_stopped(notebook: Notebook) -> None:
    card = notebook.output(CARD)
    is_live(card)
    notebook.run_new(SCRATCH, "%services stop --all")
    expect(card).to_contain_text("Greeter was stopped")
    expect(card).not_to_contain_text("is ready")  # what else may stand there is ipykernel's
    notebook.screenshot(f"card-stopped-{notebook.front_end}")


def test_nothing_is_live_after_a_restart(notebook: Notebook) -> None:
    card = notebook.output(CARD)
    is_live(card)
    notebook.restart_kernel()
    expect(sign(card)).to_have_css("color", GREY)
    expect(card).to_contain_text(re.compile("as saved, not live|was stopped"))
    notebook.run(0)
    notebook.run(CARD)
    is_live(card)


def test_a_saved_notebook_says_that_it_is_not_live(notebook: Notebook, desk: Any) -> None:
    """Opened beside the one that is live: another notebook, whose kernel knows nothing of it."""
    is_live(notebook.output(CARD))
    notebook.save()
    content = nbformat.read(notebook.path, as_version=4)
    name = f"copied-{notebook.front_end}.ipynb"
    nbformat.write(content, desk.server.folder / name)
    if notebook.front_end == "lab":  # in the same page
        notebook.page.evaluate(OPEN, name)
        try:
            panels = notebook.page.locator(".jp-NotebookPanel")
            expect(panels).to_have_count(2)
            visible = panels.filter(has=notebook.page.locator(".jp-Notebook")).locator(":visible.jp-Notebook")
            is_saved(visible.locator(".jp-CodeCell").nth(CARD).locator(".jp-OutputArea"))
            notebook.screenshot("card-saved-beside-lab")
        finally:
            notebook.page.evaluate(CLOSE, [name, notebook.path.name])
    copy = desk.look_at(notebook.front_end, name)
    is_saved(copy.output(CARD))
    expect(words(copy.output(GRAPH))).to_be_visible()
    copy.screenshot(f"card-saved-{notebook.front_end}")
    copy.page.close()


def test_a_page_made_of_the_notebook_says_that_it_is_not_live(notebook: Notebook, desk: Any) -> None:
    is_live(notebook.output(CARD))
    notebook.save()
    html, _ = nbconvert.HTMLExporter().from_notebook_node(nbformat.read(notebook.path, as_version=4))
    page = desk.page_alone()
    page.set_content(html)
    card = page.locator(".jp-CodeCell").nth(CARD)
    is_saved(card)
    expect(words(page.locator(".jp-CodeCell").nth(GRAPH))).to_be_visible()
    # As a code host shows it: without scripts and styles.
    page.set_content(re.sub(r"(?s)<(style|script).*?</\1>| style=\"[^\"]*\"", "", html))
    expect(card).to_contain_text("● Greeter is ready on cpu, 1 replica · as saved, not live")
    page.close()
