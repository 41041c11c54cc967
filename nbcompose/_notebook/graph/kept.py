"""What calls from the live graph have said, kept for pages that come while they run or later: a page that was closed or
loaded again, a second view.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from nbcompose._protocol import Bundle, messages

MOST_CALLS = 8  # the last one of each api, the latest apis
MOST_ITEMS = 10_000  # of one call; a page shows no more
MOST_BYTES = 2_000_000  # of one call
TOO_LARGE: Bundle = {"text/plain": "(too large to be kept for a page that comes later; `_graph.result` is it)"}

_ENDS = ("result", "end", "cancelled", "failed")


@dataclass(slots=True)
class KeptCall:
    """One call. `count`: the items that came, of which `items` are those that are kept. `typed`: by parameter, the
    streams that are typed while it runs.
    """

    id: str
    typed: dict[str, str] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)
    count: int = 0
    items: list[messages.Item] = field(default_factory=list)
    end: Any = None
    _room: int = MOST_BYTES

    def put(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "item":
            self.count += 1
            # Without one that does not fit, later ones would seem to follow on those before it.
            if len(self.items) == self.count - 1 < MOST_ITEMS and self._fits(message["bundle"]):
                self.items.append({"id": self.id, "type": "item", "n": message["n"], "bundle": message["bundle"]})
        elif message["type"] == "result" and not self._fits(message["bundle"]):
            self.end = {**message, "bundle": TOO_LARGE}
        elif message["type"] in _ENDS:
            self.end = dict(message)

    def _fits(self, bundle: Bundle) -> bool:
        self._room -= sum(len(value if isinstance(value, str) else repr(value)) for value in bundle.values())
        return self._room >= 0


class KeptCalls:
    """The last call of each api. Used on one event loop."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, str], KeptCall] = {}

    def begin(self, call: str, service: str, api: str, typed: Mapping[str, str] = MappingProxyType({})) -> None:
        self._calls.pop((service, api), None)  # it is the latest now
        self._calls[service, api] = KeptCall(call, dict(typed))
        while len(self._calls) > MOST_CALLS:
            self._calls.pop(next(iter(self._calls)))

    def put(self, message: Mapping[str, Any]) -> None:
        """Take what is said of a request, which may be no call."""
        for call in self._calls.values():
            if call.id == message["id"]:
                call.put(message)

    def of(self, service: str, api: str) -> dict[str, Any]:
        """Return the answer to a request for the last call of an api."""
        call = self._calls.get((service, api)) or KeptCall("")
        return {
            "type": "kept", "service": service, "api": api, "call": call.id, "count": call.count,
            "items": list(call.items), "seconds": time.monotonic() - call.begun, "end": call.end,
            "typed": {} if call.end else dict(call.typed),
        }  # fmt: skip
