"""A debugger in a replica: pdb, whose prompt is at the other end of a socket. Imported when one is attached.

The socket has a thread and an event loop of its own, since an async api that is at a breakpoint stops the replica's.
Messages are notes of a `Connection`. To the owner: stopped (where), prompt (text), output (text), resumed, quit, heard
(an `any`). From it: line (what was typed), any (whether the next call of any api is to be stopped at), detach. A closed
connection detaches too.

pdb runs in the thread of the call, one thread at a time: each thread has a `_Pdb`, and all share their breakpoints.
"""

from __future__ import annotations

import asyncio
import bdb
import contextlib
import functools
import inspect
import io
import os
import pdb
import queue
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from types import CodeType, FrameType, TracebackType
from typing import IO, Any, cast

from nbcompose._protocol import address
from nbcompose._replica.chat_api import COMPLETIONS
from nbcompose._replica.hot_swap import Api, Code
from nbcompose._replica.instance import Runtime
from nbcompose._replica.terminal import terminal, where
from nbcompose._rpc import Connection, IncomingCall, LoopThread, serve
from nbcompose._tracing import clock

CONNECT_WITHIN = 10.0  # seconds that the owner has to connect
NOT_HERE = "not at this prompt: the code runs in a replica"
# What carries a call: stepping does not stop there, and it is not shown in the stack.
_CARRIERS = (
    "nbcompose", "nbcompose.*", "asyncio", "asyncio.*", "bdb", "cmd", "concurrent.*", "contextlib", "importlib*", "pdb",
    "threading",
)  # fmt: skip
_arming = threading.Lock()  # what is put in place, and taken back, is the whole process's
HOLDER = "the debugger of this replica"


