"""Notices: what a cell says under itself about services that are not what the notebook says now, each thing once.

A cell that makes services stale, a call of one, a class that has lost its `%%service`, a service that no cell has any
more. `_notebook/staleness.py` finds what is stale, `_notebook/magics.py` calls this after every cell. A notice stays
under its cell and follows the services that it is about: what is no longer so is not said any longer.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from nbcompose._code import Deployment, Undefined, reach_of
from nbcompose._control import HALTED, Registry, Status
from nbcompose._notebook.cell import is_service
from nbcompose._notebook.display import OutputAnchor
from nbcompose._notebook.notice import REFRESHED, STOPPED, End, Notice, Part, listed, verb_for, while_open
from nbcompose._notebook.tracebacks import cell_names
from nbcompose._service import Service, dependency_graph
from nbcompose.errors import UnknownService

INSTANCES = frozenset({"_", "_self", "cls", "instance", "me", "obj", "s", "self", "slf", "that", "this"})
AUTO_REFRESH = "`%config NbcomposeMagics.auto_refresh = True` does so after every cell"
MOST_FOLLOWED = 100  # notices that follow their services, the latest


@dataclass(frozen=True, slots=True)
class Stale:
    """A service that uses what the notebook has changed since.

    `changed`: names that a refresh brings up to date, with digests of their values; those `defined` were names of
    nothing before. `outdated`: names that only a run of the class's cell brings up to date, with that class.
    """

    service: str
    changed: Mapping[str, str]
    defined: frozenset[str] = frozenset()
    outdated: tuple[tuple[str, str], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """What is stale, as the status of the service shows it."""
        return (*self.changed, *(f"{name} (run the cell of {cls} again)" for name, cls in self.outdated))


@dataclass(frozen=True, slots=True)
class Home:
    """Where a service comes from: the run of a cell, and the variable, with what `%%service` put there."""

    anchor: OutputAnchor
    variable: str
    service: Service


class Notices:
    """The notices of one shell. Used on the main thread, but for `before_call` and `follow`."""

    def __init__(self, shell: InteractiveShell, registry: Registry) -> None:
        self._shell = shell
        self._registry = registry
        self._homes: dict[str, Home] = {}
        self._lost: dict[str, str] = {}  # what was said last of services that have lost their name or cell
        self._untold: dict[str, dict[str, Stale]] = {}  # what the next call of a service says
        self._told: dict[str, dict[str, Stale]] = {}
        # Services that the running cell has left as they were, since it has failed; and those of an earlier text of it.
        self._kept: list[str] = []
        self._former: list[str] = []
        self._followed: list[Notice] = []  # that may change, the latest last
        self._lock = threading.Lock()

    # -- at a change of a service

    def follow(self, status: Status) -> None:
        """Have notices show a change of a service. Called on the registry's loop."""
        self._each(lambda notice: notice.follow(status.name, status))

    def _each(self, goes_on: Callable[[Notice], bool]) -> None:
        """Call `goes_on` with each notice, and forget those of which it returns False."""
        with self._lock:
            followed = list(self._followed)
        over = {notice for notice in followed if not goes_on(notice)}
        with self._lock:
            self._followed = [notice for notice in self._followed if notice not in over]

    # -- after a cell

    def declared(self, variable: str, service: Service) -> None:
        """Note that the running cell has made `variable` this service."""
        here = OutputAnchor.of(self._shell)
        self._homes[service.name] = Home(here, variable, service)
        self._lost.pop(service.name, None)
        self._each(lambda notice: not here.overtakes(notice.anchor) and notice.taken(service.name))

    def kept(self, named: Iterable[str], of_cell: Iterable[str]) -> None:
        """Note that the running cell has failed before it has changed services: those that it names, and those that an
        earlier run of it has started.
        """
        self._kept = list(named)
        self._former = [name for name in of_cell if name not in self._kept]

    def after_cell(self, stale: Sequence[Stale], deleted: frozenset[str], *, succeeded: bool) -> None:
        """Say what the cell has changed: `stale` are services that it made so, `deleted` cells that are gone."""
        here = OutputAnchor.of(self._shell)
        self._each(lambda notice: not here.overtakes(notice.anchor))  # those are not there any more
        parts = [*self._of_kept(), *_stale_parts(stale), *self._of_lost(deleted, here, succeeded)]
        if parts:
            self._publish(parts)

    def _of_kept(self) -> list[Part]:
        """Return what serves on where a cell has failed, and the way out."""
        kept, former = self._alive(self._kept), self._alive(self._former)
        self._kept, self._former = [], []

        def lines(statuses: Mapping[str, Status]) -> list[str]:
            return _kept_lines(
                [s for n, s in statuses.items() if n in kept], [s for n, s in statuses.items() if n in former]
            )

        return [Part((*kept, *former), lines, of_cells=True)] if kept or former else []

    def _alive(self, names: Iterable[str]) -> list[str]:
        running = self._registry.names()
        return [name for name in names if name in running and self._registry.status(name).state != "failed"]

    def _of_lost(self, deleted: frozenset[str], here: OutputAnchor, succeeded: bool) -> list[Part]:
        running, parts = self._registry.names(), list[Part]()
        for name, home in list(self._homes.items()):
            if name not in running:
                del self._homes[name]
                self._lost.pop(name, None)
                continue
            why, way = self._lack(name, home, deleted, runs_again=succeeded and here.overtakes(home.anchor))
            if why and self._lost.get(name) != why:
                runs_on = f"the service {name} runs on with its code{self._dependents(name)}"
                said = f"{why}; {runs_on}", f"{way}; `%services stop {name}` ends it"
                parts.append(Part((name,), while_open(said), of_cells=True))
            self._lost[name] = why
        return parts

    def _lack(self, name: str, home: Home, deleted: frozenset[str], *, runs_again: bool) -> tuple[str, str]:
        """Return what a service has lost, and how it comes back, in words; "" where it has its name and its cell."""
        variable, now = home.variable, self._shell.user_ns.get(home.variable)
        if isinstance(now, Service) and runs_again:
            return f"This cell no longer defines {name}", f"A `%%service` cell that defines {name} takes it over"
        if now is home.service and home.anchor.cell in deleted:
            return f"The cell of {name} was deleted", f"A `%%service` cell that defines {name} takes it over"
        if now is home.service:
            return self._lost.get(name, ""), ""
        back = "With `%%service` in its first line, the cell gives it the new code"
        if isinstance(now, Service) and now.name == name:
            return f"{variable} was declared again without `%%service`", back
        if is_service(now) and not isinstance(now, Service):
            return f"{variable} is a plain class now, since its cell ran without `%%service`", back
        if isinstance(now, Service) and (said := self._lost.get(name)):
            return said, ""  # its cell gives the name to another service
        what = "something else" if variable in self._shell.user_ns else "nothing"
        return f"{variable} stands for {what} now", f"After a run of its cell, {variable} calls it again"

    def _dependents(self, name: str) -> str:
        users = dependents_of(self._registry, name)
        return f", and {listed(users)} {verb_for(users, 'depends', 'depend')} on it" if users else ""

    # -- at a call

    def note_calls(self, stale: Mapping[str, Stale]) -> None:
        """Prepare what the next call of each service says, once: that it is stale, or what it depends on."""
        if not stale:
            self._untold.clear()
            self._told.clear()
            return
        edges = edges_of(self._registry)
        for name in edges:
            about = {s: stale[s] for s in (name, *sorted(dependency_graph.below(edges, name))) if s in stale}
            if not about:
                self._untold.pop(name, None)
                self._told.pop(name, None)
            elif self._told.get(name) != about:
                self._untold[name] = about

    def before_call(self, service: str) -> None:
        """Say that a service which is called is stale, where that has not been said."""
        if not self._untold:
            return
        about = self._untold.pop(service, None)
        if about is None or self._registry.portal.inside:
            return
        of = {name: stale for name, stale in about.items() if self._is_stale(name)}  # the cell may have refreshed it
        if of:
            self._told[service] = about
            self._publish([_part_of_call(service, of)])

    def _is_stale(self, name: str) -> bool:
        try:
            return bool(self._registry.status(name).stale)
        except UnknownService:
            return False

    # -- at the end of a service

    def stopped(self, name: str, others: Sequence[str]) -> str:
        """Return what is said of a service that was stopped; `others` are stopped with it."""
        users = [n for n in dependents_of(self._registry, name) if n not in others]
        if not users:
            return f"{name} was stopped"
        calls = "its calls" if len(users) == 1 else "their calls"
        depend = f"{listed(users)} {verb_for(users, 'depends', 'depend')} on it"
        above = dependency_graph.above(edges_of(self._registry), name)
        further = [n for n in above if n not in users and n not in others]
        through = f" (and {listed(further)} on {'that' if len(users) == 1 else 'those'})" if further else ""
        return f"{name} was stopped; {depend}{through}, and {calls} to {name} fail until it runs again"

    def _publish(self, parts: Sequence[Part]) -> None:
        notice = Notice(self._shell, parts)
        with self._lock:  # it follows before it is seen, so that no change is missed
            self._followed = [*self._followed[1 - MOST_FOLLOWED :], notice]
        notice.publish({name: self._status(name) for part in parts for name in part.names})

    def _status(self, name: str) -> Status | None:
        try:
            return self._registry.status(name)
        except UnknownService:
            return None


