"""Rollout: deploys a version by hot swap or replacement, checks dependents, and stops all services in order.

Used on the registry's loop. See `_code/diff.py` for the decision, `_control/supervisor.py` for its execution.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from nbcompose._code import DependencyCall, Deployment, Plan, calls_of, compare, incompatible_calls
from nbcompose._control.supervisor import Supervisor
from nbcompose._replica import Swap
from nbcompose._service import dependency_graph
from nbcompose._spec import ServiceSpec
from nbcompose.errors import Incompatible


def plan_for(supervisor: Supervisor | None, deployment: Deployment) -> Plan:
    """Return what has to be done for `deployment` to serve."""
    if (
        supervisor is not None
        and supervisor.candidate is not None
        and _same(supervisor.candidate.deployment, deployment)
    ):
        return Plan("nothing")  # it is already starting
    serving = supervisor.generation if supervisor is not None and not supervisor.stopped else None
    if serving is None or serving.failed:
        return Plan("replace")
    before = serving.deployment
    if before.fingerprint is None or deployment.fingerprint is None:
        return Plan("replace", ("what changed is not known",))
    plan = compare((before.spec, before.fingerprint), (deployment.spec, deployment.fingerprint))
    if _access(before) != _access(deployment):
        plan = replace(plan, action="replace", reasons=("who may call it changed", *plan.reasons))
    return plan


def superseded(supervisor: Supervisor, deployment: Deployment) -> bool:
    """Whether another version is starting although the one that serves is the one that is wanted."""
    return supervisor.busy_starting and not _same(supervisor.deployment, deployment)


def _same(one: Deployment, other: Deployment) -> bool:
    if one.fingerprint is None or other.fingerprint is None or _access(one) != _access(other):
        return one is other
    return compare((one.spec, one.fingerprint), (other.spec, other.fingerprint)).action == "nothing"


def _access(deployment: Deployment) -> tuple[str | None, tuple[str, ...], bool]:
    return deployment.token, deployment.allowed_hosts, deployment.exposed


def carry_out(
    supervisor: Supervisor, deployment: Deployment, plan: Plan, *, stop_first: bool = False, done: str = "code swapped"
) -> None:
    """Start what the plan says; `done` describes a hot swap in the change reason. Raises `PortInUse`."""
    supervisor.stop_first = stop_first
    code = deployment.code
    if plan.action == "swap" and code is not None and supervisor.can_swap:
        assert deployment.fingerprint is not None
        swap = Swap(
            replace(deployment.spec, cls=object), code, plan.changed, plan.affected, deployment.fingerprint.stores
        )
        supervisor.swap(deployment, swap, f"{done}, weights kept: {plan.because}", stop_first=stop_first)
    elif plan.action != "nothing":
        change_reason = f"replaced: {plan.because}" if plan.reasons else ""
        supervisor.start(deployment, change_reason, stop_first=stop_first)


def check_dependents(
    supervisors: Mapping[str, Supervisor], deployment: Deployment, together: Sequence[Deployment] = ()
) -> tuple[str, ...]:
    """Return the calls to and from this service that no longer fit, in words.

    `together`: versions that are deployed with this one; they are checked instead of those that serve. Raises
    `Incompatible` where a running service calls an api that this version does not have.
    """
    missing: list[str] = []
    found: list[str] = []
    for supervisor in supervisors.values():
        if supervisor.name == deployment.spec.name or supervisor.stopped:
            continue
        serving = supervisor.generation.deployment if supervisor.generation is not None else supervisor.deployment
        other = next((d for d in together if d.spec.name == supervisor.name), serving)
        for call in _calls(other, deployment.spec.name):
            if why := incompatible_calls(call, deployment.spec):
                (missing if deployment.spec.api(call.api) is None else found).append(_said(call, why))
        for call in _calls(deployment, other.spec.name):
            if why := incompatible_calls(call, other.spec):
                found.append(_said(call, why))
    if missing:
        raise Incompatible("\n".join(missing))
    return tuple(dict.fromkeys(found))


def _calls(deployment: Deployment, service: str) -> Iterator[DependencyCall]:
    attributes = _attributes(deployment.spec, service)
    if not attributes:
        return
    known = deployment.fingerprint  # None for a class that replicas import
    for call in known.calls if known is not None else calls_of(deployment.spec, deployment.spec.cls.__mro__):
        if call.attribute in attributes:
            yield call


def _attributes(spec: ServiceSpec, service: str) -> set[str]:
    return {d.attribute for d in spec.dependencies if d.url is None and d.service == service}


def _said(call: DependencyCall, why: str) -> str:
    return f"{call.caller} calls self.{call.attribute}.{call.api} ({call.where}): {why}"


async def stop_all(supervisors: Mapping[str, Supervisor], deadline: float) -> None:
    """Stop every service after its dependents, whose calls in flight may need it."""
    edges = dependency_graph.edges(s.spec for s in supervisors.values())
    stopping: dict[str, asyncio.Task[None]] = {}

    async def stop_after(supervisor: Supervisor, dependents: list[asyncio.Task[None]]) -> None:
        if dependents:
            await asyncio.wait(dependents)
        await supervisor.stop(max(0.0, deadline - time.monotonic()))

    async with asyncio.TaskGroup() as group:
        for name in reversed(dependency_graph.order(edges)):
            if name in supervisors:
                dependents = [stopping[d] for d in dependency_graph.dependents(edges, name)]
                stopping[name] = group.create_task(stop_after(supervisors[name], dependents))
