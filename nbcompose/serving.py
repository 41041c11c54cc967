"""`nbcompose.serve(Answer)` and `nbcompose serve app.py`: a graph without Jupyter, until it is told to stop.

The entry service answers over HTTP, those below it only one another.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from nbcompose import graph
from nbcompose.calling.inprocess import collect
from nbcompose.capture.packing import deployment_of
from nbcompose.declaration import Service, service
from nbcompose.engine.deployment import Deployment
from nbcompose.engine.status import Status
from nbcompose.errors import LaunchError, NbcomposeError, UnknownService
from nbcompose.registry import Registry
from nbcompose.replica.access import is_loopback
from nbcompose.replica.launch import load_module
from nbcompose.spec import ServiceSpec

TOKEN_VARIABLE = "NBCOMPOSE_TOKEN"
DEFAULT_PORT = 3000


def serve(
    entry: Any,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    token: str | None = None,
    allowed_hosts: Iterable[str] = (),
    say: Callable[[str], None] = print,
) -> None:
    """Serve `entry` (a service or its class) and all that it depends on; returns after SIGINT or SIGTERM.

    `port`: the service's own `http={"port"}` by default, 3000 where it has none; 0: any free one. `token` (or the
    environment's NBCOMPOSE_TOKEN) is what callers must send; beyond loopback one is required. `allowed_hosts` are
    names that `Host` may carry. `say` gets lines for people.

    Raises `LaunchError` when a service cannot start, and `DeclarationError`, `CycleError`, `PortInUse`.
    """
    if not isinstance(entry, Service):
        entry = service(entry)
    token = token or os.environ.get(TOKEN_VARIABLE) or None
    if not is_loopback(host) and token is None:
        raise NbcomposeError(
            f"{host} can be reached from other machines: give a token (--token, or {TOKEN_VARIABLE}), "
            "or --host 127.0.0.1"
        )
    services = collect(entry, _named_in(entry))
    graph.check_acyclic([s.spec for s in services.values()])
    http = replace(entry.spec.http, host=host, port=_port(entry, port))
    deployments = _deployments(services, replace(entry.spec, http=http), token, tuple(allowed_hosts))
    registry = Registry(preload=None if any(d.heavy for d in deployments) else ())
    registry.start()
    try:
        with _stop_signals() as stopped:
            for deployment in deployments:
                registry.deploy(deployment)
            _run(registry, entry.name, stopped, say)
    finally:
        say("stopping: calls in flight may finish")
        registry.stop(grace=10.0)


def _port(entry: Service, port: int | None) -> int:
    return port if port is not None else entry.spec.http.port or DEFAULT_PORT


def _named_in(entry: Service) -> Callable[[str], Service | None]:
    """Services that are named by text are looked for in the entry's own module."""
    module = sys.modules.get(entry.inner.__module__)
    known = {s.name: s for s in vars(module).values() if isinstance(s, Service)} if module else {}
    return known.get


def _deployments(
    services: dict[str, Service], entry_spec: ServiceSpec, token: str | None, hosts: tuple[str, ...]
) -> list[Deployment]:
    """Those that others depend on first. Only the entry answers over HTTP."""
    found = []
    for name in graph.order(graph.edges(s.spec for s in services.values())):
        deployment = deployment_of(services[name], token=token, allowed_hosts=hosts)
        if name == entry_spec.name:
            deployment = replace(deployment, spec=entry_spec)
        else:
            deployment = replace(deployment, exposed=False, token=None)
        found.append(deployment)
    return found


def _run(registry: Registry, entry: str, stopped: threading.Event, say: Callable[[str], None]) -> None:
    shown: dict[str, str] = {}

    def show(status: Status) -> None:
        text = describe(status)
        if shown.get(status.name) != text:
            shown[status.name] = text
            say(f"{status.name}: {text}")
        if status.name == entry and status.state == "stopped":
            stopped.set()  # by `nbcompose stop`: there is nothing left to serve

    registry.subscribe(show)
    settled = threading.Event()
    waiting = threading.Thread(target=_settle, args=(registry, entry, settled), daemon=True)
    waiting.start()
    while not settled.wait(0.1):
        if stopped.is_set():
            return
    failed = next((s for s in registry.statuses() if s.state == "failed"), None)
    if failed is not None:
        raise LaunchError(failed.error or f"{failed.name} failed")
    say(f"{entry} answers at {registry.url(entry)} (try it at {registry.url(entry)}/docs)")
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


def find_entry(target: str) -> Service:
    """The service that `target` names: `module`, `module:Service`, `file.py` or `file.py:Service`.

    Without a name: the one that no other service of the module depends on.
    Raises `UnknownService`, which lists those there are, and whatever importing the module raises.
    """
    place, _, name = target.partition(":")
    module = _import(place)
    services = {s.name: s for s in vars(module).values() if isinstance(s, Service)}
    if not services:
        raise UnknownService(f"{place} has no service: decorate a class with @nbcompose.service")
    if name:
        found = services.get(name) or vars(module).get(name)
        if not isinstance(found, Service):
            raise UnknownService(f"{place} has no service {name!r}; it has: {', '.join(services)}")
        return found
    entries = graph.entries(graph.edges(s.spec for s in services.values()))
    if len(entries) != 1:
        raise UnknownService(f"{place} has {len(entries)} services that no other depends on: name one, {place}:NAME "
                             f"({', '.join(entries or services)})")  # fmt: skip
    return services[entries[0]]


def _import(place: str) -> Any:
    if place.endswith(".py") or os.sep in place:
        path = Path(place).resolve()
        if not path.is_file():
            raise UnknownService(f"there is no file {path}")
        return load_module(path.stem, str(path))
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is not None and (place == error.name or place.startswith(f"{error.name}.")):
            raise UnknownService(
                f"there is no module {place} here ({os.getcwd()}): give a module, or a file.py"
            ) from None
        raise