def code_notes(deployment: Deployment, shell: InteractiveShell) -> tuple[tuple[str, str], ...]:
    """Return what the card of a service says of its code: names that nothing defines, each with a note; then, with no
    name, apis that may lack `self`.
    """
    spec, fingerprint = deployment.spec, deployment.fingerprint
    if fingerprint is None:
        return ()
    without_self = [note for api in spec.apis if (note := _self_note(inspect.unwrap(getattr(spec.cls, api.method))))]
    return (*_undefined_notes(fingerprint.undefined, spec.name, shell), *(("", note) for note in without_self))


def _self_note(method: Any) -> str:
    """Return a note on an api whose first parameter is not called or used like an instance; "" for others."""
    code = getattr(method, "__code__", None)
    if code is None or not code.co_argcount or code.co_varnames[0] in INSTANCES:
        return ""
    first = code.co_varnames[0]
    used = reach_of(code).variables.get(first)
    if used is not None and used.attributes:
        return ""
    name = method.__name__
    return f"{name} takes {first} as the instance: if it is an argument, write def {name}(self, {first})"


def _undefined_notes(found: Iterable[Undefined], service: str, shell: InteractiveShell) -> tuple[tuple[str, str], ...]:
    by_name: dict[str, list[Undefined]] = {}
    for undefined in found:
        by_name.setdefault(undefined.name, []).append(undefined)
    return tuple((name, _undefined_note(uses, service, shell)) for name, uses in by_name.items())


