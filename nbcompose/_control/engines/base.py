"""Engine interface: starts replica processes. Supervision (restart, scale, routes) is done by its callers."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Protocol

from nbcompose._control import OutputReader, Written
from nbcompose._rpc import CallHandler, Connection

# Reason for a cold start that is no fault, so it is not shown to users.
NOT_WARM = "the libraries were still being imported, and it uses none of them"


class ReplicaProcess(Protocol):
    """A replica's process, running or ended."""

    pid: int
    connection: Connection
    output: OutputReader
    cold: str  # why it was started cold, without the zygote; "" when the zygote forked it

    async def wait(self) -> int | None:
        """Wait for the end and return the exit status: negative for a signal, None when it cannot be known."""
        ...

    def kill(self) -> None:
        """Send SIGKILL to the process and the processes that it started."""
        ...


class Engine(Protocol):
    """Starts replicas. All methods are called on the supervisor's event loop."""

    async def start(self) -> None:
        """Start to warm up; returns at once."""
        ...

    async def spawn(
        self,
        name: str,
        environment: Mapping[str, str],
        http: socket.socket | None,
        handler: CallHandler,
        on_closed: Callable[[Connection], None],
        on_output: Callable[[Written], None],
        *,
        heavy: bool = True,
    ) -> ReplicaProcess:
        """Start a replica process of a service; it waits for its launch note on `connection`.

        `environment` is the complete environment of the process, `http` the service's listening socket (None: not
        exposed over HTTP). `on_output` is called with what the replica writes. A replica that is not `heavy`
        does not use the libraries that are being imported, and does not wait for them. Raises `LaunchError`.
        """
        ...

    def warming(self) -> str:
        """Return what a new replica would wait for now, in words, or ""."""
        ...

    async def stop(self) -> None:
        """Stop the engine's own processes; replicas are not affected."""
        ...
