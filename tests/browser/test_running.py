"""What runs, in JupyterLab and on the first page of Notebook: the section of the panel, the status bar, the launcher.

Other processes of this user may run services as well, and are listed; the tests look for the names of their own.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_page import SCREENSHOTS, TIMEOUT, Graph, Notebook
from lab_server import LAB, Server
from playwright.sync_api import Browser, Locator, Page, WebSocket, expect

from tests.patience import PATIENCE

pytestmark = pytest.mark.browser

SERVICES = """
%%service
from nbcompose import api, depends

class RunningSplitter:
    @api
    def split(self, text: str) -> list[str]:
        print("splitting", text)
        return text.split()

class RunningCounter:
    splitter = depends(RunningSplitter)

    @api
    async def count(self, text: str) -> int:
        return len(await self.splitter.to_async.split(text))
""".strip()
APP = """
from nbcompose import api, service

@service
class RunningEcho:
    @api
    def say(self, text: str) -> str:
        return text
"""
FAR = """
%%service
from nbcompose import api

class FarEcho:
    @api
    def say(self, text: str) -> str:
        print("said", text)
        return text + "!"
""".strip()
FAR_CELLS = [FAR, "import threading; print('it runs'); threading.Event().wait()"]
# Not ours: the browser says which requests were answered by 404, and JupyterLab what a restart of the kernel cut off.
OF_OTHERS = re.compile(r"404|Unexpected response code|Canceled future for (debug|create_subshell)_request")
SUBSHELLS = int(importlib.metadata.version("ipykernel").partition(".")[0]) >= 7 and LAB >= (4, 5)
CALL, SCRATCH = 2, 3
CELLS = ["%load_ext nbcompose", SERVICES, "RunningCounter.count('a b c')", ""]
# A kernel of a notebook that is open nowhere.
ANOTHER = """async ([path, cells]) => {
    const {sessions} = window.jupyterapp.serviceManager;
    const session = await sessions.startNew({path, name: path, type: 'notebook', kernel: {name: 'python3'}});
    for (const code of cells) await session.kernel.requestExecute({code, stop_on_error: true}).done;
    return session.id;
}"""
END = "id => window.jupyterapp.serviceManager.sessions.shutdown(id)"
EXECUTE = "([id, args]) => window.jupyterapp.commands.execute(id, args)"
SHOW = "() => window.jupyterapp.shell.activateById('jp-running-sessions')"
HEIGHT = """height => {
    const sections = [...document.querySelectorAll('.jp-RunningSessions-section')];
    return sections.some(section => section.querySelector('.nbc-running-service') && section.offsetHeight >= height);
}"""

DESCRIBED = """async () => {
    const { commands } = window.jupyterapp;
    const own = commands.listCommands().filter(id => id.startsWith("nbcompose:"));
    return Object.fromEntries(await Promise.all(own.map(async id => [id, (await commands.describedBy(id)).args])));
}"""


@pytest.fixture(scope="module")
def notebook(desk: Any) -> Iterator[Notebook]:
    """Its services run, and the panel of what runs is shown beside it."""
    notebook = desk.open("lab", "running.ipynb", CELLS)
    for number in range(CALL + 1):
        notebook.run(number)
    notebook.page.evaluate(SHOW)
    yield notebook
    notebook.shut_down()


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The pid of an `nbcompose serve`."""
    app = tmp_path_factory.mktemp("serve") / "running_app.py"
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


def item(page: Page, service: str) -> Locator:
    label = page.locator(".jp-RunningSessions-itemLabel", has_text=re.compile(f"^{service}$"))
    return page.locator(".nbc-running-service", has=label)


def execute(page: Page, command: str, **arguments: Any) -> Any:
    return page.evaluate(EXECUTE, [f"nbcompose:{command}", arguments])


def test_services_of_kernels_and_programs_are_listed(notebook: Notebook, serving: int) -> None:
    page = notebook.page
    expect(item(page, "RunningCounter").locator(".jp-RunningSessions-itemDetail")).to_have_text(re.compile("^ready"))
    expect(item(page, "RunningSplitter").locator(".jp-RunningSessions-itemLabel")).to_have_attribute(
        "title", re.compile("^RunningSplitter: ready · cpu.*needed by RunningCounter", re.S)
    )
    expect(item(page, "RunningEcho")).to_be_attached()
    program = page.locator(".nbc-running-runtime", has=item(page, "RunningEcho"))
    expect(program).to_contain_text(f"process {serving}")
    notebook.screenshot("running-light")
    notebook.theme("JupyterLab Dark")
    notebook.screenshot("running-dark")
    notebook.theme("JupyterLab Light")


