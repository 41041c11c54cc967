"""What a service serves over HTTP (`Site`): its routes, who may call them, and their handlers.

Each handler gets an admitted exchange with its whole body, and sends one reply on it. Formats of streams are in
`item_streams.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl

from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from pydantic_core import to_json

from nbcompose._replica.http.access import Access
from nbcompose._replica.http.docs import ASSETS, SET_TOKEN, asset, curl_line
from nbcompose._replica.http.exchange import Exchange, Handler, Limits
from nbcompose._replica.http.item_streams import FORMS, ItemStream, offers
from nbcompose._replica.http.requests import read_arguments, read_large, takes_long, unpacked
from nbcompose._replica.http.responses import JSON, Reply, choose, content_type, file_name, json_reply
from nbcompose._replica.http.stream_bodies import StreamBody, is_streamed
from nbcompose._rpc import Deadlines
from nbcompose._schema import SMALL, VERSIONS, ApiSchema, TempFiles, openapi
from nbcompose._spec import ApiSpec, ServiceSpec
from nbcompose._tracing import CallContext
from nbcompose._user_exceptions import clipped
from nbcompose.errors import BadRequest, CallError, MethodNotAllowed, UnknownApi, UnsupportedMediaType

if TYPE_CHECKING:
    from nbcompose._replica.http.openai_routes import OpenAIInterface


class Backend(Protocol):
    """What answers the calls of a site. Its arguments are validated, and so are its results and items."""

    @property
    def spec(self) -> ServiceSpec: ...

    @property
    def schemas(self) -> Mapping[str, ApiSchema]:
        """Schemas by name of the api."""

    async def invoke(
        self, api: ApiSpec, arguments: dict[str, Any], context: CallContext, encode: Callable[[Any], Any] | None = None
    ) -> Any:
        """Call a unary api; encode the result where `encode` is given. Raises what the call raises."""

    def stream(self, api: ApiSpec, arguments: dict[str, Any], context: CallContext) -> AsyncGenerator[Any, None]:
        """Call a streaming api."""

    def refused(self, api: str, error_type: str) -> None:
        """Count a call rejected because of its request."""

    def answered(self, route: str, status: int) -> None:
        """Count a response; `route` is "" for an unknown path."""

    async def language_models(self) -> list[str]:
        """Return the names of the language models of an instance."""

    async def ready(self) -> list[str]:
        """Return why the service, or one of its dependencies, cannot answer; empty if all can."""

    async def metric_families(self) -> list[Metric]:
        """Return the metrics of all replicas of the service."""


@dataclass(frozen=True, slots=True)
class HttpRoute:
    """Handler of a path. `open`: needs no token; `page`: a link on another site may open it."""

    path: str
    handler: Handler
    method: str = "GET"
    open: bool = False
    page: bool = False
    api: ApiSpec | None = None

    @property
    def methods(self) -> str:
        return "GET, HEAD, OPTIONS" if self.method == "GET" else f"{self.method}, OPTIONS"


class Site:
    """A service as it is served over HTTP: routes, access, limits, and the state that its exchanges share.

    Used on the loop on which it was made.
    """

    def __init__(self, backend: Backend, access: Access, limits: Limits | None = None) -> None:
        self.access = access
        self.limits = limits or Limits()
        self.answered = backend.answered
        self.deadlines = Deadlines(asyncio.get_running_loop())
        self.reading = asyncio.Lock()
        self._backend = backend
        self.renew()

    def renew(self) -> None:
        """Follow the service's new code, whose apis may differ."""
        backend = self._backend
        self.spec = backend.spec
        self.max_body = self.spec.http.max_body
        self._openapi: dict[str, dict[str, Any]] = {}  # by version
        self._openai = _openai_interface(backend) if self.spec.openai else None
        openai = {} if self._openai is None else self._openai.routes
        routes = [
            HttpRoute("/", self._root, open=True, page=True),
            *(HttpRoute(api.route, ApiEndpoint(backend, api), "POST", api=api) for api in self.spec.apis),
            *(HttpRoute(path, handler, method) for path, (method, handler) in openai.items()),
            HttpRoute("/healthz", self._healthz, open=True),
            HttpRoute("/readyz", self._readyz, open=True),
            HttpRoute("/metrics", self._metrics),
            HttpRoute("/openapi.json", self._describe),
            *(HttpRoute(path, self._docs, open=True, page=True) for path in ASSETS),
        ]
        # Built-in routes are last, so that no api can replace them.
        self._routes = {route.path: route for route in routes}

    # -- routing

    def admit(self, exchange: Exchange) -> Handler:
        """Return the handler of a request whose body has not been read. Raises CallError if it is not allowed."""
        headers, method = exchange.headers, exchange.method
        if self.access.cors_origins:
            exchange.reply_headers.update(self.access.cors_headers(headers.get("Origin")))
        route = self._routes.get(exchange.path)
        if self._openai is not None and exchange.path.startswith(self._openai.root):
            exchange.error_format = self._openai.error_format
            route = route or self._routes.get(self._openai.route_above(exchange.path))
        if route is not None:
            exchange.route = route.path
        if method == "OPTIONS":
            allowed = self.access.preflight_headers(headers, route.methods if route else "OPTIONS")
            exchange.reply_headers.update(allowed)
            return _nothing
        self.access.check(headers, token=route is None or not route.open, page=route is not None and route.page)
        if route is None:
            raise UnknownApi(self._unknown(exchange.path))
        if method != route.method and not (method == "HEAD" and route.method == "GET"):
            exchange.reply_headers["Allow"] = route.methods
            raise MethodNotAllowed(self._wrong_method(exchange, route))
        if route.api is not None and route.api.stream_params and is_streamed(exchange.headers.get("Content-Type")):
            exchange.read_as_it_comes()
        return route.handler

    def _unknown(self, path: str) -> str:
        apis = [f"  POST {api.route}  {api.signature}" for api in self.spec.apis]
        others = () if self._openai is None else self._openai.documented
        apis += [f"  {route.method} {route.path}  {route.summary}" for route in others]
        return "\n".join([f"{self.spec.name} has nothing at {path}; its apis:", *apis])

    def _wrong_method(self, exchange: Exchange, route: HttpRoute) -> str:
        if route.api is None:
            way = "is read with GET" if route.method == "GET" else f"takes {route.method}"
            return f"{exchange.path} {way}, not {exchange.method}"
        schema = self._backend.schemas[route.api.name]
        url = f"http://{exchange.headers.get('Host', '127.0.0.1')}{exchange.prefix}{route.api.route}"
        needs_token, saves = self.access.token is not None, schema.gives_file
        example = curl_line(url, schema.body_schema, needs_token=needs_token, saves=saves)
        token = f"\nNBCOMPOSE_TOKEN is the token; set it by: {SET_TOKEN}" if needs_token else ""
        return f"{route.api.name} is called with POST, not {exchange.method}; in a terminal:\n  {example}{token}"

    # -- handlers of what is about the service

    async def _healthz(self, exchange: Exchange) -> None:
        """Liveness: the process is alive and its event loop runs."""
        exchange.send(json_reply({"status": "ok"}))

    async def _readyz(self, exchange: Exchange) -> None:
        """Readiness: the service and its dependencies can answer (200), or not (503)."""
        reasons = await self._backend.ready()
        if reasons:
            exchange.send(json_reply({"status": "not ready", "reasons": reasons}, 503))
        else:
            exchange.send(json_reply({"status": "ready"}))

    async def _metrics(self, exchange: Exchange) -> None:
        """Metrics as Prometheus text, or OpenMetrics if `Accept` asks for it."""
        encode, media_type = choose_encoder(exchange.headers.get("Accept", ""))
        exchange.send(Reply(200, encode(_Collected(await self._backend.metric_families())), media_type))

    async def _describe(self, exchange: Exchange) -> None:
        version = dict(parse_qsl(exchange.query)).get("version", "3.1")
        if version not in VERSIONS:
            raise BadRequest(f"version={clipped(version)}: the document is there as {' and '.join(VERSIONS)}")
        if version not in self._openapi:
            needs_token = self.access.token is not None
            others = () if self._openai is None else self._openai.documented
            schemas = self._backend.schemas
            document = openapi(self.spec, schemas, needs_token=needs_token, version=version, others=others)
            self._openapi[version] = document
        servers = {"servers": [{"url": exchange.prefix}]} if exchange.prefix else {}
        exchange.send(Reply(200, to_json(self._openapi[version] | servers)))

    async def _docs(self, exchange: Exchange) -> None:
        exchange.send(asset(exchange.path))

    async def _root(self, exchange: Exchange) -> None:
        # Relative, so that it works behind a proxy that adds a path prefix.
        exchange.send(Reply(302, media_type="", headers={"Location": f"{exchange.relative}docs"}))


