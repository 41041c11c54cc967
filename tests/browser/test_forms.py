"""Forms and results of many types, made and shown in a browser. The same in all front ends, so tried in one."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from lab_page import Graph, Notebook
from PIL import Image
from playwright.sync_api import Locator, ViewportSize, expect

pytestmark = pytest.mark.browser

SERVICE = """
%%service
import asyncio
import datetime
import enum
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from nbcompose import api
from PIL import Image
from pydantic import BaseModel, Field


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Author(BaseModel):
    name: str = Field(min_length=2)
    tags: list[str] = []


class Paper(BaseModel):
    author: Author
    editor: Author | None = None
    color: Color = Color.BLUE


@dataclass
class Size:
    width: int
    height: int = 3


class Forms:
    @api
    def nested(self, paper: Paper, size: Size) -> Paper:
        return paper

    @api
    def double(self, numbers: np.ndarray) -> np.ndarray:
        return 2 * numbers

    @api
    def join(self, pictures: list[Image.Image]) -> Image.Image:
        joined = Image.new("RGB", (sum(p.width for p in pictures), 30))
        joined.paste(pictures[0], (0, 0))
        return joined

    @api
    def many(
        self,
        data: bytes,
        when: datetime.datetime,
        count: int | None = None,
        color: Color = Color.RED,
        either: int | str = 3,
        sure: bool = True,
    ) -> str:
        return repr((data, when.year, count, color.name, either, sure))

    @api
    def table(self) -> pd.DataFrame:
        return pd.DataFrame({"word": ["<b>x</b>"], "count": [3]})

    @api
    def total(self, table: pd.DataFrame, by: str = "count") -> float:
        return float(table[by].sum())

    @api
    def pour(self, count: int) -> Iterator[str]:
        for number in range(count):
            yield f"{number} "

    @api
    async def refine(
        self, words: AsyncIterator[str], numbers: AsyncIterator[int], seals: AsyncIterator[bytes] | None = None
    ) -> AsyncIterator[str]:
        yield f"{[n async for n in numbers]} "
        if seals is not None:
            yield f"{[s async for s in seals]} "
        async for word in words:
            yield f"{word.upper()} "

    @api
    async def endless(self) -> None:
        await asyncio.Event().wait()
