"""Spans as rows, as a drawing, as a table, and as the JSON that Perfetto opens."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nbcompose
from nbcompose._tracing import api
from nbcompose._tracing.chrome import trace_events
from nbcompose._tracing.drawing import Trace
from nbcompose._tracing.rows import Wanted, summaries, waterfall
from nbcompose._tracing.spans import CANCELLED, RecordedCall, Span, TraceLog
from nbcompose.errors import NbcomposeError, UnknownService

TRACE = 0x4BF92F3577B34DA6A3CE929D0E0E4736
ID = "4bf92f3577b34da6a3ce929d0e0e4736"
NOON = 1_700_000_000.0

# Answer.ask calls Embedder.embed, which waits, and Writer.write, a stream that fails; both at once.
ASK = Span(TRACE, 1, 0, "Answer", "ask", 0, NOON, 1.0, 0.0, "ValueError")
EMBED = Span(TRACE, 2, 1, "Embedder", "embed", 1, NOON + 0.1, 0.5, 0.2, "")
WRITE = Span(TRACE, 3, 1, "Writer", "write", 0, NOON + 0.2, 0.75, 0.0, "ValueError", 0.25, 0.5)
LOOK_UP = Span(TRACE, 4, 3, "Words", "look_up", 0, NOON + 0.3, 0.1, 0.0, "")
SPANS = [LOOK_UP, WRITE, EMBED, ASK]  # as they end, the innermost first


@st.composite
def forests(draw: st.DrawFn) -> list[Span]:
    """Spans in any order whose callers are others of them, or unknown."""
    spans: list[Span] = []
    for number in range(1, draw(st.integers(1, 30)) + 1):
        service, replica = draw(st.sampled_from(["A", "B"])), draw(st.integers(0, 1))
        start, duration = draw(st.floats(0, 0.01)), draw(st.floats(0, 0.01))
        parent = draw(st.integers(0, number - 1) | st.just(99))
        spans.append(Span(TRACE, number, parent, service, "f", replica, NOON + start, duration, duration / 3, ""))
    return draw(st.permutations(spans))


# -- rows


def test_rows_are_in_the_order_of_the_calls() -> None:
    drawn = waterfall(SPANS)
    assert (drawn["trace"], drawn["start"], drawn["seconds"]) == (ID, NOON, 1.0)
    assert [(r["service"], r["depth"]) for r in drawn["rows"]] == [
        ("Answer", 0),
        ("Embedder", 1),
        ("Writer", 1),
        ("Words", 2),
    ]
    assert drawn["rows"][2] == {
        "span": "0000000000000003",
        "parent": "0000000000000001",
        "service": "Writer",
        "api": "write",
        "replica": 0,
        "depth": 1,
        "start": pytest.approx(0.2),
        "queued": 0.0,
        "seconds": 0.75,
        "first_item": 0.25,
        "last_item": 0.5,
        "error": "ValueError",
    }
    assert json.loads(json.dumps(drawn)) == drawn


def test_a_call_from_outside_is_a_root_that_names_its_caller() -> None:
    rows = waterfall([ASK._replace(parent_id=0xABC), EMBED])["rows"]
    assert [(r["parent"], r["depth"]) for r in rows] == [("0000000000000abc", 0), ("0000000000000001", 1)]


def test_calls_whose_caller_has_not_ended_are_roots_until_it_has() -> None:
    assert [(r["service"], r["depth"]) for r in waterfall([EMBED, LOOK_UP, WRITE])["rows"]] == [
        ("Embedder", 0),
        ("Writer", 0),
        ("Words", 1),
    ]


def test_a_chain_may_be_longer_than_the_stack() -> None:
    chain = [Span(TRACE, n, n - 1, "Echo", "f", 0, NOON + n, 1.0, 0.0, "") for n in range(1, 5001)]
    assert [r["depth"] for r in waterfall(chain)["rows"]] == list(range(5000))


def test_nothing_is_drawn_of_no_spans() -> None:
    assert waterfall([]) == {"trace": "", "start": 0.0, "seconds": 0.0, "rows": []}


@settings(max_examples=50)
@given(forests())
def test_every_span_has_one_row_below_its_caller(spans: list[Span]) -> None:
    rows = waterfall(spans)["rows"]
    place = {row["span"]: number for number, row in enumerate(rows)}
    assert len(place) == len(rows) == len(spans)
    for number, row in enumerate(rows):
        caller = place.get(row["parent"])
        assert row["depth"] == (0 if caller is None else rows[caller]["depth"] + 1)
        assert caller is None or caller < number


def test_a_trace_in_a_line() -> None:
    log = TraceLog()
    log.extend(SPANS)
    log.extend([EMBED._replace(trace_id=7, parent_id=0)])
    assert summaries(log) == [
        {
            "trace": f"{7:032x}",
            "root": "Embedder.embed",
            "start": NOON + 0.1,
            "seconds": pytest.approx(0.5),
            "spans": 1,
            "error": "",
        },
        {"trace": ID, "root": "Answer.ask", "start": NOON, "seconds": 1.0, "spans": 4, "error": "ValueError"},
    ]


def test_an_error_that_the_root_took_care_of_is_none_of_the_trace_s() -> None:
    log = TraceLog()
    log.extend([ASK._replace(error=""), WRITE])
    assert [s["error"] for s in summaries(log)] == [""]


# -- the Trace Event Format


def check_document(document: dict[str, Any]) -> None:
    """The rules of the format for the kinds of event that are used here."""
    assert json.loads(json.dumps(document)) == document
    needed = {"M": {"args"}, "X": {"ts", "dur"}, "i": {"ts", "s"}, "s": {"ts", "id"}, "f": {"ts", "id", "bp"}}
    for event in document["traceEvents"]:
        assert {"name", "pid", "tid", *needed[event["ph"]]} <= event.keys()
        assert all(type(event[k]) is int and event[k] >= 0 for k in ("pid", "tid", "ts", "dur") if k in event)


def of_kind(document: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [e for e in document["traceEvents"] if e["ph"] == kind]


def test_a_service_is_a_process_and_a_replica_a_thread() -> None:
    document = trace_events(SPANS)
    check_document(document)
    names = {e["pid"]: e["args"]["name"] for e in of_kind(document, "M") if e["name"] == "process_name"}
    assert sorted(names.values()) == ["Answer", "Embedder", "Words", "Writer"]
    calls = {e["name"]: e for e in of_kind(document, "X") if "span" in e["args"]}
    assert {name: (names[e["pid"]], e["tid"], e["ts"], e["dur"]) for name, e in calls.items()} == {
        "ask": ("Answer", 0, 0, 1_000_000),
        "embed": ("Embedder", 1, 100_000, 500_000),
        "write": ("Writer", 0, 200_000, 750_000),
        "look_up": ("Words", 0, 300_000, 100_000),
    }
    assert calls["write"]["args"] == {
        "trace": ID,
        "span": "0000000000000003",
        "parent": "0000000000000001",
        "replica": 0,
        "error": "ValueError",
    }
    assert document["otherData"] == {"start": "2023-11-14T22:13:20+00:00"}


def test_waiting_and_the_items_of_a_stream_are_marked() -> None:
    document = trace_events(SPANS)
    assert [(e["ts"], e["dur"]) for e in of_kind(document, "X") if e["name"] == "queued"] == [(100_000, 200_000)]
    assert [(e["name"], e["ts"]) for e in of_kind(document, "i")] == [("first item", 450_000), ("last item", 700_000)]


def test_what_failed_has_a_colour_and_what_was_given_up_has_none() -> None:
    given_up = EMBED._replace(error="CallCancelled")
    document = trace_events([ASK, given_up, LOOK_UP])
    assert [e["args"]["error"] for e in of_kind(document, "X") if "cname" in e] == ["ValueError"]
    check_document(document)


def test_an_arrow_goes_from_the_caller_to_what_it_called() -> None:
    document = trace_events(SPANS)
    calls = {e["args"]["span"]: e for e in of_kind(document, "X") if "span" in e["args"]}
    starts = {e["id"]: e for e in of_kind(document, "s")}
    for end in of_kind(document, "f"):
        start, called = starts.pop(end["id"]), calls[end["id"]]
        caller = calls[called["args"]["parent"]]
        assert (end["pid"], end["tid"], end["ts"]) == (called["pid"], called["tid"], called["ts"])
        assert (start["pid"], start["tid"]) == (caller["pid"], caller["tid"])
    assert starts == {}
    assert len(of_kind(document, "f")) == 3


@settings(max_examples=50)
@given(forests())
def test_slices_of_a_thread_do_not_overlap(spans: list[Span]) -> None:
    # Perfetto drops those that do.
    document = trace_events(spans)
    check_document(document)
    calls = [e for e in of_kind(document, "X") if "span" in e["args"]]
    assert len(calls) == len(spans)
    for at in {(e["pid"], e["tid"]) for e in calls}:
        here = sorted((e["ts"], e["ts"] + e["dur"]) for e in calls if (e["pid"], e["tid"]) == at)
        assert all(end <= begin for (_, end), (begin, _) in pairwise(here))


@settings(max_examples=50)
@given(forests())
def test_arrows_begin_within_the_caller(spans: list[Span]) -> None:
    document = trace_events(spans)
    calls = {e["args"]["span"]: e for e in of_kind(document, "X") if "span" in e["args"]}
    for start in of_kind(document, "s"):
        caller = calls[calls[start["id"]]["args"]["parent"]]
        assert caller["ts"] <= start["ts"] <= caller["ts"] + caller["dur"]


def test_calls_at_once_in_one_replica_have_threads_with_names() -> None:
    document = trace_events([ASK, ASK._replace(span_id=9, start=NOON + 0.5)])
    threads = {e["tid"]: e["args"]["name"] for e in of_kind(document, "M") if e["name"] == "thread_name"}
    assert threads == {0: "replica 0", 1000: "replica 0 (2)"}


def test_a_document_without_spans() -> None:
    check_document(trace_events([]))


# -- the drawing

DRAWN = """\
Answer.ask: 1 s, 4 calls

