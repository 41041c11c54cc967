"""Streams that the client of a call feeds while the call runs: somebody who types items into a form.

The call's arguments have `{"$typed": {"stream": id, "items": […]}}` in the place of such a stream: an id that the
client chooses, and the items that there are already. Further ones come by `feed`, the end by `end_feed`. Each item is
validated when it comes, as in the body of a request: whoever has typed it hears what is wrong, and the stream goes on.

What has come and is not taken is bounded (`_rpc/flow.py`); beyond that a `feed` is answered when there is room. Used on
one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
from collections.abc import Iterator, Mapping
from typing import Any

from nbcompose._protocol import wire
from nbcompose._rpc import Over, ReceivedItems, SendWindow
from nbcompose._schema import ApiSchema
from nbcompose._tracing import CallContext
from nbcompose.errors import InvalidArgument

TYPED = "$typed"
MOST_ID = 64  # characters


class TypingContext(CallContext):
    """The context of a call for which somebody types: that takes as long as it takes, whatever the service's timeout.
    Who types can cancel it.
    """

    __slots__ = ()

    def limited(self, timeout: float | None) -> float | None:
        return self.deadline


class TypedStream:
    """One stream, for the api an async iterator."""

    def __init__(self, items: list[Any]) -> None:
        self._first = items
        self._schema: ApiSchema | None = None
        self._name = ""
        self._context = contextvars.copy_context()  # in which files are made that the call's end removes
        self._window = SendWindow()
        self._items = ReceivedItems(self._window.acknowledged)
        self._count = 0
        self._settled = asyncio.Event()  # it is known what it takes, or it takes nothing more
        self._feeding = asyncio.Lock()
        self._over = ""  # why it takes no more items

    def bind(self, schema: ApiSchema, name: str) -> None:
        """Take the first items, as those of this parameter. Raises `InvalidArgument`."""
        self._schema, self._name = schema, name
        for item in self._first:
            self._add(item, schema.http_streams[name].item(self._count, item))
        self._first = []

    def open(self) -> None:
        """Let further items come."""
        self._settled.set()

    async def feed(self, item: Any) -> None:
        """Take a further item, when there is room. Raises `InvalidArgument`."""
        async with self._feeding:
            await self._room()
            assert self._schema is not None
            check = self._schema.http_streams[self._name].item
            loop = asyncio.get_running_loop()
            # Not on the loop: the code of a user's validators runs.
            checked = await loop.run_in_executor(None, self._context.run, check, self._count, item)
            self._check_open()
            self._add(item, checked)

    async def end(self) -> None:
        """Say that there are no more."""
        async with self._feeding:
            await self._settled.wait()
            self._check_open()
            self._over = "it has been ended"
            self._items.set_result()

    def close(self, why: str) -> None:
        """Take nothing more, since nobody reads it."""
        self._over = self._over or why
        self._items.drop()
        self._items.set_result()
        self._window.close()
        self._settled.set()

    def __aiter__(self) -> TypedStream:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._items.next(asyncio.get_running_loop())
        except Over:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        self.close("the api wants no more of them")

    async def _room(self) -> None:
        await self._settled.wait()
        await self._window.room(asyncio.get_running_loop())
        self._check_open()

    def _check_open(self) -> None:
        if self._over:
            raise InvalidArgument(f"this stream takes no more items: {self._over}")

    def _add(self, item: Any, checked: Any) -> None:
        size = len(json.dumps(item))
        self._count += 1
        self._window.sent(size)
        self._items.add(checked, size)


class TypedStreams:
    """Those of all calls under way, by the ids that clients have given them."""

    def __init__(self) -> None:
        self._open: dict[str, TypedStream] = {}

    @contextlib.contextmanager
    def of(self, arguments: Any) -> Iterator[Mapping[str, TypedStream]]:
        """Open those in the arguments of a call, by parameter, while it runs. Raises `InvalidArgument`."""
        found: dict[str, TypedStream] = {}
        named = markers(arguments)
        try:
            for name, marker in named.items():
                stream, items = marker.get("stream"), marker.get("items", [])
                if not isinstance(stream, str) or not 0 < len(stream) <= MOST_ID or not isinstance(items, list):
                    raise InvalidArgument(
                        f"{wire.printable(name)}: a stream that is typed has an id, of up to {MOST_ID} characters, and "
                        'a list of items: {"$typed": {"stream": "…", "items": []}}'
                    )
                if stream in self._open:
                    named_twice = f"a call under way has a stream with the id {stream!r}: give each its own"
                    raise InvalidArgument(f"{wire.printable(name)}: {named_twice}")
                found[name] = self._open[stream] = TypedStream(items)
            yield found
        finally:
            for name, stream in found.items():
                stream.close("the call has ended")
                del self._open[named[name]["stream"]]

    def find(self, stream: str) -> TypedStream:
        """Return the one with this id. Raises `InvalidArgument`."""
        if stream not in self._open:
            raise InvalidArgument("no call under way has that stream: it has ended, or has not begun")
        return self._open[stream]


def markers(arguments: Any) -> dict[str, Mapping[str, Any]]:
    """Return what stands for streams that are typed, by parameter."""
    given = arguments if isinstance(arguments, Mapping) else {}
    return {
        name: value[TYPED]
        for name, value in given.items()
        if isinstance(value, Mapping) and list(value) == [TYPED] and isinstance(value[TYPED], Mapping)
    }


def typed_ids(arguments: Any) -> dict[str, str]:
    """Return the ids of the streams that are typed, by parameter; of a call that may be refused for them."""
    return {
        name: stream for name, marker in markers(arguments).items() if isinstance(stream := marker.get("stream"), str)
    }


def bound(schema: ApiSchema, arguments: Any, streams: Mapping[str, TypedStream]) -> Any:
    """Return the arguments with the streams in their places. Raises `InvalidArgument`."""
    for name, stream in streams.items():
        if name not in schema.spec.stream_params:
            problem = {"loc": [name], "msg": "it takes no stream", "type": "stream_type"}
            raise InvalidArgument(
                f"{wire.printable(name)}: it takes no stream, so that nothing can be typed", [problem]
            )
        stream.bind(schema, name)
    return {**arguments, **streams} if streams else arguments
