"""On a real JupyterHub, behind its proxy: what `test_hub.py` sees of a server that only looks like one of its users'.

Slow, and skipped without the environment that `make hub` makes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hub_page import ABORTED, CALL, CARD, CELLS, LINK, SEEN, STREAMED, UPLOADED
from lab_page import TIMEOUT, Graph, Notebook
from lab_server import write
from playwright.sync_api import Browser, BrowserContext, Page, Response, expect
from real_hub import PASSWORD, Hub, missing

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]

SHOW = "id => window.jupyterapp.shell.activateById(id)"
UPLOAD = 20_000_000  # bytes: more than the proxy of the hub, and ours, keep of a body
# Everything that a page can read by itself.
STORED = "() => JSON.stringify([document.cookie, {...localStorage}, {...sessionStorage}])"


@pytest.fixture(scope="module")
def hub(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    hub = Hub(tmp_path_factory.mktemp("jupyterhub"))
    yield hub
    hub.stop()


class User:
    """A user who has logged in at the hub's form, in a browser of their own. `heard`: every answer to it."""

    def __init__(self, browser: Browser, hub: Hub, name: str) -> None:
        self.name = name
        self.root = f"{hub.base}/user/{name}/"
        self.context: BrowserContext = browser.new_context(viewport={"width": 1400, "height": 900})
        self.context.set_default_timeout(TIMEOUT)
        self.heard: list[Response] = []
        self.context.on("response", lambda answer: self.heard.append(answer))
        page = self.context.new_page()
        page.goto(hub.base)
        page.get_by_label("Username:").fill(name)
        page.get_by_label("Password:").fill(PASSWORD)
        page.locator("#login_submit").click()
        page.wait_for_url(f"{self.root}lab**")  # which its server is started for
        page.close()


@pytest.fixture(scope="module")
def ada(browser: Browser, hub: Hub) -> Iterator[User]:
    user = User(browser, hub, "ada")
    yield user
    user.context.close()


@pytest.fixture(scope="module")
def notebook(hub: Hub, ada: User) -> Iterator[Notebook]:
    path = hub.home(ada.name) / "hub.ipynb"
    write(path, CELLS)
    notebook = Notebook(ada.context.new_page(), "lab", path)
    notebook.open(f"{ada.root}lab/tree/hub.ipynb?reset")
    for number in range(LINK + 1):
        notebook.run(number)
    notebook.page.evaluate(CALL, TIMEOUT)
    yield notebook
    notebook.shut_down()


@pytest.fixture(scope="module")
def link(notebook: Notebook, ada: User) -> str:
    """The address behind the card's *open*."""
    opens = notebook.output(CARD).get_by_role("link", name="open")
    expect(opens).to_have_attribute("href", notebook.output(LINK).inner_text().strip())
    href = opens.get_attribute("href")
    assert href is not None
    assert href.startswith(f"/user/{ada.name}/nbcompose/at/")
    assert href.endswith("/HubAnswer/docs")
    return href


def test_what_runs_is_at_the_cell_in_the_list_and_in_the_panel(notebook: Notebook) -> None:
    page = notebook.page
    assert "token" not in page.url
    expect(notebook.cell(CARD)).to_have_attribute("data-nbc-state", "ready")
    page.evaluate(SHOW, "jp-running-sessions")
    expect(page.locator(".nbc-running-service", has_text="HubAnswer")).to_contain_text("ready")
    page.evaluate(SHOW, "nbcompose-panel")
    panel = Graph(page.locator("#nbcompose-panel"))
    panel.choose("HubAnswer", api="ask")
    panel.call(text="panel")
    expect(panel.ends("done in")).to_contain_text("panel!")
    notebook.screenshot("jupyterhub")


def test_the_page_of_a_service_is_opened_from_its_card_and_calls_it(notebook: Notebook, ada: User, link: str) -> None:
    with ada.context.expect_page() as opened:
        notebook.output(CARD).get_by_role("link", name="open").click()
    page = opened.value
    section = page.locator("section.api", has=page.locator(".name", has_text="ask"))
    section.locator('[data-field="text"] input, [data-field="text"] textarea').first.fill("hello")
    section.get_by_role("button", name="Call").click()
    expect(section.locator(".nbc-outcome")).to_contain_text("hello!")
    page.close()


def test_streams_come_in_pieces_uploads_go_up_and_an_abort_cancels(notebook: Notebook, link: str) -> None:
    first, rest, ended = notebook.page.evaluate(STREAMED, link)
    assert "first" in first
    assert "second" not in first
    assert "second" in rest
    assert ended
    assert notebook.page.evaluate(UPLOADED, [link, UPLOAD]) == UPLOAD
    assert notebook.page.evaluate(ABORTED, link) is True


def test_another_user_is_refused(browser: Browser, hub: Hub, notebook: Notebook, link: str) -> None:
    before = notebook.run(SEEN).inner_text()
    other = User(browser, hub, "eve")
    page = other.context.new_page()
    opened = page.goto(f"{hub.base}{link}")
    assert opened is not None
    assert opened.status in (403, 404)
    page.goto(f"{other.root}lab?reset")
    page.evaluate(CALL, TIMEOUT)
    asked = "async ([link, api]) => (await window.call(link, api, { text: 'stolen' })).status"
    assert page.evaluate(asked, [link, "ask"]) in (403, 404)
    other.context.close()
    assert notebook.run(SEEN).inner_text() == before
    assert "stolen" not in before


def test_no_browser_has_the_token_of_a_service(hub: Hub, notebook: Notebook, ada: User, link: str) -> None:
    secret = (hub.home(ada.name) / ".nbcompose" / "run" / "HubAnswer" / "token").read_text(encoding="utf-8")
    assert secret
    through = [answer for answer in ada.heard if "/nbcompose/" in answer.url]
    assert through
    for answer in through:
        assert secret not in json.dumps([answer.request.headers, answer.headers])
    assert secret not in notebook.page.content() + notebook.page.evaluate(STORED)


def test_a_server_that_is_started_again_from_the_page_of_the_hub_has_services_again(
    hub: Hub, notebook: Notebook, ada: User, link: str
) -> None:
    control: Page = ada.context.new_page()
    control.goto(f"{hub.base}/hub/home")
    control.get_by_role("button", name="Stop My Server").click()
    start = control.get_by_role("button", name="Start My Server")
    expect(start).to_be_visible()
    assert control.evaluate("async link => (await fetch(link)).status", link) in (404, 424, 503)
    start.click()
    control.wait_for_url(f"{ada.root}lab**")
    control.close()
    notebook.page.goto(f"{ada.root}lab/tree/hub.ipynb?reset")
    notebook.ready()
    notebook.page.evaluate(SHOW, "jp-running-sessions")
    item = notebook.page.locator(".nbc-running-service", has_text="HubAnswer")
    expect(notebook.cell(CARD)).not_to_have_attribute("data-nbc-state", "ready")
    for number in range(LINK + 1):
        notebook.run(number)
    expect(notebook.cell(CARD)).to_have_attribute("data-nbc-state", "ready")
    expect(item).to_have_count(1)
    notebook.page.evaluate(CALL, TIMEOUT)
    again = notebook.output(LINK).inner_text().strip()
    assert again != link
    asked = "async link => (await (await window.call(link, 'ask', { text: 'again' })).json())"
    assert notebook.page.evaluate(asked, again) == "again!"
