"""Supervisor: runs one service through all its versions: the one that serves, the candidate, those that drain.

All of it runs on one event loop. See `_control/generation.py` for the replicas of one version, `_control/registry.py`
for names, dependencies and routes between services.
"""

from __future__ import annotations

import asyncio
import socket

from nbcompose._code import Deployment, Plan
from nbcompose._control import ports
from nbcompose._control.engines import Engine
from nbcompose._control.generation import GRACE, Generation, SupervisorContext
from nbcompose._control.logs import Log
from nbcompose._control.standby import Standby, StuckReplicas
from nbcompose._protocol import messages
from nbcompose._replica import Stats, Swap
from nbcompose._rpc import ReplicaRoute
from nbcompose._spec import ServiceSpec
from nbcompose.errors import CannotSwap, NbcomposeError


def first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


async def give_up(work: asyncio.Task[None] | None) -> None:
    """Cancel a task and wait for its end. `wait`, since awaiting it could not tell its cancellation from our own."""
    if work is not None and not work.done():
        work.cancel()
        await asyncio.wait([work])


class Supervisor:
    """Supervises one service. `keep`: seconds that a replaced version is kept for a rollback, where memory allows.
    `log`: that of an earlier run of the service, which goes on.

    `change_reason`: how the version that serves came about. `out_of_date_reason`: why the version that was wanted last
    does not serve; "" where it does. `stale`: what has changed in the notebook since the version that serves was
    packed.
    """

    def __init__(
        self, name: str, engine: Engine, context: SupervisorContext, keep: float = 0.0, log: Log | None = None
    ) -> None:
        self.name = name
        self.wanted = 0
        self.log = log or Log()
        self.generation: Generation | None = None  # the one that serves
        self.candidate: Generation | None = None  # the one that starts
        self.stopped = False
        self.error = ""
        self.change_reason = ""
        self.swapped = False  # the version that serves came by a hot swap
        self.out_of_date_reason = ""
        self.stale: tuple[str, ...] = ()
        self.stop_first = False  # the setting of the last version
        self.stuck = StuckReplicas()
        self.previous: Deployment | None = None  # the one that served before, for a rollback
        self._excuse = ""  # the next `out_of_date_reason`, when the previous version has been loaded again
        self._displaced: Deployment | None = None  # stopped to make room for the candidate
        self._standby = Standby(keep, self._drain)
        self._engine = engine
        self._context = context
        self._deployment: Deployment | None = None
        self._versions = 0
        self._port: int | None = None
        self._work: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._draining: dict[asyncio.Task[None], Generation] = {}
        self._resuming: Generation | None = None
        self._passed: Stats | None = None  # of versions that have ended, since it was started

    @property
    def deployment(self) -> Deployment:
        """The deployment that was asked for last, whether or not it came up."""
        assert self._deployment is not None, "start comes first"
        return self._deployment

    @property
    def spec(self) -> ServiceSpec:
        """The spec of the version that serves, if one does."""
        return (self.generation or self.candidate or self).deployment.spec

    @property
    def port(self) -> int | None:
        """The HTTP port; None for a service that is not exposed or has stopped."""
        shown = self.generation or self.candidate
        return shown.port if shown is not None else None

    @property
    def busy_starting(self) -> bool:
        return self._work is not None and not self._work.done()

    @property
    def waits_for(self) -> str:
        """The service that every replica of the candidate waits for before it can go on; "" when one is at work."""
        members = self.candidate.members.values() if self.candidate is not None else ()
        return min((m.waiting_for for m in members if m.state == "starting"), default="")

    def generations(self) -> list[Generation]:
        """Return the version that serves and the candidate."""
        return [g for g in (self.generation, self.candidate) if g is not None]

    def everything(self) -> list[Generation]:
        """Return all versions: also those that drain or are suspended."""
        aside = [g for g in (self._standby.suspended, self._resuming) if g is not None]
        return list(dict.fromkeys([*self.generations(), *self._draining.values(), *aside]))

    def stats(self) -> list[Stats]:
        """Return what its replicas have reported, of all versions since it was started: replacements reset nothing."""
        versions = self.everything()
        found = [self._passed, *(g.ended for g in versions), *(m.stats for g in versions for m in g.members.values())]
        return [stats for stats in found if stats is not None]

    def routes(self) -> tuple[ReplicaRoute, ...]:
        return tuple(self.generation.routes()) if self.generation is not None else ()

    def plan(self, deployment: Deployment) -> Plan:
        """Return what has to be done for `deployment` to serve."""
        if self.candidate is not None and deployment.is_same(self.candidate.deployment):
            return Plan("nothing")  # it is already starting
        if self.generation is None or self.generation.failed or self.stopped:
            return Plan("replace")
        return deployment.plan(self.generation.deployment)

    def outcome(self, deployment: Deployment) -> messages.Outcome:
        """Return what `deploy` would do, as people see it."""
        plan, serving = self.plan(deployment), self.generation
        if plan.action == "nothing":
            return "nothing"
        if serving is None or serving.failed or self.stopped:
            return "start"
        takes = any(m.state in ("up", "starting") for m in serving.members.values())
        return "swap" if plan.action == "swap" and takes else "replace"

    async def deploy(self, deployment: Deployment, *, stop_first: bool) -> None:
        """Start what has to be done for `deployment` to serve. Raises `PortInUse`, and then nothing has changed.

        A version that is starting, and is no longer wanted, is cancelled.
        """
        plan = self.plan(deployment)
        if self.busy_starting and (plan.action == "swap" or not deployment.is_same(self.deployment)):
            await self.abandon()
        self._carry_out(deployment, plan, stop_first=stop_first)

    def _carry_out(self, deployment: Deployment, plan: Plan, *, stop_first: bool, done: str = "code swapped") -> None:
        """Start what the plan says; `done` describes a hot swap in the change reason.

        A hot swap gives the replicas that serve the code of `deployment`, and they keep their state. If one of them
        cannot take it, all are replaced.
        """
        self.stop_first = stop_first
        swap = deployment.swap(plan) if plan.action == "swap" and not self.busy_starting else None
        serving = self.generation
        if swap and serving and any(m.state in ("up", "starting") for m in serving.members.values()):
            self._want(deployment)
            work = self._swap_in(serving, deployment, swap, f"{done}, weights kept: {plan.because}", stop_first)
            self._work = asyncio.ensure_future(work)
        elif plan.action != "nothing":
            change_reason = f"replaced: {plan.because}" if plan.reasons else ""
            self.start(deployment, change_reason, stop_first=stop_first)

    def start(self, deployment: Deployment, change_reason: str = "", *, stop_first: bool = False) -> None:
        """Start `deployment` in the background: the first version, or a replacement of the version that serves.

        A version that was still starting is cancelled. `stop_first`: stop the version that serves before, where there
        is no room for two; it is loaded again if the new one fails. Raises `PortInUse`, and then nothing has changed.
        """
        listening = self._listen(deployment)
        if not self.wanted or deployment.spec.replicas != self.deployment.spec.replicas:  # otherwise the scale is kept
            self.wanted = deployment.spec.replicas
        self._want(deployment)
        candidate = Generation(deployment, self._versions, self._engine, self._context, self.log, listening)
        self.candidate = candidate
        self._port = candidate.port or self._port
        work = self._bring_up(candidate, change_reason, self._work, self._ending, stop_first)
        self._work = asyncio.ensure_future(work)

    def _want(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self.stopped = False
        self.error = ""
        self._versions += 1

    async def _swap_in(
        self, generation: Generation, deployment: Deployment, swap: Swap, change_reason: str, stop_first: bool
    ) -> None:
        before = generation.deployment
        try:
            await generation.swap(deployment, swap)
        except CannotSwap as error:
            # Cancels this task, which has nothing left to do.
            self.start(deployment, f"replaced: {error}", stop_first=stop_first)
        except Exception as error:
            self._note_failure(error)
        else:
            self._serves(generation, before, change_reason, swapped=True)
        finally:
            self._context.changed(self.name)

    def roll_back(self) -> None:
        """Return to the previous version: by a hot swap where that is enough, else with its suspended replicas, or new
        ones where none have been kept.
        """
        assert self.previous is not None
        plan = self.plan(self.previous)
        if plan.action == "swap":
            self._carry_out(self.previous, plan, stop_first=False, done="rolled back")
            return
        change_reason = f"rolled back: {plan.because}"
        suspended = self._standby.take(self.previous) if not self.busy_starting else None
        if suspended is None:
            self.start(self.previous, change_reason)
            return
        self._resuming = suspended
        self._want(self.previous)
        self._work = asyncio.ensure_future(self._resume(suspended, change_reason))

    async def _resume(self, suspended: Generation, change_reason: str) -> None:
        try:
            await suspended.resume()
        except ConnectionError:
            self._drain(suspended)
            self.start(suspended.deployment, change_reason)  # cancels this task, which has nothing left to do
            return
        finally:
            self._resuming = None
        self._replace(suspended, change_reason)
        self._context.changed(self.name)
        await suspended.resize(self.wanted)

    def _replace(self, new: Generation, change_reason: str) -> None:
        """Route calls to `new` from here on. The old version goes to standby, or stops when its calls are done."""
        old = self.generation
        self._serves(new, old.deployment if old is not None else self._displaced, change_reason)
        if old is None:
            return
        wanted_back = old.deployment is self.previous
        if not (wanted_back and self._standby.put(old, new)):
            self._drain(old, old.patience)

    def _serves(
        self, generation: Generation, before: Deployment | None, change_reason: str, *, swapped: bool = False
    ) -> None:
        generation.number = self._versions
        self.generation = generation
        self.swapped = swapped
        self.change_reason, self.out_of_date_reason, self.stale = change_reason, self._excuse, ()
        self._excuse, self._displaced = "", None
        if before is not None and before is not generation.deployment:
            self.previous = before

    def _note_failure(self, error: Exception) -> None:
        self.error = str(error) if isinstance(error, NbcomposeError) else f"{type(error).__name__}: {error}"
        if self.generation is not None:
            self.out_of_date_reason = first_line(self.error)
            self._deployment = self.generation.deployment

    async def _make_room(self) -> None:
        """Stop the version that serves before the new one starts; callers wait meanwhile."""
        old, self.generation = self.generation, None
        if old is not None:
            self._displaced = old.deployment
            await self._drain(old)

    def _bring_back(self) -> None:
        """Load again the version that was stopped for a candidate that did not come up."""
        displaced, self._displaced = self._displaced, None
        if displaced is not None:
            error = self.error
            self._excuse = first_line(error)
            self.start(displaced, self.change_reason)
            self.error = error

    def look(self) -> bool:
        """Check the replicas, and replace one that has been stuck for long. Returns whether anything changed."""
        members = [m for g in self.generations() for m in g.members.values()]
        changed, notes = sum(m.look() for m in members), self.stuck.notes
        if self.generation is not None and not self.busy_starting:
            self.stuck.see_to(self.generation, stop_first=self.stop_first)
        return bool(changed) or notes != self.stuck.notes

    async def scale(self, count: int) -> None:
        """Set the number of replicas to `count`, and wait for them. Raises `LaunchError`."""
        self.wanted = count
        if self.busy_starting:
            assert self._work is not None
            await asyncio.wait([self._work])
            if self.generation is not None:
                await self.generation.resize(self.wanted)
        elif self.generation is not None and not self.generation.failed:
            await self.generation.resize(count)
        else:
            self.start(self.deployment)
            await self.scale(count)
        self._context.changed(self.name)

    async def abandon(self) -> None:
        """Cancel the version that starts, if there is one; the previous version serves on."""
        await give_up(self._work)
        self._bring_back()
        if self.generation is not None:
            self._deployment = self.generation.deployment
            self._context.changed(self.name)

    async def stop(self, grace: float = GRACE) -> None:
        """Stop all replicas and release the port. Continues when cancelled; a later start waits for its end."""
        self.stopped = True
        ending = self._ending = asyncio.ensure_future(self._end(grace, self._work))
        await asyncio.shield(ending)

    def kill(self) -> None:
        """Kill every process of the service at once."""
        for generation in self.everything():
            generation.kill()

    def _listen(self, deployment: Deployment) -> socket.socket | None:
        known = [(g.listening, g.spec.http) for g in (self.candidate, self.generation) if g is not None]
        return ports.listen(deployment.spec, known, favorite=self._port) if deployment.exposed else None

    async def _bring_up(
        self,
        candidate: Generation,
        change_reason: str,
        previous: asyncio.Task[None] | None,
        ending: asyncio.Task[None] | None,
        stop_first: bool,
    ) -> None:
        try:
            await give_up(previous)
            if ending is not None:
                await asyncio.wait([ending])
            self._context.changed(self.name)
            if stop_first:
                await self._make_room()
            if self.generation is None or self.generation.failed:  # and all that its replicas wrote has been read
                self.log.begin_run(self.name)
            count = self.wanted
            await candidate.start(count)
            while count != self.wanted:  # scaled meanwhile
                count = self.wanted
                await candidate.resize(count)
        except BaseException as error:
            if isinstance(error, Exception):
                self._note_failure(error)
            await candidate.stop(0)
            if not isinstance(error, Exception):
                raise
            self._bring_back()
        else:
            self._replace(candidate, change_reason)
        finally:
            if self.candidate is candidate:
                self.candidate = None
            if self.generation is not candidate:
                self._pass(candidate)
            self._context.changed(self.name)

    def _drain(self, old: Generation, grace: float = GRACE) -> asyncio.Task[None]:
        """Stop a version that gets no more calls."""
        task = asyncio.ensure_future(old.stop(grace))
        self._draining[task] = old
        task.add_done_callback(self._drained)
        return task

    def _drained(self, task: asyncio.Task[None]) -> None:
        self._pass(self._draining.pop(task))

    def _pass(self, version: Generation) -> None:
        """Keep what the replicas of a version have reported, which has ended."""
        passed, version.ended = version.ended, None
        if passed is not None:
            self._passed = passed.after(self._passed, {})

    async def _end(self, grace: float, work: asyncio.Task[None] | None) -> None:
        await give_up(work)
        self._standby.clear()
        self._context.changed(self.name)
        earlier = dict(self._draining)
        if self.generation is not None:
            self._drain(self.generation, grace)
        if earlier:
            _, late = await asyncio.wait(earlier, timeout=grace)
            for task in late:
                earlier[task].kill()  # its grace was longer than what is left now
        if self._draining:
            await asyncio.wait(self._draining)
        self.generation = self._passed = None
        self._context.changed(self.name)
