"""HTTP transport for `depends(url="http://…")`: an nbcompose service elsewhere, called over HTTP with JSON.

Its apis are read from its /openapi.json at the first call. Values are limited to JSON: arrays arrive as lists.
Responses are not trusted; `_rpc/remote_service.py` parses them.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic_core import PydanticSerializationError, to_json

from nbcompose import errors
from nbcompose._host import keep_numbers_from_children
from nbcompose._rpc.blocking import Over, Portal, step
from nbcompose._rpc.http_duplex import Duplex, Gone, authorities
from nbcompose._rpc.remote_service import (
    ACCEPTED,
    JSON,
    MAX_ANSWER,
    MAX_DOCUMENT,
    MAX_ERROR,
    ResponseTooLarge,
    Unexpected,
    apis_of,
    events,
    shown,
    unpacked,
    value_in,
    value_of,
    whole,
)
from nbcompose._rpc.stream_arguments import ListSource, Outlet, ServiceStream, Source
from nbcompose._rpc.transport import Args, Kwargs, RemoteTransport, find_api
from nbcompose._rpc.unsendable import is_misplaced, misplaced_argument
from nbcompose._schema import Binding, check_awaited
from nbcompose._spec import ApiSpec
from nbcompose._tracing import CallContext
from nbcompose._units import with_article
from nbcompose._user_exceptions import MAX_NAME, clipped
from nbcompose.errors import (
    CallError,
    DeadlineExceeded,
    InvalidArgument,
    PayloadTooLarge,
    RemoteError,
    ReplicaDied,
    ServiceUnavailable,
    Unauthorized,
)

# Instead of NDJSON, where an item could be mistaken for an error and a truncated stream for a complete one.
EVENTS = "text/event-stream"
LINES = "application/x-ndjson"
DOCUMENT = "/openapi.json"
DEFAULT_TIMEOUT = 60.0  # seconds, where the caller has no deadline
MAX_PROBLEMS = 100  # kept of those that the server reports about an argument


class HttpTransport(RemoteTransport):
    """Transport to a service over HTTP. The HTTP client is created at the first call and runs on the portal's loop."""

    def __init__(self, url: str, token: str | None, portal: Portal) -> None:
        parts = urlsplit(url)
        super().__init__(parts.netloc.rpartition("@")[2], portal)
        self._url = url.rstrip("/")
        self._shown = parts._replace(netloc=self.service).geturl().rstrip("/")  # without user and password
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client: httpx.AsyncClient | None = None
        self._apis: tuple[ApiSpec, ...] | None = None

    def apis(self) -> tuple[ApiSpec, ...] | None:
        return self._apis

    async def aclose(self) -> None:
        """Close the kept connections; call on the portal's loop. The next call opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _learn(self, api: str, context: CallContext) -> ApiSpec:
        if self._apis is None:  # two calls may both fetch the document: that costs less than a lock
            async with self._exchange("GET", DOCUMENT, context, None, JSON) as body:
                document = await value_in(await whole(body, MAX_DOCUMENT, "a document"), "a document")
                apis = apis_of(document)
                self._check_origin(apis)
            self._apis = apis
        return find_api(self.service, self._apis, api)

    def _check_origin(self, apis: tuple[ApiSpec, ...]) -> None:
        """Raise `Unexpected` if the url of an api would be on another server, however its route is written."""
        origin = _origin(self._url)
        for api in apis:
            if _origin(self._url + api.route) != origin:
                raise Unexpected(f"a document whose api {api.name} is to be called at {shown(api.route)}")

    async def _call(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> Any:
        """Return the result as decoded JSON. Raises as a local service does: nbcompose's errors keep their type."""
        spec = await self._learn(api, context)
        async with self._called(spec, args, kwargs, context, JSON) as answer:
            return await value_in(await whole(answer, MAX_ANSWER, "an answer"), "an answer")

    async def _stream(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> AsyncGenerator[Any, None]:
        """Yield the items as they arrive. An error in mid-stream is raised after the items before it."""
        spec = await self._learn(api, context)
        deadline = _deadline(context)
        async with self._called(spec, args, kwargs, context, EVENTS, deadline) as answer:
            found = events(answer)
            while True:
                # The deadline covers only the waiting: asyncio.timeout must not be suspended by a yield.
                async with self._translated(spec.route, deadline):
                    try:
                        event, data = await step(found)
                    except Over:
                        raise ReplicaDied(f"{self.service} went away in the middle of a stream") from None
                    if event == "end":
                        return
                    if event == "error":
                        raise self._error(500, data)
                    item = await value_in(data, "an item")
                yield item
                del item  # it may be large, and the next one may take long to arrive

    @contextlib.asynccontextmanager
    async def _called(
        self,
        api: ApiSpec,
        args: Args,
        kwargs: Kwargs,
        context: CallContext,
        accept: str,
        deadline: float | None = None,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Call an api, and yield the body of its successful response, to be read within the context.

        The body of the request is a JSON object; where an argument is a live stream, lines of them, which are sent
        while the response comes. Raises `InvalidArgument`, `NotAwaited`.
        """
        for value in (*args, *kwargs.values()):
            if not isinstance(value, ServiceStream):
                check_awaited(value)
        try:
            arguments = Binding(f"{self.service}.{api.name}", api, {}).bind(args, kwargs)
        except InvalidArgument as error:
            raise error.from_below()  # noqa: B904  it is the same error
        until = _deadline(context) if deadline is None else deadline
        if any(isinstance(value, Outlet) for value in arguments.values()):
            given = {name: arguments[name] for name in api.stream_params if arguments.get(name) is not None}
            streams = {
                name: value.source if isinstance(value, Outlet) else _source(value) for name, value in given.items()
            }
            plain = self._json(api, {name: value for name, value in arguments.items() if name not in streams})
            async with self._duplex(api, plain, streams, context, accept, until) as answer:
                yield answer
            return
        try:
            body = self._json(api, arguments[api.root.name] if api.root is not None and arguments else arguments)
        except InvalidArgument:
            for name, value in arguments.items():
                if is_misplaced(value):
                    raise misplaced_argument(self.service, api, name, value).from_below() from None
            raise
        async with self._exchange("POST", api.route, context, body, accept, until) as answer:
            yield answer

    def _json(self, api: ApiSpec, value: Any) -> bytes:
        try:
            return to_json(value, fallback=_plain, bytes_mode="base64", inf_nan_mode="null")
        except PydanticSerializationError as error:
            reason = f"{self.service}.{api.name}: an argument has no JSON form: {error}"
            raise InvalidArgument(reason).from_below() from error

    @contextlib.asynccontextmanager
    async def _duplex(
        self,
        api: ApiSpec,
        plain: bytes,
        streams: Mapping[str, Source],
        context: CallContext,
        accept: str,
        until: float,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """As `_exchange`, for a body that is sent meanwhile: `plain`, and then the items of the streams."""
        headers = {**self._head(context, accept, until), **self._headers, "Content-Type": LINES}
        async with self._translated(api.route, until):
            request = await Duplex.open(self._url + api.route, headers)
        # The empty object says that the call can begin, though there is no item yet.
        sending = asyncio.ensure_future(self._send_streams(request, api, plain + b"\n{}\n", streams))
        try:
            async with self._translated(api.route, until):
                status, head = await request.head()
            content = unpacked(request.body(), head.get("Content-Encoding", ""))
            async with self._translated(api.route, until):
                if not 200 <= status < 300:
                    raise self._error(status, await whole(content, MAX_ERROR, "an error"))
                _check_type(head.get("Content-Type", ""), accept)
            if accept == EVENTS:
                yield content
            else:
                async with self._translated(api.route, until):
                    yield content
        finally:
            sending.cancel()
            await asyncio.wait([sending])
            request.close()
            for stream in streams.values():
                await stream.close()

    async def _send_streams(self, request: Duplex, api: ApiSpec, first: bytes, streams: Mapping[str, Source]) -> None:
        async def send(name: str, stream: Source) -> None:
            while True:
                try:
                    item = await stream.next()
                except Over:
                    return
                await request.send(self._json(api, {name: item}) + b"\n")

        try:
            await request.send(first)
            await asyncio.gather(*(send(name, stream) for name, stream in streams.items()))
            request.end()
        except Gone:
            pass  # who reads the answer is told
        except Exception as error:  # of the stream's own code
            request.fail(error)

    @contextlib.asynccontextmanager
    async def _exchange(
        self,
        method: str,
        path: str,
        context: CallContext,
        body: bytes | None,
        accept: str,
        deadline: float | None = None,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Send a request and yield the body of its successful response, to be read within the context."""
        until = _deadline(context) if deadline is None else deadline
        headers = self._head(context, accept, until)
        if body is not None:
            headers["Content-Type"] = JSON
        async with self._translated(path, until):
            client = self._connected()
            request = client.build_request(method, self._url + path, content=body, headers=headers)
            response = await client.send(request, stream=True, follow_redirects=False)
        keep_numbers_from_children([response.extensions["network_stream"].get_extra_info("socket").fileno()])
        try:
            content = unpacked(response.aiter_raw(), response.headers.get("content-encoding", ""))
            async with self._translated(path, until):
                if not response.is_success:
                    raise self._error(response.status_code, await whole(content, MAX_ERROR, "an error"))
                _check_type(response.headers.get("content-type", ""), accept)
            if accept == EVENTS:
                yield content
            else:
                async with self._translated(path, until):
                    yield content
        finally:
            await response.aclose()

    def _head(self, context: CallContext, accept: str, until: float) -> dict[str, str]:
        """Return the headers of a request that has to be answered by then, on the running loop's clock."""
        left = max(0.0, until - asyncio.get_running_loop().time())
        headers = {"Accept": accept, "Accept-Encoding": ACCEPTED, "traceparent": context.traceparent}
        if context.trace_state:
            headers["tracestate"] = context.trace_state
        return {**headers, "X-Request-Timeout": f"{left:.3f}"}

    def _connected(self) -> httpx.AsyncClient:
        if self._client is None:
            limits = httpx.Limits(max_connections=None)
            nothing = CookieJar(DefaultCookiePolicy(allowed_domains=()))  # cookies of the server are not kept
            self._client = httpx.AsyncClient(
                headers=self._headers, timeout=None, limits=limits, cookies=nothing, verify=authorities()
            )
            weakref.finalize(self, self._portal.spawn, self._client.aclose).atexit = False
        return self._client

    @contextlib.asynccontextmanager
    async def _translated(self, path: str, deadline: float) -> AsyncIterator[None]:
        """Apply the deadline, and translate errors of the HTTP client and of invalid responses to nbcompose's own."""
        try:
            async with asyncio.timeout_at(deadline):
                yield
        except (httpx.ConnectError, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise ServiceUnavailable(f"{self._shown} cannot be reached: {error}") from None
        except Gone as error:
            raise ReplicaDied(f"{self._shown} went away while it worked on this call: {error}") from None
        except httpx.HTTPError as error:
            reason = clipped(str(error), MAX_NAME) or type(error).__name__
            raise ReplicaDied(f"{self._shown} went away while it worked on this call: {reason}") from None
        except Unexpected as error:
            told = f"{self._shown} answers, but not as an nbcompose service: {path} gave {error}"
            raise ServiceUnavailable(told).from_below() from None
        except ResponseTooLarge as error:
            raise PayloadTooLarge(f"{self._shown}{path} sent {error}").from_below() from None
        except TimeoutError as error:
            if isinstance(error, DeadlineExceeded):
                raise
            raise DeadlineExceeded(f"{self._shown}{path} did not answer in time") from None
        except OSError as error:
            if isinstance(error, CallError):  # some of ours are
                raise
            raise ServiceUnavailable(f"{self._shown} cannot be reached: {error}") from None

    def _error(self, status: int, body: bytes) -> CallError:
        """Return the error that a response describes; `ServiceUnavailable` if it is not in nbcompose's form."""
        try:
            document = value_of(body)
        except Unexpected:
            document = None
        detail = document.get("error") if isinstance(document, dict) else None
        if not isinstance(detail, dict):
            came = f": {shown(body)}" if body else ""
            told = f"{self._shown} answered with status {status}, and not as an nbcompose service{came}"
            return ServiceUnavailable(told).from_below()
        kind, said = (detail.get(key) for key in ("type", "message"))
        message = f"{self.service}: {_printable(clipped(said)) if isinstance(said, str) else ''}"
        name = clipped(kind, MAX_NAME) if isinstance(kind, str) else ""
        cls = getattr(errors, name, None) if name.isidentifier() else None
        if cls is Unauthorized:
            given = "the token that was given is wrong" if self._headers else "it wants a token, and none was given"
            return Unauthorized(f"{self._shown}: {given}: depends(url=…, token=…)").from_below()
        if cls is InvalidArgument:
            return InvalidArgument(message, _problems(detail.get("problems"))).from_below()
        if isinstance(cls, type) and issubclass(cls, CallError) and cls is not RemoteError:
            return cls(message).from_below()
        return RemoteError(message, name).from_below()


def _source(value: Any) -> Source:
    """Return the items of a list that stands for a stream, beside others that are live; a text is one."""
    return ListSource([value] if isinstance(value, str) else list(value))


def _origin(url: str) -> tuple[str, bytes, str, int | None]:
    found = httpx.URL(url)
    return found.scheme, found.userinfo, found.host, found.port


def _check_type(media_type: str, accept: str) -> None:
    """Raise `Unexpected` if a response has another media type than was requested."""
    if media_type.partition(";")[0].strip().lower() != accept:
        raise Unexpected(f"{shown(media_type) if media_type else 'no Content-Type'}, not {accept}")


def _problems(value: Any) -> list[dict[str, object]]:
    return [p for p in value[:MAX_PROBLEMS] if isinstance(p, dict)] if isinstance(value, list) else []


def _deadline(context: CallContext) -> float:
    """Return the deadline of a call, in seconds on the running loop's clock."""
    left = context.remaining()
    return asyncio.get_running_loop().time() + (DEFAULT_TIMEOUT if left is None else left)


def _plain(value: Any) -> Any:
    """Return arrays, tensors, series and scalars of other libraries as lists and numbers (a fallback for pydantic)."""
    for method in ("tolist", "to_list"):
        convert = getattr(value, method, None)
        if callable(convert):
            return convert()
    raise TypeError(f"{with_article(type(value).__qualname__)} cannot be sent to a service behind a url")


def _printable(text: str) -> str:
    """Replace characters that a terminal would interpret."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
