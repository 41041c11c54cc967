"""What Tab and Shift+Tab show in JupyterLab and Notebook 7."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from lab_page import Notebook
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

SERVICE = """
%%service
from nbcompose import api, depends

class Greeter:
    @api
    async def greet(self, name: str, often: int = 1) -> str:
        '''A greeting.'''
        return f"Hello, {name}"

    @api
    def list_names(self) -> list[str]:
        return []
""".strip()
WRITTEN = (
    "class Front:\n    greeter = depends(Greeter)\n\n    @api\n    def ask(self) -> str:\n        return self.greeter."
)
CELLS = ["%load_ext nbcompose", SERVICE, WRITTEN, ""]
SCRATCH = 3


@pytest.fixture(scope="module", params=["lab", "notebook"])
def notebook(request: pytest.FixtureRequest, desk: Any) -> Iterator[Notebook]:
    notebook = desk.open(request.param, f"completion-{request.param}.ipynb", CELLS)
    notebook.run(0)
    notebook.run(1)
    yield notebook
    notebook.shut_down()


@pytest.mark.parametrize("where", ["after a service", "in a class that is written"])
def test_apis_are_offered_first_with_their_signatures(notebook: Notebook, where: str) -> None:
    if where == "after a service":
        notebook.write(SCRATCH, "Greeter.")
    else:
        notebook.cell(2).locator(".cm-content").click()
        notebook.page.keyboard.press("ControlOrMeta+End")
    notebook.page.keyboard.press("Tab")
    items = notebook.page.locator(".jp-Completer .jp-Completer-item")
    expect(items.nth(0)).to_contain_text("greet")
    expect(items.nth(0)).to_contain_text("async api (name: str, often: int = 1) \N{NON-BREAKING HYPHEN}> str")
    expect(items.nth(1)).to_contain_text("list_names")
    expect(items.nth(1)).to_contain_text("api () \N{NON-BREAKING HYPHEN}> list[str]")
    expect(items.filter(has_text="bind")).to_have_count(0)
    notebook.screenshot(f"completion-{where.replace(' ', '-')}-{notebook.front_end}")
    notebook.page.keyboard.press("Escape")


def test_help_of_an_api_says_how_to_call_it(notebook: Notebook) -> None:
    notebook.write(SCRATCH, "Greeter.greet(")
    notebook.page.keyboard.press("Shift+Tab")
    shown = notebook.page.locator(".jp-Tooltip")
    expect(shown).to_contain_text("Greeter.greet(name: str, often: int = 1) -> str")
    expect(shown).to_contain_text("A greeting.")
    expect(shown).to_contain_text("await Greeter.to_async.greet(...)")
    expect(shown).to_contain_text("POST /greet")
    expect(shown).not_to_contain_text("SyncMethod")
    notebook.screenshot(f"help-{notebook.front_end}")
    notebook.page.keyboard.press("Escape")


def test_services_are_offered_in_the_brackets_of_depends(notebook: Notebook) -> None:
    items = notebook.page.locator(".jp-Completer .jp-Completer-item")
    notebook.write(2, "%%service\nclass Other:\n    pass\n\nclass Front:\n    greeter = depends(")
    notebook.page.keyboard.press("Tab")
    expect(items).to_have_count(2)
    expect(items.nth(0)).to_contain_text("Other")
    expect(items.nth(1)).to_contain_text("Greeter")
    notebook.screenshot(f"completion-depends-{notebook.front_end}")
    notebook.page.keyboard.press("Escape")
    notebook.write(2, WRITTEN)


def test_a_busy_kernel_leaves_apis_names_and_options(notebook: Notebook) -> None:
    notebook.write(SCRATCH, "import time; time.sleep(600)")
    notebook.start(SCRATCH)
    expect(notebook.cell(SCRATCH).locator(".jp-InputPrompt")).to_contain_text("*")
    items = notebook.page.locator(".jp-Completer .jp-Completer-item")
    notebook.write(2, f"%%service\n{WRITTEN}")
    notebook.page.keyboard.press("Tab")
    expect(items.nth(0)).to_contain_text("greet")
    expect(items.nth(0)).to_contain_text("api (name: str, often: int = 1) \N{NON-BREAKING HYPHEN}> str")
    notebook.screenshot(f"completion-busy-{notebook.front_end}")
    notebook.page.keyboard.press("Escape")
    notebook.write(2, "%%service --re")
    notebook.page.keyboard.press("Tab")
    expect(items.filter(has_text="--replicas")).to_be_visible()
    notebook.page.keyboard.press("Escape")
    notebook.write(2, "%%service\nclass Other:\n    pass\n\nclass Front:\n    greeter = depends(")
    notebook.page.keyboard.press("Tab")
    expect(items.filter(has_text="Other")).to_be_visible()
    expect(items.filter(has_text="Greeter")).to_be_visible()
    notebook.page.keyboard.press("Escape")
    notebook.interrupt(SCRATCH)
