"""The page at /docs behind a Jupyter server with a login, XSRF cookies and a base_url, as on a hub."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.jupyter.started import TOKEN, started
from tests.serve_process import serving

pytestmark = pytest.mark.browser

SERVICE = """
from collections.abc import AsyncIterator
from nbcompose import api, service

@service
class Greeter:
    @api
    async def greet(self, name: str) -> AsyncIterator[str]:
        yield f"hello {name}"
"""


def test_a_person_who_is_logged_in_calls_without_a_token(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "greeter.py").write_text(SERVICE)
    (tmp_path / "jupyter").mkdir()
    context = browser.new_context()
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    with (
        started(tmp_path / "jupyter") as (base, _),
        serving("greeter.py", cwd=tmp_path, NBCOMPOSE_TOKEN="secret") as served,
    ):
        page.goto(f"{base}nbcompose/at/serve-{served.process.pid}/Greeter/")  # which leads to the login first
        page.locator("#password_input").fill(TOKEN)
        page.locator("#login_submit").click()
        section = page.locator("section.api")
        expect(section.locator(".name")).to_have_text("greet")
        assert page.url.endswith("/Greeter/docs")
        expect(page.get_by_label("Token")).to_have_count(0)
        said.clear()  # of Jupyter's own login page
        section.locator('[data-field="name"] input, [data-field="name"] textarea').first.fill("world")
        section.get_by_role("button", name="Call").click()
        expect(section.locator(".nbc-outcome")).to_contain_text("hello world")
        section.get_by_text("curl, for a terminal", exact=True).click()
        expect(section.locator(".set-token")).to_contain_text("Jupyter's token")
        assert f"/nbcompose/at/serve-{served.process.pid}/Greeter/greet" in section.locator(".curl").inner_text()
        context.close()
    assert said == []
