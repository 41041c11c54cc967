"""Calls made in the front end: one task each on the background loop; items and results are sent as messages.

See `_notebook/graph/forms.py` for forms and arguments, `_notebook/graph/rendering.py` for the display of values.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nbcompose._code import Deployment
from nbcompose._export.check import RecordedTransport
from nbcompose._notebook import Session, cell_names
from nbcompose._notebook.graph import forms
from nbcompose._notebook.graph.messages import Begun, Bundle, CallMessage, Failure, FormContent, Item
from nbcompose._notebook.graph.rendering import Renderer
from nbcompose._rpc import Transport, background
from nbcompose._schema import ApiSchema, TempFiles
from nbcompose._spec import ApiSpec, ServiceSpec
from nbcompose._tracing import CallContext
from nbcompose.errors import InvalidArgument, RemoteTraceback, UnknownApi, UnknownService

Send = Callable[[CallMessage], None]

BEGUN = 0.1  # seconds until a call without a result yet sends "begun"
PACE = 0.05  # seconds between messages of one stream: more would overload servers and browsers
MOST_ITEMS = 10_000  # items of a stream that are kept for `_graph.result`


class Results:
    """The notebook's `_graph`: results of calls made in the graph."""

    def __init__(self) -> None:
        self.result: Any = None
        self._of = ""

    def put(self, of: str, result: Any) -> None:
        self._of, self.result = of, result

    def __repr__(self) -> str:
        if not self._of:
            return "_graph: no call has been made in the graph yet"
        return f"_graph.result is what {self._of} returned last: {type(self.result).__name__}"


class Schemas:
    """The schemas of running services, made once for each version. Usable from any thread."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._made: dict[tuple[str, str], tuple[Deployment, ApiSchema]] = {}

    def find(self, service: str, api: str) -> tuple[ServiceSpec, ApiSpec, ApiSchema]:
        """Return the specs of a service and an api, and its schema. Raises `UnknownService`, `UnknownApi`."""
        deployment = self._session.registry.deployment(service)
        if deployment is None:
            raise UnknownService(f"{service} does not run")
        spec = deployment.spec
        found = spec.api(api)
        if found is None:
            raise UnknownApi(f"{service} has no api {api!r}; it has: {', '.join(a.name for a in spec.apis)}")
        made_for, schema = self._made.get((service, api), (None, None))
        if schema is None or made_for is not deployment:
            schema = ApiSchema.of(spec.cls, found)
            self._made[service, api] = (deployment, schema)
        return spec, found, schema

    def form(self, service: str, api: str) -> FormContent:
        """Return the form of an api. See `forms.describe`."""
        spec, found, schema = self.find(service, api)
        started = self._session.started.get(service)
        return forms.describe(spec, found, schema, started.variable if started is not None else service)


class Calls:
    """The calls in progress, by the id that the front end gave. Used on the background loop, except for `close`."""

    def __init__(self, session: Session, schemas: Schemas, results: Results, send: Send) -> None:
        self._session = session
        self._schemas = schemas
        self._results = results
        self._send = send
        self._renderer = Renderer(session.shell)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._silent: dict[str, asyncio.TimerHandle] = {}  # calls of which nothing has been sent yet

    def start(self, call: str, service: str, api: str, arguments: Any) -> None:
        if call in self._tasks:
            return
        task = asyncio.ensure_future(self._run(call, service, api, arguments))
        self._tasks[call] = task
        begun: Begun = {"type": "begun", "id": call}
        self._silent[call] = asyncio.get_running_loop().call_later(BEGUN, self._tell, begun)
        task.add_done_callback(lambda _: self._tasks.pop(call, None))

    def _tell(self, message: CallMessage) -> None:
        if (timer := self._silent.pop(message["id"], None)) is not None:
            timer.cancel()
        self._send(message)

    def cancel(self, call: str) -> None:
        task = self._tasks.get(call)
        if task is not None:
            task.cancel()

    def close(self) -> None:
        """Cancel all calls; callable from any thread."""
        background().spawn(self._cancel_all)

    async def _cancel_all(self) -> None:
        for task in list(self._tasks.values()):
            task.cancel()

    async def _run(self, call: str, service: str, api: str, arguments: Any) -> None:
        begun = time.monotonic()
        try:
            with TempFiles():
                bundle = await self._made(call, service, api, arguments)
        except asyncio.CancelledError:
            self._tell({"type": "cancelled", "id": call, "seconds": time.monotonic() - begun})
        except Exception as error:
            self._tell({"type": "failed", "id": call, "seconds": time.monotonic() - begun, **self._described(error)})
        else:
            seconds = time.monotonic() - begun
            if bundle is None:
                self._tell({"type": "end", "id": call, "seconds": seconds})
            else:
                self._tell({"type": "result", "id": call, "seconds": seconds, "bundle": bundle})

    async def _made(self, call: str, service: str, api: str, document: Any) -> Bundle | None:
        """Return the result as a mime bundle; None at the end of a stream."""
        spec, found, schema = await asyncio.to_thread(self._schemas.find, service, api)
        arguments = await asyncio.to_thread(forms.read, schema, document)
        args, kwargs = schema.call_arguments(arguments)
        caller: Transport = self._session.registry.caller(service)
        if not TempFiles.current().used:  # files are temporary: such a call cannot be replayed
            caller = RecordedTransport(caller, self._session.recording)
        label = f"{spec.name}.{found.name}"
        if found.stream:
            items = caller.stream(api, args, kwargs, CallContext())
            self._results.put(label, await self._streamed(call, items, schema))
            return None
        result = await caller.call(api, args, kwargs, CallContext())
        self._results.put(label, result)
        return await self._renderer.bundle(result, schema)

    async def _streamed(self, call: str, items: Any, schema: ApiSchema) -> list[Any]:
        """Send the items as they arrive; return the first `MOST_ITEMS`."""
        kept: list[Any] = []
        outlet = _Outlet(call, self._tell)
        count = 0
        try:
            async with contextlib.aclosing(items):
                async for item in items:
                    if count < MOST_ITEMS:
                        kept.append(item)
                    outlet.put(count, await self._renderer.bundle(item, schema))
                    count += 1
        finally:
            outlet.close()
        return kept

    def _described(self, error: Exception) -> Failure:
        cause = error.__cause__
        remote = cause.text if isinstance(cause, RemoteTraceback) else ""
        problems: Sequence[Mapping[str, Any]] = error.problems if isinstance(error, InvalidArgument) else []
        return {
            "name": type(error).__name__,
            "message": cell_names(str(error), self._session.shell),
            "traceback": cell_names(remote, self._session.shell),
            "problems": [{"loc": p.get("loc", []), "msg": p.get("msg", "")} for p in problems],
        }


class _Outlet:
    """Sends the items of one stream: the first at once, later ones in groups of at most one
    message per `PACE` seconds.
    """

    def __init__(self, call: str, send: Send) -> None:
        self._call = call
        self._send = send
        self._waiting: list[Item] = []
        self._timer: asyncio.TimerHandle | None = None

    def put(self, n: int, bundle: Bundle) -> None:
        self._waiting.append({"type": "item", "id": self._call, "n": n, "bundle": bundle})
        if self._timer is None:
            self._flush()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._tell()

    def _flush(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(PACE, self._flush) if self._waiting else None
        self._tell()

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        if len(waiting) == 1:
            self._send(waiting[0])
        elif waiting:
            self._send({"type": "items", "id": self._call, "items": waiting})
