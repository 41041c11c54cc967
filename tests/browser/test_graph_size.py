"""The graph at any size: that it fits, what zooms and moves it, and that what was asked for is in sight."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from lab_page import Graph, Notebook
from playwright.sync_api import Locator, ViewportSize, expect

pytestmark = pytest.mark.browser

SHOWN = 2
SMALL, LARGE = 12, 40
WINDOW: ViewportSize = {"width": 1240, "height": 900}
WIDE: ViewportSize = {"width": 1800, "height": 1000}
USUAL: ViewportSize = {"width": 1200, "height": 1400}
SCALE = "svg => svg.getBoundingClientRect().width / Number(svg.getAttribute('width'))"
# The smallest letters of cards, in pixels of the screen.
LETTERS = """
canvas => Math.min(...[...canvas.querySelectorAll(".nbc-node text")].map(
    text => parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a
))
"""


def services(count: int) -> str:
    """The source of services that call a few of those before them."""
    random, lines = Random(3), ["%%service", "from nbcompose import api, depends"]
    for n in range(count):
        calls = sorted(random.sample(range(max(0, n - 8), n), min(n, random.choice([0, 1, 1, 2, 2, 3]))))
        lines += [f"class Step{n:02}:", *(f"    s{c} = depends(Step{c:02})" for c in calls)]
        lines += ["    @api", "    async def run(self) -> int:", "        return 1"]
    return "\n".join(lines)


def opened(desk: Any, name: str, count: int) -> Notebook:
    notebook: Notebook = desk.open("lab", name, ["%load_ext nbcompose", services(count), "%graph", ""])
    for number in range(SHOWN + 1):
        notebook.run(number)
    return notebook


@pytest.fixture(scope="module")
def twelve(desk: Any) -> Iterator[Notebook]:
    notebook = opened(desk, "twelve.ipynb", SMALL)
    yield notebook
    notebook.shut_down()


@pytest.fixture(scope="module")
def forty(desk: Any) -> Iterator[Notebook]:
    notebook = opened(desk, "forty.ipynb", LARGE)
    yield notebook
    notebook.shut_down()


@pytest.fixture
def large(forty: Notebook) -> Iterator[Graph]:
    """Forty services, none of which is chosen, in a window of a usual size."""
    forty.page.set_viewport_size(WINDOW)
    yield Graph(forty.run(SHOWN))
    forty.page.set_viewport_size(USUAL)


def scale(graph: Graph) -> float:
    return float(graph.drawing.evaluate(SCALE))


def in_window(part: Locator) -> bool:
    """Whether all of it can be seen between the bars of JupyterLab."""
    outer = part.page.locator(".jp-WindowedPanel-outer, .jp-Notebook").first.bounding_box()
    box = part.bounding_box()
    assert outer is not None
    assert box is not None
    return bool(outer["y"] - 1 <= box["y"] and box["y"] + box["height"] <= outer["y"] + outer["height"] + 1)


def hide_files(notebook: Notebook) -> None:
    """Give the notebook the room that the list of files has."""
    notebook.page.evaluate("() => window.jupyterapp.shell.collapseLeft()")


def test_twelve_services_are_readable_in_the_width_of_a_notebook(twelve: Notebook) -> None:
    twelve.page.set_viewport_size(WINDOW)
    hide_files(twelve)
    graph = Graph(twelve.run(SHOWN))
    expect(graph.node("Step00")).to_be_visible()
    room = graph.canvas.bounding_box()
    assert room is not None
    assert 900 < room["width"] < 1100
    assert graph.canvas.evaluate("e => e.scrollWidth <= e.clientWidth")
    assert graph.canvas.evaluate(LETTERS) >= 10.5
    twelve.screenshot("twelve-light")
    twelve.theme("JupyterLab Dark")
    twelve.screenshot("twelve-dark")
    twelve.theme("JupyterLab Light")


def test_the_saved_picture_of_twelve_is_not_cut_off(twelve: Notebook) -> None:
    still = Graph(twelve.run(SHOWN)).still
    width, height = (int(still.get_attribute(name) or "") for name in ("width", "height"))
    assert width <= 950
    assert still.evaluate("i => [i.naturalWidth, i.naturalHeight]") == [width, height]


@pytest.mark.parametrize("service", ["Step00", "Step39"])
def test_a_panel_below_is_in_sight_with_its_service(forty: Notebook, large: Graph, service: str) -> None:
    node = large.node(service)
    node.scroll_into_view_if_needed()
    large.choose(service)
    expect(large.button("Call")).to_be_visible()
    panel, canvas = large.panel.bounding_box(), large.canvas.bounding_box()
    assert panel is not None
    assert canvas is not None
    assert panel["y"] >= canvas["y"] + canvas["height"]
    forty.page.wait_for_function("e => e.getBoundingClientRect().top > 0", arg=node.element_handle())
    for part in (large.panel, node):
        assert in_window(part)
    forty.screenshot(f"forty-below-{service}")


def test_a_panel_stands_beside_the_picture_where_there_is_room(forty: Notebook, large: Graph) -> None:
    forty.page.set_viewport_size(WIDE)
    large.choose("Step00")
    panel, canvas = large.panel.bounding_box(), large.canvas.bounding_box()
    assert panel is not None
    assert canvas is not None
    assert panel["x"] >= canvas["x"] + canvas["width"]
    for part in (large.panel, large.node("Step00")):
        assert in_window(part)
    forty.screenshot("forty-beside-light")
    forty.theme("JupyterLab Dark")
    forty.screenshot("forty-beside-dark")
    forty.theme("JupyterLab Light")


def test_it_zooms_by_buttons_keys_and_wheel_and_fits_again(forty: Notebook, large: Graph) -> None:
    fitted = scale(large)
    large.tool("zoom in").click()
    assert scale(large) == pytest.approx(fitted * 1.25, rel=0.01)
    assert large.canvas.evaluate("e => e.scrollWidth > e.clientWidth")
    large.canvas.focus()
    forty.page.keyboard.press("-")
    forty.page.keyboard.press("-")
    assert scale(large) == pytest.approx(fitted / 1.25, rel=0.01)
    forty.page.keyboard.press("+")
    forty.page.keyboard.press("0")
    assert scale(large) == pytest.approx(fitted, rel=0.01)
    forty.page.keyboard.press("0")
    assert large.canvas.evaluate("e => e.scrollHeight <= e.clientHeight + 1")  # the whole
    forty.screenshot("forty-whole")
    large.tool("fit to the width").click()

    large.node("Step30").hover()
    before = large.node("Step30").bounding_box()
    forty.page.keyboard.down("Control")
    forty.page.mouse.wheel(0, -100)
    forty.page.keyboard.up("Control")
    forty.page.wait_for_function(f"([svg, was]) => ({SCALE})(svg) > was", arg=[large.drawing.element_handle(), fitted])
    after = large.node("Step30").bounding_box()
    assert before is not None
    assert after is not None
    middle = (before["x"] + before["width"] / 2, after["x"] + after["width"] / 2)
    assert abs(middle[0] - middle[1]) < 60  # what the pointer is over stays near it
    assert forty.page.evaluate("window.devicePixelRatio") == 1  # the page was not zoomed


def test_it_is_moved_by_dragging_what_is_behind_the_services(forty: Notebook, large: Graph) -> None:
    for _ in range(5):
        large.tool("zoom in").click()
    box = large.canvas.bounding_box()
    assert box is not None
    behind = forty.page.evaluate_handle(
        """([x, y, width, height]) => {
            for (let down = 20; down < height - 40; down += 7) for (let right = 120; right < width - 40; right += 7) {
                if (document.elementFromPoint(x + right, y + down)?.matches("svg.nbc-picture")) return [right, down];
            }
        }""",
        [box["x"], box["y"], box["width"], box["height"]],
    ).json_value()
    x, y = box["x"] + behind[0], box["y"] + behind[1]
    left = large.canvas.evaluate("e => e.scrollLeft")
    forty.page.mouse.move(x, y)
    forty.page.mouse.down()
    forty.page.mouse.move(x - 60, y, steps=4)
    forty.page.mouse.up()
    assert large.canvas.evaluate("e => e.scrollLeft") == pytest.approx(left + 60, abs=2)
    expect(large.panel).to_have_count(0)


def test_two_fingers_zoom(forty: Notebook, large: Graph) -> None:
    fitted = scale(large)
    box = large.canvas.bounding_box()
    assert box is not None
    x, y = box["x"] + 200, box["y"] + 100
    devtools = forty.page.context.new_cdp_session(forty.page)
    for kind, apart in (("touchStart", 40), ("touchMove", 42), ("touchMove", 60), ("touchMove", 84)):
        points = [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    devtools.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert scale(large) == pytest.approx(fitted * 2, rel=0.05)


def test_services_are_found_by_name(forty: Notebook, large: Graph) -> None:
    field = forty.output(SHOWN).get_by_role("searchbox", name="find a service")
    said = forty.output(SHOWN).locator(".nbc-search [role=status]")
    field.fill("step1")
    expect(said).to_have_text("10 services: Enter goes to the first")
    expect(large.canvas.locator(".nbc-hit")).to_have_count(10)
    expect(large.canvas.locator(".nbc-missed")).to_have_count(30)
    forty.screenshot("forty-search")
    field.press("Enter")
    expect(said).to_have_text("1 of 10: Step10")
    expect(large.panel.locator(".nbc-name")).to_have_text("Step10")
    field.press("Shift+Enter")
    expect(said).to_have_text(re.compile("^10 of 10: Step1"))
    last = said.inner_text().rpartition(" ")[2]
    expect(large.panel.locator(".nbc-name")).to_have_text(last)
    expect(field).to_be_focused()
    assert in_window(large.node(last))
    field.fill("nothing")
    expect(said).to_have_text("no service is called so")
    field.press("Escape")
    expect(large.canvas.locator(".nbc-missed")).to_have_count(0)


def test_fewer_than_ten_services_have_no_search(live: Graph, graph: Notebook) -> None:
    expect(live.node("Answer")).to_be_visible()
    expect(graph.output(SHOWN).get_by_role("searchbox", name="find a service")).to_be_hidden()


def test_what_is_below_a_service_is_folded_and_found_again(graph: Notebook, live: Graph) -> None:
    live.node("Answer").hover()
    live.knob("Answer").click()
    expect(live.node("Writer")).to_have_count(0)
    expect(live.knob("Answer")).to_have_text(re.compile(r"\+2$"))
    expect(live.node("Answer")).to_have_attribute("aria-label", re.compile("below"))
    graph.screenshot(f"folded-{graph.front_end}")
    live.node("Answer").focus()
    graph.page.keyboard.press("f")
    expect(live.node("Writer")).to_be_visible()
    expect(live.node("Answer")).to_be_focused()  # in a picture that was drawn anew


def test_a_search_unfolds_what_it_goes_to(forty: Notebook, large: Graph) -> None:
    top = large.canvas.locator("[data-fold]").first.get_attribute("data-fold") or ""
    large.node(top).focus()
    forty.page.keyboard.press("f")
    expect(large.knob(top)).to_have_class(re.compile("nbc-folded"))
    gone = next(f"Step{n:02}" for n in range(LARGE) if not large.node(f"Step{n:02}").count())
    field = forty.output(SHOWN).get_by_role("searchbox", name="find a service")
    field.fill(gone)
    field.press("Enter")
    expect(large.node(gone)).to_have_attribute("aria-pressed", "true")
    field.fill("")


def test_it_fills_the_screen_and_comes_back(graph: Notebook, live: Graph) -> None:
    live.choose("Answer")
    live.tool("full size").click()
    screen = graph.page.locator("body > .nbc-screen")
    expect(screen.locator("[data-service='Answer']")).to_be_visible()
    assert graph.page.evaluate("document.fullscreenElement?.className") == "nbc-screen"
    graph.page.screenshot(path="build/screenshots/full-size.png")
    graph.page.evaluate("document.exitFullscreen()")
    expect(screen).to_have_count(0)
    expect(live.node("Answer")).to_have_attribute("aria-pressed", "true")
    expect(live.tool("full size")).to_be_focused()


def test_in_full_size_the_panel_has_the_room_that_the_picture_leaves(graph: Notebook, live: Graph) -> None:
    graph.run_new(3, "Answer.ask('wide')")
    live.choose("Answer", "Trace")
    graph.page.set_viewport_size({"width": 1280, "height": 900})
    live.tool("full size").click()
    screen = graph.page.locator("body > .nbc-screen")
    panel, canvas = (screen.locator(part).bounding_box() for part in (".nbc-panel", ".nbc-canvas"))
    drawing = screen.locator("svg.nbc-picture").bounding_box()
    assert panel is not None
    assert canvas is not None
    assert drawing is not None
    assert panel["x"] >= canvas["x"] + canvas["width"]
    assert panel["x"] - (drawing["x"] + drawing["width"]) < 50
    assert panel["x"] + panel["width"] > 1250
    values = screen.locator(".nbc-recorded")
    expect(values.get_by_role("button", name="Open Answer")).to_be_visible()
    assert values.evaluate("e => e.scrollWidth <= e.clientWidth")
    graph.page.screenshot(path=f"build/screenshots/full-size-trace-{graph.front_end}.png")
    graph.page.evaluate("document.exitFullscreen()")
    expect(screen).to_have_count(0)
    graph.page.set_viewport_size(USUAL)


def test_the_times_of_an_axis_never_overlap(graph: Notebook, live: Graph) -> None:
    graph.run_new(3, "Answer.ask('narrow')")
    live.choose("Answer", "Trace")
    expect(live.panel.locator(".nbc-values")).to_be_visible()
    found = live.panel.locator(".nbc-axis").evaluate(
        """(axis, widths) => widths.map(width => {
            axis.style.width = `${width}px`;
            [...axis.children].slice(1).forEach(time => { time.textContent = "88.8 ms" });
            return [...axis.children].filter(t => t.offsetWidth).map(t => t.getBoundingClientRect().toJSON());
        })""",
        [20, 70, 71, 120, 160, 161, 240, 320, 321, 500],
    )
    assert all(one["right"] + 4 <= other["left"] for times in found for one, other in pairwise(times))
    assert [len(times) for times in found] == [1, 1, 2, 2, 2, 3, 3, 3, 5, 5]


def test_nothing_runs_and_then_something_does(desk: Any) -> None:
    notebook = desk.open("lab", "empty.ipynb", ["%load_ext nbcompose", "%graph", "", ""])
    notebook.run(0)
    shown = notebook.run(1)
    expect(shown.locator(".nbc-empty")).to_contain_text("No service runs. Put %%service in the first line")
    notebook.screenshot("empty")
    shown.get_by_role("button", name="Copy the cell").click()
    expect(shown.get_by_text("copied")).to_be_visible()
    notebook.run_new(2, notebook.page.evaluate("navigator.clipboard.readText()"))
    expect(Graph(shown).node("Greeter")).to_have_attribute("aria-label", re.compile("^Greeter, ready"))
    expect(shown.locator(".nbc-empty")).to_be_hidden()
    notebook.run_new(3, "%services stop Greeter")
    expect(shown.locator(".nbc-empty")).to_be_visible()
    notebook.shut_down()
