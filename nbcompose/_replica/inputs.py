"""The streams among the arguments of a call, as its api gets them; they end with the call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbcompose._rpc import (
    ArrivingStream,
    Client,
    Inlet,
    ListSource,
    Portal,
    ReferenceSource,
    Source,
    StreamReference,
    source_of,
)
from nbcompose._schema import StreamParam
from nbcompose._spec import ServiceSpec
from nbcompose._tracing import CallContext
from nbcompose.errors import CallError

if TYPE_CHECKING:
    from nbcompose._replica.hot_swap import Api


class Inputs:
    """Opens the streams of one call, and closes them when that ends. Used on the replica's loop."""

    def __init__(
        self,
        api: Api,
        arguments: dict[str, Any],
        context: CallContext,
        portal: Portal,
        client: Client,
        spec: ServiceSpec,
    ) -> None:
        self._api = api.spec
        self._context = context
        self._portal = portal
        self._client = client
        self._spec = spec
        self._streams: list[ArrivingStream] = []
        for name, param in api.schema.streams.items():
            if arguments.get(name) is not None:
                stream = self._open(name, param, arguments[name])
                arguments[name] = stream
                self._streams.append(stream)

    def _open(self, name: str, param: StreamParam, value: Any) -> ArrivingStream:
        check = None if isinstance(value, list) else param.item
        return ArrivingStream(name, check, self._source(value), self._portal, self._context)

    def _source(self, value: Any) -> Source:
        if isinstance(value, list):
            return ListSource(value)
        if isinstance(value, Inlet):
            return value
        if isinstance(value, StreamReference):
            self._check_room(value)
            return ReferenceSource(self._client, value, self._context)
        return source_of(value, self._portal, None)

    def _check_room(self, made: StreamReference) -> None:
        """Raise `CallError` where items can never come: what makes them waits for the place, or the thread, of what
        reads them.
        """
        own, reader = self._spec, self._api
        maker = own.api(made.api) if made.service == own.name else None
        if maker is not None and own.traffic.max_concurrency == 1 and own.replicas == 1:
            raise CallError(
                f"{own.name}.{reader.name} reads a stream of {own.name}.{maker.name}, which is a call too, and "
                f"{own.name} takes one at once: let it take two (`max_concurrency=2`)"
            )
        if maker is not None and not maker.is_async and not reader.is_async and own.threads * own.replicas == 1:
            raise CallError(
                f"{own.name}.{reader.name} reads a stream of {own.name}.{maker.name}, which needs a thread too, and "
                f"{own.name} has one: give it two (`%%service --threads 2`, `@service(threads=2)`)"
            )

    @property
    def waited(self) -> float:
        """Seconds for which the call has waited for items; of streams that were read at once, of each."""
        return sum(stream.waited for stream in self._streams)

    async def close(self) -> None:
        for stream in self._streams:
            await stream.aclose()
