"""Parsing of request bodies to arguments, by content type, with bounded decompression.

See `_schema` for the media types that a parameter accepts.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import zlib
from collections.abc import Callable, Iterator
from email.message import Message
from itertools import islice, pairwise
from typing import Any
from urllib.parse import parse_qsl

from tornado.httputil import HTTPFile, HTTPInputError, ParseMultipartConfig, parse_multipart_form_data

from nbcompose._replica.http.exchange import Exchange
from nbcompose._replica.http.responses import JSON
from nbcompose._schema import SMALL, ApiSchema, Part, json_values, uncollected
from nbcompose._user_exceptions import MAX_NAME, clipped
from nbcompose.errors import BadRequest, PayloadTooLarge, UnsupportedMediaType

ACCEPTED = "gzip, deflate"  # value of `Accept-Encoding`; others need a library, and gain little on this machine
MAX_CODINGS = 2
MAX_MEMBERS = 10_000  # of a gzip file; an empty member can be as short as 20 bytes
INFLATED_PIECE = 64 * 1024  # bytes that are decompressed at once
ON_LOOP = 4 * 1024  # bytes; a body up to this size is decompressed on the loop, though it may grow a thousandfold


async def decoded(body: bytes, content_encoding: str, limit: int) -> bytes:
    """Return the decompressed body.

    Raises UnsupportedMediaType (415) for unsupported codings, BadRequest (400) for invalid data, PayloadTooLarge (413)
    if the result would be more than `limit` bytes.
    """
    codings = [c.strip().lower() for c in content_encoding.split(",") if c.strip()]
    inflates = [_INFLATES[c] for c in codings if c in _INFLATES]
    if len(inflates) < len(codings) or len(codings) > MAX_CODINGS:
        raise UnsupportedMediaType(f"a body with Content-Encoding: {content_encoding} is not read; there is {ACCEPTED}")
    for inflate in reversed(inflates):
        if not body:
            break
        if len(body) <= ON_LOOP:
            body = inflate(body, limit)
        else:  # zlib releases the GIL
            body = await asyncio.to_thread(inflate, body, limit)
    return body


def _gzip(body: bytes, limit: int) -> bytes:
    return _inflated(body, limit, "gzip", zlib.MAX_WBITS | 16)


def _deflate(body: bytes, limit: int) -> bytes:
    """Decompress a zlib stream (RFC 9110, section 8.4.1.2), or the raw deflate data that some clients send instead."""
    is_zlib = len(body) > 1 and body[0] & 0x0F == zlib.DEFLATED and (body[0] << 8 | body[1]) % 31 == 0
    return _inflated(body, limit, "deflate", zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)


def _inflated(body: bytes, limit: int, coding: str, bits: int) -> bytes:
    view, position, size, members = memoryview(body), 0, 0, 0
    chunks: list[bytes] = []
    inflater = zlib.decompressobj(bits)
    while position < len(view):
        piece = view[position : position + INFLATED_PIECE]
        position += len(piece)
        try:
            chunks.append(inflater.decompress(piece, limit - size + 1))
        except zlib.error as error:
            raise BadRequest(f"the body is not {coding}: {error}") from None
        size += len(chunks[-1])
        if size > limit:
            raise PayloadTooLarge(f"the body is larger than the {limit:,} bytes that this service takes, unpacked")
        if inflater.eof and position - len(inflater.unused_data) < len(view):
            members += 1
            if coding != "gzip" or members >= MAX_MEMBERS:
                raise BadRequest(f"the body is not {coding}: something follows its end")
            position -= len(inflater.unused_data)
            inflater = zlib.decompressobj(bits)
    if not inflater.eof:
        raise BadRequest(f"the body is not {coding}: it ends too early")
    return b"".join(chunks)


def _as_it_is(body: bytes, limit: int) -> bytes:
    return body


_INFLATES: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "identity": _as_it_is,
}


async def unpacked(exchange: Exchange, body: bytes) -> bytes:
    """Return the body of a request that has a Content-Encoding. Raises what `decoded` does."""
    exchange.reply_headers["Accept-Encoding"] = ACCEPTED  # RFC 9110, section 12.5.3
    return await decoded(body, exchange.headers["Content-Encoding"], exchange.site.max_body)


async def read_json(exchange: Exchange, most_values: int) -> Any:
    """Return the document that a body is. Raises what `decoded` does, and BadRequest (400) if it is no JSON."""
    kind = exchange.headers.get("Content-Type")
    if kind and _kind(kind) != JSON:
        raise UnsupportedMediaType(f"{exchange.path} does not take {clipped(kind, MAX_NAME)}; it takes {JSON}")
    body = await exchange.body()
    if exchange.headers.get("Content-Encoding"):
        body = await unpacked(exchange, body)
    try:
        if len(body) <= SMALL:
            return json_values.read(body, most_values)
        async with exchange.site.reading:  # as of arguments
            return await asyncio.to_thread(json_values.read, body, most_values)
    except ValueError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None


MULTIPART = "multipart/form-data"
URLENCODED = "application/x-www-form-urlencoded"
MAX_FIELDS = 1000  # of a form; tornado's own default is 100
MAX_URLENCODED = 4 * 1024 * 1024  # bytes: decoding is slow, and longer bodies are better sent as multipart
MAX_BOUNDARY = 70  # characters (RFC 2046, section 5.1.1): a search may take the boundary's length times the body's
PIECE = 1024 * 1024  # bytes that are searched, or copied, at a time
MAX_HEADERS = 10 * 1024  # bytes of a part's headers
LARGE = 4 * 1024 * 1024  # bytes of a file or an array: up to this size they are copied within a millisecond
_LIMITS = ParseMultipartConfig(
    max_parts=MAX_FIELDS + 1, max_part_header_size=MAX_HEADERS
)  # + 1: the data before the first part counts

_MEDIA_TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+/[!#$%&'*+.^_`|~0-9a-z-]+")


def takes_long(content_type: str | None, size: int) -> bool:
    """Whether parsing a body of more than `SMALL` bytes may take so long that it should run in a thread (`read_large`)
    instead of on the loop.
    """
    return size > LARGE or not content_type or _kind(content_type) in (JSON, MULTIPART, URLENCODED)


def read_large(schema: ApiSchema, content_type: str | None, body: bytes) -> dict[str, Any]:
    """As `read_arguments`, for a body of which so many objects are made that the garbage collector is in the way."""
    with uncollected():
        return read_arguments(schema, content_type, body)


def read_arguments(schema: ApiSchema, content_type: str | None, body: bytes) -> dict[str, Any]:
    """Return the validated arguments. Without a content type the body is JSON; an empty body means no arguments.

    Files in the body need an open `TempFiles`. Raises BadRequest (400) if the body does not match its content type,
    UnsupportedMediaType (415), InvalidArgument (422), PayloadTooLarge (413) if a limit is exceeded.
    """
    large = len(body) > SMALL
    # The common cases need no parsing of the header.
    media_type = JSON if not content_type or content_type == JSON else _kind(content_type)
    document: Any
    if media_type == JSON:
        try:
            document = schema.read(body) if body else {}
        except ValueError as error:
            raise BadRequest(f"the body is not JSON: {error}") from None
    elif media_type == MULTIPART:
        document = schema.decode_form(_parts(_boundary(content_type or ""), body))
    elif media_type == URLENCODED:
        document = schema.decode_form(_fields(body))
    elif _MEDIA_TYPE.fullmatch(media_type):
        document = schema.decode_body(body, content_type or "")
    else:
        raise BadRequest(f"Content-Type: {content_type!r} is not a media type, such as {JSON}")
    return schema.validate_json(document, large=large)


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _boundary(content_type: str) -> bytes:
    header = Message()
    header["Content-Type"] = content_type
    try:
        boundary = (header.get_boundary() or "").encode("latin-1")
    except (ValueError, LookupError):  # an invalid encoded parameter (RFC 2231)
        boundary = b""
    if not boundary:
        raise BadRequest(f"Content-Type: {MULTIPART} has no boundary that can be read")
    if len(boundary) > MAX_BOUNDARY:
        raise BadRequest(f"Content-Type: {MULTIPART} has a boundary of more than {MAX_BOUNDARY} characters")
    return boundary


def _parts(boundary: bytes, body: bytes) -> Iterator[Part]:
    fields: dict[str, list[bytes]] = {}
    files: dict[str, list[HTTPFile]] = {}
    body, large = _without_large(b"--" + boundary, body) if len(body) > LARGE else (body, {})
    try:
        parse_multipart_form_data(boundary, body, fields, files, config=_LIMITS)
    except (HTTPInputError, UnicodeError) as error:
        if body.count(b"--" + boundary + b"\r\n") > MAX_FIELDS:
            raise PayloadTooLarge(f"the form has more than the {MAX_FIELDS:,} parts that are read") from None
        raise BadRequest(f"the body is not {MULTIPART}: {error}") from None
    for name, values in fields.items():
        for data in values:
            yield name, large.get(data, data), None, None
    for name, uploads in files.items():
        for upload in uploads:
            # Set by tornado for a part without a content type.
            known = upload.content_type != "application/unknown"
            data = large.get(upload.body, upload.body)
            yield name, data, upload.content_type if known else None, upload.filename


def _without_large(delimiter: bytes, body: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """Return a form with large parts replaced by short tokens, and the large parts by token.

    tornado copies the whole body three times while it holds the GIL.
    """
    begins = list(islice(_finds(delimiter + b"\r\n", body), MAX_FIELDS + 2))
    end = _last(delimiter + b"--", body)
    kept, large, done = [], dict[bytes, bytes](), 0
    for begin, following in pairwise([*(at for at in begins if at < end - len(delimiter)), end]):
        headers = begin + len(delimiter) + 2
        first, last = body.find(b"\r\n\r\n", headers, headers + MAX_HEADERS) + 4, following - 2
        if first > headers and last - first > LARGE:
            name = secrets.token_bytes(16)
            # Slices, so that other threads can run in between; of type bytes, for which `join` releases the GIL.
            large[name] = b"".join(body[at : min(at + PIECE, last)] for at in range(first, last, PIECE))
            kept += [body[done:first], name]
            done = last
    return b"".join((*kept, body[done:])), large


def _finds(wanted: bytes, body: bytes) -> Iterator[int]:
    """Yield the positions of `wanted`, searching piece by piece, so that other threads can run in between."""
    done = 0
    for start in range(0, len(body), PIECE):
        end = start + PIECE + len(wanted) - 1
        while (at := body.find(wanted, max(start, done), end)) >= 0:
            yield at
            done = at + len(wanted)


def _last(wanted: bytes, body: bytes) -> int:
    for end in range(len(body), 0, -PIECE):
        at = body.rfind(wanted, max(0, end - PIECE - len(wanted) + 1), end)
        if at >= 0:
            return at
    return -1


def _fields(body: bytes) -> Iterator[Part]:
    # curl's default content type for any data; a form never begins like JSON.
    hint = f"for JSON, with curl, add -H 'Content-Type: {JSON}'"
    if body.lstrip()[:1] in (b"{", b"[", b'"'):
        raise UnsupportedMediaType(f"the body says that it is {URLENCODED}, and is not; {hint}")
    if len(body) > MAX_URLENCODED:
        raise PayloadTooLarge(
            f"a body of type {URLENCODED} may have {MAX_URLENCODED:,} bytes: send more than that as {MULTIPART}"
        )
    if body.count(b"&") >= MAX_FIELDS:
        raise PayloadTooLarge(f"the form has more than the {MAX_FIELDS:,} fields that are read")
    try:
        text, strict = body.decode("ascii"), bool(body)
        pairs = parse_qsl(text, True, strict_parsing=strict, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise BadRequest(f"the body is not {URLENCODED}: {error}; {hint}") from None
    for name, value in pairs:
        yield name, value.encode(), None, None
