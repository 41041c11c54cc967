"""What services write, under the cell that called them: one display, with a block for each service.

A cell shows the output of calls that it waits for: of its own thread, of its tasks, and of `asyncio.to_thread`, told
apart from others by context (contextvars). They are in the order in which the cell made them, so that a saved notebook
is the same each time: blocks by the first call that wrote there, lines by call. The display is made and changed on the
cell's own thread, since Jupyter takes what other threads display for output of the cell that ran last.

Where displays are captured (`%%capture`, `capture_output()`), calls that begin there have a page of their own, which is
captured too.
"""

from __future__ import annotations

import contextlib
import threading
import time
from bisect import insort
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from html import escape
from typing import Any, NamedTuple

from IPython.core.interactiveshell import InteractiveShell

from nbcompose._control import Registry, State, Written, progress
from nbcompose._ipython_adapter import Captured, request_of
from nbcompose._notebook.display import Bundle, LiveDisplay
from nbcompose._notebook.tracebacks import cell_names
from nbcompose._protocol import plain_text, severity
from nbcompose._rpc import Args, Kwargs, SocketTransport
from nbcompose._tracing import CallContext
from nbcompose._units import near_word
from nbcompose.errors import UnknownService

FIRST, LAST = 50, 50  # lines that are shown of a service
LONGEST = 1000  # characters that are shown of a line
PERIOD = 0.1  # seconds between changes of a display, at least
PATIENT = 2.0  # seconds after which it is said what a call waits for
_BLOCK = "border-left:3px solid #9e9e9e;padding:0 8px;margin:2px 0 4px"
# Not within words, as JupyterLab breaks what is preformatted, unless one has no room.
_TEXT = "margin:0;white-space:pre-wrap;word-break:normal;overflow-wrap:anywhere"
_COLORS = {"WARNING": "#b5790f", "ERROR": "#c9302c"}


class _Place(NamedTuple):
    """Where a line belongs in a block: by the cell's call; by the call that wrote it, and when that wrote first; by how
    many lines were passed before it; and which it is.
    """

    call: int
    began: float
    span: str
    number: int
    key: str
    row: int


_Entry = tuple[_Place, str, str]  # with level and text


@dataclass(slots=True)
class _Block:
    """What one service has written: its first and last lines, those that have only begun, and how many there are."""

    lines: list[_Entry] = field(default_factory=list)  # in order
    begun: dict[tuple[str, int], _Entry] = field(default_factory=dict)
    counts: Counter[int] = field(default_factory=Counter)  # by call
    began: dict[str, float] = field(default_factory=dict)

    def put(self, call: int, written: Written) -> None:
        line, span, which = written.line, written.key.partition("/")[2], (written.key, written.row)
        began = self.began.setdefault(span, line.time)
        entry: _Entry = _Place(call, began, span, self.counts[call], *which), line.level, line.text
        self.begun.pop(which, None)
        if written.again:
            self._again(written, which)
        elif written.state is State.OPEN:
            self.begun[which] = entry
        elif written.state is not State.GONE:
            self.counts[call] += 1
            insort(self.lines, entry)
            if len(self.lines) > FIRST + LAST:
                del self.lines[FIRST]  # the others are still the first and the last of all

    def _again(self, written: Written, which: tuple[str, int]) -> None:
        """Change a line that has its place, where it is among those that are shown."""
        for index in range(len(self.lines) - 1, -1, -1):
            place, level, _ = self.lines[index]
            if place[-2:] == which:
                if written.state is State.GONE:
                    del self.lines[index]
                    self.counts[place.call] -= 1
                else:
                    self.lines[index] = place, level, written.line.text
                return

    def drop(self, calls: set[int]) -> None:
        """Forget what these calls have written."""
        self.lines = [entry for entry in self.lines if entry[0].call not in calls]
        self.begun = {which: entry for which, entry in self.begun.items() if entry[0].call not in calls}
        for call in calls:
            del self.counts[call]

    def shown(self) -> tuple[list[_Entry], int]:
        """Return the lines that are shown, and how many are left out after the first `FIRST`."""
        lines = sorted([*self.lines, *self.begun.values()])
        return lines, self.counts.total() - len(self.lines)


