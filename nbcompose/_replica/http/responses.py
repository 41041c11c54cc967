"""HTTP replies: complete replies, the JSON form of errors, and content negotiation by `Accept`.

Independent of connections; the formats of streams are in `endpoints.py`.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from html import escape
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from pydantic_core import to_json

from nbcompose._rpc import UNTOLD, aside, describe, is_tame
from nbcompose._user_exceptions import MAX_NAME, clipped, name_of, text_of
from nbcompose.errors import InvalidArgument, NbcomposeError, NotAcceptable, Overloaded, RemoteError, ReplicaDied

logger = logging.getLogger("nbcompose.http")

JSON = "application/json"
TEXT = "text/plain"
ANYTHING = "*/*"

# 499 is nginx's code for a client that closed the connection; the standard has none.
PHRASES = {status.value: status.phrase for status in HTTPStatus} | {499: "Client Closed Request"}

# An overloaded or restarting service should be retried soon: queues drain, and replicas restart, within seconds.
RETRY_AFTER = {429: "1", 503: "1"}

STRANGERS = {"type": "InternalError", "message": "the api failed; the server's log says more under this id"}


@dataclass(slots=True)
class Reply:
    """A complete reply."""

    status: int = 200
    body: bytes = b""
    media_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


@lru_cache(maxsize=256)
def content_type(media_type: str) -> str:
    """Return the Content-Type header for `media_type`: texts are UTF-8, which a browser would not assume."""
    return f"{media_type}; charset=utf-8" if media_type.startswith("text/") else media_type


def file_name(name: str) -> str:
    """Return a Content-Disposition header (RFC 6266): save under this name, never show as a page of this server."""
    plain = "".join(c if " " <= c <= "~" and c not in '"\\%' else "_" for c in name)
    encoded = "" if plain == name else f"; filename*=UTF-8''{quote(name.encode(errors='replace'), safe='')}"
    return f'attachment; filename="{plain}"{encoded}'


def json_reply(document: Any, status: int = 200) -> Reply:
    return Reply(status, json_of(document))


def json_of(document: Any) -> bytes:
    """Return a document as JSON; lone surrogates, which JSON cannot encode, are written as escapes."""
    try:
        return to_json(document, fallback=str)
    except Exception:
        return to_json(_shown(document), fallback=str)


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {_shown(key): _shown(item) for key, item in value.items()}
    return [_shown(item) for item in value] if isinstance(value, list | tuple) else value


def printable(text: str) -> str:
    """Return `text` with each lone surrogate replaced by its Python escape."""
    return text.encode(errors="backslashreplace").decode()


async def reply_aside(error: BaseException, *, trusted: bool) -> Reply:
    """As `error_reply`, for an error of user code: code that describes it (e.g. `__str__`) runs in a thread."""
    if is_tame(error):
        return error_reply(error, trusted=trusted)
    return await aside(
        lambda: error_reply(error, trusted=trusted), lambda: _plain_reply(error, UNTOLD, trusted=trusted)
    )


def error_reply(error: BaseException, *, trusted: bool) -> Reply:
    """Return the reply for an error, and log the error under the same id; see `error_document`. Never raises."""
    try:
        return _error_reply(error, trusted=trusted)
    except BaseException as failure:
        return _plain_reply(error, f"no more can be told of it: {name_of(type(failure))}", trusted=trusted)


def error_page(title: str, message: str, reply: Reply) -> Reply:
    """Return an error reply as a page, for a person who has opened the address in a browser."""
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<h1>{escape(title)}</h1><p>{escape(message)}</p><p>The page /docs has a field for it.</p></html>"
    )
    headers = {**reply.headers, "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'"}
    return Reply(reply.status, page.encode(), content_type("text/html"), headers)


def _plain_reply(error: BaseException, why: str, *, trusted: bool) -> Reply:
    """Return a reply with the exception's type name only; `why` says why there is no more."""
    error_id, name = secrets.token_hex(6), name_of(type(error))
    logger.error("error %s: %s: %s", error_id, name, why)
    shown = {"type": name, "message": why} if trusted else STRANGERS
    shown = {**shown, "id": error_id}
    return Reply(500, json.dumps({"error": shown}).encode())


def _error_reply(error: BaseException, *, trusted: bool) -> Reply:
    status, document = error_document(error, trusted=trusted)
    reply = json_reply(document, status)
    if status in RETRY_AFTER:
        reply.headers["Retry-After"] = RETRY_AFTER[status]
    if status == HTTPStatus.UNAUTHORIZED:
        reply.headers["WWW-Authenticate"] = "Bearer"
    return reply


