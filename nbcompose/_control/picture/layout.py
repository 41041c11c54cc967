"""Graph layout: nodes and edges from service statuses, and where they stand. Pure functions.

Besides services a graph contains their dependencies outside this process: services at a URL (`depends(url=...)`), and
services that no cell has defined yet.

Positions depend on names and calls alone: a service that starts, fails or has much to tell moves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple
from urllib.parse import urlsplit

from nbcompose._control import Status, links, progress
from nbcompose._control.picture import layered
from nbcompose._control.picture.layered import Box, Size
from nbcompose._replica import Phase
from nbcompose._spec import ServiceSpec
from nbcompose._units import with_previous

Edges = tuple[tuple[str, str], ...]  # keys of callers and callees


@dataclass(frozen=True, slots=True)
class Node:
    """A node. `key`: a service's name or a URL. `state`: the state of a service, or *elsewhere*, or *missing*.

    `words`: the state as displayed; `place`: device and replicas; `hint`: the text of the tooltip. `below`: how many
    nodes are seen, or were, only below this one, which is `folded` where they are left out.
    """

    key: str
    name: str
    state: str
    words: str
    place: str = ""
    hint: str = ""
    stale: bool = False
    behind: bool = False
    below: int = 0
    folded: bool = False

    @property
    def is_service(self) -> bool:
        """Whether the node is a service of this process."""
        return self.state not in ("elsewhere", "missing")


@dataclass(frozen=True, slots=True)
class Edge:
    """A service and one that it calls. `stream`: all apis of the latter are streams. `passed`: see `Link`."""

    caller: str
    callee: str
    stream: bool = False
    passed: bool = False


def streaming(specs: Sequence[ServiceSpec]) -> frozenset[str]:
    """Return the services whose apis are all streams."""
    return frozenset(s.name for s in specs if s.apis and all(a.stream for a in s.apis))


def nodes(statuses: Sequence[Status]) -> list[Node]:
    """Return the nodes in the order of `statuses` (dependencies first), preceded by those outside this process."""
    here = {s.name for s in statuses}
    absent = dict.fromkeys(d for s in statuses for d in s.dependencies if d not in here)
    return [*map(_absent, absent), *map(_service, statuses)]


def edges(statuses: Sequence[Status], streams: Collection[str] = ()) -> list[Edge]:
    return [Edge(link.caller, link.callee, link.callee in streams, link.passed) for link in links(statuses)]


def fold(nodes: Sequence[Node], edges: Sequence[Edge], folded: Collection[str]) -> tuple[list[Node], list[Edge]]:
    """Return what is seen while all that stands only below `folded` nodes is left out."""
    below = _below(tuple(n.key for n in nodes), tuple((e.caller, e.callee) for e in edges), frozenset(folded))
    seen = [
        replace(n, below=below[n.key], folded=n.key in folded and below[n.key] > 0) for n in nodes if n.key in below
    ]
    return seen, [e for e in edges if e.caller in below and e.callee in below]


@lru_cache(maxsize=64)
def _below(keys: tuple[str, ...], edges: Edges, folded: frozenset[str]) -> dict[str, int]:
    """Return the nodes that are seen, and how many are seen, or were, only below each of them."""
    calls: dict[str, list[str]] = {key: [] for key in keys}
    for caller, callee in edges:
        calls[caller].append(callee)
    called = {callee for _, callee in edges}
    seen = _reached(keys, calls, called, folded)
    other = {key: _reached(keys, calls, called, folded ^ {key}) for key in keys if key in seen and calls[key]}
    return {key: abs(len(other.get(key, seen)) - len(seen)) for key in keys if key in seen}


def _reached(keys: Sequence[str], calls: Mapping[str, list[str]], called: set[str], folded: frozenset[str]) -> set[str]:
    """Return the nodes to which a way leads from those that none calls, through none that is folded."""
    todo = [key for key in keys if key not in called]
    seen = set(todo)
    for key in todo:  # it grows meanwhile
        if key not in folded:
            new = [callee for callee in calls[key] if callee not in seen]
            seen.update(new)
            todo += new
    return seen


def replicas(status: Status) -> str:
    """Return the number of replicas, e.g. "2 replicas", or "1 of 2 replicas" while another one starts."""
    count = status.wanted
    some = f"{status.up} of " if status.state == "ready" and status.up != count else ""
    return f"{some}{count} replica{'' if count == 1 else 's'}"


def _absent(key: str) -> Node:
    if "://" not in key:
        return Node(key, key, "missing", "does not run", hint=f"{key} does not run: start it by its cell")
    # With its port, by which services of one machine are told apart. The password is secret, and may not be saved in
    # the notebook.
    parts = urlsplit(key)
    host = parts.netloc.rpartition("@")[2]
    name = f"{host or key}{parts.path.rstrip('/')}"
    return Node(key, name, "elsewhere", "elsewhere", place=parts.scheme, hint=f"{name}, a service elsewhere")


def _service(status: Status) -> Node:
    words = _words(status)
    place = " · ".join(filter(None, (status.device, replicas(status))))
    if status.state == "failed" and status.error:
        place = _last_line(status.error)
    held = sum(h.abandoned for r in status.replicas for h in r.work.held)
    if status.out_of_date_reason:
        words = with_previous(words)
    marks = [
        *(["stale"] if status.stale else []),
        status.replacing,
    ]
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
        behind=bool(status.out_of_date_reason),
    )


def _words(status: Status) -> str:
    if status.state == "waiting":
        below = status.waits_for  # the names alone: there is little room
        if len(below) > 2:
            return f"waiting for {below[0]} and {len(below) - 1} more"
        return f"waiting for {', '.join(below)}" if below else status.reason or "waiting"
    if status.state != "starting":
        return status.state
    downloads = [
        r.progress for r in status.replicas if r.phase is Phase.DOWNLOAD and r.progress and r.progress.bytes_total
    ]
    if downloads:
        return f"starting: models, {min(p.bytes_done / p.bytes_total for p in downloads):.0%}"
    return f"starting: {progress(status)}"


def _hint(status: Status) -> str:
    lines = [f"{status.name}: {status.reason or status.state}"]
    if status.replacing:
        lines.append(f"{status.replacing}: those that run serve until then")
    if status.stale:
        lines.append(f"stale: {', '.join(status.stale)} changed in the notebook since")
    if status.out_of_date_reason:
        lines.append(f"this is the previous version: {status.out_of_date_reason}")
    return "\n".join([*lines, *status.apis])


def _last_line(text: str) -> str:
    """Return the last line of a traceback, which is the error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