""".strip()
SHOWN, SCRATCH = 2, 3
PAGE: ViewportSize = {"width": 1200, "height": 1400}


@pytest.fixture(scope="module")
def opened(desk: Any) -> Iterator[Notebook]:
    notebook = desk.open("notebook", "forms.ipynb", ["%load_ext nbcompose", SERVICE, "%graph", ""])
    for number in range(SHOWN + 1):
        notebook.run(number)
    yield notebook
    notebook.shut_down()


@pytest.fixture
def live(opened: Notebook) -> Graph:
    return Graph(opened.output(SHOWN))


def upload(field: Locator, name: str, data: bytes, count: int = 1) -> None:
    files: list[Any] = [{"name": name, "mimeType": "", "buffer": data}] * count
    field.locator("input[type=file]").set_input_files(files)


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, "PNG")
    return file.getvalue()


def test_models_and_dataclasses_are_fields_within_fields(opened: Notebook, live: Graph) -> None:
    live.choose("Forms", api="nested")
    live.field("width").fill("2")
    live.button("Call").click()
    expect(live.panel.locator("[data-field='paper'] > .nbc-problem")).to_contain_text("at least 2 characters")
    expect(live.result).to_be_hidden()
    live.field("name").fill("Ada")
    live.field("tags").fill('["a", ')
    expect(live.panel.locator("[data-field='tags'] .nbc-problem").first).to_contain_text("not JSON yet")
    live.field("tags").fill('["a", "b"]')
    live.button("Call").click()
    tree = live.ends("done in").locator(".nbc-tree")
    expect(tree).to_contain_text('name "Ada"')
    expect(tree).to_contain_text("editor null")
    expect(tree).to_contain_text('color "blue"')
    opened.screenshot("form-nested")
    live.button("notebook").click()
    expect(live.panel.locator(".nbc-note", has_text="copied")).to_be_visible()
    copied = opened.page.evaluate("navigator.clipboard.readText()")
    expect(opened.run_new(SCRATCH, copied)).to_contain_text("Author(name='Ada', tags=['a', 'b'])")


def test_an_array_is_json_or_a_file_of_numpy_s(opened: Notebook, live: Graph) -> None:
    live.choose("Forms", api="double")
    live.call(numbers="[[1, 2]]")
    expect(live.ends("done in")).to_contain_text("array([[2, 4]])")
    file = io.BytesIO()
    np.save(file, np.array([1.5, 2.0]))
    upload(live.panel.locator("[data-field='numbers']"), "numbers.npy", file.getvalue())
    expect(live.field("numbers")).to_be_disabled()
    live.button("Call").click()
    expect(live.result).to_contain_text("array([3., 4.])")
    live.button("remove the file").click()
    live.button("Call").click()
    expect(live.result).to_contain_text("array([[2, 4]])")


def test_several_images_are_uploaded_at_once(live: Graph) -> None:
    live.choose("Forms", api="join")
    field = live.panel.locator("[data-field='pictures']")
    upload(field, "red.png", png(), count=2)
    expect(field.locator(".nbc-preview img")).to_have_count(2)
    live.call()
    assert live.ends("done in").locator("img").evaluate("image => image.naturalWidth") == 80


def test_a_form_has_a_field_for_each_type(opened: Notebook, live: Graph) -> None:
    live.choose("Forms", api="many")
    upload(live.panel.locator("[data-field='data']"), "data.bin", b"\x00xyz")
    live.call(when="2026-01-31T12:30:00")
    expect(live.ends("done in")).to_have_text(r"(b'\x00xyz', 2026, None, 'RED', 3, True)")
    live.panel.get_by_role("spinbutton").fill("7")
    live.field("color").select_option(label="blue")
    live.field("sure").uncheck()
    live.call(when="2027-01-31", either='"text"')
    expect(live.result).to_contain_text(r"(b'\x00xyz', 2027, 7, 'BLUE', 'text', False)")
    opened.screenshot("form-types")
    live.call(when="soon")
    live.ends("failed after")
    expect(live.panel.locator("[data-field='when'] .nbc-problem")).to_contain_text("valid datetime")


def test_a_table_is_pasted_uploaded_or_the_notebook_s(opened: Notebook, live: Graph) -> None:
    opened.run_new(SCRATCH, "sales = pd.DataFrame({'count': [20, 22]})")
    live.choose("Forms", api="total")
    live.button("Call").click()
    expect(live.panel.locator("[data-field='table'] .nbc-problem").first).to_contain_text("enter a table")
    live.call(table="word\tcount\nünö\t1\nb\t2")
    expect(live.ends("done in")).to_contain_text("3.0")
    live.call(table='[{"count": 4}]')
    expect(live.result).to_contain_text("4.0")
    upload(live.panel.locator("[data-field='table']"), "a.csv", b"count;word\n5;a\n")
    live.button("Call").click()
    expect(live.result).to_contain_text("5.0")
    live.button("remove the file").click()
    named = live.panel.get_by_label("table from a variable of the notebook")
    named.fill("sales")
    opened.screenshot("form-table")
    live.button("Call").click()
    expect(live.result).to_contain_text("42.0")
    live.button("notebook").click()
    expect(live.panel.locator(".nbc-note", has_text="copied")).to_be_visible()
    assert "total(table=sales)" in opened.page.evaluate("navigator.clipboard.readText()")
    named.fill("sails")
    live.button("Call").click()
    expect(live.panel.locator("[data-field='table'] .nbc-problem").first).to_contain_text("no variable 'sails'")
    expect(live.result).to_contain_text("sails")  # the kernel's answer, and no longer 42
    named.fill("")
    live.field("table").fill("")
    live.button("Call").click()
    expect(live.panel.locator("[data-field='table'] .nbc-problem").first).to_contain_text("enter a table")
    expect(live.result).to_be_hidden()  # no call was made


def test_a_data_frame_is_a_table(opened: Notebook, live: Graph) -> None:
    live.choose("Forms", api="table")
    live.call()
    expect(live.ends("done in").get_by_role("cell", name="<b>x</b>")).to_be_visible()
    opened.screenshot("table")


def test_a_stream_of_many_items_leaves_the_page_alive(live: Graph) -> None:
    live.choose("Forms", api="pour")
    live.call(count="20000")
    left = live.ends("20,000 items")
    expect(left).to_contain_text("0 1 2 3")
    expect(left).to_contain_text("the items after this are counted and not shown")
    live.call(count="2")
    expect(live.ends("2 items")).to_have_text("0 1 ")


def test_two_browsers_look_at_one_kernel(opened: Notebook, live: Graph, desk: Any) -> None:
    live.choose("Forms", api="pour")
    opened.save()
    other = desk.open("lab", opened.path.name)
    theirs = Graph(other.output(SHOWN))
    theirs.choose("Forms", api="endless")
    theirs.call()
    expect(live.node("Forms")).to_contain_text("1 under way")
    expect(live.panel.locator(".nbc-signature")).to_contain_text("pour(")
    theirs.button("Cancel").click()
    theirs.ends("cancelled after")
    expect(live.node("Forms")).not_to_contain_text("under way")
    other.page.close()
    live.call(count="1")
    expect(live.ends("1 item")).to_have_text("0 ")


def test_a_narrow_page_has_room_for_all_of_it(opened: Notebook, live: Graph) -> None:
    page = opened.page
    page.set_viewport_size({"width": 500, "height": 900})
    try:
        for tab in ("Call", "Trace", "Numbers", "Logs"):
            live.choose("Forms", tab)
            box = live.panel.bounding_box()
            assert box is not None
            assert box["x"] + box["width"] <= 500
            assert live.panel.evaluate("e => e.scrollWidth <= e.clientWidth + 1")
            opened.screenshot(f"narrow-{tab.lower()}")
    finally:
        page.set_viewport_size(PAGE)


def test_a_stream_is_lines_a_list_or_files_in_order(opened: Notebook, live: Graph) -> None:
    live.choose("Forms", api="refine")
    words, seals = (live.panel.locator(f"[data-field='{name}']") for name in ("words", "seals"))
    words.get_by_label("type more while it runs").uncheck()
    live.field("words").fill("a\nb c\n")
    expect(words.locator(".nbc-count")).to_have_text("2 items")
    live.field("numbers").fill("1\n2\nthree")
    expect(live.panel.locator("[data-field='numbers'] > .nbc-problem")).to_have_text('line 3: "three" is not a number')
    live.button("Call").click()
    expect(live.result).to_be_hidden()
    live.field("numbers").fill("1\n2")
    live.button("Call").click()
    expect(live.ends("3 items")).to_have_text("[1, 2] A B C ")
    live.button("terminal").click()
    expect(live.panel.locator(".nbc-note", has_text="copied")).to_be_visible()
    copied = opened.page.evaluate("navigator.clipboard.readText()")
    assert '-d \'{"words":["a","b c"],"numbers":[1,2]}\'' in copied  # no seals: they are None
    words.get_by_label("how its items are written").select_option(label="a JSON list")
    expect(live.field("words")).to_have_value('["a","b c"]')
    for number in (2, 1):
        upload(seals, f"{number}.bin", str(number).encode())
        expect(seals.locator("li")).to_have_count(3 - number)
    live.button("Call").click()
    expect(live.ends("4 items")).to_have_text("[1, 2] [b'2', b'1'] A B C ")
    live.button("terminal").click()
    expect(live.panel.locator(".nbc-note", has_text="copied")).to_be_visible()
    copied = opened.page.evaluate("navigator.clipboard.readText()")
    assert """'{"words":"a"}' '{"numbers":1}' '{"seals":"Mg=="}' '{"words":"b c"}'""" in copied
    code = f"import subprocess\nprint(subprocess.run(['sh', '-c', {copied!r}], capture_output=True, text=True).stdout)"
    expect(opened.run_new(SCRATCH, code)).to_contain_text('"B C "')
    opened.screenshot("form-streams")


def test_items_are_typed_while_the_call_runs(opened: Notebook, live: Graph) -> None:
    live.choose("Forms", api="refine")
    words = live.panel.locator("[data-field='words']")
    words.get_by_label("how its items are written").select_option(label="one per line")
    live.panel.locator("[data-field='seals'] .nbc-none input").check()
    live.field("words").fill("first")
    live.field("numbers").fill("1")
    words.get_by_label("type more while it runs").check()
    live.button("Call").click()
    expect(live.result.locator(".nbc-result")).to_contain_text("FIRST")
    line = live.panel.get_by_label("words: next item")
    line.fill("second")
    line.press("Enter")
    expect(live.result.locator(".nbc-result")).to_contain_text("SECOND")
    expect(line).to_have_value("")
    expect(words).to_contain_text("2 items sent")
    # What is typed and what answers are in sight together; the rest of the form comes back when the call has ended.
    expect(live.field("numbers")).to_be_hidden()
    expect(line).to_be_in_viewport(ratio=1)
    expect(live.result.locator(".nbc-result")).to_be_in_viewport(ratio=1)
    opened.screenshot("form-typed")
    line.fill("third")
    words.get_by_role("button", name="Send").click()
    expect(live.result.locator(".nbc-result")).to_contain_text("THIRD")
    words.get_by_role("button", name="End the stream").click()
    expect(live.ends("4 items")).to_have_text("[1] FIRST SECOND THIRD ")
    expect(live.field("numbers")).to_be_visible()
    expect(live.result.locator(".nbc-result")).to_be_in_viewport(ratio=1)
    opened.screenshot("form-typed-ended")
    expect(line).to_be_hidden()
    # A call that is cancelled takes no more.
    live.button("Call").click()
    expect(line).to_be_visible()
    live.button("Cancel").click()
    live.ends("cancelled after")
    expect(line).to_be_hidden()


WRITER = """
%%service
import asyncio
from collections.abc import AsyncIterator
from nbcompose import api


