"""What the notebook knows and a running service does not: cells that failed, names that changed since.

Names are looked at after every cell: a name that stands for something else is seen, and so is a change in place, by
content, of values up to `meaning.LIMIT` bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from nbcompose.capture.captured import functions_in
from nbcompose.capture.meaning import meaning_of
from nbcompose.capture.versions import Versions
from nbcompose.declaration import Service
from nbcompose.notebook.session import Session
from nbcompose.plan import Meaning, differing

_CLASS = re.compile(r"^\s*class\s+(\w+)", re.MULTILINE)


@contextmanager
def behind_on_error(session: Session, cell_text: str) -> Iterator[None]:
    """A cell that fails leaves the services that it defines with the version before, and they say so."""
    try:
        yield
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        names = set(_CLASS.findall(cell_text))
        for name, started in session.started.items():
            if started.variable in names:
                session.registry.mark(name, behind=reason)
        raise


@contextmanager
def names_kept(shell: InteractiveShell) -> Iterator[None]:
    """Where a cell fails, the names of services that serve go on standing for them, not for the cell's bare classes."""
    before = {name: value for name, value in shell.user_ns.items() if isinstance(value, Service)}
    try:
        yield
    except BaseException:
        shell.user_ns.update(before)
        raise


def look(session: Session) -> list[str]:
    """Mark the services that are stale, and those that are so no more; returns those worth a refresh that was not
    tried yet.
    """
    found = []
    for name in list(session.started):
        deployment = session.registry.deployment(name)
        meaning = deployment.meaning if deployment is not None else None
        if deployment is None or meaning is None:
            continue
        now = meaning_of(deployment.spec, known=meaning)
        changed = sorted(_names(meaning, now))
        anew = _outdated(deployment.spec.cls)
        content = {n: now.parts[n].digest if n in now.parts else "" for n in changed}
        if session.registry.mark(name, stale=(*changed, *anew)) and (card := session.cards.get(name)):
            card.redraw()
        if changed and session.looked.get(name) != content:
            found.append(name)
        session.looked[name] = content
    return found


def _outdated(cls: type[Any]) -> list[str]:
    """What the service's class was made from, and what the notebook calls by that name something else now; with the way
    out, since only the cell that made it can take the new one.
    """
    versions = Versions(cls)
    found = []
    for base in cls.__mro__[:-1]:
        names = [b.__name__ for b in base.__bases__ if versions.differs(b)]
        names += [f.__name__ for f in _functions_taken(base) if versions.has_overtaken(f)]
        found += [f"{name} (run the cell of {base.__name__} again)" for name in names]
    return list(dict.fromkeys(found))


def _functions_taken(cls: type[Any]) -> Iterator[FunctionType]:
    """Functions of the notebook that stand in a class under another name, or are defaults of its methods."""
    for member in vars(cls).values():
        for function in functions_in(member):
            defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
            yield from (f for f in (function, *defaults) if isinstance(f, FunctionType))


def _names(packed: Meaning, now: Meaning) -> Iterator[str]:
    """What differs; but not what is used, or used no more, only because something else differs."""
    changed = differing(packed, now)
    same = packed.parts.keys() & now.parts.keys() - changed
    for name in changed:
        in_both = name in packed.parts and name in now.parts
        if in_both or any(name in packed.parts[p].uses | now.parts[p].uses for p in same):
            yield name
