"""`Echo.asgi()` in a notebook's process: it serves what runs there, in the version that serves."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from nbcompose._service import Service
from tests.notebook.conftest import Notebook
from tests.replica.http.asgi_client import App, Request

pytestmark = pytest.mark.system

CELL = """%%service
class Echo:
    @api
    def say(self, text: str) -> str:
        return text
"""


def ask(app: App, path: str) -> httpx.Response:
    async def answer() -> httpx.Response:
        request = Request(app, path)
        request.send(b'"hello"')
        return await request.response()

    return asyncio.run(answer())


def test_it_follows_the_cell(clean: Notebook) -> None:
    clean.ok(CELL)
    echo = clean.shell.user_ns["Echo"]
    assert isinstance(echo, Service)
    app = echo.asgi()
    assert ask(app, "/say").json() == "hello"
    assert ask(app, "/shout").status_code == 404
    clean.ok(CELL.replace("return text", "return text + '?'"))  # a swap
    assert ask(app, "/say").json() == "hello?"
    clean.ok(f"{CELL}\n    @api\n    async def shout(self, text: str) -> str:\n        return text.upper()\n")
    assert ask(app, "/shout").json() == "HELLO"
    assert ask(app, "/say").json() == "hello"