def _openai_interface(backend: Backend) -> OpenAIInterface:
    from nbcompose._replica.http.openai_routes import OpenAIInterface  # few services need it

    return OpenAIInterface(backend)


async def _nothing(exchange: Exchange) -> None:
    exchange.send(Reply(204, media_type=""))


class ApiEndpoint:
    """Handler of one api's route."""

    def __init__(self, backend: Backend, api: ApiSpec) -> None:
        self._backend = backend
        self._api = api
        self._hop = f"{backend.spec.name}.{api.name}"
        self._timeout = backend.spec.traffic.timeout
        self._schema = backend.schemas[api.name]
        types = self._schema.media_types()
        self._offers = offers(types) if api.stream else types
        self._gives_file = self._schema.gives_file
        self._encoding = asyncio.Lock()  # encode one result at a time: several may be the same image object

    async def __call__(self, exchange: Exchange) -> None:
        accept = exchange.headers.get("Accept")
        with TempFiles():
            try:
                form = choose(accept, self._offers)
                context = exchange.start_call(self._hop, self._timeout)
                arguments = await self._arguments(exchange)
            except CallError as error:
                self._backend.refused(self._api.name, type(error).__name__)
                raise
            if self._api.stream:
                dump = self._schema.dump_json if FORMS[form].of == JSON else self._schema.dump_text
                await ItemStream(exchange, FORMS[form], dump).send(self._backend.stream(self._api, arguments, context))
                return
            if self._offers == (JSON,):
                dump = self._schema.dump_json
                data = await exchange.result(self._backend.invoke(self._api, arguments, context, dump))
                exchange.send(Reply(200, data, content_type(JSON)))
                return
            value = await exchange.result(self._backend.invoke(self._api, arguments, context))
            if len(self._offers) > 1:  # the possible forms depend on the result
                form = choose(accept, self._schema.forms(value))
            if self._gives_file:  # reading a file, or encoding an image, may take long
                async with self._encoding:
                    data = await asyncio.to_thread(self._schema.encode, value, form)
            else:
                data = self._schema.dump_json(value) if form == JSON else self._schema.encode(value, form)
        exchange.send(Reply(200, data, content_type(form), _headers(value) if form != JSON else {}))

    async def _arguments(self, exchange: Exchange) -> dict[str, Any]:
        if exchange.reader is not None:
            if exchange.headers.get("Content-Encoding"):
                raise UnsupportedMediaType("a body that streams is sent as it is, without Content-Encoding")
            type_, limit = exchange.headers["Content-Type"], exchange.site.max_body
            streams = StreamBody(exchange.reader, type_, exchange.query, self._schema, limit)
            return await exchange.result(streams.arguments())
        if exchange.query:
            raise BadRequest(f"{self._api.name} takes its parameters in the body, not after a '?' in the address")
        body = await exchange.body()
        if exchange.headers.get("Content-Encoding"):
            body = await unpacked(exchange, body)
        kind = exchange.headers.get("Content-Type")
        large = len(body) > SMALL
        # A small file may be a large image.
        if not (body and self._schema.takes_images) and not (large and takes_long(kind, len(body))):
            return read_arguments(self._schema, kind, body)
        read = read_large if large else read_arguments
        async with exchange.site.reading:  # one at a time: each holds the GIL most of the time
            return await asyncio.to_thread(read, self._schema, kind, body)


class _Collected:
    """Metric families as a collector for prometheus_client's encoders."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _headers(value: Any) -> dict[str, str]:
    return {"Content-Disposition": file_name(value.name)} if isinstance(value, PurePath) else {}
