"""The page at /docs in a browser: its forms are those of the live graph, and its answers come over HTTP."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from page_services import Shown
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from tests.conftest import Running

pytestmark = pytest.mark.browser

Api = Callable[[str], Locator]


@pytest.fixture(scope="module")
def page(browser: Browser, running_registry: Running) -> Iterator[Page]:
    """Whatever it says in its console is an error, what its policy refuses included."""
    running_registry.up(Shown)
    context = browser.new_context(viewport={"width": 1000, "height": 1400})
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"{running_registry.registry.url('Shown')}/docs")
    page.get_by_label("Token").fill(running_registry.registry.token("Shown") or "")
    page.get_by_role("button", name="Load").click()
    yield page
    context.close()
    assert [text for text in said if "status of 4" not in text and "status of 5" not in text] == []


@pytest.fixture
def api(page: Page) -> Api:
    def find(name: str) -> Locator:
        return page.locator("section.api").filter(has=page.locator(".name", has_text=name))

    return find


def call(section: Locator) -> Locator:
    """What comes of it."""
    section.get_by_role("button", name="Call").click()
    return section.locator(".nbc-outcome")


def field(section: Locator, name: str) -> Locator:
    return section.locator(f'[data-field="{name}"]').locator("input, textarea").first


def run_curl(section: Locator) -> str:
    section.get_by_text("curl, for a terminal", exact=True).click()
    line = section.locator(".curl").inner_text()
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout


def png(color: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 2), color).save(out, "PNG")
    return out.getvalue()


def test_models_are_fields_within_fields_and_what_is_wrong_stands_beside_one(api: Api) -> None:
    cite = api("cite")
    expect(cite.locator("h2")).to_contain_text("(paper: Paper, year: ")
    expect(cite.locator(".doc").first).to_have_text("One line.")
    expect(api("upper").locator(".doc").first).to_be_empty()  # its signature stands above already
    field(cite, "title").fill("On forms")
    field(cite, "year").fill("1066")
    cite.get_by_role("button", name="Call").click()
    expect(cite.locator('[data-field="year"] .nbc-problem')).to_have_text("at least 1900")
    expect(cite.locator('[data-field="paper"] > .nbc-problem')).to_have_text("author: name: at least 2 characters")
    field(cite, "name").fill("Ada")
    field(cite, "year").fill("1999")
    result = call(cite)
    expect(result.locator(".nbc-status")).to_have_text("done in")
    expect(result.locator("pre")).to_have_text('{\n  "line": "Ada: On forms (1999)",\n  "note": null\n}')
    assert run_curl(cite) == '{"line":"Ada: On forms (1999)","note":null}'


def test_an_image_goes_as_a_file_and_one_comes_back(api: Api) -> None:
    invert = api("invert")
    field(invert, "picture").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": png("red")})
    expect(invert.locator(".nbc-preview img")).to_be_visible()
    expect(invert.locator(".curl")).to_contain_text("-F 'picture=@\"a.png\"'")
    image = call(invert).locator("img")
    expect(image).to_be_visible()
    assert image.evaluate("image => image.naturalWidth") == 4


def test_several_files_and_a_text(api: Api) -> None:
    sizes = api("sizes")
    files = [{"name": f"{n}.txt", "mimeType": "text/plain", "buffer": b"x" * n} for n in (1, 20)]
    field(sizes, "files").set_input_files(files)  # type: ignore[arg-type]
    field(sizes, "unit").fill("B")
    expect(call(sizes).locator("pre")).to_have_text('"1 B, 20 B"')


def test_an_array_is_json_or_a_file_of_numpy_s(api: Api) -> None:
    double = api("double")
    field(double, "numbers").fill("[1, 2]")
    expect(call(double).locator("pre")).to_have_text("[\n  2,\n  4\n]")
    saved = io.BytesIO()
    np.save(saved, np.array([5]))
    file = {"name": "a.npy", "mimeType": "", "buffer": saved.getvalue()}
    double.get_by_label("numbers from a .npy file").set_input_files(file)  # type: ignore[arg-type]
    expect(call(double).locator("pre")).to_have_text("[\n  10\n]")


def test_a_file_within_a_model_is_read(api: Api) -> None:
    stamp = api("stamp")
    field(stamp, "label").fill("x")
    field(stamp, "seal").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": png("red")})
    expect(stamp.locator(".nbc-preview img")).to_be_visible()  # it has been read
    expect(call(stamp).locator("pre")).to_have_text('"x: (4, 2)"')


def test_the_body_that_is_one_argument(api: Api) -> None:
    upper = api("upper")
    expect(call(upper).locator("pre")).to_have_text('"NOTHING"')
    field(upper, "text").fill("hello")
    expect(call(upper).locator("pre")).to_have_text('"HELLO"')
    assert run_curl(upper) == '"HELLO"'


def test_a_stream_is_filled_in_as_lines(api: Api) -> None:
    refine = api("refine")
    field(refine, "text").fill("a\nit's b\n")
    expect(refine.locator(".nbc-count")).to_have_text("2 items")
    expect(refine.get_by_text("type more while it runs")).to_be_hidden()  # not over plain HTTP
    result = call(refine)
    expect(result.locator(".nbc-status")).to_have_text("2 items")
    expect(result.locator("pre")).to_have_text("A IT'S B ")
    expect(refine.locator(".curl")).to_contain_text("-X POST")
    assert run_curl(refine).splitlines() == ['"A "', '"IT\'S B "']


def test_a_stream_and_the_error_that_ends_one(api: Api) -> None:
    count = api("count")
    field(count, "n").fill("3")
    result = call(count)
    expect(result.locator(".nbc-status")).to_have_text("3 items")
    expect(result.locator("pre")).to_have_text("0\n1\n2\n")
    field(count, "n").fill("4")
    expect(call(count).locator(".nbc-error")).to_contain_text("too far")
    expect(result.locator("pre")).to_have_text("0\n1\n2\n3\n")


def test_a_stream_as_text(api: Api) -> None:
    count = api("count")
    field(count, "n").fill("2")
    count.get_by_label("Answer as").select_option("text/event-stream")
    result = call(count)
    expect(result.locator(".nbc-status")).to_have_text("done in")
    expect(result.locator("pre")).to_contain_text("data: 0")
    count.get_by_label("Answer as").select_option("application/x-ndjson")


def test_a_call_is_stopped(api: Api) -> None:
    hang = api("hang")
    expect(hang.get_by_text("It takes no arguments.")).to_be_visible()
    result = call(hang)
    expect(result.locator("pre")).to_have_text("begun")
    hang.get_by_role("button", name="Stop").click()
    expect(result.locator(".nbc-status")).to_have_text("stopped after")
    expect(hang.get_by_role("button", name="Call")).to_be_focused()


def test_an_error_has_the_id_that_the_log_has(api: Api) -> None:
    even = api("even")
    field(even, "number").fill("3")
    expect(call(even).locator(".nbc-error")).to_contain_text("ValueError: 3 is odd")
    expect(even.locator(".nbc-error")).to_contain_text("(id ")


def test_dark_and_light(page: Page) -> None:
    colors = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        colors.add(page.evaluate("getComputedStyle(document.querySelector('.nbc-input')).backgroundColor"))
    assert len(colors) == 2
