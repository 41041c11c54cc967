"""Rendering of values as the notebook would display them: mime bundles, made by IPython's formatters, as JSON data."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import math
import threading
from collections.abc import Callable, Mapping
from typing import Any, cast

from IPython.core.interactiveshell import InteractiveShell
from IPython.lib.pretty import pretty

from nbcompose._ipython_adapter import main_loop
from nbcompose._notebook.graph.messages import Bundle
from nbcompose._schema import ApiSchema

PATIENCE = 0.5  # seconds until the main thread must have started; it may be busy with a cell
MOST_JSON = 200_000  # bytes of a JSON tree; larger values are shown as text only
MOST_TEXT = 100_000  # characters
_KEPT = ("text/plain", "text/html", "text/markdown", "text/latex", "image/svg+xml", "image/png", "image/jpeg")
_PLAIN = (str, int, float, bool, type(None))


class Renderer:
    """Makes mime bundles on the main thread, as formatters expect; in another thread, one at a time, while that is
    busy.

    `bundle` is awaited on the background loop.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._lock = threading.Lock()
        self._unanswered = False  # the main thread has not yet run the last request

    async def bundle(self, value: Any, schema: ApiSchema | None = None) -> Bundle:
        """Return the mime bundle of a value; with its schema, also the HTTP JSON of dicts, lists and models."""
        if isinstance(value, _PLAIN):
            return _plain(value)
        forms = await self._formatted(value)
        if schema is not None and not set(forms) - {"text/plain"}:
            tree = await asyncio.to_thread(_tree, schema, value)
            if tree is not None:
                forms["application/json"] = tree
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
        return _json_able(data) or {"text/plain": _shortened(pretty(value))}


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


def _plain(value: Any) -> Bundle:
    """Return the bundle of a simple value: a string as text, so that the items of a stream join to one text; others
    also as JSON.
    """
    if isinstance(value, str):
        return {"text/plain": _shortened(value)}
    bundle: Bundle = {"text/plain": repr(value)}
    if not isinstance(value, float) or math.isfinite(value):
        bundle["application/json"] = value
    return bundle


def _json_able(data: Mapping[str, Any]) -> Bundle:
    """Return the data as JSON: images as base64, long texts shortened."""
    bundle: dict[str, str] = {}
    for kind, value in data.items():
        if isinstance(value, bytes):
            bundle[kind] = base64.b64encode(value).decode()
        elif isinstance(value, str):
            bundle[kind] = _shortened(value) if kind == "text/plain" else value
    return cast(Bundle, bundle)  # of the kinds in _KEPT


def _shortened(text: str) -> str:
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}\n… ({len(text):,} characters)"


def _tree(schema: ApiSchema, value: Any) -> Any:
    """Return the value as JSON if it is an object or a list and not too long; None otherwise."""
    if hasattr(value, "__array__"):
        return None  # numpy's own text says more
    try:
        data = schema.dump_json(value)
        tree = schema.dump(value) if len(data) <= MOST_JSON else None
    except Exception:  # a user's serializer may raise anything; the text form remains
        return None
    return tree if isinstance(tree, (dict, list)) else None
