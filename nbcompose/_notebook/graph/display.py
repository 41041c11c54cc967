"""`%graph`, `nbcompose.graph()` and `Answer.graph()`: an output of a cell that shows services and stays up to date.

The output is HTML with a picture, never the view of a widget, of which a saved notebook would show only an error. In
front ends with widgets `_notebook/graph/widget.py` makes the picture live; elsewhere it changes by display updates.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from html import escape
from typing import Any
from uuid import uuid4

from IPython.core.getipython import get_ipython
from IPython.display import display

from nbcompose._control import Status, below
from nbcompose._control.picture import data_url, size, streaming, svg, table_html, tree
from nbcompose._notebook import Bundle, LiveDisplay, OutputAnchor, Session, from_the_caller, not_live
from nbcompose._notebook import session as sessions
from nbcompose._rpc import background
from nbcompose.errors import NbcomposeError, UnknownService

attach: Callable[..., Any] | None
try:
    from nbcompose._notebook.graph.widget import attach
except ImportError:  # without anywidget, only the picture
    attach = None

PERIOD = 0.25  # minimum seconds between changes of a picture
MOST = 16  # outputs that are kept up to date at once; the oldest ones are left as they are

_KEY = "graph in "
_HIDDEN = "position:absolute;top:0;left:0;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap"


def graph(service: Any = None, *, live: bool = False) -> None:
    """Show the services of the notebook and their calls, live.

    Args:
        service: A service or its name: show only this one and what it depends on.
        live: Show the widget itself, for front ends where the picture does not become live (VS Code, Colab). A saved
            notebook does not keep it.

    Raises:
        NbcomposeError: This is not a notebook with the extension loaded, or `live` is set and anywidget is not
            installed.
        UnknownService: No service has that name.
    """
    shell = get_ipython()
    session = sessions.current(shell) if shell is not None else None
    if session is None:
        raise NbcomposeError("a graph is shown in a notebook: run `%load_ext nbcompose` in its first cell")
    try:
        show(session, getattr(service, "name", service), live=live)
    except NbcomposeError as error:
        raise from_the_caller(error, shell)  # noqa: B904  it is the same error


def show(session: Session, name: str | None = None, *, live: bool = False) -> None:
    """Create the output, on the cell's thread. It follows its services until its cell runs again."""
    known = session.registry.names()
    if name is not None and name not in known:
        raise UnknownService.among(name, known)
    if live:
        _show_widget(session, name)
        return
    shown = ShownGraph(session, name)
    place = OutputAnchor.of(session.shell, shown.element)
    earlier = _followed(session)
    overtaken = [p for p in earlier if place.overtakes(p)]
    others = [p for p in earlier if p not in overtaken]
    for before in (*overtaken, *others[: max(0, len(others) - MOST + 1)]):
        session.stop_lingering(_key(before))
    shown.show()
    if shown.follows:
        session.lingering[_key(place)] = asyncio.run_coroutine_threadsafe(shown.follow(), background().loop)


def _key(place: OutputAnchor) -> str:
    """Return the key of an output in `Session.lingering`."""
    return _KEY + " ".join(place)


def _followed(session: Session) -> list[OutputAnchor]:
    """Return the outputs that are kept up to date, oldest first."""
    return [OutputAnchor(*key.removeprefix(_KEY).rsplit(" ", 2)) for key in session.lingering if key.startswith(_KEY)]


def _show_widget(session: Session, name: str | None) -> None:
    if attach is None:
        raise NbcomposeError("a live graph needs anywidget: run `pip install anywidget`, then restart the kernel")
    display(attach("", session, [name] if name else None))


class ShownGraph:
    """One output of a graph. `element`: the id by which the widget finds it."""

    def __init__(self, session: Session, name: str | None) -> None:
        self.element = uuid4().hex
        self._session = session
        self._registry = session.registry
        self._name = name
        self._display = LiveDisplay(session.shell)
        self._widget: Any = None

    @property
    def follows(self) -> bool:
        return self._display.updatable

    def show(self) -> None:
        self._display.finish(self._bundle(self._below(self._registry.statuses())), keep_open=True)
        if attach is not None and self.follows:
            self._widget = attach(self.element, self._session, [self._name] if self._name else None)

    async def follow(self) -> None:
        """Keep the picture up to date until cancelled. Runs on the registry's loop."""
        changed = asyncio.Event()
        changed.set()  # something may have changed since it was shown
        unsubscribe = self._registry.subscribe(lambda _: changed.set())
        try:
            while True:
                await changed.wait()
                changed.clear()
                self._update(self._registry.snapshot())
                await asyncio.sleep(PERIOD)
        finally:
            unsubscribe()
            self._display.close()

    def _update(self, statuses: Sequence[Status]) -> None:
        """Update the picture.

        Once the widget has made it live, updates only serve the saved notebook. They are skipped while services start,
        since the front end redraws the output for each one; the widget shows those states.
        """
        statuses = self._below(statuses)
        is_live = self._widget is not None and self._widget.seen
        if not is_live or all(s.state != "starting" and not s.replacing for s in statuses):
            self._display.update(self._bundle(statuses))

    def _below(self, statuses: Sequence[Status]) -> Sequence[Status]:
        return below(statuses, None if self._name is None else [self._name])

    def _bundle(self, statuses: Sequence[Status]) -> Bundle:
        deployments = [self._registry.deployment(s.name) for s in statuses]
        streams = streaming([d.spec for d in deployments if d is not None])
        empty = "" if statuses else tree([]) if self._name is None else f"{self._name} was stopped."
        return {
            "text/plain": empty or tree(statuses, streams),
            "text/html": _html(self.element, statuses, streams, empty),
        }


def _html(element: str, statuses: Sequence[Status], streams: frozenset[str], empty: str) -> str:
    """Return a picture, and a hidden table for screen readers."""
    start = f'<div class="nbc-graph" data-graph="{element}" style="position:relative">'
    if not statuses:
        words, _, example = empty.partition("\n\n")
        code = f"<pre>{escape(example)}</pre>" if example else ""
        return f'{start}<div class="nbc-still">{escape(words)}{code}</div></div>'
    drawn = svg(statuses, streams)
    width, height = size(drawn)
    # Grey: colors say how a service is now. The live view brings its own picture.
    style = "display:block;max-width:100%;height:auto;filter:grayscale(1)"
    table = table_html(statuses, streams)
    return (
        f'{start}<div class="nbc-still"><img alt="The graph; a table of it follows" width="{width}" height="{height}" '
        f'style="{style}" src="{data_url(drawn)}"></div>'
        f'<div class="nbc-saved">{not_live()}</div>'
        f'<div style="{_HIDDEN}">{table}</div></div>'
    )
