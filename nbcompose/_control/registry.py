"""Registry: the services of this process by name, their dependencies, and how they are started and stopped.

The registry lives on the process's background loop. Its public methods may be called from any thread; they wait for the
loop, and an interrupt (■) ends the waiting, not the services.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from typing import TypeVar

from nbcompose._code import Deployment, Plan, incompatible_calls
from nbcompose._control.debugging import Debugging, Debugpy, Say
from nbcompose._control.engines import Engine, LocalEngine
from nbcompose._control.generation import GRACE
from nbcompose._control.logs import EVERYTHING, Log
from nbcompose._control.operations import Operations, RuntimeContext
from nbcompose._control.profiling import Rendered, native_profile
from nbcompose._control.publisher import OutputListener, Publisher, Subscriber
from nbcompose._control.replica_handle import ReplicaHandle
from nbcompose._control.status import Overview, Status
from nbcompose._control.status import url as url_of
from nbcompose._control.supervisor import Supervisor
from nbcompose._host import forbid_in_replica, keep_from_children
from nbcompose._protocol import LogFilter, LogLine, RuntimeServer, messages
from nbcompose._rpc import Client, LoadTable, Portal, Proxy, SocketTransport, Transport, background
from nbcompose._service import dependency_graph
from nbcompose._tracing import RecordedCall, Span, TraceLog
from nbcompose.errors import Incompatible, LaunchError, NbcomposeError, ServiceUnavailable, UnknownService

T = TypeVar("T")

PAST_LOGS = 8  # logs that are kept of services that run no more
STOP_WAIT = 5.0  # seconds for stopping everything, in addition to the grace; processes left after that are killed
REMOVE_WAIT = 30.0  # seconds for stopping one service, in addition to the grace of its last two versions
NOT_STOPPED = (
    "{name} has not ended within {wait:g} s, and is not waited for any more: its processes were killed ({pids}). Where "
    "a later start says that its port is in use, restart the kernel or the program that ran it"
)

logger = logging.getLogger("nbcompose")

CALLERS_FIRST = (
    "Change who calls it first (such a call fails until this version serves), stop it, or keep the api as well."
)


class Registry:
    """The services of this process. Call `start` before use; `stop` ends them all.

    `preload`: see `LocalEngine`; `keep`: see `Supervisor`. `operations`: what clients may ask, once it has started.
    """

    operations: Operations

    def __init__(self, preload: tuple[str, ...] | None = None, keep: float = 0.0) -> None:
        forbid_in_replica()
        self._board = LoadTable.create()
        self._engine: Engine = LocalEngine(self._board, preload)
        self._portal = background()
        self._client = Client(self._board)
        self._supervisors: dict[str, Supervisor] = {}
        self._past_logs: dict[str, Log] = {}  # the latest is last
        self._overview = Overview(self._supervisors, self._engine)
        self._publisher = Publisher(self._supervisors, self._overview, self._client, self._board)
        self._client.post_mortem = self._publisher.post_mortem
        self.traces = self._publisher.traces
        self.usage = self._publisher.usage
        self._watching: tuple[asyncio.Task[None], ...] = ()
        self._removing: set[asyncio.Task[None]] = set()
        self._debugpys: dict[str, Debugpy] = {}  # by service
        self._keep = keep
        self._owner = os.getpid()
        self._stopped = False

    # -- from any thread

    def start(self, context: RuntimeContext | None = None) -> None:
        """Start to warm up the engine, and to answer other processes of this user; returns at once.

        `context`: what is around the services here; by default a program.
        """
        context = context or RuntimeContext()
        self.operations = Operations(self, context)
        self._runtime = RuntimeServer(self.operations.answers(messages.RuntimeRequest), context.text)
        self._portal.run(self._start())

    def stop(self, grace: float = 2.0) -> None:
        """Stop all services and the engine. Does nothing in a forked child of this process."""
        if os.getpid() == self._owner:
            self._portal.run(self._stop(grace))

    def plan(self, deployment: Deployment) -> Plan:
        """Return what `deploy` would do."""
        return self._portal.run(self._plan(deployment))

    def outcomes(self, deployments: Sequence[Deployment]) -> list[messages.Outcome]:
        """Return what `deploy` would do with the versions of a cell, in the order in which it deploys them.

        Raises `Incompatible` where it would.
        """
        return self._portal.run(self._outcomes(deployments))

    def deploy(
        self, deployment: Deployment, *, stop_first: bool = False, together: Sequence[Deployment] = ()
    ) -> tuple[str, ...]:
        """Start a service, or change the one of that name to this version; returns before that is done (see `wait`).

        Running replicas get new code by a hot swap where that is enough, and are replaced otherwise; with `stop_first`
        the old replicas are stopped before the new ones start. `together`: the deployments of the same rollout. Returns
        the calls between services that no longer fit.

        Raises `CycleError`, `PortInUse`, and `Incompatible` where a dependent calls an api that is gone.
        """
        return self._portal.run(self._deploy(deployment, stop_first, together))

    def roll_back(self, name: str) -> tuple[str, ...]:
        """Return to the previous version, or cancel a version that is starting; returns before that is done.

        Returns the calls between services that do not fit the version.

        Raises `UnknownService`, and `LaunchError` where there is no previous version.
        """
        return self._portal.run(self._roll_back(self._supervisor(name)))

    def mark(self, name: str, *, stale: tuple[str, ...] | None = None, out_of_date_reason: str | None = None) -> bool:
        """Set what the status of a service shows (see `Status`). Returns whether it changed; False where no version
        serves.
        """
        return self._portal.run(self._mark(name, stale, out_of_date_reason))

    def wait(self, name: str) -> Status:
        """Wait until the service is ready or failed, or waits for one that is missing or has failed; interruptible."""
        return self._portal.run(self.settle(name))

    @property
    def stopped(self) -> bool:
        return self._stopped

    def names(self) -> list[str]:
        return list(self._supervisors)

    def status(self, name: str) -> Status:
        """Return the status of a service. Raises `UnknownService`."""
        return self._portal.run(self._on_loop(lambda: self._overview.status(self._supervisor(name))))

    def statuses(self) -> list[Status]:
        """Return the status of all services, dependencies first."""
        return self._portal.run(self._on_loop(self.snapshot))

    def deployment(self, name: str) -> Deployment | None:
        """Return the version that serves under that name, else the one that is starting; None for an unknown name."""
        supervisor = self._supervisors.get(name)
        if supervisor is None:
            return None
        return supervisor.generation.deployment if supervisor.generation is not None else supervisor.deployment

    def wanted(self, name: str) -> Deployment | None:
        """Return the version that was asked for last and has not failed; None for an unknown name."""
        supervisor = self._supervisors.get(name)
        return supervisor.deployment if supervisor is not None else None

    def remove(self, name: str, grace: float = GRACE) -> None:
        """Stop a service and unregister it; an interrupt ends only the waiting. Raises `UnknownService`."""
        self._portal.run(self.remove_async(name, grace))

    def abandon(self, name: str) -> None:
        """Cancel the version of a service that is starting: the previous one serves on, a first one is unregistered.

        Raises `UnknownService`.
        """
        self._portal.run(self._abandon(name))

    def restart(self, name: str) -> None:
        """Replace all replicas by new ones with the same code; returns before they are ready."""
        self._portal.run(self._on_loop(lambda: self._supervisor(name).start(self._supervisor(name).deployment)))

    def scale(self, name: str, replicas: int) -> None:
        """Set the number of replicas and wait until they are up. Raises `LaunchError`, and `ValueError` for a bad
        number.
        """
        if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 1:
            raise ValueError(f"replicas={replicas!r} must be a whole number from 1; `stop` ends a service")
        self._portal.run(self._supervisor(name).scale(replicas))

    def logs(self, name: str, lines: int = 100) -> list[str]:
        """Return the text of the last lines that the service's replicas wrote."""
        return [line.text for line in self.log_lines(name, lines)]

    def log_lines(self, name: str, lines: int, wanted: LogFilter = EVERYTHING) -> list[LogLine]:
        """Return the last lines that are wanted of a service's log: of one that runs, or was stopped or failed lately.

        Raises `UnknownService`.
        """
        return self._portal.run(self._on_loop(lambda: self.log(name).last(lines, wanted)))

    def collect_traces(self) -> TraceLog:
        """Return `traces` with every call that has ended by now; replicas report them only a few times a second."""
        self._portal.run(self._publisher.collect())
        return self.traces

    @property
    def recording(self) -> bool:
        """Whether arguments and answers of calls are kept."""
        return self._publisher.recording

    def record(self, on: bool) -> None:
        """Keep the arguments and answers of calls from now on; False: forget them, and keep none."""
        self._portal.run(self._publisher.record(on))

    def recorded(self, spans: Collection[Span]) -> dict[int, RecordedCall]:
        """Return the arguments and answers of calls, by the number of the span."""
        return self._portal.run(self._publisher.recorded(spans))

    def search(self, text: str) -> set[int]:
        """Return the numbers of the spans in whose arguments, answers or errors a text occurs."""
        return self._portal.run(self._publisher.search(text))

    def forget(self, *names: str) -> None:
        """Forget the arguments and answers of these services, or of all."""
        self._portal.run(self._publisher.forget_recorded(names))

    def proxy(self, name: str) -> Proxy:
        """Return a proxy that calls the service. Raises `UnknownService`."""
        return Proxy(self.caller(name))

    def caller(self, name: str) -> Transport:
        """Return the transport to the service. Raises `UnknownService`."""
        self._supervisor(name)
        return SocketTransport(name, self._client, self._portal)

    @property
    def publisher(self) -> Publisher:
        """What asks the replicas for what they have recorded. Used on the loop."""
        return self._publisher

    @property
    def client(self) -> Client:
        """What calls the services, on the loop of `portal`; its routes may be read elsewhere too."""
        return self._client

    @property
    def portal(self) -> Portal:
        return self._portal

    def url(self, name: str) -> str:
        """Return the HTTP address of the service; "" where it has none."""
        return url_of(self._supervisor(name))

    def token(self, name: str) -> str | None:
        return self._supervisor(name).deployment.token

    def warming(self) -> str:
        """Return what a new replica would wait for now, in words, or ""."""
        return self._engine.warming()

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call `subscriber` with the new status whenever a service changes. It is called on the registry's loop: it
        must return at once, print nothing, and call no method of the registry. Returns a function that ends the
        subscription.
        """
        return self._publisher.subscribe(subscriber)

    def hear_output(self, listener: OutputListener | None) -> None:
        """Call `listener` with each line that a replica writes, as it comes, and the service's name; None: no more.

        It is called on the registry's loop, and must return at once.
        """
        self._publisher.output_listener = listener

    # -- on the loop

    async def drain(self) -> None:
        """Wait until what replicas have written by now has been received; 50 ms at most."""
        await self._publisher.drain()

    async def settle(self, name: str) -> Status:
        """See `wait`."""
        changes: asyncio.Queue[Status] = asyncio.Queue()

        def heard(change: Status) -> None:
            # Of other services only their end matters: there may be nothing left to wait for.
            if change.name == name or change.state in ("failed", "stopped"):
                changes.put_nowait(change)

        unsubscribe = self.subscribe(heard)
        try:
            while True:
                supervisor = self._supervisor(name)
                status = self._overview.status(supervisor)
                if self._is_settled(supervisor, status):
                    return status
                await changes.get()
        finally:
            unsubscribe()

    def _is_settled(self, supervisor: Supervisor, status: Status) -> bool:
        if supervisor.busy_starting and not supervisor.waits_for:
            return False
        return status.settled or bool(self._overview.missing_below(supervisor.name))

    def snapshot(self) -> list[Status]:
        specs = [s.spec for s in self._supervisors.values()]
        known = [n for n in dependency_graph.order(dependency_graph.edges(specs)) if n in self._supervisors]
        return [self._overview.status(self._supervisors[n]) for n in known]

    def logged(self) -> list[str]:
        """Return the services that have a log: those that run, and those that were stopped or failed lately."""
        return list(dict.fromkeys([*self._supervisors, *self._past_logs]))

    def log(self, name: str) -> Log:
        """Return the log of a service that runs, or was stopped or failed lately. Raises `UnknownService`."""
        supervisor = self._supervisors.get(name)
        log = supervisor.log if supervisor is not None else self._past_logs.get(name)
        if log is None:
            raise UnknownService.among(name, self.logged())
        return log

    async def follow_log(
        self, name: str, lines: int, wanted: LogFilter = EVERYTHING
    ) -> AsyncGenerator[tuple[int, list[LogLine]], None]:
        """Yield the last lines of the service's log, and later ones as they come, until it is stopped.

        With each list: how many lines before it are not kept any more.
        """
        log, news = self.log(name), asyncio.Event()
        supervisor = self._supervisors.get(name)
        log.listeners.add(news.set)
        unsubscribe = self.subscribe(lambda _: news.set())
        try:
            known = log.count
            yield 0, log.last(lines, wanted)
            while supervisor is not None and self._supervisors.get(name) is supervisor:
                await news.wait()
                news.clear()
                missed, new = log.since(known)
                known = log.count
                if found := [line for line in new if wanted.takes(line)]:
                    yield missed, found
        finally:
            unsubscribe()
            log.listeners.discard(news.set)

    async def debug(
        self,
        name: str,
        say: Say,
        over: Callable[[], object],
        *,
        replica: int | None = None,
        next_call: bool = True,
        post_mortem: bool = False,
    ) -> Debugging:
        """Attach a debugger to the replicas of a service, or to one of them; `say`, `over`: see `Debugging`.

        `next_call`: stop at the next call too, not only at breakpoints. `post_mortem`: stop where an api raises. Raises
        `UnknownService`, `ServiceUnavailable` where there is no such replica, and `NbcomposeError` where another
        debugger is attached.
        """
        members = self._up(name, replica)
        session = Debugging(say, over, lambda: self._publisher.changed(name), self.operations.context.text)
        await session.attach(members, next_call=next_call, post_mortem=post_mortem)
        return session

    async def debugpy(self, name: str, port: int, replica: int | None, detach: str) -> str:
        """Let clients of debugpy attach to one replica (the first); return what the user has to know.

        `detach`: how to end it, for that text.
        """
        member = min(self._up(name, replica), key=lambda m: m.index)
        if name in self._debugpys and self._debugpys[name].is_open:
            raise NbcomposeError(f"debugpy listens for {name} already: {detach} ends that")
        listening = self._debugpys[name] = Debugpy(member, lambda: self._publisher.changed(name))
        try:
            return await listening.listen(port, detach)
        except BaseException:
            del self._debugpys[name]
            raise

    async def detach_debugpy(self, name: str) -> bool:
        """Detach the clients of debugpy, and close its port. Returns whether it was open."""
        listening = self._debugpys.pop(name, None)
        if listening is not None:
            await listening.close()
        return listening is not None

    async def profile(self, name: str, seconds: float, replica: int | None = None, *, native: bool = False) -> Rendered:
        """Return what the replicas of a service, or one of them, do in the next `seconds`. Raises as `debug` does.

        `native`: with frames of C code, see `native_profile`.
        """
        members = self._up(name, replica)
        if native:
            pids = [m.pid for m in members if m.pid is not None]
            seen = await asyncio.gather(*(asyncio.to_thread(native_profile, pid, seconds) for pid in pids))
        else:
            seen = await asyncio.gather(*(m.ask("profile", seconds) for m in members))
        return Rendered(name, seen, self.operations.context.text)

    def _up(self, name: str, replica: int | None) -> list[ReplicaHandle]:
        """Return the replicas of a service that are up, or that one. Raises `ServiceUnavailable` for none."""
        generation = self._supervisor(name).generation
        known = [m for m in generation.members.values() if m.state == "up"] if generation is not None else []
        members = [m for m in known if replica is None or m.index == replica]
        if not members:
            there = ", ".join(str(m.index) for m in known) or "none"
            which = "replica that is up" if replica is None else f"replica {replica}"
            raise ServiceUnavailable(f"{name} has no {which}; those that are up: {there}")
        return members

    async def remove_async(self, name: str, grace: float = GRACE) -> None:
        removing = asyncio.ensure_future(self._remove(self._supervisor(name), grace))
        self._removing.add(removing)
        removing.add_done_callback(self._removing.discard)
        await asyncio.shield(removing)

    async def _remove(self, supervisor: Supervisor, grace: float) -> None:
        self._debugpys.pop(supervisor.name, None)  # its replica detaches when it stops
        wait = 2 * grace + REMOVE_WAIT
        try:
            await asyncio.wait_for(supervisor.stop(grace), wait)
        except TimeoutError:
            members = [m for g in supervisor.everything() for m in g.members.values()]
            pids = ", ".join(str(m.pid) for m in members if m.pid is not None) or "none was left"
            logger.warning(NOT_STOPPED.format(name=supervisor.name, wait=wait, pids=pids))
            supervisor.kill()
        if supervisor.stopped and self._supervisors.get(supervisor.name) is supervisor:  # not if it was started again
            del self._supervisors[supervisor.name]
            self._past_logs.pop(supervisor.name, None)
            self._past_logs[supervisor.name] = supervisor.log
            while len(self._past_logs) > PAST_LOGS:
                del self._past_logs[next(iter(self._past_logs))]
        self._publisher.changed(supervisor.name)

    async def _abandon(self, name: str) -> None:
        supervisor = self._supervisor(name)
        await supervisor.abandon()
        if supervisor.generation is None and supervisor.candidate is None:
            await self.remove_async(name)

    async def _start(self) -> None:
        await self._engine.start()
        await self._runtime.start(keep_from_children)
        board = self._publisher
        self._watching = tuple(map(asyncio.ensure_future, (board.watch_memory(), board.watch_replicas())))

    async def _stop(self, grace: float) -> None:
        if self._stopped:
            return
        self._stopped = True
        for watching in self._watching:
            watching.cancel()
        try:
            async with asyncio.timeout(grace + STOP_WAIT):
                await self._stop_all(time.monotonic() + grace)
        except TimeoutError:
            for supervisor in self._supervisors.values():
                supervisor.kill()
        names = self.names()
        self._supervisors.clear()
        self._publisher.changed(*names)
        await self._publisher.close()
        self._client.close()
        await self._runtime.stop()
        await self._engine.stop()
        self._board.close()

    async def _stop_all(self, deadline: float) -> None:
        """Stop every service after its dependents, whose calls in flight may need it."""
        edges = dependency_graph.edges(s.spec for s in self._supervisors.values())
        stopping: dict[str, asyncio.Task[None]] = {}

        async def stop_after(supervisor: Supervisor, dependents: list[asyncio.Task[None]]) -> None:
            if dependents:
                await asyncio.wait(dependents)
            await supervisor.stop(max(0.0, deadline - time.monotonic()))

        async with asyncio.TaskGroup() as group:
            for name in reversed(dependency_graph.order(edges)):
                if supervisor := self._supervisors.get(name):
                    dependents = [stopping[d] for d in dependency_graph.dependents(edges, name)]
                    stopping[name] = group.create_task(stop_after(supervisor, dependents))

    async def _deploy(
        self, deployment: Deployment, stop_first: bool, together: Sequence[Deployment]
    ) -> tuple[str, ...]:
        name = deployment.spec.name
        others = [s.deployment.spec for n, s in self._supervisors.items() if n != name]
        # without a dependent there can be no cycle
        if any(d.service == name for other in others for d in other.dependencies):
            dependency_graph.check_acyclic([*others, deployment.spec])
        misfits = self._misfits(deployment, together)
        supervisor = self._supervisors.get(name) or Supervisor(
            name, self._engine, self._publisher, self._keep, self._past_logs.get(name)
        )
        await supervisor.deploy(deployment, stop_first=stop_first)
        self._supervisors[name] = supervisor
        self._past_logs.pop(name, None)
        self._publisher.changed(name)
        return misfits

    async def _roll_back(self, supervisor: Supervisor) -> tuple[str, ...]:
        if supervisor.generation is not None and supervisor.busy_starting:
            await supervisor.abandon()
            return ()
        if supervisor.previous is None:
            raise LaunchError(
                f"{supervisor.name} has had no other version since it was started: there is nothing to go back to"
            )
        misfits = self._misfits(supervisor.previous)
        supervisor.roll_back()
        self._publisher.changed(supervisor.name)
        return misfits

    async def _plan(self, deployment: Deployment) -> Plan:
        supervisor = self._supervisors.get(deployment.spec.name)
        return supervisor.plan(deployment) if supervisor is not None else Plan("replace")

    async def _outcomes(self, deployments: Sequence[Deployment]) -> list[messages.Outcome]:
        found: list[messages.Outcome] = []
        for deployment in deployments:
            supervisor = self._supervisors.get(deployment.spec.name)
            found.append("start" if supervisor is None else supervisor.outcome(deployment))
        changed = [d for d, outcome in zip(deployments, found, strict=True) if outcome != "nothing"]
        for at, deployment in enumerate(deployments):
            self._misfits(deployment, changed, deployments[:at])
        return found

    def _misfits(
        self, deployment: Deployment, together: Sequence[Deployment] = (), begun: Sequence[Deployment] = ()
    ) -> tuple[str, ...]:
        """Return the calls to and from this service that no longer fit, in words.

        `together`: versions that are deployed with this one; they are checked instead of those that serve. `begun`:
        those of them that would run by now. Raises `Incompatible` where a running service calls an api that this
        version does not have.
        """
        missing: list[str] = []
        found: list[str] = []
        name = deployment.spec.name
        coming = {d.spec.name: d for d in together}
        others = {d.spec.name: d for d in begun}
        for supervisor in self._supervisors.values():
            if not supervisor.stopped:
                serving = supervisor.generation
                others[supervisor.name] = serving.deployment if serving is not None else supervisor.deployment
        for other_name in [n for n in others if n != name]:
            other = coming.get(other_name, others[other_name])
            for call, called in [
                *((call, deployment.spec) for call in other.calls_to(name)),
                *((call, other.spec) for call in deployment.calls_to(other_name)),
            ]:
                if why := incompatible_calls(call, called):
                    gone = called is deployment.spec and called.api(call.api) is None
                    (missing if gone else found).append(f"{call.where_called}: {why}")
        if missing:
            raise Incompatible("\n".join([*missing, CALLERS_FIRST]))
        return tuple(dict.fromkeys(found))

    async def _mark(self, name: str, stale: tuple[str, ...] | None, out_of_date_reason: str | None) -> bool:
        supervisor = self._supervisors.get(name)
        if supervisor is None or supervisor.generation is None:
            return False
        before = supervisor.stale, supervisor.out_of_date_reason
        if stale is not None:
            supervisor.stale = stale
        if out_of_date_reason is not None:
            supervisor.out_of_date_reason = out_of_date_reason
        self._publisher.changed(name)
        return before != (supervisor.stale, supervisor.out_of_date_reason)

    async def _on_loop(self, function: Callable[[], T]) -> T:
        return function()

    def _supervisor(self, name: str) -> Supervisor:
        supervisor = self._supervisors.get(name)
        if supervisor is None:
            raise UnknownService.among(name, self._supervisors)
        return supervisor
