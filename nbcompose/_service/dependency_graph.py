"""The dependency graph of services: edges, cycles, order. Pure functions on names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError as _GraphCycle
from graphlib import TopologicalSorter
from itertools import pairwise

from nbcompose._spec import ServiceSpec
from nbcompose.errors import CycleError, Mistake

Edges = Mapping[str, tuple[str, ...]]


def targets(spec: ServiceSpec) -> tuple[str, ...]:
    """Return the services that this one depends on, in declaration order, without those given by a url."""
    return tuple(dict.fromkeys(d.service for d in spec.dependencies if d.url is None))


def edges(specs: Iterable[ServiceSpec]) -> dict[str, tuple[str, ...]]:
    """Return a dict from each service to its `targets`."""
    return {s.name: targets(s) for s in specs}


def check_acyclic(specs: Iterable[ServiceSpec]) -> None:
    """Raise `CycleError`, with a drawing of one cycle, if services depend on one another in a cycle."""
    specs = list(specs)
    try:
        TopologicalSorter(edges(specs)).prepare()
    except _GraphCycle as error:
        # graphlib lists a node before those that depend on it; the drawing's arrows point the other way.
        circle = list(reversed(error.args[1]))
        places = {s.name: s.location for s in specs}
        mistakes = [
            Mistake(f"{a} depends on {b}", places[a].file, places[a].line) for a, b in pairwise(circle) if a in places
        ]
        raise CycleError(f"services depend on one another in a circle:\n\n{draw_cycle(circle)}\n", mistakes) from None


def draw_cycle(circle: list[str]) -> str:
    """Draw the cycle `[A, B, C, A]`: a line `A ──▶ B ──▶ C` with an arrow back to its beginning."""
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
    """Return the services in an order in which each comes after its dependencies. The graph must be acyclic."""
    return list(TopologicalSorter(graph).static_order())


def below(graph: Edges, name: str) -> set[str]:
    """Return the direct and indirect dependencies of `name`, without itself."""
    seen: set[str] = set()
    todo = list(graph.get(name, ()))
    while todo:
        current = todo.pop()
        if current not in seen:
            seen.add(current)
            todo.extend(graph.get(current, ()))
    return seen - {name}


def dependents(graph: Edges, name: str) -> list[str]:
    """Return the services that depend directly on `name`."""
    return [service for service, targets in graph.items() if name in targets]


def above(graph: Edges, name: str) -> list[str]:
    """Return the services that depend on `name`, those that do so directly first."""
    found = {name: None}
    todo = [name]
    for service in todo:
        new = [user for user in dependents(graph, service) if user not in found]
        found.update(dict.fromkeys(new))
        todo.extend(new)
    return todo[1:]


def entries(graph: Edges) -> list[str]:
    """Return the services that no other service depends on."""
    targets = {t for ts in graph.values() for t in ts}
    return [service for service in graph if service not in targets]
