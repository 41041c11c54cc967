"""Where services stand: apart, within the page, and where they stood before another one came."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcompose._control.picture.layered import Box, Size, ordered, spread
from nbcompose._control.picture.layout import PAD, Edge, Layout, Node, fold, lay_out
from nbcompose._control.picture.rendering import PAGE

CARD = Size(256, 85)
STEP = CARD.width + 20
Graph = dict[str, list[str]]


def random_graph(services: int, seed: int) -> Graph:
    """Services in the order in which they were defined, each of which calls a few of those before it."""
    random = Random(seed)
    names = [f"Service{i}" for i in range(services)]
    found = {}
    for i, name in enumerate(names):
        near = names[max(0, i - 8) : i]
        found[name] = sorted(random.sample(near, min(len(near), random.choice([0, 1, 1, 2, 2, 3]))))
    return found


def layers(*counts: int) -> Graph:
    """Services in layers, each of which calls all of the layer before."""
    found: Graph = {}
    below: list[str] = []
    for depth, count in enumerate(counts):
        names = [f"Service{depth}{i}" for i in range(count)]
        found |= {name: list(below) for name in names}
        below = names
    return found


def drawn(graph: Graph, page: float = PAGE) -> Layout:
    edges = tuple((caller, callee) for caller, callees in graph.items() for callee in callees)
    return lay_out(tuple(graph), edges, CARD, page)


def overlap(a: Box, b: Box) -> bool:
    return a.x < b.x + b.width and b.x < a.x + a.width and a.y < b.y + b.height and b.y < a.y + a.height


GRAPHS = [
    {}, layers(1), layers(20), layers(1, 19), layers(19, 1), layers(1, 5, 5, 5, 3, 1), layers(*[1] * 20),
    *(random_graph(count, seed) for count in (2, 5, 12, 40) for seed in range(5)), random_graph(200, 0),
]  # fmt: skip


@pytest.mark.parametrize("page", [PAGE, 700, 460, 280])
@pytest.mark.parametrize("graph", GRAPHS)
def test_cards_stay_apart_and_within_the_page(graph: Graph, page: float) -> None:
    """In a side bar, of one column, the lines beside the cards may need more: the picture is scaled down a little."""
    layout = drawn(graph, page)
    assert layout.boxes.keys() == graph.keys()
    assert not [pair for pair in itertools.combinations(layout.boxes.values(), 2) if overlap(*pair)]
    assert layout.size.width <= (page if page == PAGE else max(page, 2 * (PAD + 7 + 40) + CARD.width))
    for box in layout.boxes.values():
        assert box.x >= 0
        assert box.y >= 0
        assert box.x + box.width <= layout.size.width
        assert box.y + box.height <= layout.size.height


def points(path: str) -> list[tuple[float, float]]:
    """The ends of the parts of a path."""
    ends = [part.split()[-1] for part in path.replace("M", "|").replace("L", "|").replace("C", "|").split("|")[1:]]
    return [(float(x), float(y)) for x, y in (end.split(",") for end in ends)]


@pytest.mark.parametrize("page", [PAGE, 280])
@pytest.mark.parametrize("graph", GRAPHS)
def test_lines_go_from_callers_to_callees_and_through_no_card(graph: Graph, page: float) -> None:
    layout = drawn(graph, page)
    assert set(layout.lines) == {(caller, callee) for caller, callees in graph.items() for callee in callees}
    for (caller, callee), line in layout.lines.items():
        (x, y), *between, (to_x, to_y) = points(line.path)
        start, end = layout.boxes[caller], layout.boxes[callee]
        assert start.x <= x <= start.x + start.width
        assert start.y <= y <= start.y + start.height
        assert end.x - 12 <= to_x <= end.x + end.width
        assert end.y - 12 <= to_y <= end.y + end.height
        for x, y in between:
            assert not any(b.x < x < b.x + b.width and b.y < y < b.y + b.height for b in layout.boxes.values())


@pytest.mark.parametrize("graph", GRAPHS)
def test_callers_come_before_what_they_call(graph: Graph) -> None:
    layout = drawn(graph)
    for (caller, callee), line in layout.lines.items():
        a, b = layout.boxes[caller], layout.boxes[callee]
        assert a.x + a.width < b.x if line.across else a.y + a.height < b.y


def test_in_a_side_bar_services_stand_below_one_another_and_new_ones_at_the_end() -> None:
    graph: Graph = {f"S{number}": [] for number in range(8)}
    before, after = drawn(graph, 280).boxes, drawn(graph | {"New": []}, 280).boxes
    assert len({box.x for box in before.values()}) == 1
    assert [box.y for box in before.values()] == sorted({box.y for box in before.values()})
    assert {key: after[key] for key in graph} == before
    wide = drawn(layers(7, 1), 280)  # a layer that is too wide has rows
    assert len({box.y for box in wide.boxes.values()}) == 8


def moves(graph: Graph, more: Graph) -> Iterator[float]:
    """How far the services of a graph are, in cards, from where they were, against most of the others."""
    before, after = drawn(graph).boxes, drawn(graph | more).boxes
    shifts = {key: (after[key].x - before[key].x, after[key].y - before[key].y) for key in graph}
    middle = [statistics.median(shift[axis] for shift in shifts.values()) for axis in (0, 1)]
    for x, y in shifts.values():
        yield max(abs(x - middle[0]) / STEP, abs(y - middle[1]) / (CARD.height + 20))


@pytest.mark.parametrize("count", [4, 12, 24, 40])
def test_a_new_service_moves_few_of_the_others(count: int) -> None:
    far: list[float] = []
    for seed in range(40):
        graph = random_graph(count + 1, seed)
        *old, new = graph
        far += moves({key: graph[key] for key in old}, {new: graph[new]})
    assert statistics.fmean(far) < 0.35
    assert sum(moved > 0.5 for moved in far) < 0.2 * len(far)


@pytest.mark.parametrize("count", [1, 4, 12, 40])
def test_a_service_that_is_connected_with_none_moves_none(count: int) -> None:
    for seed in range(10):
        graph = random_graph(count, seed)
        before, after = drawn(graph), drawn(graph | {"New": []})
        assert {key: after.boxes[key] for key in graph} == before.boxes
        new = after.boxes["New"]
        others = [b for b in before.boxes.values() if b.y == new.y]
        assert new.x < 20 or any(abs(b.x + STEP - new.x) < 1 for b in others)  # first in its row, or next to another


def test_few_services_change_places_with_others() -> None:
    """Two change places only where the new one changes the layer of something that they call."""
    kept = changed = 0
    for seed in range(100):
        graph = random_graph(13, seed)
        *old, _ = graph
        before = ordered({key: graph[key] for key in old})
        place = {key: (depth, at) for depth, layer in enumerate(ordered(graph)) for at, key in enumerate(layer)}
        for a, b in (pair for layer in before for pair in itertools.combinations(layer, 2)):
            if place[a][0] == place[b][0]:
                kept, changed = kept + (place[a] < place[b]), changed + (place[a] > place[b])
    assert changed < 0.03 * kept


def test_a_short_graph_goes_across_and_a_deep_one_down() -> None:
    assert all(line.across for line in drawn(layers(1, 2, 1)).lines.values())
    assert not any(line.across for line in drawn(layers(1, 2, 2, 1)).lines.values())
    assert not any(line.across for line in drawn(layers(9, 1)).lines.values())  # a long column would be hard to see


def test_parts_stand_side_by_side_and_singles_in_rows_below() -> None:
    chain = {"A": [], "B": ["A"], "C": ["B"], "D": ["C"], "E": ["D"]}
    boxes = drawn(chain | {"S1": [], "a": [], "b": ["a"], "S2": [], "S3": [], "S4": []}).boxes
    assert boxes["E"].y == boxes["b"].y
    assert boxes["E"].x < boxes["b"].x
    assert boxes["S1"].y == boxes["S2"].y == boxes["S3"].y > boxes["A"].y
    assert boxes["S4"].y > boxes["S1"].y


# -- positions that are apart


def test_in_one_column_all_cards_begin_at_the_same_place() -> None:
    """Also where a line passes one of them at its left."""
    graph = {"C": [], "B": ["C"], "A": ["B", "C"], "Alone": [], "Other": []}
    layout = drawn(graph, 340)
    assert len({box.x for box in layout.boxes.values()}) == 1
    assert layout.boxes["A"].x > PAD
    assert layout.size.width <= 340


@given(
    st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=12),
    st.floats(0, 100),
)
def test_positions_are_apart_and_no_others_are_nearer(wanted: list[float], apart: float) -> None:
    found = spread(wanted, apart)
    assert all(b - a >= apart - 1e-6 for a, b in itertools.pairwise(found))

    def cost(places: Sequence[float]) -> float:
        return sum((a - b) ** 2 for a, b in zip(places, wanted, strict=True))

    for i in range(len(found)):
        for step in (-0.5, 0.5):
            # Those behind one move with it, so that the distances stay.
            assert cost([x + step * (n >= i) for n, x in enumerate(found)]) >= cost(found) - 1e-3 or (step < 0 and i)


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=8))
def test_positions_stay_within_bounds(wanted: list[float]) -> None:
    found = spread(wanted, 10.0, -50.0, 50.0)
    assert found[0] >= -50
    assert found[-1] <= 50 + 1e-9
    assert all(b - a >= 10 - 1e-9 for a, b in itertools.pairwise(found))


# -- folding


def folded(graph: Graph, *names: str) -> tuple[dict[str, int], set[tuple[str, str]]]:
    shown, links = fold(
        [Node(key, key, "ready", "ready") for key in graph],
        [Edge(caller, callee) for caller, callees in graph.items() for callee in callees],
        names,
    )
    return {node.key: node.below for node in shown}, {(link.caller, link.callee) for link in links}


DIAMOND = {"Leaf": [], "Left": ["Leaf"], "Right": ["Leaf"], "Own": [], "Top": ["Left", "Right", "Own"], "Other": []}


def test_what_only_a_folded_service_calls_is_left_out() -> None:
    assert folded(DIAMOND)[0] == {"Leaf": 0, "Left": 0, "Right": 0, "Own": 0, "Top": 4, "Other": 0}
    shown, links = folded(DIAMOND, "Top")
    assert shown == {"Top": 4, "Other": 0}
    assert links == set()
    assert folded(DIAMOND, "Left", "Right") == (
        {"Left": 1, "Right": 1, "Own": 0, "Top": 4, "Other": 0} | {"Top": 3},
        {("Top", "Left"), ("Top", "Right"), ("Top", "Own")},
    )


def test_what_others_call_too_stays() -> None:
    shown, links = folded(DIAMOND, "Left")
    assert shown["Left"] == 0
    assert ("Left", "Leaf") in links


def test_a_folded_service_that_is_gone_or_calls_nothing_changes_nothing() -> None:
    assert folded(DIAMOND, "Gone", "Own", "Other") == folded(DIAMOND)
