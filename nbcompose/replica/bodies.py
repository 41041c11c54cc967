"""From the body of a request to the arguments of an api, by content type.

Which types a parameter takes, and what their bytes mean, is the schema's matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from email.message import Message
from typing import Any

from pydantic_core import from_json
from tornado.httputil import HTTPFile, HTTPInputError, parse_multipart_form_data

from nbcompose.errors import BadRequest, UnsupportedMediaType
from nbcompose.replica.replies import JSON
from nbcompose.schema import ApiSchema

FORM = "multipart/form-data"
CURL_DEFAULT = "application/x-www-form-urlencoded"


def read_arguments(schema: ApiSchema, content_type: str | None, body: bytes) -> dict[str, Any]:
    """Validated arguments. JSON is meant where no content type is given; no body at all is no arguments.

    A file in it needs an open `TempFiles`. Raises BadRequest (400) for bytes that are not what the content type says,
    UnsupportedMediaType (415), InvalidArgument (422).
    """
    if not content_type or content_type == JSON:  # the common cases, which need no parsing
        return schema.validate_json(_json(body) if body else {})
    header = Message()
    header["Content-Type"] = content_type
    media_type = header.get_content_type()
    if media_type == JSON:
        return schema.validate_json(_json(body) if body else {})
    if media_type == FORM:
        boundary = header.get_boundary()
        if boundary is None:
            raise BadRequest(f"Content-Type: {FORM} has no boundary")
        return schema.validate_json(schema.decode_form(_parts(boundary, body)))
    if media_type == CURL_DEFAULT:
        raise UnsupportedMediaType(f"a body of type {media_type} is not read; with curl add -H 'Content-Type: {JSON}'")
    return schema.validate_json(schema.decode_body(body, media_type))


def _json(body: bytes) -> Any:
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None


def _parts(boundary: str, body: bytes) -> Iterator[tuple[str, bytes, str | None, str | None]]:
    """(name, data, media type, file name) of each part of a form."""
    fields: dict[str, list[bytes]] = {}
    files: dict[str, list[HTTPFile]] = {}
    try:
        parse_multipart_form_data(boundary.encode("latin-1"), body, fields, files)
    except (HTTPInputError, UnicodeError) as error:
        raise BadRequest(f"the body is not {FORM}: {error}") from None
    for name, values in fields.items():
        for data in values:
            yield name, data, None, None
    for name, uploads in files.items():
        for upload in uploads:
            # tornado's word for a part that does not say what it is.
            known = upload.content_type != "application/unknown"
            yield name, upload.body, upload.content_type if known else None, upload.filename
