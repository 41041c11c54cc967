"""`%graph` in a browser: what its user sees and does. None of these tests changes what runs."""

from __future__ import annotations

import base64
import importlib.metadata
import io
import re

import pytest
from lab_page import Graph, Notebook
from PIL import Image
from playwright.sync_api import Locator, expect

pytestmark = pytest.mark.browser

SCRATCH = 3  # a cell to write into
# Where messages of the panel need not wait for the cell that runs.
SUBSHELLS = int(importlib.metadata.version("ipykernel").partition(".")[0]) >= 7


def red_png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, "PNG")
    return file.getvalue()


def pixel(picture: Locator) -> tuple[int, ...]:
    """The colour of an `<img>` whose source is a data URL, in its upper left corner."""
    source = picture.get_attribute("src") or ""
    with Image.open(io.BytesIO(base64.b64decode(source.partition("base64,")[2]))) as image:
        found = image.convert("RGB").getpixel((0, 0))
    assert isinstance(found, tuple)
    return found


def test_every_service_has_a_card_with_its_state(graph: Notebook, live: Graph) -> None:
    for service in ("Writer", "Painter", "Answer"):
        expect(live.node(service)).to_have_attribute("aria-label", re.compile(f"^{service}, ready"))
        expect(live.node(service)).to_contain_text("cpu · 1 replica")
    expect(live.still).to_be_hidden()
    graph.screenshot(f"graph-{graph.front_end}")


def test_a_call_is_made_from_a_form_and_its_result_is_a_tree(graph: Notebook, live: Graph) -> None:
    live.choose("Answer", api="ask")
    live.field("style").select_option(label="loud")
    live.call(question="tea")
    expect(live.ends("done in").locator(".nbc-tree")).to_contain_text("TEA 0;")
    graph.screenshot(f"call-{graph.front_end}")
    # The result is the notebook's, too.
    expect(graph.run_new(SCRATCH, "_graph.result['words'][0]")).to_contain_text("'TEA 0;'")


def test_the_numbers_of_cards_and_edges_follow_calls(graph: Notebook, live: Graph) -> None:
    graph.run_new(SCRATCH, "for _ in range(3):\n    Answer.ask('milk')")
    expect(live.node("Answer")).to_contain_text(re.compile(r"(/s|calls?) · p50 |calls? failed"))
    expect(live.edge("Answer", "Writer").locator(".nbc-amount")).to_have_text(re.compile(r"^[\d,]+ · [\d.]+ (Ki)?B$"))


def test_the_items_of_a_stream_come_while_it_runs_and_it_can_be_cancelled(graph: Notebook, live: Graph) -> None:
    live.choose("Writer", api="endless")
    live.call()
    expect(live.result.locator(".nbc-result")).to_have_text("begun")
    expect(live.result.locator(".nbc-spinner")).to_be_visible()
    expect(live.node("Writer")).to_contain_text("1 under way")
    graph.screenshot(f"stream-{graph.front_end}")
    live.button("Cancel").click()
    live.ends("cancelled after")
    expect(live.node("Writer")).not_to_contain_text("under way")


def test_a_call_is_answered_while_a_cell_runs_where_the_kernel_has_subshells(graph: Notebook, live: Graph) -> None:
    live.choose("Answer", api="ask")
    graph.write(SCRATCH, "import threading\nprint('it runs')\nthreading.Event().wait()")
    graph.start(SCRATCH)
    expect(graph.output(SCRATCH)).to_contain_text("it runs")
    live.call(question="meanwhile")
    if not SUBSHELLS:
        expect(live.result).to_contain_text("the kernel is busy: the call starts when the cell has ended")
        expect(graph.interrupt(SCRATCH)).to_contain_text("KeyboardInterrupt")
    expect(live.ends("done in")).to_contain_text("meanwhile 0;")
    if SUBSHELLS:
        expect(graph.interrupt(SCRATCH)).to_contain_text("KeyboardInterrupt")


def test_a_finished_stream_says_how_many_items_it_had(graph: Notebook, live: Graph) -> None:
    live.choose("Writer", api="write")
    live.call(prompt="rain", count="4")
    expect(live.ends("4 items")).to_have_text("rain 0;rain 1;rain 2;rain 3;")


