"""The live graph widget: state to the browser, messages from it.

The front end (static/src) finds the picture by the id of its element. State is sent only while the picture is visible
to someone; user actions arrive as messages. Everything is handled on the registry's loop, and nothing is printed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

import anywidget
from traitlets import Dict, Unicode

from nbcompose._control import Registry, Status
from nbcompose._ipython_adapter import receive_where_asked
from nbcompose._notebook import OutputAnchor, Session, cell_names
from nbcompose._notebook.graph import assets, messages, model, svg
from nbcompose._notebook.graph.calls import Calls, Results, Schemas
from nbcompose._notebook.graph.layout import below, streaming
from nbcompose._rpc import background
from nbcompose._tracing import summaries, waterfall
from nbcompose.errors import UnknownService

PERIOD = 0.25  # seconds between updates, at least
LATER = 1.0  # seconds until a look at what ends without an event: rates, services that stop
LEASE = 30.0  # seconds that a look counts; front ends renew it
ROOM = "888.8/s · p50 88.8 ms · 888 MB"  # what the numbers of a service may look like
TRACES = 100  # that are listed
MOST = 16  # widgets that are open at once, where front ends do not say which cell runs

Answer = Callable[[Any], Awaitable[messages.Reply | None]]

_open: dict[OutputAnchor, LiveGraph] = {}


class LiveGraph(anywidget.AnyWidget):
    """The widget of one graph, made by `attach`. Its traits are set on the background loop only."""

    _esm = assets.module()
    _css = assets.style()
    element = Unicode().tag(sync=True)
    state = Dict().tag(sync=True)

    def __init__(self, element: str, registry: Registry, session: Session, names: Collection[str] | None) -> None:
        self._registry = registry
        self._session = session
        self._names = names
        self._meter = model.Meter()
        self._looks: dict[str, float] = {}  # end of the lease (monotonic time), by front end
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._updated = 0.0
        self._closed = False
        self.seen = False  # whether a front end has ever made the picture live
        self._schemas = Schemas(session)
        self._calls = Calls(session, self._schemas, _results(session), self._tell)
        statuses = registry.statuses()
        super().__init__(element=element, state=self._state(self._shown(statuses)))
        if self.comm is not None:
            receive_where_asked(self.comm)
        self.on_msg(self._on_message)
        self._unsubscribe = registry.subscribe(self._on_change)

    def leave(self) -> None:
        """Stop being live: the picture stays as it was. Callable from any thread except the loop's."""
        self._closed = True
        self._unsubscribe()
        self._calls.close()
        self.close()

    # -- messages to front ends

    def _on_change(self, status: Status) -> None:
        self._schedule(0.0)

    def _schedule(self, delay: float) -> None:
        """Schedule an update in `delay` seconds, unless an earlier one is scheduled."""
        if self._closed or not self._is_looked_at():
            return
        loop = background().loop
        at = max(loop.time() + delay, self._updated + PERIOD)
        if self._timer is not None:
            if self._due <= at:
                return
            self._timer.cancel()
        self._due = at  # kept here: for what is due now, uvloop returns a handle without `when()`
        self._timer = loop.call_at(at, self._update)

    def _update(self) -> None:
        self._timer = None
        if self._closed:
            return
        self._updated = background().loop.time()
        statuses = self._shown(self._registry.snapshot())
        state = self._state(statuses)
        if state != self.state:
            self.state = dict(state)
        if any(s["rate"] or s["state"] == "stopped" for s in state["services"]):
            self._schedule(LATER)

    def _is_looked_at(self) -> bool:
        return any(until > time.monotonic() for until in self._looks.values())

    def _shown(self, statuses: Sequence[Status]) -> list[Status]:
        shown = below(statuses, self._names)
        return [replace(s, error=cell_names(s.error, self._session.shell)) if s.error else s for s in shown]

    def _state(self, statuses: Sequence[Status]) -> messages.State:
        deployments = {s.name: self._registry.deployment(s.name) for s in statuses}
        specs = {name: d.spec for name, d in deployments.items() if d is not None}
        drawn = svg.svg(statuses, streaming(list(specs.values())), dict.fromkeys(specs, ROOM))
        return model.snapshot(statuses, specs, self._meter.rates(statuses, time.monotonic()), drawn)

    def _tell(self, message: messages.Message) -> None:
        if not self._closed:
            self.send(message)

    # -- messages from front ends

    def _on_message(self, _: Any, message: Any, buffers: Any) -> None:
        if isinstance(message, dict):
            background().spawn(lambda: self._answer(message))

    async def _answer(self, message: dict[str, Any]) -> None:
        answers: dict[str, Answer] = {
            "look": self._look, "form": self._form, "call": self._call, "cancel": self._cancel, "logs": self._logs,
            "traces": self._traces, "trace": self._trace, "restart": self._act, "stop": self._act, "scale": self._act,
            "rollback": self._act,
        }  # fmt: skip
        kind = str(message.get("type"))
        answer = answers.get(kind)
        if answer is None:
            return
        try:
            reply = await answer(message)
        except Exception as error:
            reply = _refused(kind, message, error)
        if reply is not None:
            self._tell(reply)

    async def _look(self, message: messages.Look) -> messages.Here:
        client = str(message.get("client", ""))
        if message.get("on"):
            self.seen = True
            self._looks[client] = time.monotonic() + LEASE
            self._schedule(0.0)
        else:
            self._looks.pop(client, None)
        return {"type": "here"}

    async def _form(self, message: messages.FormRequest) -> messages.Form:
        form = await asyncio.to_thread(self._schemas.form, str(message["service"]), str(message["api"]))
        return {"type": "form", **form}

    async def _call(self, message: messages.Call) -> None:
        arguments = message.get("arguments", {})
        self._calls.start(str(message["id"]), str(message["service"]), str(message["api"]), arguments)

    async def _cancel(self, message: messages.Cancel) -> None:
        self._calls.cancel(str(message["id"]))

    async def _logs(self, message: messages.LogsRequest) -> messages.Logs:
        service = str(message["service"])
        lines = self._registry.log_lines(service, min(int(message.get("lines", 200)), 5000))
        return {"type": "logs", "service": service, "lines": lines}

    async def _act(self, message: messages.Act | messages.Scale) -> messages.Done:
        service = str(message["service"])
        if service not in self._registry.names():
            raise UnknownService(f"{service} does not run")
        if message["type"] == "stop":
            await self._registry.remove_async(service)
            self._session.started.pop(service, None)
        elif message["type"] == "scale":
            await asyncio.to_thread(self._registry.scale, service, message["replicas"])
        else:
            act = self._registry.restart if message["type"] == "restart" else self._registry.roll_back
            await asyncio.to_thread(act, service)
        self._schedule(0.0)
        return {"type": "done", "action": message["type"], "service": service}

    async def _traces(self, message: messages.TracesRequest) -> messages.Traces:
        log = await asyncio.to_thread(self._registry.collect_traces)
        return {"type": "traces", "traces": summaries(log)[:TRACES]}

    async def _trace(self, message: messages.TraceRequest) -> messages.Trace:
        spans = self._registry.traces.trace(int(str(message["trace"]), 16))
        return {"type": "trace", "trace": message["trace"], "rows": waterfall(spans)["rows"]}


