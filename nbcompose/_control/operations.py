"""What a process that runs services answers to other processes and to the live graph: state, calls, logs, actions.

`Operations` has one function for each message of `_protocol/messages.py`, and knows neither socket nor comm. What is
different in a notebook is in its `RuntimeContext`. Runs on the registry's loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import re
import secrets
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nbcompose import __version__
from nbcompose._code import Deployment
from nbcompose._control import forms
from nbcompose._control.passed_streams import Refer, ServiceStreams
from nbcompose._control.picture import drawing
from nbcompose._control.snapshot import Meter, below, snapshot
from nbcompose._control.status import Status
from nbcompose._control.typed_streams import TypedStream, TypedStreams, TypingContext, bound
from nbcompose._control.usage import STEP
from nbcompose._protocol import Answer, Events, LogFilter, LogLine, messages, wire
from nbcompose._rpc import Args, Kwargs, StreamReference, Transport
from nbcompose._schema import ApiSchema, TempFiles
from nbcompose._spec import ApiSpec, ServiceSpec
from nbcompose._tracing import CallContext, Span, Wanted, summaries, values_of, waterfall
from nbcompose._user_exceptions import in_short
from nbcompose.errors import InvalidArgument, ServiceUnavailable, UnknownApi, UnknownService

if TYPE_CHECKING:  # the registry has the operations
    from nbcompose._control.debugging import Debugging
    from nbcompose._control.registry import Registry

BEGUN = 0.1  # seconds until a call without a result yet says "begun"
PERIOD = 0.25  # seconds between states of a watch, at least
LATER = 1.0  # seconds until a look at what ends without an event: rates, services that stop
LINES = 200  # of a log, where the request does not say
TRACES = 100  # that are listed
MOST_ITEMS = 10_000  # items of a stream that are kept for `RuntimeContext.keep`
MOST_JSON = 200_000  # bytes of a JSON tree; larger values are shown as text only
MOST_TEXT = 100_000  # characters
_PLAIN = (str, int, float, bool, type(None))


class RuntimeContext:
    """The program around the services, as clients see it: its name, and how it shows values and errors.

    A notebook has its own (`NotebookContext`). `title`: what other processes show of this one.
    """

    kernel = ""  # the kernel's id
    session = ""  # the path of the notebook when the kernel was started

    def __init__(self, title: str | None = None) -> None:
        self.title = title or own_title()

    def text(self, text: str) -> str:
        """Return a text of an error as it is shown."""
        return text

    def variable(self, service: str) -> str:
        """Return the name that code has for a service."""
        return service

    def cell(self, service: str) -> str:
        """Return the front end's id of the cell that started a service; "" where there is none."""
        return ""

    def source(self, service: str) -> str:
        """Return the hash of the text of that cell (see `messages.Service`); "" where there is none."""
        return ""

    def stopped(self) -> list[messages.StoppedService]:
        """Return the services that cells started, and that were stopped since."""
        return []

    def plan(self, text: str) -> list[messages.PlannedService]:
        """Return what a run of a cell with this text would do with services. Called on a thread of its own."""
        names = re.findall(r"^class\s+(\w+)", text, re.MULTILINE)
        return [
            {"service": name, "outcome": "unknown", "why": "services here are not started by cells"} for name in names
        ]

    def variables(self) -> Mapping[str, Any] | None:
        """Return the variables that a form may name in place of values; None: none."""
        return None

    def transport(self, transport: Transport, *, lasting: bool) -> Transport:
        """Return what a client's call goes through. `lasting`: its arguments can be kept."""
        return transport

    def keep(self, call: str, result: Any) -> None:
        """Note what a client's call (e.g. `Answer.ask`) has returned."""

    def forget(self, service: str) -> None:
        """Note that a client has stopped a service."""

    async def bundle(self, value: Any, schema: ApiSchema) -> messages.Bundle:
        """Return how a value is shown."""
        if bundle := plain(value):
            return bundle
        text = await asyncio.to_thread(in_short, value, MOST_TEXT)  # which runs code of the value's class
        return {"text/plain": text, **await json_tree(value, schema)}


