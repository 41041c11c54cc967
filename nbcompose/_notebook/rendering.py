"""How the notebook's services look to clients (`NotebookContext`): names, errors and values as the notebook shows them.

Values are mime bundles, made by IPython's formatters, as JSON data.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, cast

from IPython.core.interactiveshell import InteractiveShell
from IPython.lib.pretty import pretty

from nbcompose._control import RuntimeContext, json_tree, plain, shortened
from nbcompose._export.check import RecordedTransport
from nbcompose._ipython_adapter import kernel_id, main_loop
from nbcompose._notebook.session import Session
from nbcompose._notebook.tracebacks import cell_names
from nbcompose._protocol import Bundle, messages
from nbcompose._rpc import Transport
from nbcompose._schema import ApiSchema

PATIENCE = 0.5  # seconds until the main thread must have started; it may be busy with a cell
_KEPT = ("text/plain", "text/html", "text/markdown", "text/latex", "image/svg+xml", "image/png", "image/jpeg")


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


class NotebookContext(RuntimeContext):
    """The notebook around its services. See `RuntimeContext`."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._notebook = session
        self._renderer = Renderer(session.shell)
        self.kernel = kernel_id()
        self.session = os.environ.get("JPY_SESSION_NAME", "")

    def text(self, text: str) -> str:
        return cell_names(text, self._notebook.shell)

    def variable(self, service: str) -> str:
        started = self._notebook.started.get(service)
        return started.variable if started is not None else service

    def cell(self, service: str) -> str:
        notebook = self._notebook
        if cell := notebook.sources.cell(service, notebook.registry.wanted(service)):
            return cell  # the cell that ran last, and not another one that has started the same before
        started = notebook.started.get(service)
        return started.cell if started is not None else ""

    def source(self, service: str) -> str:
        notebook = self._notebook
        return notebook.sources.of(service, notebook.registry.wanted(service))

    def stopped(self) -> list[messages.StoppedService]:
        return self._notebook.sources.stopped()

    def plan(self, text: str) -> list[messages.PlannedService]:
        from nbcompose._notebook.planning import (
            plan,
        )  # which a notebook without a front end of nbcompose's does not need

        return plan(self._notebook, text)

    def variables(self) -> Mapping[str, Any]:
        return dict(self._notebook.shell.user_ns)  # a copy: cells change it meanwhile

    def transport(self, transport: Transport, *, lasting: bool) -> Transport:
        return RecordedTransport(transport, self._notebook.recording) if lasting else transport

    def keep(self, call: str, result: Any) -> None:
        space = self._notebook.shell.user_ns
        if not isinstance(space.get("_graph"), Results):
            space["_graph"] = Results()
        space["_graph"].put(call, result)

    def forget(self, service: str) -> None:
        self._notebook.started.pop(service, None)

    async def bundle(self, value: Any, schema: ApiSchema) -> Bundle:
        return await self._renderer.bundle(value, schema)


class Renderer:
    """Makes mime bundles on the main thread, as formatters expect; in another thread, one at a time, while that is
    busy.

    `bundle` is awaited on the background loop.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._lock = threading.Lock()
        self._unanswered = False  # the main thread has not yet run the last request

    async def bundle(self, value: Any, schema: ApiSchema) -> Bundle:
        """Return the mime bundle of a value, with the HTTP JSON of dicts, lists and models."""
        if bundle := plain(value):
            return bundle
        forms = await self._formatted(value)
        if not set(forms) - {"text/plain"}:
            forms.update(await json_tree(value, schema))
        return forms

    async def _formatted(self, value: Any) -> Bundle:
        work = _Once(lambda: self._format(value))
        if not (self._ask_main_thread(work) and await work.begins_within(PATIENCE)):
            await asyncio.to_thread(work)
        return await work.result

    def _ask_main_thread(self, work: _Once) -> bool:
        """Ask the main thread to run the work as soon as no cell runs. Returns False where it cannot be asked."""
        loop = main_loop(self._shell)
        if loop is None or self._unanswered:
            return False

        def on_main_thread() -> None:
            self._unanswered = False
            work()

        self._unanswered = True
        loop.add_callback(on_main_thread)
        return True

    def _format(self, value: Any) -> Bundle:
        with self._lock:
            data, _ = self._shell.display_formatter.format(value, include=set(_KEPT))
        return _json_able(data) or {"text/plain": shortened(pretty(value))}


class _Once:
    """Work that is run once, by the thread that calls it first. Created on the loop that awaits `result`."""

    def __init__(self, function: Callable[[], Bundle]) -> None:
        self._begun = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.result: asyncio.Future[Bundle] = self._loop.create_future()
        self._function = function
        self._first = threading.Lock()

    async def begins_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._begun.wait()
        except TimeoutError:
            return False
        return True

    def __call__(self) -> None:
        if not self._first.acquire(blocking=False):
            return
        self._tell(self._begun.set)
        try:
            bundle = self._function()
        except Exception as error:
            self._tell(self._fail, error)
        else:
            self._tell(self._settle, bundle)

    def _tell(self, function: Callable[..., object], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has been closed, and nothing waits for the result
            self._loop.call_soon_threadsafe(function, *args)

    def _settle(self, bundle: Bundle) -> None:
        if not self.result.done():
            self.result.set_result(bundle)

    def _fail(self, error: Exception) -> None:
        if not self.result.done():
            self.result.set_exception(error)


def _json_able(data: Mapping[str, Any]) -> Bundle:
    """Return the data as JSON: images as base64, long texts shortened."""
    bundle: dict[str, str] = {}
    for kind, value in data.items():
        if isinstance(value, bytes):
            bundle[kind] = base64.b64encode(value).decode()
        elif isinstance(value, str):
            bundle[kind] = shortened(value) if kind == "text/plain" else value
    return cast(Bundle, bundle)  # of the kinds in _KEPT
