"""The contract of an engine: it brings replicas into the world. Supervision (restart, scale, routes) is not its job."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Protocol

from nbcompose._rpc import CallHandler, Connection

# Why a replica started cold: no fault, so it is not shown to people.
NOT_WARM = "the libraries were still being imported, and it uses none of them"


class ReplicaProcess(Protocol):
    """A replica's process, alive or not."""

    pid: int
    connection: Connection
    cold: str  # why it had to import everything by itself; "" when the zygote made it

    async def wait(self) -> int | None:
        """Its exit status once it has ended: negative for a signal, None when nobody can tell."""
        ...

    def kill(self) -> None:
        """SIGKILL, to it and what it has started."""
        ...


class Engine(Protocol):
    """Starts replicas. All methods are called on the supervisor's event loop."""

    async def start(self) -> None:
        """Begin to warm up; returns at once."""
        ...

    async def spawn(
        self,
        name: str,
        environment: Mapping[str, str],
        http: socket.socket | None,
        handler: CallHandler,
        on_closed: Callable[[Connection], None],
        on_output: Callable[[str], None],
        *,
        heavy: bool = True,
    ) -> ReplicaProcess:
        """A new replica process of a service, which waits for its launch note on `connection`.

        `environment` is all that it is to have, `http` the service's listening socket. `on_output` gets each line that
        the replica writes. One that is not `heavy` has no use for what is being imported, and does
        not wait for it. Raises `LaunchError`.
        """
        ...

    def warming(self) -> str:
        """What a replica would have to wait for now, in words, or ""."""
        ...

    async def stop(self) -> None:
        """End whatever the engine runs besides replicas."""
        ...