class Operations:
    """Answers requests about the services of a registry. `answers` gives the functions by type of request."""

    def __init__(self, registry: Registry, context: RuntimeContext) -> None:
        self.context = context
        self._registry = registry
        self._schemas = _Schemas(registry)
        self._debugging: dict[str, Debugging] = {}
        self._typed = TypedStreams()
        self._planning = asyncio.Lock()

    def answers(self, definitions: Any) -> dict[str, Answer]:
        """Return the functions for the requests in a union of definitions: each is called as the request's type."""
        return {kind: getattr(self, kind) for kind in wire.by_type(definitions) if hasattr(self, kind)}

    async def hello(self, request: messages.HelloRequest, events: Events) -> dict[str, Any]:
        return {
            "type": "hello",
            "protocol": messages.PROTOCOL,
            "version": __version__,
            "pid": os.getpid(),
            "kernel": self.context.kernel,
            "session": self.context.session,
            "title": self.context.title[:1000],
            "messages": sorted(wire.by_type(messages.RuntimeRequest)),
        }

    async def ps(self, request: messages.PsRequest, events: Events) -> dict[str, Any]:
        statuses = self._registry.snapshot()
        urls = {s.name: s.url for s in statuses}
        state = self.state(statuses)
        return {
            "type": "ps",
            "services": [{**service, "url": urls[service["name"]]} for service in state["services"]],
            "stopped": state.get("stopped", []),
        }

    async def watch(self, request: messages.WatchRequest, events: Events) -> dict[str, Any]:
        """Say the state whenever it has changed, at most every `PERIOD`; a client that reads slowly gets the latest."""
        changed, meter = asyncio.Event(), Meter()
        unsubscribe = self._registry.subscribe(lambda _: changed.set())
        last: messages.State | None = None
        brief, told = request.get("brief", False), None
        begun = time.monotonic()
        try:
            while not self._registry.stopped:
                changed.clear()
                statuses = below(self._registry.snapshot(), request.get("services"))
                said = time.monotonic()
                heads = [
                    (s.name, s.state, s.url, s.version, s.replacing, s.out_of_date_reason, s.stale) for s in statuses
                ]
                settles = any(s.state == "stopped" for s in statuses)
                if not brief or heads != told:
                    told = heads
                    picture, folded, width = request.get("picture", False), request.get("folded"), request.get("width")
                    state = self.state(statuses, meter, picture=picture, folded=folded, width=width)
                    settles = settles or (not brief and any(s["rate"] for s in state["services"]))
                    if state != last:
                        last = state
                        events.send({"type": "state", **state})
                        await events.room()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LATER if settles else None):
                        await changed.wait()
                await asyncio.sleep(max(0.0, said + PERIOD - time.monotonic()))
        finally:
            unsubscribe()
        return {"type": "end", "seconds": time.monotonic() - begun}

    async def form(self, request: messages.FormRequest, events: Events) -> dict[str, Any]:
        service, api = request["service"], request["api"]
        spec, found, schema = await asyncio.to_thread(self._schemas.find, service, api)
        described = forms.describe(spec, found, schema, self.context.variable(service), self.context.variables())
        return {"type": "form", **described}

    async def call(self, request: messages.Call, events: Events) -> dict[str, Any]:
        """Call an api. Items of a stream are events; a client that reads slowly slows down the api."""
        begun = time.monotonic()
        timer = asyncio.get_running_loop().call_later(BEGUN, events.send, {"type": "begun"})
        try:
            with TempFiles(), self._typed.of(request.get("arguments")) as typed:
                return {**await self._called(request, typed, events, timer), "seconds": time.monotonic() - begun}
        finally:
            timer.cancel()

    async def _called(
        self,
        request: messages.Call,
        typed: Mapping[str, TypedStream],
        events: Events,
        silent: asyncio.TimerHandle,
    ) -> dict[str, Any]:
        service, api = request["service"], request["api"]
        spec, found, schema = await asyncio.to_thread(self._schemas.find, service, api)
        context = TypingContext() if typed else CallContext()
        document = await asyncio.to_thread(bound, schema, request.get("arguments", {}), typed)
        variables = self.context.variables()
        streams = ServiceStreams(self._schemas.find, self._refer_for(service, context), variables)
        document = await asyncio.to_thread(streams.read, schema, document)
        arguments = await asyncio.to_thread(forms.read, schema, document, variables)
        # Files are temporary, and what was typed is gone: such a call cannot be made again.
        lasting = not typed and not TempFiles.current().used
        transport = self.context.transport(self._registry.caller(service), lasting=lasting)
        for name, stream in typed.items():
            arguments[name] = transport.sent(stream, None)
            stream.open()
        args, kwargs = schema.call_arguments(arguments)
        label = f"{spec.name}.{found.name}"
        if not found.stream:
            result = await transport.call(api, args, kwargs, context)
            self.context.keep(label, result)
            return {"type": "result", "bundle": await self.context.bundle(result, schema)}
        kept: list[Any] = []
        async with contextlib.aclosing(transport.stream(api, args, kwargs, context)) as items:
            count = 0
            async for item in items:
                silent.cancel()
                if count < MOST_ITEMS:
                    kept.append(item)
                events.send({"type": "item", "n": count, "bundle": await self.context.bundle(item, schema)})
                await events.room()
                count += 1
        self.context.keep(label, kept)
        return {"type": "end"}

    def _refer_for(self, service: str, context: CallContext) -> Refer:
        """Return what refers to the stream of a service in a call of `service`."""
        to = self._registry.caller(service)

        def refer(producer: str, api: str, args: Args, kwargs: Kwargs) -> StreamReference:
            reference = self._registry.caller(producer).reference(api, args, kwargs, context, to)
            assert isinstance(reference, StreamReference), "services of one graph reach each other"
            return reference

        return refer

    async def feed(self, request: messages.Feed, events: Events) -> dict[str, Any]:
        await self._typed.find(request["stream"]).feed(request["item"])
        return {"type": "done", "action": "feed", "service": ""}

    async def end_feed(self, request: messages.EndFeed, events: Events) -> dict[str, Any]:
        await self._typed.find(request["stream"]).end()
        return {"type": "done", "action": "end_feed", "service": ""}

    async def logs(self, request: messages.LogsRequest, events: Events) -> dict[str, Any]:
        service, lines = request["service"], request.get("lines", LINES)
        wanted = LogFilter.of(request)
        if not request.get("follow"):
            return {"type": "logs", "service": service, **self._lines(self._registry.log(service).last(lines, wanted))}
        begun = time.monotonic()
        async for missed, new in self._registry.follow_log(service, lines, wanted):
            events.send({"type": "lines", "service": service, **self._lines(new), "missed": missed})
            await events.room()
        return {"type": "end", "seconds": time.monotonic() - begun}

    async def debug(self, request: messages.DebugRequest, events: Events) -> dict[str, Any]:
        """Attach a debugger until the client cancels the request, or no replica is attached any more."""
        begun, key = time.monotonic(), secrets.token_hex(8)
        over = asyncio.Event()

        def say(text: str, prompt: str | None) -> None:
            events.send({"type": "debugged", "debugger": key, "text": text, "prompt": prompt})

        post_mortem = request.get("post_mortem", False)
        debugging = await self._registry.debug(
            request["service"],
            say,
            over.set,
            replica=request.get("replica"),
            next_call=not post_mortem,
            post_mortem=post_mortem,
        )
        self._debugging[key] = debugging
        try:
            say(debugging.greeting(request["service"], post_mortem=post_mortem), None)
            await over.wait()
        finally:
            del self._debugging[key]
            debugging.detach()
        return {"type": "end", "seconds": time.monotonic() - begun}

    async def debug_line(self, request: messages.DebugLine, events: Events) -> dict[str, Any]:
        debugging = self._debugging.get(request["debugger"])
        if debugging is None:
            raise InvalidArgument("that debugger is not attached any more")
        debugging.answer(request["line"])
        return {"type": "done", "action": "debug_line", "service": ""}

    async def profile(self, request: messages.ProfileRequest, events: Events) -> dict[str, Any]:
        service = request["service"]
        native = request.get("native", False)
        made = await self._registry.profile(service, request["seconds"], request.get("replica"), native=native)
        return {"type": "profiled", "service": service, "text": repr(made), "svg": made.svg()}

    def _lines(self, lines: Sequence[LogLine]) -> dict[str, Any]:
        texts = [self.context.text(line.text) for line in lines]
        return {"lines": texts, "details": [line.details() for line in lines]}

    async def traces(self, request: messages.TracesRequest, events: Events) -> dict[str, Any]:
        wanted = Wanted(
            request.get("service"), request.get("api"), request.get("state"), request.get("since"), request.get("text")
        )
        log = await asyncio.to_thread(self._registry.collect_traces)
        with_text = await self._registry.publisher.search(wanted.text) if wanted.text else ()
        return {"type": "traces", "traces": summaries(log, wanted, with_text)[:TRACES]}

    async def trace(self, request: messages.TraceRequest, events: Events) -> dict[str, Any]:
        return {"type": "trace", "trace": request["trace"], "rows": waterfall(self._trace(request["trace"]))["rows"]}

    async def recorded(self, request: messages.RecordedRequest, events: Events) -> dict[str, Any]:
        spans = self._trace(request["trace"])
        kept = await self._registry.publisher.recorded(spans)
        return {
            "type": "recorded",
            "trace": request["trace"],
            "calls": [values_of(span, kept) for span in spans if span.span_id in kept],
        }

    def _trace(self, trace: str) -> list[Span]:
        try:
            return self._registry.traces.trace(int(trace, 16))
        except ValueError:
            raise InvalidArgument(f"trace is not the id of a trace: {trace!r}") from None

    async def forget(self, request: messages.ForgetRequest, events: Events) -> dict[str, Any]:
        service = request.get("service")
        if service is not None and service not in self._registry.names():
            raise UnknownService.among(service, self._registry.names())
        await self._registry.publisher.forget_recorded([service] if service is not None else [])
        return {"type": "done", "action": "forget", "service": service or ""}

    async def history(self, request: messages.HistoryRequest, events: Events) -> dict[str, Any]:
        steps = [step._asdict() for step in self._registry.usage.history(request["service"])]
        return {"type": "history", "service": request["service"], "step": STEP, "steps": steps}

    async def _act(self, request: messages.Act | messages.Scale, events: Events) -> dict[str, Any]:
        service, registry = request["service"], self._registry
        if service not in registry.names():
            raise UnknownService.among(service, registry.names())
        if request["type"] == "stop":
            await registry.remove_async(service)
            self.context.forget(service)
        elif request["type"] == "scale":
            await asyncio.to_thread(registry.scale, service, request["replicas"])
        else:
            await asyncio.to_thread(registry.restart if request["type"] == "restart" else registry.roll_back, service)
        return {"type": "done", "action": request["type"], "service": service}

    restart = stop = rollback = scale = _act

    async def plan(self, request: messages.PlanRequest, events: Events) -> dict[str, Any]:
        cells = []
        for cell in request["cells"]:
            async with self._planning:  # one at a time: they are all asked for again at each edit
                cells.append(
                    {"cell": cell["cell"], "services": await asyncio.to_thread(self.context.plan, cell["text"])}
                )
        return {"type": "planned", "cells": cells}

    async def reach(self, request: messages.ReachRequest, events: Events) -> dict[str, Any]:
        service = request["service"]
        url, token = self._registry.url(service), self._registry.token(service)
        where = urlsplit(url)
        if where.port is None:
            raise ServiceUnavailable(f"{service} does not answer over HTTP")
        return {"type": "reach", "service": service, "host": where.hostname, "port": where.port, "token": token}

    def state(
        self,
        statuses: Sequence[Status],
        meter: Meter | None = None,
        *,
        picture: bool = False,
        folded: Collection[str] | None = None,
        width: int | None = None,
    ) -> messages.State:
        """Return the state of services, as clients see it. Usable from any thread."""
        context = self.context
        shown = [replace(s, error=context.text(s.error)) if s.error else s for s in statuses]
        deployments = {s.name: self._registry.deployment(s.name) for s in statuses}
        specs = {name: d.spec for name, d in deployments.items() if d is not None}
        svg = drawing(shown, specs, folded, width) if picture else ""
        rates = meter.rates(shown, time.monotonic()) if meter is not None else None
        found = snapshot(shown, specs, rates, svg, context.cell, self._registry.usage.latencies, context.source)
        running = self._registry.names()
        return {**found, "stopped": [s for s in context.stopped() if s["name"] not in running]}


