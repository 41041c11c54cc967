"""The live graph widget: state to the browser, messages from it.

The front end (static/src) finds the picture by the id of its element. State is sent only while the picture is visible
to someone. What the front end asks is answered as it is for other processes (`_control/operations.py`), but nothing
that has a token in it. Everything is handled on the registry's loop, and nothing is printed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from typing import Any
from uuid import uuid4

import anywidget
from traitlets import Dict, Unicode

from nbcompose._control import below, typed_ids
from nbcompose._control.picture import tree
from nbcompose._ipython_adapter import receive_where_asked
from nbcompose._notebook import ItemGroups, OutputAnchor, Session
from nbcompose._notebook.graph import assets
from nbcompose._notebook.graph.kept import KeptCalls
from nbcompose._protocol import Answer, Events, Requests, messages
from nbcompose._rpc import background

LEASE = 30.0  # seconds that a look counts; front ends renew it
MOST = 16  # widgets that are open at once, where front ends do not say which cell runs

_open: dict[OutputAnchor, LiveGraph] = {}


class LiveGraph(anywidget.AnyWidget):
    """The widget of one graph, made by `attach`. Its traits are set on the background loop only."""

    _esm = assets.module()
    _css = assets.style()
    element = Unicode().tag(sync=True)
    state = Dict().tag(sync=True)  # without the picture
    svg = Unicode().tag(sync=True)  # which changes rarely
    empty = Unicode().tag(sync=True)  # what stands there without services
    last = Dict().tag(sync=True)  # the service and the api that a front end called last

    def __init__(self, element: str, session: Session, names: Collection[str] | None) -> None:
        self._operations = operations = session.registry.operations
        self._names = names
        self._folded: set[str] = set()
        self._kept = KeptCalls()
        self._looks: dict[str, float] = {}  # end of the lease (monotonic time), by front end
        self._watching: asyncio.Task[Any] | None = None
        self._closed = False
        self._groups = ItemGroups(self._tell)
        self.seen = False  # whether a front end has ever made the picture live
        own: dict[str, Answer] = {"look": self._look, "fold": self._fold, "kept": self._tell_kept, "call": self._call}
        answers = {**operations.answers(messages.Request), **own}
        self._requests = Requests(answers, messages.Request, self._say, text=operations.context.text)
        statuses = below(session.registry.statuses(), names)
        state = dict(operations.state(statuses, picture=True, folded=()))
        nothing = tree([]) if names is None else f"{' and '.join(names)} was stopped."
        super().__init__(element=element, svg=state["svg"], state={**state, "svg": ""}, empty=nothing)
        if self.comm is not None:
            receive_where_asked(self.comm)
        self.on_msg(self._on_message)

    def leave(self) -> None:
        """Stop being live: the picture stays as it was. Callable from any thread except the loop's."""
        self._closed = True
        background().spawn(self._end)
        self.close()

    async def _end(self) -> None:
        self._look_away()
        await self._requests.close()

    # -- from front ends

    def _on_message(self, _: Any, message: Any, buffers: Any) -> None:
        if isinstance(message, dict):
            background().spawn(lambda: self._receive(message))

    async def _receive(self, message: dict[str, Any]) -> None:
        if not self._closed:
            self._requests.receive(message)

    async def _look(self, message: messages.Look, events: Events) -> dict[str, Any]:
        if message["on"]:
            self.seen = True
            self._looks[message["client"]] = time.monotonic() + LEASE
            self._watch()
        else:
            self._looks.pop(message["client"], None)
            if not self._looks:
                self._look_away()
        return {"type": "here"}

    async def _fold(self, message: messages.Fold, events: Events) -> dict[str, Any]:
        service = message["service"]
        self._folded = self._folded | {service} if message["on"] else self._folded - {service}
        self._look_away()
        self._watch()  # which says the state at once
        return {"type": "done", "action": "fold", "service": service}

    async def _tell_kept(self, message: messages.KeptRequest, events: Events) -> dict[str, Any]:
        return self._kept.of(message["service"], message["api"])

    async def _call(self, message: messages.Call, events: Events) -> dict[str, Any]:
        called: dict[str, str] = {"service": message["service"], "api": message["api"]}
        self._kept.begin(message["id"], **called, typed=typed_ids(message.get("arguments")))
        self.last = called
        return await self._operations.call(message, events)

    def _watch(self) -> None:
        if self._watching is None:
            request: messages.WatchRequest = {"type": "watch", "picture": True, "folded": sorted(self._folded)}
            if self._names is not None:
                request["services"] = list(self._names)
            self._watching = asyncio.ensure_future(self._operations.watch(request, Events(self._show)))

    def _look_away(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None

    # -- to front ends

    def _show(self, event: Mapping[str, Any]) -> None:
        """Take an event of the watch. The first one after all leases have ended is the last."""
        if self._closed or all(until < time.monotonic() for until in self._looks.values()):
            self._look_away()
        else:
            with self.hold_sync():
                self.svg = event["svg"]
                self.state = {name: value for name, value in event.items() if name != "type"} | {"svg": ""}

    def _say(self, message: Mapping[str, Any]) -> None:
        """Send what is said of a request."""
        self._kept.put(message)
        self._groups.put(message)

    def _tell(self, message: Mapping[str, Any]) -> None:
        if not self._closed:
            self.send(dict(message))


def attach(element: str, session: Session, names: Collection[str] | None = None) -> LiveGraph:
    """Make the picture in `element` live. Called on the thread of the cell that shows it.

    `names`: the services to show, with their dependencies; None: all. Without an element the widget is displayed
    itself. Closes the widgets of earlier runs of the same cell.
    """
    place = OutputAnchor.of(session.shell, element or uuid4().hex)
    for before in [p for p in _open if place.overtakes(p)]:
        _open.pop(before).leave()
    while len(_open) >= MOST:
        _open.pop(next(iter(_open))).leave()
    _open[place] = LiveGraph(element, session, names)
    return _open[place]


def leave_all() -> None:
    """Close all widgets, when the extension is unloaded."""
    while _open:
        _open.popitem()[1].leave()