def error_document(error: BaseException, *, trusted: bool) -> tuple[int, dict[str, Any]]:
    """Return (status, JSON form of an error): {"error": {"type", "message", "id", "problems"?}}.

    Type and message of an exception raised by user code, or of a wrong call that it made, are shown only to `trusted`
    clients; the traceback is only written to the log, under the same id.
    """
    status = status_of(error)
    own = isinstance(error, NbcomposeError) and not isinstance(error, RemoteError) and status in (error.status, 503)
    error_id = secrets.token_hex(6)
    _log(error, status, error_id)
    if not own and not trusted:
        shown = dict(STRANGERS)
    else:
        shown = {"type": _type_name(error), "message": printable(text_of(error))}
    shown["id"] = error_id
    document: dict[str, Any] = {"error": shown}
    if isinstance(error, InvalidArgument) and error.problems and (error.of_client or not error.internal):
        document["error"]["problems"] = error.problems
    return status, document


def status_of(error: BaseException) -> int:
    """Return the HTTP status of an error.

    An nbcompose error has its own status. If it was raised inside the service (`internal`), a client error becomes 500,
    except `Overloaded`, which becomes 503. Any other exception is 500.
    """
    if not isinstance(error, NbcomposeError):
        return 500
    status: Any = error.status  # a user's subclass may set anything
    if not isinstance(status, int) or status not in PHRASES or status < HTTPStatus.BAD_REQUEST:
        return 500
    if error.internal and not error.of_client and status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return 503 if isinstance(error, Overloaded) else 500
    return int(status)


def _type_name(error: BaseException) -> str:
    if isinstance(error, RemoteError) and error.type_name:
        return printable(clipped(error.type_name.rpartition(".")[2], MAX_NAME))
    return name_of(type(error))


def _log(error: BaseException, status: int, error_id: str) -> None:
    said = text_of(error)
    text = printable(said)
    if status != HTTPStatus.INTERNAL_SERVER_ERROR:
        level = logging.WARNING if status > HTTPStatus.INTERNAL_SERVER_ERROR else logging.DEBUG
        notes = [printable(note) for note in getattr(error, "__notes__", ())] if isinstance(error, ReplicaDied) else []
        logger.log(level, "error %s: %s: %s", error_id, _type_name(error), "\n".join([text, *notes]))
    elif is_tame(error) and text == said:  # log handlers may not be able to encode lone surrogates
        logger.error("error %s: %s", error_id, _type_name(error), exc_info=error)  # whose last line is the message
    else:  # logging would write the whole traceback, unbounded and unescaped
        told = printable(describe(error, hop="").text.strip())
        logger.error("error %s: %s\n%s", error_id, _type_name(error), told)


@lru_cache(maxsize=256)
def choose(accept: str | None, offers: tuple[str, ...]) -> str:
    """Return the media type of `offers` that an `Accept` header prefers (RFC 9110, section 12.5.1).

    Among equal weights the more specific match wins, then the earlier offer: `*/*` gets the default. Raises
    NotAcceptable, which lists the offers. An offer of `*/*` stands for a type that is not known yet.
    """
    if accept is None or not accept.strip():
        return offers[0]
    ranges = [_media_range(part) for part in accept.split(",") if part.strip()]
    ranked = [(*_weight(ranges, offer), -i) for i, offer in enumerate(offers)]
    quality, _, position = max(ranked)
    if quality <= 0:
        raise NotAcceptable(f"no form of the result fits Accept: {accept}; there is {', '.join(offers)}")
    return offers[-position]


def _media_range(text: str) -> tuple[str, float]:
    """Return ("type/subtype", q) of one part of an `Accept` header. An invalid q counts as 1, like a missing one."""
    media_type, *parameters = (piece.strip().lower() for piece in text.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return media_type, min(max(float(value), 0.0), 1.0)
            except ValueError:
                break
    return media_type, 1.0


def _weight(ranges: Sequence[tuple[str, float]], offer: str) -> tuple[float, int]:
    """Return (q, specificity from 0 to 3) of the most specific of `ranges` that matches `offer`; (0, 0) if none."""
    if offer == ANYTHING:
        return max((quality for _, quality in ranges), default=0.0), 0
    exactness = {"*/*": 1, offer.partition("/")[0] + "/*": 2, offer: 3}
    matches = [(exactness[media_type], quality) for media_type, quality in ranges if media_type in exactness]
    if not matches:
        return 0.0, 0
    exact, quality = max(matches)
    return quality, exact
