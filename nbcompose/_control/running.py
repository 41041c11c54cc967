"""`with nbcompose.run(Answer) as answer:` a graph in replicas, for programs and tests.

What calls a service that runs here (`Handle`) is also what the notebook uses.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any

from nbcompose import settings
from nbcompose._control.registry import Registry
from nbcompose._control.serving import Graph, preload
from nbcompose._host import forking
from nbcompose._rpc import Proxy, Transport
from nbcompose._service import Service, add_connector, service
from nbcompose.errors import LaunchError, NbcomposeError

GRACE = 10.0  # seconds that calls in flight have at the end


class Handle:
    """A running service as a program calls it: its apis, and where it answers over HTTP."""

    def __init__(self, registry: Registry, name: str, transport: Transport) -> None:
        self._registry = registry
        self._name = name
        self._proxy = Proxy(transport)

    @property
    def to_async(self) -> Any:
        return self._proxy.to_async

    @property
    def to_sync(self) -> Any:
        return self._proxy.to_sync

    @property
    def url(self) -> str:
        return self._registry.url(self._name)

    @property
    def token(self) -> str:
        return self._registry.token(self._name) or ""

    def __getattr__(self, api: str) -> Any:
        return getattr(self._proxy, api)


class Run:
    """A graph that runs while a `with` or `async with` block does. Made by `run`; entered once."""

    def __init__(self, entries: tuple[Service, ...], http: bool, token: str | None, say: Callable[[str], None]) -> None:
        self._entries = entries
        self._http = http
        self._graph = Graph("127.0.0.1", 0, token, (), threading.Event(), say)
        self._registry: Registry | None = None
        self._disconnect: Callable[[], None] = lambda: None
        self._entered = False

    def __enter__(self) -> Any:
        if self._entered:
            raise NbcomposeError("this run has been entered already: call nbcompose.run(...) again")
        self._entered = True
        deployments = self._graph.pack(self._entries)
        if not self._http:
            deployments = [replace(d, exposed=False, token=None) for d in deployments]
        forking.raise_limit()  # a few files are needed for each replica
        registry = self._registry = Registry(preload=preload(deployments))
        try:
            registry.start()
            registry.subscribe(self._graph.show)
            for deployment in deployments:
                registry.deploy(deployment)
            for deployment in deployments:
                status = registry.wait(deployment.spec.name)
                if status.state != "ready":
                    raise LaunchError(status.error or f"{status.name} is {status.state}: {status.reason}")
            names = frozenset(d.spec.name for d in deployments)
            self._disconnect = add_connector(lambda found: self._handle(found.name) if found.name in names else None)
        except BaseException:
            registry.stop(grace=0.0)
            raise
        return self._entries[0] if len(self._entries) == 1 else self._entries

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._disconnect()
        if self._registry is not None:
            self._registry.stop(grace=GRACE if error is None else 0.0)

    async def __aenter__(self) -> Any:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.__exit__, kind, error, traceback)

    def _handle(self, name: str) -> Handle:
        assert self._registry is not None
        return Handle(self._registry, name, self._registry.caller(name))


def run(
    *entries: Any, http: bool = False, token: str | None = None, say: Callable[[str], None] = lambda _: None
) -> Run:
    """Run services and all that they depend on while a block does: `with nbcompose.run(Answer) as answer:`.

    Each service has its own replica processes, as under `nbcompose serve`; they are up when the block begins, and gone
    when it ends. In the block, `Answer.ask(...)` and `answer.ask(...)` are the same call. `async with` does the same
    and leaves the event loop free meanwhile; there, `await answer.to_async.ask(...)`.

    In a script, write it under `if __name__ == "__main__":`, since each replica imports the script.

    Args:
        *entries: The services, or their classes.
        http: Whether the entries answer over HTTP too, on free ports of 127.0.0.1 (`answer.url`).
        token: The bearer token that HTTP callers must send (`answer.token`); None: none.
        say: Gets lines for people, of what starts and what fails.

    Returns:
        A context manager. It gives the service, or a tuple of them where several were given.

    Raises:
        TypeError: No service was given.
        DeclarationError: A class is no service, or two services have one name.
        CycleError: Services depend on one another in a circle.
        LaunchError: A service could not start (when the block is entered), or this is a replica.
    """
    if not entries:
        raise TypeError("run() takes the service to run, or several: nbcompose.run(Answer)")
    services = tuple(e if isinstance(e, Service) else service(e) for e in entries)
    return Run(services, http, settings.checked_token(token), say)
