"""What a server behind a url sends, of which nothing is believed: bodies within bounds, JSON, events, its apis.

Sending, deadlines and connections are http_transport.py's, and so is who sent what is `Unexpected` or
`ResponseTooLarge`.
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

# Bytes of what another server sends, unpacked.
MAX_DOCUMENT = 8 * 1024 * 1024  # its OpenAPI document
MAX_ANSWER = 256 * 1024 * 1024  # a result; as many as a service takes by default
MAX_ITEM = 64 * 1024 * 1024  # one item of a stream, comments and other fields included
MAX_ERROR = 1024 * 1024  # an error

MAX_VALUES = 5_000_000  # of JSON; ten times what a service takes by default, since it was asked for
MAX_APIS = 10_000
MAX_NAME = 200  # characters
MAX_TEXT = 10_000  # characters of documentation
SHOWN = 80  # characters of what came, in a message

ACCEPTED = "gzip, deflate"
PIECE = 64 * 1024  # bytes that are unpacked at once

JSON = "application/json"
# What a route of ours may be, and a path of one server whatever stands before it: a second slash would begin a host.
_PATH = re.compile(r"/(?!/)[^\s\x00-\x1f\x7f?#{}\\\ud800-\udfff]*")
_DOTS = re.compile(r"/(\.|%2e){1,2}(/|$)", re.IGNORECASE)
_KINDS = get_args(ParamKind)


class Unexpected(Exception):
    """What came is not what was asked for; the message says what it is."""


class ResponseTooLarge(Exception):
    """More came than is read; the message says of what, and how much is."""


# -- bodies


async def unpacked(chunks: AsyncIterator[bytes], coding: str) -> AsyncGenerator[bytes, None]:
    """The chunks of a body before it was compressed, in small pieces. Raises `Unexpected`."""
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
                if not chunk and len(piece) < PIECE:  # what is left may be inside
                    break
    except zlib.error as error:
        raise Unexpected(f"a body that is not {coding}: {error}") from None
    if not inflater.eof:
        raise Unexpected(f"a body that ends before its {coding} does")


async def whole(chunks: AsyncIterator[bytes], limit: int, what: str) -> bytes:
    """All of a body. Raises `ResponseTooLarge` as soon as it is more than `limit` bytes."""
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
    """As `value_of`. A large one is looked at before it is decoded, and in a thread: others have their turn, and the
    deadline holds. Raises `ResponseTooLarge` too.
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
    """What a body of JSON says. Raises `Unexpected`."""
    try:
        return json.loads(str(body, "utf-8-sig"))
    except (ValueError, RecursionError) as error:
        reason = "it is too deep" if isinstance(error, RecursionError) else clipped(str(error), SHOWN)
        raise Unexpected(f"what is no JSON ({reason}): {shown(body)}") from None


def shown(came: str | bytes) -> str:
    """The beginning of what came, harmless in a message."""
    if isinstance(came, bytes):
        came = came[: 4 * SHOWN].decode(errors="replace")
    return in_short(came[:SHOWN], 10 * SHOWN) + ("…" if len(came) > SHOWN else "")


# -- events


async def events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[tuple[str, bytes], None]:
    """(event, data) of each server-sent event that has data.

    Parsed as https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation has it: lines
    end with CRLF, CR or LF, comments are left out, lines of data are joined, an event without its blank line is none.
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
    """Cuts what arrives into lines, without what ends them. `waiting`: bytes of one that is not complete."""

    def __init__(self) -> None:
        self.waiting = 0
        self._parts: list[bytes] = []
        self._after_cr = False
        self._is_first = True

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")  # of a CRLF that came in two pieces
            self._after_cr = False
        for line in chunk.splitlines(keepends=True):  # of bytes: CRLF, CR and LF, and no others
            text = line.rstrip(b"\r\n")
            self._parts.append(text)
            self.waiting += len(text)
            if len(text) < len(line):
                self._after_cr = line.endswith(b"\r")
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
    """The apis that an OpenAPI document of ours describes. Raises `Unexpected`."""
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
        is_async=operation.get("x-nbcompose-async") is True,  # a server from before it told does what it did then
        doc=f"{_text(operation.get('summary'))}\n\n{_text(operation.get('description'))}".strip(),
    )


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
