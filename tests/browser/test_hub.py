"""As on a hub: a base_url, a login by the form, XSRF cookies, and a page of another origin that would like to call."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
from hub_page import ABORTED, CALL, CARD, CELLS, LINK, SEEN, STREAMED
from jupyter_server.auth.security import passwd
from lab_page import TIMEOUT, Notebook
from lab_server import Server
from playwright.sync_api import Browser, BrowserContext, Page, expect

pytestmark = pytest.mark.browser

BASE_URL = "/user/name/"
PASSWORD = "a password of the user"
# What a page of another origin can do with a user's cookies, with a stolen value of the XSRF cookie too.
ATTACKED = """
async ([link, socket, xsrf]) => {
    const url = `${link.replace(/docs$/, "ask")}?_xsrf=${encodeURIComponent(xsrf)}`;
    const body = JSON.stringify({ text: "stolen" });
    const asked = async options => {
        try {
            const answer = await fetch(url, { method: "POST", credentials: "include", body, ...options });
            return answer.type === "opaque" ? "opaque" : `read ${answer.status}`;
        } catch (error) {
            return error.name;
        }
    };
    const opened = await new Promise(resolve => {
        const connection = new WebSocket(socket);
        connection.onopen = () => resolve("open");
        connection.onclose = () => resolve("refused");
    });
    return [
        await asked({ mode: "no-cors" }),
        await asked({ headers: { "X-XSRFToken": xsrf, "Content-Type": "application/json" } }),
        opened,
    ];
}
"""
FORM = """
<!doctype html><form method="post" enctype="text/plain" action="{action}"><input name="x" value="y"></form>
"""


class Desk:
    """One browser whose user has logged in by the form."""

    def __init__(self, browser: Browser, server: Server) -> None:
        self.server = server
        self.context: BrowserContext = browser.new_context(viewport={"width": 1200, "height": 900})
        self.context.set_default_timeout(TIMEOUT)
        self.root = f"{server.base}{BASE_URL}"

    def log_in(self, page: Page, url: str) -> None:
        page.goto(url)  # which leads to the login first
        page.locator("#password_input").fill(PASSWORD)
        page.locator("#login_submit").click()
        page.wait_for_url(url)


@pytest.fixture(scope="module")
def desk(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    hashed = passwd(PASSWORD, algorithm="sha1")  # type: ignore[no-untyped-call]
    identity = {"hashed_password": hashed, "token": "", "password_required": True}
    config: dict[str, Any] = {"ServerApp": {"base_url": BASE_URL}, "PasswordIdentityProvider": identity}
    server = Server(tmp_path_factory.mktemp("hub"), config=config)
    desk = Desk(browser, server)
    yield desk
    desk.context.close()
    server.stop()


@pytest.fixture(scope="module")
def notebook(desk: Desk) -> Iterator[Notebook]:
    desk.server.write("hub.ipynb", CELLS)
    page = desk.context.new_page()
    desk.log_in(page, f"{desk.root}lab/tree/hub.ipynb")
    notebook = Notebook(page, "lab", desk.server.folder / "hub.ipynb")
    notebook.ready()
    for number in range(LINK + 1):
        notebook.run(number)
    page.evaluate(CALL, TIMEOUT)
    yield notebook
    notebook.shut_down()


@pytest.fixture(scope="module")
def link(notebook: Notebook, desk: Desk) -> str:
    """What `Answer.link` is."""
    link = notebook.output(LINK).inner_text().strip()
    assert link.startswith(f"{desk.root}nbcompose/at/")
    assert link.endswith("/HubAnswer/docs")
    return link


class Stranger(BaseHTTPRequestHandler):
    """The pages of another origin: of the same host, so that a browser sends it the cookies of the user too."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>another origin</title>")

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def stranger(desk: Desk) -> Iterator[Page]:
    """A page of another origin in the browser of the user."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        threading.Thread(target=server.serve_forever).start()
        page = desk.context.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        yield page
        page.close()
        server.shutdown()


def test_the_running_panel_lists_and_stops(notebook: Notebook) -> None:
    page = notebook.page
    assert "token" not in page.url
    page.evaluate("() => window.jupyterapp.shell.activateById('jp-running-sessions')")
    item = page.locator(".nbc-running-service", has_text="HubAnswer")
    expect(item).to_contain_text("ready")
    page.evaluate("() => window.jupyterapp.commands.execute('nbcompose:restart', { service: 'HubAnswer', ask: false })")
    expect(item).to_contain_text("ready")


def test_the_page_of_a_service_calls_it(notebook: Notebook, link: str) -> None:
    page = notebook.page.context.new_page()
    page.goto(link)
    section = page.locator("section.api", has=page.locator(".name", has_text="ask"))
    section.locator('[data-field="text"] input, [data-field="text"] textarea').first.fill("hello")
    section.get_by_role("button", name="Call").click()
    expect(section.locator(".nbc-outcome")).to_contain_text("hello!")
    page.close()


def test_the_first_piece_of_a_stream_comes_before_the_second_is_made(notebook: Notebook, link: str) -> None:
    first, rest, ended = notebook.page.evaluate(STREAMED, link)
    assert "first" in first
    assert "second" not in first
    assert "second" in rest
    assert ended


def test_a_page_that_aborts_cancels_the_call(notebook: Notebook, link: str) -> None:
    assert notebook.page.evaluate(ABORTED, link) is True


def test_a_page_of_another_origin_is_refused_and_no_service_sees_it(
    desk: Desk, notebook: Notebook, link: str, stranger: Page
) -> None:
    before = notebook.run(SEEN).inner_text()
    cookies = {cookie["name"]: cookie["value"] for cookie in desk.context.cookies(desk.root)}
    socket = f"{desk.root.replace('http', 'ws', 1)}nbcompose/api/watch"
    statuses: list[int] = []
    stranger.on("response", lambda answer: statuses.append(answer.status))
    said = stranger.evaluate(ATTACKED, [link, socket, cookies["_xsrf"]])
    assert said == ["opaque", "TypeError", "refused"]
    stranger.set_content(FORM.format(action=f"{link.removesuffix('docs')}ask?_xsrf={cookies['_xsrf']}"))
    with stranger.expect_navigation() as navigation:
        stranger.locator("form").evaluate("form => form.submit()")
    assert navigation.value is not None
    statuses.append(navigation.value.status)
    assert 200 not in statuses
    assert set(statuses) & {403, 404}
    assert notebook.run(SEEN).inner_text() == before
    assert "stolen" not in before


def test_a_card_opens_the_page_of_its_service(desk: Desk, notebook: Notebook, link: str) -> None:
    card = notebook.output(CARD)
    expect(card.get_by_role("link", name="open")).to_have_attribute("href", urlsplit(link).path)
    with desk.context.expect_page() as opened:
        card.get_by_role("link", name="open").click()
    expect(opened.value.locator("section.api").first).to_be_visible()
    opened.value.close()
    notebook.screenshot("card-open", card)


def test_a_saved_card_has_no_address_and_finds_it_again(desk: Desk, notebook: Notebook, link: str) -> None:
    notebook.save()
    saved = json.dumps(json.loads(notebook.path.read_text(encoding="utf-8"))["cells"][CARD]["outputs"])
    assert json.dumps('<a data-nbc-at="HubAnswer/docs"></a>')[1:-1] in saved
    assert "nbcompose/at" not in saved
    page = desk.context.new_page()
    page.goto(f"{desk.root}notebooks/hub.ipynb")  # Notebook 7, with the kernel that runs
    expect(page.get_by_role("link", name="open", exact=True)).to_have_attribute("href", urlsplit(link).path)
    page.close()


def test_without_the_server_extension_a_card_is_as_it_was(desk: Desk, notebook: Notebook) -> None:
    page = desk.context.new_page()
    page.route("**/nbcompose/api/**", lambda route: route.fulfill(status=404))
    with page.expect_response("**/nbcompose/api/services*"):
        page.goto(f"{desk.root}notebooks/hub.ipynb")
        card = Notebook(page, "notebook", notebook.path).output(CARD)
        expect(card).to_contain_text("HubAnswer is ready")
    expect(card.locator("[data-nbc-at]")).to_have_text("")
    expect(card.locator("[data-nbc-at][href]")).to_have_count(0)
    page.close()
