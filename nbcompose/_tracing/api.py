"""The public tracing functions: `nbcompose.trace()` and `nbcompose.traces()`, for calls of this process's services.

This module knows no registry: the function that returns the spans is set with `install`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbcompose._tracing.chrome import trace_events
from nbcompose._tracing.drawing import Trace
from nbcompose._tracing.rows import call_tree, newest_last, span_hex, trace_hex
from nbcompose._tracing.spans import Span, TraceLog
from nbcompose.errors import NbcomposeError

if TYPE_CHECKING:
    import pandas


_find: Callable[[], TraceLog] | None = None


def install(find: Callable[[], TraceLog] | None) -> None:
    """Set the function that returns this process's trace log, up to date; None: there is no log any more."""
    global _find
    _find = find


def trace(trace: str | None = None) -> Trace:
    """Return a call and all calls that it caused, as a picture of where the time went.

    Args:
        trace: The trace's id, as hex text; by default the trace that began last.

    Returns:
        The trace, which a notebook draws.

    Raises:
        NbcomposeError: The id is unknown, or no call has been made.
    """
    return Trace(_one(trace))


def traces(trace: str | None = None) -> pandas.DataFrame:
    """Return the calls of this process's services, from any caller, as a table with a row for each, the newest trace
    last.

    The columns `trace` and `span` are W3C ids as hex text, `start` is UTC, and durations are seconds: `seconds` is the
    total, `queued` the part of it spent waiting in the queue; `first_item` and `last_item` are the times from the start
    to those items of a stream. The last 1,000 traces are kept.

    Args:
        trace: Only the trace of this id.

    Returns:
        A pandas DataFrame.

    Raises:
        NbcomposeError: pandas is not installed, or the id is unknown.
    """
    try:
        import pandas
    except ImportError as error:
        raise NbcomposeError(
            "nbcompose.traces() makes a pandas DataFrame, and pandas is not installed: pip install pandas "
            "(nbcompose.trace() draws a call without it)"
        ) from error
    spans = [span for spans in _some(trace) for span, _ in call_tree(spans)]
    starts = pandas.to_datetime([round(s.start * 1e6) for s in spans], unit="us", utc=True)
    return pandas.DataFrame(
        {
            "trace": pandas.Series([trace_hex(s.trace_id) for s in spans], dtype="str"),
            "span": pandas.Series([span_hex(s.span_id) for s in spans], dtype="str"),
            "parent": pandas.Series([span_hex(s.parent_id) for s in spans], dtype="str"),
            "service": pandas.Series([s.service for s in spans], dtype="str"),
            "api": pandas.Series([s.api for s in spans], dtype="str"),
            "replica": pandas.Series([s.replica for s in spans], dtype="int64"),
            "start": starts.astype("datetime64[us, UTC]"),
            "seconds": pandas.Series([s.duration for s in spans], dtype="float64"),
            "queued": pandas.Series([s.queued for s in spans], dtype="float64"),
            "first_item": pandas.Series([s.first_item for s in spans], dtype="float64"),
            "last_item": pandas.Series([s.last_item for s in spans], dtype="float64"),
            "error": pandas.Series([s.error for s in spans], dtype="str"),
        }
    )


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
