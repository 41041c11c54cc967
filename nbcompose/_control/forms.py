"""Form of an api, and its input: the JSON schema that HTTP uses, and arguments by the same validation.

Uploads: a parameter that may be a file takes `{"$upload": {"name", "type", "data"}}`, with base64. Nested values and
all other parameters are JSON, as in the body of a request.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

from nbcompose._protocol import messages
from nbcompose._schema import ApiSchema, Image
from nbcompose._service import curl_line
from nbcompose._spec import ApiSpec, ServiceSpec
from nbcompose.errors import BadRequest

UPLOAD = "$upload"
_IMAGE = Image(object).describe()["description"]

# Placeholders for the front end: the input as arguments, and the body of a request in Python and for a shell.
ARGUMENTS, DICT, JSON = "%(arguments)s", "%(dict)s", "%(json)s"


def describe(spec: ServiceSpec, api: ApiSpec, schema: ApiSchema, variable: str) -> messages.FormContent:
    """Return the data from which the front end makes a form. `variable`: the name of the service in the notebook."""
    return {
        "service": spec.name,
        "api": api.name,
        "schema": _form_schema(schema),
        "params": [{"name": p.name, "kind": p.kind, "required": p.required, "text": p.text} for p in api.params],
        "root": api.root.name if api.root else None,
        "stream": api.stream,
        "doc": api.doc,
        "signature": api.signature,
        "copies": copies(variable, api, schema),
    }


def copies(variable: str, api: ApiSpec, schema: ApiSchema) -> messages.Copies:
    """Return the call as code for a cell of the notebook; addresses and tokens are looked up when it runs."""
    call = f"{variable}.{api.name}({ARGUMENTS})"
    head = f'{{"Authorization": f"Bearer {{{variable}.token}}"}}'
    request = f"{variable}.url + {api.route!r}, json={DICT}, headers={head}, timeout=60"
    result = "content" if schema.gives_file else "json()"
    unary = f"import httpx\n\nhttpx.post({request}).raise_for_status().{result}"
    stream = (
        f'import httpx\n\nwith httpx.stream("POST", {request}) as response:\n'
        "    for line in response.iter_lines():\n        print(line)"
    )
    return {
        "python": f"for item in {call}:\n    print(item)" if api.stream else call,
        "httpx": stream if api.stream else unary,
        "curl": curl_line(variable, api, JSON, saves=schema.gives_file),
    }


def read(schema: ApiSchema, document: Any) -> dict[str, Any]:
    """Return validated arguments from the content of a form. Files need an open `TempFiles`.
    Raises `InvalidArgument`.
    """
    if not isinstance(document, Mapping):
        return schema.validate_json(document)
    return schema.validate_named({name: _value(schema, name, value) for name, value in document.items()})


def _value(schema: ApiSchema, name: str, value: Any) -> Any:
    if isinstance(value, list) and any(_is_upload(v) for v in value):
        return [_value(schema, name, v) for v in value]
    if not _is_upload(value):
        return value
    upload = value[UPLOAD]
    try:
        data = b64decode(upload["data"], validate=True)
    except (KeyError, TypeError, binascii.Error) as error:
        raise BadRequest(f"{name}: the file did not arrive whole: {error}") from None
    media_type = str(upload.get("type") or "") or "application/octet-stream"
    return schema.decode_part(name, data, media_type, str(upload.get("name") or "upload"))


def _is_upload(value: Any) -> bool:
    return isinstance(value, Mapping) and list(value) == [UPLOAD] and isinstance(value[UPLOAD], Mapping)


def _form_schema(schema: ApiSchema) -> dict[str, Any]:
    """Return the input's JSON schema; `x-form` marks strings that are files, and parameters that may be files."""
    form: dict[str, Any] = _marked(schema.input_schema)
    parts = (schema.multipart_schema or {}).get("properties", {})
    for name, field in form.get("properties", {}).items():
        part = parts.get(name, {})
        media = part.get("contentMediaType") or part.get("items", {}).get("contentMediaType")
        if media is not None:
            field["x-form"] = {"kind": _kind(media), "many": part.get("type") == "array"}
    return form


def _kind(media_type: str) -> str:
    if media_type.startswith("image/"):
        return "image"
    return "array" if media_type == "application/x-npy" else "file"


def _marked(node: Any) -> Any:
    """Return a copy in which base64 strings are marked."""
    if isinstance(node, list):
        return [_marked(n) for n in node]
    if not isinstance(node, dict):
        return node
    copy = {key: _marked(value) for key, value in node.items()}
    if copy.get("type") == "string":
        is_image = copy.get("description") == _IMAGE
        if is_image or copy.get("contentEncoding") == "base64":
            copy["x-form"] = {"kind": "image" if is_image else "file", "many": False}
    return copy
