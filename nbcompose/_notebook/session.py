"""Session of a notebook: the process's one registry, its token, and what its cells have started.

It is stored in the IPython shell, so that the extension finds it and its services again after a reload.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from IPython.core.interactiveshell import InteractiveShell

from nbcompose._code import Deployment
from nbcompose._control import Registry
from nbcompose._export.check import Recording
from nbcompose._notebook.calls import NotebookHandle
from nbcompose._notebook.history import History
from nbcompose._spec import ServiceSpec

_KEY = "nbcompose"


@dataclass(frozen=True, slots=True)
class Started:
    """What a cell started last under a name. `variable`: its name in the notebook; `cell`: the front end's id of it."""

    deployment: Deployment
    variable: str
    cell: str = ""

    @property
    def spec(self) -> ServiceSpec:
        return self.deployment.spec


class Card(Protocol):
    """A display that can be redrawn when the state of its services has changed."""

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
        self.looked: dict[str, dict[str, str]] = {}  # the stale names of each service, with digests, at the last check
        self.history = History(shell)
        self.recording = Recording()  # the calls that the notebook has made
        self.disconnect: Callable[[], None] = lambda: None  # this session from `Service`
        self.cards: dict[str, Card] = {}  # the display under the cell that started a service last

    def stop_lingering(self, name: str) -> None:
        future = self.lingering.pop(name, None)
        if future is not None:
            future.cancel()

    def connect(self, service: Any) -> NotebookHandle:
        """Return the handle by which `Answer.ask(...)` reaches the running service. Raises `UnknownService`."""
        return NotebookHandle(self.registry, service.name, self.shell, self.recording)


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
