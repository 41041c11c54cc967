"""A prompt taken apart: fixed texts, and the streams between them, which are read while the model is already busy."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from typing import Any

from nbcompose._schema import Uncalled, check_awaited
from nbcompose.errors import Misuse

HOW = "a prompt is a text, a stream of texts, a list of those, or a chat: messages with 'role' and 'content'"


class StreamText:
    """The text of one stream in a prompt, as far as it has come."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.pieces: list[str] = []
        self.is_over = False
        self._items: Any = None

    def take(self, piece: object) -> None:
        if not isinstance(piece, str):
            raise Misuse(
                f"item {len(self.pieces)} of a stream in the prompt is {type(piece).__name__}: texts are wanted"
            )
        self.pieces.append(piece)

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    async def read(self, came: Callable[[], None]) -> None:
        if not hasattr(type(self.stream), "__aiter__"):
            self._items = iter(self.stream)
            while (piece := await asyncio.to_thread(next, self._items, None)) is not None:
                self.take(piece)
                came()
        else:
            self._items = aiter(self.stream)
            async for piece in self._items:
                self.take(piece)
                came()
        self.is_over = True
        came()

    def read_sync(self, came: Callable[[], None]) -> None:
        if not hasattr(type(self.stream), "__iter__"):
            raise Misuse(
                f"a stream in the prompt ({type(self.stream).__name__}) is read by `async for` only, and the answer by "
                "`for`: read the answer by `async for` too"
            )
        self._items = iter(self.stream)
        for piece in self._items:
            self.take(piece)
            came()
        self.is_over = True
        came()

    async def aclose(self) -> None:
        items = self.stream if self._items is None else self._items
        close = getattr(items, "aclose", None)
        if close is None:
            self.close()
            return
        with contextlib.suppress(RuntimeError, ValueError):  # it is running: its step was cancelled
            await close()

    def close(self) -> None:
        close = getattr(self.stream if self._items is None else self._items, "close", None)
        if close is not None:
            with contextlib.suppress(RuntimeError, ValueError):
                close()


class PromptParts:
    """A checked prompt: what is known of it, how to read the rest, and what it is once all of it has come.

    Raises:
        nbcompose.errors.Misuse: It is no prompt.
    """

    def __init__(self, prompt: Any) -> None:
        check_awaited(prompt)
        self.streams: list[StreamText] = []
        self.is_chat = _is_list(prompt) and any(isinstance(item, Mapping) for item in prompt)
        if self.is_chat:
            self._messages = [self._message(at, message) for at, message in enumerate(prompt)]
        else:
            self._messages = [({}, self._parts(prompt, "the prompt"))]

    def _message(self, at: int, message: Any) -> tuple[dict[str, Any], list[str | StreamText]]:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str) or "content" not in message:
            raise Misuse(f"message {at} of the chat is {_shown(message)}: {HOW}")
        return dict(message), self._parts(message["content"], f"the content of message {at}")

    def _parts(self, content: Any, what: str) -> list[str | StreamText]:
        if _is_list(content):
            if not content:
                raise Misuse(f"{what} is an empty list: {HOW}")
            return [self._part(item, f"item {at} of {what}") for at, item in enumerate(content)]
        return [self._part(content, what)]

    def _part(self, value: Any, what: str) -> str | StreamText:
        if isinstance(value, str):
            return value
        kind = type(value)
        if issubclass(kind, Uncalled):
            raise Misuse(f"{what} is {value._uncalled()}: {HOW}")
        check_awaited(value)
        if isinstance(value, Mapping | bytes | bytearray) or not isinstance(value, AsyncIterable | Iterable):
            raise Misuse(f"{what} is {_shown(value)}: {HOW}")
        if any(value is known.stream for known in self.streams):
            raise Misuse(f"{what} is a stream that stands in the prompt already, and it is read once: use streams.tee")
        self.streams.append(StreamText(value))
        return self.streams[-1]

    @property
    def is_whole(self) -> bool:
        return all(stream.is_over for stream in self.streams)

    async def read(self, came: Callable[[], None] = lambda: None) -> None:
        """Read all streams at once; `came` is called after each item and end."""
        if len(self.streams) == 1:
            await self.streams[0].read(came)
            return
        tasks = [asyncio.ensure_future(stream.read(came)) for stream in self.streams]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def read_sync(self, came: Callable[[], None] = lambda: None) -> None:
        """Read the streams in this thread, one after another."""
        for stream in self.streams:
            stream.read_sync(came)

    async def aclose(self) -> None:
        """Close the streams that have not ended."""
        for stream in self.streams:
            if not stream.is_over:
                await stream.aclose()

    def close(self) -> None:
        """As `aclose`, in sync code."""
        for stream in self.streams:
            if not stream.is_over:
                stream.close()

    def text(self, mark: str = "") -> str:
        """What is known of a prompt that is no chat, in order; `mark` stands where its first open stream has got to."""
        return _joined(self._messages[0][1], mark)[0]

    def messages(self, mark: str = "") -> list[dict[str, Any]]:
        """The messages of a chat, with what is known of their contents; `mark` as in `text`."""
        found = []
        for message, parts in self._messages:
            content, is_marked = _joined(parts, mark)
            mark = "" if is_marked else mark
            found.append(message | {"content": content})
        return found


def _joined(parts: Sequence[str | StreamText], mark: str) -> tuple[str, bool]:
    texts, is_marked = [], False
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
            continue
        texts.append(part.text)
        if mark and not part.is_over and not is_marked:
            texts.append(mark)
            is_marked = True
    return "".join(texts), is_marked


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)


def _shown(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__}: {text if len(text) <= 60 else text[:60] + '…'}"
