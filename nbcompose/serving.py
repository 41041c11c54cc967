"""`nbcompose.serve(Answer)` and `nbcompose serve app.py`: a graph without Jupyter, until it is told to stop.

The entry service answers over HTTP, those below it only one another.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from nbcompose import topology
from nbcompose.calling.inprocess import collect
from nbcompose.capture.packing import deployment_of
from nbcompose.declaration import Service, service
from nbcompose.engine.deployment import Deployment
from nbcompose.engine.status import Status
from nbcompose.errors import LaunchError, NbcomposeError
from nbcompose.registry import Registry
from nbcompose.reloading import Reloader
from nbcompose.replica.access import is_loopback
from nbcompose.watching import Watched

TOKEN_VARIABLE = "NBCOMPOSE_TOKEN"
DEFAULT_PORT = 3000


def serve(
    entry: Any,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    token: str | None = None,
    allowed_hosts: Iterable[str] = (),
    reload: Watched | None = None,
    stop_first: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Serve `entry` (a service or its class) and all that it depends on; returns after SIGINT or SIGTERM.

    `port`: the service's own `http={"port"}` by default, 3000 where it has none; 0: any free one. `token` (or the
    environment's NBCOMPOSE_TOKEN) is what callers must send; beyond loopback one is required. `allowed_hosts` are
    names that `Host` may carry. `reload`: the modules that `entry` was loaded from; what is saved in them is applied
    (reloading.py), with `stop_first` after the replicas that it replaces have stopped. `say` gets lines for people.

    Raises `LaunchError` when a service cannot start (with `reload` it waits until that is mended), and
    `DeclarationError`, `CycleError`, `PortInUse`.
    """
    if not isinstance(entry, Service):
        entry = service(entry)
    token = token or os.environ.get(TOKEN_VARIABLE) or None
    if not is_loopback(host) and token is None:
        raise NbcomposeError(
            f"{host} can be reached from other machines: give a token (--token, or {TOKEN_VARIABLE}), "
            "or --host 127.0.0.1"
        )

    with _stop_signals() as stopped:
        graph_of = _Graph(entry.name, host, port, token, tuple(allowed_hosts), stopped, say)
        deployments = graph_of.pack(entry)
        registry = Registry(preload=None if any(d.heavy for d in deployments) else ())
        registry.start()
        try:
            registry.subscribe(graph_of.show)
            if reload is not None:
                Reloader(registry, reload, graph_of.pack, say, stop_first).run(entry, stopped)
            else:
                _run(registry, deployments, entry.name, stopped)
        finally:
            say("stopping: calls in flight may finish")
            registry.stop(grace=10.0)


class _Graph:
    """An entry with what is below it: as deployments, and in lines for people. `stopped` is set when it is stopped."""

    def __init__(
        self,
        entry: str,
        host: str,
        port: int | None,
        token: str | None,
        hosts: tuple[str, ...],
        stopped: threading.Event,
        say: Callable[[str], None],
    ) -> None:
        self._entry = entry
        self._host = host
        self._port = port
        self._token = token
        self._hosts = hosts
        self._stopped = stopped
        self._say = say
        self._shown: dict[str, str] = {}
        self._url = ""

    def pack(self, entry: Service) -> list[Deployment]:
        """Those that others depend on first; only the entry answers over HTTP. One of another name keeps the port."""
        services = collect(entry, _named_in(entry))
        topology.check_acyclic([s.spec for s in services.values()])
        if entry.name != self._entry and self._url:
            self._port = int(self._url.rpartition(":")[2])
        port = self._port if self._port is not None else entry.spec.http.port or DEFAULT_PORT
        http = replace(entry.spec.http, host=self._host, port=port)
        found = []
        for name in topology.order(topology.edges(s.spec for s in services.values())):
            deployment = deployment_of(services[name], token=self._token, allowed_hosts=self._hosts)
            if name == entry.name:
                deployment = replace(deployment, spec=replace(deployment.spec, http=http))
            else:
                deployment = replace(deployment, exposed=False, token=None)
            found.append(deployment)
        self._entry = entry.name
        return found

    def show(self, status: Status) -> None:
        """Say what is new about a service. On the registry's loop."""
        text = describe(status)
        if self._shown.get(status.name) != text:
            self._shown[status.name] = text
            self._say(f"{status.name}: {text}")
        if status.name != self._entry:
            return
        if status.state == "ready" and status.url != self._url:
            self._url = status.url
            self._say(f"{status.name} answers at {status.url} (try it at {status.url}/docs)")
        if status.state == "stopped":
            self._stopped.set()  # by `nbcompose stop`: there is nothing left to serve


def _named_in(entry: Service) -> Callable[[str], Service | None]:
    """Services that are named by text are looked for in the entry's own module."""
    module = sys.modules.get(entry.inner.__module__)
    known = {s.name: s for s in vars(module).values() if isinstance(s, Service)} if module else {}
    return known.get


def _run(registry: Registry, deployments: list[Deployment], entry: str, stopped: threading.Event) -> None:
    for deployment in deployments:
        registry.deploy(deployment)
    settled = threading.Event()
    waiting = threading.Thread(target=_settle, args=(registry, entry, settled), daemon=True)
    waiting.start()
    while not settled.wait(0.1):
        if stopped.is_set():
            return
    failed = next((s for s in registry.statuses() if s.state == "failed"), None)
    if failed is not None:
        raise LaunchError(failed.error or f"{failed.name} failed")
    stopped.wait()


def _settle(registry: Registry, entry: str, settled: threading.Event) -> None:
    with contextlib.suppress(NbcomposeError, asyncio.CancelledError):
        registry.wait(entry)
    settled.set()


def describe(status: Status) -> str:
    """A service's state in a few words, for a line of output."""
    if status.state == "starting":
        phases = dict.fromkeys(_phase(r.phase, r.progress) for r in status.replicas if r.state == "starting")
        return ", ".join(phases) or "starting"
    if status.state == "ready":
        notes = f" ({'; '.join(status.notes)})" if status.notes else ""
        return f"ready on {status.device}{notes}"
    return status.reason


def _phase(phase: str, progress: Any) -> str:
    if phase == "download" and progress is not None and progress.bytes_total:
        return f"download {progress.model} {100 * progress.bytes_done // progress.bytes_total} %"
    return phase


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, while this is the main thread's business."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = {s: signal.signal(s, lambda *_: stopped.set()) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
