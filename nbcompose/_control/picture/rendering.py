"""Pictures of service statuses: SVG, an HTML table, and plain text.

Inline in a page, front ends set colours by CSS variables (`--nbc-card`, `--nbc-ready`, ...); the saved picture follows
the colour scheme of the reader's system. Cards have their own background, so that they are readable on any page.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from html import escape

from nbcompose._control import Status, element_id
from nbcompose._control.picture.layered import Box, Size
from nbcompose._control.picture.layout import PAD, Edge, EdgePath, Node, edges, fold, lay_out, nodes, streaming
from nbcompose._spec import ServiceSpec

MANY = 24  # services: the cards of more have fewer lines

_LIGHT = {
    "card": "#ffffff", "ink": "#1d2430", "dim": "#5b6575", "line": "#8590a2", "stream": "#0d8a9c",
    "ready": "#17803d", "starting": "#2563c9", "waiting": "#96600a", "failed": "#c62a26", "stopped": "#626d7d",
    "elsewhere": "#6a4fc4", "missing": "#626d7d",
}  # fmt: skip
_DARK = {
    "card": "#1e232b", "ink": "#eef1f6", "dim": "#a4aebd", "line": "#8590a2", "stream": "#2bb3c7",
    "ready": "#4ac77e", "starting": "#7fb0fb", "waiting": "#e2ad49", "failed": "#ff7f77", "stopped": "#9aa5b5",
    "elsewhere": "#b1a0fa", "missing": "#9aa5b5",
}  # fmt: skip

# In a circle of radius 10 around the origin.
SIGNS = {
    "ready": '<circle r="10"/><path d="M-4.6,.4 L-1.4,3.6 L4.8,-3.2"/>',
    "starting": '<circle r="8.6" class="nbc-ring"/><path class="nbc-arc" d="M0,-8.6 A8.6,8.6 0 0 1 8.6,0"/>',
    "waiting": '<circle r="10"/><path d="M0,-5.4 V0 L3.6,2.4"/>',
    "failed": '<path class="nbc-solid" d="M-4.2,-10 H4.2 L10,-4.2 V4.2 L4.2,10 H-4.2 L-10,4.2 V-4.2 Z"/>'
    '<path d="M-3.6,-3.6 L3.6,3.6 M3.6,-3.6 L-3.6,3.6"/>',
    "stopped": '<rect x="-9" y="-9" width="18" height="18" rx="3.5"/><path d="M-3.6,0 H3.6"/>',
    "elsewhere": '<circle r="10"/><path d="M-3.4,3.4 L3.4,-3.4 M-2,-3.6 H3.6 V2"/>',
    "missing": '<circle r="8.6" class="nbc-ring nbc-dashes"/><path class="nbc-mark" d="M-3.2,0 H3.2"/>',
}

_FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans','Helvetica Neue',Arial,sans-serif"


def _colour(name: str) -> str:
    return f"var(--nbc-{name},{_LIGHT[name]})"


def _state(state: str) -> str:
    selector, colour = f".nbc-picture .nbc-{state}", _colour(state)
    return f"{selector}{{--nbc-tone:{colour}}}"


RULES = "\n".join([
    f".nbc-picture{{font-family:{_FONT};max-width:100%;height:auto;direction:ltr}}",
    *map(_state, SIGNS),
    f".nbc-picture .nbc-card{{fill:{_colour('card')};stroke:var(--nbc-tone);stroke-width:1.5}}",
    ".nbc-picture .nbc-ready .nbc-card{stroke-opacity:.6}",
    ".nbc-picture .nbc-starting .nbc-card,.nbc-picture .nbc-waiting .nbc-card{stroke-dasharray:6 4}",
    ".nbc-picture .nbc-missing .nbc-card{stroke-dasharray:2 4}",
    ".nbc-picture .nbc-failed .nbc-card{stroke-width:2.5}",
    ".nbc-picture .nbc-tint{fill:var(--nbc-tone);fill-opacity:.13}",
    f".nbc-picture .nbc-name{{font-size:14px;font-weight:650;fill:{_colour('ink')}}}",
    ".nbc-picture .nbc-long{font-size:12px}",
    ".nbc-picture .nbc-words{font-size:12px;font-weight:550;fill:var(--nbc-tone)}",
    f".nbc-picture .nbc-place,.nbc-picture .nbc-numbers{{font-size:11px;fill:{_colour('dim')}}}",
    ".nbc-picture .nbc-sign>*{fill:var(--nbc-tone)}",
    f".nbc-picture .nbc-sign>path{{fill:none;stroke:{_colour('card')};stroke-width:2.2;"
    "stroke-linecap:round;stroke-linejoin:round}",
    ".nbc-picture .nbc-sign>.nbc-solid{fill:var(--nbc-tone);stroke:none}",
    ".nbc-picture .nbc-sign>.nbc-ring{fill:none;stroke:var(--nbc-tone);stroke-width:2.6;stroke-opacity:.28}",
    ".nbc-picture .nbc-sign>.nbc-dashes{stroke-opacity:.8;stroke-dasharray:3 3}",
    ".nbc-picture .nbc-sign>.nbc-arc,.nbc-picture .nbc-sign>.nbc-mark{stroke:var(--nbc-tone);stroke-width:2.6}",
    f".nbc-picture .nbc-badge>path{{fill:{_colour('waiting')};stroke:{_colour('card')};stroke-width:2;"
    "stroke-linejoin:round}",
    f".nbc-picture .nbc-badge>path+path{{fill:none;stroke:{_colour('card')};stroke-width:1.8;stroke-linecap:round}}",
    f".nbc-picture .nbc-line{{fill:none;stroke:{_colour('line')};stroke-width:1.6}}",
    f".nbc-picture .nbc-head{{fill:{_colour('line')};stroke:none}}",
    f".nbc-picture .nbc-stream .nbc-line{{stroke:{_colour('stream')};stroke-width:3;stroke-dasharray:.1 6.4;"
    "stroke-linecap:round}",
    f".nbc-picture .nbc-stream .nbc-head{{fill:{_colour('stream')}}}",
    f".nbc-picture .nbc-knob rect{{fill:{_colour('card')};stroke:{_colour('line')};stroke-width:1.2}}",
    f".nbc-picture .nbc-knob text{{font-size:12px;font-weight:650;fill:{_colour('ink')};text-anchor:middle}}",
])  # fmt: skip

# For a picture in an `<img>`, which gets no colours from the page around it.
DARK_RULES = (
    "@media (prefers-color-scheme:dark){.nbc-picture{" + ";".join(f"--nbc-{n}:{c}" for n, c in _DARK.items()) + "}}"
)


EMPTY = (
    "No service runs. Put %%service in the first line of a cell that defines a class with an @api method, and run it: "
    "the class becomes a service, and shows here. Such as this one:"
)
EXAMPLE = """\
%%service
from nbcompose import api

