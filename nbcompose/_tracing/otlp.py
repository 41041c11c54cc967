"""Sends the spans of sampled traces to an OpenTelemetry collector, as OTLP over HTTP (the extra `otel`).

Used in the owner process only. OpenTelemetry is imported in the exporter's own thread, which starts when the first
service is ready: no import and no thread before the zygote is started, and none in a replica.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import logging
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from nbcompose import __version__, settings
from nbcompose._tracing.spans import CANCELLED, SAMPLED, Span, sample

FLUSH = 2.0  # seconds that spans have to be sent when the owner stops
# What makes a session of its own for OpenTelemetry's exporter.
PROVIDERS = tuple(f"OTEL_PYTHON_EXPORTER_OTLP_HTTP_{kind}CREDENTIAL_PROVIDER" for kind in ("", "TRACES_"))

logger = logging.getLogger("nbcompose.tracing")


def exporter() -> SpanExporter | None:
    """Return the exporter that the environment asks for, and sample as it says; None: nothing is to be sent.

    Logs what keeps spans from being sent although a collector is named.
    """
    wanted = settings.trace_export()
    named, share, follows = settings.trace_sampler()
    sample(share, follows)
    if wanted is None:
        return None
    if wanted.protocol != "http/protobuf":
        logger.warning(
            "no traces are sent: OTEL_EXPORTER_OTLP_PROTOCOL is %s, and nbcompose speaks http/protobuf only, which "
            "collectors take at port 4318",
            wanted.protocol,
        )
        return None
    if not _is_installed():
        logger.warning(
            "no traces are sent to OTEL_EXPORTER_OTLP_ENDPOINT: OpenTelemetry is not installed: "
            'pip install "nbcompose[otel]"'
        )
        return None
    if named and named.removeprefix("parentbased_") not in settings.SAMPLERS:
        known = ", ".join(f"[parentbased_]{name}" for name in settings.SAMPLERS)
        logger.warning("OTEL_TRACES_SAMPLER=%s is not known, so every trace is sampled; known: %s", named, known)
    return SpanExporter(wanted)


def _is_installed() -> bool:
    with contextlib.suppress(ModuleNotFoundError):
        return importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    return False


class SpanExporter:
    """Sends spans from a thread of its own. `add` does not wait; where the queue is full, the oldest spans are lost.

    `lost` counts the spans that were not sent; the first loss is logged.
    """

    def __init__(self, wanted: settings.TraceExport) -> None:
        self._wanted = wanted
        self._spans: deque[Span] = deque(maxlen=wanted.queue)
        self._news = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._sender: _Sender | None = None
        self.lost = 0

    def start(self) -> None:
        """Start the thread, once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="nbcompose-otlp", daemon=True)
            with contextlib.suppress(RuntimeError):  # the interpreter is shutting down and starts no threads
                self._thread.start()

    def add(self, spans: Iterable[Span]) -> None:
        """Send the sampled ones among `spans`, soon."""
        self.start()
        sampled = [span for span in spans if span.trace_flags & SAMPLED]
        if not sampled:
            return
        with self._news:
            lost = max(0, len(self._spans) + len(sampled) - self._wanted.queue)
            self._spans.extend(sampled)
            self._news.notify()
        self._lose(lost, f"more than {self._wanted.queue} had to wait (OTEL_BSP_MAX_QUEUE_SIZE)")

    async def close(self) -> None:
        """Send what waits, within `FLUSH` seconds; the rest is lost."""
        thread = self._thread
        if thread is None:
            return
        with self._news:
            self._closing = True
            self._news.notify()
        if thread.is_alive():
            try:
                await asyncio.to_thread(thread.join, FLUSH)
            except RuntimeError:  # the interpreter is shutting down and starts no threads
                thread.join(FLUSH)
        with self._news:
            left = len(self._spans)
            self._spans.clear()
        self._lose(left, f"they were not taken within {FLUSH:g} s when nbcompose stopped")
        if thread.is_alive() and self._sender is not None:
            self._sender.stop()

    def _lose(self, count: int, why: str) -> None:
        first = count > 0 and self.lost == 0
        self.lost += count
        if first:
            logger.warning("spans were not sent to %s: %s. It is logged once", _origin(self._wanted.endpoint), why)

    def _run(self) -> None:
        """Send spans until the exporter is closed. Runs in the thread."""
        with _quiet() as failure:
            while spans := self._take():
                failure.text = "it did not answer"
                try:
                    self._sender = self._sender or _Sender()
                    sent = self._sender.send(spans)
                except Exception as error:
                    sent, failure.text = False, type(error).__name__  # its text may quote a header
                if not sent:
                    self._lose(len(spans), failure.text)
            if self._sender is not None:
                self._sender.stop()

    def _take(self) -> list[Span]:
        """Wait for spans, and for others to be sent with them; empty when the exporter is closed."""
        with self._news:
            self._news.wait_for(lambda: self._spans or self._closing)
            self._news.wait_for(lambda: len(self._spans) >= self._wanted.batch or self._closing, self._wanted.delay)
            return [self._spans.popleft() for _ in range(min(len(self._spans), self._wanted.batch))]


def _origin(endpoint: str) -> str:
    """The collector as a log may have it: without user, password and path."""
    url = urlsplit(endpoint)
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}"


