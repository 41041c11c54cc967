"""Services at the cells of a notebook: states, what a run will do, the toolbar, and lines that errors name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from lab_page import SCREENSHOTS, Notebook
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.browser

SERVICES = """
%%service
from nbcompose import api, depends

class BadgeWriter:
    def __init__(self):
        self.words = 3

    @api
    def write(self, text: str) -> str:
        return shout(text)

class BadgeAnswer:
    writer = depends(BadgeWriter)

    @api
    async def ask(self, text: str) -> str:
        if not text:
            raise ValueError("nothing was asked")
        return await self.writer.to_async.write(text)
""".strip()
HELPER = "def shout(text):\n    return text.upper()"
STATES = """
%%service --no-wait
import threading
from nbcompose import api, depends

class BadgeBroken:
    def __init__(self):
        raise RuntimeError("no weights")

    @api
    def ask(self) -> int: ...
""".strip()
STARTING = STATES.replace("BadgeBroken", "BadgeSlow").replace(
    'raise RuntimeError("no weights")', "threading.Event().wait()"
)
WAITING = """
%%service --no-wait
class BadgeWaiting:
    slow = depends(BadgeSlow)

    @api
    def ask(self) -> int: ...
""".strip()
GATED = """
%%service
import os
import time

class BadgeGated:
    def __init__(self):
        while os.path.exists("closed"):
            time.sleep(0.05)

    @api
    def ask(self) -> int: ...
