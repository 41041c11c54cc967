"""Request bodies that stream: the items of an api's stream parameters, as they come (`StreamBody`).

- NDJSON (`application/x-ndjson`, `application/jsonl`): each line is an object of parameters. Those that are no streams
  stand before the first item of one; the call begins with that, or with an empty object. The body's end ends all.
- `text/plain`, for an api with one stream, of texts: pieces as they come. Other arguments are in the query.
- Server-sent events, for an api with one stream: what a stream of nbcompose is sent as, so that one service's answer
  can be piped into another. It ends with `event: end`; where that is missing, it was cut.

What has come and is not taken is bounded (`_rpc/flow.py`); beyond that the connection is not read.
"""

from __future__ import annotations

import asyncio
import codecs
from collections import deque
from collections.abc import Awaitable, Iterator, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from pydantic_core import from_json

from nbcompose._replica.http.responses import TEXT
from nbcompose._rpc import WINDOW, WINDOW_BYTES
from nbcompose._schema import ApiSchema
from nbcompose.errors import BadRequest, CallError, PayloadTooLarge, UnsupportedMediaType

NDJSON = ("application/x-ndjson", "application/jsonl", "application/ndjson")
SSE = "text/event-stream"
# How the charsets that are taken begin, by Python's names. Not all that Python calls an encoding is one: some unpack
# (`zlib`), or run escapes (`unicode_escape`).
CHARSETS = (
    "utf-8", "utf-16", "utf-32", "ascii", "iso8859", "cp125", "koi8", "mac-", "gb", "big5", "euc_", "shift_jis",
    "iso2022",
)  # fmt: skip
MAX_FIELDS = 1000  # of a query
AHEAD = 256 * 1024  # bytes of a body that are read before they are wanted


def is_streamed(content_type: str | None) -> bool:
    """Whether a body of this type is read as it comes, by an api that takes streams."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    return kind in NDJSON or kind in (TEXT, SSE)


class BodyReader:
    """The bytes of a request's body, as they come. `feed`, `end` and `fail` are called by the connection."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._over = False
        self._error: BaseException | None = None
        self._wanted: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None

    def feed(self, chunk: bytes) -> Awaitable[None] | None:
        """Take some bytes; returns what to wait for before more are read, or None."""
        if self._over:
            return None
        self._chunks.append(chunk)
        self._size += len(chunk)
        _wake(self._wanted)
        if self._size < AHEAD:
            return None
        if self._room is None or self._room.done():
            self._room = self._loop.create_future()
        return self._room

    @property
    def waits(self) -> bool:
        """Whether the connection is not read until some of what has come is wanted."""
        return self._room is not None and not self._room.done()

    def end(self) -> None:
        self._over = True
        _wake(self._wanted)
        _wake(self._room)

    def fail(self, error: BaseException) -> None:
        """The rest does not come: the client has gone, or is too slow."""
        if not self._over:
            self._error = error
        self.end()

    def leave(self) -> None:
        """Read no more: what still comes is dropped."""
        self._chunks.clear()
        self.end()

    async def next(self) -> bytes:
        """Return the next bytes; b"" at the end. Raises what `fail` was called with."""
        while not self._chunks:
            if self._over:
                if self._error is not None:
                    raise self._error
                return b""
            self._wanted = self._loop.create_future()
            await self._wanted
        chunk = self._chunks.popleft()
        self._size -= len(chunk)
        if self._size < AHEAD:
            _wake(self._room)
        return chunk


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)


class _End:
    """What stands for the end of a body."""


_END = _End()


class _Items:
    """The items of one parameter that have come: an async iterator for the api."""

    def __init__(self, body: StreamBody, name: str) -> None:
        self.name = name
        self.count = 0  # items that have come
        self.found: deque[tuple[Any, int]] = deque()
        self.begun = False  # the api has asked for one
        self.left = False  # it wants no more
        self._body = body
        self._bytes = 0
        self._room: asyncio.Future[None] | None = None

    @property
    def full(self) -> bool:
        return not self.left and (len(self.found) >= WINDOW or (self._bytes >= WINDOW_BYTES and bool(self.found)))

    async def room(self) -> None:
        """Wait until the api has taken an item, or wants no more."""
        while self.full:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def add(self, item: Any, size: int) -> None:
        self.count += 1
        if not self.left:
            self.found.append((item, size))
            self._bytes += size

    def __aiter__(self) -> _Items:
        return self

    async def __anext__(self) -> Any:
        self.begun = True
        while not self.found:
            if not await self._body.more(self):
                raise StopAsyncIteration
        item, size = self.found.popleft()
        self._bytes -= size
        _wake(self._room)
        return item

    async def aclose(self) -> None:
        self.left = True
        self.found.clear()
        _wake(self._room)
        self._body.closed()


