"""Handlers of the HTTP routes: calls of apis, streams, health, metrics, documentation.

Each handler gets an exchange that has been let in, with its whole body, and sends one reply on it. Connections,
access and routing are not known here.

NDJSON: one JSON value a line; an error in mid-stream is a last line {"error": {…}}.
Plain text, of items that are texts: nothing but they; after an error the connection is closed in mid-reply, since no
text could tell of one.
Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html): each item is the `data` of a
message; `event: end` is the last one of a complete stream, `event: error` of one that failed.
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
    """What an HTTP server needs of the replica that it serves."""

    @property
    def spec(self) -> ServiceSpec: ...

    @property
    def schemas(self) -> Mapping[str, ApiSchema]:
        """By the api's name."""

    def context(self, parent: Parent | None, timeout: float | None) -> CallContext:
        """The context of a call from outside: what it comes from, and seconds, where the caller told them."""

    async def invoke(self, api: ApiSpec, arguments: dict[str, Any], context: CallContext) -> Any:
        """Call a unary api with validated arguments; the result is checked. Raises what the call raises."""

    def stream(self, api: ApiSpec, arguments: dict[str, Any], context: CallContext) -> AsyncGenerator[Any, None]:
        """Call a streaming api; the items are checked."""

    def refused(self, api: ApiSpec, error: Exception) -> None:
        """Count a call that is not made, since something is wrong with its request."""

    def answered(self, route: str, status: int) -> None:
        """Count an answer; `route` is "" for a path that there is not."""

    async def ready(self) -> list[str]:
        """Why the service, or one below it, cannot answer; empty when all can."""

    async def metric_families(self) -> list[Metric]:
        """Those of all replicas of the service."""


class ApiEndpoint:
    """Calls one api."""

    def __init__(self, runtime: RuntimeLike, api: ApiSpec) -> None:
        self._runtime = runtime
        self._api = api
        self._schema = runtime.schemas[api.name]
        types = self._schema.media_types()
        self._offers = offers(types) if api.stream else types
        self._encoding = asyncio.Lock()  # of one result at a time, which may be the same image

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
            if len(self._offers) > 1:  # which of them depends on the result
                form = choose(accept, self._schema.forms(value))
            if self._schema.gives_file:  # to read one, or to encode an image, may take long
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
        async with exchange.site.reading:  # one at a time: each holds the interpreter's lock for most of it
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
    """What is known about the service: health, metrics, the OpenAPI document and its page."""

    def __init__(self, runtime: RuntimeLike, *, needs_token: bool) -> None:
        self._runtime = runtime
        self._needs_token = needs_token
        self._openapi: bytes | None = None

    async def healthz(self, exchange: Exchange) -> None:
        """The process is alive and its loop turns."""
        exchange.send(json_reply({"status": "ok"}))

    async def readyz(self, exchange: Exchange) -> None:
        """The service and everything below it can answer."""
        reasons = await self._runtime.ready()
        if reasons:
            exchange.send(json_reply({"status": "not ready", "reasons": reasons}, 503))
        else:
            exchange.send(json_reply({"status": "ready"}))

    async def metrics(self, exchange: Exchange) -> None:
        """Prometheus text, or OpenMetrics where `Accept` asks for it."""
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
        # Relative, so that it holds behind a proxy that serves this below a path of its own.
        exchange.send(Reply(302, media_type="", headers={"Location": "docs"}))


class _Collected:
    """Families as the collector that prometheus_client's encoders ask."""

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
    """How items, errors and the end look on the line.

    `of`: what an item itself is written as. `before_error`: None where an error cannot be told. `idle`: what says
    "still here" without being an item.
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
        # A message without data is not dispatched by browsers, so the end has some.
        end=b"event: end\ndata: {}\n\n",
        idle=b": still here\n\n",
    ),
    TEXT: StreamForm(content_type(TEXT), of=TEXT, before_error=None),
}


def offers(item_types: Collection[str]) -> tuple[str, ...]:
    """The forms of a stream whose items may be written as `item_types`, the default first."""
    return tuple(media_type for media_type, form in FORMS.items() if form.of in item_types)


class ItemStream:
    """Sends one stream on one exchange. `dump` makes bytes of an item, as what the form says an item is."""

    def __init__(self, exchange: Exchange, form: StreamForm, dump: Callable[[Any], bytes]) -> None:
        self._exchange = exchange
        self._form = form
        self._dump = dump
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()  # when a flush, or the quiet after the last one, began
        self._timer: asyncio.TimerHandle | None = None

    async def send(self, items: AsyncGenerator[Any, None]) -> None:
        """Send all of `items` and the end, or the error that they end in; then close them, also when nobody listens.

        An error before anything was sent is raised, for a reply with a status of its own.
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
        except BaseException as error:  # a CancelledError of the api's own too
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
        """Say "still here" after a quiet while, and hang up on a reader that takes nothing."""
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
