"""Draw one trace in a notebook (`Trace`), as HTML or text: bars over time, callers above their calls."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from nbcompose._protocol import CallValues, SpanRow
from nbcompose._tracing.chrome import trace_events
from nbcompose._tracing.rows import call_tree, values_of, waterfall
from nbcompose._tracing.spans import CANCELLED, RecordedCall, Span
from nbcompose._units import human_duration

WIDTH = 40  # characters of a bar
SHOWN = 100  # rows; a loop of calls makes one trace with a thousand
NAME = 48  # characters of a call's name in plain text
LINE = 400  # characters of a call with its arguments, and of its answer

# Mid tones, for light and dark pages.
_WAITING, _WORKING, _STREAMING, _FAILED, _GIVEN_UP = "#9aa0a6", "#3b7dd8", "#2e9e5b", "#c9302c", "#8a6d3b"
_LEGEND = (("░", _WAITING, "waiting"), ("█", _WORKING, "working"), ("▓", _STREAMING, "items coming"))


class Trace:
    """The spans of one trace; a notebook draws them. `save(path)` writes a file for Perfetto.

    `recorded`: arguments and answers, by the number of the span.
    """

    def __init__(self, spans: Sequence[Span], recorded: Mapping[int, RecordedCall] | None = None) -> None:
        self.spans = tuple(spans)
        self._recorded = recorded or {}
        self._waterfall = waterfall(self.spans)

    @property
    def id(self) -> str:
        return self._waterfall["trace"]

    @property
    def seconds(self) -> float:
        return self._waterfall["seconds"]

    @property
    def rows(self) -> list[SpanRow]:
        """One row for each call, callers before their calls."""
        return self._waterfall["rows"]

    @property
    def values(self) -> list[CallValues]:
        """Arguments and answers of the calls, in the order of `rows`; empty where none are recorded."""
        return [values_of(span, self._recorded) for span, _ in call_tree(self.spans)] if self._recorded else []

    def chrome(self) -> dict[str, Any]:
        """Return the trace in the Trace Event Format."""
        return trace_events(self.spans)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file for Perfetto or chrome://tracing."""
        Path(path).write_text(json.dumps(self.chrome()), encoding="utf-8")

    def __repr__(self) -> str:
        return _plain(self.rows, self.seconds, self.values) if self.rows else "a trace without calls"

    def _repr_html_(self) -> str:
        return _html(self.rows, self.seconds, self.values) if self.rows else "<div>a trace without calls</div>"


# -- texts


def _title(rows: Sequence[SpanRow], total: float) -> str:
    calls = "1 call" if len(rows) == 1 else f"{len(rows)} calls"
    return f"{_call(rows[0])}: {human_duration(total)}, {calls}"


def _call(row: SpanRow) -> str:
    return f"{row['service']}.{row['api']}"


def _notes(row: SpanRow) -> str:
    """Return, as text, what a bar shows besides its length."""
    notes = [row["error"]]
    if row["first_item"] is not None:
        notes.append(f"first item after {human_duration(row['first_item'])}")
    if row["queued"] >= 0.05 * row["seconds"]:
        notes.append(f"waited {human_duration(row['queued'])}")
    if (input_wait := row.get("input_wait", 0.0)) >= 0.05 * row["seconds"]:
        notes.append(f"waited {human_duration(input_wait)} for its input")
    return ", ".join(n for n in notes if n)


def _parts(row: SpanRow) -> tuple[tuple[int, float], ...]:
    """Return the parts of a bar: the index of each in `_LEGEND`, and its end in seconds from the start of the trace."""
    end = row["start"] + row["seconds"]
    queued = min(row["start"] + row["queued"], end)
    if row["first_item"] is None or row["last_item"] is None:
        return (0, queued), (1, end)
    return (0, queued), (1, row["start"] + row["first_item"]), (2, row["start"] + row["last_item"]), (1, end)


def _more(rows: Sequence[SpanRow]) -> str:
    return f"… and {len(rows) - SHOWN} calls more" if len(rows) > SHOWN else ""


# -- plain text


def _plain(rows: Sequence[SpanRow], total: float, values: Sequence[CallValues] = ()) -> str:
    shown = rows[:SHOWN]
    names = [shortened("  " * row["depth"] + _call(row), NAME) for row in shown]
    times = [human_duration(row["seconds"]) for row in shown]
    wide, high = max(map(len, names)), max(map(len, times))
    lines = [
        f"{name.ljust(wide)}  {_bar(row, total).ljust(WIDTH)}  {time.rjust(high)}  {_notes(row)}".rstrip()
        for name, time, row in zip(names, times, shown, strict=True)
    ]
    legend = "  ".join(f"{sign} {text}" for sign, _, text in _LEGEND)
    more = [_more(rows)] if len(rows) > SHOWN else []
    calls = [line for row, call in zip(shown, values, strict=False) for line in _plain_call(row, call)]
    return "\n".join([_title(rows, total), "", *lines, *more, "", legend, *([""] if calls else []), *calls])


def _plain_call(row: SpanRow, call: CallValues) -> list[str]:
    if call["why_not"]:
        return [f"{_call(row)}: {call['why_not']}"]
    arguments = ", ".join(f"{a['name']}={a['text']}" for a in call["arguments"])
    return [shortened(f"{_call(row)}({arguments})", LINE), shortened(f"  → {_outcome(call)}", LINE)]


