"""Statuses → SVG. What there is to draw is element.py's, where it goes layout.py's, how it looks style.py's."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from html import escape

from nbcompose.engine.status import Status
from nbcompose.notebook.graph.element import Edge, Node, edges, element_id, nodes
from nbcompose.notebook.graph.layout import Box, Line, Size, lay_out
from nbcompose.notebook.graph.style import DARK_RULES, RULES, SIGNS

PAGE = 960  # pixels: a wider picture would be made small
_HEIGHT = 70  # of a card without numbers
_ROWS = {"name": 19, "words": 17, "place": 16, "numbers": 15}  # heights of its lines
_TEXT, _MARGIN = 46, 16  # where a card's text begins; the room to the right of it
_NARROW, _WIDE = 150, 300
_BOLD = 1.1  # how much wider bold text is


def svg(statuses: Sequence[Status], streams: Collection[str] = (), numbers: Mapping[str, str] | None = None) -> str:
    """The picture, to be put into a page. `streams`: services all of whose apis are streams.

    `numbers`: a last line on the cards of these services; a front end may write something else into it, up to the same
    length. Elements have the ids of `element_id` and classes: `nbc-node` with `nbc-ready` and so on, `nbc-edge` and
    `nbc-stream`; the lines of a card are `nbc-name`, `nbc-words`, `nbc-place` and `nbc-numbers`.
    """
    return _drawn(tuple(nodes(statuses)), tuple(edges(statuses, streams)), tuple((numbers or {}).items()))


def data_url(picture: str) -> str:
    """A picture as the source of an `<img>`, where it stands alone."""
    alone = picture.replace("</style>", f"\n{DARK_RULES}</style>", 1)
    return "data:image/svg+xml;base64," + base64.b64encode(alone.encode()).decode()


def size(picture: str) -> tuple[int, int]:
    """Width and height in pixels."""
    found = re.search(r'width="(\d+)" height="(\d+)"', picture)
    assert found is not None
    return int(found[1]), int(found[2])


@lru_cache(maxsize=64)  # several displays show the same graph, and it changes seldom
def _drawn(shown: tuple[Node, ...], links: tuple[Edge, ...], numbers: tuple[tuple[str, str], ...]) -> str:
    known = dict(numbers)
    names = {node.key: node.name for node in shown}
    layout = lay_out(shown, links, _card_size(shown, known), PAGE)
    width, height = layout.size
    x, y = layout.offset
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" class="nbc-picture" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(_label(shown))}">',
        f"<style>{RULES}</style>",
        f'<g transform="translate({x:g} {y:g})">',
        *(_edge(link, names, layout.lines[element_id("edge", link.caller, link.callee)]) for link in links),
        *(_node(node, layout.boxes[element_id("node", node.key)], known.get(node.key, "")) for node in shown),
        "</g></svg>",
    ])  # fmt: skip


def _label(shown: Sequence[Node]) -> str:
    count = sum(node.is_service for node in shown)
    return f"Graph of {count} service{'' if count == 1 else 's'}"


def _edge(link: Edge, names: Mapping[str, str], line: Line) -> str:
    name = element_id("edge", link.caller, link.callee)
    kind = " nbc-stream" if link.stream else ""
    title = f"{names[link.caller]} calls {names[link.callee]}{', which streams' if link.stream else ''}"
    return (
        f'<g id="{name}" class="nbc-edge{kind}"><title>{escape(title)}</title>'
        f'<path class="nbc-line" d="{line.path}"/><polygon class="nbc-head" points="{line.head}"/></g>'
    )


def _node(node: Node, box: Box, numbers: str) -> str:
    middle = box.height / 2
    marks = " nbc-stale" * node.stale + " nbc-behind" * node.behind
    return "".join([
        f'<g id="{element_id("node", node.key)}" class="nbc-node nbc-{node.state}{marks}" '
        f'transform="translate({box.x:g} {box.y:g})">',
        f"<title>{escape(node.hint)}</title>",
        f'<rect class="nbc-card" width="{box.width:g}" height="{box.height:g}" rx="{_radius(node, box)}"/>',
        f'<circle class="nbc-tint" cx="24" cy="{middle:g}" r="16"/>',
        f'<g class="nbc-sign" transform="translate(24 {middle:g})">{SIGNS[node.state]}</g>',
        _badge(box.width) if node.stale or node.behind else "",
        *_texts(node, numbers, middle),
        "</g>",
    ])  # fmt: skip


def _texts(node: Node, numbers: str, middle: float) -> list[str]:
    lines = {"name": _fitting(node.name, 14), "words": _fitting(node.words, 12), "place": _fitting(node.place, 11)}
    shown = {kind: line for kind, line in (lines | {"numbers": numbers}).items() if line}
    top = middle - sum(_ROWS[kind] for kind in shown) / 2
    texts = []
    for kind, line in shown.items():
        top += _ROWS[kind]
        base = top - _ROWS[kind] * 0.28
        texts.append(f'<text class="nbc-{kind}" x="{_TEXT}" y="{base:.1f}">{escape(line)}</text>')
    return texts


def _radius(node: Node, box: Box) -> float:
    """What is not ours, or does not answer, has another outline."""
    return {"elsewhere": box.height / 2, "failed": 4, "stopped": 4}.get(node.state, 10)


def _badge(width: float) -> str:
    """A warning sign on the upper right corner."""
    return (
        f'<g class="nbc-badge" transform="translate({width - 5:g} 5)">'
        '<path d="M0,-10 L10.5,8 H-10.5 Z"/><path d="M0,-3.5 V1.6 M0,4.8 V4.9"/></g>'
    )


# -- room for text


def _card_size(shown: Sequence[Node], numbers: Mapping[str, str]) -> Size:
    widest = [0.0, *(_width(line, 11) for line in numbers.values())]
    for node in shown:
        round_end = 12 if node.state == "elsewhere" else 0
        widest += [_width(node.name, 14) + round_end, _width(node.words, 12), _width(node.place, 11)]
    width = min(max(widest) + _TEXT + _MARGIN, _WIDE)
    return Size(round(max(width, _NARROW)), _HEIGHT + (_ROWS["numbers"] if numbers else 0))


def _fitting(text: str, size: float) -> str:
    """As much of it as a card has room for."""
    room = _WIDE - _TEXT - _MARGIN
    if _width(text, size) <= room:
        return text
    while text and _width(text + "…", size) > room:
        text = text[:-1]
    return text.rstrip() + "…"


def _width(text: str, size: float) -> float:
    """How wide text is, about, in a wide font such as DejaVu Sans. The larger lines of a card are bold."""
    return size * sum(map(_character, text)) * (_BOLD if size > 11 else 1)


def _character(c: str) -> float:
    if c in "ijl|!'.,:;()[] ftrI·":
        return 0.37
    if c in "mwMW@%…" or ord(c) > 0x2E80:
        return 1.0
    return 0.72 if c.isupper() else 0.62
