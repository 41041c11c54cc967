"""Session of a notebook: the process's one registry, its token, what its cells have started, and how they call it.

It is stored in the IPython shell, so that the extension finds it and its services again after a reload.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from IPython.core.interactiveshell import InteractiveShell

from nbcompose._code import Deployment
from nbcompose._control import Handle, Registry, Status
from nbcompose._export.check import RecordedTransport, Recording
from nbcompose._notebook import credentials
from nbcompose._notebook.cell_output import CellOutputs, ShownTransport
from nbcompose._notebook.comm_target import CommTarget
from nbcompose._notebook.display import OutputAnchor
from nbcompose._notebook.history import History
from nbcompose._notebook.notices import Notices, Stale
from nbcompose._notebook.sources import Sources
from nbcompose._notebook.tracebacks import from_the_caller
from nbcompose._rpc import Args, Intercepted, Kwargs, Transport
from nbcompose._spec import ServiceSpec
from nbcompose.errors import UnknownApi, UnknownService

_KEY = "nbcompose"
EARLIER = 8  # cards of a service before its present one, the latest, that say when it is stopped


@dataclass(frozen=True, slots=True)
class Started:
    """What a cell started last under a name. `variable`: its name in the notebook; `cell`: the front end's id of it;
    `source`: the hash of its text.
    """

    deployment: Deployment
    variable: str
    cell: str = ""
    source: str = ""

    @property
    def spec(self) -> ServiceSpec:
        return self.deployment.spec


class Card(Protocol):
    """A display that can be redrawn when the state of its services has changed.

    `live_colors`: what it shows that a front end may show as live; see `_notebook/display.py`.
    """

    live_colors: dict[str, str]
    anchor: OutputAnchor

    def follow(self, status: Status) -> None:
        """Show a change of a service. Called on the registry's loop."""
        ...

    def redraw(self) -> None: ...

    def overtaken(self, name: str) -> None:
        """Note that a later cell has changed or restarted this service."""
        ...


class Session:
    """State shared by the magics. Used on the main thread, except by tasks that `_notebook/cell_run.py` leaves on the
    registry's loop.
    """

    def __init__(self, shell: InteractiveShell, registry: Registry) -> None:
        self.shell = shell
        self.registry = registry
        self.token = secrets.token_urlsafe(32)
        self.started: dict[str, Started] = {}
        self.lingering: dict[str, Future[None]] = {}  # displays that still change, by service
        self.looked: dict[str, Stale] = {}  # what was stale at the last check, by service
        self.notices = Notices(shell, registry)
        self.history = History(shell)
        self.outputs = CellOutputs(shell, registry)
        self.recording = Recording()  # the calls that the notebook has made
        self.disconnect: Callable[[], None] = lambda: None  # this session from `Service`
        self.restore_tracebacks: Callable[[], None] = lambda: None
        self.cards: dict[str, Card] = {}  # the display under the cell that started a service last
        self._earlier: dict[str, deque[Card]] = {}  # displays before that, and of cells that could not change it
        self.live_cards = LiveCards()
        self.comms = CommTarget(self)
        self.sources = Sources()
        self.cell_text = ""  # of the cell that runs, or ran last
        self.cell_runs = False
        self.cell_changes = 0  # how often a cell has begun or ended

    def cell_begins(self, text: str) -> None:
        self.cell_text, self.cell_runs = text, True
        self.cell_changes += 1

    def cell_ends(self) -> None:
        self.cell_runs = False
        self.cell_changes += 1

    def stop_lingering(self, name: str) -> None:
        future = self.lingering.pop(name, None)
        if future is not None:
            future.cancel()

    def follow(self, status: Status) -> None:
        """Have the card of a service show a change. Called on the registry's loop."""
        if status.state == "stopped":
            credentials.remove(status.name)
            self.sources.stop(status.name)
        earlier = self._earlier.get(status.name, ()) if status.state == "stopped" else ()
        for card in (*earlier, *([self.cards[status.name]] if status.name in self.cards else [])):
            card.follow(status)
        self.notices.follow(status)

    def put_aside(self, name: str, card: Card) -> None:
        """Keep a card that is not the present one of a service, until its cell runs again."""
        others = (c for c in self._earlier.get(name, ()) if c is not card and not card.anchor.overtakes(c.anchor))
        self._earlier[name] = deque((*others, card), EARLIER)

    def overtake(self, name: str, now: Card) -> None:
        """Note that a card shows a service now which others have shown before."""
        earlier = [c for c in self._earlier.get(name, ()) if c is not now and not now.anchor.overtakes(c.anchor)]
        self._earlier[name] = deque(earlier, EARLIER)
        for card in earlier:
            card.overtaken(name)

    def connect(self, service: Any) -> NotebookHandle:
        """Return the handle by which `Answer.ask(...)` reaches the running service. Raises `UnknownService`."""
        return NotebookHandle(self, service.name)


