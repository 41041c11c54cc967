"""The dependency graph of services: edges, cycles, order. Pure; names only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError as _GraphCycle
from graphlib import TopologicalSorter
from itertools import pairwise

from nbcompose._spec import ServiceSpec
from nbcompose.errors import CycleError, Mistake

Edges = Mapping[str, tuple[str, ...]]


def targets(spec: ServiceSpec) -> tuple[str, ...]:
    """The services that this one depends on here, in the order they were declared; those behind a url left out."""
    return tuple(dict.fromkeys(d.service for d in spec.dependencies if d.url is None))


def edges(specs: Iterable[ServiceSpec]) -> dict[str, tuple[str, ...]]:
    """Service → its `targets`."""
    return {s.name: targets(s) for s in specs}


def check_acyclic(specs: Iterable[ServiceSpec]) -> None:
    """Raise `CycleError`, with a drawing of one circle, when services depend on one another in a circle."""
    specs = list(specs)
    try:
        TopologicalSorter(edges(specs)).prepare()
    except _GraphCycle as error:
        # graphlib lists a node before those that depend on it; people read the arrow the other way round.
        circle = list(reversed(error.args[1]))
        places = {s.name: s.location for s in specs}
        mistakes = [
            Mistake(f"{a} depends on {b}", places[a].file, places[a].line) for a, b in pairwise(circle) if a in places
        ]
        raise CycleError(f"services depend on one another in a circle:\n\n{draw_cycle(circle)}\n", mistakes) from None


def draw_cycle(circle: list[str]) -> str:
    """A drawing of `[A, B, C, A]`:  a line `A ──▶ B ──▶ C` with an arrow that leads back to its beginning."""
    names = circle[:-1]
    line = " ──▶ ".join(names)
    if len(names) == 1:
        return f"  {line} ──╮\n  ▲{' ' * (len(line) + 2)}│\n  ╰{'─' * (len(line) + 2)}╯"
    start = len(names[0]) // 2
    end = len(line) - (len(names[-1]) + 1) // 2
    above = " " * start + "▲" + " " * (end - start - 1) + "│"
    below = " " * start + "╰" + "─" * (end - start - 1) + "╯"
    return f"  {line}\n  {above}\n  {below}"


def order(graph: Edges) -> list[str]:
    """Every service after those that it depends on. The graph must be acyclic."""
    return list(TopologicalSorter(graph).static_order())


def below(graph: Edges, name: str) -> set[str]:
    """Everything that `name` depends on, directly or not; itself left out."""
    seen: set[str] = set()
    todo = list(graph.get(name, ()))
    while todo:
        current = todo.pop()
        if current not in seen:
            seen.add(current)
            todo.extend(graph.get(current, ()))
    return seen - {name}


def dependents(graph: Edges, name: str) -> list[str]:
    """The services that depend directly on `name`."""
    return [service for service, targets in graph.items() if name in targets]


def entries(graph: Edges) -> list[str]:
    """The services that nobody depends on."""
    targets = {t for ts in graph.values() for t in ts}
    return [service for service in graph if service not in targets]
