"""The widget that has front ends show cards as live. It has no view, and is one for all cards of a notebook."""

from __future__ import annotations

import anywidget
from traitlets import Dict

from nbcompose._notebook.graph import assets


class LiveCardsWidget(anywidget.AnyWidget):
    """`live`: values of CSS variables, by name; see `_notebook/display.py`."""

    _esm = assets.module("cards.js")
    live = Dict().tag(sync=True)
