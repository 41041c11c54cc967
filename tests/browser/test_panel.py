"""The live graph in the side bar, in tabs, and in Notebook 7: over Jupyter's server, not a comm."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_page import Graph, Notebook
from playwright.sync_api import Locator, Page, Response, WebSocket, expect
from test_graph import pixel, red_png

from tests.patience import PATIENCE

pytestmark = pytest.mark.browser

SERVICES = """
%%service
import asyncio
import traceback
from collections.abc import AsyncIterator

from nbcompose import api, depends
from PIL import Image, ImageOps

class PanelWriter:
    @api
    async def write(self, prompt: str, count: int = 3, pause: float = 0) -> AsyncIterator[str]:
        print("writing about", prompt)
        for number in range(count):
            await asyncio.sleep(pause)
            yield f"{prompt} {number};"

    @api
    async def endless(self) -> AsyncIterator[str]:
        yield "begun"
        await asyncio.Event().wait()

    @api
    def refuse(self) -> str:
        try:
            return 1 / 0  # here
        except ZeroDivisionError:
            traceback.print_exc()
            raise

class PanelPainter:
    @api
    def invert(self, picture: Image.Image) -> Image.Image:
        return ImageOps.invert(picture.convert("RGB"))

class PanelAnswer:
    writer = depends(PanelWriter)
    painter = depends(PanelPainter)

    @api
    async def ask(self, question: str) -> dict:
        return {"words": [word async for word in self.writer.to_async.write(question)]}
""".strip()
APP = """
from nbcompose import api, service

@service
class PanelEcho:
    @api
    def say(self, text: str) -> str:
        return text + "!"
"""
SERVED, SCRATCH = 1, 2
CELLS = ["%load_ext nbcompose", SERVICES, ""]
EXECUTE = "([id, args]) => window.jupyterapp.commands.execute(id, args).then(() => null)"
PINNED = '"nbcompose:panel":{"path":"panel.ipynb"}'
OPEN_TAB = "nbcompose-graph:path:panel.ipynb"
SHOW = "() => window.jupyterapp.shell.activateById('nbcompose-panel')"
LISTED = """() => {
    const {baseUrl, token} = window.jupyterapp.serviceManager.serverSettings;
    return fetch(`${baseUrl}nbcompose/api/services`, {headers: {Authorization: `token ${token}`}})
        .then(answer => answer.json()).then(({runtimes}) => runtimes);
}"""
ACTIVATE = """path => window.jupyterapp.commands.execute('docmanager:open', {path})
    .then(panel => panel.sessionContext.ready).then(() => null)"""
CLOSE = """path => [...window.jupyterapp.shell.widgets('main')]
    .find(widget => widget.context?.path === path).dispose()"""


DRAG = """width => {
    const split = window.jupyterapp.shell._hsplitPanel;  // as its user drags the edge of the side bar
    const [left] = split.relativeSizes(), part = width / split.node.clientWidth;
    split.setRelativeSizes([left, 1 - left - part, part]);
}"""
# How far what is around the panel is scrolled; and whether head, tabs and result stand below one another above its end.
IN_SIGHT = """() => {
    const view = document.querySelector("#nbcompose-panel .nbc-graph-view");
    const [side, head, tabs, result] = [".nbc-side", ".nbc-panel .nbc-head", ".nbc-tabs", ".nbc-outcome:not([hidden])"]
        .map(part => view.querySelector(part).getBoundingClientRect());
    return [
        view.scrollTop, head.top >= side.top - 1 && tabs.top >= head.bottom - 1, result.top >= tabs.bottom - 1,
        result.bottom <= side.bottom + 1,
    ];
}"""
COLUMNS = """columns => {
    const nodes = [...document.querySelectorAll("#nbcompose-panel [data-service]")];
    return new Set(nodes.map(node => Math.round(node.getBoundingClientRect().x))).size === columns;
}"""
RENAME = """name => {
    const {context} = window.jupyterapp.shell.currentWidget;
    return context.rename(name).then(() => null);
}"""
SWITCH = """() => {
    const {sessionContext} = window.jupyterapp.shell.currentWidget;
    return sessionContext.changeKernel({name: 'python3'}).then(() => null);
}"""
CURSOR = """() => {
    const {content} = window.jupyterapp.shell.currentWidget;
    return [content.activeCellIndex, content.activeCell.editor.getCursorPosition().line];
}"""


def execute(page: Page, command: str, **arguments: Any) -> None:
    page.evaluate(EXECUTE, [f"nbcompose:{command}", arguments])


def saved(text: str, there: bool = True) -> Callable[[Response], bool]:
    """Whether a response is to a workspace that was saved, with this text or without it: what a reload goes by."""
    return lambda response: (
        response.request.method == "PUT"
        and "/api/workspaces/" in response.url
        and (text in (response.request.post_data or "")) is there
    )


def panel_of(page: Page) -> Locator:
    return page.locator("#nbcompose-panel")


def notice_of(where: Locator) -> Locator:
    return where.locator(".nbc-graph-notice")


def tabs_of(page: Page) -> Locator:
    return page.locator(".nbc-graph-tab:visible")


@pytest.fixture(scope="module")
def notebook(desk: Any) -> Iterator[Notebook]:
    """Its services run, another notebook is beside it, and the panel is shown."""
    desk.server.write("panel-other.ipynb", ["1 + 1"])
    notebook = desk.open("lab", "panel.ipynb", CELLS)
    for number in range(SERVED + 1):
        notebook.run(number)
    notebook.page.evaluate(SHOW)
    yield notebook
    notebook.page.evaluate(ACTIVATE, "panel.ipynb")
    notebook.shut_down()


@pytest.fixture
def panel(notebook: Notebook) -> Graph:
    return Graph(panel_of(notebook.page))


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The pid of an `nbcompose serve`."""
    app = tmp_path_factory.mktemp("serve") / "panel_app.py"
    app.write_text(APP, encoding="utf-8")
    command = [str(Path(sys.executable).with_name("nbcompose")), "serve", str(app), "--port", "0"]
    environment = {**os.environ, "NBCOMPOSE_PRELOAD": ""}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            assert process.stdout is not None
            assert any(b"http://127.0.0.1" in line for line in process.stdout)
            yield process.pid
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)