class Debugger:
    """The debugger of a replica: stops at the `next_call`, at breakpoints, and with `post_mortem` where an api raises.

    `attach` is called on the replica's loop, once; what comes then happens on the debugger's own, and in the threads of
    calls.
    """

    def __init__(self, runtime: Runtime, next_call: bool, post_mortem: bool) -> None:
        self.runtime = runtime
        self.breaks: dict[str, Any] = {}  # those of bdb, by file
        self.attached = True
        self._post_mortem = post_mortem
        self._any = next_call  # the next call is stopped at, whatever its api
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._turn = threading.Lock()
        self._of_threads = threading.local()
        self._thread = LoopThread("nbcompose-debugger")
        self._server: asyncio.Server | None = None
        self._connection: Connection | None = None
        self._unsent: list[tuple[str, Any]] = []  # until the owner has connected

    # -- on the replica's loop

    async def attach(self) -> str:
        """Attach; return the address of the prompt."""
        self._thread.start()
        found = await self._thread.join(self._listen())
        with _arming:
            self._watch(self.runtime.code)
            self.runtime.on_code = self._watch
            terminal.debugger = self
        return found

    def _watch(self, code: Code) -> None:
        for api in code.apis.values():
            if api.spec is not COMPLETIONS:  # which has no code of the user's
                api.method = _watched(self, api)

    # -- on the debugger's loop

    async def _listen(self) -> str:
        where_ = address.fresh(f"nbcompose.debug.{os.getpid()}")
        listening = address.listen(where_)
        self._server = await serve(listening, "the debugger's owner", self, self._opened, lambda _: self.detach())
        asyncio.get_running_loop().call_later(CONNECT_WITHIN, self._give_up)
        return where_

    def _give_up(self) -> None:
        if self._connection is None:
            self.detach()

    def _opened(self, connection: Connection) -> None:
        if self._connection is not None:
            connection.close()
            return
        self._connection = connection
        for topic, value in self._unsent:
            connection.note(topic, value)

    def on_call(self, call: IncomingCall) -> None:
        call.fail(LookupError(f"a debugger has no {call.api}"))

    def on_note(self, topic: str, value: Any) -> None:
        if topic == "line":
            self._lines.put(value)
        elif topic == "any":
            self._any = value
            self.note("heard", None)
        elif topic == "detach":
            self.detach()

    def detach(self) -> None:
        """Take everything back; a call at a breakpoint goes on. From any thread."""
        with _arming:
            if not self.attached:
                return
            terminal.debugger = None
            self.runtime.on_code = lambda _: None
            for api in self.runtime.code.apis.values():
                api.method = inspect.unwrap(api.method, stop=lambda f: not hasattr(f, "_is_watched"))
            self.breaks.clear()
            bdb.Breakpoint.clearBreakpoints()
            self.attached = False
        self._lines.put(None)
        self._thread.loop.call_soon_threadsafe(self._close, self._thread.loop)

    def _close(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._server is not None:
            self._server.close()
        if self._connection is not None:
            self._connection.close()
        loop.call_later(0.05, loop.stop)  # once what was written has been sent

    # -- in the threads of calls

    def stop(self, frame: FrameType) -> None:
        """Stop where `frame` goes on: `breakpoint()`, `pdb.set_trace()`."""
        self._of_thread().set_trace(frame)

    def begins(self, code: CodeType | None) -> None:
        """Look out for breakpoints in a call that begins; `code` is what its api runs."""
        if not self.attached or not (self._any or self.breaks):
            return
        debugger = self._of_thread()
        if self._any:
            debugger.target = code
        debugger.look_out()

    def ends(self, on_loop: bool) -> None:
        """The call is over: what was stepped through has no further line. On the loop other calls go on."""
        debugger = getattr(self._of_threads, "pdb", None)
        if debugger is not None:
            debugger.target = None
            if debugger.stopframe is None:
                debugger.set_continue()
            if not on_loop:
                sys.settrace(None)

    def failed(self, error: Exception) -> None:
        """Stop where an api raised `error`, before its caller is told."""
        if self.attached and self._post_mortem:
            debugger = self._of_thread()
            debugger.reset()
            debugger.message(f"{type(error).__name__}: {error}")
            debugger.interaction(None, error.__traceback__)
            debugger.set_continue()

    def _of_thread(self) -> _Pdb:
        debugger = getattr(self._of_threads, "pdb", None)
        if debugger is None:
            debugger = self._of_threads.pdb = _Pdb(self)
        return debugger

    @contextlib.contextmanager
    def at(self, place: str) -> Iterator[None]:
        """Be at a breakpoint: one thread at a time, while no deadline passes."""
        thread = threading.get_ident()
        clock.hold(HOLDER)
        self.runtime.halt(thread)
        try:
            with self._turn:
                self._any = False
                self.note("stopped", place)
                yield
                self.note("resumed", None)
        finally:
            if self.runtime.go_on(thread):
                clock.release(HOLDER)

    def note(self, topic: str, value: Any) -> None:
        """Tell the owner."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._thread.loop.call_soon_threadsafe(self._send, topic, value)

    def _send(self, topic: str, value: Any) -> None:
        if self._connection is not None:
            self._connection.note(topic, value)
        else:
            self._unsent.append((topic, value))

    def ask(self, text: str) -> str:
        """Show `text`, whose last line is the prompt, and wait for what is typed."""
        if self.attached:
            self.note("prompt", text)
        line = self._lines.get()
        if line is None:
            self._lines.put(None)  # for the next question: nobody answers any more
            return "continue\n"
        return line + "\n"


class _Console(io.TextIOBase):
    """What pdb reads from and writes to."""

    def __init__(self, debugger: Debugger) -> None:
        self._debugger = debugger
        self._written: list[str] = []

    def write(self, text: str, /) -> int:
        self._written.append(text)
        return len(text)

    def taken(self) -> str:
        text = "".join(self._written)
        self._written.clear()
        return text

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]
        return self._debugger.ask(self.taken())


class _Pdb(pdb.Pdb):
    """pdb for one thread of the replica. `target`: the code of an api that is to be stopped at when it begins."""

    def __init__(self, debugger: Debugger) -> None:
        self._console = _Console(debugger)
        console = cast(IO[str], self._console)  # all of it that pdb uses
        super().__init__(stdin=console, stdout=console, skip=_CARRIERS, nosigint=True, readrc=False)
        self.use_rawinput = False
        self.target: CodeType | None = None
        self.breaks = debugger.breaks
        self._debugger = debugger

    # -- what is stopped at

    def look_out(self) -> None:
        """Stop at breakpoints of what this thread runs from here on, and at the target."""
        if sys.gettrace() == self.trace_dispatch and self.stoplineno != -1:
            return  # somebody steps through another call of this thread
        self.reset()
        self.botframe = sys._getframe()
        self.set_until_breakpoint()
        sys.settrace(self.trace_dispatch)

    def set_until_breakpoint(self) -> None:
        """As `set_continue`, but go on tracing where there is no breakpoint yet."""
        self._set_stopinfo(self.botframe, None, -1)  # type: ignore[attr-defined]  # undocumented, since Python 3.0

    def trace_dispatch(self, frame: FrameType, event: str, arg: Any) -> Any:
        if not self._debugger.attached:
            sys.settrace(None)
            return None
        return super().trace_dispatch(frame, event, arg)

    def stop_here(self, frame: FrameType) -> bool:
        return frame.f_code is self.target or super().stop_here(frame)

    def user_call(self, frame: FrameType, argument_list: Any) -> None:
        if self.target is None:
            super().user_call(frame, argument_list)

    def user_line(self, frame: FrameType) -> None:
        self.target = None
        super().user_line(frame)

    def set_trace(self, frame: FrameType | None = None, **_: Any) -> None:
        bdb.Bdb.set_trace(self, frame)

    # -- the prompt

    def interaction(self, frame: FrameType | None, *args: Any) -> None:
        shown = frame if frame is not None else _last(args[0]).tb_frame
        with self._debugger.at(where(shown)):
            if self._debugger.attached:
                super().interaction(frame, *args)
            else:
                self.set_continue()
            if text := self._console.taken():
                self._debugger.note("output", text)

    def get_stack(self, f: FrameType | None, t: TracebackType | None) -> tuple[list[tuple[FrameType, int]], int]:
        """The frames of the call, without those that carry it."""
        stack, _ = super().get_stack(f, t)
        modules = [str(frame.f_globals.get("__name__")) for frame, _ in stack]
        inner = next((i for i in reversed(range(len(stack))) if not self.is_skipped_module(modules[i])), -1)
        carrier = next((i for i in reversed(range(max(inner, 0))) if modules[i].startswith("nbcompose.")), -1)
        users = [stack[i] for i in range(carrier + 1, inner + 1) if not self.is_skipped_module(modules[i])]
        users = users or stack[-1:]
        return users, len(users) - 1

    def format_stack_entry(self, frame_lineno: tuple[FrameType, int], lprefix: str = ": ") -> str:
        frame, line = frame_lineno
        text = super().format_stack_entry(frame_lineno, lprefix)
        _, separator, source = text.partition(lprefix)
        name = frame.f_code.co_qualname
        return f'File "{frame.f_code.co_filename}", line {line}, in {name}{separator}{source}'

    def do_quit(self, arg: str) -> bool:
        """q(uit): detach the debugger; the call goes on."""
        self._debugger.note("quit", None)
        self._debugger.detach()
        self.set_continue()
        return True

    do_q = do_exit = do_EOF = do_quit  # noqa: N815  pdb's names

    def do_interact(self, arg: str) -> None:
        """interact: not at this prompt."""
        self.error(NOT_HERE)

    do_run = do_restart = do_interact


def _last(traceback: TracebackType) -> TracebackType:
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback


def _watched(debugger: Debugger, api: Api) -> Callable[..., Any]:
    """Return the api's method, which tells the debugger when it begins and ends."""
    method, spec = api.method, api.spec
    code = getattr(inspect.unwrap(method), "__code__", None)
    made: Callable[..., Any]

    @contextlib.contextmanager
    def seen() -> Iterator[None]:
        try:
            yield
        except Exception as error:
            debugger.failed(error)
            raise
        finally:
            debugger.ends(spec.is_async)

    if spec.is_async and spec.stream:

        async def made(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            with seen():
                debugger.begins(code)
                async with contextlib.aclosing(method(*args, **kwargs)) as items:
                    async for item in items:
                        yield item

    elif spec.is_async:

        async def made(*args: Any, **kwargs: Any) -> Any:
            with seen():
                debugger.begins(code)
                return await method(*args, **kwargs)

    elif spec.stream:

        def made(*args: Any, **kwargs: Any) -> Iterator[Any]:
            with seen():
                debugger.begins(code)
                yield from method(*args, **kwargs)

    else:

        def made(*args: Any, **kwargs: Any) -> Any:
            with seen():
                debugger.begins(code)
                return method(*args, **kwargs)

    made = functools.wraps(method)(made)
    made._is_watched = True  # type: ignore[attr-defined]
    return made