class _Page:
    """What one display shows: the blocks of services, by name, and what calls wait for. `captured`: where that display
    is captured.
    """

    def __init__(self, captured: Captured | None) -> None:
        self.captured = captured
        self.blocks: dict[str, _Block] = {}
        self.waiting: list[str] = []
        self.changed = False
        self.display: LiveDisplay | None = None
        self.drawn = 0.0


@dataclass(slots=True)
class _Open:
    """Calls of one trace that are under way: which call of the cell that is, and how many there are."""

    service: str
    number: int
    since: float
    count: int = 1


class CellRun:
    """One run of a cell. `info`: by which IPython knows it; `request`: the message that it came with. `below`: the
    services below another one; `waits`: what a call of a service waits for, "" where nothing is known.
    """

    def __init__(
        self,
        shell: InteractiveShell,
        info: object,
        below: Callable[[str], list[str]],
        waits: Callable[[str], str],
    ) -> None:
        self.info = info
        self.request = _request(shell)
        self.thread = threading.get_ident()
        self.closed = False
        self._shell = shell
        self._below = below
        self._waits = waits
        self._looked = time.monotonic()
        self._publisher = shell.display_pub
        self._lock = threading.RLock()
        self._roots: list[str] = []  # the service that each call is of
        self._open: dict[str, _Open] = {}  # the calls under way, by trace
        self._pages: dict[object, _Page] = {self._publisher: _Page(None)}  # by the publisher of their displays
        self._page_of: list[_Page] = []  # that each call is on

    # -- from any thread

    def begin(self, service: str, trace: str) -> bool:
        """Note that a call begins. Return False once the cell has ended."""
        with self._lock:
            if self.closed:
                return False
            if trace in self._open:
                self._open[trace].count += 1
            else:
                self._open[trace] = _Open(service, len(self._roots), time.monotonic())
                self._roots.append(service)
                self._page_of.append(self._page())
            return True

    def end(self, trace: str) -> None:
        """Note that a call has ended: what is written on its behalf from now on is not shown."""
        with self._lock:
            self._open[trace].count -= 1
            if not self._open[trace].count:
                del self._open[trace]

    def take(self, service: str, written: Written) -> None:
        """Take what a replica writes, where that is on behalf of a call under way."""
        with self._lock:
            numbers = [self._open[trace].number for trace in written.line.traces if trace in self._open]
            if numbers and not self.closed:
                page = self._page_of[min(numbers)]
                page.blocks.setdefault(service, _Block()).put(min(numbers), written)
                page.changed = True

    def _page(self) -> _Page:
        """Return the page of a call that begins now."""
        publisher = self._shell.display_pub
        captured = Captured.of(publisher) if publisher is not self._publisher else None
        if captured is None:
            return self._pages[self._publisher]
        return self._pages.setdefault(publisher, _Page(captured))

    # -- on the cell's own thread; what is captured, from any thread

    def draw(self) -> None:
        """Show what is new, at once for the first time, and what calls wait for."""
        if threading.get_ident() == self.thread:
            self._look()
        with self._lock:
            for page in self._pages.values() if not self.closed else ():
                if page.changed:
                    self._draw(page)

    def _look(self) -> None:
        """See what calls wait for that have been under way for `PATIENT` seconds."""
        now = time.monotonic()
        if now - self._looked < PATIENT / 4:
            return
        self._looked = now
        with self._lock:
            late = dict.fromkeys(call.service for call in self._open.values() if now - call.since >= PATIENT)
        waiting = [why for service in late if (why := self._waits(service))]
        page = self._pages.get(self._publisher)
        if page is not None and waiting != page.waiting:
            page.waiting, page.changed = waiting, True

    def _draw(self, page: _Page) -> None:
        if page.captured is not None:
            page.captured.show(self._bundle(page))  # always as it is now: the cell may look at it
            return
        if threading.get_ident() != self.thread:
            return
        if page.display is None:
            page.display = LiveDisplay(self._shell, self._publisher)
            page.display.show(self._bundle(page))
        elif time.monotonic() - page.drawn < PERIOD:
            return
        else:
            page.display.update(self._bundle(page))
        page.drawn = time.monotonic()

    def close(self) -> None:
        """Show all that belongs to the cell, which has ended: not what calls have written that it did not wait for."""
        with self._lock:
            self.closed = True
            unfinished = {call.number for call in self._open.values()}
            for page in self._pages.values():
                page.waiting = []
                for block in page.blocks.values():
                    block.drop(unfinished)
        for page in self._pages.values():
            bundle = self._bundle(page)
            if page.captured is not None:
                page.captured.show(bundle)
            elif page.display is not None or bundle["text/plain"]:
                (page.display or LiveDisplay(self._shell, self._publisher)).finish(bundle)
        self._pages.clear()

    def _bundle(self, page: _Page) -> Bundle:
        with self._lock:
            page.changed = False
            found = {name: block.shown() for name, block in page.blocks.items()}
            firsts = {name: lines[0][0].call for name, (lines, _) in found.items() if lines}
        plain, html = [], []
        for name in sorted(firsts, key=lambda n: (firsts[n], self._rank(self._roots[firsts[n]], n))):
            lines, missing = found[name]
            texts = [(self._text(text), level) for _, level, text in lines]
            if missing:
                more = f"… {missing:,} more line{'' if missing == 1 else 's'}: %services logs {name}"
                texts.insert(FIRST, (more, ""))
            plain.append("\n".join([f"{name}:", *(f"  {text}".rstrip() for text, _ in texts)]))
            body = "\n".join(_colored(text, level) for text, level in texts)
            title = f'<div style="color:#808080">{escape(name)}</div>'
            html.append(f'<div style="{_BLOCK}">{title}<pre style="{_TEXT}">{body}</pre></div>')
        for why in page.waiting:
            plain.append(why)
            html.append(f'<div style="color:#808080">{escape(why)}</div>')
        return {"text/plain": "\n".join(plain), "text/html": "".join(html)}

    def _rank(self, root: str, name: str) -> tuple[int, str]:
        """Return where a service stands among those that a call of `root` reaches."""
        reached = [root, *self._below(root)]
        return (reached.index(name) if name in reached else len(reached)), name

    def _text(self, text: str) -> str:
        text = cell_names(plain_text(text), self._shell)
        return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _colored(text: str, level: str) -> str:
    number = severity(level)
    color = next((c for name, c in reversed(_COLORS.items()) if number >= severity(name)), "")
    return f'<span style="color:{color}">{escape(text)}</span>' if color else escape(text)


