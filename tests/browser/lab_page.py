"""A notebook in a browser's page, as its user drives it: the same in JupyterLab and Notebook 7."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from tests.patience import PATIENCE

SCREENSHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"
TIMEOUT = PATIENCE * 1000  # milliseconds
# A cell that is run before that is dropped without a word.
CONNECTED = """async () => {
    const context = window.jupyterapp?.shell.currentWidget?.sessionContext;
    await context?.ready;
    return Boolean(await context?.session?.kernel?.info);
}"""
RUN = "() => window.jupyterapp.commands.execute('notebook:run-cell')"  # what Ctrl+Enter does, but it says when it ended
ANSWERED = "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestKernelInfo()"
SHUT_DOWN = "() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()"
SELECT_ALL = "ControlOrMeta+a"


class Notebook:
    """One open notebook. Cells are counted from 0."""

    def __init__(self, page: Page, front_end: str, path: Path) -> None:
        self.page = page
        self.front_end = front_end
        self.path = path

    def open(self, url: str) -> None:
        self.page.goto(url)
        self.ready()

    def reload(self) -> None:
        self.page.reload()
        self.ready()

    def ready(self) -> None:
        """Wait until there is a kernel that can be asked."""
        expect(self.cell(0)).to_be_visible(timeout=TIMEOUT)
        self.page.wait_for_function(CONNECTED, timeout=TIMEOUT)

    # -- cells

    def cell(self, number: int) -> Locator:
        return self.page.locator(".jp-Notebook .jp-CodeCell").nth(number)

    def output(self, number: int) -> Locator:
        return self.cell(number).locator(".jp-OutputArea")

    def start(self, number: int) -> None:
        """Run a cell, and do not wait for its end."""
        self._edit(number)
        self.page.keyboard.press("Control+Enter")

    def run(self, number: int) -> Locator:
        """Run a cell to its end; returns its output."""
        self._edit(number)
        self.page.evaluate(RUN)
        return self.output(number)

    def run_new(self, number: int, source: str) -> Locator:
        """Write this into a cell, and run it to its end; returns its output."""
        self.write(number, source)
        return self.run(number)

    def interrupt(self, number: int) -> Locator:
        """Press the stop button while a cell runs; returns its output once the kernel is ready for another one.

        What is asked of it before that, it drops with what the interrupted cell has left waiting.
        """
        self.page.get_by_role("button", name="Interrupt the kernel").click()
        expect(self.cell(number).locator(".jp-InputPrompt")).to_have_text(re.compile(r"^\[\d+\]:$"))
        self.page.evaluate(ANSWERED)
        return self.output(number)

    def write(self, number: int, source: str) -> None:
        """Replace what is in a cell."""
        self._edit(number)
        self.page.keyboard.press(SELECT_ALL)
        self.page.keyboard.insert_text(source)

    def _edit(self, number: int) -> None:
        editor = self.cell(number).locator(".cm-content")
        editor.click()
        expect(editor).to_be_focused()

    # -- the notebook

    def save(self) -> None:
        with self.page.expect_response(lambda r: r.request.method == "PUT" and "/api/contents/" in r.url):
            self.page.keyboard.press("ControlOrMeta+s")

    def shut_down(self) -> None:
        """End its kernel, and close its page."""
        self.page.evaluate(SHUT_DOWN)
        self.page.close()

    def restart_kernel(self) -> None:
        self.menu("Kernel", "Restart Kernel…")
        self.page.locator(".jp-Dialog").get_by_role("button", name="Confirm Kernel Restart").click()
        expect(self.page.locator(".jp-Dialog")).to_have_count(0)
        self.ready()

    def theme(self, name: str) -> None:
        self.menu("Settings", "Theme", name)
        is_light = "false" if "Dark" in name else "true"
        expect(self.page.locator(f"body[data-jp-theme-light={is_light}]")).to_be_attached()

    def menu(self, bar: str, *path: str) -> None:
        self.page.locator(".lm-MenuBar-item", has_text=re.compile(f"^{bar}$")).click()
        for number, name in enumerate(path):
            menu = self.page.locator(".lm-Menu").nth(number)
            item = menu.locator(".lm-Menu-item", has=self.page.locator(".lm-Menu-itemLabel", has_text=_starts(name)))
            if number + 1 < len(path):
                item.first.hover()
            else:
                item.first.click()

    def screenshot(self, name: str, what: Locator | None = None) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        (what or self.page).screenshot(path=path, animations="disabled")


class Graph:
    """The live picture in the output of a cell, and the panel of the service that is chosen."""

    def __init__(self, output: Locator) -> None:
        self.canvas = output.locator(".nbc-canvas")
        self.drawing = self.canvas.locator("svg.nbc-picture")
        self.tools = output.get_by_role("toolbar", name="view of the picture")
        self.still = output.locator("img")
        self.panel = output.locator(".nbc-panel")
        self.result = self.panel.locator(".nbc-outcome")
        self.asking = self.panel.get_by_role("alertdialog")

    def node(self, service: str) -> Locator:
        return self.canvas.locator(f"[data-service='{service}']")

    def knob(self, service: str) -> Locator:
        """What folds all that is only below a service."""
        return self.canvas.locator(f"[data-fold='{service}']")

    def tool(self, name: str) -> Locator:
        return self.tools.get_by_role("button", name=name)

    def edge(self, caller: str, callee: str) -> Locator:
        return self.canvas.locator(".nbc-edge", has=self.canvas.page.locator(f"title:has-text('{caller} → {callee}:')"))

    def choose(self, service: str, tab: str = "Call", api: str = "") -> None:
        self.node(service).click()
        expect(self.panel.locator(".nbc-name")).to_have_text(service)
        self.panel.get_by_role("tab", name=tab).click()
        if api:
            self.panel.get_by_label("api", exact=True).select_option(api)
            expect(self.panel.locator(".nbc-signature")).to_contain_text(f"{api}(")

    def field(self, name: str) -> Locator:
        return self.panel.locator(f"[data-field='{name}']").locator("input, textarea, select").first

    def call(self, **values: str) -> Locator:
        """Fill in the form, and press Call; returns where the result comes."""
        for name, value in values.items():
            self.field(name).fill(value)
        self.button("Call").click()
        return self.result

    def button(self, name: str) -> Locator:
        return self.panel.get_by_role("button", name=name, exact=True)

    def ends(self, words: str) -> Locator:
        """Wait until the call has ended so; returns what it left."""
        expect(self.result.locator(".nbc-status")).to_have_text(words)
        return self.result.locator(".nbc-result")


def _starts(name: str) -> re.Pattern[str]:
    return re.compile("^" + re.escape(name.removesuffix("…")))