def test_the_panel_has_the_graph_of_the_notebook_in_front(notebook: Notebook, panel: Graph) -> None:
    for service in ("PanelWriter", "PanelPainter", "PanelAnswer"):
        expect(panel.node(service)).to_have_attribute("aria-label", re.compile(f"^{service}, ready"))
    expect(panel_of(notebook.page).locator(".nbc-graph-name")).to_have_text("panel.ipynb")
    expect(notice_of(panel_of(notebook.page))).to_be_hidden()
    notebook.screenshot("panel-light")


def test_in_the_side_bar_services_stand_below_one_another_and_can_be_read(notebook: Notebook, panel: Graph) -> None:
    page = notebook.page
    for columns, width in ((2, 700), (1, 300)):
        page.evaluate(DRAG, width)
        page.wait_for_function(COLUMNS, arg=columns)
    room = panel_of(page).bounding_box()
    assert room is not None
    for service in ("PanelAnswer", "PanelWriter", "PanelPainter"):
        box = panel.node(service).locator(".nbc-card").bounding_box()
        text = panel.node(service).locator(".nbc-name").bounding_box()
        assert box is not None
        assert text is not None
        assert room["x"] <= box["x"]
        assert box["x"] + box["width"] <= room["x"] + room["width"]
        assert text["height"] > 10


def test_a_narrow_panel_shows_all_numbers_and_its_buttons_in_a_row(notebook: Notebook, panel: Graph) -> None:
    page = notebook.page
    page.evaluate(DRAG, 300)
    panel.choose("PanelWriter", api="refuse")
    panel.button("Call").click()
    panel.ends("failed after")
    expect(panel.result).to_be_in_viewport()
    size = page.viewport_size
    assert size is not None
    page.set_viewport_size({"width": size["width"], "height": 860})
    for count, pause in (("3", "0"), ("300", "0"), ("100", "0.01")):  # the last one is seen to grow
        panel.choose("PanelWriter", api="write")
        panel.call(prompt="long", count=count, pause=pause)
        panel.ends(f"{count} items")
        page.wait_for_function(f"() => String(({IN_SIGHT})()) === '0,true,true,true'")
        notebook.screenshot(f"panel-result-{count}")
    page.set_viewport_size(size)
    panel.choose("PanelWriter", tab="Numbers")
    room = panel.panel.bounding_box()
    assert room is not None
    for head in ("answered", "failed", "p50, 5 min", "p95, 5 min"):
        cell = panel.panel.get_by_role("cell").and_(page.locator(f"[data-head='{head}']")).first
        expect(cell).to_be_visible()
        box = cell.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= room["x"] + room["width"]
    expect(panel.panel.get_by_role("rowheader", name="refuse")).to_be_visible()
    fixed = panel.panel.locator(".nbc-head")
    rows = """head => {
        head.querySelector('.nbc-back').hidden = false;
        const boxes = [...head.querySelectorAll('.nbc-acts button')].map(button => button.getBoundingClientRect());
        const right = head.getBoundingClientRect().right;
        return [new Set(boxes.map(box => Math.round(box.y))).size, boxes.every(box => box.right <= right)];
    }"""
    assert fixed.evaluate(rows) == [1, True]
    assert fixed.evaluate("head => head.offsetHeight") < 90  # it stays while the panel scrolls
    notebook.screenshot("panel-numbers")


