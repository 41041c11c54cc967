"""What the notebook knows and a running service does not: cells that failed, names that changed since.

Names are looked at after every cell: a name that stands for something else is seen, and so is a change in place, by
content, of values up to `meaning.LIMIT` bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from nbcompose.capture.meaning import meaning_of
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


def look(session: Session) -> list[str]:
    """Mark the services that are stale, and those that are so no more; returns the names of those that became so."""
    found = []
    for name in list(session.started):
        deployment = session.registry.deployment(name)
        meaning = deployment.meaning if deployment is not None else None
        if deployment is None or meaning is None:
            continue
        changed = tuple(sorted(_names(meaning, meaning_of(deployment.spec, known=meaning))))
        if session.registry.mark(name, stale=changed):
            found += [name] if changed else []
            if card := session.cards.get(name):
                card.redraw()
    return found


def _names(packed: Meaning, now: Meaning) -> Iterator[str]:
    """What differs; but not what is used, or used no more, only because something else differs."""
    changed = differing(packed, now)
    same = packed.parts.keys() & now.parts.keys() - changed
    for name in changed:
        in_both = name in packed.parts and name in now.parts
        if in_both or any(name in packed.parts[p].uses | now.parts[p].uses for p in same):
            yield name