Answer.ask         ████████████████████████████████████████     1 s  ValueError
  Embedder.embed       ░░░░░░░░████████████                  500 ms  waited 200 ms
  Writer.write             ██████████▓▓▓▓▓▓▓▓▓▓██████████    750 ms  ValueError, first item after 250 ms
    Words.look_up              ████                          100 ms

░ waiting  █ working  ▓ items coming"""


def test_a_trace_draws_itself_as_text() -> None:
    assert repr(Trace(SPANS)) == DRAWN


def test_a_trace_draws_itself_as_a_table_that_can_be_read_too() -> None:
    root = ElementTree.fromstring(f"<body>{Trace(SPANS)._repr_html_()}</body>")
    rows = [["".join(cell.itertext()) for cell in row] for row in root.iterfind(".//tr")]
    assert rows == [
        ["call", "start", "took", "over time", "notes"],
        ["Answer.ask", "0 s", "1 s", "", "ValueError"],
        ["Embedder.embed", "100 ms", "500 ms", "", "waited 200 ms"],
        ["Writer.write", "200 ms", "750 ms", "", "ValueError, first item after 250 ms"],
        ["Words.look_up", "300 ms", "100 ms", "", ""],
    ]
    embed = root.findall(".//tr")[2]
    widths = [part.attrib["style"] for part in embed.iterfind(".//td/div/div")]
    assert [w.partition("width:")[2] for w in widths[:2]] == ["10.00%", "20.00%;background:#9aa0a6"]
    assert "width:30.00%" in widths[2]


@settings(max_examples=50)
@given(forests())
def test_any_trace_can_be_drawn(spans: list[Span]) -> None:
    trace = Trace(spans)
    assert len(repr(trace).splitlines()) == len(spans) + 4
    ElementTree.fromstring(f"<body>{trace._repr_html_()}</body>")


def test_a_name_is_text_in_html() -> None:
    html = Trace([ASK._replace(service="<script>", error="<b>")])._repr_html_()
    assert "&lt;script&gt;.ask" in html
    assert "<script>" not in html
    assert "<b>," not in html


def test_a_loop_of_calls_is_drawn_in_part() -> None:
    loop = [EMBED._replace(span_id=n, start=NOON + n) for n in range(2, 502)]
    assert "… and 401 calls more" in repr(Trace([ASK, *loop]))
    assert "… and 401 calls more" in Trace([ASK, *loop])._repr_html_()


def test_a_trace_without_calls() -> None:
    assert repr(Trace([])) == "a trace without calls"
    assert Trace([])._repr_html_() == "<div>a trace without calls</div>"


# -- what users ask


@pytest.fixture
def log() -> Iterator[TraceLog]:
    """What `nbcompose.traces()` reads."""
    log = TraceLog()
    api.install(lambda: log)
    yield log
    api.install(None)


COLUMNS = [
    "start", "service", "api", "state", "seconds", "queued", "input_wait", "error", "replica", "first_item",
    "last_item", "trace", "span", "parent",
]  # fmt: skip


def test_all_calls_are_a_table(log: TraceLog) -> None:
    log.extend(SPANS)
    log.extend([EMBED._replace(trace_id=7, parent_id=0)])
    table = nbcompose.traces()
    assert list(table.columns) == COLUMNS
    assert list(table.service) == ["Answer", "Embedder", "Writer", "Words", "Embedder"]
    assert list(table.trace) == [ID] * 4 + [f"{7:032x}"]
    assert list(table.parent[:2]) == ["", "0000000000000001"]
    assert table.start[0] == pandas.Timestamp("2023-11-14T22:13:20Z")
    assert table.start[2] - table.start[0] == pandas.Timedelta("200ms")
    assert table.first_item[2] == 0.25
    assert table.first_item.isna().sum() == 4
    assert table[table.error != ""].groupby("service").seconds.max().to_dict() == {"Answer": 1.0, "Writer": 0.75}


def test_a_table_without_calls_has_the_same_columns(log: TraceLog) -> None:
    empty = nbcompose.traces()
    log.extend(SPANS)
    assert len(empty) == 0
    assert dict(empty.dtypes) == dict(nbcompose.traces().dtypes)


def test_one_trace_by_its_id(log: TraceLog) -> None:
    log.extend([*SPANS, EMBED._replace(trace_id=7)])
    assert list(nbcompose.traces(ID).span) == [f"{n:016x}" for n in (1, 2, 3, 4)]
    assert nbcompose.trace(ID).id == ID
    assert nbcompose.trace().id == f"{7:032x}"


class Records:
    """What replicas have recorded."""

    def __init__(self, *calls: RecordedCall) -> None:
        self.calls = {call.span_id: call for call in calls}

    def recorded(self, spans: Sequence[Span]) -> dict[int, RecordedCall]:
        return {s.span_id: self.calls[s.span_id] for s in spans if s.span_id in self.calls}

    def search(self, text: str) -> list[int]:
        return [n for n, call in self.calls.items() if text in str(call)]

    def logged(self) -> list[str]:
        return ["Idle"]


ASKED = RecordedCall(1, (("question", "'<where>'"), ("password", "•••")), None, "ValueError: no")
WROTE = RecordedCall(3, (("n", "9"),), None, "ValueError: no more", 9, ("1", "2"), ("9",), held=True)
EMBEDDED = RecordedCall(2, (("text", "'x'"),), "[0.5]")
GONE = RecordedCall(4, why_not="not kept any more")

CALLS = """\
Answer.ask(question='<where>', password=•••)
  → ValueError: no
