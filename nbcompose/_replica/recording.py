"""Arguments and answers of a replica's last calls (`Recorder`), kept until somebody asks what they were.

Only then they are made texts, in a thread and within limits. See `_replica/recorded_values.py` for what is kept of a
value. Used on the replica's event loop.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from types import FunctionType
from typing import Any

from nbcompose._replica.recorded_values import MASK, MORE, PLAIN, SHOWN, Capture, Shown
from nbcompose._rpc import UNTOLD, aside
from nbcompose._schema import ArrivedStream
from nbcompose._spec import ApiSpec
from nbcompose._tracing import CallContext, RecordedCall
from nbcompose._user_exceptions import in_short, name_of, said
from nbcompose.errors import NbcomposeError

CALLS = 256  # that are kept
BYTES = 8 * 2**20  # that they take together, by estimate
CALL = 500  # bytes that a call takes besides its values
ENDS = 3  # items that are kept of the beginning of a stream, and of its end
REPLY = 256 * 2**10  # characters of an answer to who asks


class Record(Capture):
    """One call, from its beginning on."""

    __slots__ = ("_last", "_recorder", "answer", "arguments", "error", "first", "items", "span_id", "trace_id")

    def __init__(self, recorder: Recorder, arguments: Mapping[str, Any], context: CallContext, stream: bool) -> None:
        super().__init__()
        self._recorder = recorder
        self.trace_id, self.span_id = context.trace_id, context.span_id
        try:
            self.arguments = {
                name: Shown(str(value)) if isinstance(value, ArrivedStream) else self.named(name, value)
                for name, value in arguments.items()
            }
        except Exception as error:  # of a class whose attributes are code
            self.arguments = {"…": _not_kept(error)}
        self.answer: Any = MORE
        self.error = ""
        self.items: int | None = None
        if stream:
            self.items = 0
            self.first: list[Any] = []
            self._last: deque[tuple[Any, int]] = deque(maxlen=ENDS)  # with their sizes

    def item(self, value: Any) -> None:
        """Take an item of a stream."""
        self.items = (self.items or 0) + 1
        before = self.size
        kept = self._safely(value)
        if len(self.first) < ENDS:
            self.first.append(kept)
        else:
            self._last.append((kept, self.size - before))
            self.size = before

    def answered(self, result: Any) -> None:
        self.answer = self._safely(result)
        self._keep()

    def ended(self) -> None:
        """The stream is over."""
        self._keep()

    def failed(self, error: BaseException, outcome: str) -> None:
        """`outcome`: the error's name, or why the call was cancelled."""
        text = outcome if issubclass(type(error), _CANCELS) else _error_text(error)
        for secret in self.secrets:
            if len(secret) >= 4:
                text = text.replace(secret, MASK.text)
        self.error = text
        self.size += len(text)
        self._keep()

    def _safely(self, value: Any) -> Any:
        try:
            return self.of(value)
        except Exception as error:
            return _not_kept(error)

    def _keep(self) -> None:
        self.secrets = ()
        if self.items is not None:
            self.size += sum(size for _, size in self._last)
        self._recorder.keep(self, self.size)

    def told(self) -> RecordedCall:
        """Make texts of what was kept, which runs the `repr` of objects."""
        return RecordedCall(
            span_id=self.span_id,
            arguments=tuple((name, in_short(value, SHOWN)) for name, value in self.arguments.items()),
            answer=None if self.answer is MORE or self.error else in_short(self.answer, SHOWN),
            error=self.error,
            items=self.items,
            first=() if self.items is None else tuple(in_short(item, SHOWN) for item in self.first),
            last=() if self.items is None else tuple(in_short(item, SHOWN) for item, _ in self._last),
            held=self.held,
        )


_CANCELS = (asyncio.CancelledError, GeneratorExit)


def _not_kept(error: Exception) -> Shown:
    return Shown(f"<not kept: {name_of(type(error))}>")


def _error_text(error: BaseException) -> str:
    """The error's name and text; of one whose text is made by code of users, which may take any time, the name."""
    kind = type(error)
    plain = not isinstance(kind.__str__, FunctionType) and all(type(arg) in PLAIN for arg in error.args)
    return said(error, SHOWN) if plain or isinstance(error, NbcomposeError) else name_of(kind)


class Recorder:
    """The last calls of a replica, by the number of their span. Bounded in calls and in bytes."""

    def __init__(self, calls: int = CALLS, size: int = BYTES) -> None:
        self._kept: OrderedDict[int, tuple[Record, int]] = OrderedDict()
        self._most_calls = calls
        self._most_bytes = size
        self.size = 0

    def begin(self, api: ApiSpec, arguments: Mapping[str, Any], context: CallContext) -> Record | None:
        """Take the arguments of a call that begins; None where its api is not recorded."""
        return Record(self, arguments, context, api.stream) if api.record else None

    def keep(self, record: Record, size: int) -> None:
        """Keep a call that has ended; older ones make room for it."""
        size += CALL
        self._kept[record.span_id] = record, size
        self.size += size
        while len(self._kept) > self._most_calls or (self.size > self._most_bytes and len(self._kept) > 1):
            self.size -= self._kept.popitem(last=False)[1][1]

    def forget(self) -> None:
        self._kept.clear()
        self.size = 0

    async def calls(self, trace_id: int) -> list[RecordedCall]:
        """Return the calls of a trace that are kept, as texts."""
        wanted = [record for record, _ in self._kept.values() if record.trace_id == trace_id]
        late = [RecordedCall(record.span_id, why_not=UNTOLD) for record in wanted]
        return await aside(lambda: _within_reply(wanted), lambda: late)

    async def search(self, text: str) -> list[int]:
        """Return the numbers of the spans in whose arguments, answer or error a text occurs, in any case."""
        wanted, kept = text.casefold(), [record for record, _ in self._kept.values()]
        return await aside(lambda: [r.span_id for r in kept if wanted in _all_text(r.told()).casefold()], list)


def _within_reply(records: Iterable[Record]) -> list[RecordedCall]:
    found, room = [], REPLY
    for record in records:
        told = record.told()
        room -= len(_all_text(told))
        if room < 0:
            break
        found.append(told)
    return found


def _all_text(call: RecordedCall) -> str:
    parts = [f"{name}={text}" for name, text in call.arguments]
    return "\n".join([*parts, call.answer or "", call.error, *call.first, *call.last])