def _request(shell: InteractiveShell) -> str:
    return str(request_of(shell).get("header", {}).get("msg_id", ""))


# The cell that runs, in its thread and its tasks.
_running: ContextVar[CellRun | None] = ContextVar("nbcompose_cell", default=None)


class CellOutputs:
    """Shows what services write under the cells that call them, while it is `enabled`."""

    def __init__(self, shell: InteractiveShell, registry: Registry) -> None:
        self._shell = shell
        self._registry = registry
        self._runs: list[CellRun] = []
        self.enabled = False

    def enable(self, on: bool) -> None:
        """Show output under cells from now on, or leave it in the logs."""
        self.enabled = on
        self._registry.hear_output(self._take if on else None)
        self._registry.portal.meanwhile = self.draw if on else lambda: None

    # -- on the main thread, or that of a subshell

    def cell_begins(self, info: object = None) -> None:
        """Take the calls of the cell that begins. One that runs in another, by %run for instance, is part of that."""
        outer = _running.get()
        if outer is not None and not outer.closed and outer.request == _request(self._shell):
            return
        run = CellRun(self._shell, info, self._below, self._waits)
        self._runs.append(run)
        _running.set(run)

    def cell_ends(self, info: object = None) -> None:
        """Show all that belongs to the cell that ends."""
        thread = threading.get_ident()
        for run in [r for r in self._runs if r.thread == thread and (info is None or r.info in (None, info))]:
            self._runs.remove(run)
            run.close()

    def draw(self) -> None:
        """Show what is new under the cell that this belongs to, in whose context the display is filed under it."""
        run = _running.get()
        if run is not None:
            run.draw()

    def _below(self, name: str) -> list[str]:
        """Return the services below another one, in the order of their declarations."""
        found: dict[str, None] = {}

        def look(service: str) -> None:
            deployment = self._registry.deployment(service)
            for dependency in deployment.spec.dependencies if deployment is not None else ():
                if dependency.url is None and dependency.service not in found:
                    found[dependency.service] = None
                    look(dependency.service)

        look(name)
        return list(found)

    def _waits(self, name: str) -> str:
        """Return why a call of a service gets no answer yet; "" where nothing is known that it waits for."""
        try:
            status = self._registry.status(name)
        except UnknownService:
            return ""
        if status.state == "ready":
            trouble = "; ".join(status.trouble(in_cell=True))
            # At a breakpoint it is the prompt that ends the wait; where that is in this cell, ■ detaches the debugger.
            way = "" if any(r.stopped_at for r in status.replicas) else "; ■ gives the call up"
            return f"{name}: {trouble}{way}" if trouble else ""
        running = self._registry.names()
        missing = [n for n in status.waits_for if n not in running]
        what = status.reason if status.state == "waiting" or status.restarts else progress(status)
        if missing:
            meant = list(filter(None, (near_word(n, running) for n in missing)))
            hint = f": did you mean {' and '.join(meant)}?" if meant else ""
            what = f"waiting for {', '.join(status.waits_for)}"
            what += f" ({' and '.join(missing)} {'does' if len(missing) == 1 else 'do'} not run{hint})"
        return f"{name} is {what if status.state == 'waiting' else f'{status.state}: {what}'}; ■ gives the call up"

    # -- from any thread

    def begin(self, service: str, context: CallContext) -> CellRun | None:
        """Return the cell that waits for a call, which begins here; None where no cell is to show its output."""
        run = _running.get() if self.enabled else None
        return run if run is not None and run.begin(service, f"{context.trace_id:032x}") else None

    @property
    def shows(self) -> bool:
        """Whether a call that began here would be shown."""
        run = _running.get() if self.enabled else None
        return run is not None and not run.closed

    def _take(self, service: str, written: Written) -> None:
        for run in self._runs:
            run.take(service, written)