def test_the_section_has_room_for_several_services_in_a_low_window(notebook: Notebook, serving: int) -> None:
    page = notebook.page
    usual = page.viewport_size
    assert usual is not None
    page.set_viewport_size({"width": 1200, "height": 800})
    expect(item(page, "RunningSplitter")).to_be_attached()
    page.wait_for_function(HEIGHT, arg=170)
    state = item(page, "RunningSplitter").locator(".jp-RunningSessions-itemDetail")
    assert state.evaluate("e => e.offsetWidth > 3 * parseFloat(getComputedStyle(e).fontSize)")  # beside a long name
    notebook.screenshot("running-low")
    page.set_viewport_size(usual)


def test_two_kernels_and_a_program_are_in_one_section(notebook: Notebook, serving: int) -> None:
    page = notebook.page
    cells = ["%load_ext nbcompose", FAR.replace("FarEcho", "RunningOther")]
    session = page.evaluate(ANOTHER, ["running-other.ipynb", cells])
    section = page.locator(".jp-RunningSessions-section", has=item(page, "RunningCounter"))
    services = {
        "RunningCounter": "running.ipynb",
        "RunningOther": "running-other.ipynb",
        "RunningEcho": f"process {serving}",
    }
    for service, process in services.items():
        runtime = section.locator(".nbc-running-runtime", has=item(page, service))
        expect(runtime).to_contain_text(process)
        expect(item(page, service)).to_contain_text("ready")
        for other in services.keys() - {service}:
            expect(runtime.locator(item(page, other))).to_have_count(0)
    notebook.screenshot("running-two-kernels")
    page.evaluate(END, session)
    expect(item(page, "RunningOther")).to_have_count(0)
    for service in ("RunningCounter", "RunningSplitter", "RunningEcho"):
        expect(item(page, service)).to_contain_text("ready")


def test_a_busy_kernel_is_listed_and_steered(notebook: Notebook) -> None:
    page = notebook.page
    notebook.write(SCRATCH, "import time; time.sleep(600)")
    notebook.start(SCRATCH)
    expect(notebook.cell(SCRATCH).locator(".jp-InputPrompt")).to_contain_text("*")
    reply = execute(page, "scale", service="RunningSplitter", replicas=2)
    assert reply["type"] == "done"
    expect(item(page, "RunningSplitter")).to_contain_text("2/2")
    execute(page, "scale", service="RunningSplitter", replicas=1)
    execute(page, "logs", service="RunningSplitter")
    expect(page.locator(".nbc-log-view .nbc-logs")).to_contain_text("splitting a b c")
    field = page.locator(".nbc-log-view select").first
    assert field.evaluate("e => getComputedStyle(e).borderRadius") == "5px"  # as in the graph
    notebook.screenshot("running-logs")
    execute(page, "logs", service="RunningSplitter")  # the one that is open
    expect(page.locator(".nbc-log-view")).to_have_count(1)
    page.locator(".lm-TabBar-tab", has_text="Logs of RunningSplitter").locator(".lm-TabBar-tabCloseIcon").click()
    notebook.interrupt(SCRATCH)


def test_the_status_bar_counts_the_notebook_s_services_and_leads_to_all(notebook: Notebook, serving: int) -> None:
    page = notebook.page
    status = page.locator(".nbc-status-item")
    expect(status).to_contain_text(re.compile(r"^●2 services( ·|$)"))
    others = re.compile(rf"running\.ipynb: 2 services.*\nElsewhere:\n(.*\n)*.*serve, process {serving}\): 1 service;")
    expect(status).to_have_attribute("aria-label", others)
    page.evaluate("() => window.jupyterapp.shell.activateById('filebrowser')")
    expect(page.locator("#jp-running-sessions")).to_be_hidden()
    status.press("Enter")
    expect(page.locator("#jp-running-sessions")).to_be_visible()


def test_stopping_all_says_whose_services_are_stopped(notebook: Notebook, serving: int) -> None:
    page = notebook.page
    page.get_by_text("Stop All", exact=True).click()
    dialog = page.locator(".jp-Dialog")
    expect(dialog).to_contain_text("2 of running.ipynb: Running")
    expect(dialog).to_contain_text("You are asked about services of programs outside this server next.")
    dialog.get_by_role("button", name="Stop All").click()
    expect(dialog).to_contain_text(f"1 of running_app.py (nbcompose serve, process {serving}): RunningEcho")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()  # what Enter does
    notebook.screenshot("running-stop-all")
    dialog.get_by_role("button", name="Cancel").click()
    expect(item(page, "RunningSplitter")).to_have_count(0)
    expect(item(page, "RunningEcho")).to_contain_text("ready")
    notebook.run(1)
    for service in ("RunningSplitter", "RunningCounter"):
        expect(item(page, service)).to_contain_text("ready")


