from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from nbcompose._control import HALTED, Latency, progress
from nbcompose._control.status import ReplicaStatus, Status
from nbcompose._host import memory
from nbcompose._hub import ModelProgress
from nbcompose._notebook.display import SAVED, Section, ServicesTable, bundle, headline, live_colors
from nbcompose._replica import ApiSummary, Phase
from nbcompose._service import python_call, script_example, terminal_example
from nbcompose._service.decorators import api
from nbcompose._service.introspect import declare
from nbcompose._spec import ApiSpec, ParamSpec


class Answer:
    @api
    def ask(self, question: str, top_k: int = 3) -> dict[str, Any]:
        return {}

    @api(name="tell", route="/v1/tell")
    def _tell(self, count: int, *, loud: bool, texts: list[str], image: object) -> Iterator[str]:
        yield ""

    @api
    def nothing(self) -> None: ...


SPEC = declare(Answer, {})
UP = ReplicaStatus(0, 4711, "up", Phase.READY, None, "cpu", "", 0, 0, 80 * 2**20)
READY = Status(
    name="Answer",
    state="ready",
    reason="",
    version=1,
    replicas=(UP,),
    wanted=1,
    apis=tuple(a.signature for a in SPEC.apis),
    dependencies=("Embedder",),
    url="http://127.0.0.1:41233",
    counts={"ask": ApiSummary(answered=12)},
)


LATENCIES: Any = {"Answer": {"ask": Latency(12, 0.0123, 1.5)}}
SHORTAGE = memory.Shortage(18 * 2**30, int(5.1 * 2**30))


def starting(phase: str, **values: Any) -> ReplicaStatus:
    return replace(UP, state="starting", phase=Phase(phase), **values)


def plain(section: Section) -> str:
    return bundle([section])["text/plain"]