class _Failure(logging.Filter):
    """Keeps what OpenTelemetry logs in this thread from being written: it logs each failure, and may quote headers.

    `text`: the HTTP status, or the type of the exception, that it logged last.
    """

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread != self._thread:
            return True
        for value in record.args if isinstance(record.args, tuple) else ():
            if isinstance(value, int) and value >= 100:
                self.text = f"HTTP status {value}"
            elif isinstance(value, Exception):
                self.text = type(value).__name__
        return False


@contextlib.contextmanager
def _quiet() -> Iterator[_Failure]:
    """Filter all loggers of OpenTelemetry."""
    with contextlib.suppress(Exception):  # raised again by `_Sender`
        importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    failure = _Failure()
    loggers = [logging.getLogger(n) for n in logging.root.manager.loggerDict if n.split(".")[0] == "opentelemetry"]
    for each in loggers:
        each.addFilter(failure)
    try:
        yield failure
    finally:
        for each in loggers:
            each.removeFilter(failure)


class _Sender:
    """OpenTelemetry's exporter, and what makes its spans of ours. Created and used in the thread."""

    def __init__(self) -> None:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk import resources
        from opentelemetry.sdk import trace as sdk
        from opentelemetry.sdk.trace.export import SpanExportResult
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        from opentelemetry.sdk.version import __version__ as version

        self._trace, self._sdk, self._resource = trace, sdk, resources.Resource
        self._success = SpanExportResult.SUCCESS
        self._scope = InstrumentationScope("nbcompose", __version__)
        # Not `Resource.create`, which runs detectors in threads: there are none to be had when an interpreter ends.
        library = {"name": "opentelemetry", "language": "python", "version": version}
        self._library = {f"telemetry.sdk.{name}": value for name, value in library.items()}
        self._named = resources.OTELResourceDetector().detect()  # by the user, in OTEL_SERVICE_NAME and the like
        self._owner = os.urandom(16).hex()
        self._session: Any = None
        if not any(map(os.environ.get, PROVIDERS)):
            self._session = importlib.import_module("requests").Session()
        self._exporter = OTLPSpanExporter(session=self._session)

    def send(self, spans: Sequence[Span]) -> bool:
        """Send spans, and say whether they were taken. Waits for the collector."""
        replicas = {(span.service, span.replica): self._replica(span) for span in spans}
        made = [self._made(span, replicas[span.service, span.replica]) for span in spans]
        return bool(self._exporter.export(made) is self._success)

    def stop(self) -> None:
        """Try no more, and close all connections. From any thread, and again in the thread after the last `send`: one
        that is tried again meanwhile connects once more.
        """
        # A session lets go of its pools, and the garbage collector closes them where an error still refers to them.
        for adapter in self._session.adapters.values() if self._session is not None else ():
            pools = adapter.poolmanager.pools
            for pool in filter(None, map(pools.get, pools.keys())):
                pool.close()
        self._exporter.shutdown()

    def _replica(self, span: Span) -> Any:
        """The resource that a span is about: each nbcompose service is a service, each replica an instance of it."""
        own = {
            **self._library,
            "service.name": span.service,
            "service.instance.id": f"{self._owner}/{span.service}/{span.replica}",
        }
        return self._resource(own).merge(self._named)

    def _made(self, span: Span, resource: Any) -> Any:
        trace = self._trace
        state = trace.TraceState.from_header([span.trace_state]) if span.trace_state else None
        flags = trace.TraceFlags(span.trace_flags)
        parent = trace.SpanContext(span.trace_id, span.parent_id, True, flags, state) if span.parent_id else None
        failed = span.error not in ("", CANCELLED)
        return self._sdk.ReadableSpan(
            f"{span.service}/{span.api}",
            context=trace.SpanContext(span.trace_id, span.span_id, False, flags, state),
            parent=parent,
            resource=resource,
            attributes=_attributes(span),
            events=[self._sdk.Event(name, given, _nanoseconds(at)) for name, at, given in _events(span)],
            kind=trace.SpanKind.SERVER,  # spans are of the replicas that answered
            status=trace.Status(trace.StatusCode.ERROR, span.error) if failed else trace.Status(),
            start_time=_nanoseconds(span.start),
            end_time=_nanoseconds(span.start + span.duration),
            instrumentation_scope=self._scope,
        )


def _attributes(span: Span) -> dict[str, Any]:
    """Attributes by the conventions for RPC (https://opentelemetry.io/docs/specs/semconv/rpc/), and our own."""
    found: dict[str, Any] = {
        "rpc.system.name": "nbcompose",
        "rpc.method": f"{span.service}/{span.api}",
        "nbcompose.replica": span.replica,
        "nbcompose.queue.duration": span.queued,
    }
    if span.input_wait:
        found["nbcompose.input.duration"] = span.input_wait
    if span.error == CANCELLED:
        found["nbcompose.cancelled"] = True
    elif span.error:
        found["error.type"] = span.error
    return found


def _events(span: Span) -> Iterator[tuple[str, float, dict[str, Any]]]:
    """Name, time and attributes of what happened within a span. Of an error only its type: its text may quote data."""
    for name, after in (("nbcompose.first_item", span.first_item), ("nbcompose.last_item", span.last_item)):
        if after is not None:
            yield name, span.start + after, {}
    if span.error not in ("", CANCELLED):
        yield "exception", span.start + span.duration, {"exception.type": span.error}


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
