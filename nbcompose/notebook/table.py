"""The table of `%services`: every service of the notebook in a line. Pure: statuses in, text out."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from nbcompose.engine.status import Status
from nbcompose.host.memory import human
from nbcompose.overview import HALTED

PLAIN_COLUMNS = ("name", "state", "device", "replicas", "depends on")
LIVE_COLUMNS = ("calls", "errors", "in flight", "p50", "memory", "restarts")
EMPTY = "No service runs. A %%service cell starts one."


class ServicesTable:
    """Shows itself as text and as HTML. Only `live` ones hold numbers that change from run to run."""

    def __init__(self, statuses: Sequence[Status], live: bool = False) -> None:
        self.statuses = tuple(statuses)
        self.columns = PLAIN_COLUMNS + (LIVE_COLUMNS if live else ())
        self.rows = [_row(s) + (_numbers(s) if live else ()) for s in statuses]

    def __repr__(self) -> str:
        if not self.rows:
            return EMPTY
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        lines = (self.columns, *self.rows)
        return "\n".join(
            "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines
        )

    def _repr_html_(self) -> str:
        if not self.rows:
            return f"<div>{escape(EMPTY)}</div>"
        head = "".join(f'<th style="text-align:left">{escape(c)}</th>' for c in self.columns)
        body = "".join(
            "<tr>" + "".join(f'<td style="text-align:left">{escape(cell)}</td>' for cell in row) + "</tr>"
            for row in self.rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _row(status: Status) -> tuple[str, ...]:
    trouble = status.trouble()
    is_told = status.reason == HALTED and trouble  # of each replica, with what lets it go on
    state = status.reason if status.state == "waiting" and status.reason and not is_told else status.state
    state += ", serving the previous version" if status.behind else ""
    state += f", {status.replacing}" if status.replacing else ""
    state += f", stale: {', '.join(status.stale)}" if status.stale else ""
    state = "; ".join([state, *trouble])
    replicas = str(status.wanted) if status.up == status.wanted else f"{status.up} of {status.wanted}"
    return (status.name, state, status.device or "-", replicas, ", ".join(status.dependencies) or "-")


def _numbers(status: Status) -> tuple[str, ...]:
    p50 = "-" if status.p50 is None else f"{status.p50 * 1000:.3g} ms"
    memory = "-" if status.memory is None else human(status.memory)
    in_flight = sum(r.in_flight for r in status.replicas)
    return (str(status.calls), str(status.errors), str(in_flight), p50, memory, str(status.restarts))
