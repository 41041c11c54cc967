"""The public tracing functions: `nbcompose.trace()` and `nbcompose.traces()`, for calls of this process's services.

This module knows no registry: the function that returns the spans is set with `install`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from nbcompose._protocol import CallState
from nbcompose._tracing.chrome import trace_events
from nbcompose._tracing.drawing import Trace
from nbcompose._tracing.rows import Wanted, call_tree, newest_last, span_hex, state_of, trace_hex
from nbcompose._tracing.spans import RecordedCall, Span, TraceLog
from nbcompose.errors import NbcomposeError, UnknownService

if TYPE_CHECKING:
    import pandas


class Records(Protocol):
    """What has the arguments and answers of calls."""

    def recorded(self, spans: Sequence[Span]) -> Mapping[int, RecordedCall]:
        """Return those of these calls, by the number of the span."""
        ...

    def search(self, text: str) -> Collection[int]:
        """Return the numbers of the spans that have a text in them."""
        ...

    def logged(self) -> Collection[str]:
        """Return the services that run, or have run lately."""
        ...


_find: Callable[[], TraceLog] | None = None
_records: Records | None = None


def install(find: Callable[[], TraceLog] | None, records: Records | None = None) -> None:
    """Set the function that returns this process's trace log, up to date, and what has the arguments and answers of its
    calls; None: there is no log any more.
    """
    global _find, _records
    _find, _records = find, records


def trace(trace: str | None = None) -> Trace:
    """Return a call and all calls that it caused, as a picture of where the time went, with their arguments and
    answers where these are recorded.

    Args:
        trace: The trace's id, as hex text; by default the trace that began last.

    Returns:
        The trace, which a notebook draws.

    Raises:
        NbcomposeError: The id is unknown, or no call has been made.
    """
    spans = _one(trace)
    return Trace(spans, _records.recorded(spans) if _records is not None else {})


def traces(
    trace: str | None = None,
    *,
    service: str | None = None,
    api: str | None = None,
    state: Literal["answered", "failed", "cancelled"] | None = None,
    since: datetime | timedelta | float | None = None,
    text: str | None = None,
) -> pandas.DataFrame:
    """Return the calls of this process's services, from any caller, as a table with a row for each, the newest trace
    last.

    The columns: `start` (UTC), `service`, `api`, `state`, `seconds` (how long the call took), `queued` and `input_wait`
    (the parts of it spent waiting in the queue, and for items of streams among its arguments), `error` (the exception's
    type), `replica`; `first_item` and `last_item`, the seconds from the start to those items of a stream; `trace`,
    `span` and `parent`, W3C ids as hex text. The last 1,000 traces are kept.

    Args:
        trace: Only the trace of this id.
        service: Only calls of this service.
        api: Only calls of this api.
        state: Only calls that ended so. A call that its caller gave up is cancelled.
        since: Only calls that began then or later: a time, or how long ago (a timedelta, or seconds).
        text: Only calls with this text, in any case, in their name, error, arguments or answer. In the latter two it is
            found where they are recorded.

    Returns:
        A pandas DataFrame.

    Raises:
        NbcomposeError: pandas is not installed, or the id is unknown; `UnknownService` for a service that has neither
            run nor been called.
        ValueError: There is no such state.
    """
    try:
        import pandas
    except ImportError as error:
        raise NbcomposeError(
            "nbcompose.traces() makes a pandas DataFrame, and pandas is not installed: pip install pandas "
            "(nbcompose.trace() draws a call without it)"
        ) from error
    if state not in (None, *get_args(CallState)):
        raise ValueError(f"state={state!r} is none of: {', '.join(get_args(CallState))}")
    wanted = Wanted(service, api, state, _moment(since), text)
    kept = _some(trace)  # reports come in before the replicas are searched
    if service is not None and _records is not None:
        _check_known(service, _records)
    with_text = _records.search(text) if text and _records is not None else ()
    spans = [span for spans in kept for span, _ in call_tree(spans) if wanted.matches(span, with_text)]
    starts = pandas.to_datetime([round(s.start * 1e6) for s in spans], unit="us", utc=True)

    def column(values: list[Any], dtype: str = "str") -> pandas.Series[Any]:
        return pandas.Series(values, dtype=dtype)

    return pandas.DataFrame(
        {
            "start": starts.astype("datetime64[us, UTC]"),
            "service": column([s.service for s in spans]),
            "api": column([s.api for s in spans]),
            "state": column([state_of(s) for s in spans]),
            "seconds": column([s.duration for s in spans], "float64"),
            "queued": column([s.queued for s in spans], "float64"),
            "input_wait": column([s.input_wait for s in spans], "float64"),
            "error": column([s.error for s in spans]),
            "replica": column([s.replica for s in spans], "int64"),
            "first_item": column([s.first_item for s in spans], "float64"),
            "last_item": column([s.last_item for s in spans], "float64"),
            "trace": column([trace_hex(s.trace_id) for s in spans]),
            "span": column([span_hex(s.span_id) for s in spans]),
            "parent": column([span_hex(s.parent_id) for s in spans]),
        }
    )


def _check_known(service: str, records: Records) -> None:
    known = dict.fromkeys([*records.logged(), *(span.service for spans in _log().latest() for span in spans)])
    if service not in known:
        raise UnknownService.among(service, known)


def _moment(since: datetime | timedelta | float | None) -> float | None:
    """Return a time in Unix time; one without a zone is local."""
    if since is None:
        return None
    if isinstance(since, datetime):
        return since.timestamp()
    return time.time() - (since.total_seconds() if isinstance(since, timedelta) else since)


def chrome_trace(trace: str | None = None) -> dict[str, Any]:
    """Return one trace, or all that are kept, in the Trace Event Format."""
    return trace_events(span for spans in _some(trace) for span in spans)


def save_chrome_trace(path: str | os.PathLike[str], trace: str | None = None) -> None:
    """Write one trace, or all that are kept, to a file for Perfetto or chrome://tracing."""
    Path(path).write_text(json.dumps(chrome_trace(trace)), encoding="utf-8")


def _log() -> TraceLog:
    if _find is None:
        raise NbcomposeError("no services run here, so no calls are known: %load_ext nbcompose, then a %%service cell")
    return _find()


def _some(trace: str | None) -> Sequence[list[Span]]:
    return newest_last(_log()) if trace is None else [_one(trace)]


def _one(trace: str | None) -> list[Span]:
    log = _log()
    if trace is None:
        kept = newest_last(log)
        if not kept:
            raise NbcomposeError("no call has been made yet: call a service, then look at where the time went")
        return kept[-1]
    spans = log.trace(_number(trace))
    if not spans:
        raise NbcomposeError(
            f"no trace {trace!r} is known (any more): the column `trace` of nbcompose.traces() lists those that are"
        )
    return spans


def _number(trace: str) -> int:
    """Parse a trace id; 0, which no trace has, if it is malformed."""
    try:
        return int(trace, 16)
    except ValueError:
        return 0
