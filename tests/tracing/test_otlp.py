"""Spans of calls at an OpenTelemetry collector: a real graph, a real HTTP server, OpenTelemetry's own messages."""

from __future__ import annotations

import logging
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcompose._tracing import Span, exporter, parse_traceparent, sample
from nbcompose._tracing.otlp import SpanExporter, _Sender
from tests.conftest import Running
from tests.patience import PATIENCE, wait_until
from tests.serve_process import serving

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra `otel` is not installed")

from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtelSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased
from traced_services import SECRET, Front, Leaf

from tests.tracing.collector import Collector, collecting

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets variables of OpenTelemetry; those of the one who runs the tests do not count."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)

    def use(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return use


@pytest.fixture(autouse=True)
def sampling_is_as_before() -> Iterator[None]:
    yield
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(ENDPOINT, raising=False)
        exporter()


@contextmanager
def graph(**options: object) -> Iterator[Running]:
    """Leaf and Front in replicas of a registry that is made with the present variables."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NBCOMPOSE_PRELOAD", "json")
        running = Running()
        try:
            running.up(Leaf, Front, **options)
            yield running
        finally:
            running.close()


# -- what is sent


@pytest.mark.system
def test_calls_of_a_graph(collector: Collector, settings: Callable[..., None]) -> None:
    settings(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="10")
    with graph() as running:
        front = running.registry.proxy("Front")
        assert front.both(1) == 4
        root, *calls = collector.named("Front/both", "Leaf/add", "Leaf/add")
        [ours] = {s.trace_id for spans in running.registry.collect_traces().latest() for s in spans}
        spans = {s.span_id: s for s in running.registry.traces.trace(ours)}
    assert collector.paths == {"/v1/traces"}
    assert len(collector.spans) == 3
    assert [s.span.name for s in calls] == ["Leaf/add", "Leaf/add"]
    assert root.parent == ""
    assert {s.parent for s in calls} == {root.id}
    for sent in collector.spans:
        own = spans[int(sent.id, 16)]
        assert int(sent.trace, 16) == own.trace_id
        assert sent.span.kind == OtelSpan.SPAN_KIND_SERVER
        assert sent.span.status.code == Status.STATUS_CODE_UNSET
        assert sent.span.start_time_unix_nano == round(own.start * 1e9)
        assert sent.span.end_time_unix_nano == round((own.start + own.duration) * 1e9)
        assert sent.scope == "nbcompose"
        assert sent.resource["service.name"] == own.service
        assert sent.resource["service.instance.id"].endswith(f"/{own.service}/0")
        assert sent.resource["telemetry.sdk.name"] == "opentelemetry"
        assert sent.attributes == {
            "rpc.system.name": "nbcompose",
            "rpc.method": f"{own.service}/{own.api}",
            "nbcompose.replica": 0,
            "nbcompose.queue.duration": own.queued,
        }
        assert sent.events == {}


@pytest.mark.system
def test_a_stream_an_error_and_a_call_that_is_given_up(collector: Collector, settings: Callable[..., None]) -> None:
    settings(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{collector.url}/otlp", OTEL_EXPORTER_OTLP_COMPRESSION="gzip")
    settings(OTEL_BSP_SCHEDULE_DELAY="10")
    with graph() as running:
        front = running.registry.proxy("Front")
        assert "".join(front.letters(SECRET)) == SECRET
        with pytest.raises(LookupError):
            front.fail(SECRET)
        stream = front.hang()
        assert next(stream) == "begun"
        stream.close()
        streamed, failed, below, left = collector.named("Front/letters", "Front/fail", "Leaf/fail", "Front/hang")
    assert collector.paths == {"/otlp"}
    first, last = streamed.span.events
    assert (first.name, last.name) == ("nbcompose.first_item", "nbcompose.last_item")
    assert streamed.span.start_time_unix_nano <= first.time_unix_nano <= last.time_unix_nano
    assert last.time_unix_nano <= streamed.span.end_time_unix_nano

    assert below.parent == failed.id
    for sent in (failed, below):
        assert (sent.span.status.code, sent.span.status.message) == (Status.STATUS_CODE_ERROR, "LookupError")
        assert sent.attributes["error.type"] == "LookupError"
        assert sent.events == {"exception": {"exception.type": "LookupError"}}
    assert SECRET.encode() not in collector.bodies  # neither arguments nor texts of errors

    assert left.span.status.code == Status.STATUS_CODE_UNSET
    assert left.attributes["nbcompose.cancelled"] is True
    assert "error.type" not in left.attributes


@pytest.mark.system
def test_a_trace_that_began_outside(collector: Collector, settings: Callable[..., None]) -> None:
    settings(OTEL_EXPORTER_OTLP_ENDPOINT=f"{collector.url}/", OTEL_BSP_SCHEDULE_DELAY="10")
    with graph() as running:
        url = running.registry.url("Front")

        def ask(flags: str, x: int) -> None:
            headers = {"traceparent": f"00-{TRACE}-{CALLER}-{flags}", "tracestate": "rojo=1,congo=2"}
            assert httpx.post(f"{url}/both", json={"x": x}, headers=headers).json() == 2 * x + 2

        ask("00", 1)  # not sampled: it is known here, and not sent
        ask("01", 2)
        sent = collector.named("Front/both", "Leaf/add", "Leaf/add")
        assert len(running.registry.collect_traces().trace(int(TRACE, 16))) == 6
    assert len(collector.spans) == 3
    assert {s.trace for s in sent} == {TRACE}
    assert {s.span.trace_state for s in sent} == {"rojo=1,congo=2"}
    [root] = [s for s in sent if s.span.name == "Front/both"]
    assert root.parent == CALLER
    assert {s.parent for s in sent} == {CALLER, root.id}


@pytest.mark.system
def test_each_replica_is_an_instance(collector: Collector, settings: Callable[..., None]) -> None:
    settings(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="10")
    with graph() as running:
        running.registry.scale("Leaf", 2)
        leaf = running.registry.proxy("Leaf")

        def both_have_answered(_: Collector) -> bool:
            return len({s.resource["service.instance.id"] for s in collector.spans if s.span.name == "Leaf/add"}) == 2

        def ask() -> bool:
            leaf.add(1)
            return both_have_answered(collector)

        wait_until(ask, "both replicas have answered a call")
    found = {s.attributes["nbcompose.replica"]: s.resource["service.instance.id"] for s in collector.spans}
    assert {n: name.split("/", 1)[1] for n, name in found.items()} == {0: "Leaf/0", 1: "Leaf/1"}


@pytest.mark.system
def test_what_the_user_names_counts(collector: Collector, settings: Callable[..., None]) -> None:
    attributes = "deployment.environment.name=test,service.instance.id=mine"
    settings(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="10")
    settings(OTEL_SERVICE_NAME="shop", OTEL_RESOURCE_ATTRIBUTES=attributes)
    settings(OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20abc")
    with graph() as running:
        running.registry.proxy("Leaf").add(1)
        [sent] = collector.named("Leaf/add")
    assert sent.resource["service.name"] == "shop"
    assert sent.resource["service.instance.id"] == "mine"
    assert sent.resource["deployment.environment.name"] == "test"
    assert collector.headers[0]["authorization"] == "Bearer abc"


# -- which traces


@pytest.mark.system
@pytest.mark.parametrize(
    ("sampler", "argument", "fresh", "sampled", "unsampled"),
    [
        ("", "", True, True, False),
        ("parentbased_always_off", "", False, True, False),
        ("always_on", "", True, True, True),
        ("traceidratio", "0", False, False, False),
    ],
)
def test_samplers(
    sampler: str,
    argument: str,
    fresh: bool,
    sampled: bool,
    unsampled: bool,
    collector: Collector,
    settings: Callable[..., None],
) -> None:
    """Of a trace that begins here, of one that a caller samples, and of one that it does not."""
    settings(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_TRACES_SAMPLER=sampler, OTEL_TRACES_SAMPLER_ARG=argument)
    with graph() as running:
        url = running.registry.url("Front")

        def ask(flags: str) -> str:
            headers = {"traceparent": f"00-{TRACE}-{CALLER}-{flags}"} if flags else {}
            answer: str = httpx.post(f"{url}/traceparent", headers=headers).json()
            return answer[-2:]

        assert [ask(flags) == "01" for flags in ("", "01", "00")] == [fresh, sampled, unsampled]
        assert (running.registry.proxy("Front").traceparent()[-2:] == "01") is fresh  # it begins in this process
        assert len(running.registry.collect_traces().latest()) == 3
    assert len(collector.spans) == 2 * fresh + sampled + unsampled  # the last ones are sent when the owner stops


@given(st.integers(1, 2**128 - 1), st.floats(0, 1))
def test_ids_are_sampled_as_by_opentelemetry(trace_id: int, share: float) -> None:
    sample(share, False)
    parent = parse_traceparent(f"00-{trace_id:032x}-{CALLER}-00")
    assert parent is not None
    decided = TraceIdRatioBased(share).should_sample(None, trace_id, "").decision
    assert bool(parent.flags) is (decided is Decision.RECORD_AND_SAMPLE)


# -- connections


def test_a_connection_that_is_made_while_the_exporter_stops_is_closed(settings: Callable[..., None]) -> None:
    """A collector that hangs up is tried once more, also when the exporter has been told to stop meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)
        settings(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{listening.getsockname()[1]}")
        sender = _Sender()
        sending = threading.Thread(target=sender.send, args=([Span(1, 2, 0, "Leaf", "add", 0, 0.0, 1.0, 0.0, "")],))
        sending.start()
        first, _ = listening.accept()
        with first:
            assert first.recv(4)
            sender.stop()
        second, _ = listening.accept()
        with second:
            second.settimeout(PATIENCE)
            assert second.recv(65536)
            second.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            sending.join(PATIENCE)
            assert not sending.is_alive()
            sender.stop()
            while second.recv(65536):  # up to its end
                pass


# -- who sends, and when


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "nbcompose-otlp"]


