"""Items of streams on their way to a browser: in groups, since each message costs Jupyter's server and the page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

PACE = 0.05  # seconds between messages of one stream

Send = Callable[[Mapping[str, Any]], None]


class ItemGroups:
    """Sends what is said of requests; items of one stream in groups, and all of them before the stream's end.

    Used on one event loop.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._streams: dict[str, _Stream] = {}

    def put(self, message: Mapping[str, Any]) -> None:
        key = message["id"]
        if message["type"] == "item":
            self._streams.setdefault(key, _Stream(key, self._send)).put(message)
            return
        if stream := self._streams.pop(key, None):
            stream.close()
        self._send(message)


class _Stream:
    """Sends the items of one call: the first at once, later ones in groups, at most one message per `PACE` seconds."""

    def __init__(self, call: str, send: Send) -> None:
        self._call = call
        self._send = send
        self._waiting: list[Mapping[str, Any]] = []
        self._timer: asyncio.TimerHandle | None = None

    def put(self, item: Mapping[str, Any]) -> None:
        self._waiting.append(item)
        if self._timer is None:
            self._flush()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._tell()

    def _flush(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(PACE, self._flush) if self._waiting else None
        self._tell()

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        if len(waiting) == 1:
            self._send(waiting[0])
        elif waiting:
            self._send({"type": "items", "id": self._call, "items": waiting})
