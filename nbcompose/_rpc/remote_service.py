"""Parsing of untrusted HTTP responses of a remote service: bounded bodies, JSON, server-sent events, its apis.

Requests, deadlines and connections are in `_rpc/http_transport.py`, which also names the server in the messages of
`Unexpected` and `ResponseTooLarge`.
"""

from __future__ import annotations

import asyncio
import json
import re
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any, get_args

from nbcompose._schema import DEPTH, SMALL, measured, uncollected
from nbcompose._spec import ApiSpec, ParamKind, ParamSpec
from nbcompose._user_exceptions import clipped, in_short

# Limits of a response in bytes, after decompression.
MAX_DOCUMENT = 8 * 1024 * 1024  # its OpenAPI document
MAX_ANSWER = 256 * 1024 * 1024  # a result; as much as a service accepts by default
MAX_ITEM = 64 * 1024 * 1024  # one item of a stream, including comments and other fields
MAX_ERROR = 1024 * 1024  # an error

MAX_VALUES = 5_000_000  # JSON values; ten times what a service accepts by default, since the response was requested
MAX_APIS = 10_000
MAX_NAME = 200  # characters
MAX_TEXT = 10_000  # characters of documentation
SHOWN = 80  # characters of the response that a message quotes

ACCEPTED = "gzip, deflate"
PIECE = 64 * 1024  # bytes that are decompressed at once

JSON = "application/json"
# A valid route, which is a path on the same server whatever url it is appended to: `//` would start a host name.
_PATH = re.compile(r"/(?!/)[^\s\x00-\x1f\x7f?#{}\\\ud800-\udfff]*")
_DOTS = re.compile(r"/(\.|%2e){1,2}(/|$)", re.IGNORECASE)
_KINDS = get_args(ParamKind)


class Unexpected(Exception):
    """The response is not what was requested; the message says what it is."""


class ResponseTooLarge(Exception):
    """The response exceeds a limit; the message names the part and the limit."""


# -- bodies


async def unpacked(chunks: AsyncIterator[bytes], coding: str) -> AsyncGenerator[bytes, None]:
    """Yield the decompressed chunks of a body, in small pieces. Raises `Unexpected`."""
    coding = coding.strip().lower()
    if coding in ("", "identity"):
        async for chunk in chunks:
            yield chunk
        return
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise Unexpected(f"a body with Content-Encoding: {shown(coding)}, which was not asked for")
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip or zlib
    try:
        async for chunk in chunks:
            while True:
                piece = inflater.decompress(chunk, PIECE)
                if inflater.unused_data:
                    raise Unexpected(f"a body that goes on where its {coding} has ended")
                if piece:
                    yield piece
                chunk = inflater.unconsumed_tail
                if not chunk and len(piece) < PIECE:  # a full piece: the decompressor may hold more output
                    break
    except zlib.error as error:
        raise Unexpected(f"a body that is not {coding}: {error}") from None
    if not inflater.eof:
        raise Unexpected(f"a body that ends before its {coding} does")


async def whole(chunks: AsyncIterator[bytes], limit: int, what: str) -> bytes:
    """Return the whole body. Raises `ResponseTooLarge` as soon as it is larger than `limit` bytes."""
    parts: list[bytes] = []
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise too_large(limit, what)
        parts.append(chunk)
    return b"".join(parts)


def too_large(limit: int, what: str) -> ResponseTooLarge:
    return ResponseTooLarge(f"{what} of more than the {limit:,} bytes, unpacked, that are read of one")


async def value_in(body: bytes, what: str) -> Any:
    """As `value_of`, but a large body is measured first and decoded in a thread, so as not to block the event loop.

    Raises `ResponseTooLarge` too.
    """
    return value_of(body) if len(body) <= SMALL else await asyncio.to_thread(_large_value_of, body, what)


def _large_value_of(body: bytes, what: str) -> Any:
    values, depth = measured(body, MAX_VALUES)
    if depth > DEPTH:
        raise Unexpected(f"what is no JSON (it is too deep): {shown(body)}")
    if values > MAX_VALUES:
        raise ResponseTooLarge(f"{what} of more than the {MAX_VALUES:,} values that are read of one")
    with uncollected():
        return value_of(body)


def value_of(body: bytes) -> Any:
    """Return the value of a JSON body. Raises `Unexpected`."""
    try:
        return json.loads(str(body, "utf-8-sig"))
    except (ValueError, RecursionError) as error:
        reason = "it is too deep" if isinstance(error, RecursionError) else clipped(str(error), SHOWN)
        raise Unexpected(f"what is no JSON ({reason}): {shown(body)}") from None