def _refused(kind: str, message: dict[str, Any], error: Exception) -> messages.Refused:
    refused: messages.Refused = {"type": "refused", "action": kind, "message": str(error) or repr(error)}
    for key in ("service", "api", "trace"):
        if key in message:
            refused[key] = message[key]
    return refused


def attach(element: str, registry: Registry, session: Session, names: Collection[str] | None = None) -> LiveGraph:
    """Make the picture in `element` live. Called on the thread of the cell that shows it.

    `names`: the services to show, with their dependencies; None: all. Without an element the widget is displayed
    itself. Closes the widgets of earlier runs of the same cell.
    """
    place = OutputAnchor.of(session.shell, element or uuid4().hex)
    for before in [p for p in _open if place.overtakes(p)]:
        _open.pop(before).leave()
    while len(_open) >= MOST:
        _open.pop(next(iter(_open))).leave()
    _open[place] = LiveGraph(element, registry, session, names)
    return _open[place]


def leave_all() -> None:
    """Close all widgets, when the extension is unloaded."""
    while _open:
        _open.popitem()[1].leave()


def _results(session: Session) -> Results:
    """Return the notebook's `_graph`, created if necessary."""
    space = session.shell.user_ns
    if not isinstance(space.get("_graph"), Results):
        space["_graph"] = Results()
    results: Results = space["_graph"]
    return results