def test_lines_that_logs_and_errors_name_lead_to_their_cell(notebook: Notebook, panel: Graph) -> None:
    page = notebook.page
    line = SERVICES.split("\n").index("            return 1 / 0  # here")
    panel.choose("PanelWriter", api="refuse")
    panel.button("Call").click()
    panel.ends("failed after")
    for tab, text in (("Call", ".nbc-traceback"), ("Logs", ".nbc-logs")):
        panel.choose("PanelWriter", tab=tab)
        page.evaluate("() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 0; }")
        panel.panel.locator(text).get_by_text(f"Cell In[{SERVED + 1}], line {line + 1}", exact=True).last.click()
        expect(notebook.cell(SERVED).locator(".nbc-line-mark")).to_be_attached()
        assert page.evaluate(CURSOR) == [SERVED, line]
        expect(notebook.cell(SERVED).locator(".nbc-line-mark")).to_have_count(0)


def test_calls_are_made_from_the_panel_while_a_cell_runs(notebook: Notebook, panel: Graph) -> None:
    notebook.write(SCRATCH, "import time; time.sleep(600)")
    notebook.start(SCRATCH)
    expect(notebook.cell(SCRATCH).locator(".jp-InputPrompt")).to_contain_text("*")
    panel.choose("PanelAnswer")
    panel.call(question="tea")
    expect(panel.ends("done in").locator(".nbc-tree")).to_contain_text("tea 0;")
    notebook.screenshot("panel-call")
    panel.choose("PanelWriter", api="write")
    panel.call(prompt="rain", count="4")
    expect(panel.ends("4 items")).to_contain_text("rain 0;rain 1;rain 2;rain 3;")
    panel.choose("PanelWriter", api="endless")
    panel.button("Call").click()
    expect(panel.result).to_contain_text("begun")
    panel.button("Cancel").click()
    panel.ends("cancelled after")
    panel.choose("PanelWriter", tab="Logs")
    expect(panel.panel.locator(".nbc-logs")).to_contain_text("writing about rain")
    notebook.interrupt(SCRATCH)


def test_files_go_up_from_the_panel(panel: Graph) -> None:
    panel.choose("PanelPainter")
    panel.panel.locator("input[type=file]").set_input_files(
        {"name": "red.png", "mimeType": "image/png", "buffer": red_png()}
    )
    panel.button("Call").click()
    assert pixel(panel.ends("done in").locator("img")) == (0, 255, 255)


def test_the_panel_follows_the_notebook_in_front_and_loads_nbcompose(notebook: Notebook, panel: Graph) -> None:
    page, where = notebook.page, panel_of(notebook.page)
    panel.choose("PanelAnswer")
    page.evaluate(ACTIVATE, "panel-other.ipynb")
    expect(notice_of(where)).to_contain_text("nbcompose is not loaded in the kernel of panel-other.ipynb.")
    expect(panel.canvas.filter(visible=True)).to_have_count(0)
    notebook.screenshot("panel-not-loaded")
    where.get_by_role("button", name="Load nbcompose").click()
    expect(where.locator(".nbc-empty:visible")).to_contain_text("No service runs here.")
    expect(notice_of(where)).to_be_hidden()
    notebook.screenshot("panel-empty")
    # The notebook knows nothing of it: its first cell is the first.
    assert page.evaluate("""async () => {
        const {context, content} = window.jupyterapp.shell.currentWidget;
        await window.jupyterapp.commands.execute('notebook:run-cell');
        return [context.path, content.widgets[0].model.executionCount];
    }""") == ["panel-other.ipynb", 1]
    page.evaluate(ACTIVATE, "panel.ipynb")
    expect(where.locator(".nbc-graph-name")).to_have_text("panel.ipynb")
    expect(where.locator(".nbc-panel .nbc-name:visible")).to_have_text("PanelAnswer")  # as it was left