def test_an_edge_lights_up_while_a_call_runs_over_it(graph: Notebook, live: Graph) -> None:
    live.choose("Answer", api="wait")
    live.call()
    edge = live.edge("Answer", "Writer")
    expect(edge).to_have_class(re.compile("nbc-active"))
    expect(edge).to_have_class(re.compile("nbc-flowing"))
    expect(live.edge("Answer", "Painter")).not_to_have_class(re.compile("nbc-active"))
    graph.screenshot(f"edge-{graph.front_end}")
    live.button("Cancel").click()
    live.ends("cancelled after")
    expect(edge).not_to_have_class(re.compile("nbc-active"))


def test_what_does_not_fit_is_said_beside_its_field(graph: Notebook, live: Graph) -> None:
    live.choose("Writer", api="write")
    live.field("prompt").fill("rain")
    live.field("count").fill("11")
    problem = live.panel.locator("[data-field='count'] .nbc-problem")
    expect(problem).to_have_text("at most 9")
    live.button("Call").click()
    expect(live.field("count")).to_be_focused()
    expect(live.result).to_be_hidden()
    live.field("count").fill("2")
    expect(problem).to_be_empty()


def test_an_error_comes_with_the_nested_traceback(graph: Notebook, live: Graph) -> None:
    live.choose("Answer", api="rhyme")
    live.call(word="orange")
    left = live.ends("failed after")
    expect(left.locator(".nbc-error")).to_have_text("ValueError: nothing rhymes with orange")
    traceback = left.locator(".nbc-traceback")
    expect(traceback).to_contain_text("Writer.refuse")
    expect(traceback).to_contain_text('raise ValueError(f"nothing rhymes with {prompt}")')
    graph.screenshot(f"error-{graph.front_end}")


def test_an_image_is_uploaded_and_one_comes_back(graph: Notebook, live: Graph) -> None:
    live.choose("Painter")
    live.field("picture").set_input_files({"name": "red.png", "mimeType": "image/png", "buffer": red_png()})
    expect(live.panel.locator(".nbc-preview img")).to_be_visible()
    live.call()
    image = live.ends("done in").locator("img")
    expect(image).to_be_visible()
    assert pixel(image) == (0, 255, 255)
    graph.screenshot(f"image-{graph.front_end}")


def test_a_call_of_the_kernel_is_a_waterfall_and_its_bars_show_arguments_and_answers(
    graph: Notebook, live: Graph
) -> None:
    graph.run_new(SCRATCH, "Answer.ask('from the kernel')")
    live.choose("Answer", "Trace")
    newest = live.panel.locator(".nbc-trace").first
    expect(newest).to_contain_text("Answer.ask")
    newest.click()
    lines = live.panel.locator(".nbc-chart .nbc-who")
    expect(lines.nth(0)).to_have_text("Answer")
    expect(lines.nth(1)).to_have_text("Writer")
    bar = live.panel.locator(".nbc-bar[aria-label^='Writer.write:']")
    expect(bar).to_have_attribute("aria-label", re.compile(r"first item after .*last item after"))
    expect(bar.locator(".nbc-mark")).to_have_count(2)
    graph.screenshot(f"trace-{graph.front_end}")
    values = live.panel.locator(".nbc-values")
    expect(values.locator("dt")).to_have_text(["question", "answer"])  # of the first call, until one is chosen
    expect(values).to_contain_text("'from the kernel'")
    bar.click()
    expect(bar).to_have_attribute("aria-pressed", "true")
    expect(values.locator("dt")).to_have_text(["prompt", "3 items"])
    expect(values.locator("dd").nth(1)).to_contain_text("'from the kernel 2;'")
    graph.screenshot(f"values-{graph.front_end}")
    live.button("Open Writer").click()
    expect(live.panel.locator(".nbc-name")).to_have_text("Writer")
    expect(live.node("Writer")).to_have_attribute("aria-pressed", "true")
    expect(live.panel.locator(".nbc-chart .nbc-who").nth(0)).to_have_text("Answer")


def test_a_trace_is_followed_while_its_first_call_still_runs(graph: Notebook, live: Graph) -> None:
    live.choose("Answer", api="linger")
    live.call(question="long")
    live.panel.get_by_role("tab", name="Trace").click()
    live.panel.get_by_label("service of the calls").select_option("")  # Answer's own call is there when it has ended
    newest = live.panel.locator(".nbc-trace").first
    expect(newest).to_contain_text("Writer.write")
    newest.click()  # a call that is shown stays shown: one of an earlier test, where Answer has been called before
    expect(live.panel.locator(".nbc-values dt")).to_have_text(["prompt", "count", "1 item"])
    live.panel.get_by_role("tab", name="Call").click()
    live.button("Cancel").click()
    live.ends("cancelled after")
    live.panel.get_by_role("tab", name="Trace").click()
    expect(live.panel.locator(".nbc-trace").first).to_contain_text("Answer.linger")
    expect(live.panel.locator(".nbc-chart .nbc-who")).to_have_text(["Answer", "Writer", ""])
    expect(live.panel.locator(".nbc-values dt").first).to_have_text("question")
    graph.screenshot(f"trace-followed-{graph.front_end}")


