"""`nbcompose.serve(Answer)` and `nbcompose serve app.py`: serve a graph without Jupyter, until stopped.

The entry services answer over HTTP; the services below them can only be called by other services.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from nbcompose import settings
from nbcompose._code import Deployment, deployment_of
from nbcompose._control.registry import Registry
from nbcompose._control.reload import Reloader, Watched
from nbcompose._control.status import ReplicaStatus, Status
from nbcompose._control.supervisor import first_line
from nbcompose._host import forking, handling
from nbcompose._replica import Phase, collect
from nbcompose._replica.http import is_loopback
from nbcompose._service import Service, dependency_graph, service
from nbcompose.errors import DeclarationError, LaunchError, NbcomposeError

DEFAULT_PORT = 3000


def serve(
    *entries: Any,
    host: str = "127.0.0.1",
    port: int | None = None,
    token: str | None = None,
    allowed_hosts: Iterable[str] = (),
    reload: Watched | None = None,
    stop_first: bool = False,
    interrupt_after: float = 0.0,
    title: str | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Serve services and all that they depend on, until SIGINT, SIGTERM, or `nbcompose stop` of all entries.

    Args:
        *entries: Services, or their classes.
        host: The address to listen on. Beyond loopback a token is required.
        port: By default the service's own `http={"port"}`, or 3000 where it has none; 0: any free one. Of several
            entries the second one gets the next port, and so on.
        token: What callers must send; by default the value of NBCOMPOSE_TOKEN in the environment.
        allowed_hosts: Names that the `Host` header may carry.
        reload: The modules that the single entry was loaded from; saved changes are applied. See `_control/reload.py`.
        stop_first: With `reload`, stop the replaced replicas before the new ones start.
        interrupt_after: Seconds, for services that do not set it themselves: sync code that runs on this long after its
            caller has gone is interrupted; 0: never.
        title: The name of this process in `nbcompose ps`.
        say: Called with lines for the user.

    Raises:
        TypeError: No entry is given.
        LaunchError: A service cannot start; with `reload` it waits until that is fixed.
        NbcomposeError: The token is missing or not valid.
        DeclarationError: A declaration is wrong, or two services have the same name.
        CycleError: Services depend on each other in a cycle.
        PortInUse: A port is in use.
    """
    if not entries:
        raise TypeError("serve() takes the service to serve, or several: nbcompose.serve(Answer)")
    services = [e if isinstance(e, Service) else service(e) for e in entries]
    token = settings.checked_token(settings.token() if token is None else token)
    if not is_loopback(host) and token is None:
        raise NbcomposeError(
            f"{host} can be reached from other machines: give a token ({settings.TOKEN}, or --token-file), "
            "or --host 127.0.0.1"
        )

    forking.raise_limit()  # each replica needs a few
    with _stop_signals() as stopped:
        graph_of = Graph(host, port, token, tuple(allowed_hosts), stopped, say, interrupt_after)
        deployments = graph_of.pack(services)
        registry = Registry(preload=preload(deployments), title=title)
        registry.start()
        try:
            registry.subscribe(graph_of.show)
            if reload is not None:
                [entry] = services
                Reloader(registry, reload, lambda e: graph_of.pack([e]), say, stop_first).run(entry, stopped)
            else:
                _run(registry, deployments, [s.name for s in services], stopped, say)
        finally:
            say("stopping: calls in flight may finish")
            registry.stop(grace=10.0)


def preload(deployments: Iterable[Deployment]) -> tuple[str, ...] | None:
    """Return what a registry of these imports beforehand: nothing where none of them uses a heavy library."""
    return None if any(d.heavy for d in deployments) else ()