def test_a_pinned_panel_stays_also_after_a_reload(notebook: Notebook) -> None:
    page, where = notebook.page, panel_of(notebook.page)
    page.evaluate(ACTIVATE, "panel.ipynb")
    with page.expect_response(saved(PINNED)):
        where.get_by_role("button", name="Stay with panel.ipynb").click()
    page.evaluate(ACTIVATE, "panel-other.ipynb")
    expect(where.locator(".nbc-graph-name")).to_have_text("panel.ipynb")
    page.reload()
    page.wait_for_function("() => window.jupyterapp?.restored.then(() => true)")
    expect(where.locator(".nbc-graph-name")).to_have_text("panel.ipynb")
    expect(where.locator("[data-service='PanelAnswer']")).to_be_visible()
    page.evaluate(ACTIVATE, "panel-other.ipynb")
    where.get_by_role("button", name="Pinned to panel.ipynb").click()
    expect(where.locator(".nbc-graph-name")).to_have_text("panel-other.ipynb")
    page.evaluate(ACTIVATE, "panel.ipynb")
    expect(where.locator(".nbc-graph-name")).to_have_text("panel.ipynb")


def test_a_graph_is_a_tab_which_a_reload_restores(notebook: Notebook) -> None:
    page = notebook.page
    page.evaluate(ACTIVATE, "panel.ipynb")
    expect(panel_of(page).locator(".nbc-graph-name")).to_have_text("panel.ipynb")
    with page.expect_response(saved(OPEN_TAB)):
        panel_of(page).get_by_role("button", name="Open the graph as a tab").click()
    tab = Graph(tabs_of(page))
    expect(tab.node("PanelAnswer")).to_have_attribute("aria-label", re.compile("^PanelAnswer, ready"))
    kernel = next(r["id"] for r in page.evaluate(LISTED) if r["path"] == "panel.ipynb")
    execute(page, "open-graph", runtime=kernel, service="PanelWriter")  # as a click in the panel of what runs
    expect(tabs_of(page)).to_have_count(1)
    expect(tab.panel.locator(".nbc-name")).to_have_text("PanelWriter")
    notebook.screenshot("panel-tab")
    page.reload()
    page.wait_for_function("() => window.jupyterapp?.restored.then(() => true)")
    expect(page.locator(".lm-TabBar-tab", has_text="Graph of panel.ipynb")).to_be_visible()
    expect(tab.node("PanelAnswer")).to_be_visible()
    notebook.theme("JupyterLab Dark")
    notebook.screenshot("panel-tab-dark")
    notebook.theme("JupyterLab Light")


def test_the_graph_of_a_program_is_a_tab_until_it_ends(notebook: Notebook, serving: int) -> None:
    page = notebook.page
    execute(page, "open-graph", runtime=f"serve-{serving}", service="PanelEcho")
    tab = Graph(tabs_of(page).filter(has=page.locator("[data-service='PanelEcho']")))
    tab.call(text="hello")
    expect(tab.ends("done in")).to_contain_text("hello!")
    execute(page, "open-graph", runtime="serve-1")
    expect(notice_of(tabs_of(page).filter(has_text="has ended"))).to_contain_text("The process serve-1 has ended")
    for name in ("panel_app.py", "serve-1"):
        named = page.locator(".lm-TabBar-tab", has_text=f"Graph of {name}")
        named.locator(".lm-TabBar-tabCloseIcon").click()
        expect(named).to_have_count(0)


def test_nothing_is_asked_for_while_no_graph_can_be_seen(notebook: Notebook) -> None:
    page, where = notebook.page, panel_of(notebook.page)
    page.evaluate(ACTIVATE, "panel.ipynb")
    with page.expect_response(saved(OPEN_TAB, False)):
        page.evaluate(CLOSE, "panel-other.ipynb")
        page.locator(".lm-TabBar-tab", has_text="Graph of panel.ipynb").locator(".lm-TabBar-tabCloseIcon").click()
    opened: list[WebSocket] = []
    page.on("websocket", lambda socket: opened.append(socket) if "nbcompose/api/watch" in socket.url else None)
    page.reload()
    expect(where.locator("[data-service='PanelAnswer']")).to_be_visible()
    with opened[-1].expect_event("close"):
        page.evaluate("() => window.jupyterapp.shell.collapseRight()")
    assert len(opened) == 1
    with page.expect_websocket(lambda socket: "nbcompose/api/watch" in socket.url):
        page.evaluate(SHOW)