@pytest.mark.system
@pytest.mark.parametrize("zygote", ["1", "0"])
def test_only_the_owner_sends_and_not_before_the_zygote_is_there(
    zygote: str, collector: Collector, settings: Callable[..., None]
) -> None:
    settings(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="10")
    settings(NBCOMPOSE_ZYGOTE=zygote, NBCOMPOSE_PRELOAD="json")
    running = Running()  # it has started the zygote
    try:
        assert threads() == []
        front = running.up(Front, Leaf)
        assert front.telemetry() == []
        collector.named("Front/telemetry")
        assert threads() == ["nbcompose-otlp"]
        running.registry.scale("Front", 2)  # forked while the owner sends
        assert [front.telemetry() for _ in range(8)] == [[]] * 8
        assert {bool(r.cold) for r in running.registry.status("Front").replicas} == {zygote == "0"}
    finally:
        running.close()
    assert threads() == []


@pytest.mark.system
def test_nbcompose_serve_sends_the_last_calls_when_it_is_stopped(collector: Collector) -> None:
    """Far from `OTEL_BSP_SCHEDULE_DELAY`, of which the default is 5 s."""
    variables: Any = {ENDPOINT: collector.url, "OTEL_BSP_SCHEDULE_DELAY": "1000000"}
    with serving("traced_services:Front", "--port", "0", **variables) as served:
        assert httpx.post(f"{served.url}/both", json={"x": 1}).json() == 4
        served.process.terminate()
        assert served.process.wait(PATIENCE) == 0
    assert sorted(s.span.name for s in collector.spans) == ["Front/both", "Leaf/add", "Leaf/add"]