def test_calls_are_searched_by_what_was_in_them(graph: Notebook, live: Graph) -> None:
    graph.run_new(SCRATCH, "Answer.ask('about elephants')\nAnswer.ask('about mice')")
    live.choose("Answer", "Trace")
    found = live.panel.locator(".nbc-trace").filter(has_text="Answer.ask")
    expect(live.panel.get_by_label("service of the calls")).to_have_value("Answer")
    live.panel.get_by_role("searchbox").fill("ELEPHANTS")
    expect(found).to_have_count(1)
    expect(live.panel.locator(".nbc-values")).to_contain_text("'about elephants'")
    live.panel.get_by_label("how they ended").select_option("failed")
    expect(live.panel.get_by_text("No such call.")).to_be_visible()
    expect(live.panel.locator(".nbc-chart")).to_have_count(0)
    expect(live.panel.locator(".nbc-recorded")).to_have_count(0)
    live.panel.get_by_label("how they ended").select_option("")
    live.panel.get_by_label("service of the calls").select_option("Painter")
    expect(live.panel.get_by_text("No such call.")).to_be_visible()
    live.panel.get_by_label("service of the calls").select_option("Writer")
    live.panel.get_by_label("api of the calls").select_option("write")
    expect(found).to_have_count(1)
    graph.screenshot(f"search-{graph.front_end}")
    live.panel.get_by_label("service of the calls").select_option("")
    live.panel.get_by_role("searchbox").fill("")
    expect(found.nth(1)).to_be_visible()


def test_what_was_recorded_can_be_forgotten(graph: Notebook, live: Graph) -> None:
    graph.run_new(SCRATCH, "Answer.ask('my secret')")
    live.choose("Answer", "Trace")
    newest = live.panel.locator(".nbc-trace").first
    expect(newest).to_contain_text("Answer.ask")
    newest.click()
    expect(live.panel.locator(".nbc-values")).to_contain_text("'my secret'")
    live.button("Forget").click()
    expect(live.panel.locator(".nbc-recorded")).to_contain_text("not kept any more")
    expect(live.panel.locator(".nbc-recorded")).not_to_contain_text("my secret")


def test_no_button_of_the_panel_moves_when_numbers_change(graph: Notebook, live: Graph) -> None:
    live.choose("Answer", "Numbers")
    head = live.panel.locator(".nbc-head")
    places = """head => [...head.querySelectorAll("button"), ...head.parentElement.querySelectorAll("[role=tab]")].map(
        button => [button.textContent, button.getBoundingClientRect().x, button.getBoundingClientRect().y]
    )"""
    found = head.evaluate(
        """(head, places) => [300, 420, 560, 561, 760, 761, 900].map(width => {
            const side = head.closest(".nbc-side");
            const parts = [".nbc-facts", ".nbc-count", ".nbc-chip"];
            const [facts, count, state] = parts.map(p => head.parentElement.querySelector(p));
            side.style.width = `${width}px`;
            return [["", "1", "ready"], ["cpu · 1/1 up · 4 calls", "2", "ready"],
                ["cpu · 1/1 up · 0.5/s · 4,000 calls · retrieve: p50 49.3 ms, p95 85.4 ms in 5 min · 85.5 MiB", "12",
                 "loading the weights of a large model"]].map(words => {
                [facts.textContent, count.textContent, state.textContent] = words;
                return JSON.stringify(eval(places)(head));
            });
        })""",
        places,
    )
    assert all(len(set(seen)) == 1 for seen in found), found


def test_the_numbers_of_the_last_minutes(graph: Notebook, live: Graph) -> None:
    graph.run_new(SCRATCH, "for _ in range(3):\n    Answer.ask('milk')")
    live.choose("Answer", "Numbers")
    lines = live.panel.locator(".nbc-sparkline")
    expect(lines).to_have_count(4)
    expect(lines.nth(0)).to_have_attribute("aria-label", re.compile(r"^calls in 10 s: now \d+; at most \d+$"))
    expect(lines.nth(3)).to_have_attribute("aria-label", re.compile(r"^memory: now [\d.]+ MiB; at most [\d.]+ MiB$"))
    # In a narrow panel each number has its head beside it.
    number = r"(answered |failed |refused |cancelled |p\d\d, 5 min )?"
    values = [r"\d+", "0", "0", "0", r"[\d.]+ [mµ]?s", r"[\d.]+ [mµ]?s"]
    row = re.compile("^ask " + " ".join(number + value for value in values) + "$")
    expect(live.panel.get_by_role("row", name=row)).to_be_visible()
    graph.screenshot(f"numbers-{graph.front_end}")


