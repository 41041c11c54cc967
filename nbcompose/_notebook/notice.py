"""One notice under a cell, which follows the services that it is about: what is no longer so is not said any longer.

See `_notebook/notices.py` for what is said.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import NamedTuple

from IPython.core.interactiveshell import InteractiveShell

from nbcompose._control import Status
from nbcompose._notebook.display import Bundle, LiveDisplay, OutputAnchor, framed

_CODE, _AS_HTML = re.compile("`([^`]*)`"), r"<code>\1</code>"


class End(NamedTuple):
    """Why a notice no longer holds of services: of one, of several. `is_final`: it cannot hold again."""

    one: str
    several: str
    is_final: bool = True


STOPPED = End("was stopped", "were stopped")
FAILED = End("has failed", "have failed", is_final=False)
REFRESHED = End("was brought up to date", "were brought up to date", is_final=False)  # a restart looks so, for a while
ELSEWHERE = End("was defined by a later cell", "were defined by a later cell")


def _while_it_runs(status: Status) -> End | None:
    return {"stopped": STOPPED, "failed": FAILED}.get(status.state)


@dataclass(eq=False, slots=True)
class Part:
    """What a notice says of the services `names`.

    `lines`: its texts, by the statuses of those of which it holds. `end`: why it no longer holds of one, by its status.
    `of_cells`: it is about the cell of a service, so it ends when another cell defines that. `tells_end`: why it no
    longer holds is said.
    """

    names: tuple[str, ...]
    lines: Callable[[Mapping[str, Status]], Sequence[str]]
    end: Callable[[Status], End | None] = _while_it_runs
    of_cells: bool = False
    tells_end: bool = True
    statuses: dict[str, Status] = field(default_factory=dict)
    ends: dict[str, End] = field(default_factory=dict)

    @property
    def open(self) -> dict[str, Status]:
        return {name: status for name, status in self.statuses.items() if name not in self.ends}

    @property
    def is_over(self) -> bool:
        return all(name in self.ends and self.ends[name].is_final for name in self.names)

    def follow(self, name: str, status: Status | None) -> None:
        """Take the state of a service; None: it does not run."""
        if name not in self.names or (name in self.ends and self.ends[name].is_final):
            return
        end = STOPPED if status is None else self.end(status)
        self.ends.pop(name, None)
        if end is not None:
            self.ends[name] = end
        if status is not None:
            self.statuses[name] = status


class Notice:
    """One notice, under the cell that runs when it is made."""

    def __init__(self, shell: InteractiveShell, parts: Sequence[Part]) -> None:
        self.anchor = OutputAnchor.of(shell)
        self._parts = parts
        self._display = LiveDisplay(shell)
        self._lock = threading.Lock()

    def publish(self, statuses: Mapping[str, Status | None]) -> None:
        """Show it, on the cell's own thread. `statuses`: of the services that it is about."""
        with self._lock:
            for name, status in statuses.items():
                self._follow(name, status)
            self._display.show(self._bundle())
            self._display.finish(self._bundle(), keep_open=True)

    def follow(self, name: str, status: Status | None) -> bool:
        """Show what has become of a service. Returns whether more can come. From any thread."""
        with self._lock:
            self._follow(name, status)
            return self._redrawn()

    def taken(self, name: str) -> bool:
        """Show that another cell defines a service now. Returns whether more can come."""
        with self._lock:
            for part in self._parts:
                if part.of_cells and name in part.open:
                    part.ends[name] = ELSEWHERE
            return self._redrawn()

    def _follow(self, name: str, status: Status | None) -> None:
        for part in self._parts:
            part.follow(name, status)

    def _redrawn(self) -> bool:
        self._display.update(self._bundle())
        return not all(part.is_over for part in self._parts)

    def _bundle(self) -> Bundle:
        ends: dict[End, dict[str, None]] = {}
        for part in self._parts:
            for name, end in part.ends.items() if part.tells_end else ():
                ends.setdefault(end, {})[name] = None
        lines = [line for part in self._parts for line in part.lines(part.open)]
        over = [f"{listed(list(names))} {verb_for(list(names), end.one, end.several)}" for end, names in ends.items()]
        return bundle_of([*lines, *over], warns=any(part.open for part in self._parts))


def while_open(lines: Sequence[str]) -> Callable[[Mapping[str, Status]], Sequence[str]]:
    """Return the lines of a part that has them as long as it holds of any service."""
    return lambda statuses: lines if statuses else ()


def bundle_of(texts: Sequence[str], *, warns: bool = True) -> Bundle:
    """Return notices as a mime bundle; `...` in a text is code. `warns`: something of it still holds."""
    lines = [_CODE.sub(_AS_HTML, escape(text)) for text in texts]
    html = "".join(f"<div>{line}</div>" for line in [f"⚠ {lines[0]}" if warns else lines[0], *lines[1:]])
    return {"text/plain": "\n".join(text.replace("`", "") for text in texts), "text/html": framed(html)}


def listed(names: Sequence[str], most: int = 6) -> str:
    shown = [*names[:most], *([f"{len(names) - most} more"] if len(names) > most else [])]
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


def verb_for(names: Sequence[str], one: str, several: str) -> str:
    return one if len(names) == 1 else several
