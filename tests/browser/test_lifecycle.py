"""The graph over the life of a notebook: changed services, reloaded pages, restarted kernels, what is saved."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbconvert
import nbformat
import pytest
from lab_page import Graph, Notebook
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

SERVICE = """
%%service
import asyncio
import os
from collections.abc import AsyncIterator
from nbcompose import api

class Greeter:
    @api
    def pid(self) -> int:
        return os.getpid()

    @api
    def greet(self, name: str) -> str:
        return f"Hello, {name}"

    @api
    async def wait(self) -> None:
        await asyncio.Event().wait()

    @api
    async def count(self, file: str) -> AsyncIterator[str]:
        yield "one "
        while not os.path.exists(file):
            await asyncio.sleep(0.01)
        yield "two "
        yield "three"
""".strip()
CELLS = ["%load_ext nbcompose", SERVICE, "%graph", "%graph Greeter", ""]
FIRST, SECOND, SCRATCH = 2, 3, 4

# Close the notebook in front, and open it again in the same page.
REOPEN = """async () => {
    const { shell, commands } = window.jupyterapp;
    const { context } = shell.currentWidget;
    await context.save();
    shell.currentWidget.close();
    await commands.execute("docmanager:open", { path: context.path });
}"""


@pytest.fixture(scope="module", params=["lab", "notebook"])
def opened(request: pytest.FixtureRequest, desk: Any) -> Iterator[Notebook]:
    notebook = desk.open(request.param, f"life-{request.param}.ipynb", CELLS)
    notebook.run(0)
    yield notebook
    notebook.shut_down()


@pytest.fixture
def notebook(opened: Notebook) -> Notebook:
    """Its service runs as its cell says, and its two graphs have just been shown."""
    opened.run_new(1, SERVICE)
    opened.run(FIRST)
    opened.run(SECOND)
    return opened


@pytest.fixture
def first(notebook: Notebook) -> Graph:
    return Graph(notebook.output(FIRST))


@pytest.fixture
def second(notebook: Notebook) -> Graph:
    return Graph(notebook.output(SECOND))


def errors(page: Page) -> int:
    return page.get_by_text("Error displaying widget").count()


def test_services_are_restarted_scaled_rolled_back_and_stopped(notebook: Notebook, first: Graph, second: Graph) -> None:
    first.choose("Greeter", api="pid")
    before = notebook.run_new(SCRATCH, "Greeter.pid()").inner_text()
    first.button("Restart").click()
    expect(first.asking).to_contain_text("Restart Greeter?")
    first.asking.get_by_role("button", name="No").click()
    expect(first.asking).to_be_hidden()
    first.button("Restart").click()
    notebook.screenshot(f"asking-{notebook.front_end}")
    first.asking.get_by_role("button", name="Restart").click()
    expect(first.panel.get_by_text("restarted", exact=True)).to_be_visible()
    first.call()
    expect(first.ends("done in")).not_to_have_text(before)

    first.panel.get_by_label("one replica more").click()
    expect(first.node("Greeter")).to_contain_text("2 replicas")
    expect(second.node("Greeter")).to_contain_text("2 replicas")
    first.panel.get_by_label("one replica fewer").click()
    first.asking.get_by_role("button", name="Take away").click()
    expect(first.node("Greeter")).to_contain_text("1 replica")

    first.button("Stop").click()
    first.asking.get_by_role("button", name="Stop").click()
    expect(first.panel.locator(".nbc-chip")).to_have_text("stopped")
    expect(first.panel.get_by_text("restarted", exact=True)).to_have_count(0)  # that was said for a while


def test_a_changed_service_can_be_rolled_back(notebook: Notebook, first: Graph) -> None:
    expect(notebook.run_new(1, SERVICE.replace("Hello", "Ahoy"))).to_contain_text("code swapped")
    first.choose("Greeter", api="greet")
    first.call(name="Ada")
    expect(first.ends("done in")).to_have_text("Ahoy, Ada")
    first.button("Roll back").click()
    first.asking.get_by_role("button", name="Roll back").click()
    expect(first.panel.get_by_text("rolled back")).to_be_visible()
    first.call(name="Ada")
    expect(first.result.locator(".nbc-result")).to_have_text("Hello, Ada")


def test_two_views_of_a_graph_are_each_their_own(notebook: Notebook, first: Graph, second: Graph) -> None:
    first.choose("Greeter", api="greet")
    first.call(name="Ada")
    expect(first.ends("done in")).to_have_text("Hello, Ada")
    expect(second.panel).to_have_count(0)
    for graph in (first, second):
        expect(graph.node("Greeter")).to_contain_text(re.compile(r"\d+ calls?|/s"))
    # Its cell runs again: one live picture, in the place of the one before.
    notebook.run(FIRST)
    expect(notebook.output(FIRST).locator(".nbc-canvas")).to_have_count(1)
    expect(notebook.output(SECOND).locator(".nbc-canvas")).to_have_count(1)


def test_two_graphs_in_one_cell_are_both_live(notebook: Notebook) -> None:
    for _ in range(2):
        shown = notebook.run_new(SCRATCH, "%graph\n%graph Greeter").locator(".jp-OutputArea-child")
        expect(shown.locator(".nbc-canvas")).to_have_count(2)
        for part in (Graph(shown.nth(0)), Graph(shown.nth(1))):
            part.choose("Greeter", api="greet")
            part.call(name="Ada")
            expect(part.ends("done in")).to_have_text("Hello, Ada")


def test_a_page_that_is_reloaded_is_live_again_and_its_call_has_gone_on(
    notebook: Notebook, first: Graph, tmp_path: Path
) -> None:
    notebook.save()
    first.choose("Greeter", api="count")
    file = tmp_path / "go on"
    first.call(file=str(file))
    expect(first.result.locator(".nbc-result")).to_have_text("one ")
    # The page comes back while it runs: it shows what came, and what comes.
    notebook.reload()
    expect(first.result.locator(".nbc-result")).to_have_text("one ")
    expect(first.button("Cancel")).to_be_visible()
    notebook.screenshot(f"resumed-{notebook.front_end}")
    file.touch()
    expect(first.ends("3 items")).to_have_text("one two three")
    # And when it has ended, while no page was there.
    notebook.reload()
    expect(first.ends("3 items")).to_have_text("one two three")
    expect(first.button("Call")).to_be_enabled()
    first.choose("Greeter", api="greet")
    first.call(name="Ada")
    expect(first.ends("done in")).to_have_text("Hello, Ada")
    assert errors(notebook.page) == 0


def test_a_call_that_ends_while_no_page_is_open_is_shown_later(
    notebook: Notebook, first: Graph, tmp_path: Path
) -> None:
    notebook.save()
    first.choose("Greeter", api="count")
    file = tmp_path / "go on"
    first.call(file=str(file))
    expect(first.result.locator(".nbc-result")).to_have_text("one ")
    url = notebook.page.url
    notebook.page.goto("about:blank")
    file.touch()
    notebook.open(url)
    expect(first.ends("3 items")).to_have_text("one two three")
    first.call(file=str(file))
    expect(first.ends("3 items")).to_have_text("one two three")


def test_a_restarted_kernel_leaves_the_picture_and_its_cells_run_again(notebook: Notebook, first: Graph) -> None:
    first.choose("Greeter", api="wait")
    first.call()
    expect(first.node("Greeter")).to_contain_text("1 under way")
    notebook.restart_kernel()
    first.ends("the kernel is gone")
    expect(notebook.output(FIRST)).to_contain_text("run the cell again for a live graph")
    notebook.screenshot(f"gone-{notebook.front_end}")
    expect(notebook.output(FIRST).locator("img:visible, .nbc-canvas svg:visible")).to_have_count(1)
    assert errors(notebook.page) == 0
    for number in range(SCRATCH):
        notebook.run(number)
    first.choose("Greeter", api="greet")
    first.call(name="Ada")
    expect(first.ends("done in")).to_have_text("Hello, Ada")


def test_a_notebook_that_was_closed_and_opened_again_has_one_graph_and_cards_no_longer_live_than_its_kernel(
    notebook: Notebook, first: Graph, second: Graph
) -> None:
    if notebook.front_end != "lab":
        pytest.skip("Notebook has one notebook in a page")
    page = notebook.page
    failed: list[str] = []
    page.on("pageerror", lambda error: failed.append(str(error)))
    saved = notebook.output(1).get_by_text("as saved, not live")
    expect(notebook.output(1)).to_contain_text("Greeter is ready")
    expect(saved).to_be_hidden()
    for _ in range(2):
        page.evaluate(REOPEN)
        notebook.ready()
        expect(notebook.output(1)).to_contain_text("Greeter is ready")
        expect(saved).to_be_hidden()
        first.choose("Greeter", api="greet")
        first.call(name="Ada")
        expect(first.ends("done in")).to_have_text("Hello, Ada")
        expect(first.node("Greeter")).to_have_count(1)
        expect(second.node("Greeter")).to_have_count(1)
    page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")  # of which each graph tells its kernel
    notebook.screenshot("reopened-lab")
    notebook.restart_kernel()
    expect(saved).to_be_visible()
    expect(notebook.output(FIRST)).to_contain_text("run the cell again for a live graph")
    expect(first.node("Greeter")).to_have_count(1)
    for number in range(SCRATCH):
        notebook.run(number)
    expect(first.node("Greeter")).to_have_count(1)
    expect(second.node("Greeter")).to_have_count(1)
    assert failed == []


def test_a_saved_notebook_shows_the_picture(notebook: Notebook, first: Graph, desk: Any) -> None:
    notebook.save()
    saved = nbformat.read(notebook.path, 4)
    shown = saved.cells[FIRST].outputs
    assert [sorted(o.get("data", o)) for o in shown] == [["text/html", "text/plain"]]
    assert "Greeter" in shown[0].data["text/plain"]

    # On another machine there is no kernel that knows the picture, and the notebook is not trusted.
    stranger = notebook.path.with_name(f"stranger-{notebook.front_end}.ipynb")
    stranger.write_text(notebook.path.read_text(encoding="utf-8").replace('"Greeter', '"Stranger', 1), encoding="utf-8")
    opened = desk.look_at(notebook.front_end, stranger.name)
    picture = opened.output(FIRST).locator("img")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 100
    assert errors(opened.page) == 0
    opened.screenshot(f"saved-{notebook.front_end}")
    opened.page.close()

    page = stranger.with_suffix(".html")
    page.write_text(nbconvert.HTMLExporter().from_filename(str(stranger))[0], encoding="utf-8")
    html = desk.page_alone()
    html.goto(page.as_uri())
    picture = html.locator(".nbc-graph img").first
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 100
    assert errors(html) == 0
    html.screenshot(path=str(page.with_suffix(".png")))
    html.close()