# -- texts


def _kept_lines(kept: Sequence[Status], former: Sequence[Status]) -> list[str]:
    texts = []
    nothing = "This cell has started nothing: "
    if kept:
        names = [s.name for s in kept]
        version, that = ("version", "that") if len(names) == 1 else ("versions", "those")
        how = [
            f"the {verb_for(of, 'version', 'versions')} of {listed(of)} before {goes_on}"
            for of, goes_on in _going_on(kept)
        ]
        texts = [
            f"{nothing}{listed(how)}",
            f"Run it again, once it is mended, to replace {that} {version}; {_ends(names)}",
        ]
    if former:
        how = [f"{listed(of)}, of an earlier text of this cell, {goes_on}" for of, goes_on in _going_on(former)]
        texts.append(f"{'' if kept else nothing}{listed(how)}; {_ends([s.name for s in former])}")
    return texts


def _going_on(statuses: Sequence[Status]) -> list[tuple[list[str], str]]:
    """Return services, those together that are in the same state, with what they do, in words."""
    groups: dict[str, list[str]] = {}
    for status in statuses:
        waits = "waiting" if status.reason == HALTED else status.reason
        how = {"ready": "", "waiting": waits}.get(status.state, status.state)
        groups.setdefault(how, []).append(status.name)
    return [
        (names, f"{verb_for(names, 'is', 'are')} {how}" if how else f"{verb_for(names, 'serves', 'serve')} on")
        for how, names in groups.items()
    ]


def _ends(names: Sequence[str]) -> str:
    return f"`%services stop {' '.join(names)}` ends {'it' if len(names) == 1 else 'them'}"


def _undefined_note(uses: Sequence[Undefined], service: str, shell: InteractiveShell) -> str:
    first = uses[0]
    where = cell_names(str(first.where), shell)
    more = f" and {len(uses) - 1} more" if len(uses) > 1 else ""
    said = f"{first.name} is not defined, and {first.user} uses it ({where}{more})"
    if first.is_ipythons:
        return f"{said}: a replica has no IPython. Return the value instead, and show it here"
    cell = f"with import {first.name}" if first.name in sys.stdlib_module_names else "that imports or defines it"
    return f"{said}: run a cell {cell}, then %services refresh {service}"


