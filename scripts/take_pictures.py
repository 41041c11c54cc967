"""Takes the pictures of the README: the quickstart notebook in a real JupyterLab, in a real browser.

    python scripts/take_pictures.py

It runs the cells, chooses `Answer` in the graph, and photographs the trace of the last question: in the notebook, and
in JupyterLab's side bar beside a cell that has been edited and not run.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "browser"))

import nbformat
from chromium import chromium  # the browser, server and page of the tests
from lab_page import Graph, Notebook
from lab_server import Server
from playwright.sync_api import ViewportSize, expect

ROOT = Path(__file__).resolve().parents[1]
PAGE: ViewportSize = {"width": 1080, "height": 2400}
LAB: ViewportSize = {"width": 1500, "height": 1000}
START = 300_000  # milliseconds: real models


def main() -> int:
    os.environ.setdefault("HF_HOME", str(ROOT / "models"))
    with tempfile.TemporaryDirectory() as home, chromium() as browser:
        server = Server(Path(home), preload=None)
        try:
            for name in ("quickstart.ipynb", "passages.json"):
                shutil.copy(ROOT / "notebooks" / name, server.folder)
            for front_end, size, photograph in (("notebook", PAGE, _graph), ("lab", LAB, _lab)):
                page = browser.new_page(viewport=size, device_scale_factor=2)
                page.set_default_timeout(START)
                notebook = Notebook(page, front_end, server.folder / "quickstart.ipynb")
                notebook.open(server.url(front_end, "quickstart.ipynb"))
                photograph(notebook)
                notebook.shut_down()
        finally:
            server.stop()
    return 0


def _graph(notebook: Notebook) -> None:
    shown = _run(notebook, "%graph")
    graph = Graph(notebook.output(shown))
    _trace(graph)
    notebook.cell(shown).scroll_into_view_if_needed()
    notebook.page.mouse.move(0, 0)
    notebook.cell(shown).screenshot(path=_path("graph"), animations="disabled")


def _lab(notebook: Notebook) -> None:
    page = notebook.page
    _run(notebook, "await Answer")
    page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    page.evaluate("() => window.jupyterapp.shell.activateById('nbcompose-panel')")
    _trace(Graph(page.locator("#nbcompose-panel")))
    sources = _sources(notebook)
    edited = next(n for n, source in enumerate(sources) if "class Answer" in source)
    notebook.write(edited, sources[edited].replace("at_least: float = 0.4", "at_least: float = 0.3"))
    expect(notebook.cell(edited).locator(".nbc-cell-badge-plan")).to_contain_text("weights kept")
    notebook.cell(edited).evaluate("cell => cell.scrollIntoView({block: 'start'})")
    page.mouse.move(0, 0)
    page.screenshot(path=_path("jupyter"), animations="disabled")


def _run(notebook: Notebook, last: str) -> int:
    """Run the cells up to one that begins so; returns its number."""
    wanted = next(n for n, source in enumerate(_sources(notebook)) if source.startswith(last))
    for number in range(wanted + 1):
        notebook.run(number)
    return wanted


def _sources(notebook: Notebook) -> list[str]:
    return [cell.source for cell in nbformat.read(notebook.path, 4).cells if cell.cell_type == "code"]


def _trace(graph: Graph) -> None:
    graph.choose("Answer", "Trace")
    expect(graph.panel.locator(".nbc-bar").first).to_be_visible()
    graph.panel.get_by_role("option", name="Answer.ask").first.click()


def _path(name: str) -> Path:
    path = ROOT / "docs" / "images" / f"{name}.png"
    print(path.relative_to(ROOT))
    return path


if __name__ == "__main__":
    sys.exit(main())
