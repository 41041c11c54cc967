"""Handlers of the HTTP routes: calls of apis, streams, health, metrics, documentation.

Each handler gets an admitted exchange with its whole body, and sends one reply on it. Access control and routing are
done before. Formats of streams:

- NDJSON: one JSON value per line; an error in mid-stream is a last line {"error": {…}}.
- Plain text, for items that are texts: only the items; after an error the connection is closed in mid-reply, since the
  text could not be distinguished from an item.
- Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html): each item is the `data` of a
  message; a complete stream ends with `event: end`, a failed one with `event: error`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Protocol

from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from pydantic_core import to_json
from tornado.httputil import HTTPHeaders
from tornado.iostream import StreamClosedError

from nbcompose._replica.http.access import header
from nbcompose._replica.http.docs import asset
from nbcompose._replica.http.exchange import Exchange
from nbcompose._replica.http.requests import ACCEPTED, decoded, read_arguments, takes_long
from nbcompose._replica.http.responses import (
    JSON,
    TEXT,
    Reply,
    choose,
    content_type,
    file_name,
    json_reply,
    reply_aside,
)
from nbcompose._schema import ApiSchema, TempFiles, openapi
from nbcompose._spec import ApiSpec, ServiceSpec
from nbcompose._tracing import CallContext, Parent, parse_traceparent
from nbcompose._user_exceptions import contained
from nbcompose.errors import BadRequest, CallError

TIMEOUT_HEADER = "X-Request-Timeout"


class RuntimeLike(Protocol):
    """Replica interface that the HTTP server uses."""

    @property
    def spec(self) -> ServiceSpec: ...

    @property
    def schemas(self) -> Mapping[str, ApiSchema]:
        """Schemas by name of the api."""

    def context(self, parent: Parent | None, timeout: float | None) -> CallContext:
        """Return the context of a call over HTTP. `parent`: its trace; `timeout`: in seconds (None: not given)."""

    async def invoke(self, api: ApiSpec, arguments: dict[str, Any], context: CallContext) -> Any:
        """Call a unary api with validated arguments; the result is validated. Raises what the call raises."""

    def stream(self, api: ApiSpec, arguments: dict[str, Any], context: CallContext) -> AsyncGenerator[Any, None]:
        """Call a streaming api; the items are validated."""

    def refused(self, api: ApiSpec, error: Exception) -> None:
        """Count a call rejected because of its request."""

    def answered(self, route: str, status: int) -> None:
        """Count a response; `route` is "" for an unknown path."""

    async def ready(self) -> list[str]:
        """Return why the service, or one of its dependencies, cannot answer; empty if all can."""

    async def metric_families(self) -> list[Metric]:
        """Return the metrics of all replicas of the service."""


class ApiEndpoint:
    """Handler of one api's route."""

    def __init__(self, runtime: RuntimeLike, api: ApiSpec) -> None:
        self._runtime = runtime
        self._api = api
        self._schema = runtime.schemas[api.name]
        types = self._schema.media_types()
        self._offers = offers(types) if api.stream else types
        self._encoding = asyncio.Lock()  # encode one result at a time: several may be the same image object

    async def __call__(self, exchange: Exchange) -> None:
        accept = header(exchange.headers, "Accept")
        with TempFiles():
            try:
                form = choose(accept, self._offers)
                context = exchange.context = self._context(exchange.headers)
                if context.deadline is not None:
                    exchange.due(context.deadline)
                arguments = await self._arguments(exchange)
            except CallError as error:
                self._runtime.refused(self._api, error)
                raise
            if self._api.stream:
                await self._stream(exchange, FORMS[form], arguments, context)
                return
            value = await self._runtime.invoke(self._api, arguments, context)
            if len(self._offers) > 1:  # the possible forms depend on the result
                form = choose(accept, self._schema.forms(value))
            if self._schema.gives_file:  # reading a file, or encoding an image, may take long
                async with self._encoding:
                    data = await asyncio.to_thread(self._schema.encode, value, form)
            else:
                data = self._schema.encode(value, form)
        exchange.send(Reply(200, data, content_type(form), _headers(value) if form != JSON else {}))

    async def _arguments(self, exchange: Exchange) -> dict[str, Any]:
        if exchange.query:
            raise BadRequest(f"{self._api.name} takes its parameters in the body, not after a '?' in the address")
        body = await exchange.body()
        encoding = header(exchange.headers, "Content-Encoding")
        if encoding:
            exchange.reply_headers["Accept-Encoding"] = ACCEPTED  # RFC 9110, section 12.5.3
            body = await decoded(body, encoding, exchange.site.max_body)
        kind = header(exchange.headers, "Content-Type")
        if not takes_long(self._schema, kind, len(body)):
            return read_arguments(self._schema, kind, body)
        async with exchange.site.reading:  # one at a time: each holds the GIL most of the time
            return await asyncio.to_thread(read_arguments, self._schema, kind, body)

    async def _stream(self, exchange: Exchange, form: StreamForm, arguments: Any, context: CallContext) -> None:
        dump = self._schema.dump_json if form.of == JSON else self._schema.dump_text
        await ItemStream(exchange, form, dump).send(self._runtime.stream(self._api, arguments, context))

    def _context(self, headers: HTTPHeaders) -> CallContext:
        traceparent = header(headers, "traceparent")
        timeout = header(headers, TIMEOUT_HEADER)
        return self._runtime.context(
            None if traceparent is None else parse_traceparent(traceparent, header(headers, "tracestate") or ""),
            None if timeout is None else min(_seconds(timeout), self._runtime.spec.traffic.timeout),
        )