""".strip()
LOAD, HELPS, SERVED, WRONG, SCRATCH = range(5)
CELLS = ["%load_ext nbcompose", HELPER, SERVICES, "BadgeAnswer.ask('')", ""]
READY = "BadgeWriter ready · BadgeAnswer ready"
EDIT = """([number, source]) => {
    const {widgets} = window.jupyterapp.shell.currentWidget.content;
    widgets[number].model.sharedModel.setSource(source);
}"""
LOCK = """([number, locked]) => {
    const {model} = window.jupyterapp.shell.currentWidget.content.widgets[number];
    if (locked) model.setMetadata('editable', false);
    else model.deleteMetadata('editable');
}"""
# (What some of them give, a widget, would be written out with all that it leads to.)
EXECUTE = "([id, args]) => window.jupyterapp.commands.execute(id, args).then(() => null)"
ACTIVATE = """number => {
    const {content} = window.jupyterapp.shell.currentWidget;
    content.deselectAll();
    content.activeCellIndex = number;
    content.mode = 'command';
}"""
DIRTY = "() => window.jupyterapp.shell.currentWidget.context.model.dirty"
CURSOR = """() => {
    const {activeCell, activeCellIndex} = window.jupyterapp.shell.currentWidget.content;
    return [activeCellIndex, activeCell.editor.getCursorPosition().line];
}"""
CLOSE_TABS = """() => {
    const tabs = [...window.jupyterapp.shell.widgets('main')].filter(({id}) => id.startsWith('nbcompose-graph-'));
    for (const tab of tabs) tab.close();
}"""
NOTE_COMMANDS = """() => {
    window.executed = [];
    window.jupyterapp.commands.commandExecuted.connect((_, {id, args}) => {
        if (id.startsWith('nbcompose:')) window.executed.push([id, args.service ?? null]);
    });
}"""
# Whether the cell could be seen at each change of it.
NOTE_CHANGES = """number => {
    const {node} = window.jupyterapp.shell.currentWidget.content.widgets[number];
    const note = () => window.changes.push(node.offsetParent !== null);
    window.changes = [];
    const what = {attributes: true, attributeFilter: ['data-nbc-state'], childList: true, characterData: true};
    new MutationObserver(note).observe(node, what);
    new MutationObserver(note).observe(node.querySelector('.nbc-cell-badge'), {...what, subtree: true});
}"""
WINDOWING = """mode => {
    const {content} = window.jupyterapp.shell.currentWidget;
    content.notebookConfig = {...content.notebookConfig, windowingMode: mode};
}"""


@pytest.fixture(scope="module")
def notebook(desk: Any) -> Iterator[Notebook]:
    """Its services run."""
    notebook = desk.open("lab", "badges.ipynb", CELLS)
    for number in (LOAD, HELPS, SERVED):
        notebook.run(number)
    notebook.page.evaluate(NOTE_COMMANDS)
    yield notebook
    notebook.shut_down()


def state(notebook: Notebook, number: int, word: str) -> None:
    expect(notebook.cell(number)).to_have_attribute("data-nbc-state", word)


def badge(notebook: Notebook, number: int) -> Locator:
    return notebook.cell(number).locator(".nbc-cell-badge")


def edit(notebook: Notebook, source: str, number: int = SERVED) -> None:
    notebook.page.evaluate(EDIT, [number, source])


def execute(page: Page, command: str, **arguments: Any) -> None:
    page.evaluate(EXECUTE, [command, arguments])


def kernel_of(page: Page) -> str:
    return str(page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.id"))


def test_a_cell_names_its_services_and_leads_to_them(notebook: Notebook) -> None:
    state(notebook, SERVED, "ready")
    expect(badge(notebook, SERVED)).to_have_text(READY)
    expect(notebook.page.locator(".nbc-cell-badge")).to_have_count(1)
    expect(badge(notebook, SERVED)).to_have_attribute(
        "title", re.compile("BadgeWriter: ready · cpu.*needed by Badge", re.S)
    )
    notebook.screenshot("badges-light")
    page = notebook.page
    chosen = page.locator("#nbcompose-panel .nbc-panel .nbc-name:visible")
    page.evaluate("() => { window.executed.length = 0; }")
    badge(notebook, SERVED).press("Enter")
    page.wait_for_function("() => window.executed.length")
    assert page.evaluate("() => window.executed") == [["nbcompose:show-service", "BadgeWriter"]]
    expect(chosen).to_have_text("BadgeWriter")
    expect(page.locator(".nbc-graph-tab")).to_have_count(0)
    notebook.screenshot("badges-graph")
    page.evaluate(ACTIVATE, SERVED)
    # As the button of the cell's toolbar does, which JupyterLab hides where it would cover the text.
    page.evaluate("() => void window.jupyterapp.commands.execute('nbcompose:cell-graph')")
    dialog = page.locator(".jp-Dialog")
    dialog.locator("select").select_option("BadgeAnswer")
    dialog.get_by_role("button", name="Ok").click()
    expect(chosen).to_have_text("BadgeAnswer")
    expect(page.locator(".nbc-graph-tab")).to_have_count(0)
    page.evaluate("() => window.jupyterapp.shell.collapseRight()")


def test_a_badge_leads_to_the_tab_where_the_side_bar_shows_no_graph_of_the_notebook(notebook: Notebook) -> None:
    page = notebook.page
    front = page.evaluate("() => window.jupyterapp.shell.currentWidget.id")
    side, tab = page.locator("#nbcompose-panel"), page.locator(".nbc-graph-tab:visible")
    execute(page, "nbcompose:show-panel")
    side.get_by_role("button", name="Open the graph as a tab").click()
    expect(tab.locator("[data-service='BadgeWriter']")).to_be_visible()
    page.evaluate("() => window.jupyterapp.shell.collapseRight()")
    badge(notebook, SERVED).click()
    expect(tab.locator(".nbc-panel .nbc-name:visible")).to_have_text("BadgeWriter")  # the one that can be seen
    expect(side).to_be_hidden()
    page.evaluate(CLOSE_TABS)
    expect(page.locator(".nbc-graph-tab")).to_have_count(0)
    edit(notebook, SERVICES + "\n\n# a remark")
    badge(notebook, SERVED).click()
    expect(side.locator(".nbc-panel .nbc-name:visible")).to_have_text("BadgeWriter")
    notebook.save()  # by its keys, wherever the focus is now
    edit(notebook, SERVICES)
    page.evaluate("() => window.jupyterapp.shell.collapseRight()")
    page.evaluate("id => window.jupyterapp.shell.activateById(id)", front)
    page.wait_for_function("id => window.jupyterapp.shell.currentWidget.id === id", arg=front)


def test_an_edited_cell_says_what_a_run_will_do(notebook: Notebook) -> None:
    said = badge(notebook, SERVED).locator(".nbc-cell-badge-plan")
    edit(notebook, SERVICES + "\n\n# a remark")
    state(notebook, SERVED, "edited")
    expect(said).to_have_text("▶ does nothing")
    edit(notebook, SERVICES.replace("shout(text)", "shout(text) + '!'"))
    expect(said).to_have_text("▶ BadgeWriter swaps the code, weights kept; BadgeAnswer does nothing")
    expect(badge(notebook, SERVED)).to_have_accessible_name(re.compile("edited; to run this cell BadgeWriter swaps"))
    notebook.screenshot("badges-edited")
    edit(notebook, SERVICES.replace("self.words = 3", "self.words = 4"))
    expect(said).to_have_text("▶ BadgeWriter starts new replicas; BadgeAnswer does nothing")
    edit(notebook, SERVICES.replace("self.words = 3", "self.words ="))
    expect(said).to_contain_text("▶ cannot tell: it is not Python")
    notebook.run_new(SCRATCH, "1 + 1")  # another cell has run: it is told again
    expect(said).to_contain_text("▶ cannot tell: it is not Python")
    edit(notebook, SERVICES)
    state(notebook, SERVED, "ready")
    expect(said).to_have_text("")
    expect(notebook.cell(SERVED)).not_to_have_attribute("data-nbc-plan", re.compile(""))


def test_a_class_that_was_renamed_leaves_its_service_running(notebook: Notebook) -> None:
    page = notebook.page
    words, said = (badge(notebook, SERVED).locator(f".nbc-cell-badge-{part}") for part in ("words", "plan"))
    renamed = SERVICES.replace("class BadgeAnswer", "class BadgeReply")
    edit(notebook, renamed)
    expect(said).to_have_text(
        "▶ BadgeWriter does nothing; starts a new service, BadgeReply; BadgeAnswer goes on running"
    )
    expect(words).to_have_text("BadgeWriter edited · BadgeAnswer edited")
    notebook.screenshot("badges-renamed")
    edit(notebook, SERVICES.replace("%%service\n", ""))
    expect(said).to_have_text("▶ starts no service; BadgeWriter, BadgeAnswer go on running")
    edit(notebook, "%%service\nclas BadgeAnswer:\n    pass")
    expect(said).to_contain_text("▶ cannot tell: it is not Python")
    notebook.run_new(SERVED, renamed)
    expect(words).to_contain_text("BadgeAnswer ready (of an earlier text)")
    expect(words).to_contain_text("BadgeReply ready")
    state(notebook, SERVED, "ready")
    expect(said).to_have_text("")
    notebook.screenshot("badges-earlier")
    execute(page, "nbcompose:stop", runtime=kernel_of(page), service="BadgeAnswer", ask=False)
    expect(words).to_have_text("BadgeWriter ready · BadgeReply ready")
    notebook.run_new(SERVED, SERVICES)
    execute(page, "nbcompose:stop", runtime=kernel_of(page), service="BadgeReply", ask=False)
    expect(badge(notebook, SERVED)).to_have_text(READY)


def test_a_replacement_shows_as_it_goes_on(notebook: Notebook, desk: Any) -> None:
    page, gate = notebook.page, desk.server.folder / "closed"
    notebook.run_new(SCRATCH, GATED)
    state(notebook, SCRATCH, "ready")
    gate.touch()
    execute(page, "nbcompose:restart", runtime=kernel_of(page), service="BadgeGated", ask=False)
    state(notebook, SCRATCH, "starting")
    gate.unlink()
    state(notebook, SCRATCH, "ready")
    execute(page, "nbcompose:stop", runtime=kernel_of(page), service="BadgeGated", ask=False)
    state(notebook, SCRATCH, "stopped")
    edit(notebook, "", SCRATCH)
    expect(badge(notebook, SCRATCH)).to_have_count(0)


def test_two_views_of_a_notebook_both_have_badges(notebook: Notebook) -> None:
    page = notebook.page
    first = page.evaluate("() => window.jupyterapp.shell.currentWidget.id")
    execute(page, "docmanager:clone")
    badges = page.locator(".jp-Notebook .nbc-cell-badge:visible")
    expect(badges).to_have_count(2)
    for number in range(2):
        expect(badges.nth(number)).to_have_text(READY)
    page.wait_for_function("id => window.jupyterapp.shell.currentWidget.id !== id", arg=first)
    edit(notebook, SERVICES + "\n# more")
    for number in range(2):
        expect(badges.nth(number)).to_contain_text("▶ does nothing")
    notebook.screenshot("badges-two-views")
    edit(notebook, SERVICES)
    page.evaluate("() => window.jupyterapp.shell.currentWidget.close()")
    page.evaluate("id => window.jupyterapp.shell.activateById(id)", first)
    page.wait_for_function("id => window.jupyterapp.shell.currentWidget.id === id", arg=first)


def test_what_others_run_makes_a_cell_stale(notebook: Notebook) -> None:
    notebook.run_new(HELPS, HELPER.replace("upper", "lower"))
    state(notebook, SERVED, "stale")
    expect(badge(notebook, SERVED)).to_have_text("BadgeWriter stale · BadgeAnswer ready")
    notebook.run_new(HELPS, HELPER)
    notebook.run(SERVED)
    state(notebook, SERVED, "ready")


def test_copies_and_halves_have_no_badge_of_others(notebook: Notebook) -> None:
    page = notebook.page
    cells = page.locator(".jp-Notebook .jp-CodeCell")
    page.evaluate(ACTIVATE, SERVED)
    execute(page, "notebook:delete-cell")
    expect(page.locator(".nbc-cell-badge")).to_have_count(0)
    execute(page, "notebook:undo-cell-action")
    expect(badge(notebook, SERVED)).to_have_text(READY)
    page.evaluate(ACTIVATE, SERVED)
    execute(page, "notebook:duplicate-below")
    expect(notebook.cell(SERVED + 1)).to_contain_text("class BadgeAnswer")
    edit(notebook, SERVICES.partition("class BadgeAnswer")[0])
    said = badge(notebook, SERVED).locator(".nbc-cell-badge-plan")
    expect(said).to_have_text("▶ BadgeWriter does nothing; BadgeAnswer goes on running")
    expect(page.locator(".nbc-cell-badge")).to_have_count(1)
    edit(notebook, SERVICES)
    expect(badge(notebook, SERVED)).to_have_text(READY)
    page.evaluate(ACTIVATE, SERVED + 1)
    execute(page, "notebook:delete-cell")
    expect(cells).to_have_count(len(CELLS))
    expect(badge(notebook, SERVED)).to_have_text(READY)
    notebook.save()
    page.wait_for_function(f"() => !({DIRTY})()")  # of badges nothing is written


def test_the_toolbar_of_a_cell_with_services(notebook: Notebook) -> None:
    page = notebook.page
    page.evaluate(ACTIVATE, HELPS)
    names = ["Restart", "Stop", "Logs of", "Graph of"]
    for name in names:
        expect(notebook.cell(HELPS).get_by_role("button", name=f"{name} the service of this cell")).to_have_count(0)
    page.evaluate(ACTIVATE, SERVED)
    for name in names:
        expect(notebook.cell(SERVED).get_by_role("button", name=f"{name} the service of this cell")).to_be_visible()
    notebook.screenshot("badges-toolbar")
    edit(notebook, SERVICES + "\n# more")
    expect(badge(notebook, SERVED)).to_contain_text("▶ does nothing")
    page.evaluate(LOCK, [SERVED, True])
    edit(notebook, SERVICES + "\n# and more")
    expect(badge(notebook, SERVED)).to_have_text("BadgeWriter edited · BadgeAnswer edited")
    expect(notebook.cell(SERVED).get_by_role("button", name="Restart the service of this cell")).to_be_visible()
    page.evaluate(LOCK, [SERVED, False])
    edit(notebook, SERVICES)
    notebook.cell(SERVED).get_by_role("button", name="Stop the service of this cell").click()
    dialog = page.locator(".jp-Dialog")
    dialog.locator("select").select_option("BadgeAnswer")
    dialog.get_by_role("button", name="Ok").click()
    dialog.get_by_role("button", name="Stop").click()
    words, said = (badge(notebook, SERVED).locator(f".nbc-cell-badge-{part}") for part in ("words", "plan"))
    expect(words).to_have_text("BadgeWriter ready · BadgeAnswer stopped")
    expect(said).to_have_text("▶ BadgeWriter does nothing; starts BadgeAnswer")
    state(notebook, SERVED, "stopped")
    notebook.run_new(SCRATCH, "%services stop --all")
    expect(words).to_have_text("BadgeAnswer stopped · BadgeWriter stopped")
    expect(said).to_have_text("▶ starts BadgeWriter, BadgeAnswer")
    page.evaluate(ACTIVATE, SERVED)
    expect(notebook.cell(SERVED).get_by_role("button", name="Restart the service of this cell")).to_have_count(0)
    notebook.screenshot("badges-stopped")
    notebook.run(SERVED)
    expect(badge(notebook, SERVED)).to_have_text(READY)


def test_an_error_leads_to_its_line(notebook: Notebook) -> None:
    page = notebook.page
    error = notebook.run(WRONG)
    line = 1 + next(i for i, text in enumerate(SERVICES.split("\n")) if "raise ValueError" in text)
    link = error.locator(".nbc-line-link", has_text=re.compile(rf"Cell In\[\d+\], line {line}$")).last
    expect(error).to_contain_text("nothing was asked")
    link.click()
    expect(page.locator(".nbc-line-mark")).to_be_visible()
    page.screenshot(path=SCREENSHOTS / "badges-line.png")  # while it fades
    assert page.evaluate(CURSOR) == [SERVED, line - 1]
    link.focus()
    link.press("Enter")
    page.wait_for_function(f"() => String(({CURSOR})()) === '{SERVED},{line - 1}'")
    edit(notebook, SERVICES.replace("from nbcompose", "import json\n\nfrom nbcompose"))  # it is where it went
    link.click()
    page.wait_for_function(f"() => String(({CURSOR})()) === '{SERVED},{line + 1}'")
    edit(notebook, SERVICES)
    execute(page, "nbcompose:show-line", count=999, line=1)
    expect(page.locator(".Toastify__toast", has_text="No cell of this notebook has the number In[999]")).to_be_visible()
    page.evaluate("() => document.querySelectorAll('.Toastify__toast').forEach(toast => toast.click())")


def test_it_is_right_after_a_reload_and_in_a_second_browser(desk: Any, notebook: Notebook) -> None:
    second = desk.open("lab", "badges.ipynb")
    expect(badge(second, SERVED)).to_have_text(READY)
    edit(second, SERVICES + "\n# not saved")
    state(second, SERVED, "edited")
    second.page.close()
    state(notebook, SERVED, "ready")
    notebook.run_new(SERVED, SERVICES.replace("self.words = 3", "self.words = 5"))
    notebook.save()
    notebook.reload()
    expect(badge(notebook, SERVED)).to_have_text(READY)
    notebook.run_new(SERVED, SERVICES)
    expect(badge(notebook, SERVED)).to_have_text(READY)


def test_nothing_is_done_while_the_notebook_is_hidden(notebook: Notebook) -> None:
    page = notebook.page
    kernel = kernel_of(page)
    page.evaluate(NOTE_CHANGES, SERVED)
    execute(page, "launcher:create")
    expect(notebook.cell(SERVED)).to_be_hidden()
    with page.expect_response(lambda response: "/nbcompose/api/services" in response.url):
        execute(page, "nbcompose:stop", runtime=kernel, service="BadgeAnswer", ask=False)
    page.locator(".lm-DockPanel-tabBar .lm-TabBar-tab", has_text="badges.ipynb").click()
    expect(badge(notebook, SERVED)).not_to_contain_text("BadgeAnswer ready")
    changes = page.evaluate("() => window.changes")
    assert changes
    assert all(changes)
    notebook.run(SERVED)
    expect(badge(notebook, SERVED)).to_have_text(READY)
    edit(notebook, SERVICES + "\n# more")
    expect(badge(notebook, SERVED).locator(".nbc-cell-badge-plan")).to_have_text("▶ does nothing")
    edit(notebook, SERVICES)


def test_states_that_need_a_look(notebook: Notebook) -> None:
    page = notebook.page
    cells = [STATES, STARTING, WAITING]
    for number, source in enumerate(cells, start=SCRATCH):
        notebook.run_new(number, source)
        page.evaluate(ACTIVATE, number)
        execute(page, "notebook:insert-cell-below")
    for number, word in enumerate(["failed", "starting", "waiting"], start=SCRATCH):
        state(notebook, number, word)
    notebook.screenshot("badges-states-light")
    for theme, name in [("JupyterLab Dark", "dark"), ("JupyterLab Dark High Contrast", "contrast")]:
        notebook.theme(theme)
        expect(page.locator(f"body[data-jp-theme-name='{theme}']")).to_be_attached()
        notebook.screenshot(f"badges-states-{name}")
    notebook.theme("JupyterLab Light")
    page.emulate_media(forced_colors="active")
    notebook.screenshot("badges-states-forced")
    page.emulate_media(forced_colors="none")


def test_after_a_restart_of_the_kernel_no_cell_has_a_service(notebook: Notebook) -> None:
    notebook.restart_kernel()
    expect(notebook.page.locator(".nbc-cell-badge")).to_have_count(0)
    expect(notebook.page.locator("[data-nbc-state]")).to_have_count(0)
    for number in (LOAD, HELPS, SERVED):
        notebook.run(number)
    expect(badge(notebook, SERVED)).to_have_text(READY)


@pytest.mark.parametrize("mode", ["full", "contentVisibility"])
def test_a_long_notebook(desk: Any, mode: str) -> None:
    served = SERVICES.replace("Badge", "Long").replace("shout(text)", "text")
    notebook = desk.open("lab", f"long-{mode}.ipynb", ["%load_ext nbcompose", *["1"] * 97, served, "2"])
    page = notebook.page
    page.evaluate(WINDOWING, mode)
    execute(page, "notebook:run-cell")
    page.evaluate(f"() => ({ACTIVATE})(98)")
    execute(page, "notebook:run-cell")
    last = page.locator(".jp-Notebook .jp-CodeCell", has_text="class LongAnswer")
    page.evaluate("() => window.jupyterapp.shell.currentWidget.content.scrollToItem(98)")
    expect(last.locator(".nbc-cell-badge")).to_have_text("LongWriter ready · LongAnswer ready")
    for _ in range(2):  # to the top and back: there is one badge, and it is right
        page.evaluate(f"() => ({ACTIVATE})(0)")
        page.evaluate("() => window.jupyterapp.shell.currentWidget.content.scrollToItem(0)")
        expect(last).not_to_be_in_viewport()
        page.evaluate("() => window.jupyterapp.shell.currentWidget.content.scrollToItem(98)")
        expect(last.locator(".nbc-cell-badge")).to_have_text("LongWriter ready · LongAnswer ready")
        expect(last.locator(".nbc-cell-badge")).to_have_count(1)
    edit(notebook, served.replace("= 3", "= 4"), 98)
    expect(last.locator(".nbc-cell-badge-plan")).to_have_text(
        "▶ LongWriter starts new replicas; LongAnswer does nothing"
    )
    notebook.shut_down()


def test_notebook_has_it_too(desk: Any) -> None:
    served = SERVICES.replace("Badge", "Seven").replace("shout(text)", "text")
    notebook = desk.open("notebook", "seven.ipynb", ["%load_ext nbcompose", served, "SevenAnswer.ask('')"])
    for number in range(2):
        notebook.run(number)
    expect(badge(notebook, 1)).to_have_text("SevenWriter ready · SevenAnswer ready")
    notebook.page.evaluate(ACTIVATE, 1)
    expect(notebook.cell(1).get_by_role("button", name="Restart the service of this cell")).to_be_visible()
    notebook.run(2).locator(".nbc-line-link").last.click()
    expect(notebook.page.locator(".nbc-line-mark")).to_be_visible()
    notebook.screenshot("badges-notebook7")
    notebook.shut_down()
