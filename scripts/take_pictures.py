"""Takes the pictures of the README: the quickstart notebook in a real JupyterLab, in a real browser.

    python scripts/take_pictures.py

It runs every cell, chooses `Answer` in the graph, and photographs the trace of the last question.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "browser"))

from chromium import chromium  # the browser, server and page of the tests
from lab_page import Graph, Notebook
from lab_server import Server
from playwright.sync_api import ViewportSize, expect

ROOT = Path(__file__).resolve().parents[1]
PAGE: ViewportSize = {"width": 1080, "height": 2400}
START = 300_000  # milliseconds: real models


def main() -> int:
    os.environ.setdefault("HF_HOME", str(ROOT / "models"))
    with tempfile.TemporaryDirectory() as home, chromium() as browser:
        server = Server(Path(home), preload=None)
        try:
            for name in ("quickstart.ipynb", "passages.json"):
                shutil.copy(ROOT / "notebooks" / name, server.folder)
            page = browser.new_page(viewport=PAGE, device_scale_factor=2)
            page.set_default_timeout(START)
            notebook = Notebook(page, "notebook", server.folder / "quickstart.ipynb")
            notebook.open(server.url("notebook", "quickstart.ipynb"))
            _photograph(notebook, ROOT / "docs" / "images" / "graph.png")
        finally:
            server.stop()
    return 0


def _photograph(notebook: Notebook, path: Path) -> None:
    cells = notebook.page.locator(".jp-Notebook .jp-CodeCell")
    sources = [cells.nth(n).locator(".cm-content").inner_text() for n in range(cells.count())]
    shown = next(n for n, source in enumerate(sources) if source.startswith("%graph"))
    for number in range(shown + 1):
        notebook.run(number)
    graph = Graph(notebook.output(shown))
    graph.choose("Answer", "Trace")
    expect(graph.panel.locator(".nbc-bar").first).to_be_visible()
    graph.panel.get_by_role("option", name="Answer.ask").first.click()
    notebook.cell(shown).scroll_into_view_if_needed()
    notebook.page.mouse.move(0, 0)
    notebook.cell(shown).screenshot(path=path, animations="disabled")
    print(f"{path.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