def shown(came: str | bytes) -> str:
    """Return the beginning of a text, escaped for use in a message."""
    if isinstance(came, bytes):
        came = came[: 4 * SHOWN].decode(errors="replace")
    return in_short(came[:SHOWN], 10 * SHOWN) + ("…" if len(came) > SHOWN else "")


# -- events


async def events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[tuple[str, bytes], None]:
    """Yield (event, data) of each server-sent event that has data.

    Follows https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation: lines end with
    CRLF, CR or LF, comments are skipped, data lines are joined, an event without its final blank line is dropped.
    Raises `ResponseTooLarge`.
    """
    lines = _Lines()
    data: list[bytes] = []
    event, size = "", 0
    async for chunk in chunks:
        for line in lines.feed(chunk):
            if not line:
                if data:
                    yield event or "message", b"\n".join(data)
                event, data, size = "", [], 0
                continue
            size += len(line)
            name, _, value = line.partition(b":")
            if name == b"data":
                data.append(value.removeprefix(b" "))
            elif name == b"event":
                event = value.removeprefix(b" ").decode(errors="replace")
            if size > MAX_ITEM:
                raise too_large(MAX_ITEM, "an item")
        if size + lines.waiting > MAX_ITEM:
            raise too_large(MAX_ITEM, "an item")


class _Lines:
    """Splits received data into lines, without their line ends. `waiting`: bytes of an incomplete line."""

    def __init__(self) -> None:
        self.waiting = 0
        self._parts: list[bytes] = []
        self._after_cr = False
        self._is_first = True

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")  # a CRLF split between two chunks
            self._after_cr = False
        for line in chunk.splitlines(keepends=True):  # bytes are split only at CRLF, CR and LF
            text = line.rstrip(b"\r\n")
            self._parts.append(text)
            self.waiting += len(text)
            self._after_cr = line.endswith(b"\r")
            if len(text) < len(line):
                yield self._complete()

    def _complete(self) -> bytes:
        line = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts, self.waiting = [], 0
        if self._is_first:
            self._is_first = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        return line


# -- the OpenAPI document


def apis_of(document: Any) -> tuple[ApiSpec, ...]:
    """Return the apis that the OpenAPI document of an nbcompose service describes. Raises `Unexpected`."""
    paths = document.get("paths") if isinstance(document, dict) else None
    found = []
    for route, methods in paths.items() if isinstance(paths, dict) else ():
        post = methods.get("post") if isinstance(methods, dict) else None
        if isinstance(post, dict) and "x-nbcompose-params" in post:
            found.append(_api_of(route, post))
    if not found:
        raise Unexpected("a document that names no api")
    if len(found) > MAX_APIS:
        raise Unexpected(f"a document with more than the {MAX_APIS:,} apis that are read of one")
    return tuple(found)


def _api_of(route: str, operation: dict[str, Any]) -> ApiSpec:
    name: Any = operation.get("operationId")
    params = operation["x-nbcompose-params"]
    if not _is_name(name) or name.startswith("_"):
        raise Unexpected(f"a document with an api that is called {in_short(name, SHOWN)}, which is no name")
    if not _PATH.fullmatch(route) or _DOTS.search(route):
        raise Unexpected(
            f"a document whose api {name} is to be called at {shown(route)}, which is no path of that server"
        )
    if not isinstance(params, list):
        raise Unexpected(f"a document whose api {name} has {in_short(params, SHOWN)} for its parameters")
    return ApiSpec(
        name=name,
        method=name,
        route=route,
        params=tuple(_param_of(name, p) for p in params),
        stream=operation.get("x-nbcompose-stream") is True,
        is_async=operation.get("x-nbcompose-async") is True,  # older servers do not send it, nor the next
        stream_params=_streams_of(operation.get("x-nbcompose-stream-params"), params),
        doc=f"{_text(operation.get('summary'))}\n\n{_text(operation.get('description'))}".strip(),
    )


def _streams_of(names: Any, params: list[Any]) -> tuple[str, ...]:
    known = {param.get("name") for param in params if isinstance(param, dict)}
    return tuple(name for name in names if name in known) if isinstance(names, list) else ()


def _param_of(api: str, param: Any) -> ParamSpec:
    if isinstance(param, dict):
        found: list[Any] = [param.get(key) for key in ("name", "kind", "required", "text")]
        name, kind, required, text = found
        if _is_name(name) and kind in _KINDS and isinstance(required, bool) and isinstance(text, str):
            return ParamSpec(name, kind, required, clipped(text, MAX_TEXT))
    raise Unexpected(f"a document whose api {api} has {in_short(param, SHOWN)} for a parameter")


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_NAME and value.isidentifier()


def _text(value: Any) -> str:
    return clipped(value, MAX_TEXT) if isinstance(value, str) else ""
