"""Graph layout: nodes and edges from service statuses, positioned by Graphviz. Pure functions.

Besides services a graph contains their dependencies outside this process: services at a URL (`depends(url=...)`), and
services that no cell has defined yet.

Graphviz gets sizes and no text: it would measure text with the fonts of this machine, and pictures would differ between
machines.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit
from xml.etree import ElementTree

import graphviz
import pygraphviz

from nbcompose._control import Status, element_id, progress
from nbcompose._replica import Phase
from nbcompose._spec import ServiceSpec


@dataclass(frozen=True, slots=True)
class Node:
    """A node. `key`: a service's name or a URL. `state`: the state of a service, or *elsewhere*, or *missing*.

    `words`: the state as displayed; `place`: device and replicas; `hint`: the text of the tooltip.
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
        """Whether the node is a service of this process."""
        return self.state not in ("elsewhere", "missing")


@dataclass(frozen=True, slots=True)
class Edge:
    """A service and one of its dependencies. `stream`: all apis of the dependency are streams."""

    caller: str
    callee: str
    stream: bool = False


def streaming(specs: Sequence[ServiceSpec]) -> frozenset[str]:
    """Return the services whose apis are all streams."""
    return frozenset(s.name for s in specs if s.apis and all(a.stream for a in s.apis))


def nodes(statuses: Sequence[Status]) -> list[Node]:
    """Return the nodes in the order of `statuses` (dependencies first), preceded by those outside this process."""
    here = {s.name for s in statuses}
    absent = dict.fromkeys(d for s in statuses for d in s.dependencies if d not in here)
    return [*map(_absent, absent), *map(_service, statuses)]


def edges(statuses: Sequence[Status], streams: Collection[str] = ()) -> list[Edge]:
    return [Edge(s.name, d, d in streams) for s in statuses for d in dict.fromkeys(s.dependencies)]


def replicas(status: Status) -> str:
    """Return the number of replicas, e.g. "2 replicas", or "1 of 2 replicas" while another one starts."""
    count = status.wanted
    some = f"{status.up} of " if status.state == "ready" and status.up != count else ""
    return f"{some}{count} replica{'' if count == 1 else 's'}"


def _absent(key: str) -> Node:
    if "://" not in key:
        return Node(key, key, "missing", "not started yet", hint=f"{key} does not run: no cell has started it yet")
    # The port may differ from run to run, and the password is secret: neither may be saved in the notebook.
    parts = urlsplit(key)
    name = f"{parts.hostname or key}{parts.path.rstrip('/')}"
    return Node(key, name, "elsewhere", "elsewhere", place=parts.scheme, hint=f"{name}, a service elsewhere")


