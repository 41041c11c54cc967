"""Runs the changes of a cell, and shows their progress under it: while the cell runs, and later
for services that wait.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
import time
from collections.abc import Sequence
from operator import attrgetter

from nbcompose._control import Status
from nbcompose._notebook import credentials
from nbcompose._notebook.display import LiveDisplay, OutputAnchor, Section, bundle, live_colors
from nbcompose._notebook.notices import code_notes
from nbcompose._notebook.session import Card, Session, Started
from nbcompose._notebook.staleness import Change
from nbcompose._notebook.tracebacks import cell_names
from nbcompose._rpc import SLICE, background
from nbcompose._spec import ServiceSpec
from nbcompose.errors import LaunchError, NbcomposeError, UnknownService

STOPPED = "was stopped, because the cell was interrupted"
KEPT = "was not replaced, because the cell was interrupted: the version before serves on"
NOT_STARTED = "was not started"
NOT_REPLACED = "could not be replaced: the version before serves on"
ALSO_ELSEWHERE = (
    "another notebook runs a service {name} too: while both run, commands and scripts that find {name} by its files "
    "reach this one, which was started last"
)
NOT_ROLLED_BACK = "was not rolled back, and serves on as it was"
# What becomes of a card that says that another version serves on, once that is stopped.
_THEN_STOPPED = {
    KEPT: "was not replaced, because the cell was interrupted; the version before was stopped later",
    NOT_REPLACED: "could not be replaced; the version before was stopped later",
    NOT_ROLLED_BACK: "was not rolled back, and was stopped later",
}
# What a card shows of a status: other changes, such as numbers, need not be drawn.
_shown_of = attrgetter(
    "state", "reason", "version", "wanted", "up", "device", "apis", "change_reason", "out_of_date_reason", "stale",
    "notes", "stuck", "shortage",
)  # fmt: skip


class Launching:
    """The services of one cell while they start. Call `run` once, on the cell's thread; parts run on the registry's
    loop.
    """

    def __init__(self, session: Session, changes: Sequence[Change]) -> None:
        self._session = session
        self._registry = session.registry
        self._changes = {c.name: c for c in changes}
        self.anchor = OutputAnchor.of(session.shell)
        self._display = LiveDisplay(session.shell)
        self._statuses: dict[str, Status] = {}
        self._trouble: dict[str, str] = {}
        # what had been started before, for the services that were asked for
        self._previous: dict[str, Started | None] = {}
        self._misfits: dict[str, tuple[str, ...]] = {}
        packed = {c.name: c.wanted.deployment for c in changes if c.action != "roll back"}
        self._code_notes = {name: code_notes(deployment, session.shell) for name, deployment in packed.items()}
        self._earlier: dict[str, Card] = {}  # the displays that showed these services before
        self._overtaken: set[str] = set()
        self._ended = False  # the cell
        self._lingers: set[str] = set()  # services whose cards `_linger` keeps up to date
        self.live_colors: dict[str, str] = {}
        self._began: float | None = None
        self._drawing = threading.Lock()

    def run(self, wait: bool = True) -> None:
        """Start the services; return when all are ready, or wait for a service that does not exist.

        Raises `LaunchError` with the replicas' output where one failed, `PortInUse`, and `KeyboardInterrupt` (■) after
        stopping what was still starting.
        """
        self._began = time.monotonic()
        unsubscribe = self._registry.subscribe(self._heard)
        failures: list[str] = []
        try:
            self._display.show(self._bundle())
            self._start()
            if wait:
                failures = self._wait()
        except BaseException as error:
            self._give_up(interrupted=isinstance(error, KeyboardInterrupt))
            raise
        finally:
            unsubscribe()
            self._began = None
            unsettled = [n for n in self._changes if n not in self._trouble and not self._settled(n)]
            self._store_credentials()
            self._display.finish(self._bundle(), keep_open=bool(unsettled))
            self._ended = True
            self._see_to_earlier()
            if self._display.updatable:
                self._session.live_cards.begin()
        self._lingers.update(unsettled)
        for name in unsettled:
            future = asyncio.run_coroutine_threadsafe(self._linger(name), background().loop)
            self._session.lingering[name] = future
        if failures:
            raise LaunchError("\n\n".join(failures))

    # -- on the cell's thread

    def _start(self) -> None:
        for change in self._changes.values():
            self._session.stop_lingering(change.name)
            if change.action != "nothing":
                self._previous[change.name] = self._session.started.get(change.name)
            if (earlier := self._session.cards.get(change.name)) is not None:
                self._earlier[change.name] = earlier
            self._session.cards[change.name] = self
            if change.action in ("deploy", "nothing"):  # also cancels another version that is starting
                self._deploy(change)
            elif change.action == "restart":
                self._registry.restart(change.name)
            elif change.action == "roll back":
                self._note_misfits(change.name, self._registry.roll_back(change.name))
            self._statuses[change.name] = self._registry.status(change.name)

    def _deploy(self, change: Change) -> None:
        try:
            together = [c.wanted.deployment for c in self._changes.values() if c.action == "deploy"]
            misfits = self._registry.deploy(change.wanted.deployment, stop_first=change.stop_first, together=together)
        except NbcomposeError as error:
            self._registry.mark(change.name, out_of_date_reason=str(error).partition("\n")[0])
            raise
        self._note_misfits(change.name, misfits)
        wanted = change.wanted
        self._session.sources.note(change.name, self._registry.wanted(change.name), wanted.source, wanted.cell)
        if change.action == "deploy":
            self._session.started[change.name] = change.wanted
        else:
            self._registry.mark(change.name, out_of_date_reason="")

    def _note_misfits(self, name: str, misfits: Sequence[str]) -> None:
        self._misfits[name] = tuple(cell_names(text, self._session.shell) for text in misfits)

    def _wait(self) -> list[str]:
        """Wait until nothing more happens by itself; return the errors."""
        failures = []
        for name, change in self._changes.items():
            status = self._statuses[name] = self._settle(name)
            if failed := judge(change, status):
                self._trouble[name] = failed
                self._forget(change, status.state != "failed")
                failures.append(f"{name}: {status.error}" if name not in status.error else status.error)
        return failures

    def _settle(self, name: str) -> Status:
        """Wait in slices, so that ■ is noticed and the elapsed seconds are updated."""
        future = asyncio.run_coroutine_threadsafe(self._registry.settle(name), background().loop)
        try:
            while not concurrent.futures.wait([future], timeout=SLICE).done:
                self._draw()
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _see_to_earlier(self) -> None:
        """Mark the services' earlier cards as superseded; where this cell failed, make them the current cards again."""
        for name, card in self._earlier.items():
            if name not in self._trouble:
                self._session.put_aside(name, card)
                self._session.overtake(name, self)
            elif self._session.cards.get(name) is self:
                self._session.cards[name] = card
                self._session.put_aside(name, self)

    def _store_credentials(self) -> None:
        for name in self._changes.keys() & set(self._registry.names()):
            url = self._registry.url(name)
            if url and credentials.store(name, url, self._registry.token(name)):
                told = self._code_notes.get(name, ())
                self._code_notes[name] = (*told, ("", ALSO_ELSEWHERE.format(name=name)))

    def _give_up(self, interrupted: bool) -> None:
        """Stop what this cell started and is not up yet; after an error, also new services that are up already."""
        for name, change in self._changes.items():
            if change.action == "nothing" or name in self._trouble:
                continue
            if not self._busy(change):
                if interrupted or change.before:
                    continue
                self._registry.remove(name, grace=0.0)
            if name in self._previous:
                self._forget(change, name in self._registry.names())
            if interrupted:
                self._trouble[name] = KEPT if change.before else STOPPED
            elif change.action == "roll back":
                self._trouble[name] = NOT_ROLLED_BACK
            else:
                self._trouble[name] = NOT_REPLACED if change.before else NOT_STARTED

    def _forget(self, change: Change, abandon: bool) -> None:
        """Undo the record of a failed change: the previous deployment is the current one again."""
        if abandon:
            self._registry.abandon(change.name)
        previous = self._previous.get(change.name)
        if change.before and previous is not None:
            self._session.started[change.name] = previous
        else:
            self._session.started.pop(change.name, None)

    # -- on the registry's loop

    def _heard(self, status: Status) -> None:
        if status.name in self._statuses:
            self._statuses[status.name] = status
            self._draw()

    async def _linger(self, name: str) -> None:
        """Keep the service's card up to date until the service is settled: its cell ends before that."""
        changed = asyncio.Event()
        changed.set()  # something may have happened since the cell ended
        unsubscribe = self._registry.subscribe(lambda _: changed.set())
        try:
            while not self._settled(name):
                await changed.wait()
                changed.clear()
                status = self._statuses[name] = await self._registry.settle(name)
                if failed := judge(self._changes[name], status):
                    self._trouble[name] = failed
                    self._forget(self._changes[name], abandon=False)
                self._draw()
        except UnknownService:
            self._trouble[name] = "was stopped"
            self._draw()
        finally:
            unsubscribe()
            self._lingers.discard(name)

    # -- on either thread

    def redraw(self) -> None:
        """Redraw the card after its cell has ended. Called on the main thread."""
        for name in self._changes:
            with contextlib.suppress(UnknownService):
                self._statuses[name] = self._registry.status(name)
        self._revise()

    def follow(self, status: Status) -> None:
        """Show a change of a service after its cell has ended. Called on the registry's loop."""
        name, before = status.name, self._statuses.get(status.name)
        if not self._ended or name in self._lingers:
            return
        if (name in self._trouble or name in self._overtaken) and status.state != "stopped":
            return
        self._statuses[name] = status
        if name in self._trouble:
            self._trouble[name] = _THEN_STOPPED.get(self._trouble[name], self._trouble[name])
        if before is None or _shown_of(before) != _shown_of(status):
            self._revise()

    def overtaken(self, name: str) -> None:
        """Note that a later cell has changed or restarted this service. Called on the main thread."""
        self._overtaken.add(name)
        self.redraw()  # which forgets, too, that the service was stopped before

    def _draw(self) -> None:
        with self._drawing:
            self._display.update(self._bundle())

    def _revise(self) -> None:
        with self._drawing:
            self._display.revise(self._bundle())

    def _bundle(self) -> dict[str, str]:
        sections = [self._section(c) for c in self._changes.values()]
        self.live_colors = live_colors(sections)
        self._session.live_cards.show(self._session.cards.values())
        return bundle(sections)

    def _section(self, change: Change) -> Section:
        status = self._statuses.get(change.name)
        trouble = self._trouble.get(change.name, "")
        return Section(
            variable=change.wanted.variable,
            spec=self._spec(change),
            status=status,
            change_reason=self._change_reason(change, status) if not trouble else "",
            misfits=self._misfits.get(change.name, ()),
            code_notes=self._code_notes.get(change.name, ()) if change.name not in self._overtaken else (),
            busy=self._busy(change),
            elapsed=None if self._began is None else time.monotonic() - self._began,
            trouble=trouble,
            superseded=change.name in self._overtaken,
        )

    def _spec(self, change: Change) -> ServiceSpec:
        """Return the spec of the version that the card shows; after a rollback, not that of the version that ran
        before.
        """
        serving = self._registry.deployment(change.name) if change.action == "roll back" else None
        return (serving or change.wanted.deployment).spec

    def _change_reason(self, change: Change, status: Status | None) -> str:
        """Return what was done, and why; "" for a first version, which needs no explanation."""
        if change.action == "restart":
            return "restarted"
        done = change.before and status is not None and not self._busy(change)
        return change.change_reason or (status.change_reason if done and status is not None else "")

    def _busy(self, change: Change) -> bool:
        """Whether the version that the cell wants is not up yet."""
        status = self._statuses.get(change.name)
        if change.action == "nothing" or (status is not None and status.state in ("failed", "stopped")):
            return False
        return status is None or not arrived(change, status) or status.up == 0 or status.state == "starting"

    def _settled(self, name: str) -> bool:
        status = self._statuses.get(name)
        return name in self._trouble or (status is not None and status.settled and not self._busy(self._changes[name]))


def arrived(change: Change, status: Status) -> bool:
    """Whether the version that the cell wants serves. A version that is rolled back to may have served all the time."""
    if change.action == "roll back":
        return not any(r.state == "starting" for r in status.replicas)
    return status.version > change.before


def judge(change: Change, status: Status) -> str:
    """Return what is wrong with the outcome of a change, for the card's headline; "" for none."""
    if status.state == "failed":
        return "failed to start"
    coming = any(r.state == "starting" for r in status.replicas) and not status.error
    if change.action != "nothing" and not coming and (status.out_of_date_reason or not arrived(change, status)):
        return NOT_REPLACED
    return ""