def test_a_call_that_was_cancelled_is_no_failure(graph: Notebook, live: Graph) -> None:
    live.choose("Writer", api="endless")
    live.call()
    expect(live.result.locator(".nbc-result")).to_have_text("begun")
    live.button("Cancel").click()
    live.ends("cancelled after")
    live.panel.get_by_role("tab", name="Trace").click()
    row = live.panel.locator(".nbc-trace").first
    expect(row).to_contain_text("Writer.endless")
    row.click()
    expect(live.panel.locator(".nbc-bar.nbc-given-up")).to_contain_text("cancelled")
    expect(live.panel.locator(".nbc-bar.nbc-bad")).to_have_count(0)


def test_a_failed_call_is_marked_in_its_trace(graph: Notebook, live: Graph) -> None:
    graph.run_new(SCRATCH, "try:\n    Answer.rhyme('silver')\nexcept ValueError as error:\n    print(error)")
    live.choose("Answer", "Trace")
    row = live.panel.locator(".nbc-trace").first
    expect(row).to_contain_text("Answer.rhyme")
    row.click()
    expect(live.panel.locator(".nbc-bar.nbc-bad[aria-label^='Writer.refuse:']")).to_contain_text("ValueError")


def test_a_card_says_how_many_calls_failed_and_all_its_words_stand_on_it(graph: Notebook, live: Graph) -> None:
    graph.run_new(SCRATCH, "try:\n    Answer.rhyme('gold')\nexcept ValueError as error:\n    print(error)")
    for service in ("Answer", "Writer"):
        failed = live.node(service).locator(".nbc-failures")
        expect(failed).to_have_text(re.compile(r"^[1-9]\d* of [1-9]\d* calls? failed$"))
        expect(live.node(service)).to_have_attribute("aria-label", re.compile(r", [1-9]\d* of [1-9]\d* calls? failed"))
    graph.screenshot(f"failed-calls-{graph.front_end}", live.canvas)
    live.choose("Writer", api="endless")
    words = live.node("Writer").locator(".nbc-words")
    words.evaluate("text => { text.dataset.idle = 'ready, 1 worker held'; }")  # as the kernel may say it
    live.button("Call").click()
    expect(words).to_have_text("ready · 1 worker held")  # without "1 under way", which would cut it
    outside = """node => {
        const right = element => element.getBoundingClientRect().right;
        const card = node.querySelector('.nbc-card');
        return [...node.querySelectorAll('text')].filter(text => right(text) > right(card)).length;
    }"""
    assert live.node("Writer").evaluate(outside) == 0
    live.button("Cancel").click()
    live.ends("cancelled after")


def test_logs_are_live_and_can_be_filtered(graph: Notebook, live: Graph) -> None:
    live.choose("Writer", "Logs")
    lines = live.panel.locator(".nbc-logs")
    graph.run_new(SCRATCH, "list(Writer.write('fog'))\nlist(Writer.write('sun'))")
    expect(lines).to_contain_text("writing about sun")
    expect(lines.locator("div").last).to_contain_text(
        re.compile(r"\d\d:\d\d:\d\d\.\d{3} +#0 write [0-9a-f]{8}  writing")
    )
    live.panel.get_by_role("searchbox").fill("FOG")
    expect(lines).to_contain_text("writing about fog")
    expect(lines).not_to_contain_text("sun")
    live.panel.get_by_role("searchbox").fill("")
    live.panel.get_by_label("the api that wrote the lines").select_option("refuse")
    expect(lines).not_to_contain_text("writing about sun")
    live.panel.get_by_label("the api that wrote the lines").select_option("")
    expect(lines).to_contain_text("writing about sun")
    live.panel.get_by_label("the least level of the lines").select_option("warning")
    expect(lines).to_have_text("No matching lines.")
    live.panel.get_by_label("the least level of the lines").select_option("")
    graph.screenshot(f"logs-{graph.front_end}")