class LiveCards:
    """Tells front ends which cards are live, by a widget that is made once a first card stands. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = False
        self._colors: dict[str, str] = {}
        self._widget: Any = None

    def begin(self) -> None:
        """Make the widget, in the background: the import takes longer than many services take to start."""
        if not self._begun:
            self._begun = True
            context = contextvars.copy_context()  # ipykernel looks there for the message that a comm belongs to
            threading.Thread(target=context.run, args=(self._make,), daemon=True).start()

    def show(self, cards: Iterable[Card]) -> None:
        """Show what these cards say now as live, and nothing else."""
        colors = {name: color for card in list(cards) for name, color in card.live_colors.items()}
        with self._lock:
            self._colors = colors
            if self._widget is not None and self._widget.live != colors:
                self._widget.live = colors

    def close(self) -> None:
        with self._lock:
            widget, self._widget = self._widget, None
        if widget is not None:
            widget.close()

    def _make(self) -> None:
        try:
            from nbcompose._notebook.graph import LiveCardsWidget
        except ImportError:  # without anywidget, cards always say that they are not live
            return
        with self._lock:
            self._widget = LiveCardsWidget(live=self._colors)


def current(shell: InteractiveShell) -> Session | None:
    """Return the session of this shell, or None if the extension is not loaded."""
    session: Session | None = shell.meta.get(_KEY)
    return session


def keep(shell: InteractiveShell, session: Session | None) -> None:
    """Store the session; None removes it."""
    if session is None:
        shell.meta.pop(_KEY, None)
    else:
        shell.meta[_KEY] = session


class NotebookHandle(Handle):
    """A running service as the notebook calls it. Raises `UnknownService`, with the way to start it."""

    def __init__(self, session: Session, name: str) -> None:
        registry = session.registry
        if name not in registry.names():
            known = ", ".join(registry.names()) or "none"
            raise from_the_caller(
                UnknownService(
                    f"{name} does not run: run the cell that defines it, with %%service in its first line. "
                    f"Running: {known}"
                ),
                session.shell,
            )
        shown = ShownTransport(name, registry, session.outputs)
        super().__init__(registry, name, NotebookTransport(RecordedTransport(shown, session.recording), session))


class NotebookTransport(Intercepted):
    """A `Transport` around another one that shortens the tracebacks of errors, shows what services write, and says that
    a service is stale.
    """

    def __init__(self, transport: Transport, session: Session) -> None:
        super().__init__(transport)
        self._shell = session.shell
        self._outputs = session.outputs
        self._notices = session.notices
        self._registry = session.registry

    @contextlib.contextmanager
    def calling(self, api: str, args: Args, kwargs: Kwargs) -> Iterator[Callable[[], None]]:
        self._notices.before_call(self.service)
        with self.learning():
            try:
                yield self._outputs.draw
            finally:
                self._outputs.draw()

    def unknown(self, error: UnknownApi) -> UnknownApi:
        """Say that the previous version serves, which may lack what the cell has now."""
        try:
            why = self._registry.status(self.service).out_of_date_reason
        except UnknownService:
            why = ""
        if not why:
            return error
        return UnknownApi(
            f"{error}. That is the previous version, which serves on, since the last run of its cell failed: {why}. "
            "Mend the cell, and run it again"
        )

    @contextlib.contextmanager
    def learning(self) -> Iterator[None]:
        try:
            yield
        except (Exception, KeyboardInterrupt, asyncio.CancelledError) as error:
            raise from_the_caller(error, self._shell)  # noqa: B904  it is the same error