class Greeter:
    @api
    def greet(self, name: str) -> str:
        return f"Hello, {name}!"
"""


def tree(statuses: Sequence[Status], streams: Collection[str] = ()) -> str:
    """Return the graph as text: callers and, indented below them, what they call:

        Answer       ready, cpu, 1 replica
        ├─ Embedder  ready, cpu, 1 replica
        └─ Writer    ready, cuda:0, 2 replicas (streams)

    A service that several others call is described once.
    """
    if not statuses:
        return f"{EMPTY}\n\n{EXAMPLE}"
    shown = {node.key: node for node in nodes(statuses)}
    lines = list(_lines(shown, edges(statuses, streams)))
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {words}" for name, words in lines)


def table_html(statuses: Sequence[Status], streams: Collection[str] = ()) -> str:
    """Return a table with a row for each service, what it calls and what calls it."""
    links = edges(statuses, streams)
    shown = {node.key: node for node in nodes(statuses)}
    head = "".join(f'<th scope="col">{c}</th>' for c in ("service", "state", "place", "calls", "called by"))
    rows = "".join(_row(node, shown, links) for node in shown.values())
    return f"<table><caption>Services</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _lines(shown: Mapping[str, Node], links: Sequence[Edge]) -> Iterator[tuple[str, str]]:
    called = {link.callee for link in links if not link.passed}
    told: set[str] = set()
    for key in reversed(list(shown)):  # dependencies come first in `shown`
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
        mark = "└─ " if link is below[-1] else "├─ "
        if link.passed:
            yield f"{stem}{mark}{shown[link.callee].name}", "streams of it, which were passed on"
        else:
            yield from _branch(link.callee, shown, links, told, stem, mark)


def _words(node: Node, stream: bool) -> str:
    place = "" if node.state in ("elsewhere", "starting") else node.place.replace(" · ", ", ")
    return ", ".join(filter(None, (_state_text(node), place))) + (" (streams)" if stream else "")


def _state_text(node: Node) -> str:
    """Return the state without progress, which differs from run to run."""
    return node.words if node.state != "starting" else "starting"


def _row(node: Node, shown: Mapping[str, Node], links: Sequence[Edge]) -> str:
    calls = [shown[e.callee].name + _kind(e) for e in links if e.caller == node.key]
    called_by = [shown[e.caller].name for e in links if e.callee == node.key]
    cells = (_state_text(node), node.place, ", ".join(calls) or "-", ", ".join(called_by) or "-")
    return f'<tr><th scope="row">{escape(node.name)}</th>' + "".join(f"<td>{escape(c)}</td>" for c in cells) + "</tr>"


def _kind(link: Edge) -> str:
    return " (streams passed on)" if link.passed else " (streams)" if link.stream else ""


PAGE = 940  # pixels that an output of a notebook has room for: a wider picture would be scaled down
_WIDTH, _SMALL = 256, 214  # of a card, and of one of many
_NARROWEST = 176  # of a card where the picture has little room
_HEIGHT = 70  # of a card without numbers
_ROWS = {"name": 19, "words": 17, "place": 16, "numbers": 15}  # heights of its lines
_TEXT, _MARGIN = 46, 12  # x of a card's text; space to the right of it
_BOLD = 1.1  # width of bold text, relative to normal text


def svg(
    statuses: Sequence[Status],
    streams: Collection[str] = (),
    numbers: Collection[str] = (),
    folded: Collection[str] | None = None,
    page: float | None = None,
) -> str:
    """Return the picture, for use inline in a page. `streams`: services whose apis are all streams.

    `numbers`: the services whose cards have a last line for them, which a front end fills in. `folded`: what stands
    only below these is left out; where it is not None, nodes have a knob for that. `page`: the pixels that it has room
    for, by default those of an output.
    Elements have the ids of `element_id` and classes: `nbc-node` with `nbc-ready` and so on, `nbc-edge` and
    `nbc-stream`; the lines of a card are `nbc-name`, `nbc-words`, `nbc-place` and `nbc-numbers`.
    """
    shown, links = nodes(statuses), edges(statuses, streams)
    if folded is not None:
        shown, links = fold(shown, links, folded)
    return _drawn(tuple(shown), tuple(links), frozenset(numbers), page or PAGE)


def drawing(
    statuses: Sequence[Status],
    specs: Mapping[str, ServiceSpec],
    folded: Collection[str] | None = None,
    page: float | None = None,
) -> str:
    """Return the picture of running services, by their specs, with room for the numbers that a front end puts in."""
    return svg(statuses, streaming(list(specs.values())), specs, folded, page)


def data_url(picture: str) -> str:
    """Return a picture as source of an `<img>`, with its own dark colours."""
    alone = picture.replace("</style>", f"\n{DARK_RULES}</style>", 1)
    return "data:image/svg+xml;base64," + base64.b64encode(alone.encode()).decode()


def size(picture: str) -> tuple[int, int]:
    """Return width and height in pixels."""
    found = re.search(r'width="(\d+)" height="(\d+)"', picture)
    assert found is not None
    return int(found[1]), int(found[2])


@lru_cache(maxsize=64)  # several displays show the same graph, and it changes rarely
def _drawn(shown: tuple[Node, ...], links: tuple[Edge, ...], numbers: frozenset[str], page: float) -> str:
    names = {node.key: node.name for node in shown}
    many = len(shown) > MANY
    card = _card_size(many, bool(numbers), page - 2 * PAD)
    layout = lay_out(tuple(names), tuple((link.caller, link.callee) for link in links), card, page)
    width, height = layout.size
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" class="nbc-picture{" nbc-many" * many}" width="{width:.0f}" '
        f'height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'aria-label="{escape(_label(shown))}">',
        f"<style>{RULES}</style>",
        *(_edge(link, names, layout.lines[link.caller, link.callee]) for link in links),
        *(_node(node, layout.boxes[node.key], node.key in numbers, many) for node in shown),
        *(_knob(node, layout.boxes[node.key], links, layout.lines) for node in shown if node.below),
        "</svg>",
    ])  # fmt: skip


def _label(shown: Sequence[Node]) -> str:
    count = sum(node.is_service for node in shown)
    return f"Graph of {count} service{'' if count == 1 else 's'}"


def _edge(link: Edge, names: Mapping[str, str], line: EdgePath) -> str:
    name = element_id("edge", link.caller, link.callee)
    kind = " nbc-stream" if link.stream or link.passed else ""
    caller, callee = names[link.caller], names[link.callee]
    title = f"{caller} calls {callee}{', which streams' if link.stream else ''}"
    if link.passed:
        title = f"{caller} reads streams of {callee}, which were passed to it"
    return (
        f'<g id="{name}" class="nbc-edge{kind}"><title>{escape(title)}</title>'
        f'<path class="nbc-line" d="{line.path}"/><polygon class="nbc-head" points="{line.head}"/></g>'
    )


def _node(node: Node, box: Box, has_numbers: bool, many: bool) -> str:
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
        *_texts(node, box, has_numbers, many),
        "</g>",
    ])  # fmt: skip


def _texts(node: Node, box: Box, has_numbers: bool, many: bool) -> list[str]:
    room = box.width - _TEXT - _MARGIN - (box.height / 4 if node.state == "elsewhere" else 0)
    long = _width(node.name, 14) > room
    lines = {"name": _fitting_name(node.name, 12 if long else 14, room), "words": _fitting(node.words, 12, room)}
    if not many:
        lines["place"] = _fitting(node.place, 11, room)
    shown = {kind: line for kind, line in lines.items() if line}
    if has_numbers and not many:
        shown["numbers"] = ""
    top = box.height / 2 - sum(_ROWS[kind] for kind in shown) / 2
    texts = []
    for kind, line in shown.items():
        top += _ROWS[kind]
        base = top - _ROWS[kind] * 0.28
        small = " nbc-long" if long and kind == "name" else ""
        texts.append(f'<text class="nbc-{kind}{small}" x="{_TEXT}" y="{base:.1f}">{escape(line)}</text>')
    return texts


def _knob(node: Node, box: Box, links: Sequence[Edge], lines: Mapping[tuple[str, str], EdgePath]) -> str:
    """Return the knob that folds what is below a node, where its lines begin."""
    across = any(lines[link.caller, link.callee].across for link in links if link.caller == node.key)
    x, y = (box.x + box.width, box.y + box.height / 2) if across else (box.x + box.width / 2, box.y + box.height)
    words = f"+{node.below}" if node.folded else "−"
    width = 18 + 7 * (len(words) - 1)
    title = f"{'show' if node.folded else 'fold'} the {node.below} below {node.name}"
    return (
        f'<g class="nbc-knob{" nbc-folded" * node.folded}" data-fold="{escape(node.key)}" '
        f'transform="translate({x:g} {y:g})"><title>{escape(title)}</title>'
        f'<rect x="{-width / 2:g}" y="-9" width="{width}" height="18" rx="9"/><text y="4">{words}</text></g>'
    )


def _radius(node: Node, box: Box) -> float:
    """Return the corner radius: services outside this process and those that do not answer have another outline."""
    return {"elsewhere": box.height / 2, "failed": 4, "stopped": 4}.get(node.state, 10)


def _badge(width: float) -> str:
    """Return a warning sign for the upper right corner."""
    return (
        f'<g class="nbc-badge" transform="translate({width - 5:g} 5)">'
        '<path d="M0,-10 L10.5,8 H-10.5 Z"/><path d="M0,-3.5 V1.6 M0,4.8 V4.9"/></g>'
    )


# -- text widths


def _card_size(many: bool, numbers: bool, room: float) -> Size:
    """Return the size of all cards. It does not depend on what stands on them: nothing moves when that changes."""
    width = max(_NARROWEST, min(room, _SMALL if many else _WIDTH))
    if many:
        return Size(width, _ROWS["name"] + _ROWS["words"] + 12)
    return Size(width, _HEIGHT + (_ROWS["numbers"] if numbers else 0))


def _fitting(text: str, size: float, room: float) -> str:
    """Return as much of the text as there is room for."""
    if _width(text, size) <= room:
        return text
    while text and _width(text + "…", size) > room:
        text = text[:-1]
    return text.rstrip() + "…"


def _fitting_name(name: str, size: float, room: float) -> str:
    """Return a name, where there is no room without its middle: names that begin alike may end differently."""
    if _width(name, size) <= room:
        return name
    cuts = (f"{name[: (kept + 1) // 2]}…{name[len(name) - kept // 2 :]}" for kept in range(len(name) - 1, 0, -1))
    return next((cut for cut in cuts if _width(cut, size) <= room), "…")


def _width(text: str, size: float) -> float:
    """Return the approximate width of text in a wide font such as DejaVu Sans. The larger lines of a card are bold."""
    return size * sum(map(_character, text)) * (_BOLD if size > 11 else 1)


def _character(c: str) -> float:
    if c in "ijl|!'.,:;()[] ftrI·":
        return 0.37
    if c in "mwMW@%…" or ord(c) > 0x2E80:
        return 1.0
    return 0.72 if c.isupper() else 0.62