KERNEL = """
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "nbcompose")
shell.run_cell('''%%service
class Echo:
    from nbcompose import api

    @api
    def say(self, text: str) -> str:
        return text
''')
assert shell.user_ns["Echo"].say("hello") == "hello"
"""


@pytest.mark.system
def test_a_notebook_sends_the_last_calls_when_it_ends(collector: Collector) -> None:
    environment = {**os.environ, ENDPOINT: collector.url, "NBCOMPOSE_PRELOAD": "json"}
    subprocess.run([sys.executable, "-c", KERNEL], env=environment, timeout=PATIENCE, check=True)
    assert [s.span.name for s in collector.spans] == ["Echo/say"]


# -- a collector that is not there, does not answer, or refuses


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def lost(running: Running) -> int:
    found = running.registry._publisher._exporter
    assert found is not None
    return found.lost


@pytest.mark.system
def test_a_collector_that_is_not_there(settings: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    settings(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://user:hunter2@127.0.0.1:{port}", OTEL_BSP_SCHEDULE_DELAY="10")
    settings(OTEL_EXPORTER_OTLP_TIMEOUT="0.1")
    with graph() as running:
        leaf = running.registry.proxy("Leaf")
        assert leaf.add(1) == 2
        wait_until(lambda: lost(running) == 1, "the span is given up")
        assert leaf.add(2) == 3
        wait_until(lambda: lost(running) == 2, "the second one too")
    [warning] = warnings(caplog)
    why = "(ConnectionError|it did not answer)"  # it depends on how often it was tried within the time
    assert re.fullmatch(f"spans were not sent to http://127.0.0.1:{port}: {why}. It is logged once", warning)


@pytest.mark.system
def test_a_collector_that_does_not_answer_holds_nobody(
    collector: Collector, settings: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    settings(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="10", OTEL_EXPORTER_OTLP_TIMEOUT="1000")
    settings(OTEL_BSP_MAX_QUEUE_SIZE="3", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="1")
    collector.held.clear()
    with graph() as running:
        leaf = running.registry.proxy("Leaf")
        assert leaf.add(1) == 2
        collector.named("Leaf/add")
        assert [leaf.add(x) for x in range(10)] == list(range(1, 11))
        running.registry.collect_traces()
        assert lost(running) == 7
    # It has stopped, though the collector has answered nothing.
    assert not collector.held.is_set()
    assert lost(running) == 10
    assert warnings(caplog) == [
        f"spans were not sent to {collector.url}: more than 3 had to wait (OTEL_BSP_MAX_QUEUE_SIZE). It is logged once"
    ]


@pytest.mark.system
def test_a_collector_that_refuses_is_named_and_headers_are_not(
    collector: Collector, settings: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    settings(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="10")
    settings(OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer hunter2,hunter3 hunter4")  # one is no header
    collector.status = 401
    with graph() as running:
        running.registry.proxy("Leaf").add(1)
        wait_until(lambda: lost(running) == 1, "it is refused")
    assert collector.headers[0]["authorization"] == "Bearer hunter2"
    assert warnings(caplog) == [f"spans were not sent to {collector.url}: HTTP status 401. It is logged once"]
    assert "hunter" not in caplog.text


# -- whether anything is sent


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {ENDPOINT: ""},
        {ENDPOINT: "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"},
        {ENDPOINT: "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"},
        {ENDPOINT: "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "console"},
    ],
)
def test_nothing_is_sent(
    variables: dict[str, str], settings: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    settings(**variables)
    assert exporter() is None
    assert warnings(caplog) == []


def test_the_library_is_missing(settings: Callable[..., None]) -> None:
    settings(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    code = "import sys; sys.modules['opentelemetry'] = None; from nbcompose._tracing import exporter; print(exporter())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout == "None\n"
    assert done.stderr == (
        "no traces are sent to OTEL_EXPORTER_OTLP_ENDPOINT: OpenTelemetry is not installed: "
        'pip install "nbcompose[otel]"\n'
    )


def test_a_protocol_that_is_not_spoken(settings: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    settings(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4317", OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    assert exporter() is None
    [warning] = warnings(caplog)
    assert "OTEL_EXPORTER_OTLP_PROTOCOL is grpc, and nbcompose speaks http/protobuf only" in warning


def test_a_sampler_that_is_not_known(settings: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    settings(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", OTEL_TRACES_SAMPLER="xray")
    assert isinstance(exporter(), SpanExporter)
    [warning] = warnings(caplog)
    assert warning.startswith("OTEL_TRACES_SAMPLER=xray is not known, so every trace is sampled; known: ")


async def test_an_exporter_that_has_nothing_to_send_ends_at_once(
    collector: Collector, settings: Callable[..., None]
) -> None:
    settings(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    found = exporter()
    assert found is not None
    await found.close()  # it has not begun
    found.add([Span(1, 2, 0, "Leaf", "add", 0, 0.0, 1.0, 0.0, "", trace_flags=0)])  # not sampled
    await found.close()
    assert threads() == []
    assert (collector.spans, found.lost) == ([], 0)