def test_logs_are_followed_until_one_scrolls_back(graph: Notebook, live: Graph) -> None:
    live.choose("Writer", "Logs")
    lines = live.panel.locator(".nbc-logs")
    follow = live.panel.get_by_role("checkbox", name="follow")
    at_end = "e => e.scrollTop + e.clientHeight >= e.scrollHeight - 8"
    graph.run_new(SCRATCH, "for n in range(60): list(Writer.write(f'topic {n}'))")
    expect(lines).to_contain_text("writing about topic 59")
    assert lines.evaluate(at_end)
    follow.uncheck()
    lines.evaluate("e => { e.scrollTop = 0 }")
    graph.run_new(SCRATCH, "list(Writer.write('unread'))")
    expect(lines).to_contain_text("writing about unread")
    assert lines.evaluate("e => e.scrollTop") == 0
    follow.check()
    assert lines.evaluate(at_end)


def test_a_call_is_copied_for_where_it_says(graph: Notebook, live: Graph) -> None:
    """What is pasted there runs as it is, and answers the same."""
    live.choose("Answer", api="ask")
    live.field("question").fill('it\'s "tea"\nor {milk}')
    graph.screenshot(f"copy-{graph.front_end}")
    # The other two are run by tests/notebook/test_snippets.py.
    places = {"notebook": "", "Python script": "%%script python\n", "terminal": "curl -s ", "Node script": "fetch("}
    for place, how in places.items():
        live.button(place).click()
        expect(live.panel.locator(".nbc-note", has_text=f"copied for a {place}")).to_be_visible()
        if place in ("terminal", "Node script"):
            graph.page.wait_for_function("async how => (await navigator.clipboard.readText()).includes(how)", arg=how)
        else:
            copied = graph.page.evaluate("navigator.clipboard.readText()")
            expect(graph.run_new(SCRATCH, how + copied)).to_contain_text("or {milk} 2;")


def test_the_keyboard_alone_is_enough(graph: Notebook, live: Graph) -> None:
    press = graph.page.keyboard.press
    live.node("Answer").focus()
    press("ArrowRight")
    chosen = graph.page.evaluate("document.activeElement.dataset.service")
    assert chosen in ("Writer", "Painter")
    press("ArrowLeft")
    expect(live.node("Answer")).to_be_focused()
    press("Enter")
    expect(live.panel.locator(".nbc-name")).to_have_text("Answer")
    live.panel.get_by_role("tab", name="Call").focus()
    press("ArrowRight")
    expect(live.panel.get_by_role("tab", name="Trace")).to_be_focused()
    press("ArrowLeft")
    live.panel.get_by_label("api", exact=True).select_option("ask")
    live.panel.get_by_label("api", exact=True).focus()
    press("Tab")
    expect(live.field("question")).to_be_focused()
    graph.page.keyboard.type("dd")  # as a command of the notebook's it would delete the cell
    press("Control+Enter")
    expect(live.ends("done in")).to_contain_text("dd 0;")


def test_a_screen_reader_is_told_the_services_and_their_states(graph: Notebook, live: Graph) -> None:
    shown = graph.output(2)
    expect(shown.get_by_role("group", name="Services: choose one to call it")).to_be_visible()
    expect(shown.get_by_role("button", name=re.compile("^Writer, ready"))).to_be_visible()
    expect(shown.get_by_role("row", name=re.compile("Writer.*ready"))).to_be_attached()


def test_who_wants_less_motion_gets_none(graph: Notebook, live: Graph) -> None:
    animation = "e => getComputedStyle(e).animationName"
    live.choose("Answer", api="wait")
    live.call()
    line = live.edge("Answer", "Writer").locator(".nbc-line")
    expect(live.edge("Answer", "Writer")).to_have_class(re.compile("nbc-flowing"))
    spinner = live.result.locator(".nbc-spinner")
    assert line.evaluate(animation) != "none"
    assert spinner.evaluate(animation) != "none"
    graph.page.emulate_media(reduced_motion="reduce")
    assert line.evaluate(animation) == "none"
    assert spinner.evaluate(animation) == "none"
    expect(spinner).to_be_visible()
    graph.page.emulate_media(reduced_motion="no-preference")
    live.button("Cancel").click()
    live.ends("cancelled after")


def test_it_follows_the_theme(graph: Notebook, live: Graph) -> None:
    fill = "e => getComputedStyle(e).fill"
    card = live.node("Answer").locator(".nbc-card")
    live.choose("Answer", "Trace")
    light = card.evaluate(fill)
    graph.theme("JupyterLab Dark")
    assert card.evaluate(fill) != light
    graph.screenshot(f"dark-{graph.front_end}")
    graph.theme("JupyterLab Light")
    assert card.evaluate(fill) == light
