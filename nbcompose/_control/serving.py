"""A graph without Jupyter: `nbcompose.serve(Answer)` and `nbcompose serve app.py` serve it until stopped,
`with nbcompose.run(Answer) as answer:` runs it for programs and tests.

The entry services answer over HTTP; the services below them can only be called by other services.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

from nbcompose import settings
from nbcompose._code import Deployment, deployment_of
from nbcompose._control.operations import RuntimeContext
from nbcompose._control.registry import Registry
from nbcompose._control.reload import Reloader, Watched
from nbcompose._control.status import PHASE_WORDS, ReplicaStatus, Status
from nbcompose._control.supervisor import first_line
from nbcompose._host import forking, handling
from nbcompose._replica import Phase, collect
from nbcompose._replica.http import is_loopback
from nbcompose._rpc import Proxy, Transport
from nbcompose._service import Service, add_connector, as_service, dependency_graph
from nbcompose.errors import LaunchError, Misuse, NbcomposeError

DEFAULT_PORT = 3000
GRACE = 10.0  # seconds that calls in flight have at the end


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
        Misuse: No entry is given.
        LaunchError: A service cannot start; with `reload` it waits until that is fixed.
        NbcomposeError: The token is missing or not valid.
        DeclarationError: A declaration is wrong, or two services have the same name.
        CycleError: Services depend on each other in a cycle.
        PortInUse: A port is in use.
    """
    services = _services(entries, "serve")
    token = settings.checked_token(settings.token() if token is None else token)
    if not is_loopback(host) and token is None:
        raise NbcomposeError(
            f"{host} can be reached from other machines: give a token ({settings.TOKEN}, or --token-file), "
            "or --host 127.0.0.1"
        )

    with _stop_signals() as stopped:
        graph = Graph(host, port, token, tuple(allowed_hosts), stopped, say, interrupt_after)
        deployments = graph.pack(services)
        registry = graph.registry(deployments, title)
        try:
            registry.subscribe(graph.show)
            if reload is not None:
                [entry] = services
                Reloader(registry, reload, lambda e: graph.pack([e]), say, stop_first).run(entry, stopped)
            else:
                _serve(registry, deployments, [s.name for s in services], stopped, say)
        finally:
            say("stopping: calls in flight may finish")
            registry.stop(grace=GRACE)


def _services(entries: Sequence[Any], function: str) -> list[Service]:
    if not entries:
        raise Misuse(f"{function}() takes the service to {function}, or several: nbcompose.{function}(Answer)")
    return [as_service(e) for e in entries]


@dataclass
class Graph:
    """Entries and their dependencies, as deployments and as output lines. `stopped` is set when all entries have
    stopped.
    """

    host: str = "127.0.0.1"
    port: int | None = 0
    token: str | None = field(default=None, repr=False)
    allowed_hosts: tuple[str, ...] = ()
    stopped: threading.Event = field(default_factory=threading.Event)
    say: Callable[[str], None] = print
    interrupt_after: float = 0.0
    _entries: list[str] = field(default_factory=list, init=False)
    _shown: dict[str, str] = field(default_factory=dict, init=False)
    _restarts: dict[str, int] = field(default_factory=dict, init=False)
    _urls: dict[str, str] = field(default_factory=dict, init=False)
    _gone: set[str] = field(default_factory=set, init=False)

    def registry(self, deployments: Iterable[Deployment], title: str | None = None) -> Registry:
        """Return a registry for these, started; it imports nothing beforehand where none of them uses a heavy
        library.
        """
        forking.raise_limit()  # each replica needs a few files
        registry = Registry(preload=None if any(d.heavy for d in deployments) else ())
        registry.start(RuntimeContext(title))
        return registry

    def pack(self, entries: Sequence[Service]) -> list[Deployment]:
        """Return the deployments, dependencies first; only entries are exposed over HTTP. An entry of another name
        keeps the port.
        """
        services = collect(*entries)
        dependency_graph.check_acyclic([s.spec for s in services.values()])
        names = [e.name for e in entries]
        if self._entries not in ([], names) and (url := self._urls.get(self._entries[0])):
            self.port = int(url.rpartition(":")[2])
        ports = dict(zip(names, _ports(entries, self.port), strict=True))
        found = []
        for name in dependency_graph.order(dependency_graph.edges(s.spec for s in services.values())):
            deployment = deployment_of(services[name], token=self.token, allowed_hosts=self.allowed_hosts)
            if deployment.spec.traffic.interrupt_after is None:
                traffic = replace(deployment.spec.traffic, interrupt_after=self.interrupt_after)
                deployment = replace(deployment, spec=replace(deployment.spec, traffic=traffic))
            if name in ports:
                http = replace(deployment.spec.http, host=self.host, port=ports[name])
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
                self.say(f"{status.name}: {first_line(status.error)}; `nbcompose logs {status.name}` has what it wrote")
        if self._shown.get(status.name) != text:
            self._shown[status.name] = text
            self.say(f"{status.name}: {text}")
        if status.name not in self._entries:
            return
        if status.state == "ready" and status.url and status.url != self._urls.get(status.name):
            self._urls[status.name] = status.url
            self.say(f"{status.name} answers at {status.url} (try it at {status.url}/docs)")
        if status.state == "stopped":
            self._gone.add(status.name)  # by `nbcompose stop`
            if self._gone.issuperset(self._entries):
                self.stopped.set()  # nothing is left to serve


def _ports(entries: Sequence[Service], first: int | None) -> list[int]:
    """Return the port of each entry. `first`: the first one's; None: the services' own, or from 3000 on."""
    if first is not None:
        return [first + i if first else 0 for i in range(len(entries))]
    own = [e.spec.http.port for e in entries]
    free = (p for p in range(DEFAULT_PORT, 65536) if p not in own)
    return [port or next(free) for port in own]


def _serve(
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
    return (
        f"waiting for {replica.waiting_for}" if replica.waiting_for else replica.preparing or PHASE_WORDS[replica.phase]
    )


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGINT and SIGTERM set; other threads than the main one get an event that is never set."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    with handling(lambda *_: stopped.set(), signal.SIGINT, signal.SIGTERM):
        yield stopped


# -- for as long as a block runs


class Handle:
    """A running service as a program calls it: its apis, and where it answers over HTTP.

    All other public names are those of apis. So what `Service` asks for besides is `_transport`.
    """

    def __init__(self, registry: Registry, name: str, transport: Transport) -> None:
        self._registry = registry
        self._name = name
        self._transport = transport
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

    def __init__(self, entries: list[Service], http: bool, graph: Graph) -> None:
        self._entries = entries
        self._http = http
        self._graph = graph
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
        registry = self._registry = self._graph.registry(deployments)
        try:
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
        return self._entries[0] if len(self._entries) == 1 else tuple(self._entries)

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
        Misuse: No service was given.
        DeclarationError: A class is no service, or two services have one name.
        CycleError: Services depend on one another in a circle.
        LaunchError: A service could not start (when the block is entered), or this is a replica.
    """
    return Run(_services(entries, "run"), http, Graph(token=settings.checked_token(token), say=say))