_BETWEEN_PARTS = 26  # pixels
PAD = 12  # around the picture, with room for marks on the corners of cards
_HEAD = Size(9, 8)  # length and width of an arrow's head


class EdgePath(NamedTuple):
    """The path of an edge, and the polygon of its arrow head. `across`: it goes to the right, not down."""

    path: str
    head: str
    across: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """The boxes of nodes by key, and the lines of edges by caller and callee; the upper left corner is (0, 0)."""

    size: Size
    boxes: Mapping[str, Box]
    lines: Mapping[tuple[str, str], EdgePath]


@lru_cache(maxsize=64)  # states change often, and graphs rarely
def lay_out(keys: tuple[str, ...], edges: Edges, card: Size, page: float) -> Layout:
    """Return the layout for cards of one size, no wider than `page` where a card is not.

    Each connected part of the graph is laid out for itself. Parts stand side by side while there is room, in the order
    of their first nodes, and below them, in rows, the nodes that are connected with none.
    """
    parts = [layered.laid_out(calls, card, page - 2 * PAD) for calls in _parts(keys, edges)]
    boxes: dict[str, Box] = {}
    lines: dict[tuple[str, str], EdgePath] = {}
    for part, (x, y) in zip(parts, _packed(parts, page - 2 * PAD), strict=True):
        boxes |= {key: box.moved(x, y) for key, box in part.boxes.items()}
        lines |= {edge: _edge_path(line, x, y, part.across) for edge, line in part.lines.items()}
    width = max((box.x + box.width for box in boxes.values()), default=0)
    height = max((box.y + box.height for box in boxes.values()), default=0)
    return Layout(Size(math.ceil(width) + PAD, math.ceil(height) + PAD), boxes, lines)


