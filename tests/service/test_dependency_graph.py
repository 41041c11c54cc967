"""Edges, circles and order of services, by name."""

from __future__ import annotations

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcompose._service import dependency_graph
from nbcompose._spec import DependencySpec, Location, ServiceSpec
from nbcompose.errors import CycleError


def spec(name: str, *below: str, line: int = 1) -> ServiceSpec:
    dependencies = tuple(
        DependencySpec(f"d{i}", "" if "://" in d else d, d if "://" in d else None) for i, d in enumerate(below)
    )
    return ServiceSpec(name=name, cls=object, apis=(), dependencies=dependencies, location=Location("app.py", line))


DIAMOND = dependency_graph.edges(
    [spec("Top", "Left", "Right"), spec("Left", "Base"), spec("Right", "Base"), spec("Base")]
)


def test_edges_leave_urls_and_repetitions_out() -> None:
    assert dependency_graph.edges([spec("A", "B", "http://elsewhere", "C", "B")]) == {"A": ("B", "C")}


def test_order_puts_dependencies_first() -> None:
    found = dependency_graph.order(DIAMOND)
    assert found[0] == "Base"
    assert found[-1] == "Top"
    assert sorted(found) == ["Base", "Left", "Right", "Top"]


def test_order_includes_what_is_only_depended_on() -> None:
    assert dependency_graph.order(dependency_graph.edges([spec("A", "Missing")])) == ["Missing", "A"]


def test_relations() -> None:
    assert dependency_graph.below(DIAMOND, "Top") == {"Left", "Right", "Base"}
    assert dependency_graph.below(DIAMOND, "Base") == set()
    assert dependency_graph.below(DIAMOND, "Unknown") == set()
    assert dependency_graph.dependents(DIAMOND, "Base") == ["Left", "Right"]
    assert dependency_graph.entries(DIAMOND) == ["Top"]


def test_no_circle() -> None:
    dependency_graph.check_acyclic([spec("A", "B", "C"), spec("B", "C"), spec("C", "http://elsewhere")])
    dependency_graph.check_acyclic([spec("A", "NotThereYet")])
    dependency_graph.check_acyclic([])


def test_a_circle_is_drawn_with_the_places_of_its_services() -> None:
    specs = [spec("Answer", "Writer", line=3), spec("Writer", "Editor", line=9), spec("Editor", "Answer", line=20)]
    with pytest.raises(CycleError) as caught:
        dependency_graph.check_acyclic([*specs, spec("Bystander", "Answer")])
    text = str(caught.value)
    assert text.startswith("services depend on one another in a circle:\n")
    assert text.count("──▶") == 2
    assert "Bystander" not in text
    for mistake in (
        "app.py:3: Answer depends on Writer",
        "app.py:9: Writer depends on Editor",
        "app.py:20: Editor depends on Answer",
    ):
        assert mistake in text
    assert len(caught.value.mistakes) == 3


def test_arrows_point_from_a_service_to_what_it_depends_on() -> None:
    with pytest.raises(CycleError) as caught:
        dependency_graph.check_acyclic([spec("A", "B"), spec("B", "A")])
    assert "A ──▶ B\n" in str(caught.value) or "B ──▶ A\n" in str(caught.value)
    with pytest.raises(CycleError) as caught:
        dependency_graph.check_acyclic([spec("A", "B"), spec("B", "C"), spec("C", "A")])
    line = str(caught.value).splitlines()[2].strip()
    assert line in ("A ──▶ B ──▶ C", "B ──▶ C ──▶ A", "C ──▶ A ──▶ B")


@pytest.mark.parametrize(
    ("circle", "drawing"),
    [
        (
            ["A", "A"],
            """\
              A ──╮
              ▲   │
              ╰───╯""",
        ),
        (
            ["Answer", "Writer", "Answer"],
            """\
              Answer ──▶ Writer
                 ▲          │
                 ╰──────────╯""",
        ),
    ],
)
def test_drawings(circle: list[str], drawing: str) -> None:
    assert dependency_graph.draw_cycle(circle) == textwrap.indent(textwrap.dedent(drawing), "  ")


@given(st.lists(st.text("ABCabc_", min_size=1, max_size=9), min_size=1, max_size=6, unique=True))
def test_a_drawing_s_corners_meet(names: list[str]) -> None:
    lines = dependency_graph.draw_cycle([*names, names[0]]).splitlines()
    above, below = lines[1], lines[2]
    assert above.index("▲") == below.index("╰")
    assert above.index("│") == below.index("╯")
    if len(names) > 1:
        start = lines[0].index(names[0])
        end = lines[0].rindex(names[-1])
        assert start <= above.index("▲") < start + len(names[0])
        assert end <= above.index("│") < end + len(names[-1])


@given(st.dictionaries(st.sampled_from("ABCDEF"), st.lists(st.sampled_from("ABCDEF"), max_size=3)))
def test_every_graph_has_an_order_or_a_circle(links: dict[str, list[str]]) -> None:
    specs = [spec(name, *below) for name, below in links.items()]
    edges = dependency_graph.edges(specs)
    try:
        dependency_graph.check_acyclic(specs)
    except CycleError as error:
        names = [m.message.split(" depends on ") for m in error.mistakes]
        assert all(b in edges[a] for a, b in names)
    else:
        place = {name: i for i, name in enumerate(dependency_graph.order(edges))}
        assert all(place[b] < place[a] for a, below in edges.items() for b in below)