def _service(status: Status) -> Node:
    words = _words(status)
    place = " · ".join(filter(None, (status.device, replicas(status))))
    if status.state == "failed" and status.error:
        place = _last_line(status.error)
    held = sum(h.abandoned for r in status.replicas for h in r.work.held)
    marks = [
        *(["stale"] if status.stale else []),
        *(["previous version"] if status.out_of_date_reason else []),
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
        others = len(status.waits_for) - 1
        return f"waiting for {status.waits_for[0]} and {others} more" if others > 1 else status.reason or "waiting"
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


GAP = 92  # pixels between callers and callees, with room for numbers; a Graphviz point is one pixel here
_INCH = 72
_NAMESPACE = "{http://www.w3.org/2000/svg}"

_graphviz = threading.Lock()  # Graphviz has global state


class Size(NamedTuple):
    width: float
    height: float


class Box(NamedTuple):
    x: float
    y: float
    width: float
    height: float


class EdgePath(NamedTuple):
    """The path of an edge, and the polygon of its arrow head."""

    path: str
    head: str


@dataclass(frozen=True, slots=True)
class Layout:
    """Boxes and lines by `element_id`. `size`: of the whole; the upper left corner is (0, 0) after
    a shift by `offset`.
    """

    size: Size
    offset: tuple[float, float]
    boxes: Mapping[str, Box]
    lines: Mapping[str, EdgePath]


def lay_out(nodes: Sequence[Node], edges: Sequence[Edge], card: Size, page: float) -> Layout:
    """Return the layout for cards of one size. Callers are left of their callees, or above them where the picture would
    otherwise be wider than `page` and this makes it narrower.
    """
    across = _laid_out(nodes, edges, card, down=False)
    if across.size.width <= page:
        return across
    return min(across, _laid_out(nodes, edges, card, down=True), key=lambda layout: layout.size.width)


def dot(nodes: Sequence[Node], edges: Sequence[Edge], card: Size, *, down: bool = False) -> str:
    """Return the graph in Graphviz's language. `down`: callers above, not to the left."""
    direction, tail, head = ("TB", "s", "n") if down else ("LR", "e", "w")
    graph = graphviz.Digraph(
        graph_attr={
            "rankdir": direction,
            "nodesep": "0.28",
            "ranksep": f"{GAP / _INCH:.4f}",
            "pad": "0.12",
            "pack": "22",  # unconnected parts side by side, not in one long column
            "packmode": "array_t",
        },
        node_attr={
            "shape": "box",
            "fixedsize": "true",
            "label": "",
            "width": f"{card.width / _INCH:.4f}",
            "height": f"{card.height / _INCH:.4f}",
        },
        edge_attr={"arrowsize": "0.8", "tailport": tail, "headport": head},
    )
    # Graphviz interprets backslashes and colons in names.
    names = {node.key: f"n{i}" for i, node in enumerate(nodes)}
    for node in nodes:
        graph.node(names[node.key], id=element_id("node", node.key))
    for edge in edges:
        graph.edge(names[edge.caller], names[edge.callee], id=element_id("edge", edge.caller, edge.callee))
    return str(graph.source)


def _laid_out(nodes: Sequence[Node], edges: Sequence[Edge], card: Size, down: bool) -> Layout:
    layout = _read(_drawn(dot(nodes, edges, card, down=down)))
    lines = {}
    for edge in edges:
        name = element_id("edge", edge.caller, edge.callee)
        tail, head = (layout.boxes[element_id("node", key)] for key in (edge.caller, edge.callee))
        lines[name] = _curve(tail, head, down) or layout.lines[name]
    return Layout(layout.size, layout.offset, layout.boxes, lines)


def _drawn(source: str) -> bytes:
    with _graphviz:
        graph = pygraphviz.AGraph(string=source)
        try:
            drawn: bytes = graph.draw(format="svg", prog="dot")
        finally:
            graph.close()
    return drawn


def _read(drawn: bytes) -> Layout:
    root = ElementTree.fromstring(drawn)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    top = root.find(f"{_NAMESPACE}g")
    assert top is not None
    x, y = top.attrib["transform"].rpartition("translate(")[2].rstrip(")").split()
    boxes, lines = {}, {}
    for group in top.findall(f"{_NAMESPACE}g"):
        polygon, path = group.find(f"{_NAMESPACE}polygon"), group.find(f"{_NAMESPACE}path")
        assert polygon is not None
        if path is None:
            boxes[group.attrib["id"]] = _box(polygon.attrib["points"])
        else:
            lines[group.attrib["id"]] = EdgePath(path.attrib["d"], polygon.attrib["points"])
    return Layout(Size(width, height), (float(x), float(y)), boxes, lines)


def _box(points: str) -> Box:
    corners = [tuple(map(float, p.split(","))) for p in points.split()]
    (left, right), (top, bottom) = ((min(c), max(c)) for c in zip(*corners, strict=True))
    return Box(left, top, right - left, bottom - top)


def _curve(tail: Box, head: Box, down: bool) -> EdgePath | None:
    """Return an S curve between neighbouring cards, where Graphviz's edges make detours; None where other cards lie
    between.
    """
    if down:
        x, y, to_x, to_y = tail.x + tail.width / 2, tail.y + tail.height, head.x + head.width / 2, head.y
        length = to_y - y
    else:
        x, y, to_x, to_y = tail.x + tail.width, tail.y + tail.height / 2, head.x, head.y + head.height / 2
        length = to_x - x
    if not 0 < length < GAP * 1.5:
        return None
    bend = length * 0.55
    if down:
        path = f"M{x:g},{y:g} C{x:g},{y + bend:g} {to_x:g},{to_y - bend:g} {to_x:g},{to_y - 8:g}"
        return EdgePath(path, f"{to_x - 4:g},{to_y - 10:g} {to_x:g},{to_y - 1:g} {to_x + 4:g},{to_y - 10:g}")
    path = f"M{x:g},{y:g} C{x + bend:g},{y:g} {to_x - bend:g},{to_y:g} {to_x - 8:g},{to_y:g}"
    return EdgePath(path, f"{to_x - 10:g},{to_y - 4:g} {to_x - 1:g},{to_y:g} {to_x - 10:g},{to_y + 4:g}")