Embedder.embed(text='x')
  → [0.5]
Writer.write(n=9)
  → 9 items: 1, 2, …, 9, then ValueError: no more
Words.look_up: not kept any more"""


def test_a_trace_shows_arguments_and_answers(log: TraceLog) -> None:
    log.extend(SPANS)
    api.install(lambda: log, Records(ASKED, EMBEDDED, WROTE, GONE))
    shown = nbcompose.trace()
    assert repr(shown) == f"{DRAWN}\n\n{CALLS}"
    root = ElementTree.fromstring(f"<body>{shown._repr_html_()}</body>")
    rows = [["".join(cell.itertext()) for cell in row] for row in root.findall(".//details//tr")]
    assert rows == [
        ["call", "arguments", "answer or error"],
        ["Answer.ask", "question = '<where>'password = •••", "ValueError: no"],
        ["Embedder.embed", "text = 'x'", "[0.5]"],
        ["Writer.write", "n = 9", "9 items: 1, 2, …, 9, then ValueError: no more"],
        ["Words.look_up", "not kept any more"],
    ]
    assert "Objects are shown as they are now." in "".join(root.itertext())


def test_nothing_is_said_of_arguments_where_none_are_recorded(log: TraceLog) -> None:
    log.extend(SPANS)
    api.install(lambda: log, Records())
    assert repr(nbcompose.trace()) == DRAWN
    assert "<details>" not in nbcompose.trace()._repr_html_()


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, ["ask", "embed", "write", "look_up", "embed"]),
        ({"service": "Embedder"}, ["embed", "embed"]),
        ({"api": "write"}, ["write"]),
        ({"service": "Answer", "api": "write"}, []),
        ({"state": "failed"}, ["ask", "write"]),
        ({"state": "answered"}, ["embed", "look_up"]),
        ({"state": "cancelled"}, ["embed"]),
        ({"since": datetime.fromtimestamp(NOON + 0.15, UTC)}, ["write", "look_up", "embed"]),
        ({"since": timedelta(days=1)}, []),
        ({"since": 10.0**10}, ["ask", "embed", "write", "look_up", "embed"]),
        ({"text": "WRITER"}, ["write"]),
        ({"text": "where"}, ["ask"]),
        ({"text": "valueerror"}, ["ask", "write"]),
        ({"text": "0.5", "service": "Embedder"}, ["embed"]),
        ({"trace": ID, "state": "cancelled"}, []),
    ],
)
def test_calls_are_found(log: TraceLog, wanted: dict[str, Any], found: list[str]) -> None:
    log.extend([*SPANS, EMBED._replace(trace_id=7, span_id=99, start=NOON + 5, error=CANCELLED)])
    api.install(lambda: log, Records(ASKED, EMBEDDED, WROTE))
    assert list(nbcompose.traces(**wanted).api) == found


def test_a_service_that_nobody_knows_is_refused(log: TraceLog) -> None:
    log.extend(SPANS)
    api.install(lambda: log, Records())
    assert len(nbcompose.traces(service="Idle")) == 0
    with pytest.raises(UnknownService, match="no service is called 'Rose'; there are: Idle, Answer, Embedder, Writer"):
        nbcompose.traces(service="Rose")


def test_a_state_that_does_not_exist_is_refused(log: TraceLog) -> None:
    with pytest.raises(ValueError, match="answered, failed, cancelled"):
        nbcompose.traces(state="ok")  # type: ignore[arg-type]


def test_a_trace_is_listed_where_one_of_its_calls_is_wanted() -> None:
    log = TraceLog()
    log.extend([*SPANS, EMBED._replace(trace_id=7, span_id=99)])
    assert [s["trace"] for s in summaries(log, Wanted(service="Words"))] == [ID]
    assert [s["trace"] for s in summaries(log, Wanted(service="Embedder"))] == [f"{7:032x}", ID]
    assert [s["trace"] for s in summaries(log, Wanted(text="tea"), {99})] == [f"{7:032x}"]
    assert summaries(log, Wanted(text="tea")) == []


def test_a_long_name_does_not_push_the_bars_away() -> None:
    long = Trace([ASK._replace(service="Very" * 40), EMBED])
    bars = [line.index("█") for line in repr(long).splitlines()[2:4] if "█" in line]
    assert max(bars) < 70
    assert "text-overflow:ellipsis" in long._repr_html_()


def test_the_newest_is_the_one_that_began_last_whoever_told_of_it_first(log: TraceLog) -> None:
    log.extend([EMBED._replace(trace_id=7), *SPANS])
    assert nbcompose.trace().id == f"{7:032x}"
    assert list(nbcompose.traces().trace) == [ID] * 4 + [f"{7:032x}"]
    assert [s["trace"] for s in summaries(log)] == [f"{7:032x}", ID]


@pytest.mark.parametrize("wrong", ["0" * 31 + "8", "no hex", ""])
def test_an_id_that_is_not_known(log: TraceLog, wrong: str) -> None:
    log.extend(SPANS)
    for ask in (nbcompose.trace, nbcompose.traces, api.chrome_trace):
        with pytest.raises(NbcomposeError, match=rf"no trace '{wrong}' is known \(any more\): the column `trace` of"):
            ask(wrong)


def test_where_nothing_was_called(log: TraceLog) -> None:
    with pytest.raises(NbcomposeError, match="no call has been made yet: call a service"):
        nbcompose.trace()


def test_where_nothing_runs() -> None:
    for ask in (nbcompose.trace, nbcompose.traces, api.chrome_trace):
        with pytest.raises(NbcomposeError, match="%load_ext nbcompose, then a %%service cell"):
            ask()


def test_without_pandas(log: TraceLog, monkeypatch: pytest.MonkeyPatch) -> None:
    log.extend(SPANS)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(NbcomposeError, match=r"pip install pandas \(nbcompose.trace\(\) draws"):
        nbcompose.traces()
    assert repr(nbcompose.trace()) == DRAWN


def test_a_file_for_perfetto(log: TraceLog, tmp_path: Path) -> None:
    log.extend([*SPANS, EMBED._replace(trace_id=7, span_id=12)])
    api.save_chrome_trace(tmp_path / "all.json")
    api.save_chrome_trace(tmp_path / "one.json", ID)
    nbcompose.trace(ID).save(tmp_path / "same.json")

    everything, one, same = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("all", "one", "same"))
    check_document(everything)
    assert len([e for e in of_kind(everything, "X") if "span" in e["args"]]) == 5
    assert one == same == trace_events(SPANS)
