"""Cards, the `%services` table, and displays that can change after their cell has ended.

Output that is saved in a notebook holds no port, pid, token or time, in plain text as in HTML. HTML that shows a state
says that it is not live (`SAVED`). A front end hides these words, and gives the state its color, as long as the kernel
says the same now: the color is a CSS variable which only `_notebook/graph/cards.py` sets. On a screen the words come
`LATE`, since what hides them takes a moment; on paper, and where the style is left out, they are there at once.

Jupyter attaches the output of a background thread to the cell that ran last. Updates of a display are therefore sent
with the header of the cell that made it, directly to the kernel's output socket, which any thread may use.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, NamedTuple
from uuid import uuid4

from IPython.core.interactiveshell import InteractiveShell

from nbcompose._control import HALTED, Latency, Status, latency_words, memory_words, numbers, progress
from nbcompose._control.engines import NOT_WARM
from nbcompose._ipython_adapter import Output, cell_id, request_of
from nbcompose._protocol import ApiNumbers, plain_text
from nbcompose._service import CREDENTIALS, python_call, script_example, terminal_example
from nbcompose._spec import ApiSpec, ServiceSpec
from nbcompose._units import human_duration, with_previous

SUPERSEDED = "was changed or restarted by a later cell"
_COLORS = {"ready": "#2e9e5b", "failed": "#c9302c", "stopped": "#888", "waiting": "#c98a1b", "starting": "#3b7dd8"}
SAVED = "as saved, not live"  # fixed words: saved outputs are compared
LATE = 2  # seconds; a live view comes within a fraction of one, on a busy machine in more
SAID = 120  # characters of what a loading replica wrote
_DIM = "color:#808080"
_KEYFRAMES = "<style>@media screen{@keyframes nbc-late{from,to{visibility:hidden}}}</style>"
_BORDER = "border:1px solid #9e9e9e;border-radius:4px;padding:6px 10px;margin:2px 0 4px;max-width:60em"


@dataclass(frozen=True, slots=True)
class Section:
    """One service on a display.

    `variable`: its name in the notebook. `change_reason`: what its cell did ("replaced: ..."). `busy`: the version that
    the cell asked for is still starting. `elapsed`: seconds, None once the cell has ended. `trouble`: the headline
    where the change failed. `misfits`: calls between services that no longer fit. `code_notes`: notes on its
    code, those on names that nothing defines with the name. `superseded`: a later cell shows it.
    """

    variable: str
    spec: ServiceSpec
    status: Status | None
    change_reason: str = ""
    busy: bool = False
    elapsed: float | None = None
    trouble: str = ""
    misfits: tuple[str, ...] = ()
    code_notes: tuple[tuple[str, str], ...] = ()
    superseded: bool = False


def bundle(sections: Sequence[Section]) -> Bundle:
    """Return the display of a cell with these services, as a mime bundle."""
    cards = [list(_card(section)) for section in sections]
    return {
        "text/plain": "\n\n".join("\n".join(text for text, _ in card if text) for card in cards),
        "text/html": "".join(framed("".join(html for _, html in card)) for card in cards),
    }


def framed(html: str) -> str:
    """Return HTML in the frame of a card."""
    return f'<div style="{_BORDER}">{html}</div>'


def not_live(style: str = "", before: str = "") -> str:
    """Return the words that a saved output is not live, as HTML."""
    return f'<span style="{_DIM};{style}animation:nbc-late {LATE}s">{before}{SAVED}</span>{_KEYFRAMES}'


def live_colors(sections: Sequence[Section]) -> dict[str, str]:
    """Return what a front end needs to show these services as live: colors by the names of CSS variables."""
    return {_variable(section): _COLORS[_state(section)] for section in sections if _can_be_live(section)}


def _variable(section: Section) -> str:
    """Return the name of the CSS variable of a section. It is made from what the section says of the service, so that
    saved outputs are the same in every run, and one that says something else than the kernel is not taken for live.
    """
    status = section.status
    said = (section.spec.name, headline(section), _place(status) if status is not None else "", *_signatures(status))
    return f"--nbc-{hashlib.sha256(repr(said).encode()).hexdigest()[:12]}"


def _can_be_live(section: Section) -> bool:
    """Whether it shows a state that lasts, and ends with the kernel. Progress does not last."""
    return section.elapsed is None and _state(section) in ("ready", "waiting", "starting")


# -- texts


def headline(section: Section) -> str:
    """Return the headline, e.g. "is ready", "is waiting for Embedder"."""
    status = section.status
    if section.superseded:
        return "was stopped" if status is not None and status.state == "stopped" else SUPERSEDED
    if section.trouble:
        return section.trouble
    if waits := _waits(section):
        return f"is {waits}"
    if section.busy or status is None or status.state == "starting":
        if section.elapsed is None:
            return "is starting"
        seconds = f" ({int(section.elapsed)} s)" if section.elapsed >= 1 else ""
        return f"is starting: {progress(status)}{seconds}"
    return {"failed": "failed", "stopped": "was stopped"}.get(status.state, f"is {status.state}")


def _state(section: Section) -> str:
    """Return the state that gives the color."""
    status = section.status
    if section.superseded:
        return "stopped"
    if section.trouble:
        return "failed"
    if _waits(section):
        return "waiting"
    return "starting" if status is None or section.busy else status.state


def _signatures(status: Status | None) -> tuple[str, ...]:
    return status.apis if status is not None else ()


def _waits(section: Section) -> str:
    """Return what the service waits for, e.g. "waiting for Embedder", "waiting" where its process was stopped; "" for
    nothing.
    """
    status = section.status
    if status is None or section.trouble or section.superseded:
        return ""
    if status.state == "waiting":
        return "waiting" if status.reason == HALTED else status.reason
    # A version that replaces another may wait for what the other did not need.
    starting = [r.waiting_for for r in status.replicas if r.state == "starting"] if section.busy else []
    return f"waiting for {min(starting)}" if starting and all(starting) else ""


def _notes(section: Section, status: Status) -> list[str]:
    cold = sorted({r.cold for r in status.replicas if r.cold not in ("", NOT_WARM)})
    shortage = [status.shortage.lasting] if status.shortage is not None else []
    plain = [*shortage, *status.notes, *status.stuck_notes()]
    stale = []
    if status.stale:
        names = ", ".join(status.stale)
        stale = [f"stale: {names} changed in the notebook since (%services refresh {status.name} brings it up to date)"]
    behind = [f"this is the previous version: {status.out_of_date_reason}"] if status.out_of_date_reason else []
    cold_notes = [f"started without preloaded libraries: {reason}" for reason in cold]
    of_code = [note for name, note in section.code_notes if name not in status.stale]
    return [*behind, *stale, *of_code, *section.misfits, *dict.fromkeys(plain), *cold_notes]


def _place(status: Status) -> str:
    count = status.wanted
    return f"on {status.device or 'its device'}, {count} replica{'' if count == 1 else 's'}"


# -- the lines of a card: as plain text, and as HTML with plain inline styles, which front ends keep in a saved notebook
# that is not trusted; greys that suit light and dark pages


def _card(section: Section) -> Iterator[tuple[str, str]]:
    name, status, waits = section.spec.name, section.status, _waits(section)
    state = _state(section)
    is_up = status is not None and state == "ready"
    place = _place(status) if status is not None and is_up else ""
    beside = f' <span style="{_DIM}">{escape(place)}</span>' if place else ""
    color = _COLORS[state]
    if _can_be_live(section):
        variable = _variable(section)
        color = f"var({variable},#808080)"
        beside += not_live(f"display:var({variable}-saved,inline);", " · ")
    sign = f'<span style="color:{color}">●</span>'
    head = headline(section)
    if is_up:  # filled in by the extension of JupyterLab: the address is not the notebook's to keep
        beside += f'<a data-nbc-at="{escape(name)}/docs"></a>'
    yield f"{name} {head}", f"<div>{sign} <b>{escape(name)}</b> {escape(head)}{beside}</div>"
    if status is not None and status.state == "failed" and not section.trouble and not section.superseded:
        yield _dimmed(status.reason)
    if section.change_reason and not section.superseded and state != "stopped":
        yield _dimmed(section.change_reason)
    if status is not None and is_up:
        yield f"  {place}", ""
        yield "\n".join(f"  {signature}" for signature in status.apis), _code("\n".join(status.apis))
        yield from ((f"  note: {note}", f"<div>⚠ {escape(note)}</div>") for note in _notes(section, status))
        yield from _examples(section.variable, name, section.spec.apis[0])
    elif section.elapsed is not None:
        yield "", _bar(status)
        if said := _said(status):
            yield f"  {said}", f'<div style="{_DIM};white-space:pre">{escape(said)}</div>'
    elif status is not None and waits == "waiting":
        yield _dimmed(status.reason)
    elif waits:
        below = status.waits_for if status is not None else ()
        once = f", once {' and '.join(below)} {'is' if len(below) == 1 else 'are'}" if below else ""
        yield _dimmed(f"It becomes ready by itself{once}.")


def _said(status: Status | None) -> str:
    """Return what a replica wrote last while it loads; "" where none has."""
    texts = [plain_text(r.said) for r in status.replicas if r.said] if status is not None else []
    return f"{texts[0][:SAID]}…" if texts and len(texts[0]) > SAID else "".join(texts[:1])


def _dimmed(text: str) -> tuple[str, str]:
    return f"  {text}", f'<div style="{_DIM}">{escape(text)}</div>'


def _examples(variable: str, name: str, api: ApiSpec) -> Iterator[tuple[str, str]]:
    call, terminal, script = python_call(variable, api), terminal_example(name, api), script_example(name, api)
    yield f"  try: {call}", f'<div><span style="{_DIM}">try</span> <code>{escape(call)}</code></div>'
    yield f"  or, in a terminal: {terminal}", ""
    summary = f'<summary style="{_DIM}">from outside</summary>'
    where = f"Address and token are in ~/{CREDENTIALS}/{name} while it runs: files that only you can read."
    whole = ";user-select:all;cursor:copy"  # a click chooses all of it: what is saved has no scripts, and no buttons
    told = f'<div style="{_DIM}">A click chooses all of one, to be copied. {escape(where)}</div>'
    outside = f"<div>in a terminal</div>{_code(terminal, whole)}{_code(script, whole)}{told}"
    yield "", f"<details>{summary}{outside}</details>"


def _code(text: str, style: str = "") -> str:
    # Not broken within words, as JupyterLab breaks what is preformatted, unless one has no room.
    wrapped = "margin:2px 0 4px;white-space:pre-wrap;word-break:normal;overflow-wrap:anywhere"
    return f'<pre style="{wrapped}{style}">{escape(text)}</pre>'


def _bar(status: Status | None) -> str:
    """Return a progress bar of the download with the most bytes left; "" without downloads."""
    downloads = [r.progress for r in status.replicas if r.progress and r.progress.bytes_total] if status else []
    if not downloads:
        return ""
    p = max(downloads, key=lambda d: d.bytes_total - d.bytes_done)
    return f'<progress style="width:100%" value="{p.bytes_done}" max="{p.bytes_total}"></progress>'


# -- tables

PLAIN_COLUMNS = ("name", "state", "device", "replicas", "depends on")
LIVE_COLUMNS = (
    "calls", "failed", "refused", "cancelled", "in flight", "p50 (5 min)", "p95 (5 min)", "memory", "restarts",
)  # fmt: skip
EMPTY = "No service runs. A %%service cell starts one."


@dataclass(eq=False, repr=False)
class Table:
    """A table as text and as HTML. `empty`: what stands there without rows."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    empty: str = ""

    def __repr__(self) -> str:
        if not self.rows:
            return self.empty
        lines = (self.columns, *self.rows)
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines
        )

    def _repr_html_(self) -> str:
        if not self.rows:
            return f"<div>{escape(self.empty)}</div>"

        def line(tag: str, cells: tuple[str, ...]) -> str:
            row = "".join(f'<{tag} style="text-align:left">{escape(cell)}</{tag}>' for cell in cells)
            return f"<tr>{row}</tr>"

        body = "".join(line("td", row) for row in self.rows)
        return f"<table><thead>{line('th', self.columns)}</thead><tbody>{body}</tbody></table>"