def _stale_parts(found: Sequence[Stale]) -> list[Part]:
    """Return what a cell says that has made services stale."""
    of = {stale.service: stale for stale in found}
    return (
        [Part(tuple(of), lambda statuses: _of_stale([of[name] for name in statuses]), _until_fresh(of))] if of else []
    )


def _part_of_call(service: str, of: Mapping[str, Stale]) -> Part:
    """Return what the call of a service says that is stale, or depends on some that are: for good, since that is how
    its answer came about.
    """

    def lines(statuses: Mapping[str, Status]) -> list[str]:
        texts = []
        for name, stale in of.items():
            verb = "is" if name in statuses else "was"
            said = f"{service} {verb} stale" if name == service else f"{service} depends on {name}, which {verb} stale"
            texts.append(f"{said}: {_former(stale, still=name in statuses)}")
        return [*texts, *_ways(of[name] for name in statuses)]

    return Part(tuple(of), lines, _until_fresh(of), tells_end=False)


def _until_fresh(of: Mapping[str, Stale]) -> Callable[[Status], End | None]:
    """Return what ends the notice that services are stale: that what has changed is what they use now."""

    def end(status: Status) -> End | None:
        if status.state == "stopped":
            return STOPPED
        return None if set(of[status.name].names) & set(status.stale) else REFRESHED

    return end


def _of_stale(found: Sequence[Stale]) -> list[str]:
    groups: dict[tuple[tuple[str, ...], tuple[str, ...], tuple[tuple[str, str], ...]], list[str]] = {}
    for stale in found:
        changed = tuple(n for n in stale.changed if n not in stale.defined)
        key = changed, tuple(sorted(stale.defined)), stale.outdated
        groups.setdefault(key, []).append(stale.service)
    texts = []
    for (changed, defined, outdated), services in groups.items():
        uses = verb_for(services, "uses", "use")
        if names := list(dict.fromkeys([*changed, *(name for name, _ in outdated)])):
            old = "the old one" if len(names) == 1 else "the old ones"
            texts.append(f"{listed(names)} {verb_for(names, 'has', 'have')} changed: {listed(services)} {uses} {old}")
        if defined:
            now = f"{listed(defined)} {verb_for(defined, 'is', 'are')} defined now"
            texts.append(f"{now}: {listed(services)} {verb_for(services, 'was', 'were')} started without")
    return [*texts, *_ways(found)]


def _former(stale: Stale, *, still: bool) -> str:
    changed = [n for n in stale.changed if n not in stale.defined]
    names, defined = list(dict.fromkeys([*changed, *(name for name, _ in stale.outdated)])), sorted(stale.defined)
    former = (
        f"it {'uses' if still else 'used'} {listed(names)} as {verb_for(names, 'it was', 'they were')} before"
        if names
        else ""
    )
    lacking = f"{listed(defined)} {verb_for(defined, 'was', 'were')} defined after it had started" if defined else ""
    return ", and ".join(filter(None, (former, lacking)))


def _ways(found: Iterable[Stale]) -> list[str]:
    """Return what brings services up to date."""
    found = list(found)
    again = dict.fromkeys(cls for stale in found for _, cls in stale.outdated)
    refreshed = [s for s in found if s.changed]
    ways = [f"run the cell of {listed(list(again))} again"] if again else []
    if refreshed:
        it = "it" if len(refreshed) == 1 else "them"
        ways.append(f"`%services refresh` brings {it} up to date; {AUTO_REFRESH}")
    return [f"{way[0].upper()}{way[1:]}" for way in ways]


# -- the graph of what runs


def edges_of(registry: Registry) -> dict[str, tuple[str, ...]]:
    """Return what the running services depend on."""
    deployments = [registry.deployment(name) for name in registry.names()]
    return dependency_graph.edges(d.spec for d in deployments if d is not None)


def dependents_of(registry: Registry, name: str) -> list[str]:
    """Return the running services that depend directly on one."""
    return dependency_graph.dependents(edges_of(registry), name)
