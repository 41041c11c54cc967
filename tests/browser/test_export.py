"""*File → Save and Export Notebook As*: what nbconvert's entry point gives to JupyterLab and Notebook 7."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import pytest
from lab_page import Notebook
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

SERVICE = """
%%service
from nbcompose import api

class Greeter:
    @api
    def greet(self, name: str) -> str:
        return f"{greeting}, {name}"
""".strip()
CELLS = ["%load_ext nbcompose\ngreeting = 'Hello'", SERVICE]
ENTRY = ("File", "Save and Export Notebook As", "Nbcompose")


@pytest.fixture(scope="module", params=["lab", "notebook"])
def opened(request: pytest.FixtureRequest, desk: Any) -> Iterator[Notebook]:
    notebook = desk.open(request.param, f"greetings-{request.param}.ipynb", CELLS)
    yield notebook
    notebook.shut_down()


@pytest.fixture
def notebook(opened: Notebook) -> Notebook:
    """Saved with its cells as they are above."""
    opened.write(0, CELLS[0])
    opened.save()
    return opened


def test_a_script_is_downloaded(notebook: Notebook) -> None:
    with notebook.page.expect_download() as begun:
        notebook.menu(*ENTRY)
    assert begun.value.suggested_filename == f"greetings-{notebook.front_end}.py"
    script = begun.value.path().read_text(encoding="utf-8")
    assert script.endswith('if __name__ == "__main__":\n    nbcompose.serve(Greeter)\n')
    assert f"The services of {notebook.path.name}," in str(ast.get_docstring(ast.parse(script)))


def test_a_refusal_can_be_read(notebook: Notebook) -> None:
    """Of a notebook that was not saved: exporting saves it."""
    notebook.write(0, "%load_ext nbcompose")
    with notebook.page.expect_popup() as opened:
        notebook.menu(*ENTRY)
    expect(opened.value.locator("body")).to_contain_text(
        "cell 2, line 4: Greeter needs `greeting`, which no cell sets: set it in one"
    )
    opened.value.close()
