"""Documentation page at `/docs`, and curl commands for apis.

The page reads everything that it shows from `/openapi.json`. It is nbcompose's own, about 50 kB, and loads nothing from
other servers. Its forms and results are also those of the live graph (`_notebook/graph/assets.py`). Swagger UI was
considered: the PyPI packages with its files depend on a web framework or have not been updated for years; it is 40
times as large, needs inline styles, and shows a stream only after the stream has ended.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from nbcompose._replica.http.responses import Reply

# The page is served without a token, so it must not be a way to attack: no foreign scripts, frames or addresses.
CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src data: blob:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)

# For a terminal: it asks for the token, which then stands in no history of commands.
SET_TOKEN = "read -rs NBCOMPOSE_TOKEN"

_MODULES = (
    *("docs", "elements", "fields", "form", "items", "outcome", "requests", "result", "schema", "sources", "streams"),
    *("values", "words"),
)

# Path on the server: (file, media type).
ASSETS = {
    "/docs": ("docs.html", "text/html; charset=utf-8"),
    **{f"/docs/{name}.css": (f"{name}.css", "text/css; charset=utf-8") for name in ("docs", "form")},
    **{f"/docs/{name}.js": (f"{name}.js", "text/javascript; charset=utf-8") for name in _MODULES},
}


def asset(path: str) -> Reply:
    """Return the page, or one of its files. Raises KeyError for a path that is not in `ASSETS`."""
    name, media_type = ASSETS[path]
    headers = {
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
    return Reply(200, _read(name), media_type, headers)


@cache
def _read(name: str) -> bytes:
    return files("nbcompose._replica.http").joinpath("static", name).read_bytes()


def curl_line(url: str, schema: Mapping[str, Any], *, needs_token: bool, saves: bool = False) -> str:
    """Return a curl command that calls an api.

    `schema`: the schema of its body; required properties are included with empty values. `saves`: the response is a
    file, which is written to disk instead of to the terminal.
    """
    target = schema.get("$defs", {}).get(str(schema.get("$ref", "")).removeprefix("#/$defs/"), schema)
    body = _EMPTY.get(target.get("type"))
    if "properties" in target or target.get("type") == "object":
        properties = target.get("properties", {})
        body = {name: _EMPTY.get(properties.get(name, {}).get("type")) for name in target.get("required", ())}
    parts = ["curl", shlex.quote(url), "-H 'Content-Type: application/json'"]
    if saves:
        parts.append("-o answer")
    if needs_token:
        parts.append('-H "Authorization: Bearer $NBCOMPOSE_TOKEN"')
    return " ".join([*parts, "-d", shlex.quote(json.dumps(body))])


_EMPTY: dict[str | None, Any] = {"string": "", "integer": 0, "number": 0, "boolean": False, "array": [], "object": {}}