class Writer:
    @api
    async def write(self, topic: str, count: int = 3) -> AsyncIterator[str]:
        \"\"\"Writes about a topic, for ever where count is 0.\"\"\"
        number = 0
        while number < count or not count:
            number += 1
            yield f"{topic} {number}"
            await asyncio.sleep(0)

    @api
    async def fail(self, after: int) -> AsyncIterator[str]:
        for number in range(after):
            yield str(number)
        raise LookupError("no more words")
""".strip()


def test_the_stream_of_a_service_is_what_a_field_takes(opened: Notebook, live: Graph) -> None:
    page = opened.page
    opened.run_new(SCRATCH, WRITER)
    expect(live.node("Writer")).to_be_visible()
    live.choose("Forms", api="refine")
    words = live.panel.locator("[data-field='words']").first
    words.get_by_label("type more while it runs").uncheck()
    live.panel.locator("[data-field='seals'] .nbc-none input").check()
    live.field("numbers").fill("1")
    way = words.get_by_label("how its items are written")
    way.select_option(label="from Writer.fail")
    expect(words.get_by_label("type more while it runs")).to_be_hidden()
    made = words.get_by_role("group", name="words: the stream")
    expect(made).to_contain_text("Writer.fail(after: int)")
    live.button("Call").click()
    expect(made.locator("[data-field='after'] .nbc-problem")).to_have_text("enter a number")
    expect(live.result).to_be_hidden()
    way.select_option(label="from Writer.write")
    expect(made).to_contain_text("Writer.write(topic: str, count: int = 3)")
    topic = made.locator("[data-field='topic'] textarea, [data-field='topic'] input")
    made.locator("[data-field='count'] input").fill("2")
    topic.fill("sea")
    live.button("Call").click()
    expect(live.ends("3 items")).to_have_text("[1] SEA 1 SEA 2 ")
    reads = page.locator("title", has_text="Forms reads streams of Writer")
    expect(live.canvas.locator(".nbc-edge.nbc-stream", has=reads)).to_be_attached()
    opened.screenshot("form-stream-of-a-service")
    # As code: it is one call in the other, and a pipe.
    live.button("notebook").click()
    expect(live.panel.locator(".nbc-note", has_text="copied for a notebook")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert 'words=Writer.write(topic="sea", count=2)' in copied
    expect(opened.run_new(SCRATCH, copied)).to_contain_text("SEA 2")
    live.button("terminal").click()
    expect(live.panel.locator(".nbc-note", has_text="not copied: a pipe has one stream")).to_be_visible()
    # One that never ends, until it is cancelled.
    made.locator("[data-field='count'] input").fill("0")
    live.button("Call").click()
    expect(live.node("Writer")).to_contain_text("1 under way")
    live.button("Cancel").click()
    live.ends("cancelled after")
    expect(live.node("Writer")).not_to_contain_text("under way")
    # One that fails, and one that is gone when it is called.
    way.select_option(label="from Writer.fail")
    made.locator("[data-field='after'] input").fill("1")
    live.button("Call").click()
    live.ends("failed after")
    expect(live.result).to_contain_text("no more words")
    expect(live.result).to_contain_text("Writer.fail")
    opened.run_new(SCRATCH, "%services stop Writer")
    expect(way.locator("option", has_text="from Writer.fail (not there)")).to_be_attached()
    live.button("Call").click()
    expect(words.locator("> .nbc-problem")).to_contain_text("no service is called 'Writer'")
    live.ends("failed after")
    way.select_option(label="one per line")
    expect(live.field("words")).to_be_visible()