class ServiceEndpoints:
    """Handlers of the routes about the service: health, metrics, the OpenAPI document and its page."""

    def __init__(self, runtime: RuntimeLike, *, needs_token: bool) -> None:
        self._runtime = runtime
        self._needs_token = needs_token
        self._openapi: bytes | None = None

    async def healthz(self, exchange: Exchange) -> None:
        """Liveness: the process is alive and its event loop runs."""
        exchange.send(json_reply({"status": "ok"}))

    async def readyz(self, exchange: Exchange) -> None:
        """Readiness: the service and its dependencies can answer (200), or not (503)."""
        reasons = await self._runtime.ready()
        if reasons:
            exchange.send(json_reply({"status": "not ready", "reasons": reasons}, 503))
        else:
            exchange.send(json_reply({"status": "ready"}))

    async def metrics(self, exchange: Exchange) -> None:
        """Metrics as Prometheus text, or OpenMetrics if `Accept` asks for it."""
        encode, media_type = choose_encoder(header(exchange.headers, "Accept") or "")
        exchange.send(Reply(200, encode(_Collected(await self._runtime.metric_families())), media_type))

    async def openapi(self, exchange: Exchange) -> None:
        if self._openapi is None:
            runtime = self._runtime
            self._openapi = to_json(openapi(runtime.spec, runtime.schemas, needs_token=self._needs_token))
        exchange.send(Reply(200, self._openapi))

    async def docs(self, exchange: Exchange) -> None:
        exchange.send(asset(exchange.path))

    async def root(self, exchange: Exchange) -> None:
        # Relative, so that it works behind a proxy that adds a path prefix.
        exchange.send(Reply(302, media_type="", headers={"Location": "docs"}))


class _Collected:
    """Metric families as a collector for prometheus_client's encoders."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _headers(value: Any) -> dict[str, str]:
    return {"Content-Disposition": file_name(value.name)} if isinstance(value, PurePath) else {}


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise BadRequest(f"{TIMEOUT_HEADER} is a number of seconds, not {text!r}")
    return seconds


NDJSON = "application/x-ndjson"
SSE = "text/event-stream"


@dataclass(frozen=True, slots=True)
class StreamForm:
    """Format of a stream: how items, errors and the end are written.

    `of`: media type of an item. `before`, `after`: bytes around an item. `before_error`: bytes before an error; None if
    errors cannot be written. `idle`: a keep-alive message that is not an item.
    """

    media_type: str
    of: str = JSON
    before: bytes = b""
    after: bytes = b""
    before_error: bytes | None = b""
    end: bytes = b""
    idle: bytes = b""


FORMS = {
    NDJSON: StreamForm(NDJSON, after=b"\n"),
    SSE: StreamForm(
        SSE,
        before=b"data: ",
        after=b"\n\n",
        before_error=b"event: error\ndata: ",
        # Browsers do not dispatch a message without data, so the end has some.
        end=b"event: end\ndata: {}\n\n",
        idle=b": still here\n\n",
    ),
    TEXT: StreamForm(content_type(TEXT), of=TEXT, before_error=None),
}


def offers(item_types: Collection[str]) -> tuple[str, ...]:
    """Return the formats of a stream whose items may be written as `item_types`, the default first."""
    return tuple(media_type for media_type, form in FORMS.items() if form.of in item_types)


class ItemStream:
    """Sends one stream on one exchange. `dump` encodes an item as the media type that the format specifies (`of`)."""

    def __init__(self, exchange: Exchange, form: StreamForm, dump: Callable[[Any], bytes]) -> None:
        self._exchange = exchange
        self._form = form
        self._dump = dump
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()  # when the current write, or the pause after the last one, started
        self._timer: asyncio.TimerHandle | None = None

    async def send(self, items: AsyncGenerator[Any, None]) -> None:
        """Send all `items` and the end, or the error that they raise; then close them, even if the client is gone.

        An error before anything was sent is raised, so that the reply can have the error's status.
        """
        form = self._form
        self._beat()
        try:
            async for item in items:
                await self._write(form.before + self._dump(item) + form.after)
                if self._exchange.closed:
                    return
            await self._write(form.end)
            self._exchange.end()
        except BaseException as error:  # including a CancelledError raised by the api itself
            if not self._exchange.replied:
                raise
            await self._tell(error)
        finally:
            if self._timer is not None:
                self._timer.cancel()
            await items.aclose()

    async def _tell(self, error: BaseException) -> None:
        if self._exchange.closed:
            return
        reply = await reply_aside(contained(error), trusted=self._exchange.site.access.trusted)
        if self._form.before_error is None:
            self._exchange.hang_up()
            return
        await self._write(self._form.before_error + reply.body + self._form.after)
        self._exchange.end()

    async def _write(self, chunk: bytes) -> None:
        if self._exchange.closed:
            return
        self._exchange.writing, self._since = True, self._loop.time()
        try:
            await self._put(chunk)
        except StreamClosedError:
            self._exchange.connection_lost()
        finally:
            self._exchange.writing, self._since = False, self._loop.time()

    def _put(self, chunk: bytes) -> asyncio.Future[None]:
        if self._exchange.replied:
            return self._exchange.write(chunk)
        return self._exchange.begin(self._form.media_type, chunk)

    def _beat(self) -> None:
        """Send a keep-alive message after a pause without items, and disconnect a reader that takes no data."""
        limits = self._exchange.site.limits
        quiet = self._loop.time() - self._since
        delay = limits.heartbeat
        if self._exchange.closed:
            return
        if self._exchange.writing:
            if quiet >= limits.stall:
                self._exchange.hang_up()
                return
            delay = limits.stall - quiet
        elif quiet < limits.heartbeat:
            delay = limits.heartbeat - quiet
        else:
            self._put(self._form.idle)
            self._since = self._loop.time()
        self._timer = self._loop.call_later(delay, self._beat)