def test_addresses_and_calls_are_copied(notebook: Notebook) -> None:
    page = notebook.page
    url = execute(page, "copy-url", service="RunningCounter")
    assert re.search(r"/nbcompose/at/[^/]+/RunningCounter", url)
    text = execute(page, "copy-curl", service="RunningCounter")
    assert "/RunningCounter/count' -H" in text
    assert """-d '{"text":"..."}'""" in text
    assert page.evaluate("() => navigator.clipboard.readText()") == text
    page.evaluate("() => document.querySelectorAll('.Toastify__toast').forEach(toast => toast.click())")


def test_every_command_describes_its_arguments(notebook: Notebook) -> None:
    """For agents that drive JupyterLab: they know of a command what it says of itself."""
    described = notebook.page.evaluate(DESCRIBED)
    assert len(described) > 10
    for command, args in described.items():
        assert args is not None, command
        assert args["type"] == "object", command
        for name, argument in args["properties"].items():
            assert {"type", "enum", "description"} & argument.keys(), (command, name)


def test_stopping_says_who_depends_on_a_service(notebook: Notebook) -> None:
    page = notebook.page
    stopped = item(page, "RunningSplitter")
    stopped.hover()
    stopped.locator(".jp-RunningSessions-itemShutdown").click()
    dialog = page.locator(".jp-Dialog")
    expect(dialog).to_contain_text("RunningCounter cannot answer without RunningSplitter.")
    notebook.screenshot("running-stop")
    dialog.get_by_role("button", name="Cancel").click()
    expect(stopped).to_be_attached()
    stopped.hover()
    stopped.locator(".jp-RunningSessions-itemShutdown").click()
    dialog.get_by_role("button", name="Stop").click()
    expect(stopped.filter(has_text="ready")).to_have_count(0)
    expect(item(page, "RunningCounter")).to_be_attached()
    notebook.run(1)
    expect(item(page, "RunningSplitter")).to_contain_text("ready")


def test_nothing_comes_while_the_panel_is_hidden(desk: Any, notebook: Notebook) -> None:
    page = desk.page()
    opened: list[WebSocket] = []
    page.on("websocket", lambda socket: opened.append(socket) if "nbcompose/api/watch" in socket.url else None)
    page.goto(f"{desk.server.base}/lab?token={desk.server.token}&reset")
    expect(page.locator(".nbc-status-item")).to_be_visible()  # it knows without one
    assert not opened
    with page.expect_websocket(lambda socket: "nbcompose/api/watch" in socket.url) as looking:
        page.evaluate(SHOW)
    expect(item(page, "RunningCounter")).to_be_attached()
    with looking.value.expect_event("close"):
        page.evaluate("() => window.jupyterapp.shell.activateById('filebrowser')")
    page.close()
    assert len(opened) == 1


def test_notebook_lists_services_on_its_first_page(desk: Any, notebook: Notebook) -> None:
    page = desk.page()
    page.goto(f"{desk.server.base}/tree?token={desk.server.token}")
    page.get_by_role("tab", name="Running").click()
    expect(item(page, "RunningCounter")).to_contain_text("ready")
    page.screenshot(path=SCREENSHOTS / "running-tree.png", animations="disabled")
    page.close()


def test_the_launcher_has_a_notebook_that_works(desk: Any) -> None:
    page = desk.page()
    page.goto(f"{desk.server.base}/lab?token={desk.server.token}&reset")
    card = page.locator(".jp-LauncherCard", has_text="New Composed Notebook")
    expect(card).to_be_visible()
    page.screenshot(path=SCREENSHOTS / "running-launcher.png", animations="disabled")
    card.click()
    composed = Notebook(page, "lab", desk.server.folder / "Untitled.ipynb")
    composed.ready()
    for number in range(4):
        composed.run(number)
    expect(composed.output(3)).to_contain_text("{'a': 3, 'rose': 3, 'is': 2}")
    composed.shut_down()


