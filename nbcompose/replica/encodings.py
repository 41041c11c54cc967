"""Bodies of requests that were compressed on their way (`Content-Encoding`), bounded by what they become."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable

from nbcompose.errors import BadRequest, PayloadTooLarge, UnsupportedMediaType

ACCEPTED = "gzip, deflate"  # as `Accept-Encoding` says it; others would need a library, and gain little on this machine
MAX_CODINGS = 2
MAX_MEMBERS = 10_000  # of a gzip file; one may be as short as 20 bytes, and hold nothing
PIECE = 64 * 1024  # bytes that are inflated at once
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
        piece = view[position : position + PIECE]
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
