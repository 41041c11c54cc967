"""Request bodies to arguments, by content type; decompression within bounds.

Which types a parameter takes, and what their bytes mean, is the schema's matter.
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

from nbcompose._replica.http.responses import JSON
from nbcompose._schema import SMALL, ApiSchema, Part, uncollected
from nbcompose.errors import BadRequest, PayloadTooLarge, UnsupportedMediaType

ACCEPTED = "gzip, deflate"  # as `Accept-Encoding` says it; others would need a library, and gain little on this machine
MAX_CODINGS = 2
MAX_MEMBERS = 10_000  # of a gzip file; one may be as short as 20 bytes, and hold nothing
INFLATED_PIECE = 64 * 1024  # bytes that are inflated at once
ON_LOOP = 4 * 1024  # bytes that may become a thousand times as many before anybody else has to wait for that


async def decoded(body: bytes, content_encoding: str, limit: int) -> bytes:
    """The body before it was compressed.

    Raises UnsupportedMediaType (415) for codings that are not read, BadRequest (400) for bytes that are none of theirs,
    PayloadTooLarge (413) where it would be more than `limit` bytes.
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
        else:  # zlib lets go of the interpreter's lock
            body = await asyncio.to_thread(inflate, body, limit)
    return body


def _gzip(body: bytes, limit: int) -> bytes:
    return _inflated(body, limit, "gzip", zlib.MAX_WBITS | 16)


def _deflate(body: bytes, limit: int) -> bytes:
    """A zlib stream (RFC 9110, section 8.4.1.2), or the bare deflate that some clients mean."""
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


MULTIPART = "multipart/form-data"
URLENCODED = "application/x-www-form-urlencoded"
MAX_FIELDS = 1000  # of a form; of files, tornado itself would take 100
MAX_URLENCODED = 4 * 1024 * 1024  # bytes: to decode them is slow, and what is longer is better sent in parts
MAX_BOUNDARY = 70  # characters (RFC 2046, section 5.1.1): to search for a long one may take its length times the body's
PIECE = 1024 * 1024  # bytes that are looked at, or copied, at a time
MAX_HEADERS = 10 * 1024  # bytes of those of a part
LARGE = 4 * 1024 * 1024  # bytes of a file or an array: up to here they are copied in a millisecond
_LIMITS = ParseMultipartConfig(
    max_parts=MAX_FIELDS + 1, max_part_header_size=MAX_HEADERS
)  # what is before the first counts

_MEDIA_TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+/[!#$%&'*+.^_`|~0-9a-z-]+")


def takes_long(schema: ApiSchema, content_type: str | None, size: int) -> bool:
    """Whether to read a body may take so long that others should have their turn meanwhile, in a thread of its own."""
    if size <= SMALL:
        return size > 0 and schema.takes_images  # a small file may be a large image
    return (
        size > LARGE or schema.takes_images or not content_type or _kind(content_type) in (JSON, MULTIPART, URLENCODED)
    )


def read_arguments(schema: ApiSchema, content_type: str | None, body: bytes) -> dict[str, Any]:
    """Validated arguments. JSON is meant where no content type is given; no body at all is no arguments.

    A file in it needs an open `TempFiles`. Raises BadRequest (400) for bytes that are not what the content type says,
    UnsupportedMediaType (415), InvalidArgument (422), PayloadTooLarge (413) for more than is read.
    """
    if len(body) > SMALL:
        with uncollected():
            return _read_arguments(schema, content_type, body)
    return _read_arguments(schema, content_type, body)


def _read_arguments(schema: ApiSchema, content_type: str | None, body: bytes) -> dict[str, Any]:
    large = len(body) > SMALL
    if not content_type or content_type == JSON:  # the common cases, which need no parsing
        return schema.validate_json(_json(schema, body) if body else {}, large=large)
    media_type = _kind(content_type)
    if media_type == JSON:
        return schema.validate_json(_json(schema, body) if body else {}, large=large)
    if media_type == MULTIPART:
        return schema.validate_json(schema.decode_form(_parts(_boundary(content_type), body)), large=large)
    if media_type == URLENCODED:
        return schema.validate_json(schema.decode_form(_fields(body)), large=large)
    if not _MEDIA_TYPE.fullmatch(media_type):
        raise BadRequest(f"Content-Type: {content_type!r} is not a media type, such as {JSON}")
    return schema.validate_json(schema.decode_body(body, content_type), large=large)


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _json(schema: ApiSchema, body: bytes) -> Any:
    try:
        return schema.read(body)
    except ValueError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None


def _boundary(content_type: str) -> bytes:
    header = Message()
    header["Content-Type"] = content_type
    try:
        boundary = (header.get_boundary() or "").encode("latin-1")
    except (ValueError, LookupError):  # of an encoded parameter (RFC 2231)
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
            # tornado's word for a part that does not say what it is.
            known = upload.content_type != "application/unknown"
            data = large.get(upload.body, upload.body)
            yield name, data, upload.content_type if known else None, upload.filename


def _without_large(delimiter: bytes, body: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """A form with something short in the place of what is large, and what that stands for.

    tornado copies the body as a whole, three times, and nothing else runs meanwhile.
    """
    begins = list(islice(_finds(delimiter + b"\r\n", body), MAX_FIELDS + 2))
    end = _last(delimiter + b"--", body)
    kept, large, done = [], dict[bytes, bytes](), 0
    for begin, following in pairwise([*(at for at in begins if at < end - len(delimiter)), end]):
        headers = begin + len(delimiter) + 2
        first, last = body.find(b"\r\n\r\n", headers, headers + MAX_HEADERS) + 4, following - 2
        if first > headers and last - first > LARGE:
            name = secrets.token_bytes(16)
            # Slices of bytes, for which `join` lets other threads run.
            large[name] = b"".join(body[at : min(at + PIECE, last)] for at in range(first, last, PIECE))
            kept += [body[done:first], name]
            done = last
    return b"".join((*kept, body[done:])), large


def _finds(wanted: bytes, body: bytes) -> Iterator[int]:
    """Where it is, looked for in pieces, between which other threads run."""
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
    # curl calls everything so by default; no form begins as JSON does.
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