@pytest.fixture(scope="module")
def without(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on which nbcompose's extension is off: it sees no process, as if kernels ran elsewhere."""
    off = {"ServerApp": {"jpserver_extensions": {"nbcompose": False}}}
    server = Server(tmp_path_factory.mktemp("without"), config=off)
    yield server
    server.stop()


def test_without_the_server_extension_it_is_said_once(browser: Browser, without: Server) -> None:
    server = without
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("websocket", lambda socket: asked.append(socket.url))
    try:
        page.goto(f"{server.base}/lab?token={server.token}&reset")
        page.wait_for_function("() => window.jupyterapp?.restored.then(() => true)")
        page.evaluate(SHOW)
        notice = page.locator(".nbc-running-notice")
        expect(notice).to_have_count(1)
        notice.get_by_text("Server extension is off").click()
        dialog = page.locator(".jp-Dialog")
        expect(dialog).to_contain_text("jupyter server extension enable nbcompose")
        page.screenshot(path=SCREENSHOTS / "running-missing.png", animations="disabled")
        dialog.get_by_role("button", name="Ok").click()
        page.evaluate("() => window.jupyterapp.shell.activateById('filebrowser')")
        page.evaluate(SHOW)
        expect(notice).to_have_count(1)
        expect(page.locator(".nbc-status-item")).to_be_hidden()
        expect(dialog).to_have_count(0)
    finally:
        page.close()
    assert not errors
    assert len([url for url in asked if "/nbcompose/api/" in url]) <= 3


def test_without_the_server_extension_a_notebooks_kernel_is_asked_over_a_comm(
    browser: Browser, without: Server
) -> None:
    without.write("far.ipynb", FAR_CELLS)
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(TIMEOUT)
    notebook = Notebook(page, "lab", without.folder / "far.ipynb")
    errors: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.on("request", lambda request: asked.append(request.url))
    page.on("websocket", lambda socket: asked.append(socket.url))
    try:
        notebook.open(without.url("lab", "far.ipynb"))
        page.evaluate("() => window.jupyterapp.shell.activateById('nbcompose-panel')")
        where = page.locator("#nbcompose-panel")
        expect(where.locator(".nbc-graph-notice")).to_contain_text("load nbcompose in far.ipynb")
        where.get_by_role("button", name="Load nbcompose").click()
        expect(where.locator(".nbc-empty:visible")).to_contain_text("No service runs here.")

        notebook.run(0)
        panel = Graph(where)
        expect(panel.node("FarEcho")).to_have_attribute("aria-label", re.compile("^FarEcho, ready"))
        badge = notebook.cell(0).locator(".nbc-cell-badge")
        expect(badge).to_have_text("FarEcho ready")
        panel.choose("FarEcho")
        panel.call(text="tea")
        expect(panel.ends("done in")).to_contain_text("tea!")
        panel.choose("FarEcho", tab="Logs")
        expect(panel.panel.locator(".nbc-logs")).to_contain_text("said tea")
        notebook.screenshot("comm-panel")

        notebook.start(1)
        expect(notebook.output(1)).to_contain_text("it runs")
        panel.choose("FarEcho")
        panel.call(text="rain")
        if SUBSHELLS:
            expect(panel.ends("done in")).to_contain_text("rain!")
        else:
            expect(where.locator(".nbc-condition")).to_contain_text("The kernel is busy with a cell")
        notebook.screenshot("comm-busy")
        notebook.interrupt(1)
        expect(panel.ends("done in")).to_contain_text("rain!")

        notebook.write(0, FAR + "\n\n# a remark")
        expect(badge.locator(".nbc-cell-badge-plan")).to_have_text(re.compile("does nothing|swaps|new replicas"))
        expect(notebook.cell(0)).to_have_attribute("data-nbc-state", "edited")
        page.evaluate(EXECUTE, ["nbcompose:restart", {"service": "FarEcho", "ask": False}])
        page.evaluate(SHOW)
        expect(page.locator(".nbc-running-service", has_text="FarEcho")).to_be_visible()
        page.evaluate(EXECUTE, ["nbcompose:stop", {"service": "FarEcho", "ask": False}])
        expect(page.locator(".nbc-running-service")).to_have_count(0)

        page.reload()
        notebook.ready()
        page.evaluate("() => window.jupyterapp.shell.activateById('nbcompose-panel')")
        expect(where.locator(".nbc-empty:visible")).to_contain_text("No service runs here.")  # found by comm_info
        page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.restartKernel()")
        expect(where.locator(".nbc-graph-notice")).to_contain_text("load nbcompose in far.ipynb")
    finally:
        page.evaluate("() => window.jupyterapp.serviceManager.kernels.shutdownAll()")
        page.close()
    assert not [error for error in errors if not OF_OTHERS.search(error)]
    assert len([url for url in asked if "/nbcompose/api/" in url]) <= 12
