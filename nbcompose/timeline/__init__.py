"""Where the time of calls went: the spans of a `TraceLog` as rows, as a drawing, as a table, and as Chrome's JSON."""

from nbcompose.timeline.asking import chrome_trace, install, save_chrome_trace, trace, traces
from nbcompose.timeline.drawing import Trace
from nbcompose.timeline.rows import Row, Summary, Waterfall, summaries, waterfall

__all__ = [
    "Row",
    "Summary",
    "Trace",
    "Waterfall",
    "chrome_trace",
    "install",
    "save_chrome_trace",
    "summaries",
    "trace",
    "traces",
    "waterfall",
]
