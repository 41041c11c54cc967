"""`depends(url="http://…")`: an nbcompose service elsewhere, called over HTTP with JSON.

Its apis are learned from its /openapi.json at the first call. Values are what JSON can say: arrays arrive as lists.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import weakref
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic_core import PydanticSerializationError, to_json

from nbcompose import errors
from nbcompose.calling.caller import Args, Kwargs, RemoteCaller, find_api
from nbcompose.calling.cancelling import Over, step
from nbcompose.calling.portal import Portal
from nbcompose.errors import CallError, DeadlineExceeded, InvalidArgument, RemoteError, ReplicaDied, ServiceUnavailable
from nbcompose.host.forked import keep_numbers_from_children
from nbcompose.schema.binding import Binding
from nbcompose.spec import ApiSpec, ParamSpec
from nbcompose.tracing import CallContext
from nbcompose.unawaited import check_awaited

JSON = "application/json"
# Rather than NDJSON, where an item could be taken for an error, and a stream that was cut for one that is complete.
EVENTS = "text/event-stream"
DEFAULT_TIMEOUT = 60.0  # seconds, where the caller has no deadline


class UrlCaller(RemoteCaller):
    """A service over HTTP. Its client is made at the first call and lives on the portal's loop."""

    def __init__(self, url: str, token: str | None, portal: Portal) -> None:
        super().__init__(urlsplit(url).netloc, portal)
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client: httpx.AsyncClient | None = None
        self._apis: tuple[ApiSpec, ...] | None = None

    def apis(self) -> tuple[ApiSpec, ...] | None:
        return self._apis

    async def aclose(self) -> None:
        """Close what connections are kept; on the portal's loop. The next call opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _learn(self, api: str, context: CallContext) -> ApiSpec:
        if self._apis is None:  # two calls may both ask: that costs less than a lock
            async with self._exchange("GET", "/openapi.json", context, None, JSON) as response:
                self._apis = apis_of(self.service, _json_or_none(await response.aread()))
        return find_api(self.service, self._apis, api)

    async def _call(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> Any:
        """The result, as JSON gives it. Raises as a local service does, with the error's own type where it is ours."""
        spec = await self._learn(api, context)
        body = self._body(spec, args, kwargs)
        async with self._exchange("POST", spec.route, context, body, JSON) as response:
            return _result(await response.aread(), response.headers.get("content-type", ""))

    async def _stream(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> AsyncGenerator[Any, None]:
        """The items, as they come. An error in mid-stream is raised after the items before it."""
        spec = await self._learn(api, context)
        body = self._body(spec, args, kwargs)
        deadline = _deadline(context)
        async with self._exchange("POST", spec.route, context, body, EVENTS, deadline) as response:
            events = _events(response.aiter_bytes())
            while True:
                # Only the waiting is under the deadline: a block of asyncio.timeout must not be left by a yield.
                async with self._translated(spec.route, deadline):
                    try:
                        event, data = await step(events)
                    except Over:
                        raise ReplicaDied(f"{self.service} went away in the middle of a stream") from None
                if event == "end":
                    return
                if event == "error":
                    raise self._error(500, _json_or_none(data))
                yield json.loads(data)

    def _body(self, api: ApiSpec, args: Args, kwargs: Kwargs) -> bytes:
        """The arguments as a JSON object, or the root alone. Raises `InvalidArgument`, `NotAwaited`."""
        for value in (*args, *kwargs.values()):
            check_awaited(value)
        try:
            arguments: Any = Binding(f"{self.service}.{api.name}", api, {}).bind(args, kwargs)
            if api.root is not None and arguments:
                arguments = arguments[api.root.name]
            return to_json(arguments, fallback=_plain, bytes_mode="base64", inf_nan_mode="null")
        except InvalidArgument as error:
            raise error.from_below()  # noqa: B904  it is the same error
        except PydanticSerializationError as error:
            reason = f"{self.service}.{api.name}: an argument has no JSON form: {error}"
            raise InvalidArgument(reason).from_below() from error

    @contextlib.asynccontextmanager
    async def _exchange(
        self,
        method: str,
        path: str,
        context: CallContext,
        body: bytes | None,
        accept: str,
        deadline: float | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """A request and its successful response, whose body is still to be read within the context."""
        until = _deadline(context) if deadline is None else deadline
        left = max(0.0, until - asyncio.get_running_loop().time())
        headers = {"Accept": accept, "traceparent": context.traceparent}
        if context.trace_state:
            headers["tracestate"] = context.trace_state
        headers["X-Request-Timeout"] = f"{left:.3f}"
        if body is not None:
            headers["Content-Type"] = JSON
        if self._client is None:
            limits = httpx.Limits(max_connections=None)
            self._client = httpx.AsyncClient(headers=self._headers, timeout=None, limits=limits)
            weakref.finalize(self, self._portal.spawn, self._client.aclose).atexit = False
        request = self._client.build_request(method, self._url + path, content=body, headers=headers)
        async with self._translated(path, until):
            response = await self._client.send(request, stream=True)
        keep_numbers_from_children([response.extensions["network_stream"].get_extra_info("socket").fileno()])
        try:
            if not response.is_success:
                async with self._translated(path, until):
                    raise self._error(response.status_code, _json_or_none(await response.aread()))
            if accept == EVENTS:
                yield response
            else:
                async with self._translated(path, until):
                    yield response
        finally:
            await response.aclose()

    @contextlib.asynccontextmanager
    async def _translated(self, path: str, deadline: float) -> AsyncIterator[None]:
        """The deadline, and what the HTTP client raises as what callers know."""
        try:
            async with asyncio.timeout_at(deadline):
                yield
        except (httpx.ConnectError, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise ServiceUnavailable(f"{self._url} cannot be reached: {error}") from error
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise ReplicaDied(f"{self._url} went away while it worked on this call: {reason}") from error
        except TimeoutError as error:
            if isinstance(error, DeadlineExceeded):
                raise
            raise DeadlineExceeded(f"{self._url}{path} did not answer in time") from None

    def _error(self, status: int, document: Any) -> CallError:
        detail = document.get("error") if isinstance(document, dict) else None
        if not isinstance(detail, dict):
            told = f"{self._url} answered with status {status}, and not as an nbcompose service"
            return ServiceUnavailable(told).from_below()
        message = f"{self.service}: {detail.get('message', '')}"
        cls = getattr(errors, str(detail.get("type")), None)
        if cls is InvalidArgument:
            return InvalidArgument(message, detail.get("problems") or ()).from_below()
        if isinstance(cls, type) and issubclass(cls, CallError) and cls is not RemoteError:
            return cls(message).from_below()
        return RemoteError(message, str(detail.get("type", ""))).from_below()


def apis_of(service: str, document: Any) -> tuple[ApiSpec, ...]:
    """The apis that an OpenAPI document of ours describes. Raises `ServiceUnavailable` for other documents."""
    found = []
    try:
        for route, methods in document["paths"].items():
            post = methods.get("post", {})
            if "x-nbcompose-params" in post:
                found.append(_api_of(route, post))
    except (AttributeError, KeyError, TypeError):
        found = []
    if not found:
        raise ServiceUnavailable(f"{service} answers, but not as an nbcompose service: its /openapi.json names no api")
    return tuple(found)


def _api_of(route: str, operation: dict[str, Any]) -> ApiSpec:
    name = operation["operationId"]
    doc = f"{operation.get('summary', '')}\n\n{operation.get('description', '')}".strip()
    return ApiSpec(
        name=name,
        method=name,
        route=route,
        params=tuple(
            ParamSpec(p["name"], p["kind"], p["required"], p["text"]) for p in operation["x-nbcompose-params"]
        ),
        stream=bool(operation.get("x-nbcompose-stream")),
        is_async=bool(operation.get("x-nbcompose-async")),  # a server from before it told does what it did then
        doc=doc,
    )


async def _events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[tuple[str, bytes], None]:
    """(event, data) of each server-sent event, which ours write on one line; comments are left out.

    Not by text lines: JSON may hold characters that end one.
    """
    rest = b""
    async for chunk in chunks:
        *messages, rest = (rest + chunk).split(b"\n\n")
        for message in messages:
            fields = dict(line.split(b": ", 1) for line in message.split(b"\n") if b": " in line)
            if b"data" in fields:
                yield fields.get(b"event", b"message").decode(), fields[b"data"]


def _deadline(context: CallContext) -> float:
    """On the running loop's clock."""
    left = context.remaining()
    return asyncio.get_running_loop().time() + (DEFAULT_TIMEOUT if left is None else left)


def _result(body: bytes, media_type: str) -> Any:
    return json.loads(body) if media_type.startswith(JSON) else body


def _plain(value: Any) -> Any:
    """For pydantic: arrays, tensors, series and scalars of other libraries as lists and numbers."""
    for method in ("tolist", "to_list"):
        convert = getattr(value, method, None)
        if callable(convert):
            return convert()
    raise TypeError(f"a {type(value).__qualname__} cannot be sent to a service behind a url")


def _json_or_none(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None
