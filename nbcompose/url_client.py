"""`depends(url="http://…")`: an nbcompose service elsewhere, called over HTTP with JSON.

Its apis are learned from its /openapi.json at the first call. Values are what JSON can say: arrays arrive as lists.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
from pydantic_core import to_json

from nbcompose import errors
from nbcompose.client import with_cancel
from nbcompose.errors import CallError, DeadlineExceeded, InvalidArgument, RemoteError, ServiceUnavailable
from nbcompose.portal import Portal
from nbcompose.spec import ApiSpec, ParamSpec
from nbcompose.tracing import CallContext, format_traceparent

NDJSON = "application/x-ndjson"
DEFAULT_TIMEOUT = 60.0


class UrlCaller:
    """A `Caller` (see proxy.py) over HTTP. Its client is made at the first call and lives on the portal's loop."""

    def __init__(self, url: str, token: str | None, portal: Portal) -> None:
        self.service = urlsplit(url).netloc
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._portal = portal
        self._client: httpx.AsyncClient | None = None
        self._apis: tuple[ApiSpec, ...] | None = None
        self._learning = asyncio.Lock()

    def apis(self) -> tuple[ApiSpec, ...] | None:
        return self._apis

    async def call(self, api: str, args: tuple[Any, ...], kwargs: dict[str, Any], context: CallContext) -> Any:
        """The result, as JSON gives it. Raises as a local service does, with the error's own type where it is ours."""
        response = await self._send(await self._find(api, context), args, kwargs, context, "application/json")
        try:
            body = await response.aread()
        finally:
            await response.aclose()
        if response.headers.get("content-type", "").startswith("application/json"):
            return json.loads(body)
        return body

    async def stream(
        self, api: str, args: tuple[Any, ...], kwargs: dict[str, Any], context: CallContext
    ) -> AsyncGenerator[Any, None]:
        """The items, as they come. An error in mid-stream is raised after the items before it."""
        response = await self._send(await self._find(api, context), args, kwargs, context, NDJSON)
        try:
            async for line in response.aiter_lines():
                item = json.loads(line)
                if isinstance(item, dict) and item.keys() == {"error"}:
                    raise _error(self.service, 500, item)
                yield item
        finally:
            await response.aclose()

    def call_sync(
        self, api: ApiSpec | None, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], context: CallContext
    ) -> Any:
        if api is None:
            api = self._portal.run(with_cancel(context, self._find(name, context)))
        if api.stream:
            return self._portal.iterate(self.stream(name, args, kwargs, context))
        return self._portal.run(with_cancel(context, self.call(name, args, kwargs, context)))

    async def _find(self, name: str, context: CallContext) -> ApiSpec:
        if self._apis is None:
            async with self._learning:
                if self._apis is None:
                    document = await self._request("GET", "/openapi.json", context, None, "application/json")
                    self._apis = apis_of(json.loads(await document.aread()))
        for api in self._apis:
            if api.name == name:
                return api
        known = ", ".join(a.name for a in self._apis)
        raise errors.UnknownApi(f"{self._url} has no api {name!r}; it has: {known}")

    async def _send(
        self, api: ApiSpec, args: tuple[Any, ...], kwargs: dict[str, Any], context: CallContext, accept: str
    ) -> httpx.Response:
        names = [p.name for p in api.params]
        if len(args) > len(names):
            raise InvalidArgument(f"{api.signature} was called with {len(args)} arguments")
        arguments = {**dict(zip(names, args, strict=False)), **kwargs}
        return await self._request("POST", api.route, context, to_json(arguments, fallback=_plain), accept)

    async def _request(
        self, method: str, path: str, context: CallContext, body: bytes | None, accept: str
    ) -> httpx.Response:
        if self._client is None:
            self._client = httpx.AsyncClient(headers=self._headers, timeout=None)
        left = context.remaining()
        headers = {"Accept": accept, "traceparent": format_traceparent(context.trace_id, context.span_id or 1)}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if left is not None:
            headers["X-Request-Timeout"] = f"{left:.3f}"
        request = self._client.build_request(method, self._url + path, content=body, headers=headers)
        try:
            async with asyncio.timeout(left if left is not None else DEFAULT_TIMEOUT):
                response = await self._client.send(request, stream=True)
        except httpx.TransportError as error:
            raise ServiceUnavailable(f"{self._url} cannot be reached: {error}") from error
        except TimeoutError:
            raise DeadlineExceeded(f"{self._url}{path} did not answer in time") from None
        if response.status_code >= 400:
            body = await response.aread()
            await response.aclose()
            raise _error(self.service, response.status_code, _json_or_none(body))
        return response


def apis_of(document: dict[str, Any]) -> tuple[ApiSpec, ...]:
    """The apis that an OpenAPI document of ours describes. Raises `ServiceUnavailable` for other documents."""
    found = []
    for route, methods in document.get("paths", {}).items():
        post = methods.get("post", {})
        if "x-nbcompose-params" not in post:
            continue
        params = tuple(ParamSpec(p["name"], p["kind"], p["required"], p["text"]) for p in post["x-nbcompose-params"])
        found.append(
            ApiSpec(
                name=post["operationId"], method=post["operationId"], route=route, params=params,
                stream=bool(post.get("x-nbcompose-stream")),
            )
        )  # fmt: skip
    if not found:
        raise ServiceUnavailable("the url answers, but not as an nbcompose service: its /openapi.json names no api")
    return tuple(found)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return str(value)


def _json_or_none(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _error(service: str, status: int, document: Any) -> CallError:
    detail = document.get("error") if isinstance(document, dict) else None
    if not isinstance(detail, dict):
        return ServiceUnavailable(f"{service} answered with status {status}")
    message = f"{service}: {detail.get('message', '')}"
    cls = getattr(errors, str(detail.get("type")), None)
    if isinstance(cls, type) and issubclass(cls, CallError) and cls is not RemoteError:
        return cls(message)
    return RemoteError(message, str(detail.get("type", "")))
