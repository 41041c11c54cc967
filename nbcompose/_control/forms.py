"""Form of an api, and its input: the JSON schema that HTTP uses, and arguments by the same validation.

Uploads: a parameter that may be a file takes `{"$upload": {"name", "type", "data"}}`, with base64. In a notebook a
parameter also takes `{"$variable": "df"}`, the value of one of the notebook's variables. Nested values and all other
parameters are JSON, as in the body of a request.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

from nbcompose._protocol import messages
from nbcompose._schema import ApiSchema
from nbcompose._service import javascript_call, script_call, terminal_call, terminal_events, terminal_lines
from nbcompose._spec import ApiSpec, ParamSpec, ServiceSpec
from nbcompose.errors import BadRequest, InvalidArgument

UPLOAD = "$upload"
VARIABLE = "$variable"
MOST_VARIABLES = 50  # that are offered for a parameter

# Placeholders for the front end: the input as arguments; the body of a request in Python, for a shell, in JavaScript.
ARGUMENTS, DICT, SHELL, JSON = "%(arguments)s", "%(dict)s", "%(shell)s", "%(json)s"
LINES = "%(lines)s"  # the input as words for a shell, each of them a line of a body that streams
QUERY = "%(query)s"  # what is no stream of the input, as the query of an address


def describe(
    spec: ServiceSpec, api: ApiSpec, schema: ApiSchema, variable: str, variables: Mapping[str, Any] | None
) -> messages.FormContent:
    """Return the data from which the front end makes a form.

    `variable`: the name of the service in the notebook. `variables`: the notebook's, None where there is no notebook.
    """
    described: messages.FormContent = {
        "service": spec.name,
        "api": api.name,
        "schema": schema.input_schema,
        "parts": schema.file_parts,
        "params": [_param(api, p) for p in api.params],
        "root": api.root.name if api.root else None,
        "stream": api.stream,
        "doc": api.doc,
        "signature": api.signature,
        "copies": copies(variable, spec.name, api, schema),
        "variables": {} if variables is None else _fitting(schema, variables),
        "call": _python(variable, api),
    }
    if api.stream_params:
        described["lines"] = terminal_lines(spec.name, api, LINES, saves=schema.gives_file)
    if len(api.stream_params) == 1:
        described["events"] = terminal_events(spec.name, api, QUERY, saves=schema.gives_file)
    return described


def _param(api: ApiSpec, p: ParamSpec) -> messages.Param:
    param: messages.Param = {"name": p.name, "kind": p.kind, "required": p.required, "text": p.text}
    return {**param, "stream": True} if p.name in api.stream_params else param


def copies(variable: str, service: str, api: ApiSpec, schema: ApiSchema) -> messages.Copies:
    """Return the call as code, for the notebook and for outside; see `_service/snippets.py`."""
    call, saves = _python(variable, api), schema.gives_file
    return {
        "python": f"for item in {call}:\n    print(item)" if api.stream else call,
        "script": script_call(service, api, DICT, saves=saves),
        "terminal": terminal_call(service, api, SHELL, saves=saves),
        "javascript": javascript_call(service, api, JSON, saves=saves),
    }


def _python(variable: str, api: ApiSpec) -> str:
    return f"{variable}.{api.name}({ARGUMENTS})"


def _fitting(schema: ApiSchema, variables: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the names of variables that a parameter takes, the newest first, for each that may be a file."""
    named = [(name, value) for name, value in reversed(list(variables.items())) if not name.startswith("_")]
    return {
        parameter: [name for name, value in named if isinstance(value, kind)][:MOST_VARIABLES]
        for parameter, kind in schema.file_classes.items()
    }


def read(schema: ApiSchema, document: Any, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return validated arguments from the content of a form. Files need an open `TempFiles`.
    Raises `InvalidArgument`.
    """
    if not isinstance(document, Mapping):
        return schema.validate_json(document)
    return schema.validate_named({name: _value(schema, name, value, variables) for name, value in document.items()})


def _value(schema: ApiSchema, name: str, value: Any, variables: Mapping[str, Any] | None) -> Any:
    if isinstance(value, list) and any(_is_upload(v) for v in value):
        return [_value(schema, name, v, variables) for v in value]
    if variables is not None and isinstance(value, Mapping) and list(value) == [VARIABLE]:
        variable = value[VARIABLE]
        if variable not in variables:
            reason = f"the notebook has no variable {str(variable)[:100]!r}"
            problem = {"loc": [name], "msg": reason, "type": "value_error"}
            raise InvalidArgument(f"{name}: {reason}: run the cell that makes it", [problem])
        return variables[variable]
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