class StreamBody:
    """The arguments of a call that are in a body which streams. Parsed by who wants an item, and no further."""

    def __init__(self, reader: BodyReader, content_type: str, query: str, schema: ApiSchema, limit: int) -> None:
        self._reader = reader
        self._schema = schema
        self._limit = limit
        self._kind = content_type.partition(";")[0].strip().lower()
        self._lock = asyncio.Lock()
        self._items = {name: _Items(self, name) for name in schema.spec.stream_params}
        self._lines = self._parsed(content_type)
        self._chunk = b""  # bytes of the body that the parser has asked for
        self._hungry = False  # it waits for more
        self._over = False
        self._error: BaseException | None = None
        if query and self._kind in NDJSON:
            raise BadRequest(f"{schema.spec.name} takes its parameters in the lines of the body, not in the address")
        if self._kind not in NDJSON and len(self._items) != 1:
            raise UnsupportedMediaType(
                f"{schema.spec.name} takes {len(self._items)} streams: send them as {NDJSON[0]}, each line an object "
                "such as {" + ", ".join(f'"{name}": …' for name in self._items) + "}"
            )
        self._query = query

    async def arguments(self) -> dict[str, Any]:
        """Return the validated arguments once the call can begin; its streams come as async iterators.

        Raises BadRequest, InvalidArgument, PayloadTooLarge.
        """
        given: dict[str, Any] = {}
        if self._kind in NDJSON:
            while (line := await self._line()) is not None:
                plain = {name: value for name, value in line.items() if name not in self._items}
                given |= plain
                if len(plain) < len(line) or not line:
                    break
        elif self._query:
            fields = parse_qsl(self._query, keep_blank_values=True, max_num_fields=MAX_FIELDS)
            given = self._schema.decode_form((name, value.encode(), None, None) for name, value in fields)
        return self._schema.validate_named({**given, **self._items})

    async def more(self, wanted: _Items) -> bool:
        """Read until there may be more items for `wanted`; return False at the end of the body."""
        async with self._lock:
            if wanted.found:  # another task has read meanwhile
                return True
            if self._error is not None:
                raise self._error
            if self._over:
                return False
            for full in (items for items in self._items.values() if items.full):
                if not full.begun:
                    raise CallError(
                        f"the body has more items of `{full.name}` than are kept while the api waits for one of "
                        f"`{wanted.name}`: send them in turn, or have the api read both at once"
                    )
                await full.room()
            try:
                line = await self._line()
            except BaseException as error:
                if not isinstance(error, asyncio.CancelledError):
                    self._failed(error)
                raise
            if line is not None:
                late = [name for name in line if name not in self._items]
                if late:
                    raise self._failed(
                        BadRequest(
                            f"`{late[0]}` came after the first item of a stream: a parameter that is none stands "
                            "before it"
                        )
                    )
            return line is not None

    def _failed(self, error: BaseException) -> BaseException:
        """Keep the error for who reads on; what is wrong with the body is its client's fault."""
        self._error = error
        if isinstance(error, CallError) and error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            error.of_client = True
        return error

    def closed(self) -> None:
        """An api wants no more of these; where it wants none at all, the rest of the body is dropped."""
        if all(found.left for found in self._items.values()):
            self._reader.leave()

    async def _line(self) -> Mapping[str, Any] | None:
        """Take the next object of parameters; add its items to their streams. Returns None at the end."""
        # Only here is something awaited: the parsers are no async generators, which who is cancelled would end.
        while self._hungry or (found := next(self._lines, _END)) is None:
            self._hungry = True
            self._chunk = await self._reader.next()
            self._hungry = False
        if isinstance(found, _End):
            self._over = True
            return None
        line, size = found
        for name, value in line.items():
            if name in self._items:
                items = self._items[name]
                items.add(self._schema.http_streams[name].item(items.count, value), size)
        return line

    # -- formats: each yields what it has found, and None where it wants `_chunk` to be the next bytes, b"" at the end

    def _parsed(self, content_type: str) -> Iterator[tuple[Mapping[str, Any], int] | None]:
        """Yield objects of parameters, with their sizes in bytes."""
        if self._kind in NDJSON:
            for line in self._text_lines():
                yield None if line is None else (self._object(line), len(line))
            return
        [name] = self._items
        if self._kind == TEXT:
            for piece in self._pieces(content_type):
                yield None if piece is None else ({name: piece[0]}, piece[1])
            return
        for data in self._events():
            yield None if data is None else ({name: self._value(data)}, len(data))

    def _object(self, line: bytes) -> Mapping[str, Any]:
        value = self._value(line)
        if not isinstance(value, dict):
            raise BadRequest(f"each line of the body is an object of parameters, not {type(value).__name__}")
        return value

    def _value(self, line: bytes) -> Any:
        try:
            return self._schema.read(line)
        except ValueError as error:
            raise BadRequest(f"a line of the body is not JSON: {error}") from None

    def _text_lines(self) -> Iterator[bytes | None]:
        """Yield the lines that are not empty, the last one also without its end."""
        for line in self._all_lines():
            if line is None or (line := line.strip()):
                yield line

    def _all_lines(self) -> Iterator[bytes | None]:
        """Yield the lines, without their ends."""
        rest: list[bytes] = []
        size = 0
        while True:
            yield None
            if not self._chunk:
                break
            first, *others = self._chunk.split(b"\n")
            rest.append(first)
            size += len(first)
            for other in others:
                line = b"".join(rest)
                rest, size = [other], len(other)
                yield line
            if size > self._limit:
                raise self._too_large("a line")
        yield b"".join(rest)

    def _too_large(self, what: str) -> PayloadTooLarge:
        return PayloadTooLarge(f"{what} of the body is larger than the {self._limit:,} bytes that are taken")

    def _pieces(self, content_type: str) -> Iterator[tuple[str, int] | None]:
        charset = "utf-8"
        for parameter in content_type.split(";")[1:]:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "charset":
                charset = value.strip().strip('"')
        try:
            if not codecs.lookup(charset).name.startswith(CHARSETS):
                raise LookupError
            decoder = codecs.getincrementaldecoder(charset)()
        except (LookupError, ValueError):
            raise UnsupportedMediaType(f"the charset {charset} is not known: send {TEXT}; charset=utf-8") from None
        while True:
            yield None
            chunk = self._chunk
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeError as error:
                raise BadRequest(f"the body is not {charset}: {error}") from None
            if text:
                yield text, len(chunk)
            if not chunk:
                return

    def _events(self) -> Iterator[bytes | None]:
        """Yield the data of each event up to `event: end`. Raises what `event: error` tells."""
        event, data, size = b"", [], 0
        is_first = True
        for raw in self._all_lines():
            if raw is None:
                yield None
                continue
            if is_first:
                raw, is_first = raw.removeprefix(codecs.BOM_UTF8), False
            if raw := raw.removesuffix(b"\r"):
                field, _, value = raw.partition(b":")
                value = value.removeprefix(b" ")
                if field == b"event":
                    event = value
                elif field == b"data":
                    data.append(value)
                    size += len(value)
                    if size > self._limit:
                        raise self._too_large("an event")
                continue
            if event == b"end":
                return
            if event == b"error":
                raise _told(b"\n".join(data))
            if data:
                yield b"\n".join(data)
            event, data, size = b"", [], 0
        raise BadRequest("the stream of events was cut: it ends without `event: end`")


def _told(data: bytes) -> CallError:
    """Return the error of a stream that another service has sent, and has failed."""
    try:
        detail = from_json(data)["error"]
        return CallError(f"the stream in the body has failed: {detail['type']}: {detail['message']}")
    except (ValueError, KeyError, TypeError):
        return CallError("the stream in the body has failed")