def _outcome(call: CallValues) -> str:
    """Return the answer, the items of a stream, or the error, as text."""
    parts = []
    if call["items"] is not None:
        left_out = ["…"] if call["items"] > len(call["first"]) + len(call["last"]) else []
        items = ", ".join([*call["first"], *left_out, *call["last"]])
        parts.append(f"{call['items']:,} item{'' if call['items'] == 1 else 's'}" + (f": {items}" if items else ""))
    elif call["answer"] is not None:
        parts.append(call["answer"])
    return ", then ".join([*parts, call["error"]] if call["error"] else parts)


def shortened(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _bar(row: SpanRow, total: float) -> str:
    """Return a bar of at least one character, so that each call is visible."""
    scale = WIDTH / total if total > 0 else 0.0
    at = min(round(row["start"] * scale), WIDTH - 1)
    text = " " * at
    for kind, end in _parts(row):
        text += _LEGEND[kind][0] * (round(end * scale) - len(text))
    return text if len(text) > at else text + _LEGEND[1][0]


# -- HTML: a table, so that the bars are also readable as text


def _html(rows: Sequence[SpanRow], total: float, values: Sequence[CallValues] = ()) -> str:
    left = "text-align:left;padding-right:1em"
    head = "".join(
        f'<th scope="col" style="{left}">{text}</th>' for text in ("call", "start", "took", "over time", "notes")
    )
    body = "".join(_html_row(row, total) for row in rows[:SHOWN])
    colors = [(color, text) for _, color, text in _LEGEND] + [(_FAILED, "failed"), (_GIVEN_UP, "cancelled")]
    legend = " ".join(f'<span style="color:{color}">■</span> {text}' for color, text in colors)
    return (
        '<table style="width:100%;max-width:70em;color:inherit">'
        f'<caption style="{left};color:inherit;caption-side:top"><b>{escape(_title(rows, total))}</b></caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        f'<div style="color:#808080">{escape(_more(rows))} {legend}</div>{_html_calls(rows[:SHOWN], values)}'
    )


def _html_calls(rows: Sequence[SpanRow], values: Sequence[CallValues]) -> str:
    """Return the arguments and answers, folded."""
    if not values:
        return ""
    body = "".join(_html_call(row, call) for row, call in zip(rows, values, strict=False))
    head = "".join(
        f'<th scope="col" style="text-align:left">{text}</th>' for text in ("call", "arguments", "answer or error")
    )
    held = any(call["held"] for call in values)
    now = '<div style="color:#808080">Objects are shown as they are now.</div>' if held else ""
    return (
        '<details><summary>Arguments and answers</summary><table style="color:inherit;max-width:70em">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{now}</details>"
    )


def _html_call(row: SpanRow, call: CallValues) -> str:
    cell = "text-align:left;vertical-align:top;overflow-wrap:anywhere"
    name = f'<th scope="row" style="{cell};font-weight:normal">{escape(_call(row))}</th>'
    if call["why_not"]:
        return f'<tr>{name}<td colspan="2" style="{cell};color:#808080">{escape(call["why_not"])}</td></tr>'
    arguments = "".join(f"<div>{escape(a['name'])} = <code>{escape(a['text'])}</code></div>" for a in call["arguments"])
    weight = "bold" if call["error"] else "normal"
    outcome = f'<code style="font-weight:{weight}">{escape(_outcome(call))}</code>'
    return f'<tr>{name}<td style="{cell}">{arguments}</td><td style="{cell}">{outcome}</td></tr>'


def _html_row(row: SpanRow, total: float) -> str:
    left = "text-align:left;white-space:nowrap;padding-right:1em"
    began, took = human_duration(row["start"]), human_duration(row["seconds"])
    weight = "bold" if row["error"] else "normal"
    return (
        f'<tr><th scope="row" style="{left};font-weight:normal;padding-left:{0.5 + 1.2 * row["depth"]:g}em;'
        f'max-width:24em;overflow:hidden;text-overflow:ellipsis" title="{escape(_call(row))}">{escape(_call(row))}</th>'
        f'<td style="{left}">{began}</td><td style="{left}">{took}</td>'
        f'<td style="width:60%;min-width:12em;padding-right:1em">{_html_bar(row, total)}</td>'
        f'<td style="{left};white-space:normal;font-weight:{weight}">{escape(_notes(row))}</td></tr>'
    )


def _end(row: SpanRow) -> str:
    return _GIVEN_UP if row["error"] == CANCELLED else _FAILED


def _html_bar(row: SpanRow, total: float) -> str:
    share = 100 / total if total > 0 else 0.0
    at = row["start"]
    parts = [f'<div style="width:{at * share:.2f}%"></div>']
    for kind, end in _parts(row):
        color = _end(row) if kind == 1 and row["error"] else _LEGEND[kind][1]
        parts.append(f'<div style="width:{max(end - at, 0) * share:.2f}%;background:{color}"></div>')
        at = max(at, end)
    parts[-1] = parts[-1].replace('style="', 'style="min-width:2px;')  # so that each call is visible
    return f'<div aria-hidden="true" style="display:flex;height:0.8em">{"".join(parts)}</div>'
