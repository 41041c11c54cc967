"""The OpenAPI 3.1 document of a service (https://spec.openapis.org/oas/v3.1.1), from its apis' JSON schemas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from nbcompose.errors import (
    BadRequest,
    CallError,
    DeadlineExceeded,
    InvalidArgument,
    Overloaded,
    ServiceUnavailable,
    Unauthorized,
)
from nbcompose.schema.api import ApiSchema
from nbcompose.spec import ApiSpec, ServiceSpec

_ERRORS: tuple[tuple[type[CallError], str], ...] = (
    (BadRequest, "the body is not what its content type says"),
    (InvalidArgument, "an argument is missing, unknown or of the wrong type"),
    (Overloaded, "too many calls at once: try again later"),
    (CallError, "the api failed; the id is in the log"),
    (ServiceUnavailable, "not ready"),
    (DeadlineExceeded, "it took too long"),
)

_ERROR_SCHEMA: dict[str, Any] = {
    "title": "Error",
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["type", "message", "id"],
            "properties": {
                "type": {"type": "string", "examples": ["InvalidArgument"]},
                "message": {"type": "string"},
                "id": {"type": "string", "description": "what the log knows this error by"},
                "problems": {
                    "type": "array",
                    "description": "each argument that is wrong",
                    "items": {
                        "type": "object",
                        "required": ["loc", "msg", "type"],
                        "properties": {
                            "loc": {"type": "array", "items": {"type": ["string", "integer"]}},
                            "msg": {"type": "string"},
                            "type": {"type": "string"},
                        },
                    },
                },
            },
        }
    },
}


def openapi(spec: ServiceSpec, schemas: Mapping[str, ApiSchema], *, needs_token: bool) -> dict[str, Any]:
    """The document: one POST path for each api, `schemas` being by api name; bearer security with `needs_token`."""
    components = _Components()
    paths = {
        api.route: {"post": _operation(spec, api, schemas[api.name], components, needs_token)} for api in spec.apis
    }
    summary, description = _doc(spec.cls.__doc__ or "")
    document: dict[str, Any] = {
        "openapi": "3.1.0",
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
    service: ServiceSpec, api: ApiSpec, schema: ApiSchema, components: _Components, needs_token: bool
) -> dict[str, Any]:
    summary, description = _doc(api.doc)
    return {
        "operationId": api.name,
        "tags": [service.name],
        **_filled(summary=summary or api.signature, description=description),
        # What JSON Schema cannot say, for `depends(url=...)` and the page at /docs.
        "x-nbcompose-params": [asdict(param) for param in api.params],
        "x-nbcompose-stream": api.stream,
        "requestBody": {
            "required": any(p.required for p in api.params),
            "content": _request_content(api, schema, components),
        },
        "responses": {
            "200": {
                "description": "the items, one after the other" if api.stream else "the result",
                "content": _response_content(api, schema, components),
            },
            **_error_responses(needs_token),
        },
    }


def _request_content(api: ApiSpec, schema: ApiSchema, components: _Components) -> dict[str, Any]:
    content = {"application/json": {"schema": components.add(schema.body_schema, api.name, "Input")}}
    if schema.multipart_schema is not None:
        multipart = components.add(schema.multipart_schema, api.name, "Input")
        content["multipart/form-data"] = {"schema": multipart}
    return content | {media: {} for media in schema.body_types()}


def _response_content(api: ApiSpec, schema: ApiSchema, components: _Components) -> dict[str, Any]:
    item = components.add(schema.output_schema, api.name, "Output")
    if not api.stream:
        return {"application/json": {"schema": item}} | {media: {} for media in schema.media_types()}
    events = {"type": "string", "description": "server-sent events: one item's JSON in each event's data"}
    return {"application/x-ndjson": {"schema": item}, "text/event-stream": {"schema": events}}


def _error_responses(needs_token: bool) -> dict[str, Any]:
    unauthorized: tuple[type[CallError], str] = (Unauthorized, "no token, or a wrong one")
    errors = (unauthorized, *_ERRORS) if needs_token else _ERRORS
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {str(error.status): {"description": text, "content": content} for error, text in errors}


class _Components:
    """`components.schemas`, filled from schemas that bring their own `$defs`; two definitions of one name get two."""

    def __init__(self) -> None:
        self.schemas: dict[str, Any] = {"Error": _ERROR_SCHEMA}

    def add(self, schema: Mapping[str, Any], api: str, side: str) -> dict[str, Any]:
        """`schema` without its `$defs`, which are added here. `side`, Input or Output, and `api` tell names apart."""
        definitions = schema.get("$defs", {})
        names = {name: name for name in definitions}
        # A new name changes what refers to it, which may then be another definition too: until nothing changes.
        while clash := [name for name in definitions if self._clashes(names[name], _renamed(definitions[name], names))]:
            for name in clash:
                names[name] = self._next_name(name, names[name], api, side)
        self.schemas.update({names[name]: _renamed(body, names) for name, body in definitions.items()})
        rest = {key: value for key, value in schema.items() if key != "$defs"}
        return _renamed(rest, names)  # type: ignore[no-any-return]

    def _clashes(self, name: str, body: Any) -> bool:
        return name in self.schemas and self.schemas[name] != body

    def _next_name(self, name: str, tried: str, api: str, side: str) -> str:
        candidates = [name, f"{name}-{side}", f"{name}-{api}-{side}"]
        if tried in candidates[:-1]:
            return candidates[candidates.index(tried) + 1]
        return f"{tried}-"


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """A copy of a JSON schema in which `#/$defs/X` is `#/components/schemas/<names[X]>`."""
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    if not isinstance(value, dict):
        return value
    copy = {key: _renamed(item, names) for key, item in value.items()}
    if isinstance(reference := copy.get("$ref"), str):
        copy["$ref"] = _component(reference, names)
    if isinstance(mapping := copy.get("mapping"), dict) and "propertyName" in copy:  # of a discriminator
        copy["mapping"] = {key: _component(target, names) for key, target in mapping.items()}
    return copy


def _component(reference: str, names: Mapping[str, str]) -> str:
    name = reference.removeprefix("#/$defs/")
    return f"#/components/schemas/{names[name]}" if name in names and name != reference else reference


def _doc(text: str) -> tuple[str, str]:
    """The first line of a docstring, and the rest."""
    first, _, rest = text.strip().partition("\n")
    return first.strip(), rest.strip()


def _filled(**fields: str) -> dict[str, str]:
    return {name: text for name, text in fields.items() if text}
