"""Where the cards and lines of a picture go: DOT, laid out by Graphviz in this process. Pure.

Graphviz is given sizes and no text: it would measure text with the fonts of this machine, and the picture would differ
from one machine to the next.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from xml.etree import ElementTree

import graphviz
import pygraphviz

from nbcompose.notebook.graph.element import Edge, Node, element_id

GAP = 92  # pixels between callers and what they call, with room for numbers; a point of Graphviz's is a pixel here
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


class Line(NamedTuple):
    """A path, and the polygon of its head."""

    path: str
    head: str


@dataclass(frozen=True, slots=True)
class Layout:
    """Boxes and lines by `element_id`. `size`: that of it all; the upper left is (0, 0) after a shift by `offset`."""

    size: Size
    offset: tuple[float, float]
    boxes: Mapping[str, Box]
    lines: Mapping[str, Line]


def lay_out(nodes: Sequence[Node], edges: Sequence[Edge], card: Size, page: float) -> Layout:
    """All cards have one size. Callers are to the left; or above, if that is narrower and otherwise exceeds `page`."""
    across = _laid_out(nodes, edges, card, down=False)
    if across.size.width <= page:
        return across
    return min(across, _laid_out(nodes, edges, card, down=True), key=lambda layout: layout.size.width)


def dot(nodes: Sequence[Node], edges: Sequence[Edge], card: Size, *, down: bool = False) -> str:
    """The graph in Graphviz's language. `down`: callers above, not to the left."""
    direction, tail, head = ("TB", "s", "n") if down else ("LR", "e", "w")
    graph = graphviz.Digraph(
        graph_attr={
            "rankdir": direction,
            "nodesep": "0.28",
            "ranksep": f"{GAP / _INCH:.4f}",
            "pad": "0.12",
            "pack": "22",  # parts that have nothing to do with each other side by side, not in one long column
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
    # Graphviz gives a meaning to backslashes and colons in names.
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
            lines[group.attrib["id"]] = Line(path.attrib["d"], polygon.attrib["points"])
    return Layout(Size(width, height), (float(x), float(y)), boxes, lines)


def _box(points: str) -> Box:
    corners = [tuple(map(float, p.split(","))) for p in points.split()]
    (left, right), (top, bottom) = ((min(c), max(c)) for c in zip(*corners, strict=True))
    return Box(left, top, right - left, bottom - top)


def _curve(tail: Box, head: Box, down: bool) -> Line | None:
    """An S from one card to another beside it, where Graphviz's own make detours; None where others lie between."""
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
        return Line(path, f"{to_x - 4:g},{to_y - 10:g} {to_x:g},{to_y - 1:g} {to_x + 4:g},{to_y - 10:g}")
    path = f"M{x:g},{y:g} C{x + bend:g},{y:g} {to_x - bend:g},{to_y:g} {to_x - 8:g},{to_y:g}"
    return Line(path, f"{to_x - 10:g},{to_y - 4:g} {to_x - 1:g},{to_y:g} {to_x - 10:g},{to_y + 4:g}")
