"""Layered layout of one connected graph: callers above the services that they call, or to the left of them.

Layers, order and positions follow the order in which the nodes are given: a node that is added at the end finds its
place between the others, which keep theirs as far as they can. Graphviz, for one, minimizes crossings and lengths anew
for every graph, and knows no width that a picture has to fit in. Pure functions.

Rows are worked out as if callers were above: `x` runs along a row, `y` from row to row. `across` swaps the two at the
end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nbcompose._service import dependency_graph

APART = 20  # pixels between the cards of a row
BETWEEN_COLUMNS = 72  # with room for numbers beside lines
BETWEEN_ROWS = 56
WRAPPED = 30  # between the rows of one layer
_CLEAR = 7  # pixels that a line keeps from cards that it passes
_LINES_APART = 5
_BUNDLE = 40  # width of all lines that pass a row beside its cards
_SWEEPS = 4


class Size(NamedTuple):
    width: float
    height: float


class Box(NamedTuple):
    x: float
    y: float
    width: float
    height: float

    def moved(self, x: float, y: float) -> Box:
        return self._replace(x=self.x + x, y=self.y + y)


class Point(NamedTuple):
    x: float
    y: float


Line = list[Point]  # from a caller to its callee; between each two of these, straight or an S
Calls = Mapping[str, Sequence[str]]  # what each node calls, by its key


@dataclass(frozen=True, slots=True)
class Part:
    """The layout of a connected graph, its upper left corner at (0, 0). `across`: callers are to the left."""

    size: Size
    boxes: Mapping[str, Box]
    lines: Mapping[tuple[str, str], Line]
    across: bool = False


def laid_out(calls: Calls, card: Size, page: float) -> Part:
    """Return the layout of a connected graph with cards of one size. `calls` has every node, and no cycle.

    Callers stand to the left where that is no wider than `page`, and no column is long. Else they stand above, in rows
    that are no wider than `page`: a layer that needs more room has several rows.
    """
    layers = ordered(calls)
    columns = len(layers) * (card.width + BETWEEN_COLUMNS) - BETWEEN_COLUMNS
    if columns <= page and max(map(len, layers)) <= 2 * len(layers) + 2:
        turned = Size(card.height, card.width)
        part = _placed(layers, calls, turned, [BETWEEN_COLUMNS] * (len(layers) - 1), math.inf)
        return _turned(part)
    most = max(1, int((page + APART) // (card.width + APART)))
    rows, gaps = _wrapped(layers, most)
    return _placed(rows, calls, card, gaps, most * (card.width + APART) - APART)


# -- layers


def ordered(calls: Calls) -> list[list[str]]:
    """Return the layers, callers first, each in the order in which its nodes are drawn.

    Each node is put where the middle of what it calls is, between those that came before it.
    """
    depth = _depths(calls)
    layers: list[list[tuple[float, str]]] = [[] for _ in range(max(depth.values()) + 1)]
    for key in sorted(calls, key=lambda key: -depth[key]):  # what it calls has a place already; stable
        layer = layers[depth[key]]
        below = [_place(layers[depth[callee]], callee) for callee in calls[key]]
        wanted = sum(below) / len(below) if below else layer[-1][0] if layer else 0.0
        at = len(layer)
        while below and at and layer[at - 1][0] > wanted:
            at -= 1
        layer.insert(at, (wanted, key))
    return [[key for _, key in layer] for layer in layers]


def _place(layer: Sequence[tuple[float, str]], key: str) -> float:
    """Return where a node is in its layer, from 0 to 1."""
    at = next(i for i, (_, other) in enumerate(layer) if other == key)
    return (at + 0.5) / len(layer)


def _depths(calls: Calls) -> dict[str, int]:
    """Return the number of each node's layer: 0 is the first.

    A node is next below the lowest of its callers, and an entry as high as what it calls needs, so that one more
    caller moves nothing that is below it.
    """
    order = dependency_graph.order({key: tuple(callees) for key, callees in calls.items()})
    height: dict[str, int] = {}
    for key in order:
        height[key] = 1 + max((height[callee] for callee in calls[key]), default=-1)
    highest: dict[str, int] = {}  # that is below all callers
    for key in reversed(order):
        height[key] = highest.get(key, height[key])
        for callee in calls[key]:
            highest[callee] = min(highest.get(callee, height[key] - 1), height[key] - 1)
    most = max(height.values())
    return {key: most - height[key] for key in calls}


def _wrapped(layers: Sequence[Sequence[str]], most: int) -> tuple[list[list[str]], list[float]]:
    """Return rows of at most `most` nodes, and the gaps between them."""
    rows: list[list[str]] = []
    gaps: list[float] = []
    for layer in layers:
        parts = [list(layer[at : at + most]) for at in range(0, len(layer), most)]
        gaps += [BETWEEN_ROWS] * bool(rows) + [WRAPPED] * (len(parts) - 1)
        rows += parts
    return rows, gaps


# -- positions


def spread(wanted: Sequence[float], apart: float, low: float = -math.inf, high: float = math.inf) -> list[float]:
    """Return positions in the given order and at least `apart`, as near to the wanted ones as can be.

    Least squares under an order: the pool-adjacent-violators algorithm (Ayer et al. 1955).
    """
    pools: list[tuple[float, int]] = []  # sum and number of those that have to move together
    for i, place in enumerate(wanted):
        total, count = place - i * apart, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            before, others = pools.pop()
            total, count = total + before, count + others
        pools.append((total, count))
    high -= (len(wanted) - 1) * apart
    starts = [max(min(total / count, high), low) for total, count in pools for _ in range(count)]
    return [start + i * apart for i, start in enumerate(starts)]


def _placed(rows: Sequence[Sequence[str]], calls: Calls, card: Size, gaps: Sequence[float], width: float) -> Part:
    row_of = {key: number for number, row in enumerate(rows) for key in row}
    middles = _middles(rows, calls, card.width, width)
    tops = [0.0]
    for gap in gaps:
        tops.append(tops[-1] + card.height + gap)
    lines = _lines(rows, row_of, middles, calls, card, tops)
    points = [p.x for line in lines.values() for p in line]
    left = min([*(x - card.width / 2 for x in middles.values()), *points])
    right = max([*(x + card.width / 2 for x in middles.values()), *points])
    boxes = {key: Box(x - card.width / 2 - left, tops[row_of[key]], *card) for key, x in middles.items()}
    moved = {edge: [Point(p.x - left, p.y) for p in line] for edge, line in lines.items()}
    return Part(Size(right - left, tops[-1] + card.height), boxes, moved)


def _middles(rows: Sequence[Sequence[str]], calls: Calls, card: float, width: float) -> dict[str, float]:
    """Return where the middle of each node is in its row: near to those that it calls and that call it."""
    low, high = (card - width) / 2, (width - card) / 2
    near: dict[str, list[str]] = {key: list(callees) for key, callees in calls.items()}
    for key, callees in calls.items():
        for callee in callees:
            near[callee].append(key)
    middles = {key: (i - (len(row) - 1) / 2) * (card + APART) for row in rows for i, key in enumerate(row)}
    for sweep in range(_SWEEPS):
        for row in rows if sweep % 2 else reversed(rows):
            wanted = [_mean([middles[other] for other in near[key]], middles[key]) for key in row]
            middles.update(zip(row, spread(wanted, card + APART, low, high), strict=True))
    return middles


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


# -- lines


def _lines(
    rows: Sequence[Sequence[str]],
    row_of: Mapping[str, int],
    middles: Mapping[str, float],
    calls: Calls,
    card: Size,
    tops: Sequence[float],
) -> dict[tuple[str, str], Line]:
    """Return the lines from callers down to callees. They pass other rows between the cards."""
    lines = {
        (key, callee): [Point(middles[key], tops[row_of[key]] + card.height)] for key in calls for callee in calls[key]
    }
    for number, row in enumerate(rows):
        passing = [e for e in lines if row_of[e[0]] < number < row_of[e[1]]]
        wanted = {e: _straight(lines[e][-1].x, middles[e[1]], row_of[e[1]] - number) for e in passing}
        for edge, x in _passes([middles[key] for key in row], card.width, wanted).items():
            lines[edge] += [Point(x, tops[number] - _CLEAR / 2), Point(x, tops[number] + card.height + _CLEAR / 2)]
    for edge, line in lines.items():
        line.append(Point(middles[edge[1]], tops[row_of[edge[1]]]))
    return lines


def _straight(x: float, end: float, rows: int) -> float:
    """Return where a straight line to `end`, which is `rows` rows after the next one, passes the next one."""
    return x + (end - x) / (rows + 1)


def _passes(
    cards: Sequence[float], width: float, wanted: Mapping[tuple[str, str], float]
) -> dict[tuple[str, str], float]:
    """Return where lines pass a row, between its cards and beside them, near to where they want to."""
    sides = [-math.inf, *(x + sign * (width / 2 + _CLEAR) for x in cards for sign in (-1, 1)), math.inf]
    openings = list(zip(sides[::2], sides[1::2], strict=True))
    through: dict[tuple[float, float], list[tuple[str, str]]] = {}
    for edge, x in sorted(wanted.items(), key=lambda item: item[1]):
        nearest = min(openings, key=lambda opening: max(opening[0] - x, x - opening[1], 0.0))
        through.setdefault(nearest, []).append(edge)
    found: dict[tuple[str, str], float] = {}
    for (low, high), edges in through.items():
        room = high - low if math.isfinite(high - low) else _BUNDLE
        apart = min(_LINES_APART, room / max(1, len(edges) - 1))
        found.update(zip(edges, spread([wanted[e] for e in edges], apart, low, high), strict=True))
    return found


def _turned(part: Part) -> Part:
    """Return the layout with callers to the left instead of above."""
    boxes = {key: Box(b.y, b.x, b.height, b.width) for key, b in part.boxes.items()}
    lines = {edge: [Point(p.y, p.x) for p in line] for edge, line in part.lines.items()}
    return Part(Size(part.size.height, part.size.width), boxes, lines, across=True)