class ServicesTable(Table):
    """The table of `%services`. Only with `latencies`, of each service, it contains numbers that change from run to
    run; with `apis` there is a row for each api that was called, too.
    """

    def __init__(
        self,
        statuses: Sequence[Status],
        latencies: Callable[[str], Mapping[str, Latency]] | None = None,
        apis: bool = False,
    ) -> None:
        rows: list[tuple[str, ...]] = []
        for status in statuses:
            if latencies is None:
                rows.append(_row(status))
                continue
            of_apis = numbers(status, latencies(status.name))
            rows.append(_row(status) + _numbers(status, of_apis))
            rows += [_api_row(status.name, n) for n in of_apis] if apis else []
        super().__init__(PLAIN_COLUMNS + (LIVE_COLUMNS if latencies is not None else ()), rows, EMPTY)


def _row(status: Status) -> tuple[str, ...]:
    trouble = status.trouble()
    is_told = status.reason == HALTED and trouble  # said for each replica, with the command that continues it
    state = status.reason if status.state == "waiting" and status.reason and not is_told else status.state
    if status.out_of_date_reason:
        state = with_previous(state)
    state += f", {status.replacing}" if status.replacing else ""
    state += f", stale: {', '.join(status.stale)}" if status.stale else ""
    state = "; ".join([state, *trouble])
    replicas = str(status.wanted) if status.up == status.wanted else f"{status.up} of {status.wanted}"
    return (status.name, state, status.device or "-", replicas, ", ".join(status.dependencies) or "-")