class Graph:
    """Entries and their dependencies, as deployments and as output lines. `stopped` is set when all entries have
    stopped.
    """

    def __init__(
        self,
        host: str,
        port: int | None,
        token: str | None,
        hosts: tuple[str, ...],
        stopped: threading.Event,
        say: Callable[[str], None],
        interrupt_after: float = 0.0,
    ) -> None:
        self._interrupt_after = interrupt_after
        self._entries: list[str] = []
        self._host = host
        self._port = port
        self._token = token
        self._hosts = hosts
        self._stopped = stopped
        self._say = say
        self._shown: dict[str, str] = {}
        self._restarts: dict[str, int] = {}
        self._urls: dict[str, str] = {}
        self._gone: set[str] = set()

    def pack(self, entries: Sequence[Service]) -> list[Deployment]:
        """Return the deployments, dependencies first; only entries are exposed over HTTP. An entry of another name
        keeps the port.
        """
        services = _collect(entries)
        dependency_graph.check_acyclic([s.spec for s in services.values()])
        names = [e.name for e in entries]
        if self._entries not in ([], names) and (url := self._urls.get(self._entries[0])):
            self._port = int(url.rpartition(":")[2])
        ports = dict(zip(names, _ports(entries, self._port), strict=True))
        found = []
        for name in dependency_graph.order(dependency_graph.edges(s.spec for s in services.values())):
            deployment = deployment_of(services[name], token=self._token, allowed_hosts=self._hosts)
            if deployment.spec.traffic.interrupt_after is None:
                traffic = replace(deployment.spec.traffic, interrupt_after=self._interrupt_after)
                deployment = replace(deployment, spec=replace(deployment.spec, traffic=traffic))
            if name in ports:
                http = replace(deployment.spec.http, host=self._host, port=ports[name])
                deployment = replace(deployment, spec=replace(deployment.spec, http=http))
            else:
                deployment = replace(deployment, exposed=False, token=None)
            found.append(deployment)
        self._entries = names
        return found

    def show(self, status: Status) -> None:
        """Report what is new about a service. Called on the registry's loop."""
        text = describe(status)
        if status.restarts != self._restarts.get(status.name, 0):
            self._restarts[status.name] = status.restarts
            if status.restarts and status.error:
                self._say(
                    f"{status.name}: {first_line(status.error)}; `nbcompose logs {status.name}` has what it wrote"
                )
        if self._shown.get(status.name) != text:
            self._shown[status.name] = text
            self._say(f"{status.name}: {text}")
        if status.name not in self._entries:
            return
        if status.state == "ready" and status.url and status.url != self._urls.get(status.name):
            self._urls[status.name] = status.url
            self._say(f"{status.name} answers at {status.url} (try it at {status.url}/docs)")
        if status.state == "stopped":
            self._gone.add(status.name)  # by `nbcompose stop`
            if self._gone.issuperset(self._entries):
                self._stopped.set()  # nothing is left to serve


def _collect(entries: Sequence[Service]) -> dict[str, Service]:
    """Return the entries and every service below them, by name. Raises `DeclarationError`."""
    found: dict[str, Service] = {}
    for entry in entries:
        for name, known in collect(entry, _named_in(entry)).items():
            if found.setdefault(name, known).inner is not known.inner:
                raise DeclarationError(
                    f"two services are called {name!r}, at {found[name].spec.location} and at {known.spec.location}: "
                    "give one another name, @service(name=...)"
                )
    return found


def _ports(entries: Sequence[Service], first: int | None) -> list[int]:
    """Return the port of each entry. `first`: the first one's; None: the services' own, or from 3000 on."""
    if first is not None:
        return [first + i if first else 0 for i in range(len(entries))]
    own = [e.spec.http.port for e in entries]
    free = (p for p in range(DEFAULT_PORT, 65536) if p not in own)
    return [port or next(free) for port in own]


def _named_in(entry: Service) -> Callable[[str], Service | None]:
    """Return a function that finds services named by a string in the entry's own module."""
    module = sys.modules.get(entry.inner.__module__)
    known = {s.name: s for s in vars(module).values() if isinstance(s, Service)} if module else {}
    return known.get


def _run(
    registry: Registry,
    deployments: list[Deployment],
    entries: list[str],
    stopped: threading.Event,
    say: Callable[[str], None],
) -> None:
    for deployment in deployments:
        for line in registry.deploy(deployment):
            say(f"{deployment.spec.name}: {line}")
    settled = threading.Event()
    waiting = threading.Thread(target=_settle, args=(registry, entries, settled), daemon=True)
    waiting.start()
    while not settled.wait(0.1):
        if stopped.is_set():
            return
    failed = next((s for s in registry.statuses() if s.state == "failed"), None)
    if failed is not None:
        raise LaunchError(failed.error or f"{failed.name} failed")
    stopped.wait()


def _settle(registry: Registry, entries: list[str], settled: threading.Event) -> None:
    with contextlib.suppress(NbcomposeError, asyncio.CancelledError):
        for entry in entries:
            registry.wait(entry)
    settled.set()


def describe(status: Status) -> str:
    """Return a service's state in a few words, for a line of output."""
    if status.state == "starting":
        phases = dict.fromkeys(_phase(r) for r in status.replicas if r.state == "starting")
        return ", ".join(phases) or "starting"
    if status.state == "ready":
        notes = "; ".join([*status.all_notes, *status.stuck])
        notes = f" ({notes})" if notes else ""
        return f"ready on {status.device}{notes}"
    return status.reason


def _phase(replica: ReplicaStatus) -> str:
    progress = replica.progress
    if replica.phase is Phase.DOWNLOAD and progress is not None and progress.bytes_total:
        return f"download {progress.model} {100 * progress.bytes_done // progress.bytes_total} %"
    return f"waiting for {replica.waiting_for}" if replica.waiting_for else replica.preparing or replica.phase


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGINT and SIGTERM set; other threads than the main one get an event that is never set."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    with handling(lambda *_: stopped.set(), signal.SIGINT, signal.SIGTERM):
        yield stopped
