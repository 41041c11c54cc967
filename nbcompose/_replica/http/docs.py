"""How to call a service, for people: the page at `/docs`, and a curl line.

The page asks `/openapi.json` for all it shows.

The page is our own, about 17 kB, and needs nothing from elsewhere. Swagger UI was weighed: the PyPI packages that ship
its files pull in a web framework or have stood still for years, it is 100 times as large, wants inline styles, and
shows a stream only when the stream has ended.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from nbcompose._replica.http.responses import Reply

# The page is open to those without a token, so it must not be a way in: no foreign script, frame or address.
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

# Path below the server's root: (file, media type).
ASSETS = {
    "/docs": ("docs.html", "text/html; charset=utf-8"),
    "/docs/docs.css": ("docs.css", "text/css; charset=utf-8"),
    "/docs/docs.js": ("docs.js", "text/javascript; charset=utf-8"),
    "/docs/examples.js": ("examples.js", "text/javascript; charset=utf-8"),
}


def asset(path: str) -> Reply:
    """The page, or one of its files. Raises KeyError for a path that is not in ASSETS."""
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
    """A command that calls an api. `schema`: that of its body; what is required is in the command, empty.

    `saves`: the answer is a file, which no terminal can show.
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