def _numbers(status: Status, of_apis: Sequence[ApiNumbers]) -> tuple[str, ...]:
    total, limit = status.total, status.memory_limit
    memory = memory_words(
        status.memory, None if limit is None else limit * status.wanted, status.memory_over, status.gpu_memory
    )
    in_flight = sum(r.in_flight for r in status.replicas)
    p50, p95 = latency_words(of_apis, "p50") or "-", latency_words(of_apis, "p95") or "-"
    ended = (total.calls, total.failed, total.refused, total.cancelled, in_flight)
    return (*map(str, ended), p50, p95, memory or "-", str(status.restarts))


def _api_row(service: str, n: ApiNumbers) -> tuple[str, ...]:
    calls = n["answered"] + n["failed"] + n["refused"] + n["cancelled"]
    p50, p95 = ("-" if seconds is None else human_duration(seconds) for seconds in (n["p50"], n["p95"]))
    ended = (calls, n["failed"], n["refused"], n["cancelled"])
    return (f"{service}.{n['api']}", *[""] * (len(PLAIN_COLUMNS) - 1), *map(str, ended), "", p50, p95, "", "")


Bundle = dict[str, str]


class LiveDisplay:
    """An output of a cell that can be updated. Front ends without updates (a terminal) show only the result of
    `finish`. `publisher`: by which it is displayed, also when another one is set meanwhile; None: the present one.
    """

    def __init__(self, shell: InteractiveShell, publisher: Any = None) -> None:
        self._publisher = shell.display_pub if publisher is None else publisher
        self._id = uuid4().hex
        self._lock = threading.Lock()
        self._last: Bundle = {}
        self._open = True
        self._shown = False
        self._output = Output.of(self._publisher)
        self.updatable = self._output is not None

    def show(self, bundle: Bundle) -> None:
        """Create the output. Call first, on the cell's own thread."""
        if self.updatable:
            self._publish(bundle)

    def finish(self, bundle: Bundle, *, keep_open: bool = False) -> None:
        """Show the final state, on the cell's own thread. `keep_open`: `update` may change it later."""
        with self._lock:
            self._open = keep_open and self.updatable
        if bundle != self._last:
            self._publish(bundle)

    def update(self, bundle: Bundle) -> None:
        """Change the output; callable from any thread. Returns at once, prints nothing, does nothing once it is
        finished.
        """
        with self._lock:
            if self._output is None or not self._open or not self._shown or bundle == self._last:
                return
            self._last = bundle
            self._output.update(self._id, bundle)

    def revise(self, bundle: Bundle) -> None:
        """Like `update`, also after the display is finished."""
        with self._lock:
            was_open, self._open = self._open, self.updatable
        self.update(bundle)
        with self._lock:
            self._open = was_open

    def close(self) -> None:
        """Allow no more updates; callable from any thread."""
        with self._lock:
            self._open = False

    def _publish(self, bundle: Bundle) -> None:
        self._publisher.publish(data=dict(bundle), metadata={}, transient={"display_id": self._id}, update=self._shown)
        self._shown = True
        self._last = bundle


class OutputAnchor(NamedTuple):
    """Which cell, and which of its runs, an output belongs to: a re-run cell replaces its earlier outputs.

    `cell`: the front end's id of the cell, "" where it does not say; `run`: which of its runs; `element`: which of
    the graphs that it shows.
    """

    cell: str
    run: str
    element: str

    @classmethod
    def of(cls, shell: InteractiveShell, element: str = "") -> OutputAnchor:
        """In the cell that runs."""
        run = str(request_of(shell).get("header", {}).get("msg_id", ""))
        return cls(cell_id(shell), run, element)

    def overtakes(self, other: OutputAnchor) -> bool:
        """Whether that one was of an earlier run of this cell."""
        return bool(self.cell) and self.cell == other.cell and self.run != other.run
