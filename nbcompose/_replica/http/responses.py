"""What goes back over HTTP: a whole reply, the one shape of errors, and which of several forms `Accept` asks for.

Knows nothing of connections; streams have their own forms in `endpoints.py`.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from pydantic_core import to_json

from nbcompose._rpc import UNTOLD, aside, describe, is_tame
from nbcompose._user_exceptions import MAX_NAME, clipped, name_of, text_of
from nbcompose.errors import InvalidArgument, NbcomposeError, NotAcceptable, Overloaded, RemoteError

logger = logging.getLogger("nbcompose.http")

JSON = "application/json"
TEXT = "text/plain"
ANYTHING = "*/*"

# 499 is nginx's code for a client that went away; the standard has none.
PHRASES = {status.value: status.phrase for status in HTTPStatus} | {499: "Client Closed Request"}

# A full or restarting service is worth another try soon: queues drain, and replicas come back, within seconds.
RETRY_AFTER = {429: "1", 503: "1"}

STRANGERS = {"type": "InternalError", "message": "the api failed; the server's log says more under this id"}


@dataclass(slots=True)
class Reply:
    """A whole answer."""

    status: int = 200
    body: bytes = b""
    media_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


def content_type(media_type: str) -> str:
    """The header of what is sent as `media_type`: our texts are UTF-8, which a browser would not guess."""
    return f"{media_type}; charset=utf-8" if media_type.startswith("text/") else media_type


def file_name(name: str) -> str:
    """A Content-Disposition (RFC 6266): a file to be kept under this name, never a page of this server's."""
    plain = "".join(c if " " <= c <= "~" and c not in '"\\%' else "_" for c in name)
    encoded = "" if plain == name else f"; filename*=UTF-8''{quote(name.encode(errors='replace'), safe='')}"
    return f'attachment; filename="{plain}"{encoded}'


def json_reply(document: Any, status: int = 200) -> Reply:
    return Reply(status, json_of(document))


def json_of(document: Any) -> bytes:
    """A document of ours as JSON, which has no surrogates that are alone: they are shown."""
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
    """`text`, in which each surrogate that is alone is shown as Python writes it."""
    return text.encode(errors="backslashreplace").decode()


async def reply_aside(error: BaseException, *, trusted: bool) -> Reply:
    """As `error_reply`, of an error of users' code: what that runs to be told holds nobody up."""
    if is_tame(error):
        return error_reply(error, trusted=trusted)
    return await aside(
        lambda: error_reply(error, trusted=trusted), lambda: _plain_reply(error, UNTOLD, trusted=trusted)
    )


def error_reply(error: BaseException, *, trusted: bool) -> Reply:
    """The reply that tells of an error, and a line in the log under the same id; see `error_document`. Never raises."""
    try:
        return _error_reply(error, trusted=trusted)
    except BaseException as failure:
        return _plain_reply(error, f"no more can be told of it: {name_of(type(failure))}", trusted=trusted)


def _plain_reply(error: BaseException, why: str, *, trusted: bool) -> Reply:
    """What can be said of an exception without looking into it."""
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
    """(status, the one JSON shape of errors): {"error": {"type", "message", "id", "problems"?}}.

    Type and message of an exception of the user's own code, or of a call that it made wrongly, are shown to whoever is
    `trusted`, and to nobody else; the traceback goes to the log only, under the same id.
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
    if isinstance(error, InvalidArgument) and error.problems and not error.internal:
        document["error"]["problems"] = error.problems
    return status, document


def status_of(error: BaseException) -> int:
    """Of an error in the request itself, its own; else 500. One that says to come back later says so from below too."""
    if not isinstance(error, NbcomposeError):
        return 500
    status: Any = error.status  # a class of the user's may say anything
    if not isinstance(status, int) or status not in PHRASES or status < HTTPStatus.BAD_REQUEST:
        return 500
    if error.internal and status < HTTPStatus.INTERNAL_SERVER_ERROR:
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
        logger.log(level, "error %s: %s: %s", error_id, _type_name(error), text)
    elif is_tame(error) and text == said:  # what writes the log may not be able to write the other
        logger.error("error %s: %s: %s", error_id, _type_name(error), text, exc_info=error)
    else:  # logging would write all of it, as it is
        told = printable(describe(error, hop="").text.strip())
        logger.error("error %s: %s: %s\n%s", error_id, _type_name(error), text, told)


@lru_cache(maxsize=256)
def choose(accept: str | None, offers: tuple[str, ...]) -> str:
    """The media type of `offers` that an `Accept` header likes best (RFC 9110, section 12.5.1).

    Among equal weights the one that is named more exactly wins, then the one that is offered first: `*/*` gets the
    default. Raises NotAcceptable, which lists the offers. An offer of `*/*` is one of a type that is not known yet.
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
    """("type/subtype", q) of one part of an `Accept` header. An unreadable q counts as 1, as if it were not there."""
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
    """(q, how exactly: 0 to 3) that the most exact of `ranges` gives to `offer`; (0, 0) when none names it."""
    if offer == ANYTHING:
        return max((quality for _, quality in ranges), default=0.0), 0
    exactness = {"*/*": 1, offer.partition("/")[0] + "/*": 2, offer: 3}
    matches = [(exactness[media_type], quality) for media_type, quality in ranges if media_type in exactness]
    if not matches:
        return 0.0, 0
    exact, quality = max(matches)
    return quality, exact
