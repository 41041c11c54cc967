"""An OpenTelemetry collector on the loopback: takes OTLP over HTTP, decoded with OpenTelemetry's own messages."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.patience import PATIENCE


@dataclass
class Sent:
    """A span as it came, with what it is about."""

    resource: dict[str, Any]
    scope: str
    span: Span

    @property
    def attributes(self) -> dict[str, Any]:
        return plain(self.span.attributes)

    @property
    def events(self) -> dict[str, dict[str, Any]]:
        return {event.name: plain(event.attributes) for event in self.span.events}

    @property
    def trace(self) -> str:
        return self.span.trace_id.hex()

    @property
    def id(self) -> str:
        return self.span.span_id.hex()

    @property
    def parent(self) -> str:
        return self.span.parent_span_id.hex()


def plain(attributes: Any) -> dict[str, Any]:
    return {a.key: _value(a.value) for a in attributes}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    return None if kind is None else getattr(value, kind)


class Collector:
    """What was sent, and how it is answered. `held`: requests wait until it is set."""

    def __init__(self) -> None:
        self.spans: list[Sent] = []
        self.paths: set[str] = set()
        self.headers: list[dict[str, str]] = []
        self.bodies = b""
        self.status = 200
        self.held = threading.Event()
        self.held.set()
        self._news = threading.Condition()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer._take(self.path, dict(self.headers), body)
                outer.held.wait(PATIENCE)
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def until(self, condition: Callable[[Collector], object]) -> None:
        """Wait until what was sent meets a condition."""
        with self._news:
            assert self._news.wait_for(lambda: condition(self), PATIENCE), [s.span.name for s in self.spans]

    def named(self, *names: str) -> list[Sent]:
        """Wait for spans of these names, and return them; a name counts as often as it stands there."""
        wanted = {name: names.count(name) for name in names}
        self.until(lambda c: all(sum(s.span.name == n for s in c.spans) >= count for n, count in wanted.items()))
        return sorted((s for s in self.spans if s.span.name in wanted), key=lambda s: s.span.start_time_unix_nano)

    def _take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        if headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        found = [
            Sent(plain(of.resource.attributes), within.scope.name, span)
            for of in ExportTraceServiceRequest.FromString(body).resource_spans
            for within in of.scope_spans
            for span in within.spans
        ]
        with self._news:
            self.paths.add(path)
            self.headers.append(headers)
            self.bodies += body
            self.spans += found
            self._news.notify_all()


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield collector
    finally:
        collector.held.set()
        collector.server.shutdown()
        thread.join()
        collector.server.server_close()
