"""Recording of the notebook's calls, so that `%export --check` can replay them.

Only calls that answered are kept; others are counted (`Skipped`). What is kept are the arguments, as bytes, which the
notebook cannot change later. Answers are not: the check calls the notebook's services again, which may have changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from nbcompose._rpc import Args, BodyPickler, Draft, Intercepted, Kwargs, Outlet, Source, Transport, class_key, pack
from nbcompose.errors import CallCancelled, DeadlineExceeded

MOST_CALLS = 5  # per api
MOST_BYTES = 64 * 2**20  # of all calls together
LARGEST = 8 * 2**20  # bytes of one call: the caller waits while they are copied
LIMIT = 60.0  # seconds that a check may take
COMPARED = 64 * 1024  # bytes; smaller calls with equal arguments are kept once

# Pickled classes of the notebook with what they need: pickling takes longer than most calls.
_defined: WeakKeyDictionary[type, dict[str, bytes]] = WeakKeyDictionary()

FAILED, CANCELLED, LATE = "failed", "cancelled", "past the deadline"

Skipped = dict[tuple[str, str], Counter[str]]  # by service and api: how many calls are left out, by the reason


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One call. `arguments`: (args, kwargs), encoded by `_rpc/codec.py`.

    `items`: number of items taken from a stream whose consumer stopped before the end; None otherwise. `seconds`: how
    long it took.
    """

    service: str
    api: str
    arguments: bytes
    items: int | None = None
    seconds: float = 0.0


class Recording:
    """The last calls of each api. `enabled` may be changed at any time. Thread-safe."""

    def __init__(self, calls: int = MOST_CALLS, size: int = MOST_BYTES, largest: int = LARGEST) -> None:
        self.enabled = True
        self._most_calls = calls
        self._most_bytes = size
        self._largest = largest
        self._calls: OrderedDict[tuple[str, str, object], RecordedCall] = OrderedDict()  # oldest first
        self._large: dict[tuple[str, str], None] = {}  # apis with calls that were too large
        self._skipped: Skipped = {}
        self._lock = threading.Lock()

    def begin(self, service: str, api: str, args: Args, kwargs: Kwargs) -> RecordedCall | None:
        """Return a call that is about to be made, to be kept when it has ended; None where it cannot be replayed."""
        if not self.enabled:
            return None
        streams = [value for value in (*args, *kwargs.values()) if isinstance(value, Outlet)]
        if streams:  # what has gone by is known when it has ended
            for stream in streams:
                stream.source = KeptItems(stream.source, self._largest)
            return RecordedCall(service, api, b"")
        return self._encoded(service, api, args, kwargs)

    def ended(self, call: RecordedCall, args: Args, kwargs: Kwargs) -> RecordedCall | None:
        """Return a call that has ended, with a list for each stream that was an argument; None as `begin`."""
        if call.arguments:
            return call
        found = [_listed(value) for value in args]
        by_name = {name: _listed(value) for name, value in kwargs.items()}
        if any(value is _TOO_LARGE for value in (*found, *by_name.values())):
            with self._lock:
                self._large[call.service, call.api] = None
            return None
        return self._encoded(call.service, call.api, tuple(found), by_name)

    def _encoded(self, service: str, api: str, args: Args, kwargs: Kwargs) -> RecordedCall | None:
        try:
            arguments = encode((args, kwargs), self._largest)
        except CallTooLarge:
            with self._lock:
                self._large[service, api] = None
            return None
        return None if arguments is None else RecordedCall(service, api, arguments)

    def keep(self, call: RecordedCall) -> None:
        """Keep a call. It replaces an earlier one with the same arguments."""
        # Comparing large arguments would cost the caller more than keeping a duplicate.
        key = call.service, call.api, call.arguments if len(call.arguments) < COMPARED else object()
        with self._lock:
            self._calls.pop(key, None)
            self._calls[key] = call
            same = [k for k in self._calls if k[:2] == key[:2]]
            for oldest in same[: -self._most_calls]:
                del self._calls[oldest]
            total = sum(len(c.arguments) for c in self._calls.values())
            while total > self._most_bytes:
                total -= len(self._calls.popitem(last=False)[1].arguments)

    def skip(self, service: str, api: str, reason: str) -> None:
        """Count a call that has not answered."""
        with self._lock:
            self._skipped.setdefault((service, api), Counter())[reason] += 1

    def skipped(self) -> Skipped:
        """Return how many calls have not answered."""
        with self._lock:
            return {key: Counter(count) for key, count in self._skipped.items()}

    def calls(self) -> list[RecordedCall]:
        """Return the calls that are kept, oldest first."""
        with self._lock:
            return list(self._calls.values())

    def large(self) -> list[tuple[str, str]]:
        """Return services and apis with calls that were too large to be kept."""
        with self._lock:
            return list(self._large)

    def clear(self) -> None:
        with self._lock:
            self._calls.clear()
            self._large.clear()
            self._skipped.clear()


