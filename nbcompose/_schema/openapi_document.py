"""Build the OpenAPI document of a service from its apis' JSON schemas.

3.1 (https://spec.openapis.org/oas/v3.1.1) is what tools know; 3.2 (https://spec.openapis.org/oas/v3.2.0) says what the
items of a stream are (`itemSchema`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any

from nbcompose._schema.api import ApiSchema
from nbcompose._spec import ApiSpec, ServiceSpec
from nbcompose.errors import (
    BadRequest,
    CallError,
    DeadlineExceeded,
    InvalidArgument,
    Overloaded,
    ServiceUnavailable,
    Unauthorized,
)

_ERRORS: tuple[tuple[type[CallError], str], ...] = (
    (BadRequest, "the body is not what its content type says"),
    (InvalidArgument, "an argument is missing, unknown or of the wrong type"),
    (Overloaded, "too many calls at once: try again later"),
    (CallError, "the api failed; the id is in the log"),
    (ServiceUnavailable, "not ready"),
    (DeadlineExceeded, "it took too long"),
)

_OWN_SCHEMAS: dict[str, Any] = {
    "Error": {
        "title": "Error",
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"$ref": "#/components/schemas/ErrorDetail"}},
    },
    "ErrorDetail": {
        "title": "ErrorDetail",
        "type": "object",
        "required": ["type", "message", "id"],
        "properties": {
            "type": {"type": "string", "examples": ["InvalidArgument"]},
            "message": {"type": "string"},
            "id": {"type": "string", "description": "what the log knows this error by"},
            "problems": {
                "type": "array",
                "description": "each argument that is wrong",
                "items": {"$ref": "#/components/schemas/ErrorProblem"},
            },
        },
    },
    "ErrorProblem": {
        "title": "ErrorProblem",
        "type": "object",
        "required": ["loc", "msg", "type"],
        "properties": {
            "loc": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
            "msg": {"type": "string"},
            "type": {"type": "string"},
        },
    },
}


@dataclass(frozen=True, slots=True)
class OtherRoute:
    """A route that is no api's, as the document describes it. `name`: its operation's.

    `body`: the JSON schema of the request, None for one without; `answer` that of the reply, `stream` says what comes
    instead where the request asks for a stream. `error` is that of errors, whose statuses are described by `errors`.
    """

    method: str
    path: str
    name: str
    summary: str
    answer: Mapping[str, Any]
    error: Mapping[str, Any]
    errors: Mapping[int, str]
    body: Mapping[str, Any] | None = None
    stream: str = ""
    description: str = ""


VERSIONS = {"3.1": "3.1.0", "3.2": "3.2.0"}


def openapi(
    spec: ServiceSpec,
    schemas: Mapping[str, ApiSchema],
    *,
    needs_token: bool,
    version: str = "3.1",
    others: Iterable[OtherRoute] = (),
) -> dict[str, Any]:
    """Return the document: one POST path for each api, with bearer security if `needs_token`. `schemas` are by api
    name; `version` is one of `VERSIONS`; `others` are described after the apis.
    """
    components = _Components()
    paths = {
        api.route: {"post": _operation(spec, api, schemas[api.name], components, needs_token, version)}
        for api in spec.apis
    }
    paths |= {r.path: {r.method.lower(): _other_operation(spec, r, components, needs_token)} for r in others}
    summary, description = _doc(spec.cls.__doc__ or "")
    document: dict[str, Any] = {
        "openapi": VERSIONS[version],
        "info": {"title": spec.name, "version": "1", **_filled(summary=summary, description=description)},
        "tags": [{"name": spec.name}],
        "paths": paths,
        "components": {"schemas": components.schemas},
    }
    if needs_token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _operation(
    service: ServiceSpec, api: ApiSpec, schema: ApiSchema, components: _Components, needs_token: bool, version: str
) -> dict[str, Any]:
    summary, description = _doc(api.doc)
    return {
        "operationId": api.name,
        "tags": [service.name],
        **_filled(summary=summary or api.signature, description=description),
        # Not expressible in JSON Schema; for `depends(url=...)` and the page at /docs.
        "x-nbcompose-params": [asdict(param) for param in api.params],
        "x-nbcompose-stream": api.stream,
        "x-nbcompose-async": api.is_async,
        **({"x-nbcompose-stream-params": list(api.stream_params)} if api.stream_params else {}),
        "requestBody": {
            "required": any(p.required for p in api.params),
            "content": _typed(_request_content(api, schema, components, version)),
        },
        "responses": {
            "200": {
                "description": "the items, one after the other" if api.stream else "the result",
                "content": _typed(_response_content(api, schema, components, version)),
            },
            **_error_responses(needs_token),
        },
    }


def _other_operation(
    service: ServiceSpec, route: OtherRoute, components: _Components, needs_token: bool
) -> dict[str, Any]:
    def content(schema: Mapping[str, Any], side: str) -> dict[str, Any]:
        return {"application/json": {"schema": components.add(schema, route.name, side)}}

    answer = content(route.answer, "Output")
    if route.stream:
        answer["text/event-stream"] = {"schema": {"type": "string", "description": route.stream}}
    statuses = {status: text for status, text in route.errors.items() if needs_token or status != Unauthorized.status}
    failures = {
        str(status): {"description": text, "content": content(route.error, "Output")}
        for status, text in statuses.items()
    }
    body = {} if route.body is None else {"requestBody": {"required": True, "content": content(route.body, "Input")}}
    return {
        "operationId": route.name,
        "tags": [service.name],
        **_filled(summary=route.summary, description=route.description),
        **body,
        "responses": {"200": {"description": "the answer", "content": answer}, **failures},
    }


def _request_content(api: ApiSpec, schema: ApiSchema, components: _Components, version: str) -> dict[str, Any]:
    name = _pascal(api.name)
    body = components.add(schema.body_schema, api.name, "Input", "" if api.root else f"{name}Arguments")
    content = {"application/json": {"schema": body}}
    if schema.multipart_schema is not None:
        form = schema.multipart_schema
        form = {**form, "properties": {field: _file(told) for field, told in form["properties"].items()}}
        content["multipart/form-data"] = {"schema": components.add(form, api.name, "Input", f"{name}Form")}
    content |= {media: {} for media in schema.body_types()}
    if not api.stream_params:
        return content
    told = "as they come, while the answer comes: each line is an object of parameters, with items of the streams"
    lines = {"schema": {"type": "string", "description": told}}
    if version == "3.2":
        lines = {"itemSchema": components.add(schema.line_schema, api.name, "Input", f"{name}Line")}
    text = {"text/plain": {"schema": {"type": "string", "description": "pieces of the text, as they come"}}}
    if len(api.stream_params) > 1:
        return content | {"application/x-ndjson": lines}
    told = "server-sent events, as a stream of nbcompose is sent: one item's JSON in each event's data, to `event: end`"
    events: dict[str, Any] = {"schema": {"type": "string", "description": told}}
    return content | {"application/x-ndjson": lines} | text | {"text/event-stream": events}


def _response_content(api: ApiSpec, schema: ApiSchema, components: _Components, version: str) -> dict[str, Any]:
    """Return the response bodies by media type, the default first. Besides JSON only texts have a schema."""
    item = components.add(schema.output_schema, api.name, "Output")
    types = schema.media_types()
    text: dict[str, Any] = {"schema": {"type": "string"}}
    if not api.stream:
        return {m: {"schema": item} if m == "application/json" else text if m == "text/plain" else {} for m in types}
    events: dict[str, Any] = {
        "type": "string",
        "description": "server-sent events: one item's JSON in each event's data",
    }
    content = {"application/x-ndjson": {"schema": item}, "text/event-stream": {"schema": events}}
    if version == "3.2":
        data = {"type": "string", "contentMediaType": "application/json", "contentSchema": item}
        event = {"type": "object", "properties": {"event": {"enum": ["error", "end"]}, "data": data}}
        content = {"application/x-ndjson": {"itemSchema": item}, "text/event-stream": {"itemSchema": event}}
    return content | ({"text/plain": text} if "text/plain" in types else {})


def _file(field: dict[str, Any]) -> dict[str, Any]:
    """Return a form field's schema; for a file with OpenAPI 3.0's `format` as well, which code generators know."""
    if "contentMediaType" in field:
        return {**field, "format": "binary"}
    items = field.get("items")
    return {**field, "items": _file(items)} if isinstance(items, dict) else field


def _typed(content: dict[str, Any]) -> dict[str, Any]:
    """Return bodies by media type; those without a schema get one: a text, or bytes."""
    plain: dict[str, Any] = {"type": "string"}
    return {
        media: body or {"schema": plain if media.startswith("text/") else {**plain, "format": "binary"}}
        for media, body in content.items()
    }


def _error_responses(needs_token: bool) -> dict[str, Any]:
    unauthorized: tuple[type[CallError], str] = (Unauthorized, "no token, or a wrong one")
    errors = (unauthorized, *_ERRORS) if needs_token else _ERRORS
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {str(error.status): {"description": text, "content": content} for error, text in errors}


class _Components:
    """`components.schemas`, collected from schemas with their own `$defs`. Different definitions get different names.

    Code generators derive class and file names from them and change the case, so names differ in their letters and
    digits regardless of case. The title of each schema is its name.
    """

    def __init__(self) -> None:
        self.schemas: dict[str, Any] = dict(_OWN_SCHEMAS)
        self._folded = {_folded(name): name for name in _OWN_SCHEMAS}

    def add(self, schema: Mapping[str, Any], api: str, side: str, name: str = "") -> dict[str, Any]:
        """Return `schema` without its `$defs`, which are added here. `side` (Input or Output) and `api` make names
        unique.

        A class becomes a component itself and is replaced with a reference: an object called `name`, or a schema whose
        title names a class.
        """
        definitions = dict(schema.get("$defs", {}))
        rest = {key: value for key, value in schema.items() if key != "$defs"}
        name = name if "properties" in rest and name else _class_name(rest)
        if name:
            key = next(key for key in _candidates(name, api, side) if key not in definitions)
            definitions[key] = rest
            rest = {"$ref": f"#/$defs/{key}"}
        candidates = {name: _candidates(name, api, side) for name in definitions}
        names = {name: next(candidates[name]) for name in definitions}
        # Renaming a definition changes those that refer to it, which may then clash as well: repeat until nothing
        # changes.
        while clash := [name for name in definitions if self._clashes(names, name, definitions[name])]:
            names.update({name: next(candidates[name]) for name in clash})
        for key, body in definitions.items():
            self._put(names[key], _renamed(body, names))
        return _renamed(rest, names)  # type: ignore[no-any-return]

    def _put(self, name: str, schema: Mapping[str, Any]) -> None:
        self.schemas[name] = {**schema, "title": name}
        self._folded[_folded(name)] = name

    def _clashes(self, names: Mapping[str, str], name: str, definition: Any) -> bool:
        wanted = names[name]
        if any(_folded(other) == _folded(wanted) for key, other in names.items() if key < name):
            return True
        known = self._folded.get(_folded(wanted))
        return known is not None and (
            known != wanted or self.schemas[known] != {**_renamed(definition, names), "title": wanted}
        )


def _candidates(name: str, api: str, side: str) -> Iterator[str]:
    yield from (name, f"{name}{side}", f"{name}{_pascal(api)}{side}")
    yield from (f"{name}{i}" for i in count(2))


def _class_name(schema: Mapping[str, Any]) -> str:
    """Return the name of the class that a schema describes, as pydantic names it elsewhere; "" if it describes none."""
    is_class = "properties" in schema or "enum" in schema
    return re.sub(r"[^\w.-]", "_", schema.get("title", "")) if is_class else ""


def _folded(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _pascal(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Return a copy of a JSON schema in which `#/$defs/X` is `#/components/schemas/<names[X]>`.

    Titles that only repeat a field's name are left out: code generators would name classes after them.
    """
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    if not isinstance(value, dict):
        return value
    copy = {key: _renamed(item, names) for key, item in value.items()}
    for name, field in copy["properties"].items() if isinstance(copy.get("properties"), dict) else ():
        if isinstance(field, dict) and field.get("title") == name.replace("_", " ").title().strip():
            del field["title"]
    if isinstance(reference := copy.get("$ref"), str):
        copy["$ref"] = _component(reference, names)
    if isinstance(mapping := copy.get("mapping"), dict) and "propertyName" in copy:  # of a discriminator
        copy["mapping"] = {key: _component(target, names) for key, target in mapping.items()}
    return copy


def _component(reference: str, names: Mapping[str, str]) -> str:
    name = reference.removeprefix("#/$defs/")
    return f"#/components/schemas/{names[name]}" if name in names and name != reference else reference


def _doc(text: str) -> tuple[str, str]:
    """Split a docstring into its first line and the rest."""
    first, _, rest = text.strip().partition("\n")
    return first.strip(), rest.strip()


def _filled(**fields: str) -> dict[str, str]:
    return {name: text for name, text in fields.items() if text}
