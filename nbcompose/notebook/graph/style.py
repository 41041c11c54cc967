"""The colours of the picture, and the signs of states. State shows in a sign's shape and in words as well as in colour.

Inline, front ends choose colours by CSS variables (`--nbc-card`, `--nbc-ready`, ...); the picture that is saved follows
what the reader's system prefers. Cards have a ground of their own, so that they can be read on any page.
"""

from __future__ import annotations

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
    f".nbc-picture{{font-family:{_FONT};max-width:100%;height:auto}}",
    *map(_state, SIGNS),
    f".nbc-picture .nbc-card{{fill:{_colour('card')};stroke:var(--nbc-tone);stroke-width:1.5}}",
    ".nbc-picture .nbc-ready .nbc-card{stroke-opacity:.6}",
    ".nbc-picture .nbc-starting .nbc-card,.nbc-picture .nbc-waiting .nbc-card{stroke-dasharray:6 4}",
    ".nbc-picture .nbc-missing .nbc-card{stroke-dasharray:2 4}",
    ".nbc-picture .nbc-failed .nbc-card{stroke-width:2.5}",
    ".nbc-picture .nbc-tint{fill:var(--nbc-tone);fill-opacity:.13}",
    f".nbc-picture .nbc-name{{font-size:14px;font-weight:650;fill:{_colour('ink')}}}",
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
])  # fmt: skip

# For a picture that stands alone: no page around it chooses its colours.
DARK_RULES = (
    "@media (prefers-color-scheme:dark){.nbc-picture{" + ";".join(f"--nbc-{n}:{c}" for n, c in _DARK.items()) + "}}"
)