class KeptItems:
    """The source of a stream that is an argument; keeps its items as long as they take no more than `most` bytes."""

    def __init__(self, source: Source, most: int) -> None:
        self.close = source.close
        self.items: list[Any] | None = []
        self._source = source
        self._left = most

    async def next(self) -> Any:
        item = await self._source.next()
        if self.items is not None:
            size = getattr(item, "nbytes", None)
            self._left -= size if isinstance(size, int) else sys.getsizeof(item)
            self.items.append(item)
            if self._left < 0:
                self.items = None
        return item


_TOO_LARGE = object()


def _listed(value: Any) -> Any:
    """Return an argument with the items of a stream as a list."""
    if not isinstance(value, Outlet) or not isinstance(value.source, KeptItems):
        return value
    return _TOO_LARGE if value.source.items is None else value.source.items


class RecordedTransport(Intercepted):
    """A `Transport` around another one that records the calls."""

    def __init__(self, transport: Transport, recording: Recording) -> None:
        super().__init__(transport)
        self._recording = recording

    @contextlib.contextmanager
    def calling(self, api: str, args: Args, kwargs: Kwargs) -> Iterator[Callable[[], None]]:
        with recorded(self._recording, self.service, api, args, kwargs) as taken:
            yield taken.add


@dataclass(slots=True)
class Taken:
    """Counts the items of a stream that have been taken so far."""

    count: int = 0

    def add(self) -> None:
        self.count += 1


@contextlib.contextmanager
def recorded(recording: Recording, service: str, api: str, args: Args, kwargs: Kwargs) -> Iterator[Taken]:
    """Record the call that is made in the block when it has answered; count it where it has not."""
    taken = Taken()
    call = recording.begin(service, api, args, kwargs)
    items = None
    begun = time.perf_counter()
    try:
        yield taken
    except GeneratorExit:  # the consumer of the items stopped
        items = taken.count
        raise
    except BaseException as error:
        if call is not None:
            recording.skip(service, api, _reason(error))
            call = None
        raise
    finally:
        if call is not None:
            seconds = time.perf_counter() - begun
            call = recording.ended(call, args, kwargs)
            if call is not None:
                recording.keep(RecordedCall(service, api, call.arguments, items, seconds))


def _reason(error: BaseException) -> str:
    if isinstance(error, CallCancelled | asyncio.CancelledError | KeyboardInterrupt):
        return CANCELLED
    return LATE if isinstance(error, DeadlineExceeded) else FAILED


def encode(value: Any, largest: int) -> bytes | None:
    """Return `value` in the form that `codec.loads` reads; None where it cannot be sent. Raises `CallTooLarge` for more
    than `largest` bytes.
    """
    draft = _BoundedDraft(largest)
    try:
        BodyPickler(draft, draft, draft.take_buffer).dump(value)
    except CallTooLarge:
        raise
    except Exception:  # the value's own pickling may raise anything; the call itself gives the better error
        return None
    if not draft.buffers and not draft.definitions:
        return b"".join(map(_bytes, draft.stream))
    return b"".join(pack(draft.stream, draft.buffers, draft.definitions))


def _bytes(part: Any) -> bytes:
    return bytes(part)


class CallTooLarge(Exception):
    """The call has more bytes than are kept of one call."""


class _BoundedDraft(Draft):
    """A draft that copies no more than `largest` bytes."""

    __slots__ = ("_left",)

    def __init__(self, largest: int) -> None:
        super().__init__(None, 256 * 1024, set())
        self._left = largest

    def write(self, data: Any) -> None:
        self._count(len(data) if type(data) is bytes else memoryview(data).nbytes)
        super().write(data)

    def take_buffer(self, buffer: Any) -> bool:
        size = buffer.raw().nbytes
        if size >= self._threshold:
            self._count(size)
        return super().take_buffer(buffer)

    def define(self, cls: type) -> str:
        found = _defined.get(cls)
        if found is None:
            draft = Draft(None, 0, set())
            draft.define(cls)
            found = _defined[cls] = draft.definitions
        self.definitions.update(found)
        return class_key(cls)

    def _count(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise CallTooLarge
