"""Streams of services in a call that a client makes: what one api yields, as the argument of another.

The arguments have `{"$stream": {"service": …, "api": …, "arguments": {…}}}` in the place of such a stream. It becomes a
reference, as in a call that code makes: the service that is called calls that api itself, and no item comes through
this process. The arguments within are those of a call, so that they may have streams of services too. Only a parameter
that takes a stream is read so: elsewhere, and among the items of a list, such an object is a value like others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nbcompose._control import forms
from nbcompose._protocol import wire
from nbcompose._rpc import Args, Kwargs, StreamReference
from nbcompose._schema import ApiSchema
from nbcompose._spec import ApiSpec, ServiceSpec
from nbcompose.errors import InvalidArgument, UnknownApi, UnknownService

STREAM = "$stream"
DEEPEST = 8  # streams of which one is made from the next
WRITTEN = '{"$stream": {"service": "…", "api": "…", "arguments": {…}}}'

Find = Callable[[str, str], tuple[ServiceSpec, ApiSpec, ApiSchema]]
Refer = Callable[[str, str, Args, Kwargs], StreamReference]


class ServiceStreams:
    """Makes the references in the arguments of one call. `variables`: as of `forms.read`.

    `find` returns the specs and the schema of a service and an api; `refer` a reference to a call of it.
    """

    def __init__(self, find: Find, refer: Refer, variables: Mapping[str, Any] | None) -> None:
        self._find = find
        self._refer = refer
        self._variables = variables

    def read(self, schema: ApiSchema, arguments: Any, depth: int = 0) -> Any:
        """Return the arguments with references in the places of streams of services. Raises `InvalidArgument`, with the
        path to what is wrong in its problems.
        """
        if not isinstance(arguments, Mapping):
            return arguments
        named = [name for name in schema.spec.stream_params if _is_marker(arguments.get(name))]
        made: dict[str, Any] = {}
        for name in named:
            try:
                made[name] = self._made(arguments[name][STREAM], depth)
            except InvalidArgument as error:
                within = [{**problem, "loc": [name, *problem["loc"]]} for problem in error.problems]
                raise InvalidArgument(f"{name}: {error}", within) from None
        return {**arguments, **made} if made else arguments

    def _made(self, marker: Any, depth: int) -> StreamReference:
        if depth == DEEPEST:
            raise _wrong(f"more than {DEEPEST} streams are made one from the other: make some of them in code")
        if not isinstance(marker, Mapping) or not {"service", "api"} <= marker.keys() <= {
            "service",
            "api",
            "arguments",
        }:
            raise _wrong(f"the stream of a service is {WRITTEN}")
        service, api = marker["service"], marker["api"]
        if not isinstance(service, str) or not isinstance(api, str):
            raise _wrong(f"service and api are names, in {WRITTEN}")
        if "://" in service:
            raise _wrong("the stream of a service at a URL is passed in code: it is no service of this graph")
        try:
            spec, found, schema = self._find(service, api)
        except (UnknownService, UnknownApi) as error:
            raise _wrong(f"{wire.printable(str(error), 1000)}: start it, or choose another stream") from None
        label = f"{spec.name}.{found.name}"
        if not found.stream:
            yields = ", ".join(a.name for a in spec.apis if a.stream)
            instead = f"of {service}, these yield: {yields}" if yields else f"no api of {service} yields"
            raise _wrong(f"{label} gives one value and no stream: {instead}")
        try:
            document = self.read(schema, marker.get("arguments", {}), depth + 1)
            args, kwargs = schema.call_arguments(forms.read(schema, document, self._variables))
        except InvalidArgument as error:
            within = [{**problem, "loc": [STREAM, "arguments", *problem["loc"]]} for problem in error.problems]
            told = str(error) if str(error).startswith(label) else f"{label}: {error}"
            raise InvalidArgument(told, within or _problems(told)) from None
        return self._refer(service, api, args, kwargs)


def _is_marker(value: Any) -> bool:
    return isinstance(value, Mapping) and list(value) == [STREAM]


def _wrong(text: str) -> InvalidArgument:
    return InvalidArgument(text, _problems(text))


def _problems(text: str) -> list[dict[str, Any]]:
    return [{"loc": [], "msg": text, "type": "stream_type"}]