def test_a_restarted_kernel_has_its_graph_again_when_its_cells_have_run(notebook: Notebook, panel: Graph) -> None:
    page, where = notebook.page, panel_of(notebook.page)
    page.evaluate(ACTIVATE, "panel.ipynb")
    panel.choose("PanelAnswer")
    panel.field("question").fill("milk")
    notebook.restart_kernel()
    expect(notice_of(where)).to_contain_text("run the cells of panel.ipynb again")
    notebook.screenshot("panel-restarted")
    for number in range(SERVED + 1):
        notebook.run(number)
    expect(panel.node("PanelAnswer")).to_have_attribute("aria-label", re.compile("^PanelAnswer, ready"))
    expect(panel.field("question")).to_have_value("milk")  # what was typed is still there
    panel.button("Call").click()
    expect(panel.ends("done in").locator(".nbc-tree")).to_contain_text("milk 0;")


def test_panel_and_badges_follow_a_notebook_that_is_renamed(notebook: Notebook, panel: Graph) -> None:
    page, where = notebook.page, panel_of(notebook.page)
    page.evaluate(ACTIVATE, "panel.ipynb")
    panel.choose("PanelAnswer")
    badge = notebook.cell(SERVED).locator(".nbc-cell-badge")
    for name in ("panel-renamed.ipynb", "panel.ipynb"):
        page.evaluate(RENAME, name)
        expect(where.locator(".nbc-graph-name")).to_have_text(name)
        page.wait_for_function(f"name => ({LISTED})().then(all => all.some(({{path}}) => path === name))", arg=name)
        expect(panel.panel.locator(".nbc-name")).to_have_text("PanelAnswer")  # as it was left
        expect(panel.node("PanelAnswer")).to_have_attribute("aria-label", re.compile("^PanelAnswer, ready"))
        expect(notice_of(where)).to_be_hidden()
        expect(badge).to_contain_text("PanelAnswer ready")


def test_panel_and_badges_follow_a_notebook_whose_kernel_is_switched(notebook: Notebook, panel: Graph) -> None:
    page, where = notebook.page, panel_of(notebook.page)
    badge = notebook.cell(SERVED).locator(".nbc-cell-badge")
    expect(badge).to_be_visible()
    page.evaluate(SWITCH)
    expect(notice_of(where)).to_contain_text("of panel.ipynb")
    expect(badge).to_have_count(0)
    notebook.screenshot("panel-switched")
    notebook.ready()
    for number in range(SERVED + 1):
        notebook.run(number)
    shown = Graph(where.locator(".nbc-graph-root:visible"))  # the one of the kernel before is kept, out of sight
    expect(shown.node("PanelAnswer")).to_have_attribute("aria-label", re.compile("^PanelAnswer, ready"))
    expect(notice_of(where)).to_be_hidden()
    expect(badge).to_contain_text("PanelAnswer ready")
    notebook.save()
    notebook.reload()
    page.wait_for_function("() => window.jupyterapp.restored.then(() => true)")
    expect(panel.node("PanelAnswer")).to_have_attribute("aria-label", re.compile("^PanelAnswer, ready"))
    expect(badge).to_contain_text("PanelAnswer ready")


def test_in_notebook_the_panel_is_at_the_right_and_the_graph_below(desk: Any, notebook: Notebook) -> None:
    page = desk.page()
    page.goto(desk.server.url("notebook", "panel.ipynb"))
    page.wait_for_function("() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.id")
    page.evaluate(SHOW)
    panel = Graph(panel_of(page))
    panel.choose("PanelAnswer")
    panel.call(question="snow")
    expect(panel.ends("done in").locator(".nbc-tree")).to_contain_text("snow 0;")
    panel_of(page).get_by_role("button", name="Open the graph as a tab").click()
    expect(Graph(tabs_of(page)).node("PanelAnswer")).to_be_visible()
    Notebook(page, "notebook", desk.server.folder / "panel.ipynb").screenshot("panel-notebook")
    page.close()