def _parts(keys: Sequence[str], edges: Edges) -> list[dict[str, list[str]]]:
    """Return the connected parts, as what each node calls; those of one node last."""
    near: dict[str, list[str]] = {key: [] for key in keys}
    calls: dict[str, list[str]] = {key: [] for key in keys}
    for caller, callee in edges:
        calls[caller].append(callee)
        near[caller].append(callee)
        near[callee].append(caller)
    number: dict[str, int] = {}
    for key in keys:
        todo = [] if key in number else [key]
        for found in todo:  # it grows meanwhile
            if found not in number:
                number[found] = number.get(key, len(number))
                todo += near[found]
    parts: dict[int, dict[str, list[str]]] = {}
    for key in keys:
        parts.setdefault(number[key], {})[key] = calls[key]
    return sorted(parts.values(), key=lambda part: len(part) == 1)


def _packed(parts: Sequence[layered.Part], page: float) -> list[layered.Point]:
    """Return where parts stand: in rows, one after the other, whose first cards begin at the same place.

    Lines may pass to the left of a part's cards.
    """
    rows: list[list[layered.Part]] = []
    room = 0.0
    for part in parts:
        if not rows or room + part.size.width > page:
            rows.append([])
            room = 0.0
        rows[-1].append(part)
        room += part.size.width + layered.APART
    first = max((_indent(row[0]) for row in rows), default=0.0)
    places: list[layered.Point] = []
    y = 0.0
    for row in rows:
        width = sum(part.size.width + layered.APART for part in row) - layered.APART
        x = max(0.0, min(first - _indent(row[0]), page - width))
        for part in row:
            places.append(layered.Point(PAD + x, PAD + y))
            x += part.size.width + layered.APART
        y += max(part.size.height for part in row) + _BETWEEN_PARTS
    return places


def _indent(part: layered.Part) -> float:
    return min(box.x for box in part.boxes.values())


def _edge_path(line: layered.Line, x: float, y: float, across: bool) -> EdgePath:
    points = [layered.Point(p.x + x, p.y + y) for p in line]
    end_x, end_y = points[-1]
    long, half = _HEAD.width, _HEAD.height / 2
    if across:
        tip, back = (end_x - 1, end_y), end_x - long - 1
        corners = [(back, end_y - half), tip, (back, end_y + half)]
        points[-1] = layered.Point(back + 2, end_y)
    else:
        tip, back = (end_x, end_y - 1), end_y - long - 1
        corners = [(end_x - half, back), tip, (end_x + half, back)]
        points[-1] = layered.Point(end_x, back + 2)
    return EdgePath(_curve(points, across), " ".join(f"{a:g},{b:g}" for a, b in corners), across)


def _curve(points: layered.Line, across: bool) -> str:
    """Return a path in SVG's language: straight where the points lie one behind the other, else with S curves."""
    path = f"M{points[0].x:g},{points[0].y:g}"
    for a, b in pairwise(points):
        x, y = ((b.x - a.x) * 0.55, 0.0) if across else (0.0, (b.y - a.y) * 0.55)
        if a.y == b.y if across else a.x == b.x:
            path += f" L{b.x:g},{b.y:g}"
        else:
            path += f" C{a.x + x:g},{a.y + y:g} {b.x - x:g},{b.y - y:g} {b.x:g},{b.y:g}"
    return path
