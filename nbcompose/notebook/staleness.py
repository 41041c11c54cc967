"""What the notebook knows and a running service does not: cells that failed, names that changed since.

Names are looked at after every cell: a name that stands for something else is seen, and so is a change in place, by
content, of values up to `meaning.LIMIT` bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from nbcompose.capture.captured import functions_in, is_notebooks
from nbcompose.capture.digests import digest_of
from nbcompose.capture.meaning import meaning_of
from nbcompose.capture.wording import types_in
from nbcompose.declaration import Service
from nbcompose.notebook.session import Session
from nbcompose.plan import Meaning, differing
from nbcompose.schema.written import annotations_of

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
        anew = [f"{n} (run the cell of {name} again)" for n in _defined_anew(deployment.spec.cls, session.shell)]
        content = {n: now.parts[n].digest if n in now.parts else "" for n in changed}
        if session.registry.mark(name, stale=(*changed, *anew)) and (card := session.cards.get(name)):
            card.redraw()
        if changed and session.looked.get(name) != content:
            found.append(name)
        session.looked[name] = content
    return found


def _defined_anew(cls: type[Any], shell: InteractiveShell) -> Iterator[str]:
    """Classes of the notebook that the service's class was made from, and whose names stand for other ones now."""
    parts = [*cls.__mro__[1:]]
    for member in vars(cls).values():
        for function in functions_in(member):
            space = function.__globals__
            parts += [t for annotation in annotations_of(function).values() for t in types_in(annotation, space)]
    for part in dict.fromkeys(parts):
        now = shell.user_ns.get(part.__name__)
        now = now.spec.cls if isinstance(now, Service) else now
        if is_notebooks(part) and isinstance(now, type) and now is not part and digest_of(now) != digest_of(part):
            yield part.__name__


def _names(packed: Meaning, now: Meaning) -> Iterator[str]:
    """What differs; but not what is used, or used no more, only because something else differs."""
    changed = differing(packed, now)
    same = packed.parts.keys() & now.parts.keys() - changed
    for name in changed:
        in_both = name in packed.parts and name in now.parts
        if in_both or any(name in packed.parts[p].uses | now.parts[p].uses for p in same):
            yield name