class Text(HTMLParser):
    """What of a page a reader sees; fails on tags that are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.found.append(data)

    def __str__(self) -> str:
        return "".join(self.found)


def test_the_card_of_a_ready_service() -> None:
    assert plain(Section("Answer", SPEC, READY)) == (
        "Answer is ready\n"
        "  on cpu, 1 replica\n"
        "  ask(question: str, top_k: int = 3) -> dict[str, Any]\n"
        "  tell(count: int, *, loud: bool, texts: list[str], image: object) -> Iterator[str]\n"
        "  nothing() -> None\n"
        '  try: Answer.ask("...")\n'
        '  or, in a terminal: curl -s "$(cat ~/.nbcompose/run/Answer/url)/ask" -H "@$HOME/.nbcompose/run/Answer/header"'
        """ -H 'Content-Type: application/json' -d '{"question": "..."}'"""
    )


def test_html_says_the_same() -> None:
    section = Section(
        "Answer", SPEC, replace(READY, notes=("<b>bold</b> & more",)), change_reason="replaced: <x> changed"
    )
    html = bundle([section])["text/html"]
    text = str(Text(html))
    for line in plain(section).splitlines():
        said = re.sub(r"^  (note: |try: |or, in a terminal: )?", "", line).strip()
        assert said in text or said == "Answer is ready"
    assert "Answer is ready" in text
    assert "<x>" not in html
    assert "<b>bold</b>" not in html


def test_nothing_that_differs_between_runs_is_kept() -> None:
    statuses = [
        READY,
        replace(READY, state="waiting", reason="waiting for Embedder"),
        replace(READY, state="starting", replicas=(starting("load"),)),
        replace(READY, shortage=SHORTAGE),
    ]
    for status in statuses:
        shown = bundle([Section("Answer", SPEC, status)])
        for text in (shown["text/plain"], str(Text(shown["text/html"]))):
            for secret in ("41233", "4711", "12", " s)", "80", "5.1"):
                assert secret not in text


def test_notes_are_shown() -> None:
    cold = replace(UP, cold="the environment differs: HF_HOME")
    notes = ("no GPU here: runs on the CPU",)
    text = plain(Section("Answer", SPEC, replace(READY, replicas=(cold,), notes=notes, shortage=SHORTAGE)))
    assert "  note: no GPU here: runs on the CPU\n" in text
    assert "  note: asks for 18 GiB of memory, more than is free\n" in text
    assert "  note: started without preloaded libraries: the environment differs: HF_HOME\n" in text


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (Section("A", SPEC, None, busy=True, elapsed=0.0), "is starting: starting a process"),
        (Section("A", SPEC, None, busy=True, elapsed=2.9), "is starting: starting a process (2 s)"),
        (Section("A", SPEC, None, busy=True), "is starting"),
        (Section("A", SPEC, replace(READY, state="starting")), "is starting"),
        (Section("A", SPEC, replace(READY, state="waiting", reason="waiting for B, C")), "is waiting for B, C"),
        (Section("A", SPEC, replace(READY, state="waiting", reason=HALTED)), "is waiting"),
        (Section("A", SPEC, replace(READY, state="failed")), "failed"),
        (Section("A", SPEC, replace(READY, state="stopped")), "was stopped"),
        (Section("A", SPEC, READY, trouble="was stopped"), "was stopped"),
        (Section("A", SPEC, READY, superseded=True), "was changed or restarted by a later cell"),
        # The version before serves while the new one is on its way.
        (Section("A", SPEC, READY, busy=True, elapsed=0.0), "is starting: starting a process"),
    ],
)
def test_headlines(section: Section, expected: str) -> None:
    assert headline(section) == expected
    assert expected in str(Text(bundle([section])["text/html"]))


def test_a_card_says_what_lets_a_stopped_process_go_on() -> None:
    text = plain(Section("A", SPEC, replace(READY, state="waiting", reason=HALTED)))
    assert text == f"Answer is waiting\n  {HALTED}"


@pytest.mark.parametrize(
    ("replicas", "expected"),
    [
        ((), "starting a process"),
        ((starting("spawn"),), "starting a process"),
        ((starting("spawn", preparing="importing torch"),), "importing torch"),
        ((starting("import"),), "importing what it uses"),
        ((starting("load"), starting("import")), "importing what it uses (2 replicas)"),
        ((UP, starting("load")), "loading (__init__)"),
        ((starting("download"),), "getting its models"),
        (
            (starting("download", progress=ModelProgress("org/name", 1, 4, 12 * 2**20, 80 * 2**20)),),
            "downloading org/name: 12 MiB of 80 MiB, 1 of 4 files",
        ),
    ],
)
def test_progress_is_that_of_the_slowest_replica(replicas: tuple[ReplicaStatus, ...], expected: str) -> None:
    assert progress(replace(READY, state="starting", replicas=replicas)) == expected


def test_a_download_has_a_bar() -> None:
    part = starting("download", progress=ModelProgress("org/name", 1, 4, 20, 80))
    section = Section("A", SPEC, replace(READY, state="starting", replicas=(part,)), busy=True, elapsed=1.0)
    assert '<progress style="width:100%" value="20" max="80">' in bundle([section])["text/html"]
    assert "<progress" not in bundle([replace(section, elapsed=None)])["text/html"]


@pytest.mark.parametrize(
    ("section", "lasts"),
    [
        (Section("A", SPEC, READY), True),
        (Section("A", SPEC, replace(READY, state="waiting", reason="waiting for B")), True),
        (Section("A", SPEC, None, busy=True), True),
        (Section("A", SPEC, None, busy=True, elapsed=2.9), False),
        (Section("A", SPEC, replace(READY, state="failed", reason="it failed: OSError")), False),
        (Section("A", SPEC, replace(READY, state="stopped")), False),
        (Section("A", SPEC, READY, superseded=True), False),
    ],
)
def test_only_what_would_be_untrue_tomorrow_says_that_it_is_saved(section: Section, lasts: bool) -> None:
    html = bundle([section])["text/html"]
    assert (SAVED in str(Text(html))) is lasts
    assert ("#2e9e5b" in html) is False  # green is what is live
    assert all(name in html for name in live_colors([section]))
    assert bool(live_colors([section])) is lasts


def test_a_card_that_says_something_else_is_not_taken_for_live() -> None:
    other = [
        replace(READY, wanted=2),
        replace(READY, apis=READY.apis[:1]),
        replace(READY, state="waiting", reason="waiting for B"),
    ]
    names = {name for status in (READY, *other) for name in live_colors([Section("A", SPEC, status)])}
    assert len(names) == 4
    assert live_colors([Section("A", SPEC, replace(READY, counts={"ask": ApiSummary(99)}, version=7))]).keys() <= names


def test_several_services_share_a_display() -> None:
    shown = bundle([Section("A", SPEC, READY), Section("B", SPEC, replace(READY, state="starting"))])
    assert [part.splitlines()[0] for part in shown["text/plain"].split("\n\n")] == [
        "Answer is ready",
        "Answer is starting",
    ]


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        ("AsyncIterator[str]", '["..."]'),
        ("Iterator[int] | None", "[1]"),
        ("collections.abc.AsyncGenerator[float, None]", "[0.5]"),
        ("list[str]", '["..."]'),
        ("Iterator[Doc]", "..."),
        ("Iterable[str]", "..."),
    ],
)
def test_a_list_stands_for_a_stream_in_examples(annotation: str, value: str) -> None:
    param = ParamSpec("text", "positional_or_keyword", True, f"text: {annotation}")
    assert python_call("A", ApiSpec("ask", "ask", "/ask", (param,))) == f"A.ask({value})"


@pytest.mark.parametrize(
    ("api_name", "python", "body"),
    [
        ("ask", 'A.ask("...")', '{"question": "..."}'),
        (
            "tell",
            'for item in A.tell(1, loud=True, texts=["..."], image=...): print(item)',
            '{"count": 1, "loud": true, "texts": ["..."], "image": "..."}',
        ),
        ("nothing", "A.nothing()", "{}"),
    ],
)
def test_examples_of_calls(api_name: str, python: str, body: str) -> None:
    api_spec = SPEC.api(api_name)
    assert api_spec is not None
    assert python_call("A", api_spec) == python
    assert terminal_example("A", api_spec).endswith(f"-d '{body}'")
    assert f'/url){api_spec.route}"' in terminal_example("A", api_spec)
    assert f"json={body.replace('true', 'True')}, " in script_example("A", api_spec)
    compile(python, "example", "exec")
    compile(script_example("A", api_spec), "example", "exec")


def test_an_answer_that_is_a_file_is_kept_as_one() -> None:
    for returns, keeps in (("Path | None", True), ("Image.Image", True), ("bytes", True), ("dict[str, bytes]", False)):
        ask = replace(SPEC.apis[0], returns=returns)
        assert (" -o answer " in terminal_example("A", ask)) is keeps
        assert ("write_bytes" in script_example("A", ask)) is keeps


def test_the_table() -> None:
    waiting = replace(
        READY, name="Chat", state="waiting", reason="waiting for Answer", wanted=2, dependencies=("Answer",)
    )
    assert repr(ServicesTable([READY, waiting])) == (
        "name    state               device  replicas  depends on\n"
        "Answer  ready               cpu     1         Embedder\n"
        "Chat    waiting for Answer  cpu     1 of 2    Answer"
    )
    replacing = replace(READY, replacing="new version starting")
    assert "ready, new version starting" in repr(ServicesTable([replacing]))
    html = str(Text(ServicesTable([READY, waiting])._repr_html_()))
    assert "waiting for Answer" in html
    assert "80.0" not in html


def test_the_live_table_has_numbers() -> None:
    text = repr(ServicesTable([READY], LATENCIES.get))
    assert text.splitlines()[0].split("  ")[-1].strip() == "restarts"
    for number in ("12", "12.3 ms", "1.5 s", "80 MiB"):
        assert number in text


def test_the_numbers_of_each_api() -> None:
    counts = {"ask": ApiSummary(12, failed=2), "tell": ApiSummary(refused=1, cancelled=3), "nothing": ApiSummary()}
    status = replace(READY, counts=counts, memory_limit=60 * 2**20)
    table = ServicesTable([status], LATENCIES.get, apis=True)
    live = [(row[0], *row[5:]) for row in table.rows]
    assert live == [
        ("Answer", "18", "2", "1", "3", "0", "12.3 ms (ask)", "1.5 s (ask)", "80 MiB of 60 MiB, over its limit", "0"),
        ("Answer.ask", "14", "2", "0", "0", "", "12.3 ms", "1.5 s", "", ""),
        ("Answer.tell", "4", "0", "1", "3", "", "-", "-", "", ""),
    ]


def test_the_table_of_nothing_says_how_to_begin() -> None:
    table = ServicesTable([])
    assert repr(table) == "No service runs. A %%service cell starts one."
    assert str(Text(table._repr_html_())) == repr(table)