class _Schemas:
    """The schemas of running services, made once for each version. Usable from any thread."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._made: dict[tuple[str, str], tuple[Deployment, ApiSchema]] = {}

    def find(self, service: str, api: str) -> tuple[ServiceSpec, ApiSpec, ApiSchema]:
        """Return the specs of a service and an api, and its schema. Raises `UnknownService`, `UnknownApi`."""
        deployment = self._registry.deployment(service)
        if deployment is None:
            raise UnknownService.among(service, self._registry.names())
        spec = deployment.spec
        found = spec.api(api)
        if found is None:
            raise UnknownApi(f"{service} has no api {api!r}; it has: {', '.join(a.name for a in spec.apis)}")
        made_for, schema = self._made.get((service, api), (None, None))
        if schema is None or made_for is not deployment:
            schema = ApiSchema.of(spec.cls, found)
            self._made[service, api] = (deployment, schema)
        return spec, found, schema


# -- values


def plain(value: Any) -> messages.Bundle | None:
    """Return the bundle of a simple value: a text as it is, so that the items of a stream join to one text; others also
    as JSON. None for other values.
    """
    if not isinstance(value, _PLAIN):
        return None
    if isinstance(value, str):
        return {"text/plain": shortened(value)}
    bundle: messages.Bundle = {"text/plain": repr(value)}
    if not isinstance(value, float) or math.isfinite(value):
        bundle["application/json"] = value
    return bundle


async def json_tree(value: Any, schema: ApiSchema) -> messages.Bundle:
    """Return the JSON that HTTP gives of a value, where that is an object or a list and not too long."""
    if hasattr(value, "__array__"):
        return {}  # numpy's own text says more
    tree = await asyncio.to_thread(_tree, value, schema)
    return {"application/json": tree} if isinstance(tree, dict | list) else {}


def _tree(value: Any, schema: ApiSchema) -> Any:
    try:
        return schema.dump(value) if len(schema.dump_json(value)) <= MOST_JSON else None
    except Exception:  # a user's serializer may raise anything; the text form remains
        return None


def shortened(text: str) -> str:
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}\n… ({len(text):,} characters)"


# -- names


def own_title() -> str:
    """Return the name of the notebook where Jupyter puts it into the kernel's environment, else of the program.

    Never includes a command-line argument: it may be a password, and other processes display the title.
    """
    session = os.environ.get("JPY_SESSION_NAME")
    if session:
        return Path(session).name
    program = Path(sys.argv[0] if sys.argv else "")
    if program.stem == "ipykernel_launcher" or program.parent.name == "ipykernel":
        return f"a notebook in {os.getcwd()}"
    if program.name == "-c" or not program.name:
        return "python"
    return program.parent.name if program.stem == "__main__" else program.name  # `python -m pytest`: pytest