class ShownTransport(SocketTransport):
    """A `Transport` whose answers wait for what was written before them, where a cell shows that."""

    def __init__(self, service: str, registry: Registry, outputs: CellOutputs) -> None:
        super().__init__(service, registry.client, registry.portal)
        self._registry = registry
        self._outputs = outputs

    def _call(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> Coroutine[Any, Any, Any]:
        run = self._outputs.begin(self.service, context)
        if run is None:
            return super()._call(api, args, kwargs, context)
        return self._shown(run, api, args, kwargs, context)

    async def _shown(self, run: CellRun, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> Any:
        with self._showing(run, context):
            try:
                return await super()._call(api, args, kwargs, context)
            finally:
                await self._registry.drain()

    def _wait(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> Any:
        __tracebackhide__ = True
        if self._outputs.shows:
            return super(SocketTransport, self)._wait(api, args, kwargs, context)
        return super()._wait(api, args, kwargs, context)

    def _stream(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> AsyncGenerator[Any, None]:
        run = self._outputs.begin(self.service, context)
        if run is None:
            return super()._stream(api, args, kwargs, context)
        return self._shown_items(run, api, args, kwargs, context)

    async def _shown_items(
        self, run: CellRun, api: str, args: Args, kwargs: Kwargs, context: CallContext
    ) -> AsyncGenerator[Any, None]:
        with self._showing(run, context):
            async with contextlib.aclosing(super()._stream(api, args, kwargs, context)) as items:
                try:
                    async for item in items:
                        await self._registry.drain()
                        yield item
                finally:
                    await self._registry.drain()

    @contextlib.contextmanager
    def _showing(self, run: CellRun, context: CallContext) -> Iterator[None]:
        try:
            yield
        finally:
            run.end(f"{context.trace_id:032x}")
