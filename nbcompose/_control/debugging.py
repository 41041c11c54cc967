"""Debugger of a service, at its owner: one prompt for all replicas of it, and the person who types there.

The replicas' side is `_replica/debugging.py`. `Debugging` is used on the registry's loop, `Prompt` in the main thread
of a notebook or of `nbcompose debug`.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import psutil

from nbcompose._control.replica_handle import ReplicaHandle
from nbcompose._replica import Listening
from nbcompose._rpc import SLICE, Connection, IncomingCall, open_connection

UNHEARD = 2.0  # seconds after which it is said that nobody comes to a prompt
SETTLE = 0.1  # seconds after which a replica that goes on is no longer at a breakpoint: `n` stops again at once
HEAR_WITHIN = 1.0  # seconds that the other replicas have to hear that one has stopped; one in a long C call does not
UNHEARD_TEXT = (
    "a call stands at a breakpoint, and the main thread, where the prompt would be, waits for something else: make the "
    "call there, and not in another thread; ■ (Ctrl-C) detaches, and the call goes on"
)
_HELP = "n: next line, s: step in, c: continue, p NAME: print, b LINE: breakpoint, w: stack, l: source, q: detach"

# What is shown, and the prompt at which a line is wanted; None: no line is wanted.
Say = Callable[[str, str | None], object]


class Debugging:
    """A debugger that is attached to replicas of one service.

    `say` shows something, `over` is called once when no replica is attached any more, `changed` when one is at a
    breakpoint or goes on. `text` is applied to what is shown.
    """

    def __init__(
        self, say: Say, over: Callable[[], object], changed: Callable[[], object], text: Callable[[str], str]
    ) -> None:
        self._say = say
        self._over = over
        self._changed = changed
        self._text = text
        self._replicas: list[_Attached] = []
        self._has_stopped = False  # one of them, at its next call or elsewhere; after that none stops at its next call
        self._unheard: set[_Attached] = set()  # those that may not have heard that yet
        self._at_prompt: _Attached | None = None
        self._waiting: deque[_Attached] = deque()
        self._none = asyncio.Event()  # no replica is attached any more

    async def attach(self, members: Sequence[ReplicaHandle], *, next_call: bool, post_mortem: bool) -> None:
        """Attach to these replicas. Raises `NbcomposeError` where another debugger is, and then to none of them."""
        try:
            for member in members:
                attached = _Attached(self, member)
                await attached.open(next_call and not self._has_stopped, post_mortem)
                self._replicas.append(attached)
                if self._has_stopped:  # another one, meanwhile
                    self._tell_stopped([attached])
        except BaseException:
            self.detach()
            if self._replicas:
                await self._none.wait()
            raise

    @staticmethod
    def greeting(service: str, *, post_mortem: bool) -> str:
        """Return what a person is told who waits for a prompt."""
        what = "where one of its apis raises" if post_mortem else "at its next call and at breakpoints"
        return f"{service} stops {what}, whoever calls; an interrupt (■, Ctrl-C) detaches\n{_HELP}"

    def answer(self, line: str) -> None:
        """Pass on what was typed at the prompt."""
        if self._at_prompt is not None:
            self._at_prompt.tell("line", line)

    def detach(self) -> None:
        """Detach from all replicas: calls at breakpoints go on."""
        for attached in list(self._replicas):
            attached.close()

    # -- called by `_Attached`

    def stopped(self, attached: _Attached) -> None:
        if not self._has_stopped:
            self._has_stopped = True
            self._tell_stopped([other for other in self._replicas if other is not attached])
        self._changed()

    def _tell_stopped(self, others: Iterable[_Attached]) -> None:
        """Have these replicas not stop at their next call. No prompt is shown before they have heard it: else a call
        that is made at the prompt could reach them first.
        """
        for other in others:
            self._unheard.add(other)
            other.tell("any", False)
            asyncio.get_running_loop().call_later(HEAR_WITHIN, self.heard, other)

    def heard(self, attached: _Attached) -> None:
        self._unheard.discard(attached)
        self._show_next()

    def asked(self, attached: _Attached, text: str) -> None:
        """Show a prompt; that of another replica waits until the present one has gone on."""
        attached.asks = text
        if self._at_prompt is attached:
            self._show(attached)
        elif attached not in self._waiting:
            self._waiting.append(attached)
            self._show_next()

    def _show_next(self) -> None:
        if self._at_prompt is None and self._waiting and not self._unheard:
            self._show(self._waiting.popleft())

    def _show(self, attached: _Attached) -> None:
        text, _, prompt = (attached.asks or "").rpartition("\n")
        if self._at_prompt is not attached and len(self._replicas) > 1:
            text = f"{attached.member.name}:\n{text}"
        self._at_prompt = attached
        self.wrote(text, prompt)

    def wrote(self, text: str, prompt: str | None = None) -> None:
        self._say(self._text(text), prompt)

    def goes_on(self, attached: _Attached) -> None:
        if attached in self._waiting:
            self._waiting.remove(attached)
        if self._at_prompt is attached:
            self._at_prompt = None
            self._show_next()
        self._changed()

    def closed(self, attached: _Attached) -> None:
        if attached in self._replicas:
            self._replicas.remove(attached)
            self._unheard.discard(attached)
            self.goes_on(attached)
            self._show_next()
            if not self._replicas:
                self._none.set()
                self._over()


class _Attached:
    """One replica that the debugger is attached to. `asks`: what it has shown last, with its prompt."""

    def __init__(self, session: Debugging, member: ReplicaHandle) -> None:
        self.member = member
        self.asks = ""
        self._session = session
        self._connection: Connection | None = None
        self._settling: asyncio.TimerHandle | None = None

    async def open(self, next_call: bool, post_mortem: bool) -> None:
        where = await self.member.ask("debug", next_call, post_mortem)
        self._connection = await open_connection(where, f"the debugger of {self.member.name}", self, self._lost)
        self.member.detach = self.close

    def tell(self, topic: str, value: Any) -> None:
        if self._connection is not None:
            self._connection.note(topic, value)

    def close(self) -> None:
        """Detach; the replica closes the connection."""
        self.tell("detach", None)

    def on_call(self, call: IncomingCall) -> None:
        call.fail(LookupError(f"a debugger's owner has no {call.api}"))

    def on_note(self, topic: str, value: Any) -> None:
        if topic == "heard":
            self._session.heard(self)
        elif topic == "stopped":
            self._stay()
            self.member.stopped_at = value
            self._session.stopped(self)
        elif topic == "prompt":
            self._session.asked(self, value)
        elif topic == "output":
            self._session.wrote(value)
        elif topic == "resumed":
            self._stay()
            self._settling = asyncio.get_running_loop().call_later(SETTLE, self._go_on)
        elif topic == "quit":
            self._session.detach()

    def _stay(self) -> None:
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None

    def _go_on(self) -> None:
        self.member.stopped_at = ""
        self._session.goes_on(self)

    def _lost(self, _: Connection) -> None:
        self._stay()
        self.member.stopped_at = ""
        self.member.detach = lambda: None
        self._session.closed(self)


class Prompt:
    """The person at the keyboard: what the debugger says is shown, and what is typed at its prompt is passed on.

    `say` and `over` may be called from any thread, `serve` and `run` in the main thread only, where `ask` may wait for
    a line. An interrupt (■, Ctrl-C) there detaches.
    """

    def __init__(self, ask: Callable[[str], str] = input, show: Callable[[str], object] = print) -> None:
        self.answer: Callable[[str], object] = lambda _: None
        self.detach: Callable[[], object] = lambda: None
        self._ask = ask
        self._show = show
        self._said: queue.SimpleQueue[tuple[str, str | None] | None] = queue.SimpleQueue()
        self._served = time.monotonic()
        self._is_over = self._leaves = False

    def say(self, text: str, prompt: str | None) -> None:
        self._said.put((text, prompt))
        if prompt is not None:
            watch = threading.Timer(UNHEARD, self._check, [time.monotonic()])
            watch.daemon = True
            watch.start()

    def _check(self, said: float) -> None:
        """Say so where the main thread waits for something else, such as another thread that has made the call."""
        if self._served < said and not self._is_over:
            self._show(UNHEARD_TEXT)

    def over(self) -> None:
        self._said.put(None)

    def run(self) -> None:
        """Serve until nothing is attached any more."""
        while not self._is_over:
            try:
                self.serve(SLICE)
            except KeyboardInterrupt:
                self._interrupted()

    def serve(self, wait: float = 0.0) -> None:
        """Show what was said, and pass on what is typed, until nothing more is said for `wait` seconds."""
        self._served = time.monotonic()
        while not self._is_over:
            try:
                said = self._said.get(timeout=wait) if wait else self._said.get_nowait()
            except queue.Empty:
                return
            if said is None:
                self._is_over = True
            else:
                self._take(*said)

    def _take(self, text: str, prompt: str | None) -> None:
        if text:
            self._show(text)
        if prompt is None or self._leaves:
            return
        try:
            line = self._ask(prompt)
        except KeyboardInterrupt:
            self._interrupted()
        except Exception as error:  # EOFError, or a front end that takes no input
            if not isinstance(error, EOFError):
                self._show(f"nobody can type here ({error})")
            self._interrupted()
        else:
            self.answer(line)

    def _interrupted(self) -> None:
        self._show("detached: what was at a breakpoint goes on")
        self.leave()

    def leave(self) -> None:
        """Detach. It is over a moment later."""
        self._leaves = True
        self.detach()


WARNING = (
    "{service}, replica {replica}, listens on 127.0.0.1:{port}. Until it is detached, any user of this machine could "
    "attach there, and run code as you. Deadlines of calls that may wait for it stand still. Detach: {detach}"
)
SNIPPET = """In .vscode/launch.json:
{{"name": "{service}", "type": "debugpy", "request": "attach", "connect": {{"host": "127.0.0.1", "port": {port}}}}}"""


class Debugpy:
    """A replica that clients of debugpy, such as VS Code, may attach to. On the registry's loop."""

    def __init__(self, member: ReplicaHandle, changed: Callable[[], object]) -> None:
        self._member = member
        self._changed = changed
        self._listening: Listening | None = None

    @property
    def is_open(self) -> bool:
        return self._listening is not None and self._member.state == "up"

    async def listen(self, port: int, detach: str) -> str:
        """Open the port (0: any free one). Returns what the user has to know."""
        listening = self._listening = await self._member.ask("debugpy", port)
        self._member.stopped_at = f"debugpy, 127.0.0.1:{listening.port}"
        self._member.detach = self._end_adapter
        self._changed()
        names = {"service": self._member.launch.spec.name, "replica": self._member.index, "port": listening.port}
        return f"{WARNING.format(**names, detach=detach)}\n{SNIPPET.format(**names)}"

    async def close(self) -> None:
        """Detach, and close the port; calls at breakpoints go on."""
        await asyncio.to_thread(self._end_adapter)
        self._member.stopped_at, self._member.detach = "", lambda: None
        self._changed()
        with contextlib.suppress(ConnectionError):  # the replica has ended
            await self._member.ask("debugpy", None)

    def _end_adapter(self) -> None:
        """End the process that listens; whatever it has suspended goes on, the replica's loop too."""
        listening, self._listening = self._listening, None
        if listening is None:
            return
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(listening.pid)
            if any(
                c.laddr and c.laddr[1] == listening.port for c in process.net_connections("tcp")
            ):  # and no later process
                process.kill()
                process.wait()
