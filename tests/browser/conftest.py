"""Debian's Chromium, driven by Playwright, before a real JupyterLab and a real Notebook 7."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, Page, ViewportSize, expect

sys.path.insert(0, str(Path(__file__).parent))

import chromium
from lab_page import SCREENSHOTS, TIMEOUT, Graph, Notebook
from lab_server import Server

PAGE: ViewportSize = {"width": 1200, "height": 1400}
expect.set_options(timeout=TIMEOUT)

SERVICES = """
%%service
import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Literal

from nbcompose import api, depends
from PIL import Image, ImageOps
from pydantic import Field


class Writer:
    \"""Writes words.\"""

    @api
    async def write(self, prompt: str, count: Annotated[int, Field(ge=1, le=9)] = 3) -> AsyncIterator[str]:
        \"""A few words.\"""
        print("writing about", prompt)
        for number in range(count):
            yield f"{prompt} {number};"

    @api
    async def endless(self) -> AsyncIterator[str]:
        yield "begun"
        await asyncio.Event().wait()

    @api
    def refuse(self, prompt: str) -> str:
        raise ValueError(f"nothing rhymes with {prompt}")


class Painter:
    @api
    def invert(self, picture: Image.Image) -> Image.Image:
        return ImageOps.invert(picture.convert("RGB"))


class Answer:
    writer = depends(Writer)
    painter = depends(Painter)

    @api
    async def ask(self, question: str, style: Literal["plain", "loud"] = "plain") -> dict:
        words = [word async for word in self.writer.to_async.write(question)]
        return {"question": question, "words": words if style == "plain" else [w.upper() for w in words]}

    @api
    async def wait(self) -> str:
        async for word in self.writer.to_async.endless():
            print(word)
        return "never"

    @api
    async def linger(self, question: str) -> str:
        async for word in self.writer.to_async.write(question, 1):
            print(word)
        await asyncio.Event().wait()
        return "never"

    @api
    async def rhyme(self, word: str) -> str:
        return await self.writer.to_async.refuse(word)
""".strip()
SHOWN = 2  # the cell of `GRAPH` whose output is the graph
SCRATCH = 3
GRAPH = ["%load_ext nbcompose", SERVICES, "%graph", ""]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    global _pages
    if chromium.path() is None:
        missing = "no Chromium here, and apt-get could not install one: the browser tests are skipped"
        if os.environ.get("CI"):
            pytest.fail(missing.replace("are skipped", "must run where CI is set"))
        pytest.skip(missing)
    with chromium.chromium() as browser:
        _pages = lambda: [page for context in browser.contexts for page in context.pages]  # noqa: E731
        yield browser
        _pages = None


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Server]:
    """After `browser`: without a browser there is nothing to be served."""
    server = Server(tmp_path_factory.mktemp("jupyter"))
    yield server
    server.stop()


_pages: Callable[[], list[Page]] | None = None


class Desk:
    """Opens notebooks. Its pages close with it."""

    def __init__(self, browser: Browser, server: Server) -> None:
        self.server = server
        self._context = browser.new_context(viewport=PAGE, permissions=["clipboard-read", "clipboard-write"])
        self._context.set_default_timeout(TIMEOUT)

    def open(self, front_end: str, name: str, cells: list[str] | None = None) -> Notebook:
        """A notebook with these cells; without any, one that is there already, opened again."""
        if cells is not None:
            self.server.write(name, cells)
        notebook = Notebook(self.page(), front_end, self.server.folder / name)
        notebook.open(self.server.url(front_end, name))
        return notebook

    def look_at(self, front_end: str, name: str) -> Notebook:
        """A notebook that is there already, where its kernel does not matter."""
        notebook = Notebook(self.page(), front_end, self.server.folder / name)
        notebook.page.goto(self.server.url(front_end, name))
        return notebook

    def page(self) -> Page:
        return self._context.new_page()

    def page_alone(self) -> Page:
        """One for what needs no server: it waits for nothing of the web."""
        page = self._context.new_page()
        page.route(re.compile("^https?:"), lambda route: route.abort())
        return page

    def close(self) -> None:
        self._context.close()


@pytest.fixture(scope="package")  # what a browser has loaded once, it does not load again
def desk(browser: Browser, server: Server) -> Iterator[Desk]:
    desk = Desk(browser, server)
    yield desk
    desk.close()


@pytest.fixture(scope="module", params=["lab", pytest.param("notebook", marks=pytest.mark.slow)])
def graph(request: pytest.FixtureRequest, desk: Desk) -> Iterator[Notebook]:
    """A notebook that has run: the extension, three services, and their graph. For tests that leave them running."""
    notebook = desk.open(request.param, f"graph-{request.param}.ipynb", GRAPH)
    for number in range(SHOWN + 1):
        notebook.run(number)
    yield notebook
    notebook.shut_down()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Of what fails, a picture: build/screenshots/failed-TEST-N.png."""
    report = yield
    if report.failed and _pages is not None:
        for number, page in enumerate(_pages()):
            with contextlib.suppress(Error):  # a page that hangs has none, and that is the test's to say
                page.screenshot(path=SCREENSHOTS / f"failed-{item.name}-{number}.png", animations="disabled")
    return report


@pytest.fixture
def live(graph: Notebook) -> Graph:
    """The graph that the notebook shows, shown anew: no service of it is chosen."""
    return Graph(graph.run(SHOWN))
