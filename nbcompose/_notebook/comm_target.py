"""Answering front ends over comms of the kernel: where their Jupyter server does not see this process.

Such a kernel runs on another machine or in another container. What is asked is answered as it is on the private socket
(`_control/operations.py`), but nothing that has a token in it: a comm goes through the server of the front end, and is
heard by all front ends of the kernel.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nbcompose._ipython_adapter import comm_manager, receive_where_asked, registered_comm
from nbcompose._notebook.item_groups import ItemGroups
from nbcompose._protocol import Answer, Events, Requests, greeting_problem, messages, wire
from nbcompose._rpc import background
from nbcompose.errors import ProtocolError

if TYPE_CHECKING:
    from nbcompose._notebook.session import Session

TARGET = "nbcompose"
LEASE = 60.0  # seconds that a front end is answered which has gone without a word; others renew it by `look`
MOST = 32  # front ends at once

# As `PASSED_ON` of `_jupyter/watching.py`: not `reach`, which has tokens, nor the debugger.
Asked = (
    messages.HelloRequest
    | messages.Look
    | messages.WatchRequest
    | messages.FormRequest
    | messages.Call
    | messages.Cancel
    | messages.LogsRequest
    | messages.TracesRequest
    | messages.TraceRequest
    | messages.RecordedRequest
    | messages.ForgetRequest
    | messages.HistoryRequest
    | messages.Act
    | messages.Scale
    | messages.ProfileRequest
    | messages.PlanRequest
)


class CommTarget:
    """Answers front ends that open comms of the target `nbcompose`, until it is closed.

    A front end finds out by `comm_info` whether there is such a target: one comm of it is registered that nobody has
    opened. To open one of a target that is missing would leave an error in the kernel's log.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._manager = comm_manager(session.shell)
        self._mark: Any = None
        self._lock = threading.Lock()
        self._clients: set[_Client] = set()

    def open(self) -> None:
        """Begin to answer; without a kernel there is nobody to be answered."""
        if self._manager is not None and self._mark is None:
            self._manager.register_target(TARGET, self._opened)
            self._mark = registered_comm(self._manager, TARGET)

    def close(self) -> None:
        """Close all comms, and answer no more. Callable from any thread except the registry's loop."""
        if self._mark is None:
            return
        self._manager.unregister_target(TARGET, self._opened)
        self._manager.unregister_comm(self._mark)
        self._mark = None
        with self._lock:
            clients = list(self._clients)
        for client in clients:
            client.close_soon()

    def _opened(self, comm: Any, message: Mapping[str, Any]) -> None:
        """Take a comm that a front end has opened. Called on the main thread, or that of a subshell."""
        receive_where_asked(comm)
        client = _Client(self._session, comm, self._forget)
        with self._lock:
            is_full = len(self._clients) >= MOST
            self._clients.add(client)
        problem = f"{MOST} front ends are answered already: close some pages" if is_full else ""
        client.greet_soon(_data(message), problem)

    def _forget(self, client: _Client) -> None:
        with self._lock:
            self._clients.discard(client)


class _Client:
    """One front end: `hello` comes with the opening of the comm, then requests."""

    def __init__(self, session: Session, comm: Any, forget: Any) -> None:
        self._session = session
        self._comm = comm
        self._forget = forget
        self._closed = False
        self._heard = time.monotonic()
        self._groups = ItemGroups(self._tell)
        operations = session.registry.operations
        answers: dict[str, Answer] = {**operations.answers(Asked), "look": self._look}
        self._requests = Requests(answers, Asked, self._groups.put, text=operations.context.text)
        comm.on_msg(lambda message: background().spawn(lambda: self._receive(_data(message))))
        comm.on_close(lambda _: background().spawn(self._leave))

    def greet_soon(self, hello: Any, problem: str) -> None:
        background().spawn(lambda: self._greet(hello, problem))

    def close_soon(self) -> None:
        background().spawn(self._close)

    # -- on the registry's loop

    async def _greet(self, hello: Any, problem: str) -> None:
        problem = problem or (greeting_problem(hello) if isinstance(hello, dict) else "the first message is hello")
        if problem:
            named = hello.get("id") if isinstance(hello, dict) else None
            told = {"id": named if isinstance(named, str) else None, "action": "hello", "seconds": 0.0}
            self._tell({"type": "failed", **told, **wire.failure(ProtocolError(problem))})
            await self._close()
            return
        self._requests.receive(hello)
        self._expect()

    async def _receive(self, message: Any) -> None:
        self._heard = time.monotonic()
        if not self._closed and isinstance(message, dict):
            self._requests.receive(message)

    async def _look(self, message: messages.Look, events: Events) -> dict[str, Any]:
        return {"type": "here"}

    def _expect(self) -> None:
        """Close where nothing has been heard for long. While a cell runs, kernels without subshells hear nothing."""
        if self._closed:
            return
        if self._session.cell_runs:
            self._heard = time.monotonic()
        left = self._heard + LEASE - time.monotonic()
        if left <= 0:
            background().spawn(self._close)
        else:
            asyncio.get_running_loop().call_later(left, self._expect)

    async def _close(self) -> None:
        if not self._closed:
            await self._leave()
            self._comm.close()

    async def _leave(self) -> None:
        """The front end has gone: what it has asked for is cancelled."""
        self._closed = True
        self._forget(self)
        await self._requests.close()

    def _tell(self, message: Mapping[str, Any]) -> None:
        if self._closed:
            return
        try:
            self._comm.send(dict(message))
        except (TypeError, ValueError) as error:  # half a pair of surrogates, for one
            raise ProtocolError(f"what was to be sent is not JSON: {error}") from None


def _data(message: Mapping[str, Any]) -> Any:
    content = message.get("content")
    return content.get("data") if isinstance(content, dict) else None
