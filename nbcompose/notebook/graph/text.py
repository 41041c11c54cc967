"""The graph in words: a tree for text, a table for those who hear a page. Pure; no number that changes by itself."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from html import escape

from nbcompose.engine.status import Status
from nbcompose.notebook.graph.element import Edge, Node, edges, nodes

EMPTY = (
    "No service runs. Put %%service in the first line of a cell that defines a class with an @api method, and run it: "
    "the class becomes a service, and shows here."
)


def tree(statuses: Sequence[Status], streams: Collection[str] = ()) -> str:
    """Callers and, indented below them, what they call:

        Answer       ready, cpu, 1 replica
        ├─ Embedder  ready, cpu, 1 replica
        └─ Writer    ready, cuda:0, 2 replicas (streams)

    What several call is told of once.
    """
    if not statuses:
        return EMPTY
    shown = {node.key: node for node in nodes(statuses)}
    lines = list(_lines(shown, edges(statuses, streams)))
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {words}" for name, words in lines)


def table_html(statuses: Sequence[Status], streams: Collection[str] = ()) -> str:
    """A row for each service, with what it calls and what calls it."""
    links = edges(statuses, streams)
    shown = {node.key: node for node in nodes(statuses)}
    head = "".join(f'<th scope="col">{c}</th>' for c in ("service", "state", "place", "calls", "called by"))
    rows = "".join(_row(node, shown, links) for node in shown.values())
    return f"<table><caption>Services</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _lines(shown: Mapping[str, Node], links: Sequence[Edge]) -> Iterator[tuple[str, str]]:
    called = {link.callee for link in links}
    told: set[str] = set()
    for key in reversed(list(shown)):  # those that others depend on come first there
        if key not in called:
            yield from _branch(key, shown, links, told)


def _branch(
    key: str, shown: Mapping[str, Node], links: Sequence[Edge], told: set[str], stem: str = "", mark: str = ""
) -> Iterator[tuple[str, str]]:
    node = shown[key]
    below = [link for link in links if link.caller == key]
    again = key in told and bool(below)
    told.add(key)
    name = f"{stem}{mark}{node.name}"
    if again:
        yield name, "see above"
        return
    yield name, _words(node, any(link.stream for link in links if link.callee == key))
    stem += {"": "", "├─ ": "│  ", "└─ ": "   "}[mark]
    for link in below:
        yield from _branch(link.callee, shown, links, told, stem, "└─ " if link is below[-1] else "├─ ")


def _words(node: Node, stream: bool) -> str:
    place = "" if node.state in ("elsewhere", "starting") else node.place.replace(" · ", ", ")
    return ", ".join(filter(None, (_state(node), place))) + (" (streams)" if stream else "")


def _state(node: Node) -> str:
    """Without how far a service has come, which differs from run to run."""
    return node.words if node.state != "starting" else "starting"


def _row(node: Node, shown: Mapping[str, Node], links: Sequence[Edge]) -> str:
    calls = [shown[e.callee].name + (" (streams)" if e.stream else "") for e in links if e.caller == node.key]
    called_by = [shown[e.caller].name for e in links if e.callee == node.key]
    cells = (_state(node), node.place, ", ".join(calls) or "-", ", ".join(called_by) or "-")
    return f'<tr><th scope="row">{escape(node.name)}</th>' + "".join(f"<td>{escape(c)}</td>" for c in cells) + "</tr>"
