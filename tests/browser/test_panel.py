"""The live graph beside the notebook: in the side bar, in tabs, and in Notebook 7. Over the Jupyter server, not a comm."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_page import Graph, Notebook
from playwright.sync_api import Locator, Page, expect
from test_graph import pixel, red_png

from tests.patience import PATIENCE

pytestmark = pytest.mark.browser

SERVICES = """
%%service
import asyncio
from collections.abc import AsyncIterator

from nbcompose import api, depends
from PIL import Image, ImageOps

class PanelWriter:
    @api
    async def write(self, prompt: str, count: int = 3) -> AsyncIterator[str]:
        print("writing about", prompt)
        for number in range(count):
            yield f"{prompt} {number};"

    @api
    async def endless(self) -> AsyncIterator[str]:
        yield "begun"
        await asyncio.Event().wait()

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
SHOW = "() => window.jupyterapp.shell.activateById('nbcompose-panel')"
KERNEL = "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.id"
ACTIVATE = """path => window.jupyterapp.commands.execute('docmanager:open', {path})
    .then(panel => panel.sessionContext.ready).then(() => null)"""


def execute(page: Page, command: str, **arguments: Any) -> None:
    page.evaluate(EXECUTE, [f"nbcompose:{command}", arguments])


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
    expect(panel.ends("4 items in")).to_contain_text("rain 0;rain 1;rain 2;rain 3;")
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
