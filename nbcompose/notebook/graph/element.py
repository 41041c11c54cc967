"""What there is in a graph: its nodes and edges, in words, and the ids that they have in the picture. Pure.

Besides services a graph has what they depend on and what is not here: services elsewhere (`depends(url=...)`), and
those that no cell has defined yet.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from nbcompose import topology
from nbcompose.engine.status import Status
from nbcompose.notebook.card import progress
from nbcompose.spec import ServiceSpec

_UNSAFE = re.compile(r"[^\w.-]", re.ASCII)
_USER = re.compile(r"(?<=://)[^/?#]*@")  # and password


def element_id(kind: str, *names: str) -> str:
    """The id of an element: `node:Answer`, `edge:Answer:Writer`.

    Different names give different ids; what XML or CSS could mistake is escaped, as in `http~3a~2f~2f`. A password in a
    url is left out.
    """
    return ":".join((kind, *(_UNSAFE.sub(lambda m: f"~{ord(m[0]):x}", _USER.sub("", name)) for name in names)))


@dataclass(frozen=True, slots=True)
class Node:
    """`key`: a service's name or a url. `state`: that of a service, or *elsewhere*, or *missing*.

    `words`: the state as people read it; `place`: device and replicas; `hint`: what more there is to say.
    """

    key: str
    name: str
    state: str
    words: str
    place: str = ""
    hint: str = ""
    stale: bool = False
    behind: bool = False

    @property
    def is_service(self) -> bool:
        """Of this process, that is."""
        return self.state not in ("elsewhere", "missing")


@dataclass(frozen=True, slots=True)
class Edge:
    """A service and one that it calls; `stream`: all that it can call there are streams."""

    caller: str
    callee: str
    stream: bool = False


def streaming(specs: Sequence[ServiceSpec]) -> frozenset[str]:
    """The services all of whose apis are streams."""
    return frozenset(s.name for s in specs if s.apis and all(a.stream for a in s.apis))


def below(statuses: Sequence[Status], name: str) -> list[Status]:
    """The status of a service, and of everything that it depends on, in their order."""
    wanted = {name} | topology.below({s.name: s.dependencies for s in statuses}, name)
    return [s for s in statuses if s.name in wanted]


def nodes(statuses: Sequence[Status]) -> list[Node]:
    """Those that others depend on first, as statuses are; what is not here, before all."""
    here = {s.name for s in statuses}
    absent = dict.fromkeys(d for s in statuses for d in s.dependencies if d not in here)
    return [*map(_absent, absent), *map(_service, statuses)]


def edges(statuses: Sequence[Status], streams: Collection[str] = ()) -> list[Edge]:
    return [Edge(s.name, d, d in streams) for s in statuses for d in dict.fromkeys(s.dependencies)]


def replicas(status: Status) -> str:
    """E.g. "2 replicas", or "1 of 2 replicas" while another is on its way."""
    count = status.wanted
    some = f"{status.up} of " if status.state == "ready" and status.up != count else ""
    return f"{some}{count} replica{'' if count == 1 else 's'}"


def _absent(key: str) -> Node:
    if "://" not in key:
        return Node(key, key, "missing", "not started yet", hint=f"{key} does not run: no cell has started it yet")
    # Neither a port, which may differ from run to run, nor a password belongs into what is saved.
    parts = urlsplit(key)
    name = f"{parts.hostname or key}{parts.path.rstrip('/')}"
    return Node(key, name, "elsewhere", "elsewhere", place=parts.scheme, hint=f"{name}, a service elsewhere")


def _service(status: Status) -> Node:
    words = _words(status)
    place = " · ".join(filter(None, (status.device, replicas(status))))
    if status.state == "failed" and status.error:
        place = _last_line(status.error)
    held = sum(h.abandoned for r in status.replicas for h in r.work.held)
    marks = [*(["stale"] if status.stale else []), *(["previous version"] if status.behind else []), status.replacing]
    if held:
        marks.append(f"{held} worker{'' if held == 1 else 's'} held")
    return Node(
        key=status.name,
        name=status.name,
        state=status.state,
        words=", ".join(filter(None, [words, *marks])),
        place=place,
        hint=_hint(status),
        stale=bool(status.stale),
        behind=bool(status.behind),
    )


def _words(status: Status) -> str:
    if status.state == "waiting":
        first, *others = (status.reason or "waiting").split(", ")
        return f"{first} and {len(others)} more" if len(others) > 1 else status.reason or "waiting"
    if status.state != "starting":
        return status.state
    downloads = [r.progress for r in status.replicas if r.phase == "download" and r.progress and r.progress.bytes_total]
    if downloads:
        return f"starting: models, {min(p.bytes_done / p.bytes_total for p in downloads):.0%}"
    return f"starting: {progress(status)}"


def _hint(status: Status) -> str:
    lines = [f"{status.name}: {status.reason or status.state}"]
    if status.replacing:
        lines.append(f"{status.replacing}: those that run serve until then")
    if status.stale:
        lines.append(f"stale: {', '.join(status.stale)} changed in the notebook since")
    if status.behind:
        lines.append(f"this is the previous version: {status.behind}")
    return "\n".join([*lines, *status.apis])


def _last_line(text: str) -> str:
    """Of a traceback, what went wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
