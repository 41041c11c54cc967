"""Staleness: compares the services of a cell with what runs, and finds names that changed since a service started.

Names are checked after every cell. A name that is bound to another object is detected, and so is a change in place, by
content, of values up to `LIMIT` bytes (`_code/fingerprint.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any, Literal

from IPython.core.error import UsageError

from nbcompose._code import Fingerprint, Versions, deployment_of, differing, fingerprint_of, functions_in
from nbcompose._ipython_adapter import cell_id
from nbcompose._notebook.arguments import HelpAsked
from nbcompose._notebook.cell import CellSyntaxError, Defined
from nbcompose._notebook.notices import Stale
from nbcompose._notebook.session import Session, Started
from nbcompose._notebook.sources import text_hash
from nbcompose._service import Service, declare, dependency_graph, override
from nbcompose._spec import ServiceSpec
from nbcompose.errors import CaptureError, DeclarationError, Mistake, UnknownService


@dataclass(frozen=True, slots=True)
class Change:
    """What a cell does to one service. `before`: the version that serves now, 0 for none.

    `change_reason`: what its card says where nothing is done. `stop_first`: stop the version that serves before the new
    one starts.
    """

    wanted: Started
    action: Literal["deploy", "restart", "roll back", "nothing"]
    before: int = 0
    change_reason: str = ""
    stop_first: bool = False

    @property
    def name(self) -> str:
        return self.wanted.spec.name


def declared(defined: Sequence[Defined], options: Mapping[str, Any]) -> dict[str, Service]:
    """Return the services of a cell by variable, with the cell's options.

    Raises `DeclarationError` with the mistakes of all classes, and `UsageError` for names that collide.
    """
    if "name" in options and len(defined) > 1:
        raise UsageError(f"--name is for one service, and this cell defines {', '.join(d.variable for d in defined)}")
    services: dict[str, Service] = {}
    errors: list[DeclarationError] = []
    for d in defined:
        try:
            spec = d.value.spec if isinstance(d.value, Service) else declare(d.value, {})
            services[d.variable] = Service(override(spec, options))
        except DeclarationError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        mistakes: list[Mistake] = [m for e in errors for m in e.mistakes]
        raise DeclarationError("these classes cannot be services:", mistakes)
    names = [s.name for s in services.values()]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        variables = ", ".join(v for v, s in services.items() if s.name in twice)
        raise UsageError(f"{variables} are all called {', '.join(twice)}: services of one cell need different names")
    return services


def compare(session: Session, services: Mapping[str, Service], *, stop_first: bool = False) -> list[Change]:
    """Return what has to be done for these services, dependencies first.

    Raises `CycleError`, and `CaptureError` for what cannot be sent to a replica.
    """
    specs = {s.name: s.spec for s in services.values()}
    dependency_graph.check_acyclic([*_others(session, specs), *specs.values()])
    cell, source = cell_id(session.shell), text_hash(session.cell_text)
    changes = {s.name: _change(session, s, stop_first, variable, cell, source) for variable, s in services.items()}
    return [changes[name] for name in dependency_graph.order(dependency_graph.edges(specs.values())) if name in changes]


def without_code(session: Session, names: Sequence[str], action: Literal["restart", "roll back"]) -> list[Change]:
    """Return changes to new replicas of the same code, or back to the previous version. Raises `UnknownService`."""
    return [Change(_running(session, n), action, _version(session, n)) for n in names]


def refreshes(session: Session, names: Sequence[str]) -> tuple[list[Change], list[CaptureError]]:
    """Return changes to the same classes with the notebook's present functions and values, and errors of what cannot be
    packed.
    """
    found, failed = [], []
    for name in names:
        started = _running(session, name)
        try:
            with _as_class(session, started):
                source = session.sources.of(name, session.registry.wanted(name))
                service = Service(started.spec)
                found.append(_change(session, service, False, started.variable, started.cell, source))
        except CaptureError as error:
            failed.append(error)
    return found, failed


@contextmanager
def _as_class(session: Session, started: Started) -> Iterator[None]:
    """Bind the class to its name while it is packed, as when its cell ran: it may refer to itself by its name."""
    space, name = session.shell.user_ns, started.variable
    service = space.get(name)
    if not isinstance(service, Service):
        yield
        return
    space[name] = started.spec.cls
    try:
        yield
    finally:
        space[name] = service


def _others(session: Session, specs: Mapping[str, ServiceSpec]) -> list[ServiceSpec]:
    deployments = [session.registry.deployment(n) for n in session.registry.names() if n not in specs]
    return [d.spec for d in deployments if d is not None]


def _running(session: Session, name: str) -> Started:
    deployment = session.registry.deployment(name)
    if deployment is None:
        raise UnknownService.among(name, session.registry.names())
    known = session.started.get(name)
    return replace(known, deployment=deployment) if known is not None else Started(deployment, name)


def _version(session: Session, name: str) -> int:
    return session.registry.status(name).version


def _change(session: Session, service: Service, stop_first: bool, variable: str, cell: str, source: str) -> Change:
    wanted = Started(deployment_of(service, token=session.token), variable, cell, source)
    name, registry = service.name, session.registry
    if name not in registry.names():
        return Change(wanted, "deploy")
    if registry.plan(wanted.deployment).action != "nothing":
        return Change(wanted, "deploy", _version(session, name), stop_first=stop_first)
    unchanged = f"unchanged, so nothing was done (%services restart {name} starts it anew)"
    return Change(wanted, "nothing", _version(session, name), unchanged)


_CLASS = re.compile(r"^\s*class\s+(\w+)", re.MULTILINE)


@contextmanager
def previous_on_error(session: Session, cell_text: str) -> Iterator[None]:
    """Where a cell fails before it has a card, keep names bound to the services that serve, not to the cell's bare
    classes, and mark the services that it defines: the previous version serves on, and their status says so, as does
    the cell.
    """
    space = session.shell.user_ns
    before = {name: value for name, value in space.items() if isinstance(value, Service)}
    try:
        yield
    except HelpAsked:
        raise
    except BaseException as error:
        space.update(before)
        reason = str(error) if isinstance(error, CellSyntaxError) else f"{type(error).__name__}: {error}"
        reason = reason.partition("\n")[0]
        names, cell = set(_CLASS.findall(cell_text)), cell_id(session.shell)
        named = [name for name, started in session.started.items() if started.variable in names]
        for name in named if isinstance(error, Exception) else ():
            session.registry.mark(name, out_of_date_reason=reason)
        of_cell = {name: started.variable for name, started in session.started.items() if cell and started.cell == cell}
        if not names:  # the mistake is in the line that names a class
            named = [name for name, variable in of_cell.items() if re.search(rf"\b{variable}\b", cell_text)]
        session.notices.kept(named, of_cell)
        raise


def look(session: Session) -> list[Stale]:
    """Mark the services that are stale, and clear those that no longer are. Returns those that have become stale, or
    are so in another way, since the last look.
    """
    found: dict[str, Stale] = {}
    new = []
    for stopped in session.looked.keys() - session.started.keys():
        del session.looked[stopped]
    for name in list(session.started):
        deployment = session.registry.deployment(name)
        fingerprint = deployment.fingerprint if deployment is not None else None
        if deployment is None or fingerprint is None:
            continue
        now = fingerprint_of(deployment.spec, known=fingerprint)
        changed = {n: now.parts[n].digest if n in now.parts else "" for n in sorted(_names(fingerprint, now))}
        defined = frozenset(u.name for u in fingerprint.undefined) & changed.keys() & now.parts.keys()
        stale = Stale(name, changed, defined, tuple(_outdated(deployment.spec.cls)))
        if session.registry.mark(name, stale=stale.names) and (card := session.cards.get(name)):
            card.redraw()
        if not stale.names:
            session.looked.pop(name, None)
        elif not session.registry.status(name).replacing:  # else the next look decides
            found[name] = stale
            if session.looked.get(name) != stale:
                new.append(stale)
            session.looked[name] = stale
    session.notices.note_calls(found)
    return new


def _outdated(cls: type[Any]) -> list[tuple[str, str]]:
    """Return the bases and functions of the service's class that the notebook has redefined since, each with the class
    whose cell has to run again: only the cell that made the class can use the new ones.
    """
    versions = Versions(cls)
    found: list[tuple[str, str]] = []
    for base in cls.__mro__[:-1]:
        names = [b.__name__ for b in base.__bases__ if versions.differs(b)]
        names += [f.__name__ for f in _functions_taken(base) if versions.has_overtaken(f)]
        found += [(name, base.__name__) for name in names]
    return list(dict.fromkeys(found))


def _functions_taken(cls: type[Any]) -> Iterator[FunctionType]:
    """Yield functions of the notebook that are in a class under another name, or are defaults of its methods."""
    for member in vars(cls).values():
        for function in functions_in(member):
            defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
            yield from (f for f in (function, *defaults) if isinstance(f, FunctionType))


def _names(packed: Fingerprint, now: Fingerprint) -> Iterator[str]:
    """Yield what differs, except what is used, or no longer used, only because something else differs."""
    changed = differing(packed, now)
    same = packed.parts.keys() & now.parts.keys() - changed
    for name in changed:
        in_both = name in packed.parts and name in now.parts
        if in_both or any(name in packed.parts[p].uses | now.parts[p].uses for p in same):
            yield name
