"""Notices: what a cell says under itself about services that are not what the notebook says now, each thing once.

A cell that makes services stale, a call of one, a class that has lost its `%%service`, a service that no cell has any
more. `_notebook/staleness.py` finds what is stale, `_notebook/magics.py` calls this after every cell.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from nbcompose._code import Deployment, Undefined, reach_of
from nbcompose._control import Registry, Status
from nbcompose._notebook.cell import is_service
from nbcompose._notebook.display import OutputAnchor, framed
from nbcompose._notebook.tracebacks import cell_names
from nbcompose._service import Service, dependency_graph
from nbcompose.errors import UnknownService

_CODE, _AS_HTML = re.compile("`([^`]*)`"), r"<code>\1</code>"
INSTANCES = frozenset({"_", "_self", "cls", "instance", "me", "obj", "s", "self", "slf", "that", "this"})
AUTO_REFRESH = "`%config NbcomposeMagics.auto_refresh = True` does so after every cell"


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
    """The notices of one shell. Used on the main thread, but for `before_call`."""

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

    # -- after a cell

    def declared(self, variable: str, service: Service) -> None:
        """Note that the running cell has made `variable` this service."""
        self._homes[service.name] = Home(OutputAnchor.of(self._shell), variable, service)
        self._lost.pop(service.name, None)

    def kept(self, named: Iterable[str], of_cell: Iterable[str]) -> None:
        """Note that the running cell has failed before it has changed services: those that it names, and those that an
        earlier run of it has started.
        """
        self._kept = list(named)
        self._former = [name for name in of_cell if name not in self._kept]

    def after_cell(self, stale: Sequence[Stale], deleted: frozenset[str], *, succeeded: bool) -> None:
        """Say what the cell has changed: `stale` are services that it made so, `deleted` cells that are gone."""
        texts = [*self._of_kept(), *_of_stale(stale), *self._of_lost(deleted, succeeded)]
        if texts:
            self._publish(texts)

    def _of_kept(self) -> list[str]:
        """Return what serves on where a cell has failed, and the way out."""
        kept, former = self._alive(self._kept), self._alive(self._former)
        self._kept, self._former = [], []
        texts = []
        if kept:
            names = [s.name for s in kept]
            version, that = ("version", "that") if len(names) == 1 else ("versions", "those")
            texts = [
                f"This cell has started nothing: the {version} of {_listed(names)} before {_goes_on(kept)}",
                f"Run it again, once it is mended, to replace {that} {version}; {_ends(names)}",
            ]
        if former:
            names = [s.name for s in former]
            of_text = f"{_listed(names)}, of an earlier text of this cell, {_goes_on(former)}"
            texts += [f"{'' if kept else 'This cell has started nothing: '}{of_text}; {_ends(names)}"]
        return texts

    def _alive(self, names: Iterable[str]) -> list[Status]:
        running = self._registry.names()
        found = [self._registry.status(name) for name in names if name in running]
        return [status for status in found if status.state != "failed"]

    def _of_lost(self, deleted: frozenset[str], succeeded: bool) -> list[str]:
        running, texts = self._registry.names(), list[str]()
        here = OutputAnchor.of(self._shell)
        for name, home in list(self._homes.items()):
            if name not in running:
                del self._homes[name]
                self._lost.pop(name, None)
                continue
            why, way = self._lack(name, home, deleted, runs_again=succeeded and here.overtakes(home.anchor))
            if why and self._lost.get(name) != why:
                runs_on = f"the service {name} runs on with its code{self._dependents(name)}"
                texts += [f"{why}; {runs_on}", f"{way}; `%services stop {name}` ends it"]
            self._lost[name] = why
        return texts

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
        return f", and {_listed(users)} {_verb(users, 'depends', 'depend')} on it" if users else ""

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
        texts = []
        for name, stale in about.items():
            try:
                is_stale = bool(self._registry.status(name).stale)
            except UnknownService:
                continue
            if is_stale:  # the running cell may have refreshed it
                said = f"{service} is stale" if name == service else f"{service} depends on {name}, which is stale"
                texts.append(f"{said}: {_former(stale)}")
        if texts:
            self._told[service] = about
            self._publish([*texts, *_ways(about.values())])

    # -- at the end of a service

    def stopped(self, name: str, others: Sequence[str]) -> str:
        """Return what is said of a service that was stopped; `others` are stopped with it."""
        users = [n for n in dependents_of(self._registry, name) if n not in others]
        if not users:
            return f"{name} was stopped"
        calls = "its calls" if len(users) == 1 else "their calls"
        depend = f"{_listed(users)} {_verb(users, 'depends', 'depend')} on it"
        return f"{name} was stopped; {depend}, and {calls} to {name} fail until it runs again"

    def _publish(self, texts: Sequence[str]) -> None:
        self._shell.display_pub.publish(data=bundle_of(texts), metadata={})


def bundle_of(texts: Sequence[str]) -> dict[str, str]:
    """Return notices as a mime bundle; `...` in a text is code."""
    lines = [_CODE.sub(_AS_HTML, escape(text)) for text in texts]
    html = "".join(f"<div>{line}</div>" for line in [f"⚠ {lines[0]}", *lines[1:]])
    return {"text/plain": "\n".join(text.replace("`", "") for text in texts), "text/html": framed(html)}


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


def _goes_on(statuses: Sequence[Status]) -> str:
    names = [s.name for s in statuses]
    return f"{_verb(names, 'serves', 'serve') if all(s.up for s in statuses) else _verb(names, 'goes', 'go')} on"


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


def _of_stale(found: Sequence[Stale]) -> list[str]:
    groups: dict[tuple[tuple[str, ...], tuple[str, ...], tuple[tuple[str, str], ...]], list[str]] = {}
    for stale in found:
        changed = tuple(n for n in stale.changed if n not in stale.defined)
        key = changed, tuple(sorted(stale.defined)), stale.outdated
        groups.setdefault(key, []).append(stale.service)
    texts = []
    for (changed, defined, outdated), services in groups.items():
        uses = _verb(services, "uses", "use")
        if names := list(dict.fromkeys([*changed, *(name for name, _ in outdated)])):
            old = "the old one" if len(names) == 1 else "the old ones"
            texts.append(f"{_listed(names)} {_verb(names, 'has', 'have')} changed: {_listed(services)} {uses} {old}")
        if defined:
            now = f"{_listed(defined)} {_verb(defined, 'is', 'are')} defined now"
            texts.append(f"{now}: {_listed(services)} {_verb(services, 'was', 'were')} started without")
    return [*texts, *_ways(found)]


def _former(stale: Stale) -> str:
    changed = [n for n in stale.changed if n not in stale.defined]
    names, defined = list(dict.fromkeys([*changed, *(name for name, _ in stale.outdated)])), sorted(stale.defined)
    former = f"it uses {_listed(names)} as {_verb(names, 'it was', 'they were')} before" if names else ""
    lacking = f"{_listed(defined)} {_verb(defined, 'was', 'were')} defined after it had started" if defined else ""
    return ", and ".join(filter(None, (former, lacking)))


def _ways(found: Iterable[Stale]) -> list[str]:
    """Return what brings services up to date."""
    found = list(found)
    again = dict.fromkeys(cls for stale in found for _, cls in stale.outdated)
    refreshed = [s for s in found if s.changed]
    ways = [f"run the cell of {_listed(list(again))} again"] if again else []
    if refreshed:
        it = "it" if len(refreshed) == 1 else "them"
        ways.append(f"`%services refresh` brings {it} up to date; {AUTO_REFRESH}")
    return [f"{way[0].upper()}{way[1:]}" for way in ways]


def _listed(names: Sequence[str], most: int = 6) -> str:
    shown = [*names[:most], *([f"{len(names) - most} more"] if len(names) > most else [])]
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


def _verb(names: Sequence[str], one: str, several: str) -> str:
    return one if len(names) == 1 else several


# -- the graph of what runs


def edges_of(registry: Registry) -> dict[str, tuple[str, ...]]:
    """Return what the running services depend on."""
    deployments = [registry.deployment(name) for name in registry.names()]
    return dependency_graph.edges(d.spec for d in deployments if d is not None)


def dependents_of(registry: Registry, name: str) -> list[str]:
    """Return the running services that depend directly on one."""
    return dependency_graph.dependents(edges_of(registry), name)
